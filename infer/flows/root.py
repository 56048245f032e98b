"""The root of an increasing function of one variable."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from infer.core.types import Flag, Scalar

MOST = 200  # steps; halving alone stops after 54 in float64


def increasing_root(f: Callable[[Scalar], Scalar], low: Scalar, high: Scalar) -> Scalar:
    """The t in [low, high] with f(t) = 0, for f increasing there; by Newton's method, guarded.

    A step of Newton that leaves the bracket known so far, or is no shorter than half of the one
    before, is replaced by halving the bracket. It stops when a step is below the rounding of the
    ends. Derivatives of any order are those of the implicit function, not of the search.
    """
    rounding = jnp.finfo(low.dtype).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))

    def search(f: Callable[[Scalar], Scalar], guess: Scalar) -> Scalar:
        def going(carry: tuple) -> Flag:
            *_, last, i = carry
            return (jnp.abs(last) > rounding) & (i < MOST)

        def closer(carry: tuple) -> tuple:
            low, high, t, last, i = carry
            value, slope = jax.jvp(f, (t,), (jnp.ones_like(t),))
            low, high = jnp.where(value < 0, t, low), jnp.where(value < 0, high, t)
            newton = t - value / slope
            good = (newton >= low) & (newton <= high) & (2 * jnp.abs(newton - t) < jnp.abs(last))
            new = jnp.where(good, newton, low + (high - low) / 2)
            return low, high, new, new - t, i + 1

        first = (low, high, guess, high - low, jnp.asarray(0))
        return jax.lax.while_loop(going, closer, first)[2]

    def solve_linear(g: Callable[[Scalar], Scalar], y: Scalar) -> Scalar:
        return y / g(jnp.ones_like(y))

    return jax.lax.custom_root(f, low + (high - low) / 2, search, solve_linear)
