"""The best of the parameters that a run went through, judged on draws it was not fitted to."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.posterior import AbstractDistribution
from infer.core.types import Count, Scalar


class Contest(eqx.Module):
    """Parameters that are being judged, and the best so far.

    One evaluation a step, of the candidate and not of the parameters being fitted, gives `every`
    evaluations by the time the next candidate is due, all on draws of its own: no step costs more
    than another, and nothing is chosen by the noise that it was fitted to.

    Attributes:
        candidate: the average when it entered.
        total: sum of the objective at its draws since.
        best: the best candidate that was judged to the end.
        value: its mean objective, -inf before there is one.
    """

    candidate: AbstractDistribution
    total: Scalar
    best: AbstractDistribution
    value: Scalar

    @classmethod
    def among(cls, q: AbstractDistribution, dtype: Any) -> "Contest":
        """A contest that starts from the first member."""
        return Contest(q, jnp.zeros((), dtype), q, jnp.full((), -jnp.inf, dtype))

    def judged(
        self, value: Scalar, entering: AbstractDistribution, t: Count, every: int
    ) -> "Contest":
        """After step t, at which the candidate had this objective."""
        total, due = self.total + value, (t + 1) % every == 0
        mean = total / every
        better = due & (mean > self.value)  # never so if it is not a number

        def choose(take: Any, new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(take, a, b), new, old)

        return Contest(
            choose(due, entering, self.candidate),
            jnp.where(due, 0, total),
            choose(better, self.candidate, self.best),
            jnp.where(better, mean, self.value),
        )

    def winner(self, otherwise: AbstractDistribution) -> AbstractDistribution:
        """The best candidate, or this one as long as there is none."""
        some = jnp.isfinite(self.value)
        return jax.tree.map(lambda a, b: jnp.where(some, a, b), self.best, otherwise)
