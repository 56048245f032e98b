"""Distance between two samples: sliced Wasserstein, and its value for ideal samples."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import mean_of_splits, two_samples
from infer.references.citation import cites
from infer.references.judging import BONNEEL_2015, MANOLE_2022

Array = NDArray[np.float64]


@cites(BONNEEL_2015)
def sliced_wasserstein(
    x: ArrayLike, y: ArrayLike, n_projections: int = 100, seed: int = 0
) -> float:
    r"""Sliced Wasserstein distance of order 1 between two samples, in standard deviations.

    $\frac1P \sum_p \int_0^1 |F^{-1}_{\theta_p^\top x}(u) - F^{-1}_{\theta_p^\top y}(u)| \, du$ over
    random directions $\theta_p$ on the unit sphere, exact for samples of different sizes. Each
    coordinate is first divided by its pooled standard deviation
    $\sqrt{(\mathrm{var}\,x_i + \mathrm{var}\,y_i) / 2}$ (left alone where this is zero), so the
    result does not depend on units. Cost $O((n + m)(d + \log(n + m)) P)$.

    Args:
        x: First sample, shape `(n, d)`.
        y: Second sample, shape `(m, d)`.
        n_projections: Number of directions; a single one is enough, and used, for `d = 1`.
        seed: Seed of the directions; the same seed compares several samples along the same ones.

    Returns:
        The distance; zero for equal samples, NaN if a value is not finite.

    Source: Bonneel, Rabin, Peyré and Pfister (2015), Journal of Mathematical Imaging and Vision
    51.
    """
    x, y = two_samples(x, y)
    directions = _directions(x.shape[1], n_projections, seed)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    scale = np.sqrt((x.var(axis=0) + y.var(axis=0)) / 2)
    scale = np.where(scale > 0, scale, 1.0)
    return _wasserstein(x / scale @ directions, y / scale @ directions, order=1)


@cites(BONNEEL_2015)
def sliced_wasserstein_squared(
    x: ArrayLike, y: ArrayLike, n_projections: int = 100, seed: int = 0
) -> float:
    r"""Squared sliced Wasserstein distance of order 2 between two samples, in squared units.

    $\frac1P \sum_p \int_0^1 (F^{-1}_{\theta_p^\top x}(u) - F^{-1}_{\theta_p^\top y}(u))^2 \, du$
    over random directions $\theta_p$ on the unit sphere, exact for samples of different sizes, with
    coordinates as they are. For $N(m, s^2 I)$ and $N(0, I)$ it approaches $(s - 1)^2 + |m|^2 / d$,
    from above. Cost $O((n + m)(d + \log(n + m)) P)$.

    Args:
        x: First sample, shape `(n, d)`.
        y: Second sample, shape `(m, d)`.
        n_projections: Number of directions; a single one is enough, and used, for `d = 1`.
        seed: Seed of the directions; the same seed compares several samples along the same ones.

    Returns:
        The squared distance; zero for equal samples, NaN if a value is not finite.

    Source: Bonneel, Rabin, Peyré and Pfister (2015), Journal of Mathematical Imaging and Vision
    51.
    """
    x, y = two_samples(x, y)
    directions = _directions(x.shape[1], n_projections, seed)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    return _wasserstein(x @ directions, y @ directions, order=2)


@cites(MANOLE_2022)
def sliced_wasserstein_floor(
    x: ArrayLike,
    n: int,
    m: int | None = None,
    n_projections: int = 100,
    n_repeats: int = 10,
    seed: int = 0,
) -> float:
    r"""The sliced Wasserstein distance that sampling noise alone gives.

    The mean of `sliced_wasserstein` over random pairs of disjoint subsets of `x` with `n` and `m`
    rows: what two ideal samples of these sizes would show. Where `x` has only
    $N < n + m$ rows, both subsets are smaller by the factor $N / (n + m)$ and the result is
    multiplied by its square root, the rate at which the noise falls.

    Args:
        x: Reference sample, shape `(N, d)`, ideally with `N >= n + m`.
        n: Size of the first sample.
        m: Size of the second sample, by default `n`.
        n_projections: Number of directions.
        n_repeats: Number of pairs averaged.
        seed: Seed of the subsets and directions.

    Returns:
        The mean distance; NaN if a value is not finite.

    Source: Manole, Balakrishnan and Wasserman (2022), Electronic Journal of Statistics 16(1).
    """

    def distance(x: Array, y: Array, rng: np.random.Generator) -> float:
        return sliced_wasserstein(x, y, n_projections, seed=int(rng.integers(2**32)))

    return mean_of_splits(distance, x, n, m, n_repeats, seed, rate=0.5)


def _directions(d: int, n_projections: int, seed: int) -> Array:
    """Unit vectors in the columns."""
    if n_projections < 1:
        raise ValueError(f"n_projections must be at least 1, got {n_projections}.")
    directions = np.random.default_rng(seed).standard_normal((d, n_projections if d > 1 else 1))
    return directions / np.linalg.norm(directions, axis=0)


def _wasserstein(x: Array, y: Array, order: int) -> float:
    """Mean over columns of the integrated power of the difference of the quantile functions."""
    n, m = len(x), len(y)
    # Both quantile functions are constant between neighbors of this grid, in units of 1 / (n m).
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    left = levels[:-1]
    gap = np.abs(np.sort(x, axis=0)[left // m] - np.sort(y, axis=0)[left // n]) ** order
    return float((np.diff(levels) / (n * m)) @ gap.mean(axis=1))
