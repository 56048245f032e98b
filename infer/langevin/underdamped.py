"""What underdamped samplers share: a state with a velocity, and the warm-up.

The velocity lives in the coordinates y = L^-1 z, where the posterior has about unit covariance and
the velocity is N(0, I): M = L L^T is the inverse of the mass matrix. A scheme is a pure function
(key, target, state) -> (state, energy error) of one step with the step size and friction of the
state. The energy is H = -log p(z) + |v|^2 / 2, and the energy error of a step the change of H that
its noise does not account for: less it, exponentiated, is the probability with which a test would
accept the step.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.linalg import Moments, empty_moments
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, check_preconditioner
from infer.geometry.warmup import (
    CALM,
    Tuning,
    by_scores_first,
    calmness,
    long_window,
    settled,
    tune,
    untuned,
)

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


class AbstractUnderdamped(AbstractSampler):
    """An unadjusted scheme of underdamped Langevin dynamics, run with a refusal of wild steps.

    A method is its `scheme`, its defaults and what it refuses; everything else is here.

    Attributes:
        step_size: h, > 0, kept as it is, or None to have warm-up tune it to `energy_error`.
        friction: > 0.
        preconditioner: of M = L L^T.
        energy_error: variance of the energy error per dimension that a tuned step size aims at.
    """

    step_size: eqx.AbstractVar[Scalar | None]
    friction: eqx.AbstractVar[Scalar]
    preconditioner: eqx.AbstractVar[AbstractPreconditioner]
    energy_error: eqx.AbstractVar[Scalar]
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 2000
    default_steps: ClassVar[int] = 8000

    def __check_init__(self) -> None:
        """Refuse what is no preconditioner."""
        check_preconditioner(self.preconditioner, type(self).__name__)

    @abstractmethod
    def scheme(
        self, key: PRNGKey, target: Target, state: UnderdampedState
    ) -> tuple[UnderdampedState, Scalar]:
        """One step of the scheme and its energy error."""

    def init(self, key: PRNGKey, target: Target) -> UnderdampedState:
        """The state at `target.initial(key)`, with a velocity."""
        return begin(key, target, self.preconditioner, self.step_size, self.friction)

    def step(
        self, key: PRNGKey, target: Target, state: UnderdampedState
    ) -> tuple[UnderdampedState, Info]:
        """One recorded step.

        One beyond the limit is refused and the velocity turned around. One without a finite density
        is left to the loop, which counts it.
        """
        new, error = self.scheme(key, target, state)
        limit = limit_of(self.step_size, self.energy_error, state.position)
        diverged = ~(jnp.abs(error) <= limit)
        refused = diverged & jnp.isfinite(new.log_prob)
        new = jax.tree.map(lambda a, b: jnp.where(refused, b, a), new, turned(state))
        stats = {"energy_error": error, "diverging": diverged, "step_size": state.tuning.step_size}
        return new, Info(-new.log_prob, jnp.asarray(1), stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: UnderdampedState, i: Count, n: Count
    ) -> tuple[UnderdampedState, Info]:
        """Warm-up iteration i of n.

        The step size aims at an energy error of variance `energy_error` per dimension, and the last
        iteration hands over to the fixed one, if any. M is guessed from draws and scores until the
        last window, in which it is learned from the draws. Steps are refused as if their size were
        tuned, and where density or gradient is not finite.
        """
        new, error = self.scheme(key, target, state)
        d = state.position.shape[0]
        usable = jnp.isfinite(new.log_prob) & jnp.all(jnp.isfinite(new.score))
        error = jnp.where(usable, error, jnp.inf)
        take = jnp.abs(error) <= limit_of(None, self.energy_error, state.position)
        new = jax.tree.map(lambda a, b: jnp.where(take, a, b), new, turned(state))
        calm = calmness(error, d, self.energy_error)
        aim = jnp.asarray(CALM, new.position.dtype)
        collecting, ending = long_window(i, n)
        scores = jax.tree.map(
            lambda a, b: jnp.where(collecting, a, b), state.scores.add(new.score), state.scores
        )
        learn = by_scores_first(self.preconditioner, scores, i, n)
        tuning = tune(
            state.tuning, self.preconditioner, new.position, calm, aim, i, n, long_window, learn
        )
        fresh = empty_moments(new.position, dense=False)
        scores = jax.tree.map(lambda a, b: jnp.where(ending, a, b), fresh, scores)
        new = eqx.tree_at(lambda s: s.scores, new, scores)
        new = eqx.tree_at(lambda s: s.tuning, new, settled(tuning, self.step_size, i, n))
        return new, Info(-new.log_prob, jnp.asarray(1), {"diverging": ~take})

    def position(self, state: UnderdampedState) -> Vector:
        """Where the chain is."""
        return state.position
