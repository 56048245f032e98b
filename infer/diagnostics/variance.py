"""Has a sample the right spread? Its variances over those of a reference."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import sample

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class VarianceRatio:
    """One number per coordinate and one per principal direction of the reference.

    Attributes:
        coordinates: Of the coordinates, shape `(d,)`.
        directions: Along the eigenvectors of the reference's covariance, the narrowest first,
            shape `(d,)`.
    """

    coordinates: Array
    directions: Array


def variance_ratio(x: ArrayLike, reference: ArrayLike) -> VarianceRatio:
    r"""Variances of a sample over those of a reference: 1 is right, below 1 too narrow.

    $\mathrm{var}\,x_i / \mathrm{var}\,y_i$, and the same of $w^\top x$ for the eigenvectors $w$ of
    the reference's covariance, all with the divisor $n - 1$. A sample that has collapsed along a
    diagonal shows it in the directions only. The noise for an ideal sample of the same size is
    `variance_ratio_floor`. Cost $O((n + m) d^2 + d^3)$.

    Args:
        x: Sample, shape `(n, d)`, two rows or more.
        reference: A sample, shape `(m, d)`, best of far more rows than d; or the variances of
            uncorrelated coordinates, shape `(d,)`.

    Returns:
        The ratios of variances, not of standard deviations.

    Raises:
        ValueError: for fewer than two rows, or rows of another length.
    """
    x, r = sample(x, "x"), _look(reference)
    if len(x) < 2 or x.shape[1] != len(r.variances):
        raise ValueError(f"x must have shape (n, {len(r.variances)}) with n >= 2, got {x.shape}.")
    with np.errstate(all="ignore"):
        coordinates = x.var(axis=0, ddof=1) / r.variances
        return VarianceRatio(coordinates, (x @ r.axes).var(axis=0, ddof=1) / r.spread)


def variance_ratio_floor(reference: ArrayLike, n: int) -> VarianceRatio:
    r"""Standard errors of `variance_ratio` for n ideal draws: how far from 1 is chance.

    $\sqrt{(\kappa - 3) / n + 2 / (n - 1)}$ with the kurtosis $\kappa$ of the reference, 3 where
    only variances are given. The noise of a reference of m rows, the same with m in the place of
    n, is added in squares. Interacting particles that are right vary less.

    Args:
        reference: As for `variance_ratio`.
        n: Number of draws, 2 or more.

    Returns:
        One standard error per ratio.

    Raises:
        ValueError: for n < 2.
    """
    if n < 2:
        raise ValueError(f"n must be at least 2, got {n}.")
    r = _look(reference)
    if r.points is None:
        same = np.full(len(r.variances), math.sqrt(2 / (n - 1)))
        return VarianceRatio(same, same)

    def error(y: Array) -> Array:
        with np.errstate(all="ignore"):
            excess = np.mean(y**4, axis=0) / np.mean(y**2, axis=0) ** 2 - 3
        return np.sqrt(excess * (1 / n + 1 / len(y)) + 2 / (n - 1) + 2 / (len(y) - 1))

    return VarianceRatio(error(r.points), error(r.points @ r.axes))


class _Reference(NamedTuple):
    """A centered sample, if there is one; variances of coordinates and along principal axes."""

    points: Array | None
    variances: Array
    spread: Array
    axes: Array


def _look(reference: ArrayLike) -> _Reference:
    given = np.asarray(reference, dtype=np.float64)
    if given.ndim == 1 and given.size and (given > 0).all():
        order = np.argsort(given)
        return _Reference(None, given, given[order], np.eye(len(given))[:, order])
    if given.ndim == 2 and given.size and len(given) >= 2 and np.isfinite(given).all():
        spread, axes = np.linalg.eigh(np.atleast_2d(np.cov(given.T)))
        return _Reference(given - given.mean(axis=0), given.var(axis=0, ddof=1), spread, axes)
    raise ValueError(
        "reference must be a finite sample (m, d) with m >= 2, or d positive variances, got shape "
        f"{given.shape}."
    )
