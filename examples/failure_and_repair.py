"""A failure that the verdict names, the repair that it proposes, and the exact answer.

    python examples/failure_and_repair.py --out docs/images

The eight schools, written the way one thinks of them: effects theta around a common mean, with a
common scale tau. For small tau the effects have hardly any room, and chains do not get there. The
verdict says what to do; in NumPyro it is one line. The density of tau is known up to a quadrature.
"""

import argparse
import textwrap
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import reparam
from numpyro.infer.reparam import LocScaleReparam

import infer

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
STYLES = {"as written": ("#D55E00", "--"), "non-centered": ("#0072B2", "-.")}


def schools(sigma: Any, y: Any = None) -> None:
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", sigma.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def exact(log_tau: np.ndarray) -> np.ndarray:
    """Density of log tau on an even grid: y ~ N(0, diag(sigma^2 + tau^2) + 25) given tau."""
    tau = np.exp(log_tau)
    covariance = np.eye(8) * (SIGMA**2 + tau[:, None, None] ** 2) + 25
    fit = np.einsum("i,tij,j->t", Y, np.linalg.inv(covariance), Y)
    log_p = -0.5 * (fit + np.linalg.slogdet(covariance)[1]) - np.log1p((tau / 5) ** 2) + log_tau
    p = np.exp(log_p - log_p.max())
    return p / np.trapezoid(p, log_tau)


def report(name: str, result: infer.Result, grid: np.ndarray, p: np.ndarray) -> None:
    tau, step = result["tau"].ravel(), grid[1] - grid[0]
    mean, small = step * p @ np.exp(grid), step * p[grid < np.log(0.5)].sum()
    diverged = int(result.history["diverging"].sum())
    print(f"{name}: verdict {result.verdict.status}, {diverged} transitions diverged")
    print(f"  mean of tau {tau.mean():.2f}, exact {mean:.2f}")
    print(f"  tau < 0.5 in {(tau < 0.5).mean():.3f}, exact {small:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A failure, its repair, and the exact answer.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    repaired = reparam(schools, config={"theta": LocScaleReparam(centered=0)})
    models = {"as written": schools, "non-centered": repaired}

    grid = np.linspace(-8, 5, 2000)
    p = exact(grid)
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 4.6), width_ratios=(1, 1, 1.15))
    last = axes[2]
    said = []
    for ax, (name, model) in zip(axes, models.items(), strict=False):
        color, line = STYLES[name]
        target = infer.from_numpyro(model, jnp.array(SIGMA), y=jnp.array(Y))
        result = infer.fit(target, infer.NUTS(), key=0, progress=False)
        report(name, result, grid, p)
        bad = result.history["diverging"].astype(bool)
        tau, theta = result["tau"], result["theta"][..., 0]
        ax.plot(theta.ravel(), tau.ravel(), ".", color=color, ms=2, alpha=0.5, rasterized=True)
        if bad.any():
            ax.plot(theta[bad], tau[bad], "x", color="black", ms=5, label=f"{bad.sum()} diverged")
            ax.legend(frameon=False, loc="lower right")
        ax.set_title(f"{name}: {result.verdict.status}", loc="left", fontsize=11)
        ax.set(yscale="log", xlim=(-20, 40), ylim=(0.01, 60), xlabel="effect of school A, points")
        bins = np.linspace(-5, 4, 46)
        height, _ = np.histogram(np.log(tau), bins=bins, density=True)
        last.stairs(height, np.exp(bins), color=color, ls=line, lw=1.8, label=name)
        said += [f"{name}: {reason.meaning}" for reason in result.verdict.reasons[:1]]
    axes[0].set_ylabel("tau, points")
    last.plot(np.exp(grid), p, color="black", lw=1.2, label="exact")
    last.set(xscale="log", xlim=(0.01, 60), xlabel="tau, points", ylabel="density of log tau")
    last.set_title("the scale of the effects", loc="left", fontsize=11)
    last.legend(frameon=False, loc="upper left")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    text = "\n".join(textwrap.fill(line, 125) for line in said)
    figure.text(0.5, 0.02, text, ha="center", va="bottom", family="monospace", fontsize=9)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "failure_and_repair.png", dpi=90)
    plt.close(figure)
    print("saved", out / "failure_and_repair.png")


if __name__ == "__main__":
    main()
