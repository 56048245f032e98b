"""What underdamped samplers share: a state with a velocity, and the warm-up.

The velocity lives in the coordinates y = L^-1 z, where the posterior has about unit covariance and
the velocity is N(0, I): M = L L^T is the inverse of the mass matrix. A scheme is a pure function
(key, target, state) -> (state, energy error) of one step with the step size and friction of the
state. The energy is H = -log p(z) + |v|^2 / 2, and the energy error of a step the change of H that
its noise does not account for: less it, exponentiated, is the probability with which a test would
accept the step.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import Info
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner
from infer.geometry.warmup import CALM, Tuning, calmness, long_window, settled, tune, untuned

FIRST_STEP = 0.1  # where the step size is left to warm-up
DIVERGED = 1000.0  # an energy error beyond which a step counts as divergent, as in HMC


class UnderdampedState(eqx.Module):
    """Position, velocity, density, score, friction; and what warm-up learned."""

    position: Vector
    velocity: Vector
    log_prob: Scalar
    score: Vector
    friction: Scalar
    tuning: Tuning


Scheme = Callable[[PRNGKey, Target, UnderdampedState], tuple[UnderdampedState, Scalar]]


def begin(
    key: PRNGKey,
    target: Target,
    preconditioner: AbstractPreconditioner,
    step_size: Scalar | None,
    friction: Scalar,
) -> UnderdampedState:
    """The state at `target.initial(key)` with a fresh velocity, untuned."""
    key_start, key_velocity = jax.random.split(key)
    z = target.initial(key_start)
    log_prob, score = target.value_and_score(z)
    velocity = jax.random.normal(key_velocity, z.shape, z.dtype)
    first = jnp.asarray(FIRST_STEP) if step_size is None else step_size
    tuning = untuned(preconditioner, first, z)
    return UnderdampedState(z, velocity, log_prob, score, friction.astype(z.dtype), tuning)


def moved(
    target: Target, state: UnderdampedState, z: Vector, velocity: Vector
) -> UnderdampedState:
    """The state at another place, its density and score evaluated there: the gradient of a step."""
    log_prob, score = target.value_and_score(z)
    return UnderdampedState(z, velocity, log_prob, score, state.friction, state.tuning)


def kinetic(v: Vector) -> Scalar:
    """|v|^2 / 2."""
    return 0.5 * jnp.sum(v**2)


def info_of(state: UnderdampedState, energy_error: Scalar) -> Info:
    """What one step shows."""
    stats = {
        "energy_error": energy_error,
        "diverging": ~(jnp.abs(energy_error) <= DIVERGED),
        "step_size": state.tuning.step_size,
    }
    return Info(-state.log_prob, jnp.asarray(1), stats)


def turned(state: UnderdampedState) -> UnderdampedState:
    """The same place, going back."""
    return eqx.tree_at(lambda s: s.velocity, state, -state.velocity)


def go(
    scheme: Scheme, key: PRNGKey, target: Target, state: UnderdampedState
) -> tuple[UnderdampedState, Info]:
    """One recorded step of an unadjusted scheme.

    A step that diverges at finite density is refused, the velocity turned around, and the
    divergence reported: it would end in an overflow. One that is not finite is left to the loop.
    """
    new, error = scheme(key, target, state)
    diverged = jnp.isfinite(new.log_prob) & (jnp.abs(error) > DIVERGED)
    new = jax.tree.map(lambda a, b: jnp.where(diverged, b, a), new, turned(state))
    return new, info_of(new, error)


def warm(
    scheme: Scheme,
    key: PRNGKey,
    target: Target,
    state: UnderdampedState,
    preconditioner: AbstractPreconditioner,
    step_size: Scalar | None,
    energy_error: Scalar,
    i: Count,
    n: Count,
) -> tuple[UnderdampedState, Info]:
    """Warm-up iteration i of n of an unadjusted scheme.

    The step size aims at an energy error of variance `energy_error` per dimension, and the last
    iteration hands over to the fixed one, if any. A step whose energy error exceeds sqrt(25 + d),
    far beyond what is aimed at, is refused and the velocity turned around.
    """
    new, error = scheme(key, target, state)
    d = state.position.shape[0]
    usable = jnp.isfinite(new.log_prob) & jnp.all(jnp.isfinite(new.score))
    error = jnp.where(usable, error, jnp.inf)
    take = error**2 <= 25.0 + d
    new = jax.tree.map(lambda a, b: jnp.where(take, a, b), new, turned(state))
    calm = calmness(error, d, energy_error)
    aim = jnp.asarray(CALM, new.position.dtype)
    tuning = tune(state.tuning, preconditioner, new.position, calm, aim, i, n, long_window)
    new = eqx.tree_at(lambda s: s.tuning, new, settled(tuning, step_size, i, n))
    return new, info_of(new, error)
