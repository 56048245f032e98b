"""Small pieces of linear algebra shared by all floors."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import Count, Points, Vector

LOG_2PI = 1.8378770664093453


def standard_log_prob(noise: Float[Array, "... d"]) -> Float[Array, "..."]:
    """The log density of N(0, I), over the last axis."""
    return -0.5 * jnp.sum(noise**2, axis=-1) - 0.5 * noise.shape[-1] * LOG_2PI


class Moments(eqx.Module):
    """Running mean and scatter of a stream of vectors (Welford); O(d) diagonal, O(d^2) dense."""

    count: Count
    mean: Vector
    scatter: Float[Array, "..."]

    def add(self, x: Vector) -> "Moments":
        """Take in one vector."""
        count = self.count + 1
        before = x - self.mean
        mean = self.mean + before / count
        after = x - mean
        product = jnp.outer(before, after) if self.scatter.ndim == 2 else before * after
        return Moments(count, mean, self.scatter + product)

    def covariance(self) -> Float[Array, "..."]:
        """Sample covariance (n - 1), a matrix or its diagonal."""
        return self.scatter / jnp.maximum(self.count - 1, 1)


def empty_moments(like: Vector, dense: bool) -> Moments:
    """Moments of no vectors at all."""
    d = like.shape[0]
    scatter = jnp.zeros((d, d) if dense else (d,), like.dtype)
    return Moments(jnp.zeros((), int), jnp.zeros_like(like), scatter)


class Covariance(eqx.Module):
    """diag(diagonal) + F M F^T, by its parts; M is the identity where it is None.

    Attributes:
        diagonal: zero where the covariance is F F^T alone.
        factor: F; none, (d, 0), where the covariance is diagonal.
        core: M, symmetric.
    """

    diagonal: Vector
    factor: Float[Array, "d r"]
    core: Float[Array, "r r"] | None = None

    def sd(self) -> Vector:
        """Standard deviations, O(d r^2) with a core."""
        right = self.factor if self.core is None else self.factor @ self.core
        return jnp.sqrt(self.diagonal + jnp.sum(right * self.factor, axis=1))

    def dense(self) -> Float[Array, "d d"]:
        """The matrix; for small d."""
        return self.times(jnp.eye(self.diagonal.shape[0], dtype=self.diagonal.dtype))

    def times(self, v: Points) -> Points:
        """Rows times the covariance, O(d r) each."""
        inside = v @ self.factor
        inside = inside if self.core is None else inside @ self.core
        return v * self.diagonal + inside @ self.factor.T
