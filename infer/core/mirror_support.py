"""Mirror maps beyond single numbers and intervals: the entropic simplex and log barriers.

The maps of `real`, `positive`, `greater_than`, `interval` and `unit_interval` are mirror maps as
they are; see `AbstractMirrorMap`.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from infer.core.support import (
    AbstractMirrorMap,
    Metric,
    Shape,
    as_float,
    broadcast_bound,
    log_range,
)
from infer.core.types import Flag, Scalar
from infer.core.vector_support import last_axis, simplex
from infer.references.citation import cites
from infer.references.langevin import SRINIVASAN_2025
from infer.references.particles import SHI_2022


@cites(SHI_2022)
class EntropicSimplex(AbstractMirrorMap):
    """Positive vectors x with sum 1 on the last axis, by x = softmax([u, 0]).

    The mirror map of the entropy psi(x) = sum x log x; u_i = log x_i - log x_K. Unlike the stick
    of `simplex` it treats all entries but the last alike, and its Jacobian is symmetric:
    dx/du = diag(x) - x x^T in the first K - 1 entries.

    Source: Shi, Liu and Mackey, Sampling with mirrored Stein operators, ICLR 2022.
    """

    label: ClassVar[str] = "simplex"

    def free_shape(self, shape: Shape) -> Shape:
        """One entry fewer on the last axis."""
        return (*shape[:-1], last_axis(self.label, shape, 2) - 1)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian, sum log x.

        Clipped where 1000 / x is still a number, as log densities have such slopes.
        """
        log_x = _log_softmax(u)
        return jnp.maximum(jnp.exp(log_x), 1024 * jnp.finfo(u.dtype).tiny), jnp.sum(log_x)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.log(x[..., :-1]) - jnp.log(x[..., -1:])

    def contains(self, x: Array) -> Flag:
        """Is x positive, with sum 1 up to rounding?"""
        return simplex.contains(x)

    def metric(self, u: Array) -> Metric:
        """diag(x) - x x^T; the rest is the last entry of x."""
        x = jnp.exp(jnp.maximum(_log_softmax(u), log_range(u.dtype)[0]))
        return Metric(x[..., :-1], x[..., :-1], x[..., -1])


def _log_softmax(u: Array) -> Array:
    return jax.nn.log_softmax(jnp.concatenate([u, jnp.zeros_like(u[..., :1])], axis=-1), axis=-1)


@cites(SRINIVASAN_2025)
class LogBarrierSimplex(AbstractMirrorMap):
    """Positive vectors x with sum 1 on the last axis: the mirror map of -sum log x.

        u_i = 1 / x_K - 1 / x_i,   x_i = 1 / (t - u_i)  with u_K = 0 and t such that sum x = 1,
        dx/du = diag(x^2) - x^2 (x^2)^T / |x|^2  in the first K - 1 entries.

    Near a face u grows like 1 / x, where that of `EntropicSimplex` grows like log x: noise and
    steps shrink in proportion to the distance. t is found by 40 Newton steps on a concave
    function, O(K) each; its derivatives of any order are those of the exact map.

    Source: Srinivasan, Wibisono and Wilson, High-accuracy sampling from constrained spaces with the
    Metropolis-adjusted preconditioned Langevin algorithm, ALT 2025 (the barrier as a metric).
    """

    label: ClassVar[str] = "simplex"

    def free_shape(self, shape: Shape) -> Shape:
        """One entry fewer on the last axis."""
        return (*shape[:-1], last_axis(self.label, shape, 2) - 1)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula and its log Jacobian."""
        x = _barrier_simplex(u)
        log_x = jnp.log(x)
        spread = 2 * jnp.max(log_x, axis=-1) + jnp.log(jnp.sum(_relative(x) ** 2, axis=-1))
        return x, 2 * jnp.sum(log_x) - jnp.sum(spread)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return 1 / x[..., -1:] - 1 / x[..., :-1]

    def contains(self, x: Array) -> Flag:
        """Is x positive, with sum 1 up to rounding?"""
        return simplex.contains(x)

    def metric(self, u: Array) -> Metric:
        """The class's formula; the rest is (x_K / |x|)^2."""
        x, tiny = _barrier_simplex(u), jnp.finfo(u.dtype).tiny
        norm = jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True))
        square = jnp.maximum(x**2, tiny)
        return Metric(
            square[..., :-1],
            square[..., :-1] / norm,
            jnp.maximum((x[..., -1] / norm[..., 0]) ** 2, tiny),
        )


def _relative(x: Array) -> Array:
    return x / jnp.max(x, axis=-1, keepdims=True)


@jax.custom_jvp
def _barrier_simplex(u: Array) -> Array:
    """x_i = 1 / (w + gap_i) with gap_i = max u - u_i and w in [1, K] such that sum x = 1.

    1 / sum_i 1 / (w + gap_i) is concave and increasing in w and at most 1 at w = 1, so Newton's
    method from there climbs to the root and never passes it.
    """
    whole = jnp.concatenate([u, jnp.zeros_like(u[..., :1])], axis=-1)
    gap = jnp.max(whole, axis=-1, keepdims=True) - whole

    def newton(_: Array, w: Array) -> Array:
        x = 1 / (w + gap)
        total = jnp.sum(x, axis=-1, keepdims=True)
        step = (total - 1) * total / jnp.sum(x**2, axis=-1, keepdims=True)
        return jnp.clip(w + step, 1.0, whole.shape[-1])

    w = jax.lax.fori_loop(0, 40, newton, jnp.ones_like(u[..., :1]))
    return 1 / (w + gap)


