"""Particles on their way, in a strip of frames: SVGD, coin betting, and mirrored SVGD on a simplex.

The upper rows move 60 particles on a banana, with Adam at one learning rate and by coin betting,
which has none; the lower rows move 60 compositions (three shares of a whole) towards a Dirichlet
density, with the kernel on the unconstrained scale and on the shares themselves.
"""

import argparse
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import optax

import infer

FRAMES = (0, 5, 20, 100, 1000)
N = 60
CONCENTRATION = np.array([0.6, 1.5, 3.0])
BLUE, GRAY = "#0072B2", "0.55"
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def banana(x: jax.Array) -> jax.Array:
    """x ~ N(0, 1), y ~ N(x^2, 0.4^2)."""
    return -0.5 * x[0] ** 2 - 0.5 * ((x[1] - x[0] ** 2) / 0.4) ** 2


def dirichlet(shares: jax.Array) -> jax.Array:
    """Much of its mass lies near an edge."""
    return jnp.sum((CONCENTRATION - 1) * jnp.log(shares))


@eqx.filter_jit
def path(algorithm: Any, target: infer.Target, key: jax.Array) -> jax.Array:
    """The particles at every step, on their support."""

    def body(state: Any, i: jax.Array) -> tuple[Any, jax.Array]:
        new, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
        return new, state.particles

    _, z = jax.lax.scan(body, algorithm.init(key, target), jnp.arange(max(FRAMES) + 1))
    return jax.vmap(jax.vmap(lambda point: target.constrain(point)["x"]))(z[np.array(FRAMES)])


def rows() -> list[tuple[str, infer.Target, Any]]:
    plane = infer.from_log_density(banana, jnp.zeros(2))
    simplex = infer.from_log_density(dirichlet, jnp.ones(3) / 3, supports=infer.EntropicSimplex())
    flat = 0.1 * jax.random.normal(jax.random.key(0), (N, 2)) + jnp.array([0.0, 3.0])
    narrow = 0.1 * jax.random.normal(jax.random.key(1), (N, 2))
    adam = infer.optimizer(optax.adam, learning_rate=0.05)
    return [
        ("SVGD, Adam 0.05", plane, infer.SVGD(n_particles=N, start=flat, optimizer=adam)),
        ("SVGD, coin", plane, infer.SVGD(n_particles=N, start=flat)),
        ("SVGD on the simplex, coin", simplex, infer.SVGD(n_particles=N, start=narrow)),
        ("MSVGD on the simplex, coin", simplex, infer.MSVGD(n_particles=N, start=narrow)),
    ]


def draw_banana(axis: Any) -> None:
    x, y = np.meshgrid(np.linspace(-2.7, 2.7, 120), np.linspace(-1.4, 5.6, 120))
    density = np.exp(jax.vmap(jax.vmap(banana))(jnp.stack([x, y], axis=-1)))
    axis.contour(x, y, density, levels=np.exp([-4.5, -2, -0.5]), colors=GRAY, linewidths=0.6)


def draw_simplex(axis: Any) -> None:
    grid = np.random.default_rng(0).dirichlet(CONCENTRATION, 4000) @ CORNERS
    axis.plot(*grid.T, ".", color="0.85", ms=1.5, zorder=0)
    axis.plot(*CORNERS[[0, 1, 2, 0]].T, color=GRAY, lw=0.6)
    axis.set_aspect("equal")


def main() -> None:
    parser = argparse.ArgumentParser(description="Particles on their way.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    strips = rows()
    figure, axes = plt.subplots(
        len(strips), len(FRAMES), figsize=(10, 8.6), sharex="row", sharey="row"
    )
    for axis, step in zip(axes[0], FRAMES, strict=True):
        axis.set_title(f"step {step}", fontsize=9)
    for line, (label, target, algorithm) in zip(axes, strips, strict=True):
        frames = np.asarray(path(algorithm, target, jax.random.key(2)))
        planar = frames.shape[-1] == 2
        for axis, x in zip(line, frames, strict=True):
            (draw_banana if planar else draw_simplex)(axis)
            axis.plot(
                *(x if planar else x @ CORNERS).T, "o", color=BLUE, ms=3, mec="white", mew=0.3
            )
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(planar)
        line[0].set_ylabel(label, fontsize=9)
        if planar:
            error = np.abs(frames[-1].mean(axis=0) - [0, 1]).max()
            spread = frames[-1][:, 0].std()
            print(
                f"{label:28s} largest error of a mean {error:.3f}, sd of x {spread:.3f} (right 1)"
            )
        else:
            mean = CONCENTRATION / CONCENTRATION.sum()
            sd = np.sqrt(mean * (1 - mean) / (CONCENTRATION.sum() + 1))
            error = np.abs(frames[-1].mean(axis=0) - mean).max()
            ratio = frames[-1].std(axis=0) / sd
            print(
                f"{label:28s} largest error of a mean {error:.3f}, sd over right {ratio.round(2)}"
            )
    figure.tight_layout(pad=0.4)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "particle_frames.png", dpi=150)
    print("saved", out / "particle_frames.png")


if __name__ == "__main__":
    main()
