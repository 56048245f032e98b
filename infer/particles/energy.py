"""Energies of sets of particles: from a value and its gradient to what an optimizer needs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.types import Points, Scalar
from infer.particles.method import Direction

Energy = Callable[[Points], tuple[Scalar, Points]]  # value and gradient at particles


def downhill(energy: Energy, x: Points, stats: dict[str, Array], gradients: int = 0) -> Direction:
    """The direction that lowers an energy, with all that a line search asks for.

    Args:
        energy: value and gradient at any particles; what depends on x only, such as a bandwidth,
            is to be settled in it, so that a line search sees one function.
        x: particles.
        stats: scalars to be recorded besides the energy.
        gradients: of the log density besides one per particle, in one evaluation.
    """
    value, gradient = energy(x)

    def value_fn(y: Points) -> Scalar:
        at = jax.lax.stop_gradient(y)
        value, gradient = energy(at)
        return value + jnp.sum(gradient * (y - at))  # has this gradient, and no second one

    line = {"value": value, "grad": gradient, "value_fn": value_fn}
    return Direction(-gradient, stats | {"energy": value}, gradients=gradients, line=line)
