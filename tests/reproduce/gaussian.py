"""Gaussian methods against the best Gaussian of each posterior; writes a table into the docs.

    python tests/reproduce/gaussian.py --database PATH [--starts 20] [--methods ...] [--write]

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
from optimal_gaussian import BUILD, Optimum, gap, moments, optimum, points, posteriors

import infer
from infer.diagnostics import pareto_khat

PAGE = Path(__file__).parent.parent.parent / "docs" / "gaussian.md"
BEGIN, END = "<!-- gaussian:begin -->", "<!-- gaussian:end -->"
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


def own(name: str) -> Method:
    return lambda: (getattr(infer, name)(), {})


def methods() -> dict[str, Method]:
    """What makes an algorithm and the options of its fit, made in the precision of the fit."""
    found = {name: own(name) for name in ("FBGVI", "NaturalGradientVI") if name in vars(infer)}
    return found | {f"ADVI {rate:g}": advi(rate) for rate in RATES}


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
        target = posteriors.load(database, name)
        with contextlib.redirect_stderr(io.StringIO()):
            result = infer.fit(target, algorithm, key=start, chains=1, progress=False, **options)
    best = optimum(database, name)
    with jax.enable_x64(True):
        return measure(posteriors.load(database, name), best, result)


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
    for name in posteriors.names():
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
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--methods", nargs="+", choices=methods(), default=list(methods()))
    parser.add_argument("--posteriors", nargs="+", choices=posteriors.names())
    parser.add_argument("--write", action="store_true", help="insert the tables into the docs")
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
        for name in given.posteriors or posteriors.names()
        for method in given.methods
        for precision in PRECISIONS
        for start in range(given.starts)
    ]
    for row in wanted:
        if identity(row) in rows:
            continue
        method = methods()[row["method"]]
        row |= fit(Path(given.database), row["posterior"], method, row["precision"], row["start"])
        rows[identity(row)] = row
        with RECORD.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(*identity(row), row["status"], f"gap {row['gap']:.2g}", flush=True)
    text = report([rows[identity(row)] for row in wanted])
    print(text)
    if given.write:
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(before + BEGIN + "\n\n" + text + "\n\n" + END + after)


if __name__ == "__main__":
    main()
