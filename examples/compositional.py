"""Shares of a whole from few counts, one of them zero: mirror methods beside the exact answer.

    python examples/compositional.py --out docs/images

Of 10 prey remains in the pellets of an owl 7 are voles, 3 are shrews and none is a bat. How much
of its diet may be bats? With a uniform prior the posterior is Dirichlet(8, 4, 1): it leans on an
edge of the triangle, where steps on the shares themselves would fall off. Mirror methods cannot.
"""

import argparse
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import infer

PREY = ("vole", "shrew", "bat")
COUNTS = np.array([7, 3, 0])
CORNERS = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)], [0.0, 0.0]])
METHODS = {
    "MirrorMALA": infer.MirrorMALA(),
    "MSVGD, 300 particles": infer.MSVGD(n_particles=300),
    "MirrorLangevin, no test": infer.MirrorLangevin(step_size=0.01),
}
STYLES = (("#0072B2", "--"), ("#009E73", "-."), ("#D55E00", ":"))


def diet(total: Any, counts: Any = None) -> None:
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    numpyro.sample("counts", dist.Multinomial(total, probs=shares), obs=counts)


def exact(posterior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of Dirichlet(posterior)."""
    mean = posterior / posterior.sum()
    return mean, np.sqrt(mean * (1 - mean) / (posterior.sum() + 1))


def draw_triangle(ax: Any, shares: np.ndarray, posterior: np.ndarray, color: str) -> None:
    """Draws in front of the highest-density regions with 50, 90 and 99 % of the mass."""
    x, y = np.meshgrid(np.linspace(0, 1, 400), np.linspace(0, 0.9, 400))
    shrew = y / CORNERS[1, 1]
    vole = x - shrew / 2
    grid = np.stack([vole, shrew, 1 - vole - shrew], axis=-1)
    inside = (grid > 0).all(axis=-1)
    density = np.where(inside, np.prod(np.abs(grid) ** (posterior - 1), axis=-1), 0)
    high = np.sort(density.ravel())[::-1]
    levels = [high[np.searchsorted(np.cumsum(high) / high.sum(), p)] for p in (0.99, 0.9, 0.5)]
    ax.contourf(x, y, density, levels=[*levels, high[0]], colors=("0.92", "0.82", "0.66"))
    ax.plot(*(shares[:600] @ CORNERS).T, ".", color=color, ms=2.5, zorder=3)
    ax.plot(*CORNERS[[0, 1, 2, 0]].T, color="0.4", lw=0.8)
    for name, corner, sides in zip(PREY, CORNERS, ("right", "center", "left"), strict=True):
        below = corner[1] == 0
        ax.text(*corner, name, ha=sides, va="top" if below else "bottom", fontsize=10)
    ax.set(aspect="equal", xlim=(-0.08, 1.08), ylim=(-0.1, 0.97))
    ax.axis("off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    # infer.mirrored makes softmax coordinates of the Dirichlet site: a mirror map, which the
    # stick-breaking of NumPyro is not.
    target = infer.mirrored(infer.from_numpyro(diet, int(COUNTS.sum()), counts=COUNTS))
    posterior = COUNTS + 1.0
    mean, sd = exact(posterior)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7))
    last, grid = axes[1, 1], np.linspace(0, 0.4, 300)
    last.plot(grid, (1 - grid) ** posterior[:2].sum(), color="black", lw=1.2, label="exact")
    print("limit of the share of bats, exact:", round(1 - 0.05 ** (1 / posterior[:2].sum()), 3))
    for ax, (name, method), (color, line) in zip(axes.flat, METHODS.items(), STYLES, strict=False):
        result = infer.fit(target, method, key=0, progress=False)
        shares = result["shares"].reshape(-1, 3)
        shares = np.random.default_rng(0).permutation(shares)
        print(f"{name}: verdict {result.verdict.status}")
        print("  means off by", np.round((shares.mean(axis=0) - mean) / sd, 2), "sd")
        print("  sd over right", np.round(shares.std(axis=0) / sd, 2))
        print("  bats, 95 % limit", round(float(np.quantile(shares[:, 2], 0.95)), 3))
        draw_triangle(ax, shares, posterior, color)
        ax.set_title(f"{name}: {result.verdict.status}", fontsize=11)
        above = np.searchsorted(np.sort(shares[:, 2]), grid) / len(shares)
        last.plot(grid, 1 - above, color=color, ls=line, lw=1.8, label=name)
    last.set(xlabel="share of bats in the diet", ylabel="probability that it is more", ylim=(0, 1))
    last.spines[["top", "right"]].set_visible(False)
    last.legend(frameon=False)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "compositional.png", dpi=110)
    plt.close(figure)
    print("saved", out / "compositional.png")


if __name__ == "__main__":
    main()
