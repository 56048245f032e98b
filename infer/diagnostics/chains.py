"""How well Markov chains have mixed: R-hat, effective sample sizes and E-BFMI.

Every function takes draws of shape `(chains, draws, ...)` and works on all coordinates at once. A
coordinate that is constant, holds a non-finite value, or has fewer than four draws per chain gives
NaN: there is nothing to diagnose in it. Nothing here raises on such values or warns about them.
"""

from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.references.citation import cites
from infer.references.judging import BETANCOURT_2016, GEYER_1992, MARGOSSIAN_2024, VEHTARI_2021

Array = NDArray[np.float64]


@cites(VEHTARI_2021)
def rhat(x: ArrayLike) -> Array:
    r"""Rank-normalized split R-hat, the larger of the bulk and the folded value.

    With $W$ the mean variance within, and $B$ that of the means of, the $n$-draw half chains after
    ranks have been mapped to normal scores, $\hat R = \sqrt{(B + (n - 1) W / n) / W}$. Folding
    (replacing `x` by its distance from the median) makes it see chains that differ in scale only.
    Chains that stand still in different places give infinity; a single chain is compared with
    itself, half against half.

    Args:
        x: Draws, shape `(chains, draws)` or `(chains, draws, d)`.

    Returns:
        R-hat, of the trailing shape `()` or `(d,)`.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2).
    """

    def statistic(x: Array) -> Array:
        halves = _split(x)
        folded = np.abs(halves - np.median(halves, axis=(0, 1)))
        return np.fmax(_ratio(_normal_scores(halves)), _ratio(_normal_scores(folded)))

    return _per_coordinate(x, statistic)


@cites(VEHTARI_2021)
def ess_bulk(x: ArrayLike) -> Array:
    r"""Effective sample size in the bulk: that of the rank-normalized split chains.

    $N / \hat\tau$ with $\hat\tau = 1 + 2 \sum_t \hat\rho_t$ cut by Geyer's initial monotone
    sequence, where $\hat\rho_t$ combines autocovariances within and variance between chains.

    Args:
        x: Draws, shape `(chains, draws)` or `(chains, draws, d)`.

    Returns:
        Effective sample sizes, of the trailing shape `()` or `(d,)`.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2).
    """
    return _per_coordinate(x, lambda x: _ess(_normal_scores(_split(x))))


@cites(VEHTARI_2021)
def ess_tail(x: ArrayLike) -> Array:
    r"""Effective sample size in the tails: the smaller of those for the 5 % and 95 % quantiles.

    The size for the quantile $q_\alpha$ is that of the indicator series $1[x_t \le q_\alpha]$.

    Args:
        x: Draws, shape `(chains, draws)` or `(chains, draws, d)`.

    Returns:
        Effective sample sizes, of the trailing shape `()` or `(d,)`.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Bayesian Analysis 16(2).
    """

    def statistic(x: Array) -> Array:
        low, high = np.quantile(x, [0.05, 0.95], axis=(0, 1))
        return np.minimum(_ess(_split(x <= low)), _ess(_split(x <= high)))

    return _per_coordinate(x, statistic)


@cites(GEYER_1992, VEHTARI_2021)
def ess_mean(x: ArrayLike) -> Array:
    r"""Effective sample size for the mean: that of the split chains as they are, without ranks.

    The standard error of the mean of `x` is $\mathrm{sd}(x) / \sqrt{\mathrm{ESS}}$.

    Args:
        x: Draws, shape `(chains, draws)` or `(chains, draws, d)`.

    Returns:
        Effective sample sizes, of the trailing shape `()` or `(d,)`.

    Source: Geyer (1992), Statistical Science 7(4); Vehtari et al. (2021), Bayesian Analysis
    16(2).
    """
    return _per_coordinate(x, lambda x: _ess(_split(x)))


