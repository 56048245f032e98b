"""Gaussian methods against the best Gaussian of each posterior; writes a table into the docs.

    python tests/reproduce/gaussian.py [--database PATH] [--methods ...] [--only-print]

The two methods that need no tuning are fitted from 20 random starts in both precisions, the others
from three in float32, ADVI from one at each of five rates.

Every fit is one line of build/gaussian.jsonl, and a fit that is there is not made again: remove the
file after a change of the methods.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from experiments import write
from optimal_gaussian import BUILD, Optimum, gap, moments, optimum, points

import infer
from infer.diagnostics import pareto_khat
from infer.scoreboard import models

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE, LISTING = DOCS / "gaussian.md", DOCS / "gaussian_listing.md"
RECORD = BUILD / "gaussian.jsonl"
PRECISIONS = ("float32", "float64")
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
Method = Callable[[], tuple[Any, dict[str, Any]]]
Fit = dict[str, Any]


def advi(rate: float) -> Method:
    """Full-rank ADVI at a fixed rate: 50,000 gradients, and none saved by a stopping rule."""

    def make() -> tuple[Any, dict[str, Any]]:
        optimizer = infer.optimizer(optax.adam, learning_rate=rate)
        method = infer.VI(family=infer.FullRank(), optimizer=optimizer, n_samples=10, stopping=None)
        return method, {"steps": 5000}

    return make


UNTUNED = ("FBGVI", "NaturalGradientVI")
OTHERS: dict[str, Method] = {
    "FBGVI, Stein": lambda: (infer.FBGVI(oracle=infer.Stein()), {}),
    "FBGVI, 8 new points": lambda: (
        infer.FBGVI(oracle=infer.Price(points=infer.Independent(8))),
        {},
    ),
    "BWGD": lambda: (infer.BWGD(), {}),
    "BaM": lambda: (infer.BaM(), {}),
    "GSM": lambda: (infer.GSM(), {}),
    "ProximalVI": lambda: (infer.ProximalVI(), {}),
    "DADVI": lambda: (infer.DADVI(), {}),
    "Pathfinder": lambda: (infer.Pathfinder(), {}),
    "Laplace": lambda: (infer.Laplace(), {}),
}


def methods() -> dict[str, Method]:
    """What makes an algorithm and the options of its fit, made in the precision of the fit."""
    untuned: dict[str, Method] = {
        "FBGVI": lambda: (infer.FBGVI(), {}),
        "NaturalGradientVI": lambda: (infer.NaturalGradientVI(), {}),
    }
    return untuned | OTHERS | {f"ADVI {rate:g}": advi(rate) for rate in RATES}


def plan(name: str, precision: str) -> int:
    """How many starts of a method."""
    if name in UNTUNED:
        return 20
    if precision == "float64":
        return 0
    return 3 if name in OTHERS else 1


def measure(exact: infer.Target, best: Optimum, result: infer.Result) -> Fit:
    """How far a fit is from the best Gaussian; `exact` is the target in float64."""
    mean = np.asarray(result.posterior.mean, np.float64)
    factor = np.asarray(result.posterior.factor, np.float64)
    nats, error = gap(exact, mean, factor @ factor.T, best)
    sd = np.sqrt(np.diag(best.covariance))
    with np.errstate(all="ignore"):
        shift = np.max(np.abs(mean - best.mean) / sd)
        spread = np.max(np.abs(np.log(np.sqrt(np.sum(factor**2, axis=1)) / sd)))
        residual = moments(exact, mean, factor, points(exact.dim, 2**12, seed=200)).residual
        log_weights = result.log_prob[result.best] - result.log_q[result.best]
    return {
        "converged": result.outcome.ending is infer.Ending.CONVERGED,
        "status": result.verdict.status,
        "gap": nats,
        "gap_error": error,
        "mean": float(shift),
        "log_sd": float(spread),
        "residual": residual,
        "khat": pareto_khat(log_weights),
        "gradients": int(result.gradients),
        "seconds": result.timings.run,
    }


def fit(database: Path, name: str, method: Method, precision: str, start: int) -> Fit:
    with jax.enable_x64(precision == "float64"):
        algorithm, options = method()
        target = models.load(database, name)
        with contextlib.redirect_stderr(io.StringIO()):
            result = infer.fit(target, algorithm, key=start, chains=1, progress=False, **options)
    best = optimum(database, name)
    with jax.enable_x64(True):
        return measure(models.load(database, name), best, result)


def recorded() -> Iterator[Fit]:
    """The fits made so far; a line cut short by an interruption is no fit."""
    if RECORD.is_file():
        for line in RECORD.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)


def identity(row: Fit) -> tuple:
    return row["posterior"], row["method"], row["precision"], row["start"]


def worst(rows: Sequence[Fit], name: str) -> str:
    """The largest value, where what could not be computed counts as infinite."""
    values = [abs(row[name]) for row in rows]
    return f"{max(np.inf if np.isnan(value) else value for value in values):.2g}"


def median(rows: Sequence[Fit], name: str) -> float:
    return float(np.median([row[name] for row in rows]))


def table(rows: Sequence[Fit]) -> list[str]:
    """Posterior by method, in one precision."""
    lines = [
        "| posterior | method | converged | ok / suspect / failed | worst gap, nats | worst mean "
        "error, sd | worst log sd ratio | worst R | k-hat | gradients | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["posterior"] for row in rows):
        for method in dict.fromkeys(row["method"] for row in rows):
            mine = [r for r in rows if (r["posterior"], r["method"]) == (name, method)]
            if not mine:
                continue
            count = Counter(row["status"] for row in mine)
            cells = [name, method, f"{sum(row['converged'] for row in mine)} of {len(mine)}"]
            cells.append(" / ".join(str(count[s]) for s in ("ok", "suspect", "failed")))
            cells += [worst(mine, each) for each in ("gap", "mean", "log_sd", "residual")]
            cells += [f"{median(mine, 'khat'):.2f}", f"{median(mine, 'gradients'):,.0f}"]
            cells.append(f"{median(mine, 'seconds'):.3f}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


HEAD = """# Every Gaussian method on thirteen posteriors

