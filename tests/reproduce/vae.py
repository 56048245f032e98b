"""Variants of the VAE on the same data; writes tables into the docs.

    python tests/reproduce/vae.py [--only NAME ...] [--only-print]

digits       binarized digits: likelihood, active latent variables, quality of samples
codes        the same by discrete codes
importance   the toy of variational importance sampling: one latent variable, quadrature
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from experiments import Found, run
from sklearn.datasets import load_digits

import infer
from infer import regularizers
from infer.core.data import Rows
from infer.likelihoods import Bernoulli

ROOT = Path(__file__).resolve().parents[2]
PAGE, RECORD = ROOT / "docs" / "vae.md", ROOT / "build" / "vae.json"
STEPS, BATCH, LATENT = 15_000, 64, 8


def split() -> tuple[np.ndarray, np.ndarray]:
    """The digits with pixels >= 8 as ones, in a fixed random order: 1437 rows and 360."""
    x = (load_digits().data >= 8).astype(np.float32)
    x = x[np.random.default_rng(0).permutation(len(x))]
    return x[:1437], x[1437:]


TRAIN, TEST = split()
IWAE_10 = {"objective": infer.IWAE(), "n_samples": 10}
WAKE, CHI = (infer.ForwardKL(), infer.IWAE()), (infer.ChiSquare(), infer.IWAE())
MIWAE = infer.Repeated(infer.IWAE(), groups=2)
CIWAE = infer.Blend((infer.ReverseKL(), infer.IWAE()), (0.05, 0.95))
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "VAE": ("", {}),
    "VAE, ordinary gradient": ("estimator=Reparam()", {"estimator": infer.Reparam()}),
    "VAE, closed-form KL": (
        "beta=0, regularizers=(KL(),), estimator=Reparam()",
        {"beta": 0.0, "regularizers": (regularizers.KL(),), "estimator": infer.Reparam()},
    ),
    "free bits 0.1": (
        "beta=0, regularizers=(KL(free_bits=0.1),), estimator=Reparam()",
        {
            "beta": 0.0,
            "regularizers": (regularizers.KL(free_bits=0.1),),
            "estimator": infer.Reparam(),
        },
    ),
    "beta-VAE": ("beta=0.5", {"beta": 0.5}),
    "IWAE": ("objective=IWAE(), n_samples=10", IWAE_10),
    "VR-IWAE": (
        "objective=Renyi(0.5), n_samples=10",
        {"objective": infer.Renyi(0.5), "n_samples": 10},
    ),
    "PIWAE": (
        "objective=(Repeated(IWAE(), 2), IWAE()), n_samples=10",
        {"objective": (MIWAE, infer.IWAE()), "n_samples": 10},
    ),
    "CIWAE": (
        "objective=Blend((ReverseKL(), IWAE()), (.05, .95)), n_samples=10",
        {"objective": CIWAE, "n_samples": 10},
    ),
    "wake-wake": (
        "objective=(ForwardKL(), IWAE()), n_samples=10",
        {"objective": WAKE, "n_samples": 10},
    ),
    "VIS": ("objective=(ChiSquare(), IWAE()), n_samples=10", {"objective": CHI, "n_samples": 10}),
    "full covariance": ("posterior=FullRank(1.0)", {"posterior": infer.FullRank(1.0)}),
    "flow posterior": ("posterior=RealNVP(4)", {"posterior": infer.RealNVP(4)}),
    "mixture prior": (
        "prior=Mixture(MeanField(1.0), 10)",
        {"prior": infer.Mixture(infer.MeanField(1.0), 10)},
    ),
    "VampPrior": ("prior=VampPrior(50)", {"prior": infer.VampPrior(50)}),
    "flow prior": ("prior=RealNVP(4, scale=1.0)", {"prior": infer.RealNVP(4, scale=1.0)}),
    "InfoVAE": (
        "beta=0.5, regularizers=(MMD(50),)",
        {"beta": 0.5, "regularizers": (regularizers.MMD(50.0),)},
    ),
    "WAE": (
        "posterior=Point(), beta=0, regularizers=(MMD(50),)",
        {"posterior": infer.Point(), "beta": 0.0, "regularizers": (regularizers.MMD(50.0),)},
    ),
    "SWAE": (
        "posterior=Point(), beta=0, regularizers=(SlicedWasserstein(20),)",
        {
            "posterior": infer.Point(),
            "beta": 0.0,
            "regularizers": (regularizers.SlicedWasserstein(20.0),),
        },
    ),
    "two levels": (
        "posterior=HierarchicalPosterior(3), prior=HierarchicalPrior(3)",
        {"posterior": infer.HierarchicalPosterior(3), "prior": infer.HierarchicalPrior(3)},
    ),
}


CODES: dict[str, tuple[str, dict[str, Any]]] = {
    "categorical, leave-one-out": (
        "latent=6, posterior=Categorical(8), estimator=Score(), n_samples=8",
        {
            "latent": 6,
            "posterior": infer.Categorical(8),
            "prior": infer.UniformCategorical(8),
            "estimator": infer.Score(),
            "n_samples": 8,
        },
    ),
    "categorical, VIMCO": (
        "the same with objective=IWAE()",
        {
            "latent": 6,
            "posterior": infer.Categorical(8),
            "prior": infer.UniformCategorical(8),
            "objective": infer.IWAE(),
            "estimator": infer.Score(),
            "n_samples": 8,
        },
    ),
    "Gumbel-softmax": (
        "latent=6, posterior=Categorical(8, Relaxed(0.5)), estimator=Reparam()",
        {
            "latent": 6,
            "estimator": infer.Reparam(),
            "posterior": infer.Categorical(8, infer.Relaxed(0.5)),
            "prior": infer.UniformCategorical(8),
        },
    ),
    "VQ-VAE": (
        "posterior=VectorQuantized(32, width=2), beta=0, regularizers=(Commitment(),)",
        {
            "posterior": infer.VectorQuantized(32, width=2),
            "beta": 0.0,
            "regularizers": (infer.Commitment(),),
        },
    ),
    "finite scalar quantization": (
        "latent=6, posterior=FiniteScalar((5,) * 6), beta=0",
        {"latent": 6, "posterior": infer.FiniteScalar((5,) * 6), "beta": 0.0},
    ),
}


def digits() -> list[dict[str, Any]]:
    return variants(VARIANTS)


def codes() -> list[dict[str, Any]]:
    return variants(CODES)


def variants(chosen: dict[str, tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    data = infer.Data(TRAIN, batch_size=BATCH, held_out=infer.Data(TEST))
    rows = []
    for name, (settings, arguments) in chosen.items():
        clock = time.perf_counter()
        vae = infer.VAE(Bernoulli(), **({"latent": LATENT} | arguments))
        result = infer.fit(data, vae, key=0, steps=STEPS, progress=False)
        row: dict[str, Any] = {
            "variant": name,
            "settings": settings or "as it comes",
            "seconds": result.timings.run,
        }
        if result.model.head.has_density:
            looked = result.evidence(key=1, n_samples=2000)
            row |= {
                "NLL": -float(looked.log_evidence.mean()),
                "minus bound": -float(looked.elbo.mean()),
                "k-hat > .7": float(np.mean(looked.khat > 0.7)),
                "active": result.latents(key=1).active,
            }
        else:
            row["active"] = int(np.sum(np.var(result.encode(TEST), axis=0) > 0.01))
        quality = _quality(result.generate(1000, key=2))
        if chosen is CODES:  # the codes that were seen, as they were
            again = result.with_prior(infer.Empirical(result.encode()))
        else:
            again = result.ex_post(key=3)
        refitted = _quality(again.generate(1000, key=2))
        row |= {
            "Frechet": quality.generated.frechet,
            "Frechet ex post": refitted.generated.frechet,
            "coverage": quality.generated.coverage,
            "coverage ex post": refitted.generated.coverage,
            "floor": quality.floor.frechet,
            "ceiling": quality.ceiling.frechet,
            "coverage floor": quality.floor.coverage,
            "verdict": result.verdict.status,
            "all seconds": time.perf_counter() - clock,
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def _quality(x: jax.Array) -> Any:
    return infer.sample_quality(np.asarray(x), TRAIN, TEST, key=0)


class Logit(eqx.Module):
    """The latent variable is the logit."""

    def __call__(self, z: jax.Array) -> jax.Array:
        return z


CENTERS = (-8.0, -2.0, 2.0, 8.0)
TOY = {
    "VI": (infer.ReverseKL(), infer.ReverseKL()),
    "CHIVI": (infer.ChiSquare(), infer.ReverseKL()),
    "IWAE": (infer.IWAE(), infer.IWAE()),
    "VBIS": (infer.ReverseKL(), infer.IWAE()),
    "VIS": (infer.ChiSquare(), infer.IWAE()),
}
"""For the posterior and for the model: VI, CHIVI, IWAE, VBIS and VIS of the source."""


def importance() -> list[dict[str, Any]]:
    """x | z ~ Bernoulli(sigmoid z), z ~ a mixture of four Gaussians whose places are fitted."""
    key_center, key_noise, key_x = jax.random.split(jax.random.key(0), 3)
    center = jax.random.choice(key_center, jnp.asarray(CENTERS), (1000,))
    noise = jax.random.normal(key_noise, (1000,))
    x = jax.random.bernoulli(key_x, jax.nn.sigmoid(center + noise)).astype(jnp.float32)[:, None]
    line = jnp.linspace(-60, 60, 40_001)

    @jax.jit
    def exact(model: Any) -> tuple[jax.Array, jax.Array]:
        """Log p(x = 1), and the error of E(z | x) under q, for x = 0 and 1."""
        log_prior = jax.vmap(lambda z: model.latent_prior().log_prob(z[None]))(line)
        log_prior -= jax.nn.logsumexp(log_prior)
        both = []
        for value in (0.0, 1.0):
            row = Rows(jnp.asarray([value]))
            log_p = log_prior + jax.vmap(lambda z, row=row: model.log_likelihood(z[None], row))(
                line
            )
            mean = jnp.sum(jax.nn.softmax(log_p) * line)
            both.append((jax.nn.logsumexp(log_p), abs(model.posterior(row).moments()[0][0] - mean)))
        return jnp.stack([b[0] for b in both]), jnp.stack([b[1] for b in both])

    rows = []
    share = float(np.mean(x))
    best = share * np.log(share) + (1 - share) * np.log1p(-share)
    for name, objective in TOY.items():
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
        data = infer.Data(x, batch_size=100)
        result = infer.fit(data, vae, key=0, steps=2000, chains=10, progress=False)
        losses, errors = [], []
        for c in range(10):
            state = jax.tree.map(lambda leaf, c=c: leaf[c], result.trail.carry.states)
            log_p, error = exact(vae.ready(data).model(state))
            losses.append(float(share * log_p[1] + (1 - share) * log_p[0]))
            errors.append(float(error.mean()))
        gap = best - np.asarray(losses)
        rows.append(
            {
                "method": name,
                "gap": [float(np.mean(gap)), float(np.std(gap))],
                "error of the mean": [float(np.mean(errors)), float(np.std(errors))],
            }
        )
        print(rows[-1], flush=True)
    return rows


EXPERIMENTS: dict[str, Callable[[], Any]] = {
    "digits": digits,
    "codes": codes,
    "importance": importance,
}


def tables(found: Found) -> str:
    parts = []
    if "digits" in found or "codes" in found:
        rows = found.get("digits", []) + found.get("codes", [])
        parts.append(
            "| variant | settings beside the default | NLL | minus bound | active | Frechet | ex "
            "post | coverage | ex post | seconds |\n|" + " --- |" * 10
        )
        for r in rows:
            known = "NLL" in r
            parts[-1] += (
                f"\n| {r['variant']} | `{r['settings']}` | "
                + (f"{r['NLL']:.2f} | {r['minus bound']:.2f}" if known else "no density |")
                + f" | {r['active']} | {r['Frechet']:.2f} | {r['Frechet ex post']:.2f} | "
                f"{r['coverage']:.2f} | {r['coverage ex post']:.2f} | {r['seconds']:.0f} |"
            )
        first = rows[0]
        parts.append(
            f"Real against real rows: Frechet {first['floor']:.2f}, coverage "
            f"{first['coverage floor']:.2f}; shuffled columns: Frechet {first['ceiling']:.2f}."
        )
    if "importance" in found:
        lines = [
            "| method | nats below the best p(x) | error of E(z \\| x) |",
            "| --- | --- | --- |",
        ]
        for r in found["importance"]:
            gap, error = r["gap"], r["error of the mean"]
            lines.append(
                f"| {r['method']} | {gap[0]:.4f} +/- {gap[1]:.4f} | {error[0]:.2f} +/- "
                f"{error[1]:.2f} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    run(__doc__ or "", EXPERIMENTS, tables, RECORD, PAGE, "variants")
