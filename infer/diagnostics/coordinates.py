"""Errors of a fit's means and scales in thousands of coordinates, at a cost linear in them."""

import dataclasses
import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pareto import pareto_k
from infer.diagnostics.score import MEAN_UNIT, SD_UNIT, _standard_error

Array = NDArray[np.float64]

MOMENTS = ("z", "zz", "zzz", "zzzz", "g", "gz", "gzz", "gzzz", "gg", "ggzz")
"""The products of z and g that `regress_moments` needs, averaged over draws."""

COLUMNS = 256  # coordinates worked on at once
_FLOOR = 1e-3
_CLEARLY_SMALL = 0.35


@dataclasses.dataclass(frozen=True, eq=False)
class CoordinateRegression:
    """What the scores say coordinate by coordinate.

    Attributes:
        shift: Predicted posterior mean minus that of the fit, in posterior standard deviations.
        log_sd: Log of predicted posterior standard deviation over that of the fit.
        shift_error: Standard errors of `shift`.
        log_sd_error: Standard errors of `log_sd`.
        unexplained: Variance of what the coordinate itself does not explain of g, 0 at the
            posterior: other dependence on the other coordinates than the fit has, or another shape.
        lo: Lower bound on the largest error in label units, by the errors of single numbers
            multiplied by `bonferroni`. Above 1 the fit is wrong.
        hi: Upper bound on it, two standard errors, what `unexplained` could hide included.
        smallest: Smallest curvature of a coordinate or along a direction, 1 at the posterior.
        positive: Whether all of them are positive; if not, `hi` is infinite.
        tail: Pareto shape of the norms of the scores, each coordinate in its own unit.
        n: Number of draws.
        worst: Coordinate and kind, `"mean"`, `"sd"` or `"dependence"`, of the largest upper bound.
    """

    shift: Array
    log_sd: Array
    shift_error: Array
    log_sd_error: Array
    unexplained: Array
    lo: float
    hi: float
    smallest: float
    positive: bool
    tail: float
    n: int
    worst: tuple[int, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    r"""Draws seen along k directions $w_j$ with $W^\top \Sigma W = I$.

    Attributes:
        loadings: $\Sigma W$ over the standard deviations of the fit, row by row, `(d, k)`.
        z: $W^\top (x - m)$ of the draws, `(n, k)`.
        g: $W^\top \Sigma (s - r)$ of the same draws, `(n, k)`.
    """

    loadings: Array
    z: Array
    g: Array


def bonferroni(d: int) -> float:
    """Standard errors that one of 2 d normal numbers exceeds as rarely as a single one exceeds 2.

    4.2 for d = 1000, 5.2 for d = 100,000.
    """
    return -NormalDist().inv_cdf(NormalDist().cdf(-2.0) / (2 * d))


def regress_moments(
    moments: Array, n: int, norms: ArrayLike, directions: Directions | None = None
) -> CoordinateRegression:
    r"""Predicts the errors of a fit q of known score from moments per coordinate.

    With the score $s = \nabla \log p$ and $r = \nabla \log q$ at draws of $q$, whose mean is $m$
    and covariance $\Sigma$ with diagonal $\sigma^2$, let

    $$z_i = (x_i - m_i) / \sigma_i, \qquad g_i = (\Sigma (s - r))_i / \sigma_i .$$

    $g = 0$ at the posterior, draw by draw, whatever its shape. Regressing $g_i$ on $z_i$ alone,
    $g_i = u_i + (1 - a_i) z_i + \rho_i$, gives to first order in the error of $q$ the posterior's
    mean, $u_i / \sqrt{a_i}$, and the logarithm of its standard deviation, $-\tfrac12 \log a_i$.
    For a Gaussian posterior of precision $H = L^{-\top} A L^{-1}$, $\Sigma = L L^\top$, and the
    unit vector $e = L^\top e_i / \sigma_i$, these are $a_i = e^\top A e$ and $\mathrm{var} \rho_i =
    |A e|^2 - a_i^2$, the first two Lanczos coefficients of the wanted variance

    $$e^\top A^{-1} e = 1 / (a_i - \mathrm{var} \rho_i / \alpha), \qquad \alpha \approx 1 ,$$

    so $\mathrm{var} \rho_i$ shows a spread that was missed with the dependence between coordinates:
    the best mean-field fit has every $a_i = 1$. It grows with a wrong shape as well, hence it
    speaks against a fit (`hi`) but proves nothing (`lo`).

    A dependence spread thinly over many coordinates, a common factor, has a small
    $\mathrm{var} \rho_i$ in each. It is seen along `directions`, in which the whole regression is
    made: with $A_W = W^\top \Sigma H \Sigma W$ and $u_W$ there, the changes

    $$\Sigma W (A_W^{-1} - I) u_W , \qquad \mathrm{diag}\, \Sigma W (A_W^{-1} - I) W^\top \Sigma$$

    of mean and variance are read off coordinate by coordinate. Cost $O(d k^2)$ beside that of the
    moments.

    Args:
        moments: Averages over the draws in the order of `MOMENTS`, `(10, d)`.
        n: Number of draws, all independent.
        norms: Norm of the score of each draw, `(n,)`.
        directions: What was seen along some directions, chosen from other draws.
    """
    z, zz, zzz, zzzz, g, gz, gzz, gzzz, gg, ggzz = moments
    with np.errstate(all="ignore"):
        spread = zz - z**2
        b = (gz - g * z) / spread
        u = g - b * z
        rest = np.maximum(gg - g**2 - b**2 * spread, 0)
        # The average of (rho z)^2, for a standard error that asks for no equal variances.
        square = ggzz + u**2 * zz + b**2 * zzzz - 2 * u * gzz - 2 * b * gzzz + 2 * u * b * zzz
        a, a_error = 1 - b, np.sqrt(np.maximum(square, 0) / n) / spread
        u_error = np.sqrt(rest / n)
        tail = pareto_k(norms)
        return _read(a, a_error, u, u_error, rest, np.sqrt(a), n, tail, directions, hidden=True)


def coordinate_regression(
    x: ArrayLike, score: ArrayLike, *, independent: bool = False
) -> CoordinateRegression:
    r"""The same from draws alone, without a density of the fit: chains and particles.

    The place of the unknown score $r_i$ takes $-(x_i - m_i) / \sigma_i^2$ with the draws' own mean
    and standard deviations. $E[s_i] = 0$ and $-E[(x_i - m_i) s_i] = 1$ hold at every posterior,
    however correlated, so $u_i$ and $a_i$ are measured as before. But $\rho_i$ now holds the true
    dependence between coordinates: it is noise, in the standard errors and not in `hi`, and the
    shift is given in units of $\sigma_i / \sqrt{a_i + \mathrm{var} \rho_i}$, the spread of a
    coordinate given the others. Cost $O(n d \log n)$, in blocks of coordinates.

    Args:
        x: Draws, `(chains, draws, d)`.
        score: $\nabla \log p$ there.
        independent: Whether all draws count; otherwise the effective number is estimated.
    """
    x, score = np.asarray(x), np.asarray(score)
    chains, draws, d = x.shape
    n = chains * draws
    x, score = x.reshape(n, d), score.reshape(n, d)
    norms, parts = np.zeros(n), []
    with np.errstate(all="ignore"):
        for i in range(0, d, COLUMNS):
            z = x[:, i : i + COLUMNS].astype(np.float64)
            sd = z.std(axis=0)
            z = (z - z.mean(axis=0)) / sd
            t = score[:, i : i + COLUMNS] * sd
            norms += np.sum(t**2, axis=1)
            a, u = -np.mean(z * t, axis=0), t.mean(axis=0)
            residual = t - u + a * z
            series = np.concatenate([residual, residual * z], axis=1)
            u_error, a_error = _standard_error(series, chains, independent).reshape(2, -1)
            parts.append((a, a_error, u, u_error, residual.var(axis=0)))
        a, a_error, u, u_error, rest = (np.concatenate(p) for p in zip(*parts, strict=True))
        tail = pareto_k(np.sqrt(norms))
        unit = np.sqrt(np.maximum(a, 0) + rest)
        return _read(a, a_error, u, u_error, rest, unit, n, tail, None, hidden=False)


def _read(
    a: Array,
    a_error: Array,
    u: Array,
    u_error: Array,
    rest: Array,
    unit: Array,
    n: int,
    tail: float,
    directions: Directions | None,
    *,
    hidden: bool,
) -> CoordinateRegression:
    """Errors and bounds; `hidden`: does the rest count against the fit?"""
    factor, floored = bonferroni(len(a)), np.maximum(a, _FLOOR)
    smallest = float(np.min(a))
    positive = smallest > _FLOOR
    shift, shift_error = u / unit, u_error / unit
    log_sd, log_sd_error = -0.5 * np.log(floored), a_error / (2 * floored)
    # With its dependence the standard deviation lies between these two.
    left = a - rest if hidden else a
    other = np.where(left > _FLOOR, -0.5 * np.log(np.maximum(left, _FLOOR)), np.inf)
    mean = np.abs(shift) / MEAN_UNIT
    least = np.where(log_sd < 0, np.minimum(np.abs(log_sd), -other), log_sd) / SD_UNIT
    own, most = np.abs(log_sd) / SD_UNIT, np.maximum(np.abs(log_sd), other) / SD_UNIT
    mean_error, sd_error = shift_error / MEAN_UNIT, log_sd_error / SD_UNIT
    upper = [mean + 2 * mean_error, own + 2 * sd_error, most + 2 * sd_error]
    lower = [mean - factor * mean_error, least - factor * sd_error]
    if directions is not None and positive:
        seen = _along(directions)
        positive, smallest = seen.curvature > _FLOOR, min(smallest, seen.curvature)
        variance = np.maximum(1 + seen.change, _FLOOR)
        both = (u + seen.shift) / np.sqrt(variance)
        both_error = np.hypot(u_error, seen.shift_error) / np.sqrt(variance)
        ratio, ratio_error = 0.5 * np.log(variance), seen.change_error / (2 * variance)
        upper += [(np.abs(both) + 2 * both_error) / MEAN_UNIT]
        upper += [(np.abs(ratio) + 2 * ratio_error) / SD_UNIT]
        # Two predictions of one mean: wrong for certain is what both say. A spread along the
        # directions that is missing in the fit is certain, one that is too large is not.
        lower[0] = np.minimum(lower[0], (np.abs(both) - factor * both_error) / MEAN_UNIT)
        least = 0.5 * np.log(np.maximum(1 + seen.least, 1.0))
        lower += [(least - factor * ratio_error) / SD_UNIT]
        # Reported is the larger of the two.
        larger = np.abs(both) > np.abs(shift)
        shift = np.where(larger, both, shift)
        shift_error = np.where(larger, both_error, shift_error)
        larger = np.abs(ratio) > np.abs(log_sd)
        log_sd = np.where(larger, ratio, log_sd)
        log_sd_error = np.where(larger, ratio_error, log_sd_error)
    # An error that cannot be estimated (NaN) is infinite from above and zero from below.
    upper, lower = np.nan_to_num(upper, nan=np.inf, posinf=np.inf), np.nan_to_num(lower, nan=0.0)
    lo, hi = max(0.0, float(lower.max())), float(upper.max())
    if not positive:
        hi = math.inf
    if np.any(a <= _FLOOR):
        clearly = np.any((a <= _FLOOR) & (a + factor * a_error < _CLEARLY_SMALL))
        lo = math.inf if clearly else 0.0
    kind, coordinate = np.unravel_index(np.argmax(upper), upper.shape)
    return CoordinateRegression(
        shift=shift,
        log_sd=log_sd,
        shift_error=shift_error,
        log_sd_error=log_sd_error,
        unexplained=rest,
        lo=lo,
        hi=hi,
        smallest=smallest,
        positive=positive,
        tail=tail,
        n=n,
        worst=(int(coordinate), ("mean", "sd", "dependence", "mean", "sd")[kind]),
    )


class _Along(NamedTuple):
    """What the directions add, per coordinate and in units of the fit.

    Attributes:
        shift: change of the mean beside the first-order one.
        shift_error: its standard error.
        change: change of the variance.
        change_error: its standard error.
        least: the change that is left if the curvatures are as large as their noise allows.
        curvature: the smallest curvature along a direction.
    """

    shift: Array
    shift_error: Array
    change: Array
    change_error: Array
    least: Array
    curvature: float


def _along(directions: Directions) -> _Along:
    """The regression along the directions; curvatures are clipped from below.

    The slopes of k regressions on k numbers with residuals of covariance R are noise of spectral
    norm up to about 2 sqrt(|R| k / n).
    """
    z, g, n = directions.z, directions.g, len(directions.z)
    k, loadings = z.shape[1], directions.loadings
    center = z - z.mean(axis=0)
    # Least squares, so that a Gaussian posterior of that very subspace leaves no noise.
    slope = np.linalg.solve(center.T @ center / n, center.T @ (g - g.mean(axis=0)) / n)
    u = g.mean(axis=0) - z.mean(axis=0) @ slope
    residual = g - u - z @ slope
    covariance = residual.T @ residual / n
    values, vectors = np.linalg.eigh(np.eye(k) - (slope + slope.T) / 2)
    clipped = np.maximum(values, _FLOOR)
    inverse = (vectors / clipped) @ vectors.T
    newton = loadings @ inverse
    noise = np.maximum(np.einsum("ij,ij->i", newton @ covariance, newton), 0) / n
    change = np.einsum("ij,ij->i", newton - loadings, loadings)
    slack = 2 * math.sqrt(max(np.linalg.eigvalsh(covariance)[-1], 0) * k / n)
    turned = (loadings @ vectors) ** 2
    return _Along(
        shift=newton @ u - loadings @ u,
        shift_error=np.sqrt(noise),
        change=change,
        change_error=np.sqrt(noise * np.einsum("ij,ij->i", newton, newton)),
        least=turned @ (1 / (clipped + slack) - 1),
        curvature=float(values[0]),
    )
