"""Generalized Hamiltonian Monte Carlo, by BlackJAX's kernel."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from infer.core.algorithm import Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.external.adapter import AbstractTrajectory, KernelState, trajectory_info
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.references.citation import cites
from infer.references.mcmc import HOFFMAN_2022, HOROWITZ_1991, NEAL_2020
from infer.references.software import BLACKJAX


@cites(HOROWITZ_1991, NEAL_2020, HOFFMAN_2022, BLACKJAX)
class GHMC(AbstractTrajectory):
    """Hamiltonian Monte Carlo with single steps and a momentum that is mostly kept.

        p <- sqrt(1 - a) p + sqrt(a) noise,      a = 1 - exp(-2 friction h)
        (z, p) <- one leapfrog step of size h, or (z, -p) if refused

    The exact relative of `OBABO`. A refusal turns the chain around, so refusals are made rare
    (`acceptance`) and come in runs, by a slice variable that moves by a / 2 at a time.

    Cost per step: one gradient, the same for all chains: for many chains at once.

    Args:
        friction: > 0; 1 over the time for which a velocity is remembered, where a standard
            deviation is crossed in a time of one.
        step_size: the first h, > 0; kept if there is no warm-up.
        preconditioner: inverse mass matrix, `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        acceptance: mean acceptance aimed at, in (0, 1).

    Limits: needs some times 1 / (friction h) as many steps as NUTS. Does not cross between
    separated modes.

    Source: Horowitz, Physics Letters B 268, 1991; Neal, arXiv:2001.11950, 2020; the kernel is
    BlackJAX's, the slice variable's speed that of Hoffman and Sountsov, AISTATS 2022.
    """

    friction: Scalar = eqx.field(converter=positive("friction", 0.5), default=0.5)
    step_size: Scalar = eqx.field(converter=positive("step_size", 0.1), default=0.1)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.9), default=0.9)
    default_warmup: ClassVar[int] = 2000
    default_steps: ClassVar[int] = 8000

    def begin(self, key: PRNGKey, target: Target, z: Vector) -> Any:
        """Position and momentum with density, score and slice variable."""
        from blackjax.mcmc import ghmc

        return ghmc.init(z, target.log_prob, key)

    def move(self, key: PRNGKey, target: Target, state: KernelState) -> tuple[Any, Info]:
        """One step."""
        from blackjax.mcmc import ghmc

        h, scale = state.tuning.step_size, state.tuning.scale
        alpha = -jnp.expm1(-2 * self.friction.astype(h.dtype) * h)
        metric = scale.covariance if scale.covariance.ndim == 2 else scale.factor
        kernel: Any = ghmc.build_kernel()
        inner, info = kernel(key, state.inner, target.log_prob, h, metric, alpha, alpha / 2)
        return inner, trajectory_info(state, inner, info, {})

    def moved(self, key: PRNGKey, target: Target, state: KernelState, z: Vector) -> KernelState:
        """The state at z, going on with the momentum that it has."""
        fresh = self.begin(key, target, z)
        kept = fresh._replace(momentum=state.inner.momentum, slice=state.inner.slice)
        return KernelState(kept, state.tuning)
