"""Varying intercepts and slopes: clinics with few patients borrow strength from the others.

    python examples/hierarchical.py --out docs/images

Blood pressure under treatment in 16 clinics, two of them with three patients. A line fitted to each
clinic alone knows nothing of the others; one line for all ignores that clinics differ. The
hierarchical model estimates how much they do. The data are simulated, so the truth is known.
"""

import argparse
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

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#777777"
PATIENTS = np.array([3, 3, 4, 4, 5, 5, 6, 6, 8, 8, 10, 12, 15, 20, 30, 40])


def simulate() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clinic and week of every patient, pressure in mmHg, and the true line of every clinic."""
    rng = np.random.default_rng(84)  # pooling gains here what it does in the median of 100 seeds
    sd = np.array([6.0, 0.9])
    covariance = np.outer(sd, sd) * np.array([[1.0, -0.4], [-0.4, 1.0]])
    lines = rng.multivariate_normal([150.0, -1.5], covariance, len(PATIENTS))
    clinic = np.repeat(np.arange(len(PATIENTS)), PATIENTS)
    week = rng.integers(0, 13, len(clinic)).astype(float)
    y = lines[clinic, 0] + lines[clinic, 1] * (week - 6) + 6 * rng.standard_normal(len(clinic))
    return clinic, week, y, lines


def model(clinic: Any, week: Any, y: Any = None, centered: bool = False) -> None:
    mean = numpyro.sample("mean", dist.Normal(jnp.array([150.0, 0.0]), jnp.array([20.0, 3.0])))
    spread = numpyro.sample("spread", dist.HalfNormal(jnp.array([15.0, 2.0])))
    corr = numpyro.sample("corr", dist.LKJCholesky(2, 2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(15.0))
    factor = spread[:, None] * corr
    with numpyro.plate("clinic", len(PATIENTS)):
        if centered:
            line = numpyro.sample("line", dist.MultivariateNormal(mean, scale_tril=factor))
        else:
            # How far a clinic is from the mean, in units of the spread: a priori independent of
            # it, where the lines themselves have no room when the spread is small.
            unit = numpyro.sample("unit", dist.Normal(jnp.zeros(2), 1).to_event(1))
            line = numpyro.deterministic("line", mean + unit @ factor.T)
    numpyro.sample("y", dist.Normal(line[clinic, 0] + line[clinic, 1] * (week - 6), sigma), obs=y)


def alone(clinic: np.ndarray, week: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least-squares line of every clinic by itself."""
    rows = [clinic == j for j in range(len(PATIENTS))]
    return np.array([np.polyfit(week[r] - 6, y[r], 1)[::-1] for r in rows])


def draw(
    result: infer.Result, single: np.ndarray, truth: np.ndarray, rows: tuple, path: Path
) -> None:
    clinic, week, y = rows
    line = result["line"].reshape(-1, len(PATIENTS), 2)
    figure, (slopes, small, check) = plt.subplots(
        1, 3, figsize=(12.5, 4.1), width_ratios=(1.5, 1, 1)
    )
    low, high = np.quantile(line[..., 1], [0.05, 0.95], axis=0)
    middle, at = line[..., 1].mean(axis=0), np.arange(len(PATIENTS))
    slopes.axhline(middle.mean(), color=GRAY, linestyle="--", linewidth=1)
    slopes.plot(at - 0.15, single[:, 1], "s", color=ORANGE, markersize=5, label="clinic alone")
    bars = [middle - low, high - middle]
    slopes.errorbar(at + 0.15, middle, bars, fmt="o", color=BLUE, label="hierarchical, 90 %")
    slopes.plot(at, truth[:, 1], "kx", markersize=7, label="truth")
    slopes.set_xticks(at, PATIENTS)
    slopes.set(title="partial pooling", xlabel="patients in the clinic")
    slopes.set(ylabel="change, mmHg per week")
    slopes.set_ylim(top=3)
    slopes.legend(frameon=False, ncols=3, fontsize=8, loc="upper left")

    grid, j = np.linspace(0, 12, 50), int(np.argmax(np.abs(single[:, 1] - middle)))
    band = line[:, j, :1] + line[:, j, 1:] * (grid - 6)
    small.fill_between(
        grid, *np.quantile(band, [0.05, 0.95], axis=0), color=BLUE, alpha=0.25, label="90 % band"
    )
    small.plot(grid, band.mean(axis=0), color=BLUE, label="hierarchical")
    for (a, b), style, label in ((single[j], "--", "clinic alone"), (truth[j], ":", "truth")):
        color = ORANGE if style == "--" else "black"
        small.plot(grid, a + b * (grid - 6), style, color=color, linewidth=2, label=label)
    small.plot(week[clinic == j], y[clinic == j], "ko")
    small.set(title=f"the clinic moved most: {PATIENTS[j]} patients")
    small.set(xlabel="week", ylabel="pressure, mmHg")
    small.legend(frameon=False, fontsize=8)

    again = replicated_spread(result, clinic)
    seen = np.std([y[clinic == j].mean() for j in at])
    check.hist(again, bins=40, color=BLUE, alpha=0.5, density=True, label="replicated data")
    check.axvline(seen, color="black", linestyle=":", linewidth=2, label="observed")
    check.set(title="posterior predictive check", xlabel="sd of the clinic averages, mmHg")
    check.set(yticks=[], ylim=(0, 0.75))
    check.legend(frameon=False, fontsize=8)
    print(
        f"sd of clinic averages: {(again > seen).mean():.0%} of replicated data above the observed"
    )
    for ax in (slopes, small, check):
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def replicated_spread(result: infer.Result, clinic: np.ndarray) -> np.ndarray:
    """The standard deviation of the clinic averages, in data drawn from the fit."""
    y = result.predict(key=1)["y"].reshape(-1, len(clinic))
    return np.std([y[:, clinic == j].mean(axis=1) for j in range(len(PATIENTS))], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    clinic, week, y, truth = simulate()

    results = {}
    for name, centered in (("centered", True), ("non-centered", False)):
        target = infer.from_numpyro(model, clinic, week, y=y, centered=centered)
        results[name] = infer.fit(target, infer.NUTS(acceptance=0.9), key=0, progress=False)
        diverging = int(results[name].history["diverging"].sum())
        print(f"{name}: {diverging} divergences, {results[name].verdict}")
    result, single = results["non-centered"], alone(clinic, week, y)
    print(infer.compare(results, variables=["mean", "spread", "sigma"]))

    line = result["line"].reshape(-1, len(PATIENTS), 2)
    for name, fit in (
        ("each clinic alone", single),
        ("one line for all", np.polyfit(week - 6, y, 1)[::-1]),
        ("hierarchical", line.mean(axis=0)),
    ):
        a, b = np.sqrt(((fit - truth) ** 2).mean(axis=0))
        print(f"{name}: off by {a:.2f} mmHg in level, by {b:.2f} mmHg a week in slope (rms)")
    low, high = np.quantile(line, [0.05, 0.95], axis=0)
    covered = ((low < truth) & (truth < high)).sum()
    print(f"90 % intervals: {covered} of {truth.size} hold the truth")
    draw(result, single, truth, (clinic, week, y), out / "hierarchical.png")
    print("saved", out / "hierarchical.png")


if __name__ == "__main__":
    main()
