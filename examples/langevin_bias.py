"""The bias of every unadjusted scheme against its step size, on a Gaussian.

    python examples/langevin_bias.py --out docs/images

400 chains of 5 coordinates per step size, a sweep compiled once per scheme: the step sizes are
leaves of the algorithm, so a `vmap` runs over them.
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

import infer

CHAINS, BURN, STEPS, FRICTION = 400, 400, 1600, 2.0
UNIT = infer.Fixed(1.0)
SIZES = np.array([0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75])
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#666666"


def underdamped(cls: Any) -> Any:
    return lambda h: cls(step_size=h, friction=FRICTION, preconditioner=UNIT)


SCHEMES = {
    "BAOAB": (underdamped(infer.BAOAB), lambda h: np.ones_like(h), BLUE),
    "KLMC": (underdamped(infer.KLMC), None, GREEN),
    "OBABO": (underdamped(infer.OBABO), lambda h: 1 / (1 - h**2 / 4), ORANGE),
    "ULA": (lambda h: infer.ULA(step_size=h, preconditioner=UNIT), lambda h: 1 / (1 - h / 2), GRAY),
    "TamedULA": (lambda h: infer.TamedULA(step_size=h, preconditioner=UNIT), None, PURPLE),
}


def log_density(z: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(z**2)


@eqx.filter_jit
def variances(algorithms: Any, target: infer.Target, key: jax.Array) -> jax.Array:
    """Mean of z^2 for each algorithm and chain."""

    def one(algorithm: Any, key: jax.Array) -> jax.Array:
        state = algorithm.init(key, target.at(jax.random.normal(key, (target.dim,))))

        def body(i: jax.Array, loop: Any) -> Any:
            state, total = loop
            state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
            square = jnp.mean(algorithm.position(state) ** 2)
            return state, total + jnp.where(i >= BURN, square, 0)

        return jax.lax.fori_loop(0, BURN + STEPS, body, (state, jnp.zeros(())))[1] / STEPS

    keys = jax.random.split(key, CHAINS)
    return jax.vmap(lambda a: jax.vmap(lambda k: one(a, k))(keys))(algorithms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    target = infer.from_log_density(log_density, jnp.zeros(5))
    figure, ax = plt.subplots(figsize=(8, 5))
    fine = np.linspace(0.02, 1.85, 200)
    for name, (make, theory, color) in SCHEMES.items():
        made = [make(float(h)) for h in SIZES]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
        found = np.asarray(variances(stacked, target, jax.random.key(0)), np.float64)
        mean, error = found.mean(axis=1), found.std(axis=1) / np.sqrt(CHAINS)
        ax.errorbar(SIZES, mean, 2 * error, fmt="o", color=color, ms=5, label=name)
        curve = (SIZES, mean) if theory is None else (fine, theory(fine))
        ax.plot(*curve, color=color, lw=1.2, ls=":" if theory is None else "-")
        shown = ", ".join(
            f"{h:g}: {m:.3f} ± {2 * e:.3f}" for h, m, e in zip(SIZES, mean, error, strict=True)
        )
        print(f"{name}: {shown}")
    ax.set(yscale="log", ylim=(0.9, 8), xlim=(0, 1.9))
    ax.set_yticks([1, 1.5, 2, 3, 5, 8], ["1", "1.5", "2", "3", "5", "8"], minor=False)
    ax.minorticks_off()
    ax.set_xlabel("step size: h, and e for ULA and TamedULA")
    ax.set_ylabel("variance of the draws, right is 1")
    title = "One step size, five biases: N(0, 1), friction 2. Solid lines are closed forms."
    ax.set_title(title, loc="left", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "langevin_bias.png", dpi=110)
    plt.close(figure)
    print("saved", out / "langevin_bias.png")


if __name__ == "__main__":
    main()
