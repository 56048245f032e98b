"""Legendre functions: what Bregman distances are made of.

    D(v, x) = psi(v) - psi(x) - psi'(x) (v - x),

summed over coordinates. A function whose slopes cover the real line is a mirror map as well; see
`LegendreMap`.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.checks import positive
from infer.core.support import AbstractMirrorMap, Metric, Shape, broadcast_bound, clipped_exp
from infer.core.types import Flag, Scalar

INF = float("inf")


class AbstractLegendre(eqx.Module):
    """A strictly convex function of single numbers; its parameters broadcast to the site.

    Attributes:
        low, high: its domain, an open interval.
        steep: do its slopes cover the whole real line?
    """

    low: eqx.AbstractClassVar[float]
    high: eqx.AbstractClassVar[float]
    steep: eqx.AbstractClassVar[bool]

    @abstractmethod
    def value(self, x: Array) -> Array:
        """psi(x)."""

    @abstractmethod
    def slope(self, x: Array) -> Array:
        """psi'(x)."""

    @abstractmethod
    def curvature(self, x: Array) -> Array:
        """psi''(x)."""

    @abstractmethod
    def inverse(self, y: Array) -> Array:
        """The x with psi'(x) = y: the slope of the conjugate."""

    @abstractmethod
    def inverse_slope(self, y: Array) -> Array:
        """dx/dy = 1 / psi''(x) there."""

    def bend(self, x: Array, w: Array) -> Array:
        """psi''(x) w; another formula where the two over- and underflow together."""
        return self.curvature(x) * w

    def divergence(self, v: Array, x: Array) -> Array:
        """D(v, x), one number per entry, >= 0."""
        return jnp.maximum(self.value(v) - self.value(x) - self.slope(x) * (v - x), 0)


class Energy(AbstractLegendre):
    """psi = weight x^2 / 2: Euclidean distance, each coordinate with a weight of its own.

    Args:
        weight: > 0; 1 / variance makes it a diagonal preconditioner.
    """

    weight: Float[Array, "..."] = eqx.field(converter=positive("weight", 1.0), default=1.0)
    low: ClassVar[float] = -INF
    high: ClassVar[float] = INF
    steep: ClassVar[bool] = True

    def value(self, x: Array) -> Array:
        """Weight x^2 / 2."""
        return self.weight * x**2 / 2

    def slope(self, x: Array) -> Array:
        """Weight x."""
        return self.weight * x

    def curvature(self, x: Array) -> Array:
        """The weight."""
        return jnp.broadcast_to(self.weight, jnp.shape(x))

    def inverse(self, y: Array) -> Array:
        """Y / weight."""
        return y / self.weight

    def inverse_slope(self, y: Array) -> Array:
        """1 / weight."""
        return jnp.broadcast_to(1 / self.weight, jnp.shape(y))

    def divergence(self, v: Array, x: Array) -> Array:
        """Weight (v - x)^2 / 2."""
        return self.weight * (v - x) ** 2 / 2


class HyperbolicEntropy(AbstractLegendre):
    """psi = x asinh(x / scale) - sqrt(x^2 + scale^2): a square below the scale, |x| log|x| above.

    Args:
        scale: > 0.
    """

    scale: Float[Array, "..."] = eqx.field(converter=positive("scale", 1.0), default=1.0)
    low: ClassVar[float] = -INF
    high: ClassVar[float] = INF
    steep: ClassVar[bool] = True

    def value(self, x: Array) -> Array:
        """The formula of the class."""
        return x * self.slope(x) - jnp.hypot(x, self.scale)

    def slope(self, x: Array) -> Array:
        """asinh(x / scale)."""
        return jnp.arcsinh(x / self.scale)

    def curvature(self, x: Array) -> Array:
        """1 / sqrt(x^2 + scale^2)."""
        return 1 / jnp.hypot(x, self.scale)

    def inverse(self, y: Array) -> Array:
        """Scale sinh y, kept finite."""
        return self.scale * jnp.sinh(self._kept(y))

    def inverse_slope(self, y: Array) -> Array:
        """Scale cosh y, kept finite."""
        return self.scale * jnp.cosh(self._kept(y))

    def _kept(self, y: Array) -> Array:
        most = np.log(float(jnp.finfo(y.dtype).max)) - 2 - jnp.log(jnp.maximum(self.scale, 1.0))
        return jnp.clip(y, -most, most)


class Exponential(AbstractLegendre):
    """psi = exp x."""

    low: ClassVar[float] = -INF
    high: ClassVar[float] = INF
    steep: ClassVar[bool] = False

    def value(self, x: Array) -> Array:
        """Exp x."""
        return clipped_exp(x)

    def slope(self, x: Array) -> Array:
        """Exp x."""
        return clipped_exp(x)

    def curvature(self, x: Array) -> Array:
        """Exp x."""
        return clipped_exp(x)

    def inverse(self, y: Array) -> Array:
        """Log y, y > 0."""
        return jnp.log(jnp.maximum(y, jnp.finfo(y.dtype).tiny))

    def inverse_slope(self, y: Array) -> Array:
        """1 / y."""
        return 1 / jnp.maximum(y, jnp.finfo(y.dtype).tiny)


