"""The tour: eight schools, two ways of writing it, four methods, and what the verdicts say.

The centered model is a funnel that defeats most methods; the non-centered one is the same
posterior in coordinates that suit them. Run `python examples/demo.py`; it prints everything and
saves `demo.png` in the current folder. Needs the extras `mcmc` and `plot`.
"""

import json
import sys
import time
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

Y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
REFERENCE = Path(__file__).with_name("eight_schools_reference.json")
LIMIT = 0.1  # NUTS must agree with the reference means within this many reference sds


def centered(sigma: Any, y: Any = None) -> None:
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", sigma.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def noncentered(sigma: Any, y: Any = None) -> None:
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", sigma.shape[0]):
        eta = numpyro.sample("eta", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * eta)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


MODELS = {"centered": centered, "non-centered": noncentered}
METHODS = {
    "NUTS": (infer.NUTS(acceptance=0.95), {"draws": 2000}),
    "MALA": (infer.MALA(), {"draws": 20_000}),
    "full-rank VI": (infer.VI(family=infer.FullRank()), {}),
    "SVGD": (infer.SVGD(n_particles=200), {}),
}
COLORS = {"NUTS": "#0072B2", "MALA": "#D55E00", "full-rank VI": "#009E73", "SVGD": "#CC79A7"}
STYLES = {"ok": "-", "suspect": "-.", "failed": ":"}


def fit_all() -> dict[str, dict[str, infer.Result]]:
    """Every method on both models."""
    results: dict[str, dict[str, infer.Result]] = {}
    for form, model in MODELS.items():
        target = infer.from_numpyro(model, SIGMA, y=Y)
        results[form] = {
            name: infer.fit(target, algorithm, key=0, **options)
            for name, (algorithm, options) in METHODS.items()
        }
    return results


def against_reference(result: infer.Result) -> float:
    """The largest difference of a posterior mean from the reference, in reference sds."""
    reference = json.loads(REFERENCE.read_text())["estimates"]
    summary = result.summary()
    worst = 0.0
    print("NUTS (non-centered) against the reference")
    for name, row in reference.items():
        mean, sd = summary[name]["mean"], summary[name]["sd"]
        difference = (mean - row["mean"]) / row["sd"]
        worst = max(worst, abs(difference))
        print(
            f"  {name:9s} mean {mean:6.3f} (reference {row['mean']:6.3f}, {difference:+.3f} sd)  "
            f"sd {sd:6.3f} (reference {row['sd']:6.3f})"
        )
    print(f"  largest difference of a mean: {worst:.3f} reference sds (limit {LIMIT})\n")
    return worst


def curve(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A Gaussian kernel density estimate with Silverman's bandwidth."""
    kept = x[:: max(1, len(x) // 2000)]
    spread = min(kept.std(), np.subtract(*np.quantile(kept, (0.75, 0.25))) / 1.34)
    h = max(1.06 * spread * len(kept) ** -0.2, 1e-3 * np.ptp(grid))
    return np.exp(-0.5 * ((grid[:, None] - kept) / h) ** 2).mean(1) / (h * np.sqrt(2 * np.pi))


def draw(results: dict[str, dict[str, infer.Result]], path: Path) -> None:
    """Marginals of mu and log10 tau, a row per model."""
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), width_ratios=(1, 1, 0.55), sharex="col")
    grids = {"tau": np.linspace(-2.2, 2, 400), "mu": np.linspace(-9, 18, 400)}
    labels = {"tau": "tau (log scale)", "mu": "mu"}
    for row, (form, fits) in zip(axes, results.items(), strict=True):
        tops = {name: 0.0 for name in grids}
        for name, result in fits.items():
            status = result.verdict.status
            style = {"color": COLORS[name], "linestyle": STYLES[status], "linewidth": 2}
            for ax, (variable, grid) in zip(row, grids.items(), strict=False):
                x = result[variable].ravel().astype(float)
                density = curve(np.log10(x) if variable == "tau" else x, grid)
                tops[variable] = max(tops[variable], density.max())
                ax.plot(grid, density, **style)
            row[2].plot([], [], label=f"{name}: {status}", **style)
        for ax, variable in zip(row, grids, strict=False):
            ax.set_ylim(0, 1.08 * tops[variable])
            ax.set_yticks([])
            ax.spines[["left", "top", "right"]].set_visible(False)
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(labels[variable])
        row[0].set_title(form, loc="left", fontweight="bold")
        row[0].set_xticks([-2, -1, 0, 1, 2], ["0.01", "0.1", "1", "10", "100"])
        row[2].axis("off")
        row[2].legend(loc="center left", frameon=False, fontsize=11, handlelength=3)
    figure.suptitle("Eight schools: marginal densities and verdicts")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    clock = time.perf_counter()
    results = fit_all()
    for form, fits in results.items():
        print(f"\n===== {form} =====")
        print(infer.compare(fits, variables=["mu", "tau"]))
        print()
        print(fits["NUTS"].summary())
        print()
    worst = against_reference(results["non-centered"]["NUTS"])
    draw(results, Path("demo.png"))
    print("verdicts")
    for form, fits in results.items():
        print(f"  {form:13s}", {name: result.verdict.status for name, result in fits.items()})
    print(f"saved demo.png; {time.perf_counter() - clock:.0f} s in all")
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
