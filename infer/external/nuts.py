"""The no-U-turn sampler, by BlackJAX's kernel, warmed up and run by our loop."""

from typing import ClassVar

import equinox as eqx

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import check_count, fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.external.hamiltonian import (
    HamiltonianState,
    advance,
    begin,
    info_of,
    require_blackjax,
)
from infer.geometry.scale import AbstractPreconditioner, Diagonal, check_preconditioner
from infer.geometry.warmup import tuned


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
        """Say what to install; refuse what could only fail later."""
        require_blackjax("NUTS")
        check_preconditioner(self.preconditioner, "NUTS")
        check_count("NUTS", "max_doublings", self.max_doublings, 10)

    def init(self, key: PRNGKey, target: Target) -> HamiltonianState:
        """The state at `target.initial(key)`."""
        return begin(key, target, self.preconditioner, self.step_size)

    def step(
        self, key: PRNGKey, target: Target, state: HamiltonianState
    ) -> tuple[HamiltonianState, Info]:
        """One trajectory."""
        from blackjax.mcmc import nuts

        state, info = advance(nuts.build_kernel(), key, target, state, self.max_doublings)
        return state, info_of(state, info, {"tree_depth": info.num_trajectory_expansions})

    def adapt(
        self, key: PRNGKey, target: Target, state: HamiltonianState, i: Count, n: Count
    ) -> tuple[HamiltonianState, Info]:
        """One trajectory, after which step size and mass matrix are tuned."""
        state, info = self.step(key, target, state)
        rate = info.stats["acceptance_rate"]
        return tuned(state, self.preconditioner, rate, self.acceptance, i, n), info

    def position(self, state: HamiltonianState) -> Vector:
        """Where the chain is."""
        return state.position
