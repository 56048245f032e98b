"""The BAOAB scheme of underdamped Langevin dynamics."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.checks import optional_positive, positive
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.langevin.stability import check_below
from infer.langevin.underdamped import AbstractUnderdamped, UnderdampedState, moved
from infer.references.citation import cites
from infer.references.langevin import LEIMKUHLER_2013, SIVAK_2013


def baoab(key: PRNGKey, target: Target, state: UnderdampedState) -> tuple[UnderdampedState, Scalar]:
    """One step and its energy error; kicks B, drifts A and the noise O of `BAOAB`."""
    h, scale = state.tuning.step_size, state.tuning.scale
    kept = jnp.exp(-state.friction * h)
    noise = jax.random.normal(key, state.position.shape, state.position.dtype)
    first = state.velocity + 0.5 * h * scale.whiten_score(state.score)
    second = kept * first + jnp.sqrt(1 - kept**2) * noise
    z = state.position + 0.5 * h * scale.color(first + second)
    after = moved(target, state, z, second)
    last = second + 0.5 * h * scale.whiten_score(after.score)
    gained = jnp.sum(first**2 - state.velocity**2 + last**2 - second**2) / 2
    return eqx.tree_at(lambda s: s.velocity, after, last), state.log_prob - after.log_prob + gained


@cites(LEIMKUHLER_2013, SIVAK_2013)
class BAOAB(AbstractUnderdamped):
    """Underdamped Langevin dynamics, split into kicks (B), drifts (A) and friction (O).

        v += h/2 L^T grad log p(z)        B
        z += h/2 L v                      A
        v <- c v + sqrt(1 - c^2) noise    O,   c = exp(-friction h)
        z += h/2 L v                      A
        v += h/2 L^T grad log p(z)        B,   M = L L^T

    The unadjusted method to take first: on a Gaussian posterior its draws have the right covariance
    at every stable step size, h < 2 in units of M, and elsewhere the bias falls with h^2 or faster.
    Warm-up learns M, and a step size at which the energy error has variance `energy_error` per
    dimension. To an error of 0.01 in second moments it took a quarter of the gradients of `NUTS` on
    a Gaussian, a random walk and a logistic regression.

    Cost per step: one gradient, plus O(d) with a diagonal and O(d^2) with a dense preconditioner.

    Args:
        step_size: h, in (0, 2), in units of M, kept as it is; or None to have warm-up tune it
            (0.1 without warm-up).
        friction: > 0; 1 over the time for which a velocity is remembered, where a standard
            deviation is crossed in a time of one.
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        energy_error: variance of the energy error per dimension that a tuned step size aims at, >
            0; smaller is less biased and slower.

    Limits: R-hat and ESS cannot see the bias; the scores in the verdict can. Gets stuck in funnels;
    does not cross between separated modes; needs all rows at every step.

    Source: Leimkuhler and Matthews, Applied Mathematics Research eXpress 2013(1), 2013; the energy
    error as in Sivak, Chodera and Crooks, Physical Review X 3, 2013.
    """

    step_size: Scalar | None = eqx.field(
        converter=optional_positive("step_size", 0.5), default=None
    )
    friction: Scalar = eqx.field(converter=positive("friction", 0.3), default=0.3)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    energy_error: Scalar = eqx.field(converter=positive("energy_error", 5e-3), default=5e-3)
    bias_order: ClassVar[int | None] = 2

    def __check_init__(self) -> None:
        """Refuse a step size that is not stable."""
        check_below("BAOAB", self.step_size, 2.0, 0.5)

    def scheme(
        self, key: PRNGKey, target: Target, state: UnderdampedState
    ) -> tuple[UnderdampedState, Scalar]:
        """One step and its energy error."""
        return baoab(key, target, state)
