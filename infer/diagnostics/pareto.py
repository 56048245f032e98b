"""Tails of importance weights and scores: the generalized Pareto shape, k-hat and the KL gap."""

import math

import numpy as np
from numpy.typing import ArrayLike

from infer.references.citation import cites
from infer.references.judging import VEHTARI_2024, ZHANG_2009
from infer.references.variational import BURDA_2016

KHAT = 0.7  # up to it averages of some thousand weights are usable (Vehtari et al. 2024)
_NEGLIGIBLE = 1e-300


@cites(ZHANG_2009, VEHTARI_2024)
def pareto_k(values: ArrayLike, tail: int | None = None) -> float:
    r"""Shape $k$ of the generalized Pareto distribution fitted to the largest values.

    Moments of order $1/k$ and higher do not exist: $k > 1/2$ is no variance, $k > 1$ no mean. The
    excesses over the largest value left out are fitted by the quasi-Bayesian estimator of Zhang and
    Stephens; with $m$ of them the result is then shrunk to $(m k + 5) / (m + 10)$.

    Args:
        values: The sample, any shape; read as `n` numbers in no order.
        tail: How many of the largest values to fit; by default $\lceil\min(n/5, 3\sqrt n)\rceil$.

    Returns:
        The shape. NaN if a value is NaN or fewer than five would be fitted; minus infinity if these
            all equal the largest one left out (no tail); infinity if a value is infinite or only
            one to four of them exceed it (a few values stand alone).

    Source: Zhang and Stephens (2009), Technometrics 51(3); Vehtari, Simpson, Gelman, Yao and
    Gabry (2024), JMLR 25(72).
    """
    values = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    n = values.size
    if tail is None:
        tail = _usual_tail(n)
    return _fit_tail(values, tail)[0]


@cites(VEHTARI_2024)
def pareto_khat(log_weights: ArrayLike) -> float:
    r"""Pareto k-hat of importance weights, the usual diagnostic of importance sampling.

    `pareto_k` of the weights $w / \max w$. Below 0.7 importance sampling is usable; a small value
    says nothing about places where no draw has been.

    Args:
        log_weights: $\log p - \log q$ at draws of $q$, shape `(n,)`; constants cancel.

    Returns:
        k-hat; NaN if a log weight is NaN or all are minus infinity, otherwise as for `pareto_k`.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72).
    """
    log_weights = np.asarray(log_weights, dtype=np.float64).reshape(-1)
    largest = log_weights.max(initial=-np.inf)
    if np.isnan(largest) or largest == -np.inf:
        return math.nan
    if largest == np.inf:
        return math.inf
    with np.errstate(under="ignore"):
        return pareto_k(np.exp(log_weights - largest))


@cites(VEHTARI_2024)
def psis(log_weights: ArrayLike) -> tuple[np.ndarray, float]:
    r"""Pareto-smoothed importance weights, and their k-hat.

    The $m$ largest weights are replaced by the quantiles $(i - 1/2) / m$ of the generalized Pareto
    distribution fitted to them, in their order, and cut at the largest raw weight: a little bias
    for a variance that single weights no longer rule. Where no tail can be fitted (`pareto_khat` is
    not finite) the weights are left as they are.

    Args:
        log_weights: $\log p - \log q$ at draws of $q$, shape `(n,)`; constants cancel, and minus
            infinity is a draw without weight.

    Returns:
        Smoothed log weights, normalized to sum to one, shape `(n,)`, and k-hat as `pareto_khat` has
            it. All NaN where k-hat is NaN because of a NaN or of weights that are all zero.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72).
    """
    log_weights = np.array(log_weights, dtype=np.float64).reshape(-1)
    khat = pareto_khat(log_weights)
    largest = log_weights.max(initial=-np.inf)
    if not np.isfinite(largest):
        return np.full_like(log_weights, np.nan), khat
    smoothed = log_weights - largest
    if math.isfinite(khat):
        tail = _usual_tail(smoothed.size)
        order = np.argsort(smoothed, kind="stable")
        with np.errstate(under="ignore"):
            weights = np.exp(smoothed[order])
        shape, scale = _fit_tail(weights, tail)
        survival = -np.log1p(-(np.arange(tail) + 0.5) / tail)
        excess = scale * (np.expm1(shape * survival) / shape if shape else survival)
        smoothed[order[-tail:]] = np.minimum(np.log(weights[-tail - 1] + excess), 0.0)
    with np.errstate(under="ignore"):
        return smoothed - np.log(np.exp(smoothed).sum()), khat


