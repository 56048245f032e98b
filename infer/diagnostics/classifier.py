"""How well a classifier tells two samples apart."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.pairs import squared_distances, two_samples
from infer.references.citation import cites
from infer.references.judging import LOPEZ_PAZ_2017

Array = NDArray[np.float64]
Labels = NDArray[np.bool_]
Guess = Callable[[Array, Labels, Array], Labels]  # of training rows, their labels, and new rows

NEWTON_STEPS = 8
PENALTY = 1.0  # half the squared slopes of standardized coordinates, beside the summed log loss


@cites(LOPEZ_PAZ_2017)
def linear_accuracy(x: ArrayLike, y: ArrayLike, folds: int = 5, seed: int = 0) -> float:
    r"""Accuracy of a logistic regression that tells two samples apart, on rows it has not seen.

    0.5 means that it cannot, 1 that it always can. Coordinates are standardized on the rows it
    learns from, the slopes have a standard normal prior. It sees differences of means and little
    else: samples of equal means but other shapes get 0.5. For two Gaussians with one covariance
    S it approaches the best there is, $\Phi(|S^{-1/2}(m_x - m_y)| / 2)$. Cost
    $O((n + m) d^2 + d^3)$ per fold and Newton step, of which there are eight.

    Args:
        x: First sample, shape `(n, d)` with `n >= folds`.
        y: Second sample, shape `(m, d)` with `m >= folds`.
        folds: Parts, each guessed by what was learned from the others, >= 2.
        seed: Seed of the parts; each has an equal share of both samples, up to one row.

    Returns:
        Mean of the shares of x and of y that are guessed right.

    Raises:
        ValueError: For other shapes, or values that are not finite.

    Source: Lopez-Paz and Oquab (2017), ICLR.
    """
    return _accuracy(x, y, folds, seed, _logistic)


@cites(LOPEZ_PAZ_2017)
def neighbor_accuracy(
    x: ArrayLike, y: ArrayLike, k: int = 5, folds: int = 5, seed: int = 0
) -> float:
    """Accuracy of a vote of k neighbors that tells two samples apart, on rows it has not seen.

    As `linear_accuracy`, but sees differences of every kind, in few dimensions. Cost
    O((n + m)^2 d).

    Args:
        x: First sample, shape `(n, d)` with `n >= folds`.
        y: Second sample, shape `(m, d)` with `m >= folds`.
        k: Neighbors that vote, odd, so that there are no ties.
        folds: As for `linear_accuracy`.
        seed: As for `linear_accuracy`.

    Returns:
        Mean of the shares of x and of y that are guessed right.

    Raises:
        ValueError: For other shapes, an even k, or values that are not finite.

    Source: Lopez-Paz and Oquab (2017), ICLR.
    """
    if k < 1 or k % 2 == 0:
        raise ValueError(f"neighbor_accuracy needs an odd number k of neighbors, got {k}.")

    def vote(rows: Array, label: Labels, new: Array) -> Labels:
        votes = [
            label[np.argpartition(r, k - 1, axis=1)[:, :k]].mean(axis=1)
            for _, r in squared_distances(new, rows)
        ]
        return np.concatenate(votes) > 0.5

    return _accuracy(x, y, folds, seed, vote, least=k + 1)


def _accuracy(
    x: ArrayLike, y: ArrayLike, folds: int, seed: int, guess: Guess, least: int = 1
) -> float:
    x, y = two_samples(x, y)
    if folds < 2 or min(len(x), len(y)) < max(folds, least):
        raise ValueError(
            f"A classifier needs folds >= 2 and {max(folds, least)} rows or more in each sample, "
            f"got folds = {folds} and {len(x)} and {len(y)} rows."
        )
    rows, label = np.concatenate([x, y]), np.repeat([False, True], [len(x), len(y)])
    if not np.isfinite(rows).all():
        raise ValueError("A classifier needs finite values.")
    right = np.zeros(len(rows), dtype=bool)
    for held in _folds(len(x), len(y), folds, seed):
        known = ~held
        right[held] = guess(rows[known], label[known], rows[held]) == label[held]
    return float((right[~label].mean() + right[label].mean()) / 2)


def _folds(n: int, m: int, folds: int, seed: int) -> Iterator[Labels]:
    """Which rows are held out, part by part; each part has its share of both samples."""
    rng = np.random.default_rng(seed)
    part = np.concatenate([rng.permutation(size) % folds for size in (n, m)])
    return (part == fold for fold in range(folds))


def _logistic(rows: Array, label: Labels, new: Array) -> Labels:
    """Newton's method: slope += (X^T W X + I)^-1 (X^T (label - p) - slope), the intercept free."""
    center, sd = rows.mean(axis=0), rows.std(axis=0)
    sd = np.where(sd > 0, sd, 1.0)
    design = np.column_stack([(rows - center) / sd, np.ones(len(rows))])
    penalty = np.full(design.shape[1], PENALTY)
    penalty[-1] = 1e-6
    slope = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh(0.5 * (design @ slope)))
        hessian = (design.T * (p * (1 - p))) @ design + np.diag(penalty)
        slope = slope + np.linalg.solve(hessian, design.T @ (label - p) - penalty * slope)
    return np.column_stack([(new - center) / sd, np.ones(len(new))]) @ slope > 0
