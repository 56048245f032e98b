"""The distribution without parameters: N(0, I)."""

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.linalg import Covariance, standard_log_prob
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector


class StandardGaussian(AbstractDistribution):
    """N(0, I) on R^d; it has no leaves, so nothing in it can be fitted.

    Attributes:
        d: dimension.
    """

    d: int = eqx.field(static=True)

    @property
    def is_gaussian(self) -> bool:
        """True."""
        return True

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws x with score -x."""
        x = self.sample(key, n)
        return Draws(x, standard_log_prob(x), -x, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return jax.random.normal(key, (n, self.d))

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        return standard_log_prob(x)

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean 0 and covariance I."""
        mean = jnp.zeros(self.d)
        return mean, Covariance(jnp.ones_like(mean), jnp.zeros((self.d, 0)))


class Standard(AbstractFamily):
    """The family of one member, N(0, I): the prior of a `VAE` that is not fitted.

    q(x) = N(x; 0, I)
    """

    def init(self, key: PRNGKey, start: Vector) -> StandardGaussian:
        """N(0, I) of the dimension of `start`, wherever that is."""
        return StandardGaussian(start.shape[0])