Written by `tests/reproduce/gaussian.py`. Gap, errors and R are those of the worst start, against
the best Gaussian in float64; k-hat, gradients, seconds are medians. Seconds without compilation.
"""


def short(rows: Sequence[Fit]) -> str:
    """The methods without tuning in full, and the worst gaps of all methods beside one another."""
    lines = []
    for precision in PRECISIONS:
        mine = [r for r in rows if r["precision"] == precision and r["method"] in UNTUNED]
        if mine:
            lines += [f"20 random starts, {precision}:", "", *table(mine), ""]
    single = [r for r in rows if r["precision"] == "float32"]
    names = list(dict.fromkeys(row["method"] for row in single))
    lines += ["Worst gap to the best Gaussian in nats, float32:", ""]
    lines += ["| posterior | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for posterior in dict.fromkeys(row["posterior"] for row in single):
        cells = [posterior]
        for name in names:
            mine = [r for r in single if (r["posterior"], r["method"]) == (posterior, name)]
            cells.append(worst(mine, "gap") if mine else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"{len(rows)} fits, {datetime.date.today()}."])


def report(rows: Sequence[Fit]) -> str:
    parts = []
    for precision in PRECISIONS:
        mine = [row for row in rows if row["precision"] == precision]
        if mine:
            parts += [f"### {precision}", "", *table(mine), ""]
    return "\n".join([*parts, f"{len(rows)} fits, {datetime.date.today()}."])


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Gaussian methods against the best Gaussian.")
    parser.add_argument("--database", type=Path, default=os.environ.get("INFER_POSTERIORDB"))
    parser.add_argument("--methods", nargs="+", choices=methods(), default=list(methods()))
    parser.add_argument("--posteriors", nargs="+", choices=models.POSTERIORS)
    parser.add_argument("--only-print", action="store_true", help="leave the docs alone")
    return parser.parse_args()


def main() -> None:
    given = options()
    if given.database is None:
        print("nothing to do: neither --database nor INFER_POSTERIORDB names a posteriordb folder")
        return
    rows = {identity(row): row for row in recorded()}
    RECORD.parent.mkdir(exist_ok=True)
    wanted = [
        {"posterior": name, "method": method, "precision": precision, "start": start}
        for name in given.posteriors or models.names(Path(given.database))
        for method in given.methods
        for precision in PRECISIONS
        for start in range(plan(method, precision))
    ]
    for row in wanted:
        if identity(row) in rows:
            continue
        if row["start"] == 0:
            jax.clear_caches()  # programs of other fits, whose memory maps add up to too many
        method = methods()[row["method"]]
        row |= fit(Path(given.database), row["posterior"], method, row["precision"], row["start"])
        rows[identity(row)] = row
        with RECORD.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(*identity(row), row["status"], f"gap {row['gap']:.2g}", flush=True)
    found = [rows[identity(row)] for row in wanted]
    print(report(found))
    if not given.only_print:
        write(PAGE, "gaussian", short(found))
        LISTING.write_text(HEAD + "\n" + report(found) + "\n")


if __name__ == "__main__":
    main()
