"""Kernel Stein discrepancy: how far a sample is from a density known by its scores."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import sample, squared_distances
from infer.references.citation import cites
from infer.references.judging import LIU_2016_DISCREPANCY
from infer.references.particles import GORHAM_2017

Array = NDArray[np.float64]


@cites(GORHAM_2017, LIU_2016_DISCREPANCY)
def ksd(
    x: ArrayLike,
    score: ArrayLike,
    scale: ArrayLike | None = None,
    beta: float = -0.5,
    c: float = 1.0,
) -> float:
    r"""Kernel Stein discrepancy of a sample from a density, the root of its V statistic.

    $\frac1n \sqrt{\sum_{ij} k_p(x_i, x_j)}$, pairs of a point with itself included, as
    `ksd_squared` has it. Never negative, and of size $1 / \sqrt n$ for a perfect sample: read it
    beside `ksd_floor`. Cost $O(n^2 d)$, memory $O(n d)$ plus a tile.

    It is blind to the weights of separated modes, does not bound moments, and is made small by
    Stein variational gradient descent whether or not the spread is right.

    Args:
        x: Sample, shape `(n, d)`.
        score: $\nabla \log p$ at `x` on all of the data, same shape.
        scale: Positive numbers, shape `(d,)`, by which the coordinates are divided (and their
            scores multiplied), for instance standard deviations; None leaves them as they are.
        beta: Exponent of the kernel, between -1 and 0.
        c: Its length, in units of the scaled coordinates, positive.

    Returns:
        The discrepancy; NaN if a value is not finite.

    Source: Gorham and Mackey (2017), ICML; Liu, Lee and Jordan (2016), ICML.
    """
    squared = ksd_squared(x, score, scale, beta, c)
    # Rounding can leave a sum of nearly zero a little below it.
    return math.sqrt(max(squared, 0.0)) if not math.isnan(squared) else math.nan


@cites(GORHAM_2017, LIU_2016_DISCREPANCY)
def ksd_squared(
    x: ArrayLike,
    score: ArrayLike,
    scale: ArrayLike | None = None,
    beta: float = -0.5,
    c: float = 1.0,
    *,
    unbiased: bool = False,
) -> float:
    r"""Squared kernel Stein discrepancy, by its V or its U statistic.

    With the inverse multiquadric kernel $R^\beta$, $R = c^2 + r$, $r = |x - x'|^2$,

    $$k_p(x, x') = s \cdot s' R^\beta - 2 \beta R^{\beta - 1} ((s - s') \cdot (x - x') + d)
    - 4 \beta (\beta - 1) R^{\beta - 2} r ,$$

    the V statistic is the mean over all $n^2$ pairs, the U statistic that over the $n (n - 1)$
    pairs of different points: without bias, zero on average for draws of $p$, and often negative.

    Args:
        x: Sample, shape `(n, d)`.
        score: $\nabla \log p$ at `x` on all of the data, same shape.
        scale: Positive numbers, shape `(d,)`, by which the coordinates are divided; None for none.
        beta: Exponent of the kernel, between -1 and 0.
        c: Its length, positive.
        unbiased: Whether to leave out the pairs of a point with itself: the U statistic.

    Returns:
        The statistic, without a root; NaN if a value is not finite.

    Raises:
        ValueError: for arrays of different shapes, a kernel out of range, or one point where the U
            statistic is asked for.

    Source: Gorham and Mackey (2017), ICML; Liu, Lee and Jordan (2016), ICML.
    """
    z, s = sample(x, "x"), sample(score, "score")
    n, d = z.shape
    if s.shape != z.shape:
        raise ValueError(f"x and score must have the same shape, got {z.shape} and {s.shape}.")
    if unbiased and n < 2:
        raise ValueError("The U statistic needs two points or more.")
    _check_kernel(beta, c)
    if not (np.isfinite(z).all() and np.isfinite(s).all()):
        return math.nan
    unit = _unit(scale, d)
    z, s = (z - z.mean(axis=0)) / unit, s * unit
    along = np.sum(s * z, axis=1)
    total = 0.0
    for rows, r in squared_distances(z):
        inverse = 1 / (c**2 + r)
        # (s - s') . (z - z') + d + 2 (beta - 1) r / R
        drift = along[rows, None] + along - s[rows] @ z.T - z[rows] @ s.T + d
        drift += 2 * (beta - 1) * inverse * r
        stein = s[rows] @ s.T - 2 * beta * inverse * drift
        stein *= inverse**-beta
        total += float(stein.sum())
    if not unbiased:
        return total / n**2
    return (total - n * _self(float(np.sum(s**2)) / n, d, beta, c)) / (n * (n - 1))


def ksd_floor(
    covariance: ArrayLike,
    n: int,
    scale: ArrayLike | None = None,
    beta: float = -0.5,
    c: float = 1.0,
) -> float:
    r"""The kernel Stein discrepancy that n independent draws of a Gaussian have by chance.

    For draws of the density itself only the pairs of a point with itself count on average, so the
    root mean square of `ksd` is

    $$\sqrt{E k_p(x, x) / n} = \sqrt{(c^{2 \beta} E |s|^2 - 2 \beta d c^{2 \beta - 2}) / n} ,$$

    here with $E |s|^2 = \mathrm{tr}\, C^{-1}$ of a Gaussian with covariance $C$, that of the fit
    for instance. No simulation, cost $O(d^3)$.

    Args:
        covariance: Covariance matrix, shape `(d, d)`, `np.cov(x.T)` for that of a sample with
            more rows than columns.
        n: Number of draws.
        scale: As for `ksd`.
        beta: As for `ksd`.
        c: As for `ksd`.

    Returns:
        The root mean square; infinite or very large where the covariance is singular.

    Raises:
        ValueError: for a covariance that is no matrix, n < 1, or a kernel out of range.
    """
    covariance = sample(covariance, "covariance")
    d = len(covariance)
    if covariance.shape != (d, d) or n < 1:
        raise ValueError(f"Needs a covariance (d, d) and n >= 1, got {covariance.shape}, {n}.")
    _check_kernel(beta, c)
    unit = _unit(scale, d)
    try:
        fisher = float(np.trace(np.linalg.inv(covariance / np.outer(unit, unit))))
    except np.linalg.LinAlgError:
        return math.inf
    return math.sqrt(_self(fisher, d, beta, c) / n)


def _self(square: float, d: int, beta: float, c: float) -> float:
    """The mean of k_p(x, x) over points whose scores have this mean squared norm."""
    return c ** (2 * beta) * square - 2 * beta * d * c ** (2 * beta - 2)


def _check_kernel(beta: float, c: float) -> None:
    if not (-1 < beta < 0 and c > 0):
        raise ValueError(f"The kernel needs -1 < beta < 0 and c > 0, got {beta} and {c}.")


def _unit(scale: ArrayLike | None, d: int) -> Array:
    unit = np.ones(d) if scale is None else np.asarray(scale, dtype=np.float64)
    if unit.shape != (d,) or not (unit > 0).all():
        raise ValueError(f"scale must hold {d} positive numbers, got shape {unit.shape}.")
    return unit
