"""A distribution of ours as one of NumPyro's."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import distributions
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from infer.core.keys import as_key
from infer.core.posterior import AbstractDistribution


class NumPyroDistribution(distributions.Distribution):
    """Draws and log density of `q` under NumPyro's names: no batch, one event of d coordinates."""

    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("q",)

    def __init__(self, q: AbstractDistribution, *, validate_args: bool | None = None) -> None:
        self.q = q
        d = jax.eval_shape(lambda: q.sample(jax.random.key(0), 1)).shape[1]
        super().__init__(event_shape=(d,), validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws of shape sample_shape + (d,), attached to the parameters of q."""
        x = self.q.sample(as_key(key), math.prod(sample_shape))
        return x.reshape(*sample_shape, *self.event_shape)

    @validate_sample
    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log densities of shape `value.shape[:-1]`."""
        return jnp.vectorize(self.q.log_prob, signature="(d)->()")(value)
