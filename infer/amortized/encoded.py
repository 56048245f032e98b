"""The posterior of one row, as it is, judged like any other fit."""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.amortized.model import AmortizedModel
from infer.core.algorithm import AbstractApproximator, Info
from infer.core.data import Rows
from infer.core.evidence import Evidence
from infer.core.posterior import AbstractDistribution
from infer.core.stopping import AbstractStopping, Record
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.variational import KINGMA_2014


class RowDensity(eqx.Module):
    """log p(x, z) of one row x as a function of {"z": z}; its arrays are those of the model."""

    model: AmortizedModel
    row: Rows

    def __call__(self, params: dict[str, Vector]) -> Scalar:
        """The log joint density."""
        return self.model.log_joint(params["z"], self.row)


class Joint(eqx.Module):
    """log p(x, z) as a function of z and a row."""

    model: AmortizedModel

    def __call__(self, z: Vector, row: Rows) -> Scalar:
        """The log joint density."""
        return self.model.log_joint(z, row)


class NothingFitted(AbstractStopping):
    """The rule of a run that fits nothing."""

    every: int = 1

    def look(self, record: Record, thin: int) -> None:
        """Go on."""

    def evidence(self, record: Record) -> Evidence:
        """That nothing was fitted."""
        meaning = "the encoder gave this posterior: nothing was fitted to the row itself"
        return Evidence("amortized", math.nan, "", "info", meaning)

    def hint(self, record: Record) -> str:
        """What makes encoders better."""
        return (
            "The encoder's posterior is not that of this row: fit the VAE with a richer "
            "posterior=, a wider encoder or more steps"
        )


@cites(KINGMA_2014)
class AmortizedPosterior(AbstractApproximator):
    """q(z | x) of one row as an encoder gives it: nothing is fitted, and one step is all it takes.

    Attributes:
        q: the posterior of the row.
    """

    q: AbstractDistribution
    stopping: AbstractStopping | None = eqx.field(static=True, default=NothingFitted())
    exact_target: ClassVar[bool] = False
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 1

    def init(self, key: PRNGKey, target: Target) -> AbstractDistribution:
        """The posterior of the row."""
        return jax.tree.map(jnp.asarray, self.q)

    def step(self, key: PRNGKey, target: Target, state: Any) -> tuple[Any, Info]:
        """The same, with its negative log weight at one draw."""
        draw = state.equal_draws(key, 1)
        loss = draw.log_q[0] - target.log_prob(draw.x[0])
        return state, Info(loss, jnp.zeros((), int), {})

    def posterior(self, state: Any) -> AbstractDistribution:
        """The posterior of the row."""
        return state
