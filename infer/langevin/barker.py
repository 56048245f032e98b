"""The Barker proposal."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Diagonal, check_preconditioner
from infer.geometry.warmup import tuned
from infer.langevin.transition import LangevinState, accepted, begin
from infer.references.citation import cites
from infer.references.langevin import LIVINGSTONE_2022


@cites(LIVINGSTONE_2022)
class Barker(AbstractSampler):
    """A random walk whose signs lean up the gradient, with an acceptance test.

        w = sqrt(2 e) noise,   g = L^T grad log p(z),   M = L L^T
        b_i = +1 with probability 1 / (1 + exp(-w_i g_i)), else -1
        z' = z + L (b w),   accept with probability
        min(1, p(z') / p(z) prod_i (1 + exp(-b_i w_i g_i)) / (1 + exp(b_i w_i g_i')))

    A steep gradient turns a step around but never makes it longer, so a step size or start that is
    off hurts it less than `MALA`; well tuned it needs more steps: on a random walk in d = 32 more
    than 40,000 gradients to an error of 0.01 in second moments, against 31,000. Leaves the
    posterior invariant. Warm-up tunes e to an acceptance of `acceptance` and M to the covariance of
    the draws.

    Cost per step: one gradient, plus O(d) with a diagonal and O(d^2) with a dense preconditioner.

    Args:
        step_size: the first step size e, > 0, in units of M; kept if there is no warm-up.
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        acceptance: mean acceptance aimed at, in (0, 1).

    Limits: a random walk, whose steps shrink with the dimension; does not cross between separated
    modes; needs all rows at every step.

    Source: Livingstone and Zanella, JRSS B 84(2), 2022.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.1), default=0.1)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.4), default=0.4)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_preconditioner(self.preconditioner, "Barker")

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        return begin(target, target.initial(key), self.preconditioner, self.step_size)

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        noise_key, sign_key, accept_key = jax.random.split(key, 3)
        e, scale = state.tuning.step_size, state.tuning.scale
        like = state.position
        w = jnp.sqrt(2 * e) * jax.random.normal(noise_key, like.shape, like.dtype)
        g = scale.whiten_score(state.score)
        forward = jax.random.uniform(sign_key, like.shape, like.dtype) < jax.nn.sigmoid(w * g)
        w = jnp.where(forward, w, -w)
        z = like + scale.color(w)
        log_prob, score = target.value_and_score(z)
        back = scale.whiten_score(score)
        lean = jnp.sum(jax.nn.softplus(-w * g) - jax.nn.softplus(w * back))
        new = LangevinState(z, log_prob, score, state.tuning)
        state, log_ratio = accepted(accept_key, new, state, log_prob - state.log_prob + lean)
        rate = jnp.exp(jnp.minimum(log_ratio, 0))
        stats = {"acceptance_rate": rate, "step_size": e}
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
