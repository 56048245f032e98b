"""Simulation-based calibration of three methods on two models; writes a table into the docs.

python tests/reproduce/calibration.py [--only NAME ...]
"""

import datetime
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpyro
import numpyro.distributions as dist
from experiments import run

import infer

PAGE = Path(__file__).parent.parent.parent / "docs" / "verdict.md"
RECORD = PAGE.parent.parent / "build" / "calibration.json"
SIMULATIONS = 150


def regression(x, y):
    """Three coefficients and the noise, from 20 rows."""
    with numpyro.plate("column", 3):
        beta = numpyro.sample("beta", dist.Normal(0, 2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("row", 20):
        numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def schools(sd, y):
    """Eight schools, non-centered."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", 8):
        trans = numpyro.sample("theta_trans", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + tau * trans, sd), obs=y)


def simulators() -> dict[str, infer.Simulator]:
    x = np.column_stack([np.ones(20), np.random.default_rng(0).standard_normal((20, 2)) + 1])
    sd = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    return {
        "regression, d = 4": infer.numpyro_simulator(regression, x, None, observed=["y"]),
        "eight schools, d = 10": infer.numpyro_simulator(schools, sd, None, observed=["y"]),
    }


def methods() -> dict[str, tuple[Any, dict[str, Any]]]:
    return {
        "NUTS": (infer.NUTS(), {"warmup": 500, "draws": 500, "chains": 2}),
        "FBGVI": (infer.FBGVI(), {}),
        "SVGD": (infer.SVGD(n_particles=200), {"steps": 500}),
    }


def calibrated(simulator: infer.Simulator, method: str) -> dict[str, Any]:
    algorithm, options = methods()[method]
    clock = time.perf_counter()
    found = infer.simulation_based_calibration(
        simulator, algorithm, key=0, n_simulations=SIMULATIONS, **options
    )
    print(found, flush=True)
    u = (found.ranks + 0.5) / (found.n_draws + 1)
    worst = int(np.argmin(found.ecdf_p))
    return {
        "status": found.verdict.status,
        "p": found.verdict["uniform ranks"].value,
        "worst": found.names[worst],
        "mean": float(u[:, worst].mean()),
        "spread": float(u[:, worst].std() * 12**0.5),
        "short": found.verdict["effective draws"].value,
        "statuses": [found.statuses.count(s) for s in ("ok", "suspect", "failed")],
        "seconds": time.perf_counter() - clock,
    }


def tables(found: dict[str, Any]) -> str:
    lines = [
        "| model, method | ranks | p | scalar of smallest p: mean rank, sd / uniform "
        "| verdicts of the fits: ok / suspect / failed |",
        "|---|---|---|---|---|",
    ]
    for name, row in found.items():
        worst = f"`{row['worst']}`: {row['mean']:.2f}, {row['spread']:.2f}"
        statuses = " / ".join(map(str, row["statuses"]))
        lines.append(f"| {name} | {row['status']} | {row['p']:.2g} | {worst} | {statuses} |")
    lines += ["", f"{SIMULATIONS} data sets each, one key, float32, {datetime.date.today()}."]
    return "\n".join(lines)


def main() -> None:
    made = {
        f"{model}, {method}": lambda s=simulator, m=method: calibrated(s, m)
        for model, simulator in simulators().items()
        for method in methods()
    }
    run(str(__doc__), made, tables, RECORD, PAGE, "calibrated")


if __name__ == "__main__":
    main()
