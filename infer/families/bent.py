"""Gaussians whose factor is a diagonal, bent in a few directions."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.linalg import LOG_2PI, Covariance
from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector


class BentGaussian(AbstractDistribution):
    """N(mean, C C^T) with C = diag(scale) (I + Q (L - I) Q^T): a diagonal bent in r directions.

    Q has orthonormal columns and L is lower triangular, r x r, so that inverse and determinant are
    those of L: C^-1 = (I + Q (L^-1 - I) Q^T) diag(1 / scale). Cost O(d r) per draw.
    """

    mean: Vector
    scale: Vector
    basis: Float[Array, "d r"]
    core: Float[Array, "r r"]

    @property
    def is_gaussian(self) -> bool:
        """True."""
        return True

    @property
    def factor(self) -> Float[Array, "d d"]:
        """C with covariance C C^T; O(d^2)."""
        return self._bend(jnp.eye(self.mean.shape[0], dtype=self.mean.dtype)).T

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix; O(d^2)."""
        return self.factor @ self.factor.T

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws with log q = log N(noise; 0, I) - log det C and score = -C^-T noise."""
        noise = jax.random.normal(key, (n, self.mean.shape[0]), self.mean.dtype)
        fixed = jax.lax.stop_gradient(self)
        inside = noise @ fixed.basis
        solved = jax.scipy.linalg.solve_triangular(fixed.core, inside.T, lower=True, trans=1).T
        score = -(noise + (solved - inside) @ fixed.basis.T) / fixed.scale
        return Draws(self.place(noise), self.log_density(noise), score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return self.place(jax.random.normal(key, (n, self.mean.shape[0]), self.mean.dtype))

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        unit = (x - self.mean) / self.scale
        inside = unit @ self.basis
        solved = jax.scipy.linalg.solve_triangular(self.core, inside, lower=True)
        return self.log_density(unit + self.basis @ (solved - inside))

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean and covariance, diag(scale^2) + (scale Q) (L L^T - I) (scale Q)^T."""
        core = self.core @ self.core.T - jnp.eye(len(self.core), dtype=self.core.dtype)
        return self.mean, Covariance(self.scale**2, self.scale[:, None] * self.basis, core)

    def place(self, noise: Points) -> Points:
        """The points mean + C noise."""
        return self.mean + self._bend(noise)

    def log_density(self, noise: Float[Array, "... d"]) -> Float[Array, "..."]:
        """The log density at the points that `place` makes of this noise."""
        log_det = jnp.sum(jnp.log(self.scale)) + jnp.sum(jnp.log(jnp.diagonal(self.core)))
        return -0.5 * jnp.sum(noise**2, axis=-1) - 0.5 * noise.shape[-1] * LOG_2PI - log_det

    def covariance_times(self, v: Vector) -> Vector:
        """The covariance times a vector, O(d r)."""
        inside = (self.scale * v) @ self.basis
        return self.scale * (
            self.scale * v + self.basis @ (self.core @ (self.core.T @ inside) - inside)
        )

    def _bend(self, noise: Points) -> Points:
        inside = noise @ self.basis
        return self.scale * (noise + (inside @ self.core.T - inside) @ self.basis.T)
