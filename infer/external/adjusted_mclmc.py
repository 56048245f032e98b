"""Microcanonical Langevin trajectories with an acceptance test, by BlackJAX's kernel."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import Info
from infer.core.checks import fraction, optional_positive, positive
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.external.adapter import AbstractTrajectory, KernelState, hamiltonian, trajectory_info
from infer.external.mclmc import check_microcanonical
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.references.citation import cites
from infer.references.mcmc import ROBNIK_2025
from infer.references.software import BLACKJAX

LONGEST = 1000.0  # steps of a trajectory on average, at most


@cites(ROBNIK_2025, BLACKJAX)
class AdjustedMCLMC(AbstractTrajectory):
    """Metropolis-adjusted microcanonical sampling (MAMS): trajectories of unit speed, exact.

        dx = L u dt,   du = (I - u u^T) L^T grad log p(x) dt / (d - 1),   |u| = 1,   M = L L^T

    from a fresh u, for a random number of steps of mean length / step size; the end is accepted
    with probability min(1, exp(-energy error)). The direction is all that moves, so no step is long
    and no kick throws the chain off, however steep the density.

    Cost per step: two gradients per integration step, length / step size of these on average.

    Args:
        length: mean length of a trajectory, > 0, in units of sqrt(d), the distance from the center
            of a posterior of covariance M to where its mass is.
        step_size: the first step size, > 0, kept if there is no warm-up; None for sqrt(d) / 4.
        preconditioner: `Diagonal()` or `Fixed(variances)`.
        acceptance: mean acceptance aimed at, in (0, 1).

    Limits: needs two dimensions and all rows. Does not cross between separated modes.

    Source: Robnik, Cohn-Gordon and Seljak, arXiv:2503.01707, 2025; the kernel is BlackJAX's.
    """

    length: Scalar = eqx.field(converter=positive("length", 2.0), default=2.0)
    step_size: Scalar | None = eqx.field(
        converter=optional_positive("step_size", 1.0), default=None
    )
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.9), default=0.9)
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 1000

    def check(self, target: Target) -> None:
        """Refuse one dimension, and a full matrix."""
        check_microcanonical("AdjustedMCLMC", target, self.preconditioner)

    def begin(self, key: PRNGKey, target: Target, z: Vector) -> Any:
        """Position, density and score."""
        return hamiltonian(target, z)

    def move(self, key: PRNGKey, target: Target, state: KernelState) -> tuple[Any, Info]:
        """One trajectory."""
        from blackjax.mcmc import adjusted_mclmc_dynamic as mams
        from blackjax.mcmc.dynamic_hmc import DynamicHMCState

        key_length, key_move = jax.random.split(key)
        e, scale, d = state.tuning.step_size, state.tuning.scale, state.position.shape[0]
        steps = jnp.clip(self.length.astype(e.dtype) * jnp.sqrt(d).astype(e.dtype) / e, 1, LONGEST)
        kernel: Any = mams.build_kernel(mams.make_random_trajectory_length_fn(True))
        inner, info = kernel(
            key_move,
            DynamicHMCState(*state.inner, random_generator_arg=key_length),
            target.log_prob,
            e,
            inverse_mass_matrix=scale.covariance,
            integration_steps_params=(steps,),
        )
        inner = type(state.inner)(*inner[:3])
        return inner, trajectory_info(state, inner, info, {}, per_step=2)
