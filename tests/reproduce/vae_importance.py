"""Which bound for the encoder, which for the model? Five pairs on one latent variable.

    x | z ~ Bernoulli(sigmoid z),   z ~ a mixture of four Gaussians whose places are fitted

Quadrature over z says how far the fitted log p(x) stays below the best, and how far the encoder's
mean of z is from that of the posterior. The likelihood of one bit decides little: what the pairs
differ in is the posterior. Ten restarts of each, fitted side by side.

    python tests/reproduce/vae_importance.py --out FOLDER
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import infer
from infer.core.data import Rows
from infer.likelihoods import Bernoulli

CENTERS = (-8.0, -2.0, 2.0, 8.0)  # of the mixture that made the data
LINE = jnp.linspace(-60, 60, 40_001)
RESTARTS = 10
PAIRS = {
    "VI": (infer.ReverseKL(), infer.ReverseKL()),
    "CHIVI": (infer.ChiSquare(), infer.ReverseKL()),
    "IWAE": (infer.IWAE(), infer.IWAE()),
    "VBIS": (infer.ReverseKL(), infer.IWAE()),
    "VIS": (infer.ChiSquare(), infer.IWAE()),
}
"""For the posterior and for the model."""


class Logit(eqx.Module):
    """The latent variable is the logit."""

    def __call__(self, z: jax.Array) -> jax.Array:
        return z


class Fits(NamedTuple):
    """Per restart: nats below the best log p(x), and the error of E(z | x), mean over x = 0, 1."""

    gap: np.ndarray
    error: np.ndarray


def bits(n: int = 1000) -> jax.Array:
    key_center, key_noise, key_x = jax.random.split(jax.random.key(0), 3)
    center = jax.random.choice(key_center, jnp.asarray(CENTERS), (n,))
    noise = jax.random.normal(key_noise, (n,))
    x = jax.random.bernoulli(key_x, jax.nn.sigmoid(center + noise))
    return x.astype(jnp.float32)[:, None]


@eqx.filter_jit
def exact(model: Any, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log p(x), and the error of the mean of z given x, by quadrature."""
    log_prior = jax.vmap(lambda z: model.latent_prior().log_prob(z[None]))(LINE)
    row = Rows(value[None])
    log_p = jax.vmap(lambda z: model.log_likelihood(z[None], row))(LINE)
    log_p += log_prior - jax.nn.logsumexp(log_prior)
    mean = jnp.sum(jax.nn.softmax(log_p) * LINE)
    return jax.nn.logsumexp(log_p), abs(model.posterior(row).moments()[0][0] - mean)


def compare(batch_size: int, steps: int) -> dict[str, Fits]:
    x = bits()
    data, share = infer.Data(x, batch_size=batch_size), float(jnp.mean(x))
    best = share * np.log(share) + (1 - share) * np.log1p(-share)
    found = {}
    for name, objective in PAIRS.items():
        vae = infer.VAE(
            Bernoulli(),
            latent=1,
            encoder=infer.MLP((16,)),
            decoder=Logit(),
            prior=infer.Mixture(infer.MeanField(1.0), 4, spread=5.0),
            objective=objective,
            n_samples=100,
            estimator=infer.Score(),
            optimizer=infer.optimizer(optax.adam, learning_rate=5e-3),
        )
        result = infer.fit(data, vae, key=0, steps=steps, chains=RESTARTS, progress=False)
        gaps, errors = [], []
        for i in range(RESTARTS):
            state = jax.tree.map(lambda leaf, i=i: leaf[i], result.trail.carry.states)
            model = vae.ready(data).model(state)
            (log_p0, error0), (log_p1, error1) = (exact(model, jnp.array(v)) for v in (0.0, 1.0))
            gaps.append(best - float(share * log_p1 + (1 - share) * log_p0))
            errors.append(float(error0 + error1) / 2)
        found[name] = Fits(np.array(gaps), np.array(errors))
        print(
            f"{name:5}  {np.mean(gaps):.4f} nats below the best p(x)   "
            f"error of E(z | x) {np.mean(errors):.2f} +/- {np.std(errors):.2f}",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    found = compare(batch_size=20, steps=1000)
    figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for place, fits in enumerate(found.values()):
        spots = place + np.linspace(-0.15, 0.15, RESTARTS)
        ax.plot(spots, np.maximum(fits.error, 1e-3), "o", color="#0072B2", markersize=4)
    ax.set(yscale="log", ylabel="error of E(z | x)", title="ten restarts of each pair")
    ax.set_xticks(range(len(found)), found)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "vae_importance.png", dpi=110)
    print("saved vae_importance.png in", out)


if __name__ == "__main__":
    main()
