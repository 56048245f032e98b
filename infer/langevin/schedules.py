"""Step sizes and temperatures that change along a run: functions of the step, as in optax."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from infer.core.checks import check_count, fraction, positive
from infer.core.types import Count, Scalar
from infer.references.citation import cites
from infer.references.minibatches import WELLING_2011, ZHANG_2020_CYCLES

Schedule = Callable[[Count], Any]  # as those of optax; a number of theirs may be a Python float


@cites(WELLING_2011)
class _Polynomial(eqx.Module):
    first: Scalar = eqx.field(converter=positive("first", 0.05))
    over: Scalar = eqx.field(converter=positive("over", 1000.0))
    power: Scalar = eqx.field(converter=positive("power", 0.55))

    def __call__(self, step: Count) -> Scalar:
        return self.first * (1 + step / self.over) ** -self.power


@cites(ZHANG_2020_CYCLES)
class _Cosine(eqx.Module):
    first: Scalar = eqx.field(converter=positive("first", 0.1))
    length: Scalar = eqx.field(converter=positive("length", 1000.0))

    def __call__(self, step: Count) -> Scalar:
        # The middle of a step, so that none has the size zero.
        return 0.5 * self.first * (1 + jnp.cos(jnp.pi * (_part(step, self.length, 0.5))))


@cites(ZHANG_2020_CYCLES)
class _Switch(eqx.Module):
    length: Scalar = eqx.field(converter=positive("length", 1000.0))
    explore: Scalar = eqx.field(converter=fraction("explore", 0.5))

    def __call__(self, step: Count) -> Scalar:
        return jnp.where(_part(step, self.length, 0.5) < self.explore, 0.0, 1.0)


def _part(step: Count, length: Scalar, shift: float) -> Scalar:
    """Which part of its cycle a step is in, in (0, 1)."""
    cycle = (step + shift) / length
    return cycle - jnp.floor(cycle)


@cites(WELLING_2011)
def polynomial_decay(
    first: float | int | Array, over: float | int | Array, power: float | int | Array = 0.55
) -> Schedule:
    """A step size that falls like first (1 + t / over)^-power.

    With power in (0.5, 1] the bias of `SGLD` vanishes in the limit, and so does its speed. The
    draws still count alike, while those made by large steps have more bias.

    Args:
        first: step size at the first step, > 0.
        over: steps after which it starts to fall, > 0.
        power: how fast, > 0.

    Returns:
        A function of the step, whose numbers are data and compile nothing.

    Source: Welling and Teh, ICML 2011, where it is a (b + t)^-power.
    """
    return _Polynomial(first, over, power)


@cites(ZHANG_2020_CYCLES)
def cyclical_steps(first: float | int | Array, length: int) -> Schedule:
    """A step size that falls from `first` to 0 along half a cosine, again and again.

        first / 2 (1 + cos(pi t / length)),   t = 1/2, 3/2, ... within a cycle

    Large steps find other modes, small ones draw from the mode found. See `cyclical_temperature`.

    Args:
        first: step size at the start of a cycle, > 0.
        length: steps in a cycle, >= 2.

    Returns:
        A function of the step, whose numbers are data and compile nothing.

    Source: Zhang, Li, Zhang, Chen, Wilson, ICLR 2020.
    """
    check_count("cyclical_steps", "length", length, 1000, least=2)
    return _Cosine(first, length)


@cites(ZHANG_2020_CYCLES)
def cyclical_temperature(length: int, explore: float | int | Array = 0.5) -> Schedule:
    """A temperature that is 0 in the first part of every cycle and 1 in the rest.

    While it is 0 there is no noise, the method climbs, and the draw stays where it was: only the
    steps with noise are draws.

    Args:
        length: steps in a cycle, as in `cyclical_steps`.
        explore: the part of a cycle without noise, in (0, 1).

    Returns:
        A function of the step, whose numbers are data and compile nothing.

    Source: Zhang, Li, Zhang, Chen, Wilson, ICLR 2020.
    """
    check_count("cyclical_temperature", "length", length, 1000, least=2)
    return _Switch(length, explore)


def schedule_or_number(name: str, example: float) -> Callable[[Any], Any]:
    """A field converter: a function of the step stays one, a number > 0 becomes an array."""
    convert = positive(name, example)
    return lambda value: value if callable(value) else convert(value)


def at_step(value: Scalar | Schedule, i: Count, like: Array) -> Scalar:
    """The number at step i, of the type of `like`."""
    return jnp.asarray(value(i) if callable(value) else value, like.dtype)


def check_step_size(method: str, step_size: Scalar | Schedule, bound: Any, example: float) -> None:
    """Refuse a first step size at which a Gaussian with covariance M lets the method diverge."""
    if isinstance(bound, Tracer):
        return
    first = step_size(jnp.asarray(0)) if callable(step_size) else step_size
    if not isinstance(first, Tracer) and not jnp.all(jnp.asarray(first) < bound):
        raise ValueError(
            f"{method} diverges unless step_size < {float(jnp.min(bound)):.3g} (in units of M), "
            f"got {first}; write step_size={example}."
        )
