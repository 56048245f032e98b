"""Training an encoder on dreams of the decoder."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.checks import nonnegative
from infer.core.data import Rows
from infer.core.types import PRNGKey, Scalar
from infer.references.citation import cites
from infer.references.rows import HINTON_1995
from infer.regularizers.regularizer import AbstractRegularizer, Batch


@cites(HINTON_1995)
class Sleep(AbstractRegularizer):
    """Minus the mean log density that the encoder gives to the causes of dreamt rows.

        -(1/B) sum_b log q(z_b | x_b),   z_b ~ p(z),  x_b ~ p(x | z_b)

    The sleep phase of wake-sleep: its gradient is that of KL(p(z | x) || q(z | x)), without
    weights and without bias, on average over rows that the model makes, however unlike the data
    they are. Model and rows are held fixed. Cost: B decoder and encoder passes.

    Args:
        weight: >= 0.

    Raises:
        ValueError: for rows with a mask, since dreams have none.

    Source: Hinton, Dayan, Frey and Neal, The wake-sleep algorithm, Science 268 (1995).
    """

    weight: Scalar = eqx.field(converter=nonnegative("weight", 1.0), default=1.0)

    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The penalty, of as many dreams as there are rows."""
        if batch.masked:
            raise ValueError(
                "Sleep dreams whole rows, and these have a mask; write "
                "objective=(infer.ForwardKL(), infer.IWAE()), which is wake-wake."
            )
        dreams = batch.model.simulate(key, batch.z.shape[0], batch.condition)
        z, x = jax.lax.stop_gradient(dreams)

        def log_q(z: Array, row: Rows) -> Array:
            return batch.model.posterior(row).log_prob(z)

        return -jnp.mean(jax.vmap(log_q)(z, Rows(x, None, batch.condition)))
