"""Hamiltonian Monte Carlo, by BlackJAX's kernel, warmed up and run by our loop."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from infer.core.algorithm import Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.external.adapter import AbstractTrajectory, KernelState, hamiltonian, trajectory_info
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.references.citation import cites
from infer.references.mcmc import NEAL_2011
from infer.references.software import BLACKJAX


def _leapfrogs(n: int | Array) -> Array:
    if not isinstance(n, Tracer) and not jnp.all(jnp.asarray(n) >= 1):
        raise ValueError(f"HMC needs n_leapfrog >= 1, got {n}; write n_leapfrog=16.")
    return jnp.asarray(n, jnp.int32)


@cites(NEAL_2011, BLACKJAX)
class HMC(AbstractTrajectory):
    """Hamiltonian Monte Carlo with trajectories of random length, up to a longest one.

        (z', p') = n leapfrog steps of  dz = M^-1 p dt,  dp = grad log p(z) dt,    p ~ N(0, M)
        accepted with probability min(1, exp(H - H')),   H = -log p(z) + p . M^-1 p / 2

    The number of leapfrog steps is uniform on 1, ..., `n_leapfrog`: a fixed one comes back to where
    it started in coordinates whose period it meets. `NUTS` chooses the length by itself; use this
    where the right length is known.

    Cost per step: (n_leapfrog + 1) / 2 gradients on average; chains that run side by side wait for
    the longest.

    Args:
        n_leapfrog: most leapfrog steps per transition, >= 1.
        step_size: the first step size, > 0; kept if there is no warm-up.
        preconditioner: inverse mass matrix to learn, `Diagonal()` or `Dense()`.
        acceptance: mean acceptance aimed at, in (0, 1).

    Limits: no better than its trajectory length. Funnels and separated modes are as hard as for
    `NUTS`; needs all rows at every step.

    Source: Neal, MCMC using Hamiltonian dynamics, 2011; the kernel is BlackJAX's.
    """

    n_leapfrog: Array = eqx.field(converter=_leapfrogs, default=16)
    step_size: Scalar = eqx.field(converter=positive("step_size", 1.0), default=1.0)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.8), default=0.8)
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 1000

    def begin(self, key: PRNGKey, target: Target, z: Vector) -> Any:
        """Position, density and score."""
        return hamiltonian(target, z)

    def move(self, key: PRNGKey, target: Target, state: KernelState) -> tuple[Any, Info]:
        """One trajectory."""
        from blackjax.mcmc import hmc

        key_length, key_move = jax.random.split(key)
        length = jax.random.randint(key_length, (), 1, self.n_leapfrog + 1)
        kernel: Any = hmc.build_kernel()
        e, covariance = state.tuning.step_size, state.tuning.scale.covariance
        inner, info = kernel(key_move, state.inner, target.log_prob, e, covariance, length)
        return inner, trajectory_info(state, inner, info, {})
