"""What overdamped samplers share: a state with its score, the adjusted step, the warm-up."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import Info
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner
from infer.geometry.warmup import CALM, Tuning, calmness, settled, tune, untuned

FIRST_STEP = 0.05  # of an overdamped method whose step size is left to warm-up
ACCEPTANCE = 0.574  # of the adjusted steps that learn M for an unadjusted method


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


def no_pull(z: Vector) -> Vector:
    """Nothing besides the score."""
    return jnp.zeros_like(z)


def proposed(
    key: PRNGKey,
    target: Target,
    state: LangevinState,
    pull: Callable[[Vector], Vector] = no_pull,
) -> tuple[LangevinState, Scalar]:
    """One Metropolis-adjusted transition; returns the log of the acceptance ratio beside the state.

    The proposal drifts along the score plus `pull(z)`, whatever that is: the test is on `log_prob`.

    With e the step size, M = L L^T, x the noise of the proposal and s' the score there, the
    proposal ratio needs no solve:  log q(z | z') - log q(z' | z) = |x|^2/2 - |b|^2/2 where
    b = x + sqrt(e/2) L^T (s + s'), s and s' the drifts. Less the ratio is the energy error of one
    leapfrog step of length sqrt(2 e), which is how unadjusted methods tune e.
    """
    key_noise, key_accept = jax.random.split(key)
    e, scale = state.tuning.step_size, state.tuning.scale
    noise = jax.random.normal(key_noise, state.position.shape, state.position.dtype)
    drift = state.score + pull(state.position)
    z = state.position + e * scale.apply(drift) + jnp.sqrt(2 * e) * scale.color(noise)
    log_prob, score = target.value_and_score(z)
    back = noise + jnp.sqrt(e / 2) * scale.whiten_score(drift + score + pull(z))
    log_ratio = log_prob - state.log_prob + 0.5 * jnp.sum(noise**2) - 0.5 * jnp.sum(back**2)
    return accepted(key_accept, LangevinState(z, log_prob, score, state.tuning), state, log_ratio)


def accepted(
    key: PRNGKey, new: LangevinState, old: LangevinState, log_ratio: Scalar
) -> tuple[LangevinState, Scalar]:
    """The new state with probability min(1, exp(log_ratio)), else the old one; and log_ratio.

    A new state without a finite density and gradient is refused: its ratio is -inf.
    """
    usable = jnp.isfinite(new.log_prob) & jnp.all(jnp.isfinite(new.score)) & jnp.isfinite(log_ratio)
    log_ratio = jnp.where(usable, log_ratio, -jnp.inf)
    accept = jax.random.uniform(key, dtype=log_ratio.dtype) < jnp.exp(jnp.minimum(log_ratio, 0))
    return jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, old), log_ratio


def adjusted_step(
    key: PRNGKey,
    target: Target,
    state: LangevinState,
    pull: Callable[[Vector], Vector] = no_pull,
) -> tuple[LangevinState, Scalar]:
    """`proposed`, with the acceptance probability beside the state."""
    state, log_ratio = proposed(key, target, state, pull)
    return state, jnp.exp(jnp.minimum(log_ratio, 0))


def warm(
    key: PRNGKey,
    target: Target,
    state: LangevinState,
    preconditioner: AbstractPreconditioner,
    step_size: Scalar | None,
    energy_error: Scalar,
    i: Count,
    n: Count,
) -> tuple[LangevinState, Info]:
    """Warm-up iteration i of n of an unadjusted method, by an adjusted step.

    With a fixed `step_size` the iterations aim at an acceptance of 0.574, the best to learn M by,
    and the last one hands over to the fixed size; without one they aim at `energy_error`.
    """
    state, log_ratio = proposed(key, target, state)
    rate = jnp.exp(jnp.minimum(log_ratio, 0))
    dtype = state.position.dtype
    calm, aim = rate, jnp.asarray(ACCEPTANCE, dtype)
    if step_size is None:
        calm = calmness(log_ratio, state.position.shape[0], energy_error)
        aim = jnp.asarray(CALM, dtype)
    tuning = tune(state.tuning, preconditioner, state.position, calm, aim, i, n)
    state = eqx.tree_at(lambda s: s.tuning, state, settled(tuning, step_size, i, n))
    return state, Info(-state.log_prob, jnp.asarray(1), {"acceptance_rate": rate})