@cites(BURDA_2016)
def kl_gap(log_weights: ArrayLike) -> float:
    r"""Estimate of $\mathrm{KL}(q \,\|\, p)$ from unnormalized log weights at draws of $q$.

    $\log \frac1n \sum_i w_i - \frac1n \sum_i \log w_i$: the importance-sampling estimate of the log
    evidence minus the evidence lower bound. It is never negative, and too small where $q$ misses
    mass of $p$.

    Args:
        log_weights: $\log p - \log q$ at draws of $q$, shape `(n,)`; constants cancel.

    Returns:
        The gap in nats; infinity if a log weight is infinite, NaN if one is NaN or there are none.

    Source: Burda, Grosse and Salakhutdinov (2016), ICLR (as the gap between two evidence
    bounds).
    """
    log_weights = np.asarray(log_weights, dtype=np.float64).reshape(-1)
    if log_weights.size == 0 or np.isnan(log_weights).any():
        return math.nan
    if np.isinf(log_weights).any():
        return math.inf
    shifted = log_weights - log_weights.max()
    with np.errstate(under="ignore"):
        return max(0.0, float(np.log(np.exp(shifted).mean()) - shifted.mean()))


def _usual_tail(n: int) -> int:
    return math.ceil(min(n / 5, 3 * math.sqrt(n)))


def _fit_tail(values: np.ndarray, tail: int) -> tuple[float, float]:
    """Shape and scale of the excesses of the `tail` last of ascending values over the one before.

    The shape as `pareto_k` documents it; the scale is NaN where the shape is not finite.
    """
    if not 5 <= tail < values.size or np.isnan(values[-1]):
        return math.nan, math.nan
    if values[-1] == np.inf:
        return math.inf, math.nan
    cutoff = values[-tail - 1]
    if cutoff == values[-1]:
        return -math.inf, math.nan
    excess = (values[-tail:] - cutoff) / (values[-1] - cutoff)
    excess = excess[excess > _NEGLIGIBLE]
    if excess.size < 5:
        return math.inf, math.nan
    shape, scale = _generalized_pareto(excess)
    return shape, scale * float(values[-1] - cutoff)


def _generalized_pareto(excess: np.ndarray) -> tuple[float, float]:
    """Zhang and Stephens' estimate for ascending positive excesses, with the weak prior of PSIS.

    In terms of b = -k / sigma the profile likelihood has k(b) = mean log(1 - b x) in closed form;
    b is averaged over a grid with the profile likelihood as weight. The scale is -k / b before the
    prior shrinks the shape.
    """
    m = excess.size
    size = 30 + int(math.sqrt(m))
    quartile = excess[int(m / 4 + 0.5) - 1]
    grid = 1 / excess[-1] + (1 - np.sqrt(size / (np.arange(size) + 0.5))) / (3 * quartile)
    with np.errstate(all="ignore"):
        shape = np.log1p(-grid[:, None] * excess).mean(axis=1)
        log_likelihood = m * (np.log(-grid / shape) - shape - 1)
        weight = np.exp(log_likelihood - np.nanmax(log_likelihood))
        # Points where the likelihood underflows or is not defined have no say.
        weight = np.where(weight >= 10 * np.finfo(np.float64).eps * np.nansum(weight), weight, 0.0)
        b = np.sum(np.where(weight > 0, grid * weight, 0.0)) / np.sum(weight)
        k = np.log1p(-b * excess).mean()
    return float((m * k + 5) / (m + 10)), float(-k / b)
