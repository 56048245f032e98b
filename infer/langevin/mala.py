"""The Metropolis-adjusted Langevin algorithm."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Diagonal, check_preconditioner
from infer.geometry.warmup import tuned
from infer.langevin.transition import LangevinState, adjusted_step, begin
from infer.references.citation import cites
from infer.references.langevin import ROBERTS_1996, ROBERTS_1998


@cites(ROBERTS_1996, ROBERTS_1998)
class MALA(AbstractSampler):
    """Langevin proposals with an acceptance test: leaves the posterior invariant.

        z' = z + e M grad log p(z) + sqrt(2 e) L noise,      M = L L^T
        accept with probability min(1, p(z') q(z | z') / (p(z) q(z' | z)))

    Warm-up tunes e to an acceptance of `acceptance` and M to the covariance of the draws. A
    proposal at which density or gradient is not finite is refused.

    Cost per step: one gradient, plus O(d) with a diagonal and O(d^2) with a dense preconditioner.

    Args:
        step_size: the first step size e, > 0, in units of M; kept if there is no warm-up.
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        acceptance: mean acceptance aimed at, in (0, 1); 0.574 is optimal in high dimension.

    Limits: mixes slowly in funnels and in high dimension, where `NUTS` is better; does not cross
    between separated modes; needs all rows at every step.

    Source: Roberts and Tweedie, Bernoulli 2(4), 1996; Roberts and Rosenthal, JRSS B 60, 1998.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.1), default=0.1)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.574), default=0.574)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_preconditioner(self.preconditioner, "MALA")

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        return begin(target, target.initial(key), self.preconditioner, self.step_size)

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        state, acceptance = adjusted_step(key, target, state)
        stats = {"acceptance_rate": acceptance, "step_size": state.tuning.step_size}
        return state, Info(-state.log_prob, jnp.asarray(1), stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: LangevinState, i: Count, n: Count
    ) -> tuple[LangevinState, Info]:
        """One transition, after which step size and preconditioner are tuned."""
        state, info = self.step(key, target, state)
        rate = info.stats["acceptance_rate"]
        return tuned(state, self.preconditioner, rate, self.acceptance, i, n), info

    def position(self, state: LangevinState) -> Vector:
        """Where the chain is."""
        return state.position
