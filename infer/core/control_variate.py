"""A control variate for the score of a minibatch: the same minibatch at a fixed center."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.types import Scalar, Vector
from infer.references.citation import cites
from infer.references.minibatches import BAKER_2019, JOHNSON_2013


@cites(BAKER_2019, JOHNSON_2013)
class ControlVariate(eqx.Module):
    """A point at which the log density and its score on all rows are known.

    Attributes:
        center: the point c.
        value: log density at c on all rows.
        score: its gradient there.
    """

    center: Vector
    value: Scalar
    score: Vector

    def term(self, log_prob: Callable[[Vector], Scalar], z: Vector) -> Scalar:
        """What a minibatch density `log_prob` misses at z, to first order around the center.

            log p(c) - log p_B(c) + (z - c) . (score(c) - score_B(c))

        Zero on average over minibatches, so that it biases neither the density nor its score.
        """
        value, score = jax.value_and_grad(log_prob)(self.center)
        return self.value - value + jnp.dot(self.score - score, z - self.center)
