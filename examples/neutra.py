"""Centered eight schools: NUTS as it is, and through a flow that variational inference fitted.

    python examples/neutra.py --out docs/images

The posterior is a funnel: for small tau the effects theta have hardly any room. In the coordinates
of the noise of the flow it is nearly a standard normal distribution.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax

import infer

Y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
REFERENCE = Path(__file__).with_name("eight_schools_reference.json")
BLUE, ORANGE = "#0072B2", "#D55E00"
FLOW = infer.VI(
    family=infer.RealNVP(n_layers=8, linear=True, scale=0.5),
    estimator=infer.Path(),
    optimizer=infer.optimizer(optax.adam, learning_rate=5e-3),
    n_samples=64,
    stopping=None,
)


def centered(sigma: Any, y: Any = None) -> None:
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", sigma.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def worst_mean(result: infer.Result) -> float:
    """The largest error of a posterior mean, in posterior standard deviations."""
    estimates = json.loads(REFERENCE.read_text())["estimates"]
    draws = result.draws()
    names = ["mu", "tau", *[f"theta[{j}]" for j in range(8)]]
    columns = [draws["mu"], draws["tau"], *np.moveaxis(draws["theta"], -1, 0)]
    return max(
        abs(x.mean() - estimates[name]["mean"]) / estimates[name]["sd"]
        for name, x in zip(names, columns, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    parser.add_argument("--key", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000, help="steps of the fit of the flow")
    options = parser.parse_args()
    target = infer.from_numpyro(centered, SIGMA, y=Y)
    fitted = infer.fit(target, FLOW, key=options.key, steps=options.steps, progress=False)
    through = infer.neutra(target, fitted.posterior)
    print(f"flow: {fitted.trail.gradients} gradients, verdict {fitted.verdict.status}")

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), sharex=True, sharey=True)
    runs = {"NUTS": (target, BLUE), "NUTS through the flow": (through, ORANGE)}
    for ax, (name, (problem, color)) in zip(axes, runs.items(), strict=True):
        method = infer.NUTS(acceptance=0.95)
        result = infer.fit(problem, method, key=100 + options.key, progress=False)
        diverging = result.history["diverging"].astype(bool)
        tau, theta = result["tau"], result["theta"][..., 0]
        print(
            f"{name}: {diverging.sum()} of {diverging.size} transitions diverged, means within "
            f"{worst_mean(result):.3f} sd, smallest tau {tau.min():.3f}, "
            f"{result.trail.gradients} gradients, verdict {result.verdict.status}"
        )
        ax.plot(theta.ravel(), tau.ravel(), ".", color=color, ms=2, alpha=0.5, rasterized=True)
        if diverging.any():
            ax.plot(theta[diverging], tau[diverging], "x", color="black", ms=4, label="diverged")
            ax.legend(frameon=False, loc="lower right")
        said = f"{name}: {diverging.sum()} of {diverging.size} diverged"
        ax.set_title(said, loc="left", fontsize=11)
        ax.set(yscale="log", xlim=(-20, 40), ylim=(0.02, 50), xlabel="effect of the first school")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("tau")
    figure.tight_layout()
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "neutra.png", dpi=110)
    plt.close(figure)
    print("saved", options.out / "neutra.png")


if __name__ == "__main__":
    main()
