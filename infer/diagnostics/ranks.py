"""Are ranks uniform? By bins, and by their empirical distribution as a whole."""

import math
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from infer.references.citation import cites
from infer.references.judging import SAILYNOJA_2022

_BLOCK = 2000  # simulated sets at once


class Envelope(NamedTuple):
    """Where the empirical distribution of uniform ranks stays.

    Attributes:
        at: fractions z = 1/K, ..., (K - 1)/K at which it is looked at.
        lower, upper: the band of simultaneous coverage, as fractions of the ranks.
        extremes: of simulated uniform ranks the least two-sided probability over all z, sorted.
    """

    at: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    extremes: NDArray[np.float64]


@cites(SAILYNOJA_2022)
def rank_envelope(
    n: int, n_ranks: int, *, coverage: float = 0.95, n_simulated: int = 10_000, seed: int = 0
) -> Envelope:
    r"""The band that the empirical distribution of $n$ uniform ranks leaves with probability 1 - c.

    The number of ranks below $i$ is binomial, $R_i \sim \mathrm{Bin}(n, i / K)$. The band at $i$
    holds the counts whose two-sided probability
    $p_i = 2 \min(P(X \le R_i), P(X \ge R_i))$ is at least $\gamma$, where $\gamma$ is the
    $1 - c$ quantile of $\min_i p_i$ among simulated sets of uniform ranks.

    Args:
        n: how many ranks, >= 1.
        n_ranks: how many values $K$ a rank can have, 0 to K - 1; >= 2.
        coverage: the probability c that uniform ranks stay inside, in (0, 1).
        n_simulated: simulated sets; no p-value is below one over this number. Costs
            `n_simulated * n_ranks` operations.
        seed: of the simulation.

    Source: Säilynoja, Bürkner and Vehtari (2022), Statistics and Computing 32, 32.
    """
    both = _two_sided(n, n_ranks)
    rng = np.random.default_rng(seed)
    extremes = np.concatenate([
        _least(both, rng.multinomial(n, np.full(n_ranks, 1 / n_ranks), min(_BLOCK, left)))
        for left in range(n_simulated, 0, -_BLOCK)
    ])  # fmt: skip
    extremes.sort()
    inside = both >= np.quantile(extremes, 1 - coverage)
    lower = inside.argmax(axis=1) / n
    upper = (n - inside[:, ::-1].argmax(axis=1)) / n
    return Envelope(np.arange(1, n_ranks) / n_ranks, lower, upper, extremes)


def ecdf_p(ranks: NDArray[np.integer], n_ranks: int, envelope: Envelope) -> NDArray[np.float64]:
    """Probability that uniform ranks leave a band as narrow as that around these (n, scalars).

    It sees the whole distribution at once: exact up to the simulation, at least 1/(simulated + 1).
    """
    counts = np.stack([np.bincount(column, minlength=n_ranks) for column in ranks.T])
    extreme = _least(_two_sided(len(ranks), n_ranks), counts)
    below = np.searchsorted(envelope.extremes, extreme * (1 + 1e-9), side="right")
    return (below + 1) / (len(envelope.extremes) + 1)


def chi2_p(ranks: NDArray[np.integer], n_ranks: int) -> NDArray[np.float64]:
    r"""p-values of $\chi^2 = \sum_b (O_b - E_b)^2 / E_b$ of the ranks (n, scalars) in bins.

    20 bins of (nearly) equal width at most, with five ranks expected in each.
    """
    n = len(ranks)
    bins = max(2, min(20, n // 5, n_ranks))
    of_rank = np.arange(n_ranks) * bins // n_ranks
    expected = n * np.bincount(of_rank, minlength=bins) / n_ranks
    observed = np.stack([np.bincount(of_rank[column], minlength=bins) for column in ranks.T])
    chi2 = ((observed - expected) ** 2 / expected).sum(axis=1)
    return np.asarray(jax.scipy.special.gammaincc((bins - 1) / 2, chi2 / 2), np.float64)


def _two_sided(n: int, n_ranks: int) -> NDArray[np.float64]:
    """Two-sided binomial probability at every z (rows) of every count 0, ..., n."""
    z = np.arange(1, n_ranks)[:, None] / n_ranks
    count = np.arange(n + 1)
    log_factorial = np.array([math.lgamma(i + 1) for i in range(n + 1)])
    choose = log_factorial[n] - log_factorial[count] - log_factorial[n - count]
    pmf = np.exp(choose + count * np.log(z) + (n - count) * np.log1p(-z))
    at_most, at_least = pmf.cumsum(axis=1), pmf[:, ::-1].cumsum(axis=1)[:, ::-1]
    return np.minimum(2 * np.minimum(at_most, at_least), 1.0)


def _least(both: NDArray[np.float64], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """The least two-sided probability over z of each set of rank counts (sets, K)."""
    below = counts.cumsum(axis=1)[:, :-1]
    return both[np.arange(len(both)), below].min(axis=1)
