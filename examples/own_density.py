"""A log density of one's own: parameters with supports, a check, minibatches, a comparison.

Robust regression with Student-t noise. The density is plain JAX; nothing is known of the model
but two functions.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import numpy as np
import optax
from jax.scipy import stats

import infer

EXAMPLE = {"beta": jnp.zeros(3), "sigma": 1.0}  # structure and shapes, not a start


def log_prior(params: dict) -> jax.Array:
    """beta ~ N(0, 5), sigma ~ Exponential(1); sigma > 0, its log Jacobian is not ours to add."""
    return stats.norm.logpdf(params["beta"], 0, 5).sum() - params["sigma"]


def log_likelihood(params: dict, rows: dict) -> jax.Array:
    """One value per row."""
    residual = (rows["y"] - rows["x"] @ params["beta"]) / params["sigma"]
    return stats.t.logpdf(residual, 4) - jnp.log(params["sigma"])


def data(n: int = 2000) -> dict:
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(n), rng.standard_normal((n, 2))])
    y = x @ np.array([1.0, -2.0, 0.5]) + 0.7 * rng.standard_t(4, n)
    return {"x": x, "y": y}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out

    parts = {
        "log_prior": log_prior,
        "log_likelihood": log_likelihood,
        "supports": {"sigma": infer.positive},
        "data": data(),
        "dims": {"beta": ["term"]},
        "coords": {"term": ["constant", "first", "second"]},
    }
    whole = infer.from_log_density(example=EXAMPLE, **parts)
    infer.check(whole, key=0)
    minibatches = infer.from_log_density(example=EXAMPLE, batch_size=100, **parts)
    print("\nwith minibatches of 100 of 2000 rows:", infer.check(minibatches, key=0, show=False).ok)

    # Minibatch noise does not die away by itself: a learning rate that falls to zero removes it.
    falling = optax.cosine_decay_schedule(0.02, 30_000)
    adam = infer.optimizer(optax.adam, learning_rate=falling)
    noisy = infer.VI(optimizer=adam, n_samples=1, stopping=None)
    results = {
        "NUTS": infer.fit(whole, infer.NUTS(), key=0, draws=500, warmup=500),
        "VI": infer.fit(whole, infer.VI(), key=1, steps=3000),
        "VI, minibatches": infer.fit(minibatches, noisy, key=2, steps=30_000),
    }
    print(infer.compare(results))
    figure = infer.plot_comparison(results)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "own_density.png", dpi=110)
    print("saved", out / "own_density.png")


if __name__ == "__main__":
    main()
