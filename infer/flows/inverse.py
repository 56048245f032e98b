"""A layer the other way round, and the score by way of an inverse."""

import jax
import jax.numpy as jnp

from infer.core.types import Scalar, Vector
from infer.flows.layer import AbstractLayer


def push_by_inverse(
    layer: AbstractLayer, x: Vector, score: Vector
) -> tuple[Vector, Scalar, Vector]:
    """T(x), log |det dT/dx| and the score at y = T(x), for any layer, by one pass back.

    Since log q(y) = log q(x) + ld(y) with x = T^-1(y) and ld = log |det dx/dy|,

        s' = (dx/dy)^T s + grad_y ld,

    the vector-Jacobian product of y -> (x, ld) at the cotangent (s, 1). Cost: `forward`, and
    `inverse` once and once back; worth it where the inverse is the cheap direction.
    """
    y, log_det = layer.forward(x)
    fixed, at, score = jax.lax.stop_gradient((layer, y, score))
    (_, minus), pull = jax.vjp(fixed.inverse, at)
    return y, log_det, pull((score, jnp.ones_like(minus)))[0]


class Inverse(AbstractLayer):
    """y = T^-1(x), the inverse of another layer: what was cheap in one direction is in the other.

    Attributes:
        layer: T.
    """

    layer: AbstractLayer

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """The y with T(y) = x, and minus the log determinant of T there."""
        return self.layer.inverse(x)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """T(y) and its log determinant."""
        return self.layer.forward(y)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """Image, log determinant and s' = J_T^T s + grad log |det J_T|, all at the image."""
        return push_by_inverse(self, x, score)