@_barrier_simplex.defjvp
def _barrier_simplex_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (u,), (du,) = primals, tangents
    x = _barrier_simplex(u)
    whole = jnp.concatenate([du, jnp.zeros_like(du[..., :1])], axis=-1)
    share = _relative(x) ** 2
    share = share / jnp.sum(share, axis=-1, keepdims=True)
    return x, x**2 * (whole - jnp.sum(share * whole, axis=-1, keepdims=True))


class LogBarrierBox(AbstractMirrorMap):
    """low < x < high by a log barrier: the mirror map of psi = -sum log(x - low)(high - x).

        x = middle + half u / (1 + t),   t = sqrt(1 + u^2),   dx/du = half / (t (1 + t)),

    with middle = (low + high) / 2 and half = (high - low) / 2, in whose units u is counted. Its
    tails fall like 1 / u, where those of `interval` fall exponentially.

    Args:
        low, high: bounds, low < high; they broadcast to the parameter.
    """

    low: Float[Array, "..."] = eqx.field(converter=as_float, default=-1.0)
    high: Float[Array, "..."] = eqx.field(converter=as_float, default=1.0)
    label: ClassVar[str] = "interval"

    def __check_init__(self) -> None:
        """Refuse an empty box."""
        traced = isinstance(self.low, Tracer) or isinstance(self.high, Tracer)
        if not traced and not bool(jnp.all(self.low < self.high)):
            raise ValueError(
                f"LogBarrierBox needs low < high, got low = {self.low} and high = {self.high}"
            )

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        broadcast_bound(self.label, shape, self.low)
        return broadcast_bound(self.label, shape, self.high)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        half, t = (self.high - self.low) / 2, jnp.hypot(1.0, u)
        # From the nearer end, whose distance is 1 - |u| / (1 + t) = 2 / (1 + t + |u|) halves.
        gap = half * 2 / (1 + t + jnp.abs(u))
        x = jnp.where(u < 0, self.low + gap, self.high - gap)
        above = jnp.nextafter(self.low, self.high).astype(x.dtype)
        x = jnp.clip(x, above, jnp.nextafter(self.high, self.low).astype(x.dtype))
        return x, jnp.sum(jnp.log(half) - jnp.log(t) - jnp.log1p(t))

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`: u = y / (1 - y^2) * 2 y = (x - middle) / half."""
        below, above = x - self.low, self.high - x
        return (below - above) * (self.high - self.low) / (2 * below * above)

    def contains(self, x: Array) -> Flag:
        """Is x strictly between the bounds?"""
        return jnp.all((x > self.low) & (x < self.high))

    def metric(self, u: Array) -> Metric:
        """diag(half / (t (1 + t)))."""
        t = jnp.hypot(1.0, u)
        return Metric((self.high - self.low) / 2 / t / (1 + t))


class LogBarrierBall(AbstractMirrorMap):
    """Vectors on the last axis with |x| < radius: the mirror map of -log(radius^2 - |x|^2).

        x = radius u / (1 + t),   t = sqrt(1 + |u|^2),
        dx/du = radius / (1 + t) I - x x^T / (radius t),

    u counted in units of 1 / radius.

    Args:
        radius: > 0.
    """

    radius: Scalar = eqx.field(converter=as_float, default=1.0)
    label: ClassVar[str] = "ball"

    def __check_init__(self) -> None:
        """Refuse a ball without points."""
        if not isinstance(self.radius, Tracer) and not bool(self.radius > 0):
            raise ValueError(f"LogBarrierBall needs radius > 0, got {self.radius}")

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        last_axis(self.label, shape, 1)
        return tuple(shape)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        t = _root(u)
        x = self.radius * u / (1 + t)[..., None]
        inside = 1 - 4 * jnp.finfo(u.dtype).eps
        norm = jnp.linalg.norm(jax.lax.stop_gradient(x), axis=-1, keepdims=True) / self.radius
        x = x * jnp.minimum(1.0, inside / jnp.maximum(norm, inside))
        k = u.shape[-1]
        return x, jnp.sum(k * (jnp.log(self.radius) - jnp.log1p(t)) - jnp.log(t))

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`: u = 2 y / (1 - |y|^2) with y = x / radius."""
        y = x / self.radius
        size = jnp.linalg.norm(y, axis=-1, keepdims=True)
        return 2 * y / ((1 - size) * (1 + size))

    def contains(self, x: Array) -> Flag:
        """Is every vector strictly inside?"""
        return jnp.all(jnp.linalg.norm(x, axis=-1) < self.radius)

    def metric(self, u: Array) -> Metric:
        """The class's formula; the rest is 1 / t."""
        t = _root(u)
        x = u / (1 + t)[..., None]
        a = jnp.broadcast_to((self.radius / (1 + t))[..., None], u.shape)
        return Metric(a, x * jnp.sqrt(self.radius / t)[..., None], 1 / t)


def _root(u: Array) -> Array:
    """sqrt(1 + |u|^2) without overflow; its derivative at u = 0 is 0."""
    size = jnp.maximum(1.0, jax.lax.stop_gradient(jnp.max(jnp.abs(u), axis=-1)))
    return size * jnp.sqrt(1 / size**2 + jnp.sum((u / size[..., None]) ** 2, axis=-1))
