"""Bregman proximal maps and Moreau envelopes, left and right.

    left   env(x) = min_v g(v) + D(v, x) / lam,   grad env(x) = psi''(x) (x - v) / lam
    right  env(x) = min_v g(v) + D(x, v) / lam,   grad env(x) = (psi'(x) - psi'(v)) / lam

with v the minimizer, in closed form where there is one, otherwise by bisection. g less env is
between 0 and lam G^2 / (2 psi'') per coordinate for a g with slopes up to G.
"""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.legendre import (
    AbstractLegendre,
    BoltzmannShannon,
    Burg,
    Energy,
    Exponential,
    FermiDirac,
    HyperbolicEntropy,
)
from infer.core.nonsmooth import L1, AbstractNonsmooth, Box, Penalty, Simplex, bisect, soft
from infer.core.types import Scalar

DOUBLINGS = 60
Map = Callable[[Array, Scalar], Array]


class AbstractSide(eqx.Module):
    """In which argument of the Bregman distance the minimum is taken."""

    @abstractmethod
    def closed(self, term: AbstractNonsmooth, psi: AbstractLegendre) -> Map | None:
        """The proximal map of x and lam in closed form, or None."""

    @abstractmethod
    def numeric(self, term: AbstractNonsmooth, psi: AbstractLegendre) -> Map | None:
        """The same by bisection, or None where the term mixes coordinates."""

    @abstractmethod
    def slope(self, psi: AbstractLegendre, x: Array, v: Array, lam: Scalar) -> Array:
        """The gradient of the envelope at x, where v is the proximal point."""

    @abstractmethod
    def distance(self, psi: AbstractLegendre, x: Array, v: Array) -> Array:
        """The Bregman distance that is small."""

    def prox(self, term: AbstractNonsmooth, psi: AbstractLegendre, x: Array, lam: Scalar) -> Array:
        """The proximal point, in closed form or by bisection."""
        found = self.closed(term, psi) or self.numeric(term, psi)
        if found is None:
            raise ValueError(
                f"there is no proximal map of {type(term).__name__} in the distance of "
                f"{type(psi).__name__}: it mixes coordinates. Write smoother=infer.Energy()."
            )
        return found(x, lam)


def _common(term: AbstractNonsmooth, psi: AbstractLegendre) -> Map | None:
    """What is the same on both sides."""
    if isinstance(psi, Energy):
        return lambda x, lam: term.prox(x, lam / jnp.broadcast_to(psi.weight, x.shape))
    if isinstance(term, Box):
        return lambda x, lam: jnp.clip(x, term.low, term.high)
    if isinstance(term, Simplex) and isinstance(psi, BoltzmannShannon):
        return lambda x, lam: x / jnp.maximum(jnp.sum(x, axis=-1, keepdims=True), 1)
    return None


class Left(AbstractSide):
    """The minimum over the first argument: for L1 a soft threshold of the slopes."""

    def closed(self, term: AbstractNonsmooth, psi: AbstractLegendre) -> Map | None:
        """Any function for `L1`; see the module for the rest."""
        if not isinstance(term, L1) or isinstance(psi, Energy):
            return _common(term, psi)
        if isinstance(psi, BoltzmannShannon):
            return lambda x, lam: x * jnp.exp(-lam * term.weight)
        if isinstance(psi, Burg):
            return lambda x, lam: x / (1 + lam * term.weight * x)
        if isinstance(psi, Exponential):
            return lambda x, lam: _left_exponential(x, lam * term.weight)
        if psi.low >= 0:
            return lambda x, lam: psi.inverse(psi.slope(x) - lam * term.weight)

        def threshold(x: Array, lam: Scalar) -> Array:
            middle = psi.slope(jnp.zeros_like(x))
            return psi.inverse(middle + soft(psi.slope(x) - middle, lam * term.weight))

        return threshold

    def numeric(self, term: AbstractNonsmooth, psi: AbstractLegendre) -> Map | None:
        """Y + lam g'(v(y)) = psi'(x), which increases in y = psi'(v)."""
        if not isinstance(term, Penalty):
            return None

        def root(x: Array, lam: Scalar) -> Array:
            y = psi.slope(x)
            first = y - lam * term.slopes(x)

            def excess(w: Array) -> Array:
                return w - y + lam * term.slopes(psi.inverse(w))

            return psi.inverse(bisect(excess, jnp.minimum(y, first), jnp.maximum(y, first)))

        return root

    def slope(self, psi: AbstractLegendre, x: Array, v: Array, lam: Scalar) -> Array:
        """psi''(x) (x - v) / lam."""
        return psi.bend(x, x - v) / lam

    def distance(self, psi: AbstractLegendre, x: Array, v: Array) -> Array:
        """D(v, x)."""
        return psi.divergence(v, x)


