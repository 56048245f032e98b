"""The planar layer: what lies along one direction decides how far all move along another."""

import jax
import jax.numpy as jnp

from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.layer import AbstractLayer
from infer.flows.root import increasing_root
from infer.references.citation import cites
from infer.references.flows import REZENDE_2015

FLOOR = 1e-3  # least slope


@cites(REZENDE_2015)
class Planar(AbstractLayer):
    """y = x + u t,  t = tanh(w.x + b): all is moved along u, as far as a ridge across w says.

        log det = log(1 + c (1 - t^2)),  c = w.u

    It is invertible if c > -1. So u = push + (m(a) - a) w / |w|^2 with a = w.push, which has
    w.u = m(a), where m(a) = a for a >= 0 and, with r = 0.999, r expm1(a / r) > -r below: any
    values of the leaves will do, `push` of zero is the identity, and no slope is below 0.001. The
    score needs no inverse, by the formula of Sherman and Morrison:

        v = s + 2 c t (1 - t^2) / (1 + c (1 - t^2)) w,   s' = v - (1 - t^2) (u.v) / det  w

    Cost O(d); the inverse is a guarded search for w.x, which is exact to rounding divided by the
    slope. One layer makes one ridge: take many.

    Source: Rezende and Mohamed, Variational inference with normalizing flows, ICML 2015, with
    another m, with which the layer is continuous at w = 0 and can start as the identity.
    """

    along: Vector
    across: Vector
    offset: Scalar

    @property
    def direction(self) -> tuple[Vector, Scalar]:
        """The pair u and c = w.u > -1."""
        a, most = self.across @ self.along, 1 - FLOOR
        c = most * jax.nn.elu(a / most)
        # c - a is of the order of a^2, so what is left out where w is next to nothing is smaller.
        square = self.across @ self.across
        there = square > jnp.finfo(a.dtype).tiny ** 0.5
        share = jnp.where(there, (c - a) / jnp.where(there, square, 1), 0)
        return self.along + share * self.across, c

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """The image y and the log determinant."""
        u, c = self.direction
        t = jnp.tanh(self.across @ x + self.offset)
        return x + u * t, jnp.log1p(c * (1 - t**2))

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """By the root z = w.x of z + c tanh(z + b) = w.y; x = y - u tanh(z + b)."""
        u, c = self.direction
        image = self.across @ y
        z = increasing_root(
            lambda z: z + c * jnp.tanh(z + self.offset) - image,
            image - jnp.abs(c),
            image + jnp.abs(c),
        )
        t = jnp.tanh(z + self.offset)
        return y - u * t, -jnp.log1p(c * (1 - t**2))

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """The image y, the log determinant and s'."""
        y, log_det = self.forward(x)
        fixed, x, score = jax.lax.stop_gradient((self, x, score))
        (u, c), w = fixed.direction, fixed.across
        t = jnp.tanh(w @ x + fixed.offset)
        slope = 1 - t**2
        det = 1 + c * slope
        v = score + 2 * c * t * slope / det * w
        return y, log_det, v - slope * (u @ v) / det * w


def planar(key: PRNGKey, like: Vector) -> Planar:
    """A planar layer that is the identity, for vectors like this one; its ridge at random."""
    w_key, b_key = jax.random.split(key)
    w = jax.random.normal(w_key, like.shape, like.dtype)
    return Planar(jnp.zeros_like(like), w, jax.random.normal(b_key, (), like.dtype))
