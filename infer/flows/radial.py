"""The radial layer: contracts or expands around a point."""

import jax
import jax.numpy as jnp

from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.layer import AbstractLayer
from infer.references.citation import cites
from infer.references.flows import REZENDE_2015

FLOOR = 1e-3  # least stretch


@cites(REZENDE_2015)
class Radial(AbstractLayer):
    """y = center + c (x - center),  c = 1 + k g,  g = a / (a + r),  r = |x - center|.

    Lengths across the ray are stretched by c, those along it by e:

        e = d(c r)/dr = 1 + k g^2,   log det = (d - 1) log c + log e

    It is invertible if k > -1, and k = r0 elu(strength / r0) > -r0 with r0 = 0.999, so that any
    values of the leaves will do and `strength` zero is the identity; a = exp(log_radius). With n
    the unit vector along the ray the score is

        v = s + k g^2 / a ((d - 1) / c + 2 g / e) n,   s' = (v - n n.v) / c + n n.v / e

    The inverse solves a quadratic for r. Cost O(d). At the center itself the density is
    continuous and the score is not: there n is taken as zero.

    Source: Rezende and Mohamed, Variational inference with normalizing flows, ICML 2015, where
    alpha = a and beta = k a.
    """

    center: Vector
    log_radius: Scalar
    strength: Scalar

    @property
    def gain(self) -> Scalar:
        """The number k > -1."""
        return (1 - FLOOR) * jax.nn.elu(self.strength / (1 - FLOOR))

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """The image y and the log determinant."""
        r, _ = _ray(x - self.center)
        c, e = self._stretch(r)
        return self.center + c * (x - self.center), self._log_det(c, e)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """By the root r >= 0 of r^2 + (a (1 + k) - |y - center|) r - a |y - center| = 0."""
        image, _ = _ray(y - self.center)
        a = jnp.exp(self.log_radius)
        first, last = a * (1 + self.gain) - image, a * image
        root = jnp.sqrt(first**2 + 4 * last)
        # Of the two ways to write it the one that adds numbers of one sign.
        outside = first < 0
        near = 2 * last / (jnp.where(outside, 0, first) + root)
        c, e = self._stretch(jnp.where(outside, (root - first) / 2, near))
        return self.center + (y - self.center) / c, -self._log_det(c, e)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """The image y, the log determinant and s'."""
        y, log_det = self.forward(x)
        fixed, x, score = jax.lax.stop_gradient((self, x, score))
        r, n = _ray(x - fixed.center)
        c, e = fixed._stretch(r)
        a = jnp.exp(fixed.log_radius)
        g = a / (a + r)
        v = score + fixed.gain * g**2 / a * ((len(x) - 1) / c + 2 * g / e) * n
        ahead = n * (n @ v)
        return y, log_det, (v - ahead) / c + ahead / e

    def _stretch(self, r: Scalar) -> tuple[Scalar, Scalar]:
        """The stretches c and e at this distance."""
        a = jnp.exp(self.log_radius)
        g = a / (a + r)
        return 1 + self.gain * g, 1 + self.gain * g**2

    def _log_det(self, c: Scalar, e: Scalar) -> Scalar:
        return (self.center.shape[0] - 1) * jnp.log(c) + jnp.log(e)


def _ray(x: Vector) -> tuple[Scalar, Vector]:
    """Length and unit vector; both zero, and so are their derivatives, at zero."""
    square = x @ x
    there = square > 0
    length = jnp.where(there, jnp.sqrt(jnp.where(there, square, 1)), 0)
    return length, x / jnp.where(there, length, 1)


def radial(key: PRNGKey, like: Vector) -> Radial:
    """A radial layer that is the identity, for vectors like this one; its center at random."""
    center = jax.random.normal(key, like.shape, like.dtype)
    zero = jnp.zeros((), like.dtype)
    return Radial(center, jnp.log(jnp.linalg.norm(center)), zero)
