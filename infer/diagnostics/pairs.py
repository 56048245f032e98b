"""What distances between samples share: pairs a tile at a time, and the noise of ideal ones."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

TILE = 2**20  # numbers in a tile, 8 MB
Distance = Callable[[Array, Array, np.random.Generator], float]


def sample(x: ArrayLike, name: str) -> Array:
    """A sample (n, d) in float64; any other shape is refused."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"{name} must have shape (n, d) with n, d >= 1, got {x.shape}.")
    return x


def two_samples(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Two samples of one width, moved together so that their means lie around the origin.

    Moving both by the same vector changes no distance and keeps digits when means are large.
    """
    x, y = sample(x, "x"), sample(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x and y must have the same width, got {x.shape} and {y.shape}.")
    with np.errstate(all="ignore"):
        center = (x.mean(axis=0) + y.mean(axis=0)) / 2
        return x - center, y - center


def squared_distances(x: Array, y: Array | None = None) -> Iterator[tuple[slice, Array]]:
    """Rows of x, a tile at a time, and their squared distances to all rows of y.

    Without y the distances are those within x, exactly zero from each row to itself. One matrix
    product per tile, memory O(n tile). The rows must not lie far from the origin.
    """
    others = x if y is None else y
    square, other_square = np.sum(x**2, axis=1), np.sum(others**2, axis=1)
    step = max(1, TILE // len(others))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        r = square[rows, None] + other_square - 2 * x[rows] @ others.T
        np.maximum(r, 0, out=r)
        if y is None:
            inside = np.arange(rows.start, rows.stop)
            r[inside - start, inside] = 0
        yield rows, r


def mean_of_splits(
    distance: Distance, x: ArrayLike, n: int, m: int | None, n_repeats: int, seed: int, rate: float
) -> float:
    """The mean of a distance over random pairs of disjoint subsets of x with n and m rows.

    Where x has only N < n + m rows, both subsets are smaller by the factor N / (n + m), and the
    result is multiplied by that factor to the power `rate`, at which the noise falls.
    """
    x = sample(x, "x")
    m = n if m is None else m
    if min(n, m, n_repeats) < 1 or len(x) < 2:
        raise ValueError("n, m and n_repeats must be at least 1, and x must have two rows or more.")
    share = min(1.0, len(x) / (n + m))
    first = min(max(1, round(share * n)), len(x) - 1)
    second = max(1, min(round(share * m), len(x) - first))
    rng = np.random.default_rng(seed)
    total = 0.0
    for _ in range(n_repeats):
        rows = rng.permutation(len(x))[: first + second]
        total += distance(x[rows[:first]], x[rows[first:]], rng)
    return math.pow(share, rate) * total / n_repeats
