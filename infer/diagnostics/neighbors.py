"""What nearest neighbors say of a generated sample: fidelity, variety and copying."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import squared_distances, two_samples
from infer.references.citation import cites
from infer.references.judging import KYNKAANNIEMI_2019, NAEEM_2020

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NeighborScores:
    """Shares that are counted in balls around points; made by `neighbor_scores`.

    Attributes:
        precision: share of generated points within a ball of a real point.
        recall: share of real points within a ball of a generated point.
        density: mean number of balls of real points that a generated point lies in, over k.
        coverage: share of real points with a generated point in their ball.
    """

    precision: float
    recall: float
    density: float
    coverage: float


@cites(KYNKAANNIEMI_2019, NAEEM_2020)
def neighbor_scores(real: ArrayLike, generated: ArrayLike, k: int = 5) -> NeighborScores:
    r"""Precision, recall, density and coverage of a generated sample.

    The ball of a point reaches to its k-th nearest neighbor in its own sample, boundary included.
    With balls $B_i$ of n real points and m generated ones $y_j$

    $\mathrm{density} = \frac{1}{k m} \sum_{ij} 1[y_j \in B_i]$,
    $\mathrm{coverage} = \frac{1}{n} \sum_i 1[\exists j: y_j \in B_i]$.

    Precision falls where generated points lie off the data, recall where data are left out; both
    are lifted by single outliers, whose balls are large. For two samples of one distribution
    density is 1 on average and coverage
    $1 - \prod_{i=1}^{k} (n - i) / (n + m - i)$, about $1 - 2^{-k}$ for n = m, whatever the
    distribution; precision and recall have no such value. Cost $O((n + m)^2 d)$, memory linear.

    Args:
        real: Real rows, shape `(n, d)` with `n > k`.
        generated: Generated rows, shape `(m, d)` with `m > k`.
        k: Neighbors, >= 1.

    Returns:
        The four, as `NeighborScores`.

    Raises:
        ValueError: For other shapes, or values that are not finite.

    Source: Kynkäänniemi, Karras, Laine, Lehtinen and Aila (2019), NeurIPS (precision and
    recall); Naeem, Oh, Uh, Choi and Yoo (2020), ICML (density and coverage).
    """
    real, generated = two_samples(real, generated)
    _check(real, generated, k)
    real_radius, radius = _radii(real, k), _radii(generated, k)
    inside = np.zeros(len(generated), dtype=int)  # balls of real points, by generated point
    covered = np.zeros(len(real), dtype=bool)
    recalled = np.zeros(len(real), dtype=bool)
    for rows, r in squared_distances(real, generated):
        hit = r <= real_radius[rows, None]
        inside += hit.sum(axis=0)
        covered[rows] = hit.any(axis=1)
        recalled[rows] = (r <= radius).any(axis=1)
    return NeighborScores(
        precision=float(np.mean(inside > 0)),
        recall=float(np.mean(recalled)),
        density=float(np.mean(inside) / k),
        coverage=float(np.mean(covered)),
    )


def nearest_distance(x: ArrayLike, others: ArrayLike) -> float:
    """The mean distance from a row of x to the nearest row of another sample.

    Args:
        x: Rows, shape `(n, d)`.
        others: The sample that is searched, shape `(m, d)`.
    """
    x, others = two_samples(x, others)
    nearest = [np.sqrt(r.min(axis=1)) for _, r in squared_distances(x, others)]
    return float(np.mean(np.concatenate(nearest)))


def _radii(x: Array, k: int) -> Array:
    """Squared distance of every row to its k-th nearest neighbor, itself not counted."""
    found = [np.partition(r, k, axis=1)[:, k] for _, r in squared_distances(x)]
    return np.concatenate(found)


def _check(real: Array, generated: Array, k: int) -> None:
    if k < 1 or min(len(real), len(generated)) <= k:
        raise ValueError(
            f"neighbor_scores needs k >= 1 and more than k rows in each sample, got k = {k} and "
            f"{len(real)} and {len(generated)} rows."
        )
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise ValueError("neighbor_scores needs finite values.")
