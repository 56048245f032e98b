"""Errors of a fit's mean and scale, read from importance-weighted moments of its draws."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.coordinates import bonferroni
from infer.diagnostics.pareto import psis
from infer.diagnostics.score import MEAN_UNIT, SD_UNIT
from infer.references.citation import cites
from infer.references.judging import VEHTARI_2024

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightedMoments:
    """What the weights say about the mean and scale of a fit; made by `weighted_moments`.

    Attributes:
        shift: Weighted mean minus that of the draws, in weighted standard deviations, shape `(d,)`.
        log_sd: Log of weighted standard deviation over that of the draws, shape `(d,)`.
        shift_error: Standard errors of `shift`, shape `(d,)`.
        log_sd_error: Standard errors of `log_sd`, shape `(d,)`.
        lo: Lower bound on the largest error in label units, where 1 is a shift of 0.3 or a ratio of
            standard deviations of 1.3: so many standard errors below it as chance among all
            coordinates asks for (`bonferroni`).
        hi: Upper bound on it, as many above.
        worst: Coordinate and kind, `"mean"` or `"sd"`, of the largest lower bound.
    """

    shift: Array
    log_sd: Array
    shift_error: Array
    log_sd_error: Array
    lo: float
    hi: float
    worst: tuple[int, str]


@cites(VEHTARI_2024)
def weighted_moments(x: ArrayLike, log_weights: ArrayLike) -> WeightedMoments:
    r"""Predicts the error of a fit's mean and standard deviations from importance weights.

    With the smoothed weights $w_i$ of `psis`, which sum to one, each coordinate has

    $$\mu = \sum_i w_i x_i, \qquad \sigma^2 = \sum_i w_i (x_i - \mu)^2,$$

    and those of the draws have $1/n$ in the place of $w_i$. Their difference is an average over the
    draws, to first order, of $\psi_i = n w_i (x_i - \mu) - (x_i - m)$ for the mean and
    $\psi_i = n w_i ((x_i - \mu)^2 / \sigma^2 - 1) - ((x_i - m)^2 / s^2 - 1)$ for twice the log
    standard deviation, which gives the standard errors. All is zero where the weights are equal.

    It sees what a divergence cannot: a posterior of many coordinates of which one is wrong has a
    small divergence per coordinate. It sees no mass that no draw has come near, and understates the
    error where `pareto_khat` is above 0.7. Cost $O(n d)$.

    Args:
        x: Independent draws of the fit, shape `(n, d)`.
        log_weights: $\log p - \log q$ there, finite, shape `(n,)`; constants cancel.

    Returns:
        The errors with their standard errors and bounds, as `WeightedMoments`; a coordinate whose
            draws are all equal has none.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72), for the weights.
    """
    x = np.asarray(x, np.float64)
    n, d = x.shape
    moving = (x != x[0]).any(axis=0)
    z = np.where(moving, (x - x.mean(axis=0)) / np.where(moving, x.std(axis=0), 1.0), 0.0)
    log_w, _ = psis(log_weights)
    w = np.exp(log_w)[:, None]
    mean = np.sum(w * z, axis=0)
    variance = np.sum(w * (z - mean) ** 2, axis=0)
    variance = np.where(moving, variance, 1.0)
    sd = np.sqrt(variance)
    by_mean = w * (z - mean) - z / n
    by_variance = np.where(moving, w * ((z - mean) ** 2 / variance - 1) - (z**2 - 1) / n, 0.0)
    shift, log_sd = mean / sd, np.log(variance) / 2
    shift_error = np.sqrt(np.sum(by_mean**2, axis=0)) / sd
    log_sd_error = np.sqrt(np.sum(by_variance**2, axis=0)) / 2
    unit = np.array([[MEAN_UNIT], [SD_UNIT]])
    size = np.abs([shift, log_sd]) / unit
    margin = bonferroni(d) * np.array([shift_error, log_sd_error]) / unit
    kind, index = np.unravel_index(np.argmax(size - margin), size.shape)
    return WeightedMoments(
        shift=shift,
        log_sd=log_sd,
        shift_error=shift_error,
        log_sd_error=log_sd_error,
        lo=max(0.0, float(np.max(size - margin))),
        hi=float(np.max(size + margin)),
        worst=(int(index), ("mean", "sd")[kind]),
    )
