"""Gaussians with a diagonal and with a full covariance."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import positive
from infer.core.linalg import Covariance, standard_log_prob
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector


class DiagonalGaussian(AbstractDistribution):
    """N(mean, diag(exp(log_scale))^2): x = mean + exp(log_scale) * noise. Cost O(d) per draw."""

    mean: Vector
    log_scale: Vector

    @property
    def is_gaussian(self) -> bool:
        """True."""
        return True

    @property
    def factor(self) -> Float[Array, "d d"]:
        """L with covariance L L^T."""
        return jnp.diag(jnp.exp(self.log_scale))

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return jnp.diag(jnp.exp(2 * self.log_scale))

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws with log q = log N(noise; 0, I) - sum(log_scale) and score = -noise / scale."""
        noise = jax.random.normal(key, (n, self.mean.shape[0]), self.mean.dtype)
        scale = jnp.exp(self.log_scale)
        log_q = standard_log_prob(noise) - jnp.sum(self.log_scale)
        score = jax.lax.stop_gradient(-noise / scale)
        return Draws(self.mean + scale * noise, log_q, score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return self.sample_score(key, n).x

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        noise = (x - self.mean) * jnp.exp(-self.log_scale)
        return standard_log_prob(noise) - jnp.sum(self.log_scale)

    def attached(self, x: Points) -> Points:
        """Mean + scale noise at the noise of x."""
        noise = jax.lax.stop_gradient((x - self.mean) * jnp.exp(-self.log_scale))
        return self.mean + jnp.exp(self.log_scale) * noise

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean and covariance."""
        none = jnp.zeros((self.mean.shape[0], 0), self.mean.dtype)
        return self.mean, Covariance(jnp.exp(2 * self.log_scale), none)


class CholeskyGaussian(AbstractDistribution):
    """N(mean, L L^T) with L = tril(lower, -1) + diag(exp(log_diagonal)).

    The factor is lower triangular by construction: the upper part of `lower` is never read.
    Cost O(d^2) per draw.
    """

    mean: Vector
    lower: Float[Array, "d d"]
    log_diagonal: Vector

    @property
    def is_gaussian(self) -> bool:
        """True."""
        return True

    @property
    def factor(self) -> Float[Array, "d d"]:
        """L with covariance L L^T."""
        return jnp.tril(self.lower, -1) + jnp.diag(jnp.exp(self.log_diagonal))

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return self.factor @ self.factor.T

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws x = mean + L noise with log q = log N(noise) - log det L, score = -L^-T noise."""
        noise = jax.random.normal(key, (n, self.mean.shape[0]), self.mean.dtype)
        log_q = standard_log_prob(noise) - jnp.sum(self.log_diagonal)
        fixed = jax.lax.stop_gradient(self.factor)
        score = -jax.scipy.linalg.solve_triangular(fixed, noise.T, lower=True, trans="T").T
        return Draws(self._place(noise), log_q, score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        noise = jax.random.normal(key, (n, self.mean.shape[0]), self.mean.dtype)
        return self._place(noise)

    def _place(self, noise: Points) -> Points:
        """The points mean + L noise, without forming the diagonal matrix."""
        return self.mean + noise @ jnp.tril(self.lower, -1).T + noise * jnp.exp(self.log_diagonal)

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        noise = jax.scipy.linalg.solve_triangular(self.factor, x - self.mean, lower=True)
        return standard_log_prob(noise) - jnp.sum(self.log_diagonal)

    def attached(self, x: Points) -> Points:
        """Mean + L noise at the noise of x."""
        rest = jax.lax.stop_gradient(x - self.mean)
        fixed = jax.lax.stop_gradient(self.factor)
        return self._place(jax.scipy.linalg.solve_triangular(fixed, rest.T, lower=True).T)

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean and covariance."""
        return self.mean, Covariance(jnp.zeros_like(self.mean), self.factor)


class DenseGaussian(AbstractDistribution):
    """N(mean, C C^T) with any square factor C: x = mean + C noise. Cost O(d^2) per draw.

    What methods that update a whole covariance hold; nothing keeps C triangular.
    """

    mean: Vector
    factor: Float[Array, "d d"]

    @property
    def is_gaussian(self) -> bool:
        """True."""
        return True

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return self.factor @ self.factor.T

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws with log q = log N(noise; 0, I) - log |det C| and score = -C^-T noise."""
        noise = jax.random.normal(key, (n, self.mean.shape[0]), self.mean.dtype)
        log_q = standard_log_prob(noise) - jnp.linalg.slogdet(self.factor)[1]
        fixed = jax.lax.stop_gradient(self.factor)
        score = -jnp.linalg.solve(fixed.T, noise.T).T
        return Draws(self.mean + noise @ self.factor.T, log_q, score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        noise = jax.random.normal(key, (n, self.mean.shape[0]), self.mean.dtype)
        return self.mean + noise @ self.factor.T

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point; O(d^3)."""
        noise = jnp.linalg.solve(self.factor, x - self.mean)
        return standard_log_prob(noise) - jnp.linalg.slogdet(self.factor)[1]

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean and covariance."""
        return self.mean, Covariance(jnp.zeros_like(self.mean), self.factor)


class MeanField(AbstractFamily):
    """Gaussians with a diagonal covariance on R^d: q(z) = prod_i N(z_i; m_i, s_i^2).

    Its best member under the reverse Kullback-Leibler divergence has the precision diagonal of
    the posterior, hence too small a spread wherever coordinates are correlated.

    Args:
        scale: standard deviation of the first member, > 0, on the unconstrained scale.
    """

    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)

    def init(self, key: PRNGKey, start: Vector) -> DiagonalGaussian:
        """N(start, scale^2 I)."""
        return DiagonalGaussian(start, jnp.full_like(start, jnp.log(self.scale)))


class FullRank(AbstractFamily):
    """Gaussians with a full covariance on R^d: q(z) = N(z; m, L L^T), d(d + 3)/2 parameters.

    Args:
        scale: standard deviation of the first member, > 0, on the unconstrained scale.
    """

    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)

    def init(self, key: PRNGKey, start: Vector) -> CholeskyGaussian:
        """N(start, scale^2 I)."""
        d = start.shape[0]
        return CholeskyGaussian(
            start, jnp.zeros((d, d), start.dtype), jnp.full_like(start, jnp.log(self.scale))
        )
