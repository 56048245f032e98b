"""Digits by discrete codes: classes that are summed over, and a book of learned vectors.

One latent variable of 16 classes, summed over in place of drawn, makes the autoencoder a mixture of
Bernoulli images, whose posterior is in the family of the encoder: what its bound lacks of the
evidence is what the encoder has not learned. A VQ-VAE describes a digit by
four entries of a book of 32 vectors. It claims no posterior and no evidence, and draws new digits
only after a prior has been put over the codes it has seen: independent draws of each of the four
entries, and whole codes as they were.

    python examples/vae_codes.py --out docs/images
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import infer
from infer.likelihoods import Bernoulli

CLASSES = 16
CLUSTERS = infer.VAE(
    Bernoulli(),
    latent=1,
    posterior=infer.Categorical(CLASSES, infer.Enumerated()),
    prior=infer.FactorizedCategorical(CLASSES),
    estimator=infer.Enumerate(),
    optimizer=infer.optimizer(optax.adam, learning_rate=5e-3),
)
BOOK = infer.VAE(
    Bernoulli(),
    latent=4,
    posterior=infer.VectorQuantized(32, width=4),
    beta=0.0,
    regularizers=(infer.Commitment(),),
)


def tiles(ax: plt.Axes, title: str, images: np.ndarray, columns: int) -> None:
    """Images (n, 8, 8) side by side, with a line between them."""
    apart = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=0.3)
    rows = apart.reshape(-1, columns, 10, 10).transpose(0, 2, 1, 3)
    ax.imshow(rows.reshape(-1, 10 * columns), cmap="gray_r", vmin=0, vmax=1)
    ax.set_title(title)
    ax.axis("off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    x = (load_digits().images >= 8).astype(np.float32)
    x = x[np.random.default_rng(0).permutation(len(x))]
    data = infer.Data(x[:1437], batch_size=64, held_out=infer.Data(x[1437:]))

    clusters = infer.fit(data, CLUSTERS, key=0, steps=2000)
    looked = clusters.evidence(key=1, n_samples=200)
    print(
        f"{CLASSES} classes: NLL {-looked.log_evidence.mean():.2f} nats, "
        f"bound {-looked.elbo.mean():.2f}; {clusters.verdict.status}"
    )
    book = infer.fit(data, BOOK, key=0, steps=3000)
    used = len(np.unique(np.asarray(book.encode()).reshape(-1, 4), axis=0))
    wrong = np.mean((np.asarray(book.reconstruct(x[1437:])) > 0.5) != x[1437:])
    print(f"the book: {used} of 32 vectors in use, {wrong:.1%} of the pixels of new digits wrong")
    for evidence in book.verdict.reasons:
        print(f"  {evidence.status}: {evidence.meaning}")

    codes = np.asarray(book.encode())
    parts = np.random.default_rng(1).integers(len(codes), size=(40, 4))  # a digit for every entry
    mixed = np.concatenate([codes[parts[:, i], 4 * i : 4 * i + 4] for i in range(4)], axis=1)
    whole = book.with_prior(infer.Empirical(codes)).model.latent_prior()

    figure, axes = plt.subplots(1, 4, figsize=(11, 4.2), layout="constrained")
    weights = jax.nn.softmax(clusters.model.latent_prior().logits[0])
    order = np.argsort(-np.asarray(weights))
    tiles(axes[0], "16 classes, the largest first", clusters.decode(jnp.eye(CLASSES)[order]), 4)
    tiles(axes[1], "book: digits and what it keeps", _pairs(book, x[1437:1457]), 4)
    tiles(axes[2], "new: entries drawn apart", book.decode(mixed), 5)
    tiles(axes[3], "new: whole codes", book.decode(whole.sample(jax.random.key(3), 40)), 5)
    figure.savefig(out / "vae_codes.png", dpi=110)
    print("saved vae_codes.png in", out)


def _pairs(result: infer.AmortizedResult, x: np.ndarray) -> np.ndarray:
    """Every image beside its reconstruction."""
    return np.stack([x, np.asarray(result.reconstruct(x))], axis=1).reshape(-1, 8, 8)


if __name__ == "__main__":
    main()