class BoltzmannShannon(AbstractLegendre):
    """psi = x log x - x on x > 0; as a mirror map it is that of `infer.positive`."""

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = INF
    steep: ClassVar[bool] = True

    def value(self, x: Array) -> Array:
        """X log x - x."""
        return x * jnp.log(x) - x

    def slope(self, x: Array) -> Array:
        """Log x."""
        return jnp.log(x)

    def curvature(self, x: Array) -> Array:
        """1 / x."""
        return 1 / x

    def inverse(self, y: Array) -> Array:
        """Exp y."""
        return clipped_exp(y)

    def inverse_slope(self, y: Array) -> Array:
        """Exp y."""
        return clipped_exp(y)


class Burg(AbstractLegendre):
    """psi = -log x on x > 0."""

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = INF
    steep: ClassVar[bool] = False

    def value(self, x: Array) -> Array:
        """-log x."""
        return -jnp.log(x)

    def slope(self, x: Array) -> Array:
        """-1 / x."""
        return -1 / x

    def curvature(self, x: Array) -> Array:
        """1 / x^2."""
        return (1 / x) ** 2

    def bend(self, x: Array, w: Array) -> Array:
        """W / x / x."""
        return w / x / x

    def inverse(self, y: Array) -> Array:
        """-1 / y, y < 0."""
        return 1 / jnp.maximum(-y, jnp.finfo(y.dtype).tiny)

    def inverse_slope(self, y: Array) -> Array:
        """1 / y^2."""
        return self.inverse(y) ** 2


class FermiDirac(AbstractLegendre):
    """psi = x log x + (1 - x) log(1 - x) on (0, 1); the mirror map of `infer.unit_interval`."""

    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    steep: ClassVar[bool] = True

    def value(self, x: Array) -> Array:
        """X log x + (1 - x) log(1 - x)."""
        return x * jnp.log(x) + (1 - x) * jnp.log1p(-x)

    def slope(self, x: Array) -> Array:
        """Logit x."""
        return jnp.log(x) - jnp.log1p(-x)

    def curvature(self, x: Array) -> Array:
        """1 / (x (1 - x))."""
        return 1 / (x * (1 - x))

    def inverse(self, y: Array) -> Array:
        """Sigmoid y, inside (0, 1)."""
        limits = jnp.finfo(y.dtype)
        return jnp.clip(jax.nn.sigmoid(y), limits.tiny, 1 - limits.epsneg)

    def inverse_slope(self, y: Array) -> Array:
        """sigmoid(y) sigmoid(-y)."""
        return clipped_exp(jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y))


class Hellinger(AbstractLegendre):
    """psi = -sqrt(1 - x^2) on (-1, 1)."""

    low: ClassVar[float] = -1.0
    high: ClassVar[float] = 1.0
    steep: ClassVar[bool] = True

    def value(self, x: Array) -> Array:
        """-sqrt(1 - x^2)."""
        return -self._root(x)

    def slope(self, x: Array) -> Array:
        """X / sqrt(1 - x^2)."""
        return x / self._root(x)

    def curvature(self, x: Array) -> Array:
        """(1 - x^2)^(-3/2)."""
        return self._root(x) ** -3

    def inverse(self, y: Array) -> Array:
        """Y / sqrt(1 + y^2), inside (-1, 1)."""
        most = 1 - jnp.finfo(y.dtype).epsneg
        return jnp.clip(y / jnp.hypot(1.0, y), -most, most)

    def inverse_slope(self, y: Array) -> Array:
        """(1 + y^2)^(-3/2), kept positive."""
        return jnp.maximum(jnp.hypot(1.0, y) ** -3, jnp.finfo(y.dtype).tiny)

    def _root(self, x: Array) -> Array:
        return jnp.sqrt((1 - x) * (1 + x))


class LegendreMap(AbstractMirrorMap):
    """The mirror map of a Legendre function: x with psi'(x) = u.

    `infer.mirrored(target, {"x": infer.HyperbolicEntropy(2.0)})` makes it.

    Args:
        psi: one whose slopes cover the real line (`steep`).
    """

    psi: AbstractLegendre
    label: ClassVar[str] = "legendre"

    def __check_init__(self) -> None:
        """Refuse slopes that end somewhere: noise would leave them."""
        if not isinstance(self.psi, AbstractLegendre) or not self.psi.steep:
            raise ValueError(
                f"a mirror map needs a function whose slopes cover the real line, got {self.psi!r}:"
                " noise would carry u out of them. Take infer.HyperbolicEntropy(), infer.Energy() "
                "or infer.Hellinger(), or for x > 0 the support infer.positive."
            )

    def free_shape(self, shape: Shape) -> Shape:
        """The shape itself."""
        for leaf in jax.tree.leaves(self.psi):
            broadcast_bound(type(self.psi).__name__, shape, leaf)
        return tuple(shape)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """psi'^-1(u) and its log Jacobian, - sum log psi''(x)."""
        return self.psi.inverse(u), jnp.sum(jnp.log(self.psi.inverse_slope(u)))

    def unconstrain(self, x: Array) -> Array:
        """psi'(x)."""
        return jnp.broadcast_to(self.psi.slope(x), jnp.shape(x))

    def contains(self, x: Array) -> Flag:
        """Is x inside the domain?"""
        return jnp.all((x > self.psi.low) & (x < self.psi.high))

    def metric(self, u: Array) -> Metric:
        """diag(1 / psi''(x))."""
        return Metric(self.psi.inverse_slope(u))
