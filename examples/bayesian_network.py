"""A small Bayesian neural network three ways: particles by coin betting, minibatches, and NUTS.

    python examples/bayesian_network.py --out docs/images

One hidden layer of six units, 80 observations with a gap in the middle, a known curve. Weights are
in units of their prior. Hidden units can be exchanged and their signs turned, so no chain visits
all of the posterior and the verdicts on the weights are bad; what is asked is how far the curve is
nevertheless known, and how well new observations are predicted.
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
from jax.scipy.stats import norm

import infer

HIDDEN, NOISE = 6, 0.2
GRID = np.linspace(-3, 3, 121)
METHODS: dict[str, tuple[Any, dict[str, int], str]] = {
    "SVGD, coin betting": (infer.SVGD(n_particles=50, optimizer=infer.coin()), {}, "#009E73"),
    "SGNHT, minibatches of 20": (infer.SGNHT(), {}, "#D55E00"),
    "NUTS": (infer.NUTS(), {"warmup": 300, "steps": 300}, "#0072B2"),
}


def truth(x: np.ndarray) -> np.ndarray:
    return np.sin(2.5 * x) * np.exp(-0.15 * x**2)


def observations() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Eighty to learn from, none between -0.6 and 0.5, and 200 held out from everywhere."""
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(-2.2, -0.6, 40), rng.uniform(0.5, 2.2, 40)])
    new = rng.uniform(-2.2, 2.2, 200)
    return (
        {"x": x, "y": truth(x) + NOISE * rng.standard_normal(80)},
        {"x": new, "y": truth(new) + NOISE * rng.standard_normal(200)},
    )


def network(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(2 * (params["slope"] * x[..., None] + params["offset"]))
    return hidden @ params["out"] * 2 / np.sqrt(HIDDEN) + params["level"]


def log_prior(params: dict[str, jax.Array]) -> jax.Array:
    return sum((norm.logpdf(v).sum() for v in params.values()), jnp.zeros(()))


def log_likelihood(params: dict[str, jax.Array], rows: dict[str, jax.Array]) -> jax.Array:
    return norm.logpdf(rows["y"], network(params, rows["x"]), NOISE)


def main() -> None:
    parser = argparse.ArgumentParser(description="A small Bayesian neural network three ways.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    train, new = observations()
    zero = jnp.zeros(HIDDEN)
    batched = infer.from_log_density(
        example={"slope": zero, "offset": zero, "out": zero, "level": jnp.zeros(())},
        log_prior=log_prior,
        log_likelihood=log_likelihood,
        data=train,
        batch_size=20,
    )
    best = norm.logpdf(new["y"], truth(new["x"]), NOISE).mean()
    print(f"held-out log likelihood per observation; the true curve has {best:.2f}")
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharex=True, sharey=True)
    curves = jax.jit(jax.vmap(network, in_axes=(0, None)))
    for ax, (name, (method, options, color)) in zip(axes, METHODS.items(), strict=True):
        target = batched if name.startswith("SGNHT") else batched.full()
        result = infer.fit(target, method, key=0, progress=False, **options)
        draws = {k: v.reshape(-1, *v.shape[2:]) for k, v in result.draws().items()}
        draws = {k: v[:: max(1, len(v) // 1000)] for k, v in draws.items()}
        each = norm.logpdf(new["y"], curves(draws, jnp.asarray(new["x"])), NOISE)
        score = (jax.nn.logsumexp(each, axis=0) - np.log(len(each))).mean()
        low, middle, high = np.quantile(curves(draws, jnp.asarray(GRID)), [0.05, 0.5, 0.95], axis=0)
        inside = np.mean((low <= truth(GRID)) & (truth(GRID) <= high))
        print(f"{name}: {score:.2f}, true curve in the 90 % band at {inside:.0%} of the grid,")
        print(f"  band at 0 {high[60] - low[60]:.2f}, verdict {result.verdict.status}:")
        for reason in result.verdict.reasons:
            print(f"  {reason.name} = {reason.value:.3g}")
        ax.fill_between(GRID, low, high, color=color, alpha=0.25, label="90 % of the curves")
        ax.plot(GRID, middle, color=color, lw=2, label="median")
        ax.plot(GRID, truth(GRID), color="black", ls="--", lw=1.2, label="truth")
        ax.plot(train["x"], train["y"], "o", color="0.3", ms=3, label="observations")
        ax.set_title(f"{name}: {score:.2f}, {result.verdict.status}", loc="left", fontsize=11)
        ax.set(xlabel="x", ylim=(-2.6, 2.6))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("y")
    axes[0].legend(frameon=False, fontsize=9, loc="lower left", ncols=2)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "bayesian_network.png", dpi=100)
    plt.close(figure)
    print("saved", out / "bayesian_network.png")


if __name__ == "__main__":
    main()
