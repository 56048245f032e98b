"""The Metropolis-adjusted Langevin algorithm."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.geometry.warmup import Tuning, tune, untuned


class LangevinState(eqx.Module):
    """Position with its density and score, so that neither is computed twice; and the tuning."""

    position: Vector
    log_prob: Scalar
    score: Vector
    tuning: Tuning


def begin(
    target: Target, z: Vector, preconditioner: AbstractPreconditioner, step_size: Scalar
) -> LangevinState:
    """The state at a point, untuned."""
    log_prob, score = target.value_and_score(z)
    return LangevinState(z, log_prob, score, untuned(preconditioner, step_size, z))


def adjusted_step(
    key: PRNGKey, target: Target, state: LangevinState
) -> tuple[LangevinState, Scalar]:
    """One Metropolis-adjusted transition; returns the acceptance probability beside the state.

    With e the step size, M = L L^T, x the noise of the proposal and s' the score there, the
    proposal ratio needs no solve:  log q(z | z') - log q(z' | z) = |x|^2/2 - |b|^2/2 where
    b = x + sqrt(e/2) L^T (s + s').
    """
    key_noise, key_accept = jax.random.split(key)
    e, scale = state.tuning.step_size, state.tuning.scale
    noise = jax.random.normal(key_noise, state.position.shape, state.position.dtype)
    z = state.position + e * scale.apply(state.score) + jnp.sqrt(2 * e) * scale.color(noise)
    log_prob, score = target.value_and_score(z)
    back = noise + jnp.sqrt(e / 2) * scale.whiten_score(state.score + score)
    log_ratio = log_prob - state.log_prob + 0.5 * jnp.sum(noise**2) - 0.5 * jnp.sum(back**2)
    usable = jnp.isfinite(log_prob) & jnp.all(jnp.isfinite(score)) & jnp.isfinite(log_ratio)
    acceptance = jnp.where(usable, jnp.exp(jnp.minimum(log_ratio, 0)), 0)
    accept = jax.random.uniform(key_accept, dtype=z.dtype) < acceptance
    new = LangevinState(z, log_prob, score, state.tuning)
    return jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state), acceptance


class MALA(AbstractSampler):
    """Langevin proposals with an acceptance test: leaves the posterior invariant.

        z' = z + e M grad log p(z) + sqrt(2 e) L noise,      M = L L^T
        accept with probability min(1, p(z') q(z | z') / (p(z) q(z' | z)))

    Warm-up tunes e to an acceptance of `acceptance` and M to the covariance of the draws. Cost per
    step: one gradient, plus O(d) with a diagonal and O(d^2) with a dense preconditioner. A
    proposal at which density or gradient is not finite is refused. Mixes slowly in funnels and in
    high dimension, where `NUTS` is better; does not cross between separated modes.

    Args:
        step_size: the first step size e, > 0, in units of M; kept if there is no warm-up.
        preconditioner: `Diagonal()` or `Dense()`.
        acceptance: mean acceptance aimed at, in (0, 1); 0.574 is optimal in high dimension.

    Source: Roberts and Tweedie, Bernoulli 2(4), 1996; Roberts and Rosenthal, JRSS B 60, 1998.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.1), default=0.1)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.574), default=0.574)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000
    source: ClassVar[str] = (
        "Roberts, Tweedie. Exponential convergence of Langevin distributions and their discrete "
        "approximations. Bernoulli 2(4), 1996."
    )

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        return begin(target, target.initial(key), self.preconditioner, self.step_size)

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        state, acceptance = adjusted_step(key, target, state)
        stats = {"acceptance_rate": acceptance, "step_size": state.tuning.step_size}
        return state, Info(-state.log_prob, jnp.asarray(1), stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: LangevinState, i: Count, n: Count
    ) -> tuple[LangevinState, Info]:
        """One transition, after which step size and preconditioner are tuned."""
        state, info = self.step(key, target, state)
        aim = self.acceptance.astype(state.position.dtype)
        rate = info.stats["acceptance_rate"]
        tuning = tune(state.tuning, self.preconditioner, state.position, rate, aim, i, n)
        return eqx.tree_at(lambda s: s.tuning, state, tuning), info

    def position(self, state: LangevinState) -> Vector:
        """Where the chain is."""
        return state.position
