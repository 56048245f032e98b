"""Several answers to one question, side by side."""

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infer.comparison import Comparison, Distance
from infer.diagnostics.chains import ess_bulk
from infer.diagnostics.distances import sliced_wasserstein, sliced_wasserstein_floor
from infer.persist import identity_of
from infer.result import Result
from infer.summary import scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_DRAWS = 2000  # per result, evenly spaced, for distances
FLOOR_REPEATS = 5


def compare(
    results: Mapping[str, Result],
    *,
    variables: Iterable[str] | None = None,
    n_projections: int = 100,
) -> Comparison:
    """Set results side by side: verdicts, cost, estimates, and how far apart they are.

    The results may come from different algorithms and have different numbers of chains, draws or
    particles. Variables that are not in all of them are left out, and named. Of an optimization
    with restarts the best one is taken.

    Args:
        results: results by the name to show.
        variables: names of the variables to compare; all that are common if None.
        n_projections: directions of the sliced Wasserstein distance, >= 1.

    Returns:
        A `Comparison`, which prints as a table.

    Raises:
        TypeError, ValueError: for what is no result, or results with nothing in common.
    """
    shared, notes = common_scalars(results, variables)
    estimates = {}
    for scalar in next(iter(shared.values())):
        estimates[scalar] = {name: _moments(values[scalar]) for name, values in shared.items()}
    points, space = _points(results, shared, whole=variables is None)
    if len(results) > 1:
        notes.append(f"distances: {space}; at the floor two samples cannot be told apart")
    distances = {
        (a, b): _distance(points[a], points[b], n_projections)
        for a, b in itertools.combinations(results, 2)
    }
    fits = {name: _describe(result) for name, result in results.items()}
    return Comparison(fits, estimates, distances, tuple(notes))


def plot_comparison(
    results: Mapping[str, Result],
    *,
    variables: Iterable[str] | None = None,
    max_variables: int = 12,
) -> "Figure":
    """Marginal densities of several results in one figure, a panel per scalar variable.

    The legend tells each verdict; suspect fits are dash-dotted and failed ones dashed.

    Args:
        results: results by the name to show.
        variables: names of the variables to draw; all that are common if None.
        max_variables: draw at most so many scalars, >= 1; the figure says how many there are.

    Returns:
        A Matplotlib figure.

    Raises:
        ImportError: where matplotlib is missing.
        TypeError, ValueError: for what is no result, or results with nothing in common.
    """
    from infer.bridges.figures import marginals

    if max_variables < 1:
        raise ValueError(f"max_variables must be >= 1, got {max_variables}.")
    shared, _ = common_scalars(results, variables)
    verdicts = {name: result.verdict.status for name, result in results.items()}
    return marginals(shared, verdicts, max_variables)


def common_scalars(
    results: Mapping[str, Result], variables: Iterable[str] | None
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """The scalars that all results have, each (chain, draw), and notes on what was left out."""
    check_results(results, variables)
    draws = {name: _answer(result) for name, result in results.items()}
    shapes = {name: {v: x.shape[2:] for v, x in values.items()} for name, values in draws.items()}
    first = next(iter(shapes.values()))
    kept = [v for v in first if all(s.get(v) == first[v] for s in shapes.values())]
    if variables is not None:
        wanted = list(variables)
        if missing := [v for v in wanted if v not in kept]:
            raise ValueError(f"{missing} are not in all results; common to them are {kept}.")
        kept = wanted
    if not kept:
        raise ValueError(
            f"these results have no variable of one name and shape in common: {shapes}."
        )
    notes = []
    if variables is None:
        for name, own in shapes.items():
            if left := [
                f"{v} {shape}" if shape else v for v, shape in own.items() if v not in kept
            ]:
                notes.append(f"left out of {name}, not in all results: {', '.join(left)}")
    shared = {name: scalars({v: values[v] for v in kept}) for name, values in draws.items()}
    return shared, notes


def check_results(results: Any, variables: Any) -> None:
    """Refuse what is no dict of results, or no list of names."""
    if not isinstance(results, Mapping):
        raise TypeError(f'compare needs a dict of results, such as {{"nuts": a}}, got {results!r}.')
    if not results:
        raise ValueError('compare needs at least one result: infer.compare({"nuts": result}).')
    for name, result in results.items():
        if not isinstance(result, Result):
            raise TypeError(f"{name!r} is {result!r}, not a result of infer.fit.")
    if isinstance(variables, str):
        raise TypeError(f"variables must be a list of names; write variables=[{variables!r}].")


def _answer(result: Result) -> dict[str, np.ndarray]:
    """Named draws of all chains, or of the best restart."""
    draws = result.draws()
    if result.is_chains:
        return draws
    return {name: x[result.best : result.best + 1] for name, x in draws.items()}


def _describe(result: Result) -> dict[str, Any]:
    reasons = result.verdict.reasons
    reason = f"{reasons[0].name} = {reasons[0].value:.3g}" if reasons else ""
    chains, draws, _ = result.z.shape
    return {
        "algorithm": result.algorithm_name,
        "verdict": result.verdict.status,
        "main reason": reason,
        "gradients": int(result.gradients),
        "compile s": result.timings.compile,
        "run s": result.timings.warmup + result.timings.run,
        "draws": chains * draws if result.is_chains else draws,
    }


def _moments(x: np.ndarray) -> tuple[float, float]:
    if not x.size or not np.isfinite(x).all():
        return float("nan"), float("nan")
    x = np.asarray(x, np.float64)
    return float(x.mean()), float(x.std())


def _points(
    results: Mapping[str, Result], shared: dict[str, dict[str, np.ndarray]], whole: bool
) -> tuple[dict[str, tuple[np.ndarray, float]], str]:
    """Per result its points (n, d) in a space that all have, and how many draws they are worth."""
    sites = [identity_of(result)["sites"] for result in results.values()]
    if whole and all(other == sites[0] for other in sites):
        space = f"all {next(iter(results.values())).z.shape[2]} unconstrained coordinates"
        cubes = {
            name: r.z if r.is_chains else r.z[r.best : r.best + 1] for name, r in results.items()
        }
    else:
        space = f"the {len(next(iter(shared.values())))} common scalars on their supports"
        cubes = {name: np.stack(list(s.values()), axis=-1) for name, s in shared.items()}
    points = {}
    for name, cube in cubes.items():
        flat = cube.reshape(-1, cube.shape[-1])
        size = float(len(flat))
        if results[name].is_chains:
            ess = ess_bulk(cube)
            known = ess[np.isfinite(ess)]
            size = min(size, float(known.mean())) if len(known) else size
        points[name] = (flat[:: max(1, -(-len(flat) // MOST_DRAWS))], size)
    return points, space


def _distance(
    a: tuple[np.ndarray, float], b: tuple[np.ndarray, float], n_projections: int
) -> Distance:
    (x, n), (y, m) = a, b
    if min(len(x), len(y)) < 2:
        return Distance(float("nan"), float("nan"))
    value = sliced_wasserstein(x, y, n_projections)
    n, m = (max(1, round(min(size, len(s)))) for s, size in ((x, n), (y, m)))
    reference = x if len(x) >= len(y) else y
    floor = sliced_wasserstein_floor(reference, n, m, n_projections, FLOOR_REPEATS)
    return Distance(value, floor)
