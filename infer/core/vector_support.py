"""Supports of vector-valued parameters: simplices and ordered vectors on the last axis."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid
from jaxtyping import Array

from infer.core.support import AbstractSupport, Shape, clipped_exp, log_range
from infer.core.types import Flag, Scalar


def last_axis(name: str, shape: Shape, least: int) -> int:
    """Length of the last axis, refused if it is shorter than `least`."""
    if len(shape) < 1 or shape[-1] < least:
        raise ValueError(
            f"{name} needs a last axis of at least {least} entries, the parameter has shape "
            f"{tuple(shape)}"
        )
    return shape[-1]


class Simplex(AbstractSupport):
    """Positive vectors with sum 1 on the last axis, by breaking a stick; u = 0 is the center.

    The Jacobian is that of the first K - 1 entries.
    """

    label: ClassVar[str] = "simplex"

    def free_shape(self, shape: Shape) -> Shape:
        """One entry fewer on the last axis."""
        k = last_axis(self.label, shape, 2)
        return (*shape[:-1], k - 1)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        u = u - jnp.log(jnp.arange(u.shape[-1], 0, -1, dtype=u.dtype))
        taken, left = log_sigmoid(u), log_sigmoid(-u)
        remaining = jnp.cumsum(left, axis=-1)
        log_x = jnp.concatenate([taken, jnp.zeros_like(u[..., :1])], axis=-1)
        log_x = log_x.at[..., 1:].add(remaining)
        x = jnp.maximum(jnp.exp(log_x), jnp.finfo(u.dtype).tiny)
        return x, jnp.sum(log_x[..., :-1] + left)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        after = jnp.cumsum(x[..., :0:-1], axis=-1)[..., ::-1]
        center = jnp.log(jnp.arange(x.shape[-1] - 1, 0, -1, dtype=x.dtype))
        return jnp.log(x[..., :-1]) - jnp.log(after) + center

    def contains(self, x: Array) -> Flag:
        """Is x positive, with sum 1 up to rounding?"""
        tolerance = max(1e-6, 10 * x.shape[-1] * float(jnp.finfo(x.dtype).eps))
        return jnp.all(x > 0) & jnp.all(jnp.abs(jnp.sum(x, axis=-1) - 1) < tolerance)


def _ordered(u: Array, least: float, most: float) -> Array:
    """First entry free, then gaps exp(u); no gap below the rounding of the largest entry.

    `least` is the size whose rounding counts at least, `most` the largest logarithm of a gap.
    """
    limits = jnp.finfo(u.dtype)
    gaps = clipped_exp(jnp.minimum(u[..., 1:], most))
    x = jnp.cumsum(jnp.concatenate([u[..., :1], gaps], axis=-1), axis=-1)
    size = jnp.maximum(jnp.max(jnp.abs(x), axis=-1, keepdims=True), least)
    gaps = jnp.maximum(gaps, jax.lax.stop_gradient(4 * limits.eps * size))
    return jnp.cumsum(jnp.concatenate([u[..., :1], gaps], axis=-1), axis=-1)


class Ordered(AbstractSupport):
    """Increasing vectors on the last axis: x_0 = u_0, x_k = x_{k-1} + exp(u_k)."""

    label: ClassVar[str] = "ordered"

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        last_axis(self.label, shape, 1)
        return tuple(shape)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        limits = jnp.finfo(u.dtype)
        most = log_range(u.dtype)[1] - math.log(4 * u.shape[-1])
        return _ordered(u, float(limits.tiny / limits.eps), most), jnp.sum(u[..., 1:])

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.concatenate([x[..., :1], jnp.log(jnp.diff(x, axis=-1))], axis=-1)

    def contains(self, x: Array) -> Flag:
        """Is x strictly increasing and finite?"""
        return jnp.all(jnp.diff(x, axis=-1) > 0) & jnp.all(jnp.isfinite(x))


class PositiveOrdered(AbstractSupport):
    """Increasing positive vectors on the last axis: the exponential of an ordered vector."""

    label: ClassVar[str] = "positive_ordered"

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        last_axis(self.label, shape, 1)
        return tuple(shape)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        low, high = log_range(u.dtype)
        log_x = _ordered(u, 1.0, high / 2)
        step = 8 * float(jnp.finfo(u.dtype).eps) * high * np.arange(u.shape[-1])
        clipped = jnp.clip(log_x, low + step, high - step[::-1])
        return jnp.exp(clipped), jnp.sum(u[..., 1:]) + jnp.sum(log_x)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        log_x = jnp.log(x)
        return jnp.concatenate([log_x[..., :1], jnp.log(jnp.diff(log_x, axis=-1))], axis=-1)

    def contains(self, x: Array) -> Flag:
        """Is x positive, strictly increasing and finite?"""
        return jnp.all(x > 0) & jnp.all(jnp.diff(x, axis=-1) > 0) & jnp.all(jnp.isfinite(x))


simplex = Simplex()
ordered = Ordered()
positive_ordered = PositiveOrdered()
