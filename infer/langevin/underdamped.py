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
from infer.core.linalg import Moments, empty_moments
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Scale
from infer.geometry.warmup import CALM, Tuning, calmness, long_window, settled, tune, untuned

FIRST_STEP = 0.1  # where the step size is left to warm-up
DIVERGED = 1000.0  # an energy error beyond which a fixed step counts as divergent, as in HMC


class UnderdampedState(eqx.Module):
    """Position, velocity, density, score, friction; what warm-up learned, and from which scores."""

    position: Vector
    velocity: Vector
    log_prob: Scalar
    score: Vector
    friction: Scalar
    tuning: Tuning
    scores: Moments


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
    scores = empty_moments(z, dense=False)
    friction = friction.astype(z.dtype)
    return UnderdampedState(z, velocity, log_prob, score, friction, tuning, scores)


def moved(target: Target, state: UnderdampedState, z: Vector, velocity: Vector) -> UnderdampedState:
    """The state at another place, its density and score evaluated there: the gradient of a step."""
    log_prob, score = target.value_and_score(z)
    return eqx.tree_at(
        lambda s: (s.position, s.velocity, s.log_prob, s.score),
        state,
        (z, velocity, log_prob, score),
    )


def turned(state: UnderdampedState) -> UnderdampedState:
    """The same place, going back."""
    return eqx.tree_at(lambda s: s.velocity, state, -state.velocity)


def limit_of(step_size: Scalar | None, energy_error: Scalar, like: Vector) -> Scalar:
    """The energy error, up or down, beyond which a step is refused.

    Of a tuned step size far beyond what it was tuned to. A step and its reverse have opposite
    errors, so that refusing both favors neither end; not refusing them lets one collision with a
    steep wall throw the chain so far off that it takes a run to come back.
    """
    if step_size is not None:
        return jnp.asarray(DIVERGED, like.dtype)
    return 1 + 10 * jnp.sqrt(like.shape[0] * energy_error.astype(like.dtype))


def go(
    scheme: Scheme,
    key: PRNGKey,
    target: Target,
    state: UnderdampedState,
    step_size: Scalar | None,
    energy_error: Scalar,
) -> tuple[UnderdampedState, Info]:
    """One recorded step of an unadjusted scheme.

    A step beyond the limit is refused and the velocity turned around. One without a finite density
    is left to the loop, which counts it.
    """
    new, error = scheme(key, target, state)
    diverged = ~(jnp.abs(error) <= limit_of(step_size, energy_error, state.position))
    refused = diverged & jnp.isfinite(new.log_prob)
    new = jax.tree.map(lambda a, b: jnp.where(refused, b, a), new, turned(state))
    stats = {"energy_error": error, "diverging": diverged, "step_size": state.tuning.step_size}
    return new, Info(-new.log_prob, jnp.asarray(1), stats)


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
    iteration hands over to the fixed one, if any. M is guessed from draws and scores until the last
    window, in which it is learned from the draws. Steps are refused as if their size were tuned,
    and where density or gradient is not finite.
    """
    new, error = scheme(key, target, state)
    d = state.position.shape[0]
    usable = jnp.isfinite(new.log_prob) & jnp.all(jnp.isfinite(new.score))
    error = jnp.where(usable, error, jnp.inf)
    take = jnp.abs(error) <= limit_of(None, energy_error, state.position)
    new = jax.tree.map(lambda a, b: jnp.where(take, a, b), new, turned(state))
    calm = calmness(error, d, energy_error)
    aim = jnp.asarray(CALM, new.position.dtype)
    collecting, ending = long_window(i, n)
    scores = jax.tree.map(
        lambda a, b: jnp.where(collecting, a, b), state.scores.add(new.score), state.scores
    )

    def learn(moments: Moments, before: Scale) -> Scale:
        early = preconditioner.guess(moments, scores, before)
        late = preconditioner.learn(moments, before)
        return jax.tree.map(lambda a, b: jnp.where(2 * i < n, a, b), early, late)

    tuning = tune(state.tuning, preconditioner, new.position, calm, aim, i, n, long_window, learn)
    fresh = empty_moments(new.position, dense=False)
    scores = jax.tree.map(lambda a, b: jnp.where(ending, a, b), fresh, scores)
    new = eqx.tree_at(lambda s: s.scores, new, scores)
    new = eqx.tree_at(lambda s: s.tuning, new, settled(tuning, step_size, i, n))
    return new, Info(-new.log_prob, jnp.asarray(1), {"diverging": ~take})
