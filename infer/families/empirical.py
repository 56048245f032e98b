"""The distribution of points that were seen."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector


class Empirical(AbstractDistribution):
    """Every one of N points with probability 1/N: the prior of codes, from the codes of the rows.

        result.with_prior(infer.Empirical(result.encode()))

    It draws whole codes, so that what goes together stays together, and none that was not seen.
    Cost of a probability: O(N d).

    Args:
        x: the points, (N, d).
    """

    x: Points = eqx.field(converter=jnp.asarray)
    discrete: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Refuse what are no points."""
        if self.x.ndim != 2 or not self.x.shape[0]:
            raise ValueError(f"Empirical needs points of shape (N, d), got {self.x.shape}.")

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """`n` of the points, drawn with replacement, with scores of zero."""
        x = self.sample(key, n)
        return Draws(x, jax.vmap(self.log_prob)(x), jnp.zeros_like(x), independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` of the points, drawn with replacement."""
        return self.x[jax.random.randint(key, (n,), 0, self.x.shape[0])]

    def log_prob(self, x: Vector) -> Scalar:
        """The log share of points equal to this one; minus infinity for one that was not seen."""
        return jnp.log(jnp.mean(jnp.all(self.x == x, axis=1).astype(self.x.dtype)))

    def moments(self) -> tuple[Vector, Covariance]:
        """Those of the points."""
        mean = jnp.mean(self.x, axis=0)
        factor = (self.x - mean).T / jnp.sqrt(self.x.shape[0])
        return mean, Covariance(jnp.zeros_like(mean), factor)
