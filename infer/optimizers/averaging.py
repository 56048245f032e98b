"""The average of parameters over a run."""

from typing import TypeVar

import jax

from infer.core.types import Count
from infer.references.citation import cites
from infer.references.variational import SHAMIR_2013

AVERAGING = 8.0  # the average looks back over roughly the last tenth of the run

Parameters = TypeVar("Parameters")


@cites(SHAMIR_2013)
def average(before: Parameters, new: Parameters, t: Count) -> Parameters:
    """Polynomial-decay averaging, weighted towards the end of the run; `t` counts from 0.

        average_t = average_{t-1} + (9 / (t + 9)) (new_t - average_{t-1})

    Source: Shamir, Zhang, Stochastic gradient descent for non-smooth optimization, ICML 2013.
    """
    weight = (AVERAGING + 1) / (t + 1 + AVERAGING)
    return jax.tree.map(lambda old, x: old + weight.astype(old.dtype) * (x - old), before, new)
