"""Two autoencoders of handwritten digits, compared on rows that they have not seen.

A VAE and an importance weighted one share networks and steps. Importance sampling says how well
either describes new digits, the k-hat of its weights whether to believe that number, and the
verdict whether the encoder gives posteriors. Then new digits are drawn, before and after a prior
has been fitted to the codes.

    python examples/vae_digits.py --out docs/images
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import infer
from infer.likelihoods import Bernoulli

STEPS = 2000


def digits() -> tuple[infer.Data, np.ndarray]:
    """Pixels of 8 and more (of 16) are ones; every fifth digit is held out."""
    digits = load_digits()
    x = (digits.images >= 8).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    x, kinds = x[order], digits.target[order]
    held_out = np.arange(len(x)) % 5 == 0
    data = infer.Data(x[~held_out], batch_size=64, held_out=infer.Data(x[held_out]))
    return data, kinds[~held_out]


def line(name: str, result: infer.AmortizedResult) -> str:
    looked = result.evidence(key=1, n_samples=1000)
    nll, error = -looked.log_evidence.mean(), looked.log_evidence.std() / len(looked.khat) ** 0.5
    heavy, active = np.mean(looked.khat > 0.7), result.latents(key=1).active
    return (
        f"{name:5} NLL {nll:.2f} +/- {error:.2f} nats   bound {-looked.elbo.mean():.2f}   "
        f"k-hat > 0.7: {heavy:.0%}   active {active} of {result.model.head.dim}   "
        f"{result.verdict.status}"
    )


def before_and_after(
    result: infer.AmortizedResult, after: infer.AmortizedResult, path: Path
) -> None:
    """New digits with the standard prior, and with the one fitted to the codes."""
    assert result.data is not None and result.data.held_out is not None
    real = np.asarray(result.data.rows.x)
    shown = {"digits of the fit": real[:40]}
    for name, way in (("prior N(0, I)", result), ("prior fitted to the codes", after)):
        means = way.decode(way.model.latent_prior().sample(jax.random.key(3), 40))
        shown[name] = np.asarray(means)
    figure, axes = plt.subplots(1, 3, figsize=(9, 4.2), layout="constrained")
    for ax, (name, images) in zip(axes, shown.items(), strict=True):
        apart = np.pad(images, ((0, 0), (1, 1), (1, 1)))
        tiles = apart.reshape(8, 5, 10, 10).transpose(0, 2, 1, 3).reshape(80, 50)
        ax.imshow(tiles, cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(name)
        ax.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    data, kinds = digits()
    methods = {
        "VAE": infer.VAE(Bernoulli(), latent=8),
        "IWAE": infer.VAE(Bernoulli(), latent=8, objective=infer.IWAE(), n_samples=10),
    }
    results = {}
    for name, method in methods.items():
        results[name] = infer.fit(data, method, key=0, steps=STEPS)
        print(line(name, results[name]), flush=True)
    print(results["VAE"].summary())

    vae = results["VAE"]
    figure = vae.plot(key=2)
    figure.savefig(out / "vae_digits.png", dpi=110)
    vae.plot_latents(labels=kinds).savefig(out / "vae_latents.png", dpi=110)

    after = vae.ex_post(key=3, steps=1500)
    before_and_after(vae, after, out / "vae_prior.png")
    print("saved vae_digits.png, vae_latents.png and vae_prior.png in", out)


if __name__ == "__main__":
    main()
