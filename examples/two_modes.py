"""Two modes far apart: what NUTS says of their weights, and what parallel tempering says.

    python examples/two_modes.py --out docs/images

A mixture of two Gaussians in ten dimensions, 30 % and 70 %, of different shapes. Chains of NUTS
stay where they started; replicas of parallel tempering go through a wide Gaussian and come back.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import infer

D, WEIGHT, LAST = 10, 0.3, 1000
CENTERS = np.array([np.full(D, -4.0), np.full(D, 4.0)])
SPREADS = np.array(
    [
        0.6 ** np.abs(np.subtract.outer(np.arange(D), np.arange(D))),
        np.diag(np.linspace(0.3, 1.5, D) ** 2),
    ]
)
WHITEN = np.linalg.cholesky(np.linalg.inv(SPREADS)).transpose(0, 2, 1)
MASS = np.log([WEIGHT, 1 - WEIGHT]) + np.linalg.slogdet(WHITEN)[1] - D / 2 * np.log(2 * np.pi)
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#666666"


def log_density(z: jax.Array) -> jax.Array:
    u = jnp.einsum("mij,mj->mi", jnp.asarray(WHITEN, z.dtype), z - CENTERS.astype(z.dtype))
    return jax.nn.logsumexp(MASS - 0.5 * jnp.sum(u**2, axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    target = infer.from_log_density(log_density, jnp.zeros(D))
    methods = {"NUTS": infer.NUTS(), "ParallelTempering": infer.ParallelTempering()}
    figure, axes = plt.subplots(
        2, 2, figsize=(10, 5.5), sharey=True, gridspec_kw={"width_ratios": [4, 1]}
    )
    grid = np.linspace(-8, 8, 400)
    exact = sum(
        w * np.exp(-0.5 * ((grid - c[0]) / s) ** 2) / (s * np.sqrt(2 * np.pi))
        for w, c, s in zip((WEIGHT, 1 - WEIGHT), CENTERS, np.sqrt(SPREADS[:, 4, 4]), strict=True)
    )
    for (name, method), (trace, density) in zip(methods.items(), axes, strict=True):
        result = infer.fit(target, method, key=1, progress=False)
        x = result.z[..., 4]
        share = (x < 0).mean()
        print(f"{name}: {share:.2f} of the draws in the lower mode, which has {WEIGHT}")
        print("  by chain:", np.round((x < 0).mean(axis=1), 2))
        print(" ", result.verdict.status, "with", result.trail.gradients, "gradients")
        for chain, color in zip(x, (BLUE, ORANGE, GREEN, PURPLE), strict=True):
            trace.plot(chain[-LAST:], ".", color=color, ms=2, rasterized=True)
        said = f"{name}: {share:.0%} in the lower mode; verdict {result.verdict.status}"
        trace.set_title(said, loc="left", fontsize=11)
        trace.set(ylabel="fifth coordinate", ylim=(-8, 9))
        density.hist(
            x.ravel(),
            bins=60,
            range=(-8, 8),
            density=True,
            orientation="horizontal",
            color="#BBBBBB",
        )
        density.plot(exact, grid, color="black", lw=1.2, label=f"exact, {WEIGHT:.0%} below")
        density.set_xticks([])
        for ax in (trace, density):
            ax.spines[["top", "right"]].set_visible(False)
    history = result.history
    print(
        f"  barrier {history['barrier'].mean():.2f}, swaps {history['swap_acceptance'].mean():.2f}"
    )
    print("  round trips by chain:", history["round_trips"][:, -1])
    evidence = history["log_evidence"][:, -1]
    print(f"  log evidence {evidence.mean():.2f} +/- {evidence.std(ddof=1) / 2:.2f}, right is 0")
    axes[0, 1].legend(frameon=False, fontsize=8, loc="lower right")
    axes[1, 0].set_xlabel("draw; one color per chain")
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "two_modes.png", dpi=110)
    plt.close(figure)
    print("saved", out / "two_modes.png")


if __name__ == "__main__":
    main()
