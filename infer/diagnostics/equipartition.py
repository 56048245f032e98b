"""The identity mean_i E[-x_i d_i log p] = 1 at the draws of a fit, with its Monte Carlo error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.chains import ess_mean
from infer.references.citation import cites
from infer.references.judging import ROBNIK_2023_ENERGY, STEIN_1981

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Equipartition:
    """What `equipartition` found.

    Attributes:
        mean: mean over coordinates, 1 at the posterior.
        mean_error: its standard error.
        values: per coordinate, shape `(d,)`.
        errors: their standard errors.
    """

    mean: float
    mean_error: float
    values: Array
    errors: Array


@cites(STEIN_1981, ROBNIK_2023_ENERGY)
def equipartition(x: ArrayLike, score: ArrayLike, *, independent: bool = False) -> Equipartition:
    r"""Estimates $E[-(x_i - m_i)\, \partial_i \log p(x)]$, which is 1 at the posterior, any $m$.

    Of draws that are distributed otherwise it tells the bias: where the posterior is Gaussian, a
    coordinate whose variance is too large by a factor has that factor here. This sees the bias of
    samplers without an acceptance test, to which R-hat and effective sample sizes are blind. It
    holds for densities on all of $R^d$ whose tails fall faster than $1 / |x|$; it cannot see modes
    that were missed.

    Args:
        x: Draws, shape `(chains, draws, d)`; m is their mean.
        score: Gradients of the log density there, same shape.
        independent: Whether all draws count; otherwise their effective number is estimated by
            `ess_mean`, and is the number of chains where these are shorter than four draws.

    Returns:
        Values with standard errors, as an `Equipartition`.

    Raises:
        ValueError: If the shapes differ or are not `(chains, draws, d)`.

    Source: Stein (1981), Annals of Statistics 9(6); as a gauge of discretization bias: Robnik
    and Seljak (2023), arXiv:2303.18221.
    """
    x, score = np.asarray(x, np.float64), np.asarray(score, np.float64)
    if x.ndim != 3 or x.shape != score.shape:
        raise ValueError(
            f"x and score must both have shape (chains, draws, d), got {x.shape} and {score.shape}."
        )
    series = -(x - x.mean(axis=(0, 1))) * score
    series = np.concatenate([series, series.mean(axis=2, keepdims=True)], axis=2)
    chains, draws, _ = series.shape
    size = np.full(series.shape[2], float(chains * draws))
    if not independent:
        size = ess_mean(series)
        size = np.where(np.isnan(size), float(chains), size)
    values = series.mean(axis=(0, 1))
    errors = series.std(axis=(0, 1)) / np.sqrt(size)
    return Equipartition(float(values[-1]), float(errors[-1]), values[:-1], errors[:-1])