class Right(AbstractSide):
    """The minimum over the second argument; its envelope is convex where D is, in both."""

    def closed(self, term: AbstractNonsmooth, psi: AbstractLegendre) -> Map | None:
        """Hyperbolic entropy, Boltzmann-Shannon, Burg and Fermi-Dirac for `L1`."""
        if not isinstance(term, L1) or isinstance(psi, Energy):
            return _common(term, psi)
        if isinstance(psi, HyperbolicEntropy):
            return lambda x, lam: _right_hyperbolic(x, lam * term.weight, psi.scale)
        if isinstance(psi, BoltzmannShannon):
            return lambda x, lam: x / (1 + lam * term.weight)
        if isinstance(psi, Burg):
            return lambda x, lam: 2 * x / (1 + jnp.sqrt(1 + 4 * lam * term.weight * x))
        if isinstance(psi, FermiDirac):
            return lambda x, lam: _right_fermi(x, lam * term.weight)
        return None

    def numeric(self, term: AbstractNonsmooth, psi: AbstractLegendre) -> Map | None:
        """A root of v + lam g'(v) / psi''(v) = x between x and where g falls no more.

        There may be several where D is not convex in v; bisection finds one of them.
        """
        if isinstance(term, L1):
            weight = term.weight
            return lambda x, lam: _right_threshold(psi, x, lam * weight)
        if not isinstance(term, Penalty):
            return None

        def root(x: Array, lam: Scalar) -> Array:
            y, first = psi.slope(x), term.slopes(x)

            def excess(w: Array) -> Array:
                v = psi.inverse(w)
                return v - x + lam * term.slopes(v) / psi.curvature(v)

            def double(_: Array, step: Array) -> Array:
                outside = excess(y - step) * jnp.sign(first) <= 0
                return jnp.where(outside, step, 2 * step)

            step = jax.lax.fori_loop(0, DOUBLINGS, double, lam * first)
            ends = jnp.minimum(y, y - step), jnp.maximum(y, y - step)
            return psi.inverse(bisect(excess, *ends))

        return root

    def slope(self, psi: AbstractLegendre, x: Array, v: Array, lam: Scalar) -> Array:
        """(psi'(x) - psi'(v)) / lam."""
        return (psi.slope(x) - psi.slope(v)) / lam

    def distance(self, psi: AbstractLegendre, x: Array, v: Array) -> Array:
        """D(x, v)."""
        return psi.divergence(x, v)


def _left_exponential(x: Array, k: Array) -> Array:
    """log(1 + soft(exp x - 1, k)), without overflow."""
    e = jnp.exp(-jnp.abs(x))  # exp x below 0, exp -x above
    fall = jnp.where((x > 0) & (1 - k * e > e), 1 - k * e, 1)
    above = jnp.where((x > 0) & (1 - k * e > e), x + jnp.log(fall), 0)
    return jnp.where((x < 0) & (e + k < 1), jnp.log(e + k), above)


def _right_hyperbolic(x: Array, k: Array, scale: Array) -> Array:
    """0 where |x| <= k scale, else (x^2 - k^2 s^2) / (x + k sqrt(x^2 + s^2 (1 - k^2))), x > 0.

    With below = |x| - k s and above = |x| + k s the numerator is below above, the root
    hypot(sqrt(below above), s): nothing cancels and nothing is squared.
    """
    size = jnp.abs(x)
    below, above = jnp.maximum(size - k * scale, 0), size + k * scale
    root = jnp.hypot(jnp.sqrt(below) * jnp.sqrt(above), scale)
    return jnp.sign(x) * below * (above / (size + k * root))


def _right_fermi(x: Array, k: Array) -> Array:
    """The smaller root of k v^2 - (1 + k) v + x = 0."""
    return 2 * x / (1 + k + jnp.sqrt((1 - k) ** 2 + 4 * k * (1 - x)))


def _right_threshold(psi: AbstractLegendre, x: Array, k: Array) -> Array:
    """0 where k / psi''(0) >= |x|, else the root between 0 and x."""
    zero = jnp.zeros_like(x)

    def excess(v: Array) -> Array:
        return v - x + k * jnp.sign(x) / psi.curvature(v)

    root = bisect(excess, jnp.minimum(x, zero), jnp.maximum(x, zero))
    return jnp.where(k >= jnp.abs(x) * psi.curvature(zero), 0, root)
