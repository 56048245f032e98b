"""The unadjusted Langevin algorithm."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Diagonal, check_preconditioner
from infer.geometry.warmup import tune
from infer.langevin.transition import LangevinState, adjusted_step, begin

ACCEPTANCE = 0.574  # of the adjusted steps that warm-up takes


class ULA(AbstractSampler):
    """Langevin dynamics without an acceptance test: fast, and biased by its step size.

        z <- z + e M grad log p(z) + sqrt(2 e) L noise,      M = L L^T

    On a Gaussian posterior with covariance M its draws have covariance M / (1 - e/2): the stability
    limit is e = 2, and e = 0.1 makes standard deviations 2.6 % too large. Warm-up takes adjusted
    steps to learn M safely, then hands over to unadjusted ones of the fixed size e. R-hat and ESS
    cannot see the bias; the scores in the verdict can. Cost per step: one gradient.

    Args:
        step_size: e, in (0, 2), in units of M.
        preconditioner: `Diagonal()` or `Dense()`.

    Source: Roberts and Tweedie, Bernoulli 2(4), 1996; Dalalyan, JRSS B 79, 2017.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.05), default=0.05)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000
    source: ClassVar[str] = (
        "Dalalyan. Theoretical guarantees for approximate sampling from smooth and log-concave "
        "densities. JRSS B 79(3), 2017."
    )

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_preconditioner(self.preconditioner, "ULA")
        if not isinstance(self.step_size, Tracer) and not jnp.all(self.step_size < 2):
            raise ValueError(
                f"ULA diverges unless step_size < 2 (in units of M), got {self.step_size}; write "
                "step_size=0.05."
            )

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        return begin(target, target.initial(key), self.preconditioner, self.step_size)

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        e, scale = self.step_size.astype(state.position.dtype), state.tuning.scale
        noise = jax.random.normal(key, state.position.shape, state.position.dtype)
        z = state.position + e * scale.apply(state.score) + jnp.sqrt(2 * e) * scale.color(noise)
        log_prob, score = target.value_and_score(z)
        return LangevinState(z, log_prob, score, state.tuning), Info(-log_prob, jnp.asarray(1), {})

    def adapt(
        self, key: PRNGKey, target: Target, state: LangevinState, i: Count, n: Count
    ) -> tuple[LangevinState, Info]:
        """One adjusted transition, after which its step size and the preconditioner are tuned."""
        state, rate = adjusted_step(key, target, state)
        aim = jnp.asarray(ACCEPTANCE, state.position.dtype)
        tuning = tune(state.tuning, self.preconditioner, state.position, rate, aim, i, n)
        state = eqx.tree_at(lambda s: s.tuning, state, tuning)
        return state, Info(-state.log_prob, jnp.asarray(1), {"acceptance_rate": rate})

    def position(self, state: LangevinState) -> Vector:
        """Where the chain is."""
        return state.position
