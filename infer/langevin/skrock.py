"""Stabilized Langevin steps of many stages: SK-ROCK."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import positive
from infer.core.composite import blunted, is_composite, pull, smoothing_gap
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import Diagonal
from infer.geometry.warmup import Tuning, tuned
from infer.langevin import proximal
from infer.langevin.transition import ACCEPTANCE, LangevinState
from infer.references.citation import cites
from infer.references.langevin import PEREYRA_2020

DAMPING = 0.05  # eta of the paper


def _count(n: int | Array) -> Array:
    if not isinstance(n, Tracer) and not np.all(np.asarray(n) >= 2):
        raise ValueError(f"SKROCK needs n_stages >= 2, got {n}; write n_stages=10.")
    return jnp.asarray(n, jnp.int32)


class SKROCKState(eqx.Module):
    """Position, its density, and the tuning; no score, as a step takes none where it starts."""

    position: Vector
    log_prob: Scalar
    tuning: Tuning


@cites(PEREYRA_2020)
class SKROCK(AbstractSampler):
    """Langevin steps of s stages each, stable up to step sizes of about 2 s^2; unadjusted.

        k_1 = z + a d(z + b q) + c q,     q = sqrt(2 e) L noise,   d = -e M (grad f + grad env)
        k_j = m_j d(k_{j-1}) + n_j k_{j-1} + (1 - n_j) k_{j-2},   j = 2 ... s,   k_0 = z;   z <- k_s

        w_0 = 1 + 0.05 / s^2,   w_1 = T_s(w_0) / T_s'(w_0),   a = w_1 / w_0,   b = s w_1 / 2,
        c = s a,   m_j = 2 w_1 T_{j-1}(w_0) / T_j(w_0),   n_j = m_j w_0 / w_1,   M = L L^T

    with the Chebyshev polynomials T, for a smooth target or, as `MYULA`, one exp(-f - g) made by
    `infer.Composite`, g replaced by its Moreau envelope of width lam M. For stiff posteriors: s
    stages reach s times as far per gradient as `ULA` does at its limit. Warm-up takes steps of
    `MYMALA` to learn M.

    What it pays for that: on a Gaussian the variance along an eigenvector of curvature l (in units
    of M) is right only where p = e l is small, 1 % too small at p = 0.5 and 7 % at p = 2 for s =
    10, and beyond that it is far too small: near p = 4.8, 18.5, 40, ... it is 0, for no noise at
    all reaches that direction. The table in the documentation has the values at large steps.

    Cost per step: s gradients of f and proximal maps, one density.

    Args:
        n_stages: s, >= 2.
        step_size: e, > 0, below l_s = (s - 1/2)^2 (2 - 0.2 / 3) - 3/2 over the largest curvature
            in units of M, which is that of f plus 1 / lam. l_s is 173 for s = 10.
        smoothing: lam, > 0, in units of M, for a `Composite`.
        preconditioner: `Diagonal()`, whose `variances` are M if there is no warm-up.

    Limits: biased by e and by lam: with the default values, M the variances, variances of Laplace
    densities are 1.5 % too small. Too small spreads do not show in the agreement between chains;
    they do in the equipartition and the scores of the verdict.

    Source: Pereyra, Vargas Mieles and Zygalakis, Accelerating proximal Markov chain Monte Carlo by
    using an explicit stabilized method, SIAM J. Imaging Sciences 13(2), 2020.
    """

    n_stages: Array = eqx.field(converter=_count, default=10)
    step_size: Scalar = eqx.field(converter=positive("step_size", 0.5), default=0.5)
    smoothing: Scalar = eqx.field(converter=positive("smoothing", 0.1), default=0.1)
    preconditioner: Diagonal = eqx.field(default_factory=Diagonal)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    proximal: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        proximal.check_diagonal(self.preconditioner, "SKROCK")
        self._check_step(1.0, "on a posterior whose variances are M")

    def check(self, target: Target) -> None:
        """Refuse a step beyond the envelope's stability; warn where it is far from g."""
        proximal.check_real(target, "SKROCK")
        scale = self.preconditioner.identity(jnp.zeros(target.dim))
        if is_composite(target):
            self._check_step(1 / float(np.min(self.smoothing)), "1 / smoothing, that of g")
        if self.preconditioner.variances is not None:
            proximal.warn_of_smoothing("SKROCK", target, self.smoothing * scale.covariance)

    def _check_step(self, curvature: float, where: str) -> None:
        e, s = self.step_size, self.n_stages
        if isinstance(e, Tracer) or isinstance(s, Tracer):
            return
        stable = (np.asarray(s, float) - 0.5) ** 2 * (2 - 4 * DAMPING / 3) - 1.5  # l_s
        bound = np.min(stable) / curvature
        if not np.all(np.asarray(e) < bound):
            raise ValueError(
                f"SKROCK with n_stages={s} is unstable unless step_size < {bound:.4g} (l_s over a "
                f"curvature of {curvature:.4g}, {where}), got {e}; write step_size="
                f"{bound / 2:.3g}, or take more stages."
            )

    def init(self, key: PRNGKey, target: Target) -> SKROCKState:
        """The state at `target.initial(key)`."""
        z = target.initial(key)
        state = proximal.start(target, z, self.preconditioner, self.step_size, "SKROCK")
        return SKROCKState(z, state.log_prob, state.tuning)

    def step(self, key: PRNGKey, target: Target, state: SKROCKState) -> tuple[SKROCKState, Info]:
        """One transition of s stages."""
        z, scale = state.position, state.tuning.scale
        e, lam = self.step_size.astype(z.dtype), self.smoothing.astype(z.dtype)
        smooth, width = blunted(target), lam * scale.covariance

        def drift(x: Vector) -> Vector:
            return e * scale.apply(smooth.value_and_score(x)[1] + pull(target, x, width))

        s = self.n_stages.astype(z.dtype)
        angle = 2 * jnp.arcsinh(jnp.sqrt(DAMPING / 2) / s)  # T_j(w0) = cosh(j angle)
        w0, w1 = jnp.cosh(angle), jnp.sinh(angle) / (s * jnp.tanh(s * angle))
        q = jnp.sqrt(2 * e) * scale.color(jax.random.normal(key, z.shape, z.dtype))
        first = z + w1 / w0 * (drift(z + s * w1 / 2 * q) + s * q)

        def stage(_: Count, loop: tuple[Vector, Vector, Scalar]) -> tuple[Vector, Vector, Scalar]:
            before, now, ratio = loop
            ratio = 1 / (2 * w0 - ratio)  # T_{j-1}(w0) / T_j(w0)
            along, kept = 2 * w1 * ratio, 2 * w0 * ratio
            return now, along * drift(now) + kept * now + (1 - kept) * before, ratio

        z = jax.lax.fori_loop(2, self.n_stages + 1, stage, (z, first, 1 / w0))[1]
        log_prob = target.log_prob(z)
        state = SKROCKState(z, log_prob, state.tuning)
        stats = {"smoothing_nats": smoothing_gap(target, z, width)}
        return state, Info(-log_prob, self.n_stages, stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: SKROCKState, i: Count, n: Count
    ) -> tuple[SKROCKState, Info]:
        """One adjusted transition of a single stage, after which M is tuned."""
        z = state.position
        here = LangevinState(z, *blunted(target).value_and_score(z), state.tuning)
        new, rate = proximal.exact_step(key, target, here, self.smoothing)
        new = tuned(new, self.preconditioner, rate, jnp.asarray(ACCEPTANCE), i, n)
        state = SKROCKState(new.position, new.log_prob, new.tuning)
        return state, Info(-new.log_prob, jnp.asarray(2), {"acceptance_rate": rate})

    def position(self, state: SKROCKState) -> Vector:
        """Where the chain is."""
        return state.position
