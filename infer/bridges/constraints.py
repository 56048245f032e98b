"""NumPyro's constraints as supports. Importing this module imports NumPyro."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.constraints import Constraint

from infer.core.support import (
    AbstractSupport,
    Shape,
    greater_than,
    interval,
    positive,
    real,
    unit_interval,
)
from infer.core.types import Flag, Scalar
from infer.core.vector_support import simplex


def constraint_label(constraint: Constraint) -> str:
    """The name of a constraint without its bounds: `positive`, `greater_than`, `simplex`."""
    base = constraint
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    words = type(base).__name__.removeprefix("_")
    return "".join("_" + c.lower() if c.isupper() else c for c in words).removeprefix("_")


class NumPyroSupport(AbstractSupport):
    """A support given by a NumPyro constraint, mapped by NumPyro's own bijector."""

    constraint: Any  # a pytree: the bounds are leaves
    label: ClassVar[str] = "numpyro"

    def free_shape(self, shape: Shape) -> Shape:
        """What the bijector's inverse makes of `shape`."""
        transform = biject_to(self.constraint)
        free = tuple(transform.inverse_shape(tuple(shape)))
        if any(n < 0 for n in free) or tuple(transform.forward_shape(free)) != tuple(shape):
            raise ValueError(f"{self.constraint!r} does not fit a parameter of shape {shape}")
        value = jax.eval_shape(transform, jax.ShapeDtypeStruct(free, jnp.result_type(float)))
        if value.shape != tuple(shape):
            raise ValueError(f"{self.constraint!r} does not fit a parameter of shape {shape}")
        return free

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The bijector and its log Jacobian."""
        transform = biject_to(self.constraint)
        x = transform(u)
        return x, jnp.sum(transform.log_abs_det_jacobian(u, x))

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return biject_to(self.constraint).inv(x)

    def contains(self, x: Array) -> Flag:
        """What the constraint itself says."""
        return jnp.all(jnp.asarray(self.constraint(x))) & jnp.all(jnp.isfinite(x))


def as_mirror_map(constraint: Constraint) -> AbstractSupport | None:
    """Our mirror map for a constraint, None for those that have none."""
    base: Any = constraint
    while isinstance(base, constraints.independent):
        base = base.base_constraint
    label = constraint_label(constraint)
    if label in ("greater_than", "greater_than_eq"):
        return greater_than(base.lower_bound)
    if label in ("interval", "open_interval"):
        return interval(base.lower_bound, base.upper_bound)
    whole = {"real": real, "real_vector": real, "positive": positive, "nonnegative": positive}
    whole |= {"unit_interval": unit_interval, "simplex": simplex}
    return whole.get(label)


def from_constraint(constraint: object) -> tuple[NumPyroSupport, str]:
    """A NumPyro constraint as a support, with its label; `TypeError` for anything else."""
    if not isinstance(constraint, Constraint):
        raise TypeError(type(constraint).__name__)
    biject_to(constraint)
    dtype = jnp.result_type(float)
    bounded = jax.tree.map(lambda bound: jnp.asarray(bound, dtype), constraint)
    return NumPyroSupport(bounded), constraint_label(constraint)
