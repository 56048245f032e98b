"""The OBABO scheme of underdamped Langevin dynamics."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.checks import optional_positive, positive
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar
from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.langevin.stability import check_below
from infer.langevin.underdamped import AbstractUnderdamped, UnderdampedState, moved
from infer.references.citation import cites
from infer.references.langevin import BUSSI_2007


def obabo_with(
    noise: tuple[Array, Array], target: Target, state: UnderdampedState
) -> tuple[UnderdampedState, Scalar]:
    """One step with the noise of its two halves O given, and its energy error."""
    h, scale = state.tuning.step_size, state.tuning.scale
    kept = jnp.exp(-0.5 * state.friction * h)
    rest = jnp.sqrt(1 - kept**2)
    first = kept * state.velocity + rest * noise[0]
    middle = first + 0.5 * h * scale.whiten_score(state.score)
    after = moved(target, state, state.position + h * scale.color(middle), middle)
    last = middle + 0.5 * h * scale.whiten_score(after.score)
    error = state.log_prob - after.log_prob + jnp.sum(last**2 - first**2) / 2
    return eqx.tree_at(lambda s: s.velocity, after, kept * last + rest * noise[1]), error


def obabo(key: PRNGKey, target: Target, state: UnderdampedState) -> tuple[UnderdampedState, Scalar]:
    """One step and its energy error; noise O, kicks B and the drift A of `OBABO`."""
    noise = jax.random.normal(key, (2, *state.position.shape), state.position.dtype)
    return obabo_with((noise[0], noise[1]), target, state)


@cites(BUSSI_2007)
class OBABO(AbstractUnderdamped):
    """Underdamped Langevin dynamics: a leapfrog step between two halves of friction.

        v <- c v + sqrt(1 - c^2) noise    O,   c = exp(-friction h / 2)
        v += h/2 L^T grad log p(z)        B
        z += h L v                        A
        v += h/2 L^T grad log p(z)        B
        v <- c v + sqrt(1 - c^2) noise    O,   M = L L^T

    On a Gaussian posterior with covariance M its draws have covariance M / (1 - h^2 / 4), at any
    friction: h = 0.5 makes standard deviations 3 % too large, and h = 2 is the limit of stability.
    `BAOAB` has no such bias at the same cost; this scheme is for comparison, and is what `MALT`
    adjusts. Warm-up as for `BAOAB`.

    Cost per step: one gradient, plus O(d) with a diagonal and O(d^2) with a dense preconditioner.

    Args:
        step_size: h, in (0, 2), in units of M, kept as it is; or None to have warm-up tune it
            (0.1 without warm-up).
        friction: > 0; 1 over the time for which a velocity is remembered.
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        energy_error: variance of the energy error per dimension that a tuned step size aims at, >
            0; smaller is less biased and slower.

    Limits: biased to second order in h, which R-hat and ESS cannot see. Gets stuck in funnels; does
    not cross between separated modes; needs all rows at every step.

    Source: Bussi and Parrinello, Physical Review E 75, 056707, 2007.
    """

    step_size: Scalar | None = eqx.field(
        converter=optional_positive("step_size", 0.3), default=None
    )
    friction: Scalar = eqx.field(converter=positive("friction", 0.3), default=0.3)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    energy_error: Scalar = eqx.field(converter=positive("energy_error", 5e-4), default=5e-4)
    bias_order: ClassVar[int | None] = 2

    def __check_init__(self) -> None:
        """Refuse a step size that is not stable."""
        check_below("OBABO", self.step_size, 2.0, 0.3)

    def scheme(
        self, key: PRNGKey, target: Target, state: UnderdampedState
    ) -> tuple[UnderdampedState, Scalar]:
        """One step and its energy error."""
        return obabo(key, target, state)
