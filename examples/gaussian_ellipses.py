"""Four ways to the best Gaussian, drawn: the ellipses that each method passes through.

All four fit one Gaussian to the same bent density from the same point. Its two coordinates have
different units, as coefficients of a model often do. With UNIT = 1 the two panels above need fewer
gradients; the two below take the same steps whatever the unit. `init` and `step`
are called in a scan of our own, because the history of `infer.fit` has no whole Gaussians.
"""

import argparse
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

import infer

UNIT = 8.0  # of the second coordinate
START = jnp.array([4.6, -1.9 * UNIT])
BUDGET = 60_000  # gradients
NEAR = 0.01  # nats from the best Gaussian that count as there
COS, SIN = np.cos(0.45), np.sin(0.45)
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#AA4499"


def log_density(z: jax.Array) -> jax.Array:
    """A bent ridge, turned: a ~ N(0, 2^2), b ~ N(a^2 / 10, 0.3^2)."""
    x, y = z[0], z[1] / UNIT
    a, b = COS * x + SIN * y, COS * y - SIN * x
    return -0.5 * (a / 2) ** 2 - 0.5 * ((b - a**2 / 10) / 0.3) ** 2


@eqx.filter_jit
def run(
    algorithm: Any, target: infer.Target, key: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Means, covariances and gradients so far: the start, and after every step."""

    def body(state: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array, jax.Array]]:
        state, info = algorithm.step(key, target, state)
        q = algorithm.posterior(state)
        return state, (q.mean, q.covariance, info.gradients)

    key_init, key_run = jax.random.split(key)
    state = algorithm.init(key_init, target)
    first = algorithm.posterior(state)
    _, (m, s, n) = jax.lax.scan(body, state, jax.random.split(key_run, steps))
    means = jnp.concatenate([first.mean[None], m])
    covariances = jnp.concatenate([first.covariance[None], s])
    return means, covariances, jnp.concatenate([jnp.zeros(1, n.dtype), jnp.cumsum(n)])


@jax.jit
def free_energy(mean: jax.Array, covariance: jax.Array) -> jax.Array:
    """E_q[-log p] - entropy up to a constant, by Gauss-Hermite quadrature: exact here."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    u = jnp.stack(jnp.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    w = jnp.outer(weights, weights).ravel() / weights.sum() ** 2
    z = mean + u @ jnp.linalg.cholesky(covariance).T
    return -w @ jax.vmap(log_density)(z) - 0.5 * jnp.linalg.slogdet(covariance)[1]


def ellipse(mean: np.ndarray, covariance: np.ndarray, **style: Any) -> Ellipse:
    """Where q is two standard deviations from its mean."""
    values, vectors = np.linalg.eigh(covariance)
    width, height = 4 * np.sqrt(values)
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    return Ellipse(mean, width, height, angle=angle, fill=False, **style)


def shown(gaps: np.ndarray, there: int, most: int = 8) -> list[int]:
    """Some of the steps to the optimum: those at which the gap has fallen by equal factors."""
    levels = np.geomspace(gaps[0], max(NEAR, gaps[there]), most)
    return sorted({min(int(np.argmax(gaps <= level)), there) for level in levels} | {0, there})


def draw(path: Path, panels: list[tuple], best: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = np.meshgrid(np.linspace(-5.3, 5.3, 300), UNIT * np.linspace(-2.7, 3.4, 250))
    density = np.exp(jax.vmap(jax.vmap(log_density))(jnp.stack([x, y], axis=-1)))
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.2), sharex=True, sharey=True)
    halo = [effects.withStroke(linewidth=3, foreground="white")]
    for ax, panel in zip(axes.flat, panels, strict=True):
        name, note, color, means, covariances, counts, gaps = panel
        ax.contourf(x, y, density, levels=np.linspace(0.03, 1, 8), cmap="Greys", alpha=0.5)
        last = int(np.searchsorted(counts, BUDGET, side="right")) - 1
        there = min(int(np.flatnonzero(gaps > NEAR)[-1]) + 1, last)
        steps = shown(gaps, there)
        for order, i in enumerate(steps):
            alpha = 0.35 + 0.65 * order / (len(steps) - 1)
            ax.add_patch(ellipse(means[i], covariances[i], color=color, lw=1.7, alpha=alpha))
        way = np.concatenate([START[None], means[: there + 1]])
        ax.plot(*way.T, color=color, lw=1, alpha=0.7)
        ax.plot(*means[steps].T, "o", color=color, ms=3.5)
        ax.plot(*START, "s", color="black", ms=7, path_effects=halo)
        ax.add_patch(ellipse(*best, color="black", lw=1.5, ls=(0, (4, 3)), zorder=3))
        ax.plot(*best[0], "*", color="black", ms=13, path_effects=halo, zorder=4)
        left = "" if gaps[there] <= NEAR else f", {gaps[there]:.2f} nats left"
        title = f"{name}: {counts[there]:,} gradients{left}"
        ax.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=color)
        ax.text(0.02, 0.03, note, transform=ax.transAxes, fontsize=9.5, path_effects=halo)
        ax.set(xlim=(-5.3, 5.3), ylim=(-2.7 * UNIT, 3.4 * UNIT))
        ax.tick_params(colors="#666666", labelsize=8)
        ax.spines[:].set_color("#BBBBBB")
        print(f"{title}, {there} steps, {len(steps)} ellipses drawn")
    figure.text(
        0.012,
        0.985,
        "From the square to the best Gaussian (star, dashed), until 0.01 nats are left or 60,000 "
        "gradients are spent.\n"
        "Ellipses are q at two standard deviations, pale at first; gray is the posterior.",
        fontsize=11,
        va="top",
    )
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out

    target = infer.from_log_density(log_density, START).at(START)
    paper = infer.FBGVI(frame=infer.IdentityFrame())
    fits = [
        ("FBGVI, identity frame", "the method of the paper", ORANGE, paper, BUDGET // 768),
        ("VI, full rank", "Adam, 8 draws per step (ADVI)", PURPLE, infer.VI(), BUDGET // 8),
        ("FBGVI", "in the frame of q, after a Newton path", BLUE, infer.FBGVI(), 30),
        ("NaturalGradientVI", "likewise", GREEN, infer.NaturalGradientVI(), 30),
    ]
    panels = []
    for name, note, color, algorithm, steps in fits:
        found = run(algorithm, target, jax.random.key(0), steps)
        values = jax.vmap(free_energy)(*found[:2])
        panels.append((name, note, color, *map(np.asarray, (*found, values))))
    # The best Gaussian of the density: nobody came closer, and float32 could hardly tell.
    smallest = min(panel[-1].min() for panel in panels)
    winner = next(panel for panel in panels if panel[-1].min() == smallest)
    i = int(winner[-1].argmin())
    best = winner[3][i], winner[4][i]
    draw(out / "gaussian_ellipses.png", [(*p[:-1], p[-1] - smallest) for p in panels], best)
    print("saved", out / "gaussian_ellipses.png")


if __name__ == "__main__":
    main()
