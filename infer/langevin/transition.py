"""What Langevin samplers share: a state that remembers its score, and the adjusted step."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner
from infer.geometry.warmup import Tuning, untuned


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


def adjusted_step(
    key: PRNGKey,
    target: Target,
    state: LangevinState,
    pull: Callable[[Vector], Vector] = no_pull,
) -> tuple[LangevinState, Scalar]:
    """One Metropolis-adjusted transition; returns the acceptance probability beside the state.

    The proposal drifts along the score plus `pull(z)`, whatever that is: the test is on `log_prob`.

    With e the step size, M = L L^T, x the noise of the proposal and s' the score there, the
    proposal ratio needs no solve:  log q(z | z') - log q(z' | z) = |x|^2/2 - |b|^2/2 where
    b = x + sqrt(e/2) L^T (s + s'), s and s' the drifts.
    """
    key_noise, key_accept = jax.random.split(key)
    e, scale = state.tuning.step_size, state.tuning.scale
    noise = jax.random.normal(key_noise, state.position.shape, state.position.dtype)
    drift = state.score + pull(state.position)
    z = state.position + e * scale.apply(drift) + jnp.sqrt(2 * e) * scale.color(noise)
    log_prob, score = target.value_and_score(z)
    back = noise + jnp.sqrt(e / 2) * scale.whiten_score(drift + score + pull(z))
    log_ratio = log_prob - state.log_prob + 0.5 * jnp.sum(noise**2) - 0.5 * jnp.sum(back**2)
    usable = jnp.isfinite(log_prob) & jnp.all(jnp.isfinite(score)) & jnp.isfinite(log_ratio)
    acceptance = jnp.where(usable, jnp.exp(jnp.minimum(log_ratio, 0)), 0)
    accept = jax.random.uniform(key_accept, dtype=z.dtype) < acceptance
    new = LangevinState(z, log_prob, score, state.tuning)
    return jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state), acceptance
