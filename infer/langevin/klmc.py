"""Kinetic Langevin Monte Carlo: the exponential integrator."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from infer.core.checks import optional_positive, positive
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.langevin.stability import check_below
from infer.langevin.underdamped import AbstractUnderdamped, UnderdampedState, moved
from infer.references.citation import cites
from infer.references.langevin import CHENG_2018, DALALYAN_2020


def coefficients(h: Scalar, friction: Scalar) -> tuple[Scalar, ...]:
    """e, p1, p2 of the mean, and the factor (vv, xv, xx) of the noise of (velocity, position).

    With a = friction h: p2 = (h - p1) / friction, and the variance of the position's noise given
    the velocity's is 2 (a - 2 tanh(a/2)) / friction^2. Both are differences that cancel, so small a
    are taken from the series.
    """
    a = friction * h
    small, x = a < 0.3, jnp.minimum(a, 0.3)
    p1 = -jnp.expm1(-a) / friction
    series = jnp.ones_like(x)
    for k in range(8, 2, -1):
        series = 1 - x / k * series
    series = x**2 / 2 * series
    p2 = jnp.where(small, series, a + jnp.expm1(-a)) / friction**2
    series = x**3 * (1 / 6 - x**2 / 60 + 17 * x**4 / 10080 - 31 * x**6 / 181440)
    conditional = jnp.where(small, series, 2 * a - 4 * jnp.tanh(a / 2)) / friction**2
    vv = jnp.sqrt(-jnp.expm1(-2 * a))
    xv = jnp.expm1(-a) ** 2 / friction / vv
    return jnp.exp(-a), p1, p2, vv, xv, jnp.sqrt(conditional)


def klmc(key: PRNGKey, target: Target, state: UnderdampedState) -> tuple[UnderdampedState, Scalar]:
    """One step of `KLMC` and its energy error, by the densities of the step and of its reverse."""
    h, scale = state.tuning.step_size, state.tuning.scale
    e, p1, p2, vv, xv, xx = coefficients(h, state.friction)
    v, g = state.velocity, scale.whiten_score(state.score)
    noise = jax.random.normal(key, (2, *v.shape), v.dtype)
    move = p1 * v + p2 * g + xv * noise[0] + xx * noise[1]
    last = e * v + p1 * g + vv * noise[0]
    after = moved(target, state, state.position + scale.color(move), last)
    back = scale.whiten_score(after.score)
    reverse_v = (-v + e * last - p1 * back) / vv  # the noise that leads back, velocities reversed
    reverse_x = (-move + p1 * last - p2 * back - xv * reverse_v) / xx
    gained = last**2 - v**2 + reverse_v**2 + reverse_x**2 - noise[0] ** 2 - noise[1] ** 2
    return after, state.log_prob - after.log_prob + jnp.sum(gained) / 2


def stable(h: float, friction: float) -> bool:
    """Does the mean of (position, velocity) contract on N(0, 1)?"""
    a = friction * h
    e, p1 = np.exp(-a), -np.expm1(-a) / friction
    p2 = (h - p1) / friction
    trace, determinant = 1 - p2 + e, (1 - p2) * e + p1**2
    return bool(abs(trace) < 1 + determinant and determinant < 1)


def largest_step(friction: float) -> float:
    """The step size up to which `KLMC` is stable on N(0, 1), by bisection."""
    low, high = 0.0, 1.0
    while stable(high, friction) and high < 1e3:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle, friction) else (low, middle)
    return low


@cites(CHENG_2018, DALALYAN_2020)
class KLMC(AbstractUnderdamped):
    """Underdamped Langevin dynamics, exact while the gradient stays what it was at the start.

        (z, v) <- the Gaussian law at time h of  dz = L v dt,
                  dv = (g - friction v) dt + sqrt(2 friction) dW,   g = L^T grad log p(z) held fixed

    with M = L L^T: the scheme of the theory, and biased to first order in h. On N(0, 1) with a
    friction of 2 its variances are 1.07 at h = 0.25 and 1.31 at h = 1; `BAOAB` has no bias there at
    the same cost. It needs friction: it is unstable from about h = 2 * friction where that is
    small, and from h = 5 at a friction of 2. Warm-up as for `BAOAB`.

    Cost per step: one gradient, plus O(d) with a diagonal and O(d^2) with a dense preconditioner.

    Args:
        step_size: h, > 0, in units of M, kept as it is; or None to have warm-up tune it (0.1
            without warm-up).
        friction: > 0; 1 over the time for which a velocity is remembered.
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        energy_error: variance of the energy error per dimension that a tuned step size aims at, >
            0; smaller is less biased and slower.

    Limits: biased to first order in h, which R-hat and ESS cannot see. Gets stuck in funnels; does
    not cross between separated modes; needs all rows at every step.

    Source: Cheng, Chatterji, Bartlett and Jordan, COLT 2018; Dalalyan and Riou-Durand, Bernoulli
    26(3), 2020.
    """

    step_size: Scalar | None = eqx.field(
        converter=optional_positive("step_size", 0.1), default=None
    )
    friction: Scalar = eqx.field(converter=positive("friction", 2.0), default=2.0)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    energy_error: Scalar = eqx.field(converter=positive("energy_error", 5e-4), default=5e-4)
    bias_order: ClassVar[int | None] = 1

    def __check_init__(self) -> None:
        """Refuse a step size that is not stable."""
        if self.step_size is None or isinstance(self.friction, Tracer):
            return
        bounds = [largest_step(float(f)) for f in np.ravel(np.asarray(self.friction))]
        check_below("KLMC", self.step_size, min(bounds), 0.1)

    def scheme(
        self, key: PRNGKey, target: Target, state: UnderdampedState
    ) -> tuple[UnderdampedState, Scalar]:
        """One step and its energy error."""
        return klmc(key, target, state)
