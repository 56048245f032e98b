"""The proximal gradient Langevin algorithm."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import Diagonal
from infer.geometry.warmup import tuned
from infer.langevin import proximal
from infer.langevin.transition import ACCEPTANCE, LangevinState
from infer.references.citation import cites
from infer.references.langevin import DURMUS_2019, SALIM_2019

SMOOTHING = 0.1  # of the adjusted steps that warm-up takes, in units of M


@cites(DURMUS_2019, SALIM_2019)
class PGLA(AbstractSampler):
    """A gradient step on f, the proximal map of g, and noise; without an acceptance test.

        z <- prox( z - e M grad f(z) + sqrt(2 e) L noise ),     M = L L^T
        z <- prox( z - e M grad f(z) ) + sqrt(2 e) L noise      with noise_last=True
        prox(z) = argmin over v of g(v) + |v - z|^2_{M^-1} / (2 e)

    for a target exp(-f - g) made by `infer.Composite`; without g it is `ULA`. There is no smoothing
    to choose and no stability limit from g. Noise first, draws are points of the proximal map: in a
    `Box`, and exactly 0 in some coordinates with `L1`, where the posterior has no such atoms. Noise
    last, they have a density. Warm-up takes steps of `MYMALA` to learn M.

    Cost per step: a gradient of f, one proximal map.

    Args:
        step_size: e, > 0, below 2 / L where L is the largest curvature of f in units of M.
        preconditioner: `Diagonal()`, whose `variances` are M if there is no warm-up.
        noise_last: which order.

    Limits: biased by e. On Laplace densities with e = 0.05 and M the variances, these are 4 % too
    small noise first, 6 % too large noise last.

    Source: Durmus, Majewski and Miasojedow, Analysis of Langevin Monte Carlo via convex
    optimization, JMLR 20(73), 2019; Salim, Kovalev and Richtarik, NeurIPS 2019.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.05), default=0.05)
    preconditioner: Diagonal = eqx.field(default_factory=Diagonal)
    noise_last: bool = eqx.field(static=True, default=False)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    proximal: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        proximal.check_diagonal(self.preconditioner, "PGLA")

    def check(self, target: Target) -> None:
        """Refuse terms in coordinates that are not values, and variances that do not fit."""
        self.preconditioner.identity(jnp.zeros(target.dim))
        proximal.check_real(target, "PGLA")

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        z = target.initial(key)
        return proximal.start(target, z, self.preconditioner, self.step_size, "PGLA")

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        state = proximal.forward_backward(key, target, state, self.step_size, self.noise_last)
        return state, Info(-state.log_prob, jnp.asarray(1), {})

    def adapt(
        self, key: PRNGKey, target: Target, state: LangevinState, i: Count, n: Count
    ) -> tuple[LangevinState, Info]:
        """One adjusted transition, after which its step size and M are tuned."""
        state, rate = proximal.exact_step(key, target, state, jnp.asarray(SMOOTHING))
        aim = jnp.asarray(ACCEPTANCE)
        state = tuned(state, self.preconditioner, rate, aim, i, n)
        return state, Info(-state.log_prob, jnp.asarray(1), {"acceptance_rate": rate})

    def position(self, state: LangevinState) -> Vector:
        """Where the chain is."""
        return state.position
