"""A mixture of Gaussians: two modes that differ in the order of the labels, and what to do.

    python examples/mixture.py --out docs/images

Petal lengths of 150 irises, a third of them setosa, which the model does not know. The components
can change names, so the posterior has two modes of the same weight and a wide gap between them.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jax.scipy import stats
from sklearn.datasets import load_iris

import infer

K = 2
BLUE, ORANGE = "#0072B2", "#D55E00"
SUPPORTS = {"weight": infer.simplex, "sd": infer.positive}
EXAMPLE = {"mean": jnp.array([1.5, 5.0]), "sd": jnp.ones(K), "weight": jnp.full(K, 1 / K)}


def log_density(params: Any, y: jax.Array) -> jax.Array:
    """Weakly informed means (cm); sds that cannot vanish, as they would around a single flower."""
    mean, sd, weight = params["mean"], params["sd"], params["weight"]
    prior = stats.norm.logpdf(mean, 4, 2) + stats.norm.logpdf(jnp.log(sd), jnp.log(0.5), 0.5)
    prior += 4 * jnp.log(weight) - jnp.log(sd)  # Dirichlet(5, 5); of the lognormal
    terms = jnp.log(weight) + stats.norm.logpdf(y[:, None], mean, sd)
    return jnp.sum(prior) + jnp.sum(jax.nn.logsumexp(terms, axis=1))


def undone(result: infer.Result) -> dict[str, np.ndarray]:
    """The draws with components put in the order of their means, (draw, K) by name."""
    draws = {name: x.reshape(-1, K) for name, x in result.draws().items()}
    order = np.argsort(draws["mean"], axis=1)
    return {name: np.take_along_axis(x, order, axis=1) for name, x in draws.items()}


def first_component(draws: dict[str, np.ndarray], y: np.ndarray) -> np.ndarray:
    """Probability of each flower to be of the component with the smaller mean, (flower,)."""
    mean, sd, weight = (draws[name][::10, None] for name in ("mean", "sd", "weight"))
    p = weight / sd * np.exp(-0.5 * ((y[:, None] - mean) / sd) ** 2)
    return (p[..., 0] / p.sum(axis=-1)).mean(axis=0)


def trace(ax: Any, result: infer.Result, title: str) -> None:
    """The first mean, one chain after the other."""
    first = result["mean"][..., 0]
    first = first[:, :: first.shape[1] // 500].ravel()
    ax.plot(np.arange(len(first)), first, ".", color=BLUE, markersize=1.5)
    for chain in range(1, 4):
        ax.axvline(len(first) / 4 * chain, color="#777777", linewidth=0.8)
    ax.set(title=f"{title}\nverdict: {result.verdict.status}", xlabel="chains 1 to 4")
    ax.set(ylim=(0.8, 5.6), xticks=[])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    y, setosa = load_iris().data[:, 2], load_iris().target == 0
    data = jnp.asarray(y)
    free = infer.from_log_density(log_density, EXAMPLE, supports=SUPPORTS, data=data)
    in_order = {**SUPPORTS, "mean": infer.ordered}  # the same density on half of the space
    ordered = infer.from_log_density(log_density, EXAMPLE, supports=in_order, data=data)
    nuts = infer.NUTS()
    results = {
        "NUTS, one key": infer.fit(free, nuts, key=0, progress=False),
        "NUTS, another key": infer.fit(free, nuts, key=1, progress=False),
        "parallel tempering": infer.fit(free, infer.ParallelTempering(), key=0, progress=False),
        "NUTS, ordered": infer.fit(ordered, nuts, key=0, progress=False),
    }
    for name, result in results.items():
        share = (result["mean"][..., 0] < result["mean"][..., 1]).mean(axis=1)
        print(f"{name}: {result.verdict}")
        print("  share of draws with mean[0] < mean[1], by chain:", np.round(share, 2))
    print("NUTS with one key, examined:", results["NUTS, one key"].examine(key=1))

    draws, other = undone(results["NUTS, ordered"]), undone(results["parallel tempering"])
    off = [np.abs(other[n].mean(0) - x.mean(0)) / x.std(0) for n, x in draws.items()]
    print(f"labels undone, tempering and NUTS differ by at most {np.max(off):.2f} sd in any mean")
    found = first_component(draws, y) > 0.5
    print(f"{(found == setosa).sum()} of {len(y)} flowers are put on the right side")

    figure, axes = plt.subplots(1, 5, figsize=(13.5, 3.6), width_ratios=(1, 1, 1, 1, 1.5))
    for ax, (name, result) in zip(axes, results.items(), strict=False):
        trace(ax, result, name)
    axes[0].set_ylabel("mean[0], cm")
    grid, bins = np.linspace(0.5, 7.5, 300), np.arange(0.75, 7.5, 0.25)
    parts, names = [y[setosa], y[~setosa]], ["setosa", "other species"]
    axes[4].hist(parts, bins, stacked=True, color=["#777777", "#CCCCCC"], label=names)
    for k, (color, style) in enumerate(((BLUE, "-"), (ORANGE, "--"))):
        mean, sd, weight = (draws[name][:, k, None] for name in ("mean", "sd", "weight"))
        density = weight / sd * np.exp(-0.5 * ((grid - mean) / sd) ** 2) / np.sqrt(2 * np.pi)
        axes[4].plot(grid, 0.25 * len(y) * density.mean(0), style, color=color, linewidth=2)
    axes[4].set(title="the components, and the species\n(gray), which the fit did not see")
    axes[4].set(xlabel="petal length, cm", ylabel="flowers")
    axes[4].legend(frameon=False, fontsize=8)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(11)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "mixture.png", dpi=110)
    plt.close(figure)
    print("saved", out / "mixture.png")


if __name__ == "__main__":
    main()
