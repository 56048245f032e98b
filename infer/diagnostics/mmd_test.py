"""The permutation test of the maximum mean discrepancy."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import sample, squared_distances, two_samples
from infer.references.citation import cites
from infer.references.judging import GRETTON_2012, PHIPSON_2010

Array = NDArray[np.float64]


@cites(GRETTON_2012, PHIPSON_2010)
def mmd_test(
    x: ArrayLike,
    y: ArrayLike,
    bandwidths: ArrayLike | float,
    n_permutations: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    r"""Unbiased squared maximum mean discrepancy, and its p-value for equal distributions.

    The statistic is `mmd_squared` with `unbiased`. If both samples come from one distribution, any
    division of the pooled rows into n and m is as likely as this one, so

    $p = (1 + \#\{\text{divisions with a statistic} \ge \text{this}\}) / (1 + P)$

    over P random divisions is at most u with probability u at most, for every n and m. One matrix
    product with the kernel matrix gives the sums of all divisions. Cost
    $O((n + m)^2 (d + k + P))$ for k bandwidths, memory $O((n + m)^2)$: for samples of a few
    thousand rows.

    Args:
        x: First sample, shape `(n, d)` with `n >= 2`.
        y: Second sample, shape `(m, d)` with `m >= 2`.
        bandwidths: As for `mmd_squared`; `median_distance` gives one.
        n_permutations: Random divisions P, >= 1; the least p is 1 / (P + 1).
        seed: Seed of the divisions.

    Returns:
        The statistic and the p-value.

    Raises:
        ValueError: For other shapes, or values that are not finite.

    Source: Gretton, Borgwardt, Rasch, Schölkopf and Smola (2012), JMLR 13(25); Phipson and
    Smyth (2010), Statistical Applications in Genetics and Molecular Biology 9(1) (the ones in
    p).
    """
    x, y = two_samples(x, y)
    n, m = len(x), len(y)
    if min(n, m) < 2 or n_permutations < 1:
        raise ValueError(
            f"mmd_test needs two rows or more in each sample and n_permutations >= 1, got {n} and "
            f"{m} rows and {n_permutations}."
        )
    pooled = np.concatenate([x, y])
    if not np.isfinite(pooled).all():
        raise ValueError("mmd_test needs finite values.")
    h = np.atleast_1d(np.asarray(bandwidths, dtype=np.float64))
    if not np.all(h > 0):
        raise ValueError(f"bandwidths must be positive, got {bandwidths}.")
    tiles = [
        sum(np.exp(r * (-0.5 / w**2)) for w in h) / len(h) for _, r in squared_distances(pooled)
    ]
    gram = np.concatenate(tiles)
    np.fill_diagonal(gram, 0.0)

    first = np.zeros((n + m, 1 + n_permutations))  # whether a row is in the first part
    first[:n, 0] = 1
    rng = np.random.default_rng(seed)
    for p in range(1, 1 + n_permutations):
        first[rng.permutation(n + m)[:n], p] = 1
    to_first = gram @ first
    within = np.sum(first * to_first, axis=0)
    across = np.sum((1 - first) * to_first, axis=0)
    other = gram.sum() - within - 2 * across
    statistics = within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * across / (n * m)
    # Divisions alike up to rounding count as equal, so that ties never make a p-value too small.
    reached = statistics[1:] >= statistics[0] - 1e-12
    return float(statistics[0]), float((1 + np.sum(reached)) / (1 + n_permutations))


def median_distance(x: ArrayLike) -> float:
    """The median distance between two rows of a sample, a bandwidth; at most 2000 rows are used.

    Where more than half of the pairs are equal it is the root mean square distance instead, and 1
    where all rows are equal.

    Args:
        x: Sample, shape `(n, d)` with `n >= 2`.
    """
    rows = sample(x, "x")[:2000]
    rows = rows - rows.mean(axis=0)
    pairs = np.concatenate([r for _, r in squared_distances(rows)])[np.triu_indices(len(rows), 1)]
    return float(np.sqrt(np.median(pairs) or np.mean(pairs)) or 1.0)