@cites(MARGOSSIAN_2024)
def nested_rhat(x: ArrayLike, superchains: int) -> Array:
    r"""Nested R-hat of many short chains, in groups that each started from one point.

    With $B$ the variance of the means of the groups and $W$ the mean over groups of the variance
    between plus within their chains, $\sqrt{1 + B / W}$. Groups that have not forgotten where they
    started differ by more than their chains do. It needs no long chain, and a single draw of each
    is enough; but chains of different starts in one group hide what it looks for. Compare it with
    `nested_rhat_limit`, not with 1.01.

    Args:
        x: Draws, shape `(chains, draws)` or `(chains, draws, d)`, the chains of a group in a row.
        superchains: Number of groups K, at least 2; the number of chains is a multiple of it, and
            there are at least two chains in each.

    Returns:
        Nested R-hat, of the trailing shape `()` or `(d,)`; NaN where a value is not finite or the
            coordinate is constant.

    Raises:
        ValueError: for draws of another shape, or chains that make no groups.

    Source: Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman (2024), Bayesian
    Analysis.
    """
    x = np.asarray(x, dtype=np.float64)
    chains = x.shape[0] if x.ndim else 0
    if x.ndim < 2 or superchains < 2 or chains % superchains or chains // superchains < 2:
        raise ValueError(
            "nested_rhat needs draws of shape (chains, draws, ...) with chains a multiple, at "
            f"least twice, of superchains >= 2; got shape {x.shape} and superchains={superchains}."
        )
    groups = x.reshape(superchains, chains // superchains, *x.shape[1:])
    with np.errstate(all="ignore"):
        means = groups.mean(axis=2)
        within = means.var(axis=1, ddof=1)
        if x.shape[1] > 1:
            within = within + groups.var(axis=2, ddof=1).mean(axis=1)
        between = means.mean(axis=1).var(axis=0, ddof=1)
        return np.sqrt(1 + between / np.where(within.mean(axis=0) > 0, within.mean(axis=0), np.nan))


def nested_rhat_limit(
    superchains: int, chains_each: int, coordinates: int = 1, level: float = 0.01
) -> float:
    r"""What nested R-hat stays below, but for a chance of `level`, once all starts are forgotten.

    For one draw per chain, where it is largest: then $M (\hat R^2 - 1)$ has the F distribution with
    $K - 1$ and $K (M - 1)$ degrees of freedom, K groups of M chains. About $\sqrt{1 + 1/M}$ for
    many groups, so that 1.01 is out of reach with less than 50 chains in each.

    Args:
        superchains: K, at least 2.
        chains_each: M, at least 2.
        coordinates: How many coordinates are looked at, for the largest of them all.
        level: Chance of a false alarm, in (0, 1).

    Returns:
        The limit, above 1.

    Raises:
        ValueError: for fewer than two groups, or chains in each, or a level out of (0, 1).
    """
    from scipy.stats import f  # only here: importing it takes a second

    if superchains < 2 or chains_each < 2 or coordinates < 1 or not 0 < level < 1:
        raise ValueError(
            "nested_rhat_limit needs superchains >= 2, chains_each >= 2, coordinates >= 1 and a "
            f"level in (0, 1); got {superchains}, {chains_each}, {coordinates} and {level}."
        )
    quantile = f.isf(level / coordinates, superchains - 1, superchains * (chains_each - 1))
    return float(np.sqrt(1 + quantile / chains_each))


@cites(BETANCOURT_2016)
def ebfmi(energy: ArrayLike) -> Array:
    r"""Estimated Bayesian fraction of missing information of each Hamiltonian chain.

    $\overline{(E_t - E_{t-1})^2} / \mathrm{var}(E)$; below about 0.3 the momentum refreshments move
    too little energy to reach the tails.

    Args:
        energy: Energies, shape `(chains, draws)`.

    Returns:
        One value per chain, shape `(chains,)`; NaN where the energy is constant or non-finite.

    Source: Betancourt (2016), arXiv:1604.00695.
    """
    energy = np.asarray(energy, dtype=np.float64)
    if energy.ndim != 2:
        raise ValueError(f"energy must have shape (chains, draws), got {energy.shape}.")
    # One chain is one "coordinate" here: the checks are the same, the chains are kept apart.
    return _per_coordinate(
        energy.T[None],
        lambda e: np.square(np.diff(e, axis=1)).mean((0, 1)) / e.var(axis=(0, 1), ddof=1),
    )


def _per_coordinate(x: ArrayLike, statistic: Callable[[Array], Array]) -> Array:
    """Applies `statistic`, `(chains, draws, d) -> (d,)`, to usable coordinates; else NaN."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim < 2:
        raise ValueError(f"draws must have shape (chains, draws, ...), got {x.shape}.")
    chains, draws, *trailing = x.shape
    result = np.full(trailing, np.nan).reshape(-1)
    if chains > 0 and draws >= 4:
        flat = x.reshape(chains, draws, result.size)
        usable = np.isfinite(flat).all((0, 1)) & (flat != flat[:1, :1]).any((0, 1))
        if usable.any():
            with np.errstate(all="ignore"):
                result[usable] = statistic(flat[:, :, usable])
    return result.reshape(trailing)


def _split(x: NDArray) -> NDArray:
    """Cuts each chain into its first and last half; an odd chain loses its middle draw."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]])


def _ratio(x: Array) -> Array:
    """R-hat of chains as they are, `(chains, n, d) -> (d,)`."""
    n = x.shape[1]
    within = x.var(axis=1, ddof=1).mean(0)
    return np.sqrt((n - 1) / n + x.mean(1).var(axis=0, ddof=1) / within)


@lru_cache(maxsize=4)
def _blom_scores(n: int) -> Array:
    """Normal quantiles at (rank - 3/8) / (n + 1/4) for the ranks 1, 3/2, 2, ..., n."""
    ranks = 1 + np.arange(n) / 2
    lower = np.array([NormalDist().inv_cdf(p) for p in (ranks - 3 / 8) / (n + 1 / 4)])
    return np.concatenate([lower, -lower[-2::-1]])


def _normal_scores(x: Array) -> Array:
    """Replaces all draws of a coordinate by the normal scores of their ranks, ties averaged."""
    flat = x.reshape(-1, x.shape[2])
    n = len(flat)
    order = np.argsort(flat, axis=0)
    ascending = np.take_along_axis(flat, order, axis=0)
    opens, closes = np.ones((2, *flat.shape), dtype=bool)
    opens[1:] = closes[:-1] = ascending[1:] != ascending[:-1]
    index = np.arange(n)[:, None]
    first = np.maximum.accumulate(np.where(opens, index, 0))
    last = np.minimum.accumulate(np.where(closes, index, n)[::-1])[::-1]
    scores = np.empty_like(flat)
    np.put_along_axis(scores, order, _blom_scores(n)[first + last], axis=0)
    return scores.reshape(x.shape)


def _ess(x: NDArray) -> Array:
    """Effective sample size of chains as they are, `(chains, n, d) -> (d,)`."""
    chains, n, d = x.shape
    mean = x.mean(axis=1, keepdims=True)
    # Zero padding to twice the length turns the circular autocovariance into the plain one.
    length = 1 << (2 * n - 1).bit_length()
    power = np.square(np.abs(np.fft.rfft(x - mean, length, axis=1))).mean(0)
    covariance = np.fft.irfft(power, length, axis=0)[:n] / n
    total = covariance[0] + mean[:, 0].var(axis=0, ddof=1)
    rho = 1 - (covariance[0] * n / (n - 1) - covariance) / total
    rho[0] = 1
    # Geyer: sums over adjacent lags, kept while positive and made non-increasing.
    pairs = rho[: n // 2 * 2].reshape(-1, 2, d).sum(axis=1)
    kept = np.logical_and.accumulate(pairs > 0)
    kept[max(0, (n - 3) // 2) :] = False
    count = kept.sum(axis=0)
    even = np.take_along_axis(rho, 2 * count[None], axis=0)[0]
    next_pair = np.take_along_axis(pairs, count[None], axis=0)[0]
    tau = -1 + 2 * np.where(kept, np.minimum.accumulate(pairs), 0).sum(axis=0)
    tau += np.where((even > 0) | (next_pair >= 0), even, 0)
    size = chains * n
    ess = size / np.maximum(tau, 1 / np.log10(size))
    return np.where((x == x[:1, :1]).all((0, 1)), float(size), ess)
