"""Maximum mean discrepancy between two samples, and its value for ideal samples."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import mean_of_splits, squared_distances, two_samples
from infer.references.citation import cites
from infer.references.judging import GRETTON_2012

Array = NDArray[np.float64]

MULTIPLES = (0.25, 0.5, 1.0, 2.0)  # of the spread, where no bandwidths are given


@cites(GRETTON_2012)
def mmd(x: ArrayLike, y: ArrayLike, bandwidths: ArrayLike | float | None = None) -> float:
    r"""Maximum mean discrepancy between two samples, the root of its V statistic.

    The distance of the two mean embeddings, `mmd_squared` without `unbiased`, rooted: never
    negative, of size $1 / \sqrt n$ for samples of one distribution (see `mmd_floor`).

    Args:
        x: First sample, shape `(n, d)`.
        y: Second sample, shape `(m, d)`.
        bandwidths: As for `mmd_squared`.

    Returns:
        The discrepancy; zero for equal samples, at most the root of 2, NaN if a value is not
            finite.

    Source: Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), JMLR 13(25).
    """
    squared = mmd_squared(x, y, bandwidths)
    # Rounding can leave a difference of nearly zero a little below it.
    return math.sqrt(max(squared, 0.0)) if not math.isnan(squared) else math.nan


@cites(GRETTON_2012)
def mmd_squared(
    x: ArrayLike,
    y: ArrayLike,
    bandwidths: ArrayLike | float | None = None,
    *,
    unbiased: bool = False,
) -> float:
    r"""Squared maximum mean discrepancy between two samples, by its V or its U statistic.

    $E k(X, X') + E k(Y, Y') - 2 E k(X, Y)$ with the mean of Gaussian kernels
    $\exp(-|x - y|^2 / 2 h^2)$ over bandwidths $h$. The V statistic averages over all pairs; the U
    statistic leaves out those of a point with itself: without bias, zero on average for samples of
    one distribution, and often negative. Cost $O((n + m)^2 (d + k))$ for k bandwidths, memory
    linear in n and m.

    Args:
        x: First sample, shape `(n, d)`.
        y: Second sample, shape `(m, d)`.
        bandwidths: One length or several, in the unit of the coordinates. None takes 1/4, 1/2, 1
            and 2 times the spread $\sqrt{\sum_i (\mathrm{var}\,x_i + \mathrm{var}\,y_i) / 2}$; give
            them where values of several pairs of samples are to be compared.
        unbiased: Whether to leave out the pairs of a point with itself: the U statistic.

    Returns:
        The statistic, without a root; NaN if a value is not finite.

    Raises:
        ValueError: for bandwidths that are not positive, or one point where the U statistic is
            asked for.

    Source: Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), JMLR 13(25).
    """
    x, y = two_samples(x, y)
    if unbiased and min(len(x), len(y)) < 2:
        raise ValueError("The U statistic needs two points or more in each sample.")
    if bandwidths is not None and not np.all(np.asarray(bandwidths) > 0):
        raise ValueError(f"bandwidths must be positive, got {bandwidths}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    if bandwidths is None:
        spread = math.sqrt(float(np.sum(x.var(axis=0) + y.var(axis=0))) / 2)
        bandwidths = np.array(MULTIPLES) * (spread if spread > 0 else 1.0)
    h = np.atleast_1d(np.asarray(bandwidths, dtype=np.float64))
    between = _kernel_sum(x, h, y) / (len(x) * len(y))
    return _within(x, h, unbiased) + _within(y, h, unbiased) - 2 * between


def mmd_floor(
    x: ArrayLike,
    n: int,
    m: int | None = None,
    bandwidths: ArrayLike | float | None = None,
    n_repeats: int = 10,
    seed: int = 0,
) -> float:
    r"""The maximum mean discrepancy `mmd` that sampling noise alone gives.

    The mean over random pairs of disjoint subsets of `x` with `n` and `m` rows: what two ideal
    samples of these sizes would show. Where `x` has only $N < n + m$ rows, both subsets are
    smaller by the factor $N / (n + m)$ and the result is multiplied by its root. (The U statistic
    needs no such value: it is zero on average.)

    Args:
        x: Reference sample, shape `(N, d)`, ideally with `N >= n + m`.
        n: Size of the first sample.
        m: Size of the second sample, by default `n`.
        bandwidths: As for `mmd_squared`.
        n_repeats: Number of pairs averaged.
        seed: Seed of the subsets.

    Returns:
        The mean discrepancy; NaN if a value is not finite.
    """
    return mean_of_splits(lambda x, y, _: mmd(x, y, bandwidths), x, n, m, n_repeats, seed, rate=0.5)


def _within(x: Array, h: Array, unbiased: bool) -> float:
    n = len(x)
    total = _kernel_sum(x, h)
    return (total - n) / (n * (n - 1)) if unbiased else total / n**2


def _kernel_sum(x: Array, h: Array, y: Array | None = None) -> float:
    """The sum over all pairs of the mean of the kernels."""
    return sum(
        float(np.exp(r * (-0.5 / width**2)).sum())
        for _, r in squared_distances(x, y)
        for width in h
    ) / len(h)
