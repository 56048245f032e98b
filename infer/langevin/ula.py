"""The unadjusted Langevin algorithm."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import optional_positive, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Diagonal, check_preconditioner
from infer.langevin.stability import check_below
from infer.langevin.transition import FIRST_STEP, LangevinState, begin, warm
from infer.references.citation import cites
from infer.references.langevin import DALALYAN_2017, ROBERTS_1996


@cites(ROBERTS_1996, DALALYAN_2017)
class ULA(AbstractSampler):
    """Langevin dynamics without an acceptance test: fast, and biased by its step size.

        z <- z + e M grad log p(z) + sqrt(2 e) L noise,      M = L L^T

    On a Gaussian posterior with covariance M its draws have covariance M / (1 - e/2): the stability
    limit is e = 2, and e = 0.1 makes standard deviations 2.6 % too large. Warm-up takes adjusted
    steps to learn M safely, then hands over to unadjusted ones of the fixed or tuned size e.

    Cost per step: one gradient, plus O(d) with a diagonal and O(d^2) with a dense preconditioner.

    Args:
        step_size: e, in (0, 2), in units of M; or None to have warm-up tune it to `energy_error`
            (0.05 without warm-up).
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        energy_error: variance per dimension, > 0, of the energy error of a leapfrog step of length
            sqrt(2 e), which a tuned step size aims at.

    Limits: biased to first order in e; R-hat and ESS cannot see it, the scores in the verdict can.
    It diverges where the gradient grows faster than the distance. Does not cross between separated
    modes; needs all rows at every step.

    Source: Roberts and Tweedie, Bernoulli 2(4), 1996; Dalalyan, JRSS B 79, 2017.
    """

    step_size: Scalar | None = eqx.field(
        converter=optional_positive("step_size", 0.05), default=0.05
    )
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    energy_error: Scalar = eqx.field(converter=positive("energy_error", 5e-4), default=5e-4)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    bias_order: ClassVar[int | None] = 1
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_preconditioner(self.preconditioner, "ULA")
        check_below("ULA", self.step_size, 2.0, 0.05)

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        first = jnp.asarray(FIRST_STEP) if self.step_size is None else self.step_size
        return begin(target, target.initial(key), self.preconditioner, first)

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        e, scale = state.tuning.step_size, state.tuning.scale
        noise = jax.random.normal(key, state.position.shape, state.position.dtype)
        z = state.position + e * scale.apply(state.score) + jnp.sqrt(2 * e) * scale.color(noise)
        log_prob, score = target.value_and_score(z)
        return LangevinState(z, log_prob, score, state.tuning), Info(-log_prob, jnp.asarray(1), {})

    def adapt(
        self, key: PRNGKey, target: Target, state: LangevinState, i: Count, n: Count
    ) -> tuple[LangevinState, Info]:
        """One adjusted transition, after which its step size and the preconditioner are tuned."""
        return warm(
            key, target, state, self.preconditioner, self.step_size, self.energy_error, i, n
        )

    def position(self, state: LangevinState) -> Vector:
        """Where the chain is."""
        return state.position
