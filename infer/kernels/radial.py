"""Radial kernels k(x, y) = f(||x - y||^2) and the median rule for their bandwidth."""

import dataclasses
import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from infer.core.checks import positive
from infer.core.types import Points, Scalar
from infer.references.citation import cites
from infer.references.particles import GORHAM_2017, LIU_2016

MEDIAN_POINTS = 128  # the median rule looks at no more particles than this


class Median(eqx.Module):
    """The median rule: h = factor med_{i<j} ||x_i - x_j||^2 / log(n + 1), new at every step.

    Args:
        factor: > 0.
        per_log: False leaves the logarithm out, which is what the authors of mirrored Stein
            operators and of matrix kernels do: a wider kernel.
    """

    factor: Scalar = eqx.field(converter=positive("factor", 1.0), default=1.0)
    per_log: bool = eqx.field(static=True, default=True)

    def __call__(self, x: Points) -> Scalar:
        """The bandwidth at these particles."""
        h = self.factor.astype(x.dtype) * median_bandwidth(x)
        return h if self.per_log else h * math.log(x.shape[0] + 1)


def _bandwidth(value: Any) -> Scalar | Median:
    if value is None or isinstance(value, Median):
        return Median() if value is None else value
    if not isinstance(value, Tracer) and not np.all(np.asarray(value) > 0):
        raise ValueError(
            f"a kernel needs bandwidth > 0, in squared units of the particles, got {value}; "
            "write `bandwidth=infer.Median()` for the median rule."
        )
    dtype = value.dtype if isinstance(value, jax.Array | Tracer) else jnp.zeros(()).dtype
    return jnp.asarray(value, dtype)


class AbstractRadialKernel(eqx.Module):
    """A kernel of the squared distance r = ||x - y||^2 alone, with f(0) = 1.

    Attributes:
        bandwidth: h > 0, in squared units of the particles, or a rule that makes it.
    """

    bandwidth: eqx.AbstractVar[Scalar | Median]

    @abstractmethod
    def value(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """f(r), elementwise."""

    @abstractmethod
    def slope(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """f'(r), elementwise."""

    def curvature(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """f''(r), elementwise."""
        return jax.jvp(self.slope, (r,), (jnp.ones_like(r),))[1]

    def log_value(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """The logarithm of f(r), elementwise, finite where f(r) itself is too small a number."""
        return jnp.log(self.value(r))

    @property
    @abstractmethod
    def decay(self) -> Scalar | None:
        """The number c if f' = -c f, which saves a matrix product; else None."""

    def at(self, x: Points) -> "AbstractRadialKernel":
        """This kernel with its bandwidth settled: as given, or by the median rule at x."""
        if not isinstance(self.bandwidth, Median):
            return self
        return dataclasses.replace(self, bandwidth=self.bandwidth(x))

    @property
    def h(self) -> Scalar:
        """The bandwidth, once it is settled."""
        if isinstance(self.bandwidth, Median):
            raise ValueError(
                f"{type(self).__name__} has no bandwidth yet: write `kernel.at(x)` for the median "
                f"rule at particles x, or `{type(self).__name__}(bandwidth=1.0)`."
            )
        return self.bandwidth


@cites(LIU_2016)
class RBF(AbstractRadialKernel):
    """The Gaussian kernel: k(x, y) = exp(-||x - y||^2 / h).

    Args:
        bandwidth: h > 0, in squared units of the particles, or a rule; None is `Median()`.

    Source: Liu and Wang, Stein variational gradient descent, NeurIPS 2016.
    """

    bandwidth: Scalar | Median = eqx.field(converter=_bandwidth, default=None)

    def value(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """exp(-r / h)."""
        return jnp.exp(r * (-1 / self.h))

    def slope(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """-exp(-r / h) / h."""
        return self.value(r) * (-1 / self.h)

    def log_value(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """-r / h."""
        return r * (-1 / self.h)

    @property
    def decay(self) -> Scalar:
        """1 / h."""
        return 1 / self.h


@cites(GORHAM_2017)
class IMQ(AbstractRadialKernel):
    """The inverse multiquadric: k(x, y) = (1 + ||x - y||^2 / h)^(-1/2).

    Its tails fall like 1 / distance, so far particles still feel one another: the particles of
    Stein variational gradient descent keep much more of the spread than with `RBF`.

    Args:
        bandwidth: h > 0, in squared units of the particles, or a rule; None is `Median()`.

    Source: Gorham and Mackey, Measuring sample quality with kernels, ICML 2017.
    """

    bandwidth: Scalar | Median = eqx.field(converter=_bandwidth, default=None)

    def value(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """(1 + r / h)^(-1/2)."""
        return jax.lax.rsqrt(1 + r * (1 / self.h))

    def slope(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """-(1 + r / h)^(-3/2) / (2 h)."""
        return self.value(r) ** 3 * (-0.5 / self.h)

    @property
    def decay(self) -> None:
        """None: the slope is no multiple of the value."""
        return None


def median_bandwidth(x: Points) -> Scalar:
    """The median rule h = med_{i<j} ||x_i - x_j||^2 / log(n + 1), no gradient through it.

    The median is that of at most 128 particles, evenly spaced in the order of the rows (exact,
    hence free of that order, up to n = 128), found by bisection: O(128^2 d) whatever n. Floored
    at the square of the rounding error of the particles, so that collapsed ones give no NaN; 1
    for a single particle.
    """
    n = x.shape[0]
    if n == 1:
        return jnp.ones((), x.dtype)
    x = jax.lax.stop_gradient(x)
    rounding = jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(x))
    points = x[np.linspace(0, n - 1, min(n, MEDIAN_POINTS)).round().astype(int)]
    points = points - points.mean(axis=0)
    square = jnp.sum(points**2, axis=1)
    gram = jnp.dot(points, points.T, precision=jax.lax.Precision.HIGHEST)
    r = jnp.maximum(square[:, None] + square - 2 * gram, 0)
    pairs = np.flatnonzero(np.triu(np.ones(r.shape, bool), 1))
    floor = rounding**2 + jnp.finfo(x.dtype).tiny ** 0.3  # 1 / h^3 is a number still
    return jnp.maximum(median(r.ravel()[pairs]) / np.log(n + 1), floor)


def median(values: Float[Array, " m"]) -> Scalar:
    """The median of numbers >= 0, exactly, without sorting: O(m) per bit of the number.

    Floats >= 0 are ordered like the integers of the same bits, so bisection fixes one bit of the
    answer at a time.
    """
    m = values.shape[0]
    word = jnp.int64 if values.dtype.itemsize == 8 else jnp.int32
    bits = jax.lax.bitcast_convert_type(values, word)
    top = jnp.iinfo(word).bits - 2

    def body(i: Array, found: Array) -> Array:
        candidate = found | (jnp.ones((), word) << (top - i).astype(word))
        return jnp.where(jnp.sum(bits < candidate) <= (m - 1) // 2, candidate, found)

    found = jax.lax.fori_loop(0, top + 1, body, jnp.zeros((), word))
    lower = jax.lax.bitcast_convert_type(found, values.dtype)
    if m % 2:
        return lower
    above = jnp.min(jnp.where(bits > found, values, jnp.inf))
    upper = jnp.where(jnp.sum(bits <= found) > m // 2, lower, above)
    return (lower + upper) / 2
