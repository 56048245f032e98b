"""MYULA with an acceptance test."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import Diagonal
from infer.geometry.warmup import tuned
from infer.langevin import proximal
from infer.langevin.transition import LangevinState
from infer.references.citation import cites
from infer.references.langevin import DURMUS_2018, PEREYRA_2016


@cites(DURMUS_2018, PEREYRA_2016)
class MYMALA(AbstractSampler):
    """The move of `MYULA` as a proposal, accepted or not by the density itself: exact.

        z' = z - e M grad f(z) + (e / lam) (prox(z) - z) + sqrt(2 e) L noise,     M = L L^T
        accept with probability min(1, p(z') q(z | z') / (p(z) q(z' | z))),   p = exp(-f - g)

    for a target made by `infer.Composite`; without g it is `MALA`. Smoothing shapes the proposals
    alone. Warm-up tunes e to an acceptance of `acceptance` and M to the variances of the draws.

    Cost per step: a gradient of f, two proximal maps.

    Args:
        step_size: the first e, > 0, in units of M; kept if there is no warm-up.
        smoothing: lam, > 0, in units of M.
        preconditioner: `Diagonal()`, whose `variances` are M if there is no warm-up.
        acceptance: mean acceptance aimed at, in (0, 1).

    Limits: started far out, proposals with lam far below e overshoot and are refused: it sticks.
    On a `Box` or `Simplex` it is exact, but refuses every proposal outside; a support such as
    `infer.interval` or a mirror map serves better there.

    Source: Durmus, Moulines and Pereyra, SIAM J. Imaging Sciences 11(1), 2018; Pereyra, Proximal
    Markov chain Monte Carlo algorithms, Statistics and Computing 26, 2016 (the adjustment).
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.1), default=0.1)
    smoothing: Scalar = eqx.field(converter=positive("smoothing", 0.1), default=0.1)
    preconditioner: Diagonal = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.574), default=0.574)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    proximal: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        proximal.check_diagonal(self.preconditioner, "MYMALA")

    def check(self, target: Target) -> None:
        """Refuse terms in coordinates that are not values, and variances that do not fit."""
        self.preconditioner.identity(jnp.zeros(target.dim))
        proximal.check_real(target, "MYMALA")

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        z = target.initial(key)
        return proximal.start(target, z, self.preconditioner, self.step_size, "MYMALA")

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        state, rate = proximal.exact_step(key, target, state, self.smoothing)
        stats = {"acceptance_rate": rate, "step_size": state.tuning.step_size}
        return state, Info(-state.log_prob, jnp.asarray(1), stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: LangevinState, i: Count, n: Count
    ) -> tuple[LangevinState, Info]:
        """One transition, after which step size and M are tuned."""
        state, info = self.step(key, target, state)
        rate = info.stats["acceptance_rate"]
        state = tuned(state, self.preconditioner, rate, self.acceptance, i, n)
        return state, info

    def position(self, state: LangevinState) -> Vector:
        """Where the chain is."""
        return state.position
