"""Stochastic-gradient Hamiltonian Monte Carlo."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import optional_nonnegative, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.langevin.schedules import Schedule, at_step, check_step_size, schedule_or_number
from infer.langevin.stochastic import (
    StochasticState,
    begin,
    careful,
    covariance,
    look,
    looked,
    moved,
    shown,
)
from infer.references.citation import cites
from infer.references.minibatches import CHEN_2014


def limit(steepest: Scalar, friction: Scalar) -> Scalar:
    """The step size at which a direction of this curvature diverges: h^2 l + 2 friction h = 4."""
    f = friction.astype(steepest.dtype)
    return 4 / (f + jnp.sqrt(f**2 + 4 * jnp.maximum(steepest, 0)))


class SGHMCState(eqx.Module):
    """The state of the position, and a velocity."""

    at: StochasticState
    velocity: Vector


@cites(CHEN_2014)
class SGHMC(AbstractSampler):
    """Hamiltonian dynamics with friction on minibatches; their noise is measured and made up for.

        v <- (1 - f h) v + h L^T g + sqrt(T (2 f h - h^2 c)) noise
        z <- z + h L v,                         g the score of a minibatch, M = L L^T

    The friction f takes out what two noises put in: the one drawn here, and that of the minibatch,
    of which c is an estimate per coordinate of L^T g. On a Gaussian posterior with precision P,
    along a direction of curvature l = M P whose noise has the variance C, draws have

        (1 + h (C - c) / (2 f)) / (1 - h^2 l / (4 - 2 f h))

    times the posterior variance, and h^2 l + 2 f h < 4 is stable. So the error of the step is of
    second order, where that of `SGLD` is of first. Where h c > 2 f nothing is left to draw, and
    part of the minibatch noise stays: "gradient_noise" in the record.

    Args:
        step_size: h > 0, in units of M, or a schedule; as in `SGLD`, whose e is h^2 / 2.
        friction: f > 0, with f h < 2. Little of it moves far at every turn, much of it hides the
            noise of minibatches.
        noise: c >= 0, the same for all coordinates; 0 to ignore the noise, None to take what
            warm-up measures (0 without warm-up).
        temperature, covariance: as in `SGLD`.

    Cost per step: one gradient on the minibatch; per iteration of warm-up about six.

    Limits: the noise is measured near the posterior's center and taken to be the same everywhere,
    and its correlation between coordinates is ignored. Does not cross between separated modes
    without a cyclical schedule.

    Source: Chen, Fox and Guestrin, ICML 2014: eta there is h^2, alpha is f h, beta is h^2 c / 2.
    """

    step_size: Scalar | Schedule = eqx.field(
        converter=schedule_or_number("step_size", 0.1), default=0.1
    )
    friction: Scalar = eqx.field(converter=positive("friction", 1.0), default=1.0)
    noise: Scalar | None = eqx.field(converter=optional_nonnegative("noise", 0.0), default=None)
    temperature: Scalar | Schedule = eqx.field(
        converter=schedule_or_number("temperature", 1.0), default=1.0
    )
    covariance: Array | None = eqx.field(converter=covariance, default=None)
    exact_target: ClassVar[bool] = False
    adjusted: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 10_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_step_size("SGHMC", self.step_size, limit(jnp.ones(()), self.friction), 0.1)

    def init(self, key: PRNGKey, target: Target) -> SGHMCState:
        """The state at `target.initial(key)`, with a velocity."""
        key_start, key_velocity = jax.random.split(key)
        z = target.initial(key_start)
        velocity = jax.random.normal(key_velocity, z.shape, z.dtype)
        return SGHMCState(begin(target, z, self.covariance), velocity)

    def _go(
        self, key: PRNGKey, target: Target, state: SGHMCState, h: Scalar, heat: Scalar | None
    ) -> tuple[SGHMCState, Scalar]:
        at, z = state.at, state.at.position
        scale, f = at.terrain.scale, self.friction.astype(z.dtype)
        measured = at.terrain.whitened_noise()
        known = measured if self.noise is None else self.noise.astype(z.dtype)
        drawn = jnp.maximum(2 * f * h - h**2 * known, 0)
        heated = drawn if heat is None else heat * drawn
        noise = jax.random.normal(key, z.shape, z.dtype)
        push = h * scale.whiten_score(at.score)
        v = (1 - f * h) * state.velocity + push + jnp.sqrt(heated) * noise
        at = moved(target, at, z + h * scale.color(v), heat)
        excess = jnp.max((drawn + h**2 * measured) / (2 * f * h) - 1)
        return SGHMCState(at, v), excess

    def _limit(self, steepest: Scalar) -> Scalar:
        return limit(steepest, self.friction)

    def step(self, key: PRNGKey, target: Target, state: SGHMCState) -> tuple[SGHMCState, Info]:
        """One step."""
        h = at_step(self.step_size, state.at.i, state.velocity)
        heat = at_step(self.temperature, state.at.i, state.velocity)
        state, excess = self._go(key, target, state, h, heat)
        return state, shown(state.at, h, self._limit(state.at.terrain.steepest), excess, 1)

    def adapt(
        self, key: PRNGKey, target: Target, state: SGHMCState, i: Count, n: Count
    ) -> tuple[SGHMCState, Info]:
        """One step with noise, after a look around."""
        key_look, key_move = jax.random.split(key)
        at = look(key_look, target, state.at, self.covariance, i)
        state = SGHMCState(at, state.velocity)
        h = careful(at_step(self.step_size, at.i, at.position), self._limit, at)
        after, excess = self._go(key_move, target, state, h, None)
        state = looked(i, after, state)
        return state, shown(state.at, h, self._limit(at.terrain.steepest), excess, 6)

    def position(self, state: SGHMCState) -> Vector:
        """The last position that noise has reached."""
        return state.at.draw
