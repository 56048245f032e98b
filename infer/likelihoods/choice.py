"""Which likelihood suits data whose origin is not told."""

from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from infer.core.layout import flattened, is_tree
from infer.likelihoods.bernoulli import Bernoulli, Binomial
from infer.likelihoods.discretized_logistic import DiscretizedLogistic
from infer.likelihoods.likelihood import AbstractLikelihood
from infer.likelihoods.location_scale import Gaussian
from infer.likelihoods.negative_binomial import NegativeBinomial
from infer.likelihoods.parts import Parts

MOST = 100  # the largest top of a binomial
CROWD = 0.01  # share of the entries that shows that their top is a limit
BYTE = 255


def likelihood_for(x: Any) -> AbstractLikelihood:
    """The likelihood that suits these values; NaN, for an entry that is missing, is left out.

    By the first rule that holds:

    - 0 and 1: `Bernoulli()`.
    - Whole numbers >= 0 whose largest is 255: `DiscretizedLogistic(0, 255, 256)`, bytes.
    - Whole numbers >= 0 whose largest, M <= 100, makes up 1% of them, as it does where it is a
      limit and seldom where it is a chance: `Binomial(M)`.
    - Other whole numbers >= 0: `NegativeBinomial()`.
    - All else: `Gaussian()`, with a learned scale. So too for values in [0, 1]: the density of
      `ContinuousBernoulli` has no peak inside, and no bound for an entry that is always 0, so that
      a few constant entries outweigh the rest.

    A guess, from values alone: class labels look like counts (`Categorical`), and
    measurements that were rounded look like them as well (`Gaussian`). Say what you know.

    Args:
        x: rows of data (n, ...), as many as wanted; all are read. Of rows of several parts, a dict
            or a tuple of arrays.

    Returns:
        A likelihood; for rows of several parts `Parts`, by these rules for each.
    """
    if is_tree(x):
        _, leaves, structure = flattened(x)
        return Parts(structure.unflatten([likelihood_for(leaf) for leaf in leaves]))
    likelihood, arguments = _suited(x)
    return likelihood(*arguments)


def suited(x: ArrayLike) -> str:
    """What `likelihood_for` gives, as it is written."""
    likelihood, arguments = _suited(x)
    return f"{likelihood.__name__}({', '.join(str(value) for value in arguments)})"


def _suited(x: ArrayLike) -> tuple[type[AbstractLikelihood], tuple[int, ...]]:
    x = np.asarray(x)
    x = x[~np.isnan(x)]
    if not x.size or np.any(x < 0) or np.any(x != np.round(x)) or np.any(np.isinf(x)):
        return Gaussian, ()
    top = int(np.max(x))
    if top <= 1:
        return Bernoulli, ()
    if top == BYTE:
        return DiscretizedLogistic, (0, BYTE, BYTE + 1)
    if top <= MOST and np.mean(x == top) >= CROWD:
        return Binomial, (top,)
    return NegativeBinomial, ()
