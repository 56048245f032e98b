"""Where tempering begins: a distribution that can be drawn from and has a density."""

from typing import Any

import jax
import jax.numpy as jnp

from infer.core.posterior import AbstractDistribution
from infer.core.target import Target
from infer.core.types import Scalar, Vector
from infer.families.gaussian import DiagonalGaussian


def reference_of(
    reference: AbstractDistribution | None, scale: Scalar, like: Vector
) -> AbstractDistribution:
    """The reference that was given, or N(0, scale^2 I)."""
    if reference is not None:
        return reference
    return DiagonalGaussian(jnp.zeros_like(like), jnp.full_like(like, jnp.log(scale)))


def check_reference(name: str, reference: Any) -> None:
    """Refuse what is no distribution."""
    if reference is not None and not isinstance(reference, AbstractDistribution):
        raise TypeError(
            f"{name} needs reference= as a distribution, the posterior of a variational fit, got "
            f"{type(reference).__name__}; write reference=infer.fit(target, infer.FBGVI(), "
            "key=0).posterior, or None for N(0, scale^2)."
        )


def check_reference_fits(name: str, reference: AbstractDistribution | None, target: Target) -> None:
    """Refuse a reference of another dimension."""
    if reference is None:
        return
    shape = jax.eval_shape(lambda: reference.sample(jax.random.key(0), 1)).shape
    if shape != (1, target.dim):
        raise ValueError(
            f"{name} got a reference in {shape[1]} dimensions, the target has {target.dim} "
            "unconstrained coordinates; fit it to the same target."
        )
