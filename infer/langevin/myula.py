"""The Moreau-Yosida unadjusted Langevin algorithm."""

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
from infer.references.langevin import DURMUS_2018


@cites(DURMUS_2018)
class MYULA(AbstractSampler):
    """Langevin dynamics on f plus the Moreau envelope of g, without an acceptance test.

        z <- z - e M grad f(z) + (e / lam) (prox(z) - z) + sqrt(2 e) L noise,     M = L L^T
        prox(z) = argmin over v of g(v) + |v - z|^2_{M^-1} / (2 lam)

    for a target exp(-f - g) made by `infer.Composite`; without g it is `ULA`. What it samples as e
    falls to 0 is not the posterior but one with g smoothed, by up to lam M_i G_i^2 / 2 nats in a
    coordinate where g has slopes up to G_i; "smoothing_nats" in the history is what it is at the
    draws. Warm-up takes steps of `MYMALA` to learn M.

    Cost per step: a gradient of f, one proximal map.

    Args:
        step_size: e, > 0, below 2 lam / (1 + lam L) where L is the largest curvature of f in units
            of M (advised: half of that).
        smoothing: lam, > 0, in units of M.
        preconditioner: `Diagonal()`, whose `variances` are M if there is no warm-up.

    Limits: biased by e and by lam; with the default values, M the variances, those of a Laplace
    density are 6 % too large. Draws leave the set of a `Box` or `Simplex`, by a distance that lam
    sets.

    Source: Durmus, Moulines and Pereyra, Efficient Bayesian computation by proximal Markov chain
    Monte Carlo: when Langevin meets Moreau, SIAM J. Imaging Sciences 11(1), 2018.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.05), default=0.05)
    smoothing: Scalar = eqx.field(converter=positive("smoothing", 0.1), default=0.1)
    preconditioner: Diagonal = eqx.field(default_factory=Diagonal)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    proximal: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        proximal.check_diagonal(self.preconditioner, "MYULA")
        proximal.check_ratio(self.step_size, self.smoothing, "MYULA")

    def check(self, target: Target) -> None:
        """Warn of an envelope far from g, where M is known."""
        proximal.check_real(target, "MYULA")
        scale = self.preconditioner.identity(jnp.zeros(target.dim))
        if self.preconditioner.variances is not None:
            proximal.warn_of_smoothing("MYULA", target, self.smoothing * scale.covariance)

    def init(self, key: PRNGKey, target: Target) -> LangevinState:
        """The state at `target.initial(key)`."""
        z = target.initial(key)
        return proximal.start(target, z, self.preconditioner, self.step_size, "MYULA")

    def step(
        self, key: PRNGKey, target: Target, state: LangevinState
    ) -> tuple[LangevinState, Info]:
        """One transition."""
        state = proximal.myula_move(key, target, state, self.step_size, self.smoothing)
        stats = {"smoothing_nats": proximal.gap(target, state, self.smoothing)}
        return state, Info(-state.log_prob, jnp.asarray(1), stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: LangevinState, i: Count, n: Count
    ) -> tuple[LangevinState, Info]:
        """One adjusted transition, after which its step size and M are tuned."""
        state, rate = proximal.exact_step(key, target, state, self.smoothing)
        aim = jnp.asarray(ACCEPTANCE)
        state = tuned(state, self.preconditioner, rate, aim, i, n)
        return state, Info(-state.log_prob, jnp.asarray(1), {"acceptance_rate": rate})

    def position(self, state: LangevinState) -> Vector:
        """Where the chain is."""
        return state.position
