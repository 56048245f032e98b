"""Where a parameter lives, and how the real line is mapped onto it.

A support is a record whose bounds are array leaves: another bound compiles nothing. Leading axes
are batch axes, event axes come last. The maps are those of NumPyro's `biject_to`, so densities on
the unconstrained scale agree with NumPyro's and, for most supports, Stan's. Where the real line
reaches further than floating point the value is clipped to the nearest one inside the support,
while the log Jacobian goes on unclipped, so the density keeps a slope that leads back.

Here: supports of single numbers. Vectors are in `infer.core.vector_support`, matrices in
`infer.core.matrix_support`.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.nn import log_sigmoid
from jaxtyping import Array, ArrayLike, Float

from infer.core.types import Flag, Scalar

Shape = tuple[int, ...]


class AbstractSupport(eqx.Module):
    """A subset of real arrays with a smooth bijection from unconstrained arrays.

    Attributes:
        label: the word shown in tables.
    """

    label: eqx.AbstractClassVar[str]

    @abstractmethod
    def free_shape(self, shape: Shape) -> Shape:
        """Shape of the unconstrained array; `ValueError` where `shape` does not fit."""

    @abstractmethod
    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The point x on the support and log |det dx/du|, summed over the whole array."""

    @abstractmethod
    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""

    @abstractmethod
    def contains(self, x: Array) -> Flag:
        """Does every entry lie strictly inside the support?"""


class Metric(eqx.Module):
    """The Jacobian of a mirror map and its inverse, from O(d) numbers.

        J = dx/du = diag(a) - b b^T,    J^-1 v = v / a + (b / a) (b . v / a) / rest

    Attributes:
        a: the diagonal, > 0, in the shape of u.
        b: the part of rank one per vector on the last axis, or None where J is diagonal.
        rest: 1 - sum b^2 / a > 0 over the last axis, which is kept because a and b do not tell it
            when it is small.
    """

    a: Array
    b: Array | None = None
    rest: Array | None = None

    def times(self, v: Array) -> Array:
        """J v."""
        if self.b is None:
            return self.a * v
        return self.a * v - self.b * jnp.sum(self.b * v, axis=-1, keepdims=True)

    def solve(self, v: Array) -> Array:
        """J^-1 v, the Hessian of the mirror potential times v."""
        if self.b is None or self.rest is None:
            return v / self.a
        along = jnp.sum(self.b * (v / self.a), axis=-1, keepdims=True)
        return v / self.a + (self.b / self.a) * along / self.rest[..., None]

    def color(self, v: Array) -> Array:
        """L v with L L^T = J^-1: standard noise becomes noise with the covariance J^-1.

        With w = b / sqrt(a), L = diag(1 / sqrt(a)) (I + w w^T / (sqrt(rest) (1 + sqrt(rest)))).
        """
        root = jnp.sqrt(self.a)
        if self.b is None or self.rest is None:
            return v / root
        w, short = self.b / root, jnp.sqrt(self.rest)[..., None]
        along = jnp.sum(w * v, axis=-1, keepdims=True)
        return (v + w * (along / short / (1 + short))) / root

    def square(self, v: Array) -> Scalar:
        """V . J v, as a sum of squares, which rounding cannot make negative."""
        if self.b is None or self.rest is None:
            return jnp.sum(self.a * v**2)
        along = jnp.sum(self.b * v, axis=-1, keepdims=True)
        across = jnp.sqrt(self.a) * v - (self.b / jnp.sqrt(self.a)) * along
        return jnp.sum(across**2) + jnp.sum(self.rest * along[..., 0] ** 2)

    def log_det(self) -> Scalar:
        """Log det J."""
        logs = jnp.sum(jnp.log(self.a))
        return logs if self.rest is None else logs + jnp.sum(jnp.log(self.rest))


class AbstractMirrorMap(AbstractSupport):
    """A support whose map from the real line is the gradient of a convex function.

    With psi the mirror potential on the support, u = grad psi(x) and x = grad psi*(u), so that
    the Jacobian dx/du is symmetric and positive definite, and its inverse is the Hessian of psi.
    Where the support has more entries than coordinates (a simplex), x stands here for the leading
    ones, as many as there are coordinates.

    For one of your own, subclass it and write the four methods of a support and `metric`;
    `infer.check_mirror` compares them with one another.
    """

    @abstractmethod
    def metric(self, u: Array) -> Metric:
        """dx/du, the inverse Hessian of the potential."""


def log_range(dtype: jnp.dtype) -> tuple[float, float]:
    """Logarithms of the smallest and the largest normal number, a few roundings inside."""
    limits = jnp.finfo(dtype)
    inside = 1 - 8 * float(limits.eps)
    return float(np.log(float(limits.tiny))) * inside, float(np.log(float(limits.max))) * inside


def clipped_exp(u: Array) -> Array:
    """exp(u), kept positive and finite; clipped before it is raised, so no gradient is NaN."""
    return jnp.exp(jnp.clip(u, *log_range(u.dtype)))


def _sigmoid_slope(u: Array) -> Array:
    """sigmoid(u) sigmoid(-u), kept positive."""
    return jnp.exp(jnp.maximum(log_sigmoid(u) + log_sigmoid(-u), log_range(u.dtype)[0]))


def as_float(x: ArrayLike) -> Array:
    """An array of the default float type."""
    return jnp.asarray(x, jnp.result_type(float))


def _above(low: Array, dtype: jnp.dtype) -> Array:
    """The first value above `low` that arithmetic does not flush to zero."""
    low = jax.lax.stop_gradient(low.astype(dtype))
    tiny = jnp.finfo(dtype).tiny
    up = jnp.nextafter(low, jnp.full_like(low, jnp.inf))
    return jnp.where(jnp.abs(low) < tiny, tiny, up)


