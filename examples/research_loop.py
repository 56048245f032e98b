"""Methods without our loop: `init` and `step` in one's own scan, and a sweep over step sizes.

An algorithm is a record whose numbers are arrays, so a sweep is a `vmap` over algorithms. Here:
how the error of unadjusted Langevin grows with its step size, against its closed form.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import infer

TRUE_SD = jnp.array([1.0, 1.0])


def log_density(z: jax.Array) -> jax.Array:
    """A standard Gaussian: the stationary sd of ULA is known, 1 / sqrt(1 - e / 2)."""
    return -0.5 * jnp.sum((z / TRUE_SD) ** 2)


def sample(algorithm: infer.ULA, key: jax.Array, target: infer.Target, steps: int) -> jax.Array:
    """Positions (steps, d) of one chain: a plain `lax.scan` over `algorithm.step`."""

    def body(state, key):
        state, _ = algorithm.step(key, target, state)
        return state, algorithm.position(state)

    key_init, key_run = jax.random.split(key)
    state = algorithm.init(key_init, target)
    return jax.lax.scan(body, state, jax.random.split(key_run, steps))[1]


@eqx.filter_jit  # `jax.jit` for arguments that hold functions too, as a target does
def sweep(step_sizes: jax.Array, keys: jax.Array, target: infer.Target) -> jax.Array:
    """The sd of the draws for every step size, from one chain per key."""

    def one(step_size):
        chains = jax.vmap(lambda key: sample(infer.ULA(step_size), key, target, 5000))(keys)
        return chains[:, 500:].std()

    return jax.vmap(one)(step_sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out

    target = infer.from_log_density(log_density, jnp.zeros(2))
    sizes = jnp.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 1.6])
    found = sweep(sizes, jax.random.split(jax.random.key(0), 16), target)
    theory = 1 / jnp.sqrt(1 - sizes / 2)
    for e, sd, expected in zip(sizes, found, theory, strict=True):
        print(f"step size {e:4.2f}: sd {sd:.3f}, by theory {expected:.3f}")
    print("largest relative difference:", f"{np.max(np.abs(found / theory - 1)):.3f}")

    figure, ax = plt.subplots(figsize=(5.5, 3.6))
    grid = np.linspace(0, 1.65, 200)
    ax.plot(grid, 1 / np.sqrt(1 - grid / 2), color="#0072B2", label="theory")
    ax.plot(sizes, found, "o", color="#D55E00", label="measured")
    ax.axhline(1, color="#999999", linewidth=1, linestyle="--", label="posterior")
    ax.set(xlabel="step size e", ylabel="standard deviation of the draws")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "research_loop.png", dpi=110)
    print("saved", out / "research_loop.png")


if __name__ == "__main__":
    main()
