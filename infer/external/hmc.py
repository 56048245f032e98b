"""Hamiltonian Monte Carlo by BlackJAX's kernels, warmed up and run by our loop."""

import importlib.util
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.geometry.warmup import Tuning, tune, untuned


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


def _begin(
    key: PRNGKey, target: Target, preconditioner: AbstractPreconditioner, step_size: Scalar
) -> HamiltonianState:
    z = target.initial(key)
    log_prob, score = target.value_and_score(z)
    return HamiltonianState(z, log_prob, score, untuned(preconditioner, step_size, z))


def _advance(
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


def _info(state: HamiltonianState, info: Any, extra: dict[str, Array]) -> Info:
    stats = {
        "acceptance_rate": info.acceptance_rate,
        "diverging": info.is_divergent,
        "energy": info.energy,
        "step_size": state.tuning.step_size,
    }
    steps = jnp.asarray(info.num_integration_steps)
    return Info(-state.log_prob, steps, stats | {"n_steps": steps} | extra)


def _tuned(
    state: HamiltonianState,
    preconditioner: AbstractPreconditioner,
    rate: Array,
    acceptance: Array,
    i: Count,
    n: Count,
) -> HamiltonianState:
    aim = acceptance.astype(state.position.dtype)
    tuning = tune(state.tuning, preconditioner, state.position, rate, aim, i, n)
    return eqx.tree_at(lambda s: s.tuning, state, tuning)


class NUTS(AbstractSampler):
    """The no-U-turn sampler: Hamiltonian trajectories that stop where they would turn back.

    The reference for posteriors of up to some thousand dimensions. Warm-up tunes the step size to
    an acceptance of `acceptance` and the mass matrix to the inverse covariance of the draws. Cost
    per step: between 1 and 2^max_doublings gradients; vmapped chains wait for the longest.
    Divergences mark regions of high curvature that it cannot enter. Does not cross between
    separated modes.

    Args:
        step_size: the first step size, > 0; kept if there is no warm-up.
        preconditioner: inverse mass matrix to learn, `Diagonal()` or `Dense()`.
        acceptance: mean acceptance aimed at, in (0, 1); raise it to 0.95 against divergences.
        max_doublings: at most 2^max_doublings leapfrog steps per transition.

    Source: Hoffman and Gelman, JMLR 15, 2014; the kernel is BlackJAX's (multinomial, iterative).
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 1.0), default=1.0)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.8), default=0.8)
    max_doublings: int = eqx.field(static=True, default=10)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 1000
    source: ClassVar[str] = (
        "Hoffman, Gelman. The no-U-turn sampler: adaptively setting path lengths in Hamiltonian "
        "Monte Carlo. JMLR 15, 2014."
    )

    def __check_init__(self) -> None:
        """Say what to install."""
        require_blackjax("NUTS")

    def init(self, key: PRNGKey, target: Target) -> HamiltonianState:
        """The state at `target.initial(key)`."""
        return _begin(key, target, self.preconditioner, self.step_size)

    def step(
        self, key: PRNGKey, target: Target, state: HamiltonianState
    ) -> tuple[HamiltonianState, Info]:
        """One trajectory."""
        from blackjax.mcmc import nuts

        state, info = _advance(nuts.build_kernel(), key, target, state, self.max_doublings)
        return state, _info(state, info, {"tree_depth": info.num_trajectory_expansions})

    def adapt(
        self, key: PRNGKey, target: Target, state: HamiltonianState, i: Count, n: Count
    ) -> tuple[HamiltonianState, Info]:
        """One trajectory, after which step size and mass matrix are tuned."""
        state, info = self.step(key, target, state)
        rate = info.stats["acceptance_rate"]
        return _tuned(state, self.preconditioner, rate, self.acceptance, i, n), info

    def position(self, state: HamiltonianState) -> Vector:
        """Where the chain is."""
        return state.position


class HMC(AbstractSampler):
    """Hamiltonian Monte Carlo with a fixed number of leapfrog steps.

    `NUTS` chooses the length by itself; use this where the right length is known. Cost per step:
    `n_leapfrog` gradients.

    Args:
        n_leapfrog: leapfrog steps per transition, >= 1.
        step_size: the first step size, > 0; kept if there is no warm-up.
        preconditioner: inverse mass matrix to learn, `Diagonal()` or `Dense()`.
        acceptance: mean acceptance aimed at, in (0, 1).

    Source: Neal, MCMC using Hamiltonian dynamics, 2011; the kernel is BlackJAX's.
    """

    n_leapfrog: int | Array = 16
    step_size: Scalar = eqx.field(converter=positive("step_size", 1.0), default=1.0)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.8), default=0.8)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 1000
    source: ClassVar[str] = (
        "Neal. MCMC using Hamiltonian dynamics. Handbook of Markov Chain Monte Carlo, 2011."
    )

    def __check_init__(self) -> None:
        """Say what to install."""
        require_blackjax("HMC")
        if isinstance(self.n_leapfrog, int) and self.n_leapfrog < 1:
            raise ValueError(f"HMC needs n_leapfrog >= 1, got {self.n_leapfrog}.")

    def init(self, key: PRNGKey, target: Target) -> HamiltonianState:
        """The state at `target.initial(key)`."""
        return _begin(key, target, self.preconditioner, self.step_size)

    def step(
        self, key: PRNGKey, target: Target, state: HamiltonianState
    ) -> tuple[HamiltonianState, Info]:
        """One trajectory."""
        from blackjax.mcmc import hmc

        state, info = _advance(hmc.build_kernel(), key, target, state, self.n_leapfrog)
        return state, _info(state, info, {})

    def adapt(
        self, key: PRNGKey, target: Target, state: HamiltonianState, i: Count, n: Count
    ) -> tuple[HamiltonianState, Info]:
        """One trajectory, after which step size and mass matrix are tuned."""
        state, info = self.step(key, target, state)
        rate = info.stats["acceptance_rate"]
        return _tuned(state, self.preconditioner, rate, self.acceptance, i, n), info

    def position(self, state: HamiltonianState) -> Vector:
        """Where the chain is."""
        return state.position
