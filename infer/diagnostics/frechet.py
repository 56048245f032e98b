"""Frechet distance between the Gaussians of two samples."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import two_samples
from infer.references.citation import cites
from infer.references.judging import HEUSEL_2017
from infer.references.rows import DOWSON_1982

Array = NDArray[np.float64]


@cites(DOWSON_1982, HEUSEL_2017)
def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    r"""Squared Frechet distance between the Gaussians with the moments of two samples.

    $|m_x - m_y|^2 + \mathrm{tr}(S_x + S_y - 2 (S_x S_y)^{1/2})$ with means m and covariances S
    (divided by n - 1): the squared 2-Wasserstein distance of these Gaussians. The trace of the
    root is the sum of the singular values of $R_x R_y^\top$ for the triangular factors of the
    centered samples, so that nothing is squared. Cost $O((n + m) d^2 + d^3)$.

    Biased upwards: two samples of $N(\mu, \sigma^2 I)$ give about
    $\sigma^2 (1/n + 1/m) \, d (d + 5) / 4$ instead of zero. So d should be small beside n, as it is
    after a projection on principal axes, and values are compared at equal n, m and d only.

    Args:
        x: First sample, shape `(n, d)` with `n >= 2`.
        y: Second sample, shape `(m, d)` with `m >= 2`.

    Returns:
        The squared distance, in squared units of the coordinates; zero for equal samples up to
            rounding, NaN if a value is not finite.

    Raises:
        ValueError: For other shapes.

    Source: Dowson and Landau (1982), Journal of Multivariate Analysis 12(3); Heusel, Ramsauer,
    Unterthiner, Nessler and Hochreiter (2017), NeurIPS, with features of a network.
    """
    x, y = two_samples(x, y)
    if min(len(x), len(y)) < 2:
        raise ValueError("frechet_distance needs two rows or more in each sample.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    mean_gap = x.mean(axis=0) - y.mean(axis=0)
    a, b = _factor(x), _factor(y)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(mean_gap @ mean_gap + np.sum(a**2) + np.sum(b**2) - 2 * overlap))


def _factor(x: Array) -> Array:
    """R with covariance R^T R, at most d rows."""
    return np.asarray(np.linalg.qr((x - x.mean(axis=0)) / math.sqrt(len(x) - 1), mode="r"))
