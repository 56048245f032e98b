"""Errors of a fit's mean and scale, predicted from the scores at its draws."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.chains import ess_mean
from infer.diagnostics.pareto import pareto_k
from infer.references.citation import cites
from infer.references.gaussian import CAI_2024
from infer.references.judging import GORHAM_2015

Array = NDArray[np.float64]

MEAN_UNIT = 0.3
"""A mean this many standard deviations off counts as wrong: one label unit."""

SD_UNIT = math.log(1.3)
"""A standard deviation wrong by this much on the log scale counts as wrong: one label unit."""

_CORRELATION_FLOOR = 1e-10
_EIGENVALUE_FLOOR = 1e-3
_CLEARLY_SMALL = 0.35
_LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class ScoreRegression:
    """What the scores say about the mean and scale of a fit; made by `score_regression`.

    Attributes:
        shift: Predicted posterior mean minus the mean of the draws, in predicted posterior standard
            deviations, shape `(d,)`.
        log_sd: Log of predicted posterior standard deviation over that of the draws, shape `(d,)`.
        shift_error: Standard errors of `shift`, shape `(d,)`.
        log_sd_error: Standard errors of `log_sd`, shape `(d,)`.
        lo: Lower bound (two standard errors) on the largest error in label units, where 1 is a
            shift of 0.3 or a ratio of standard deviations of 1.3. Above 1 the fit is wrong.
        hi: Upper bound on it. Only a small `hi` speaks for the fit.
        smallest_eigenvalue: Smallest eigenvalue of the regression matrix, 1 at the posterior.
        smallest_eigenvalue_error: Its standard error.
        positive: Whether the matrix is positive definite; if not, `hi` is infinite.
        tail: Pareto shape of the whitened score norms. Above 0.5 the scores have no usable variance
            and none of the above can be relied on; NaN with 20 draws or fewer.
        n: Number of draws.
        divergence: Mean of $|t + z|^2$, the squared difference between the whitened scores and
            those of the Gaussian with the moments of the draws; NaN without a regression.
        worst: Coordinate and kind, `"mean"` or `"sd"`, with the largest upper bound.
    """

    shift: Array
    log_sd: Array
    shift_error: Array
    log_sd_error: Array
    lo: float
    hi: float
    smallest_eigenvalue: float
    smallest_eigenvalue_error: float
    positive: bool
    tail: float
    n: int
    divergence: float
    worst: tuple[int, str]


@cites(CAI_2024, GORHAM_2015)
def score_regression(
    x: ArrayLike, score: ArrayLike, *, independent: bool = False
) -> ScoreRegression:
    r"""Predicts the error of a fit's mean and standard deviations from the scores at its draws.

    With the draws' mean $m$ and covariance $S = L L^\top$, $z = L^{-1}(x - m)$ and
    $t = L^\top \nabla \log p(x)$, the posterior has $u = \overline{t} = 0$ and
    $A = -\mathrm{sym}\,\overline{z t^\top} = I$ whatever its shape. Regressing $t$ on $z$ gives the
    predicted shift $L A^{-1} u$ and covariance $C = L A^{-1} L^\top$: one Newton step, read as an
    error. Standard errors come from the residual $r = t - u + A z$ and are zero for a Gaussian.
    Eigenvalues of $A$ up to 1e-3 are clipped there; then `hi` is infinite, and `lo` is too if the
    smallest one is below 0.35 by three standard errors, otherwise zero. Cost $O(n d^2 + d^3)$.

    A constant coordinate is left out of the regression; its `log_sd` is infinite, its `shift` NaN,
    and both bounds are infinite. If a draw or score is not finite (or above 1e100), nothing can be
    said: estimates are NaN, `lo` is 0, `hi` and `tail` are infinite.

    Args:
        x: Draws of the fit, shape `(chains, draws, d)`; independent draws are `(1, n, d)`.
        score: $\nabla \log p$ at the draws, same shape. Scores must not come from the draws that
            the fit was optimized on.
        independent: Whether the draws are independent or particles, so that all `n` count.
            Otherwise the effective number is estimated for each averaged series by `ess_mean`, and
            is the number of chains where these are shorter than four draws.

    Returns:
        The predicted errors, their standard errors and bounds, as a `ScoreRegression`.

    Raises:
        ValueError: If shapes differ or there are fewer than `d + 3` draws.

    Source: Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei and Saul (2024), ICML (batch and
    match, whose update this is); Gorham and Mackey (2015), NeurIPS (Stein identities as
    diagnostics).
    """
    x = np.asarray(x, dtype=np.float64)
    score = np.asarray(score, dtype=np.float64)
    if x.ndim != 3 or x.shape != score.shape:
        raise ValueError(
            f"x and score must both have shape (chains, draws, d), got {x.shape} and {score.shape}."
        )
    chains, draws, d = x.shape
    n = chains * draws
    if d < 1 or n < d + 3:
        raise ValueError(f"Needs d >= 1 and at least d + 3 = {d + 3} draws, got {n}; draw more.")
    x, score = x.reshape(n, d), score.reshape(n, d)
    if not ((np.abs(x) < _LARGEST).all() and (np.abs(score) < _LARGEST).all()):
        return _without_regression(math.nan, 0.0, n, d)
    moving = (x != x[0]).any(axis=0) & (x.std(axis=0) > 1 / _LARGEST)
    if not moving.any():
        return _without_regression(math.inf, math.inf, n, d)

    with np.errstate(all="ignore"):
        scale, z = whiten(x[:, moving])
        t = score[:, moving] @ scale
        u = t.mean(axis=0)
        a = -(z.T @ t) / n
        a = (a + a.T) / 2
        eigenvalues, vectors = np.linalg.eigh(a)
        residual = t - u + z @ a
        newton = scale @ (vectors / np.maximum(eigenvalues, _EIGENVALUE_FLOOR)) @ vectors.T
        sd = np.sqrt(np.sum(newton * scale, axis=1))
        shift, log_sd, shift_error, log_sd_error = np.full((4, d), np.nan)
        shift[moving] = newton @ u / sd
        log_sd[moving] = np.log(sd / x[:, moving].std(axis=0))
        step = residual @ newton.T / sd
        series = [
            step,
            step * (z @ newton.T) / (2 * sd),
            (z @ vectors[:, :1]) * (residual @ vectors[:, :1]),
        ]
        errors = _standard_error(np.concatenate(series, axis=1), chains, independent)
        shift_error[moving], log_sd_error[moving] = errors[:-1].reshape(2, -1)
        tail = pareto_k(np.linalg.norm(t, axis=1))
        divergence = float(np.mean(np.sum((t + z) ** 2, axis=1)))

    unit = np.array([[MEAN_UNIT], [SD_UNIT]])
    size, error = np.abs([shift, log_sd]) / unit, np.array([shift_error, log_sd_error]) / unit
    # An error that cannot be estimated (NaN) is infinite from above and zero from below.
    upper = np.where(np.isnan(size + error), np.inf, size + 2 * error)
    lower = np.where(np.isnan(size + error), 0.0, size - 2 * error)
    upper[0, ~moving], log_sd[~moving] = 0.0, np.inf
    lo, hi = max(0.0, float(lower.max())), float(upper.max())
    smallest, smallest_error = float(eigenvalues[0]), float(errors[-1])
    positive = smallest > _EIGENVALUE_FLOOR
    if not positive:
        lo, hi = math.inf if smallest + 3 * smallest_error < _CLEARLY_SMALL else 0.0, math.inf
    if not moving.all():
        lo = math.inf
    kind, coordinate = np.unravel_index(np.argmax(upper), upper.shape)
    return ScoreRegression(
        shift=shift,
        log_sd=log_sd,
        shift_error=shift_error,
        log_sd_error=log_sd_error,
        lo=lo,
        hi=hi,
        smallest_eigenvalue=smallest,
        smallest_eigenvalue_error=smallest_error,
        positive=positive,
        tail=tail,
        n=n,
        divergence=divergence,
        worst=(int(coordinate), ("mean", "sd")[kind]),
    )


def _without_regression(log_sd: float, lo: float, n: int, d: int) -> ScoreRegression:
    """The answer where no coordinate can be regressed: nothing known but `log_sd` and `lo`."""
    unknown = np.full(d, np.nan)
    return ScoreRegression(
        shift=unknown,
        log_sd=np.full(d, log_sd),
        shift_error=unknown,
        log_sd_error=unknown,
        lo=lo,
        hi=math.inf,
        smallest_eigenvalue=math.nan,
        smallest_eigenvalue_error=math.nan,
        positive=False,
        tail=math.inf,
        n=n,
        divergence=math.nan,
        worst=(0, "sd"),
    )


def whiten(x: Array) -> tuple[Array, Array]:
    """A factor of the covariance, and the draws whitened by it.

    The factor comes from the correlation matrix, with eigenvalues floored, so that it does not
    depend on units.
    """
    deviation = x - x.mean(axis=0)
    sd = np.sqrt(np.mean(deviation**2, axis=0))
    unit = deviation / sd
    eigenvalues, vectors = np.linalg.eigh(unit.T @ unit / len(x))
    root = np.sqrt(np.maximum(eigenvalues, _CORRELATION_FLOOR))
    return sd[:, None] * vectors * root, unit @ vectors / root


def _standard_error(series: Array, chains: int, independent: bool) -> Array:
    """Standard errors of the means of the columns of `series`, shape `(chains * draws, k)`."""
    n, k = series.shape
    size = np.full(k, float(n))
    if not independent:
        size = ess_mean(series.reshape(chains, n // chains, k))
        size = np.where(np.isnan(size), float(chains), size)
    return series.std(axis=0) / np.sqrt(size)
