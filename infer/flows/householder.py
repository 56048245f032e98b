"""Orthogonal maps as products of reflections."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import check_count
from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.layer import AbstractLayer
from infer.references.citation import cites
from infer.references.flows import TOMCZAK_2016


@cites(TOMCZAK_2016)
class Householder(AbstractLayer):
    """y = H_k ... H_1 x,  H_i = I - 2 v_i v_i^T / |v_i|^2: orthogonal, so s' = H_k ... H_1 s.

    Any values of the leaves will do: a v_i of next to no length reflects nothing. The log
    determinant is zero and the cost O(k d). Every orthogonal map of R^d is a product of at most d
    reflections.

    Source: Tomczak and Welling, Improving variational auto-encoders using Householder flow, 2016.
    """

    vectors: Float[Array, "k d"]

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """Reflected k times, and zero."""
        return self._reflected(x, reverse=False), jnp.zeros((), x.dtype)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """Reflected in the opposite order, and zero."""
        return self._reflected(y, reverse=True), jnp.zeros((), y.dtype)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """Reflected, zero, and the score reflected."""
        fixed, score = jax.lax.stop_gradient((self, score))
        return *self.forward(x), fixed._reflected(score, reverse=False)

    def _reflected(self, x: Vector, reverse: bool) -> Vector:
        def reflect(x: Vector, v: Vector) -> tuple[Vector, None]:
            square = v @ v
            there = square > jnp.finfo(v.dtype).tiny ** 0.5  # its square, in derivatives, is > 0
            return x - jnp.where(there, 2 * (v @ x) / jnp.where(there, square, 1), 0) * v, None

        return jax.lax.scan(reflect, x, self.vectors, reverse=reverse)[0]


def householder(key: PRNGKey, like: Vector, n: int) -> Householder:
    """`n` reflections at random, for vectors like this one; they leave N(0, I) as it is."""
    check_count("householder", "n", n, len(like))
    return Householder(jax.random.normal(key, (n, len(like)), like.dtype))
