"""Stochastic-gradient Langevin dynamics."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractSampler, Info
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
from infer.references.minibatches import MANDT_2017, WELLING_2011


def limit(steepest: Scalar) -> Scalar:
    """The step size at which a direction of this curvature diverges."""
    return jnp.where(steepest > 0, 2 / jnp.where(steepest > 0, steepest, 1), jnp.inf)


@cites(WELLING_2011, MANDT_2017)
class SGLD(AbstractSampler):
    """Langevin dynamics on minibatches: one cheap gradient per step, biased by step and noise.

        z <- z + e M g + sqrt(2 e T) L noise,      M = L L^T,   g the score of a minibatch

    The drift is e and the noise has variance 2 e. Welling and Teh write e/2 and e: their step size
    is twice this one. On all rows this is `ULA`. On a Gaussian posterior with precision P, along a
    direction of curvature l = M P and minibatch noise c = M Var(g), draws have

        (1 + e c / 2) / (1 - e l / 2)

    times the posterior variance: the first part is the noise, the second the step, and e < 2 / l
    is stable. Warm-up learns a diagonal M from Hessian products, and l and c for the report, all
    unbiased by minibatches; it takes steps of at most 1 / l. `infer.control_variates` lowers c.

    Args:
        step_size: e, in (0, 2), in units of M; or a schedule of the step after warm-up, which
            itself runs at the first one: `infer.polynomial_decay`, `infer.cyclical_steps` or any
            schedule of optax. Numbers of ours compile nothing, a new optax schedule does.
        temperature: T > 0, or a schedule with T >= 0 such as `infer.cyclical_temperature`. Where
            it is 0 the draw stays the last one made with noise.
        covariance: M, as variances (d,) or a matrix (d, d); None to learn variances in warm-up,
            1 without warm-up.

    Cost per step: one gradient on the minibatch, O(d^2) with a matrix; per iteration of warm-up
    about six gradients.

    Limits: M is smaller than the posterior variances where coordinates are correlated (there give
    `covariance`), and chains do not cross between separated modes without a cyclical schedule.

    Source: Welling and Teh, ICML 2011; stationary variance as in Mandt, Hoffman and Blei, JMLR 18,
    2017, and derived in `docs/stochastic_gradient.md`.
    """

    step_size: Scalar | Schedule = eqx.field(
        converter=schedule_or_number("step_size", 0.02), default=0.02
    )
    temperature: Scalar | Schedule = eqx.field(
        converter=schedule_or_number("temperature", 1.0), default=1.0
    )
    covariance: Array | None = eqx.field(converter=covariance, default=None)
    exact_target: ClassVar[bool] = False
    adjusted: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 20_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_step_size("SGLD", self.step_size, 2.0, 0.02)

    def init(self, key: PRNGKey, target: Target) -> StochasticState:
        """The state at `target.initial(key)`."""
        return begin(target, target.initial(key), self.covariance)

    def _go(
        self, key: PRNGKey, target: Target, state: StochasticState, e: Scalar, heat: Scalar | None
    ) -> StochasticState:
        scale, z = state.terrain.scale, state.position
        noise = jax.random.normal(key, z.shape, z.dtype)
        variance = 2 * e if heat is None else 2 * e * heat
        z = z + e * scale.apply(state.score) + jnp.sqrt(variance) * scale.color(noise)
        return moved(target, state, z, heat)

    def _shown(self, state: StochasticState, e: Scalar, gradients: int) -> Info:
        excess = 0.5 * e * jnp.max(state.terrain.whitened_noise())
        return shown(state, e, limit(state.terrain.steepest), excess, gradients)

    def step(
        self, key: PRNGKey, target: Target, state: StochasticState
    ) -> tuple[StochasticState, Info]:
        """One transition."""
        e = at_step(self.step_size, state.i, state.position)
        heat = at_step(self.temperature, state.i, state.position)
        state = self._go(key, target, state, e, heat)
        return state, self._shown(state, e, 1)

    def adapt(
        self, key: PRNGKey, target: Target, state: StochasticState, i: Count, n: Count
    ) -> tuple[StochasticState, Info]:
        """One transition with noise, after a look around."""
        key_look, key_move = jax.random.split(key)
        state = look(key_look, target, state, self.covariance, i)
        e = careful(at_step(self.step_size, state.i, state.position), limit, state)
        state = looked(i, self._go(key_move, target, state, e, None), state)
        return state, self._shown(state, e, 6)

    def position(self, state: StochasticState) -> Vector:
        """The last position that noise has reached."""
        return state.draw
