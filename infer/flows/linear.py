"""Layers that are affine: one scale per coordinate, a triangular product, a reversal."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from infer.core.types import Scalar, Vector
from infer.flows.layer import AbstractLayer


class Elementwise(AbstractLayer):
    """y = shift + exp(log_scale) * x;  s' = exp(-log_scale) * s. Cost O(d)."""

    shift: Vector
    log_scale: Vector

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """y, and the sum of the log scales."""
        return self.shift + jnp.exp(self.log_scale) * x, jnp.sum(self.log_scale)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """x, and minus the sum of the log scales."""
        return (y - self.shift) * jnp.exp(-self.log_scale), -jnp.sum(self.log_scale)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """y, the sum of the log scales and s'."""
        y, log_det = self.forward(x)
        return y, log_det, jax.lax.stop_gradient(score * jnp.exp(-self.log_scale))


class Triangular(AbstractLayer):
    """y = L U x + shift, L unit lower and U upper triangular;  s' = L^-T U^-T s. Cost O(d^2).

    L = I + tril(factors, -1) and U = diag(exp(log_diagonal)) + triu(factors, 1), so that any
    values of the leaves give an invertible map; the diagonal of `factors` is never read. L U
    misses the linear maps that need a row exchange: follow it by `Reverse`, or couplings.
    """

    factors: Float[Array, "d d"]
    log_diagonal: Vector
    shift: Vector

    @property
    def lower(self) -> Float[Array, "d d"]:
        """L."""
        return jnp.tril(self.factors, -1) + jnp.eye(len(self.shift), dtype=self.shift.dtype)

    @property
    def upper(self) -> Float[Array, "d d"]:
        """U."""
        return jnp.triu(self.factors, 1) + jnp.diag(jnp.exp(self.log_diagonal))

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """y, and the sum of the log diagonal."""
        return self.lower @ (self.upper @ x) + self.shift, jnp.sum(self.log_diagonal)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """By two triangular solves; and minus the sum of the log diagonal."""
        half = solve_triangular(self.lower, y - self.shift, lower=True, unit_diagonal=True)
        return solve_triangular(self.upper, half), -jnp.sum(self.log_diagonal)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """y, the sum of the log diagonal and s' by two triangular solves."""
        y, log_det = self.forward(x)
        fixed, score = jax.lax.stop_gradient((self, score))
        half = solve_triangular(fixed.upper, score, trans="T")
        score = solve_triangular(fixed.lower, half, lower=True, trans="T", unit_diagonal=True)
        return y, log_det, score


def triangular(like: Vector) -> Triangular:
    """The triangular layer that is the identity, for vectors like this one."""
    zero = jnp.zeros_like(like)
    return Triangular(jnp.zeros((len(like), len(like)), like.dtype), zero, zero)


class Reverse(AbstractLayer):
    """y = x backwards: between two couplings, so that each half is moved in turn. No parameters."""

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """Backwards, and zero."""
        return x[::-1], jnp.zeros((), x.dtype)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """Backwards, and zero."""
        return self.forward(y)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """Backwards, zero, and the score backwards."""
        return x[::-1], jnp.zeros((), x.dtype), jax.lax.stop_gradient(score[::-1])
