"""The no-U-turn sampler, by BlackJAX's kernel, warmed up and run by our loop."""

from typing import Any, ClassVar

import equinox as eqx

from infer.core.algorithm import Info
from infer.core.checks import check_count, fraction, positive
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.external.adapter import AbstractTrajectory, KernelState, hamiltonian, trajectory_info
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.references.citation import cites
from infer.references.mcmc import HOFFMAN_2014
from infer.references.software import BLACKJAX


@cites(HOFFMAN_2014, BLACKJAX)
class NUTS(AbstractTrajectory):
    """The no-U-turn sampler: Hamiltonian trajectories that stop where they would turn back.

        (z, p) <- leapfrog steps of  dz = M^-1 p dt,  dp = grad log p(z) dt,      p ~ N(0, M)
        doubled forwards or backwards at random, until  r . M^-1 p <= 0  at one of the two ends
        z' = a point on the way, chosen by its weight exp(-H),   H = -log p(z) + p . M^-1 p / 2

    with r the sum of the momenta on the way, those of the ends by half.

    The reference for posteriors of up to some thousand dimensions. Warm-up tunes the step size to
    an acceptance of `acceptance` and the mass matrix to the inverse covariance of the draws.

    Cost per step: between 1 and 2^max_doublings gradients; chains that run side by side wait for
    the longest.

    Args:
        step_size: the first step size, > 0; kept if there is no warm-up.
        preconditioner: inverse mass matrix to learn, `Diagonal()` or `Dense()`.
        acceptance: mean acceptance aimed at, in (0, 1); raise it to 0.95 against divergences.
        max_doublings: at most 2^max_doublings leapfrog steps per transition, >= 1.

    Limits: regions of high curvature that it cannot enter, as the neck of a funnel; divergences
    mark them. Does not cross between separated modes, and needs all rows at every step.

    Source: Hoffman and Gelman, JMLR 15, 2014; the kernel is BlackJAX's (multinomial, iterative).
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 1.0), default=1.0)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.8), default=0.8)
    max_doublings: int = eqx.field(static=True, default=10)
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 1000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("NUTS", "max_doublings", self.max_doublings, 10)

    def begin(self, key: PRNGKey, target: Target, z: Vector) -> Any:
        """Position, density and score."""
        return hamiltonian(target, z)

    def move(self, key: PRNGKey, target: Target, state: KernelState) -> tuple[Any, Info]:
        """One trajectory."""
        from blackjax.mcmc import nuts

        kernel: Any = nuts.build_kernel()
        e, covariance = state.tuning.step_size, state.tuning.scale.covariance
        inner, info = kernel(key, state.inner, target.log_prob, e, covariance, self.max_doublings)
        depth = {"tree_depth": info.num_trajectory_expansions}
        return inner, trajectory_info(state, inner, info, depth)
