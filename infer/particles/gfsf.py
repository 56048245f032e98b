"""Gradient flow with smoothed test functions."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.checks import positive
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Scalar
from infer.kernels.pairwise import dot, over_rows, with_ones
from infer.kernels.radial import AbstractRadialKernel
from infer.particles.method import AbstractParticleMethod, Direction, Swarm, settled_kernel


class GFSF(AbstractParticleMethod):
    ridge: Scalar = eqx.field(converter=positive("ridge", 0.01), default=0.01)
    exact_target: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Liu, Zhuo, Cheng, Zhang, Zhu, Carin. Understanding and accelerating particle-based "
        "variational inference. ICML 2019."
    )

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """Score of the target minus the score that integration by parts gives the particles."""
        kernel, stats = settled_kernel(self.kernel, x)
        return Direction(by_parts_force(x, score, kernel, self.ridge), stats)


def by_parts_force(
    x: Points, score: Points, kernel: AbstractRadialKernel, ridge: Scalar, tile: int | None = None
) -> Points:
    """The direction of `GFSF`.

    With F_ij = f(||x_i - x_j||^2), F' alike and X centered,

        phi = S + 2 (F + ridge I)^-1 (F' X - diag(F' 1) X).

    The ridge grows by n rounding errors, as the smallest eigenvalue of F may be off by that.
    """
    n, d = x.shape
    x = x - x.mean(axis=0)
    weights = with_ones(x)

    def sums(r: Array, y: Points) -> Array:
        slope = dot(kernel.slope(r), weights)
        return jnp.concatenate([kernel.value(r), 2 * (slope[:, :d] - slope[:, d:] * y)], axis=1)

    both = over_rows(x, sums, tile)
    ridge = ridge.astype(x.dtype) + n * jnp.finfo(x.dtype).eps
    factor = jax.scipy.linalg.cho_factor(
        both[:, :n] + ridge * jnp.eye(n, dtype=x.dtype), lower=True
    )
    return score + jax.scipy.linalg.cho_solve(factor, both[:, n:])
