"""What the samplers on BlackJAX's Hamiltonian kernels share: state, one transition, tuning."""

import importlib.util
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import Info
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner
from infer.geometry.warmup import Tuning, untuned


def require_blackjax(name: str) -> None:
    """Refuse, with what to install, where BlackJAX is missing."""
    if importlib.util.find_spec("blackjax") is None:
        raise ImportError(f"{name} runs on BlackJAX: pip install 'infer-jax[mcmc]'.")


class HamiltonianState(eqx.Module):
    """BlackJAX's state (position, density, gradient) and what warm-up learned."""

    position: Vector
    log_prob: Scalar
    score: Vector
    tuning: Tuning


def begin(
    key: PRNGKey, target: Target, preconditioner: AbstractPreconditioner, step_size: Scalar
) -> HamiltonianState:
    """The state at `target.initial(key)`, untuned."""
    z = target.initial(key)
    log_prob, score = target.value_and_score(z)
    return HamiltonianState(z, log_prob, score, untuned(preconditioner, step_size, z))


def advance(
    kernel: Any, key: PRNGKey, target: Target, state: HamiltonianState, length: Any
) -> tuple[HamiltonianState, Any]:
    """One transition of a BlackJAX kernel with the tuned step size and mass matrix."""
    from blackjax.mcmc.hmc import HMCState

    cached: tuple[Any, Any, Any] = (state.position, state.log_prob, state.score)
    before = HMCState(*cached)
    tuning = state.tuning
    after, info = kernel(
        key, before, target.log_prob, tuning.step_size, tuning.scale.covariance, length
    )
    return HamiltonianState(after.position, after.logdensity, after.logdensity_grad, tuning), info


def info_of(state: HamiltonianState, info: Any, extra: dict[str, Array]) -> Info:
    """What a transition shows, under ArviZ's names."""
    stats = {
        "acceptance_rate": info.acceptance_rate,
        "diverging": info.is_divergent,
        "energy": info.energy,
        "step_size": state.tuning.step_size,
    }
    steps = jnp.asarray(info.num_integration_steps)
    return Info(-state.log_prob, steps, stats | {"n_steps": steps} | extra)
