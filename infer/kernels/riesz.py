"""The Riesz kernel, nearly a point mass: what mollifies an interaction energy."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import optional_positive, positive
from infer.core.types import Points, Scalar
from infer.kernels.radial import AbstractRadialKernel
from infer.references.citation import cites
from infer.references.particles import LI_2023

ABOVE_DIMENSION = 1e-4


@cites(LI_2023)
class Riesz(AbstractRadialKernel):
    """The mollified Riesz kernel: k(x, y) = (1 + ||x - y||^2 / h)^(-s/2).

    Up to a constant it is (||x - y||^2 + h)^(-s/2). With s no less than the dimension its mass
    gathers at zero distance as h falls.

    Args:
        bandwidth: h > 0, in squared units of the particles; small beside their squared distances.
        exponent: s > 0; None for dim + 1e-4, which is what `infer.MIED` needs.

    Source: Li, Liu, Korba, Yurochkin and Solomon, Sampling with mollified interaction energy
    descent, ICLR 2023.
    """

    bandwidth: Scalar = eqx.field(converter=positive("bandwidth", 1e-8), default=1e-8)
    exponent: Scalar | None = eqx.field(converter=optional_positive("exponent", 2.0), default=None)

    def at(self, x: Points) -> "Riesz":
        """This kernel with its exponent settled."""
        if self.exponent is not None:
            return self
        return dataclasses.replace(self, exponent=x.shape[1] + ABOVE_DIMENSION)

    @property
    def s(self) -> Scalar:
        """The exponent, once it is settled."""
        if self.exponent is None:
            raise ValueError(
                "Riesz has no exponent yet: write `kernel.at(x)` with particles x of the dimension "
                "wanted, or `Riesz(exponent=dim + 1e-4)`."
            )
        return self.exponent

    def value(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """(1 + r / h)^(-s/2)."""
        return jnp.exp(self.log_value(r))

    def slope(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """-(s / 2) (1 + r / h)^(-s/2 - 1) / h."""
        return jax.jvp(self.value, (r,), (jnp.ones_like(r),))[1]

    def log_value(self, r: Float[Array, "..."]) -> Float[Array, "..."]:
        """-(s / 2) log(1 + r / h)."""
        return -0.5 * self.s.astype(r.dtype) * jnp.log1p(r * (1 / self.h).astype(r.dtype))

    @property
    def decay(self) -> None:
        """None: the slope is no multiple of the value."""
        return None
