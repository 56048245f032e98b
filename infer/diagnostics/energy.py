"""Energy distance between two samples, and its value for ideal samples."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import mean_of_splits, squared_distances, two_samples
from infer.references.citation import cites
from infer.references.judging import SZEKELY_2013

Array = NDArray[np.float64]


@cites(SZEKELY_2013)
def energy_distance(x: ArrayLike, y: ArrayLike) -> float:
    r"""Energy distance between two samples, the V statistic, without a root.

    $2 E|X - Y| - E|X - X'| - E|Y - Y'|$ with plain Euclidean distances, all means over all pairs,
    those of a point with itself included: never negative, and biased upwards by $O(1/n)$, so read
    it beside `energy_distance_floor`. It has the unit of the coordinates; divide them by standard
    deviations first where these differ. Cost $O((n + m)^2 d)$, memory linear in n and m.

    Args:
        x: First sample, shape `(n, d)`.
        y: Second sample, shape `(m, d)`.

    Returns:
        The distance; zero for equal samples, NaN if a value is not finite.

    Source: Székely and Rizzo (2013), Journal of Statistical Planning and Inference 143(8).
    """
    x, y = two_samples(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    return max(0.0, 2 * _mean_distance(x, y) - _mean_distance(x) - _mean_distance(y))


def energy_distance_floor(
    x: ArrayLike, n: int, m: int | None = None, n_repeats: int = 10, seed: int = 0
) -> float:
    r"""The energy distance that sampling noise alone gives.

    The mean of `energy_distance` over random pairs of disjoint subsets of `x` with `n` and `m`
    rows: what two ideal samples of these sizes would show. Where `x` has only $N < n + m$ rows,
    both subsets are smaller by the factor $N / (n + m)$ and the result is multiplied by it.

    Args:
        x: Reference sample, shape `(N, d)`, ideally with `N >= n + m`.
        n: Size of the first sample.
        m: Size of the second sample, by default `n`.
        n_repeats: Number of pairs averaged.
        seed: Seed of the subsets.

    Returns:
        The mean distance; NaN if a value is not finite.
    """
    return mean_of_splits(lambda x, y, _: energy_distance(x, y), x, n, m, n_repeats, seed, rate=1.0)


def _mean_distance(x: Array, y: Array | None = None) -> float:
    total = sum(float(np.sqrt(r).sum()) for _, r in squared_distances(x, y))
    return total / (len(x) * len(x if y is None else y))
