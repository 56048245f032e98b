"""BlackJAX's kernels in our loop: one state, one start, one step for all of them."""

import importlib.util
from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractTunedSampler, Info
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, check_preconditioner
from infer.geometry.warmup import Tuning, tuned, untuned


def require_blackjax(name: str) -> None:
    """Refuse, with what to install, where BlackJAX is missing."""
    if importlib.util.find_spec("blackjax") is None:
        raise ImportError(f"{name} runs on BlackJAX: pip install 'infer-jax[mcmc]'.")


class KernelState(eqx.Module):
    """The state of a BlackJAX kernel, and what warm-up learned.

    `inner` has the fields of BlackJAX's states: `position`, `logdensity`, mostly `logdensity_grad`.
    """

    inner: Any
    tuning: Tuning

    @property
    def position(self) -> Vector:
        """Where the chain is."""
        return self.inner.position


class AbstractTrajectory(AbstractTunedSampler):
    """A kernel of BlackJAX that accepts or refuses where it goes, warmed up by how often.

    A method is a first state, a transition and its defaults; everything else is here.

    Attributes:
        step_size: the first step size, > 0, or None for `first_step`.
        preconditioner: of M, the inverse mass matrix.
        acceptance: mean acceptance aimed at.
    """

    step_size: eqx.AbstractVar[Scalar | None]
    preconditioner: eqx.AbstractVar[AbstractPreconditioner]
    acceptance: eqx.AbstractVar[Scalar]
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Say what to install; refuse what is no preconditioner."""
        require_blackjax(type(self).__name__)
        check_preconditioner(self.preconditioner, type(self).__name__)

    @abstractmethod
    def begin(self, key: PRNGKey, target: Target, z: Vector) -> Any:
        """The kernel's state at z."""

    @abstractmethod
    def move(self, key: PRNGKey, target: Target, state: KernelState) -> tuple[Any, Info]:
        """The kernel's next state."""

    def init(self, key: PRNGKey, target: Target) -> KernelState:
        """The state at `target.initial(key)`, untuned."""
        key_start, key_kernel = jax.random.split(key)
        z = target.initial(key_start)
        tuning = untuned(self.preconditioner, first_step(self.step_size, z), z)
        return KernelState(self.begin(key_kernel, target, z), tuning)

    def step(self, key: PRNGKey, target: Target, state: KernelState) -> tuple[KernelState, Info]:
        """One transition."""
        inner, info = self.move(key, target, state)
        return KernelState(inner, state.tuning), info

    def tune(self, state: KernelState, info: Info, i: Count, n: Count) -> KernelState:
        """Step size and preconditioner, from the acceptance."""
        rate = info.stats["acceptance_rate"]
        return tuned(state, self.preconditioner, rate, self.acceptance, i, n)

    def position(self, state: KernelState) -> Vector:
        """Where the chain is."""
        return state.position


def first_step(step_size: Scalar | None, z: Vector) -> Scalar:
    """The step size that was given, or the one that microcanonical methods begin with."""
    return jnp.sqrt(z.shape[0]) / 4 if step_size is None else step_size


def trajectory_info(
    state: KernelState, inner: Any, info: Any, extra: dict[str, Array], per_step: int = 1
) -> Info:
    """What a transition shows, under ArviZ's names; `per_step` gradients per integration step."""
    steps = jnp.asarray(info.num_integration_steps, jnp.int32)
    stats = {
        "acceptance_rate": info.acceptance_rate,
        "diverging": info.is_divergent,
        "energy": info.energy,
        "step_size": state.tuning.step_size,
        "n_steps": steps,
    }
    return Info(-inner.logdensity, per_step * steps, stats | extra)


def hamiltonian(target: Target, z: Vector) -> Any:
    """BlackJAX's state of HMC and NUTS at z."""
    from blackjax.mcmc.hmc import HMCState

    log_prob, score = target.value_and_score(z)
    return HMCState(z, log_prob, score)  # pyright: ignore[reportArgumentType]