def broadcast_bound(name: str, shape: Shape, bound: Array) -> Shape:
    """The shape, where the bound broadcasts to it."""
    try:
        fits = np.broadcast_shapes(shape, bound.shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has a bound of shape {bound.shape}, which does not broadcast to the "
            f"parameter's shape {tuple(shape)}"
        )
    return tuple(shape)


class Real(AbstractMirrorMap):
    """All real arrays."""

    label: ClassVar[str] = "real"

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        return tuple(shape)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The point itself; the log Jacobian is 0."""
        return u, jnp.zeros((), u.dtype)

    def unconstrain(self, x: Array) -> Array:
        """The point itself."""
        return x

    def contains(self, x: Array) -> Flag:
        """Is x finite?"""
        return jnp.all(jnp.isfinite(x))

    def metric(self, u: Array) -> Metric:
        """The identity."""
        return Metric(jnp.ones_like(u))


class Positive(AbstractMirrorMap):
    """x > 0 by x = exp(u)."""

    label: ClassVar[str] = "positive"

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        return tuple(shape)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        return clipped_exp(u), jnp.sum(u)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.log(x)

    def contains(self, x: Array) -> Flag:
        """Is x positive and finite?"""
        return jnp.all((x > 0) & jnp.isfinite(x))

    def metric(self, u: Array) -> Metric:
        """diag(x), of the potential sum x log x - x."""
        return Metric(clipped_exp(u))


class GreaterThan(AbstractMirrorMap):
    """x > low by x = low + exp(u).

    Args:
        low: the bound, a number or an array that broadcasts to the parameter.
    """

    low: Float[Array, "..."] = eqx.field(converter=as_float)
    label: ClassVar[str] = "greater_than"

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        return broadcast_bound(self.label, shape, self.low)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        x = self.low + clipped_exp(u)
        return jnp.clip(x, _above(self.low, x.dtype), jnp.finfo(x.dtype).max), jnp.sum(u)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.log(x - self.low)

    def contains(self, x: Array) -> Flag:
        """Is x finite and above `low`?"""
        return jnp.all((x > self.low) & jnp.isfinite(x))

    def metric(self, u: Array) -> Metric:
        """diag(x - low)."""
        return Metric(clipped_exp(u))


class LessThan(AbstractSupport):
    """x < high by x = high - exp(u).

    Args:
        high: the bound, a number or an array that broadcasts to the parameter.
    """

    high: Float[Array, "..."] = eqx.field(converter=as_float)
    label: ClassVar[str] = "less_than"

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        return broadcast_bound(self.label, shape, self.high)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        x = self.high - clipped_exp(u)
        below = -_above(-self.high, x.dtype)
        return jnp.clip(x, -jnp.finfo(x.dtype).max, below), jnp.sum(u)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.log(self.high - x)

    def contains(self, x: Array) -> Flag:
        """Is x finite and below `high`?"""
        return jnp.all((x < self.high) & jnp.isfinite(x))


class Interval(AbstractMirrorMap):
    """low < x < high by x = low + (high - low) sigmoid(u).

    Args:
        low: the lower bound, a number or an array that broadcasts to the parameter.
        high: the upper bound, likewise, > low.
    """

    low: Float[Array, "..."] = eqx.field(converter=as_float)
    high: Float[Array, "..."] = eqx.field(converter=as_float)
    label: ClassVar[str] = "interval"

    def __check_init__(self) -> None:
        """Refuse an empty interval."""
        traced = isinstance(self.low, Tracer) or isinstance(self.high, Tracer)
        if not traced and not bool(jnp.all(self.low < self.high)):
            raise ValueError(
                f"interval needs low < high, got low = {self.low} and high = {self.high}"
            )

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        broadcast_bound(self.label, shape, self.low)
        return broadcast_bound(self.label, shape, self.high)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        width = self.high - self.low
        # from the nearer end, so that precision does not depend on which end that is
        x = jnp.where(
            u < 0, self.low + width * jax.nn.sigmoid(u), self.high - width * jax.nn.sigmoid(-u)
        )
        x = jnp.clip(x, _above(self.low, x.dtype), -_above(-self.high, x.dtype))
        return x, jnp.sum(jnp.log(width) + log_sigmoid(u) + log_sigmoid(-u))

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.log(x - self.low) - jnp.log(self.high - x)

    def contains(self, x: Array) -> Flag:
        """Is x strictly between the bounds?"""
        return jnp.all((x > self.low) & (x < self.high))

    def metric(self, u: Array) -> Metric:
        """diag((x - low) (high - x) / (high - low)), of the entropy of both distances."""
        return Metric((self.high - self.low) * _sigmoid_slope(u))


class UnitInterval(AbstractMirrorMap):
    """0 < x < 1 by x = sigmoid(u)."""

    label: ClassVar[str] = "unit_interval"

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        return tuple(shape)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        limits = jnp.finfo(u.dtype)
        x = jnp.clip(jax.nn.sigmoid(u), limits.tiny, 1 - limits.epsneg)
        return x, jnp.sum(log_sigmoid(u) + log_sigmoid(-u))

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.log(x) - jnp.log1p(-x)

    def contains(self, x: Array) -> Flag:
        """Is x strictly between 0 and 1?"""
        return jnp.all((x > 0) & (x < 1))

    def metric(self, u: Array) -> Metric:
        """diag(x (1 - x)), of sum x log x + (1 - x) log(1 - x)."""
        return Metric(_sigmoid_slope(u))


real = Real()
positive = Positive()
greater_than = GreaterThan
less_than = LessThan
interval = Interval
unit_interval = UnitInterval()
