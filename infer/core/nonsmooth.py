"""Parts of a negative log density with kinks or jumps, known through their proximal maps."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from infer.core.checks import positive
from infer.core.support import as_float
from infer.core.types import Scalar

HALVINGS = 100  # bisections: more than the digits of float64, on brackets of any size


def soft(x: Array, k: Array) -> Array:
    """sign(x) max(|x| - k, 0)."""
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - k, 0)


def bisect(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Roots of an increasing function between low and high, entry by entry."""

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) / 2
        right = function(middle) > 0
        return jnp.where(right, low, middle), jnp.where(right, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
    return low + (high - low) / 2


class AbstractNonsmooth(eqx.Module):
    """A convex g, in nats: the density of its site is exp(-g) times that of the smooth part."""

    @abstractmethod
    def value(self, x: Array) -> Scalar:
        """g(x) of the whole site; infinite where the density is 0."""

    @abstractmethod
    def prox(self, x: Array, t: Array) -> Array:
        """Argmin over v of g(v) + sum (v - x)^2 / (2 t), t > 0 in the shape of x."""

    @abstractmethod
    def lipschitz(self, x: Array) -> Array | None:
        """A bound on |dg/dx_i| in the shape of x, or None where there is none."""


class L1(AbstractNonsmooth):
    """g = sum weight |x|: the Laplace prior with scale 1 / weight.

    Args:
        weight: > 0; broadcasts to the site.
    """

    weight: Float[Array, "..."] = eqx.field(converter=positive("weight", 1.0), default=1.0)

    def value(self, x: Array) -> Scalar:
        """Sum weight |x|."""
        return jnp.sum(self.weight * jnp.abs(x))

    def prox(self, x: Array, t: Array) -> Array:
        """X moved towards 0 by t weight, and not beyond."""
        return soft(x, t * self.weight)

    def lipschitz(self, x: Array) -> Array:
        """The weight."""
        return jnp.broadcast_to(self.weight, x.shape)


class GroupLasso(AbstractNonsmooth):
    """g = sum over groups of weight |x|_2, a group being a vector on the last axis.

    Args:
        weight: > 0; broadcasts to the leading axes.

    With one t for a group its prox is the block soft threshold; with several it is a root of one
    variable, found by bisection.
    """

    weight: Float[Array, "..."] = eqx.field(converter=positive("weight", 1.0), default=1.0)

    def value(self, x: Array) -> Scalar:
        """Sum weight |x|_2."""
        return jnp.sum(self.weight * _norm(x))

    def prox(self, x: Array, t: Array) -> Array:
        """x_i r / (r + weight t_i) with r = |prox|, the root of sum (x_i / (r + weight t_i))^2 = 1.

        r = 0 where sum (x_i / (weight t_i))^2 <= 1.
        """
        w = jnp.broadcast_to(self.weight, x.shape[:-1])[..., None]

        def short(r: Array) -> Array:
            return 1 - _norm(x / (r[..., None] + w * t))

        size = _norm(x)
        r = jnp.where(short(jnp.zeros_like(size)) >= 0, 0, bisect(short, 0 * size, size))
        return x * (r[..., None] / (r[..., None] + w * t))

    def lipschitz(self, x: Array) -> Array:
        """The weight of the group."""
        return jnp.broadcast_to(jnp.asarray(self.weight)[..., None], x.shape)


def _norm(x: Array) -> Array:
    """|x|_2 on the last axis, without overflow, with derivative 0 at 0."""
    size = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    size = jax.lax.stop_gradient(jnp.where(size > 0, size, 1))
    square = jnp.sum((x / size) ** 2, axis=-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0) * size[..., 0]


class Box(AbstractNonsmooth):
    """g = 0 for low <= x <= high, and infinite elsewhere.

    Args:
        low, high: bounds, low < high; they broadcast to the site and may be infinite.
    """

    low: Float[Array, "..."] = eqx.field(converter=as_float, default=-1.0)
    high: Float[Array, "..."] = eqx.field(converter=as_float, default=1.0)

    def __check_init__(self) -> None:
        """Refuse an empty box."""
        traced = isinstance(self.low, Tracer) or isinstance(self.high, Tracer)
        if not traced and not bool(jnp.all(self.low < self.high)):
            raise ValueError(f"Box needs low < high, got low = {self.low}, high = {self.high}")

    def value(self, x: Array) -> Scalar:
        """0 inside."""
        return jnp.where(jnp.all((x >= self.low) & (x <= self.high)), 0.0, jnp.inf).astype(x.dtype)

    def prox(self, x: Array, t: Array) -> Array:
        """The nearest point of the box."""
        return jnp.clip(x, self.low, self.high)

    def lipschitz(self, x: Array) -> None:
        """None."""
        return None


class Simplex(AbstractNonsmooth):
    """g = 0 where x >= 0 and sum x <= 1 on the last axis, and infinite elsewhere.

    The solid simplex: shares of a whole without the last one. (The face sum x = 1 has no volume,
    so exp(-g) would be no density in x; for it take `infer.EntropicSimplex` as a support.)
    """

    def value(self, x: Array) -> Scalar:
        """0 inside."""
        room = jnp.sum(x, axis=-1) <= 1 + 4 * x.shape[-1] * jnp.finfo(x.dtype).eps
        return jnp.where(jnp.all(x >= 0) & jnp.all(room), 0.0, jnp.inf).astype(x.dtype)

    def prox(self, x: Array, t: Array) -> Array:
        """max(x - mu t, 0) with the least mu >= 0 that makes the sum at most 1, by bisection."""

        def excess(mu: Array) -> Array:
            return 1 - jnp.sum(jnp.maximum(x - mu[..., None] * t, 0), axis=-1)

        zero = jnp.zeros(x.shape[:-1], x.dtype)
        most = jnp.maximum(jnp.max(x / t, axis=-1), 0)
        mu = jnp.where(excess(zero) >= 0, zero, bisect(excess, zero, most))
        return jnp.maximum(x - mu[..., None] * t, 0)

    def lipschitz(self, x: Array) -> None:
        """None."""
        return None


class L2Ball(AbstractNonsmooth):
    """g = 0 where |x|_2 <= radius on the last axis, and infinite elsewhere.

    Args:
        radius: > 0; broadcasts to the leading axes.

    With one t for a ball its prox is a radial clip; with several it is a root of one variable,
    found by bisection.
    """

    radius: Float[Array, "..."] = eqx.field(converter=positive("radius", 1.0), default=1.0)

    def value(self, x: Array) -> Scalar:
        """0 inside."""
        room = 1 + 4 * x.shape[-1] * jnp.finfo(x.dtype).eps
        return jnp.where(jnp.all(_norm(x) <= room * self.radius), 0.0, jnp.inf).astype(x.dtype)

    def prox(self, x: Array, t: Array) -> Array:
        """x_i / (1 + mu t_i) with the least mu >= 0 that brings it into the ball."""
        radius = jnp.broadcast_to(self.radius, x.shape[:-1])
        excess = _norm(x) / radius - 1
        size = jnp.min(t, axis=-1, keepdims=True)  # in units of which mu is at most the excess

        def room(mu: Array) -> Array:
            return 1 - _norm(x / (1 + mu[..., None] * (t / size))) / radius

        zero = jnp.zeros_like(excess)
        mu = jnp.where(excess <= 0, zero, bisect(room, zero, jnp.maximum(excess, 0)))
        return x / (1 + mu[..., None] * (t / size))

    def lipschitz(self, x: Array) -> None:
        """None."""
        return None


class Penalty(AbstractNonsmooth):
    """A g of your own: a sum over coordinates of a convex function of one number.

        g(x) = sum_i g_i(x_i),    prox(x)_i = argmin over v of g_i(v) + (v - x_i)^2 / (2 t)

    Args:
        function: g_i of every entry, an array in the shape of x, written in `jax.numpy`; entries
            do not mix.
        proximal: `proximal(x, t)`, argmin of g(v) + (v - x)^2 / (2 t) for every entry, t > 0 in
            the shape of x; where None it is found by bisection, 100 derivatives of `function`.
        slope: a bound on |g_i'|, for warnings; None where there is none.

    For a g that mixes coordinates subclass `infer.AbstractNonsmooth`.
    """

    function: Callable[[Array], Array] = eqx.field(static=True)
    proximal: Callable[[Array, Array], Array] | None = eqx.field(static=True, default=None)
    slope: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Refuse what is no function."""
        for name in ("function", "proximal"):
            given = {"function": self.function, "proximal": self.proximal}[name]
            if not callable(given) and not (name == "proximal" and given is None):
                raise TypeError(
                    f"Penalty needs {name}= as a function, got {given!r}; write "
                    "infer.Penalty(lambda x: jnp.abs(x), lambda x, t: ...)."
                )

    def value(self, x: Array) -> Scalar:
        """The sum of `function`."""
        return jnp.sum(self.function(x))

    def prox(self, x: Array, t: Array) -> Array:
        """`proximal`, or a root between x and x - t g'(x), which encloses it for a convex g."""
        if self.proximal is not None:
            return self.proximal(x, t)
        first = x - t * self.slopes(x)
        return bisect(
            lambda v: v - x + t * self.slopes(v), jnp.minimum(x, first), jnp.maximum(x, first)
        )

    def slopes(self, x: Array) -> Array:
        """g_i' of every entry."""
        return jax.grad(lambda v: jnp.sum(self.function(v)))(x)

    def lipschitz(self, x: Array) -> Array | None:
        """`slope`."""
        return None if self.slope is None else jnp.full_like(x, self.slope)
