"""Gradient flow with a smoothed density."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.target import Target
from infer.core.types import Points, PRNGKey
from infer.kernels.pairwise import dot, over_rows, with_ones
from infer.kernels.radial import RBF, AbstractRadialKernel
from infer.particles.method import AbstractParticleMethod, Direction, Swarm, settled_kernel
from infer.references.citation import cites
from infer.references.particles import LIU_2019


@cites(LIU_2019)
class GFSD(AbstractParticleMethod):
    """Moves n particles along the Wasserstein gradient flow, with a kernel density for their own.

        phi_i = grad log p(x_i) - grad log q(x_i),    q(x) = (1/n) sum_j k(x, x_j)
        x <- x + optimizer(phi)

    Cost per step: n gradients and 4 n^2 d flops; memory O(n d) plus a tile of the kernel matrix.

    Args:
        kernel: `RBF()`, by default with the median rule for the bandwidth; `IMQ()`, which is no
            density, loses more.
        n_particles, optimizer, init_scale, start, stopping: as in `infer.SVGD`.

    The default optimizer, `coin()`, settled on Gaussians of scale 0.01 to 100 alike; no one
    learning rate of Adam or Adagrad did. A direction is as large as a score, so a fixed learning
    rate has to be far smaller than for `SVGD`.

    Limits: the particles make up for the width of the kernel by standing closer, and more steps do
    not change that. `Blob` loses far less for twice the cost. Standard deviations of the particles
    for N(0, I), where 1 is right, with the default kernel:

        n =            20   100
             d = 2   0.74  0.84
             d = 3   0.64  0.76
             d = 10  0.38  0.48
             d = 20  0.27  0.32

    Where variances differ the narrow coordinates lose most: 0.56 of the sd of a coordinate of
    variance 0.5 beside one of variance 2, n = 100. Means were right to 0.001 sd. Narrower kernels
    are better in few dimensions only: `RBF(infer.Median(0.5))` gave 0.86 for d = 2, n = 100, and
    0.20 for d = 10.

    Source: Liu, Zhuo, Cheng, Zhang and Zhu, Understanding and accelerating particle-based
    variational inference, ICML 2019.
    """

    kernel: AbstractRadialKernel = eqx.field(default_factory=RBF)
    exact_target: ClassVar[bool] = False

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """Score of the target minus score of the smoothed particles."""
        kernel, stats = settled_kernel(self.kernel, x)
        return Direction(smoothed_force(x, score, kernel), stats)


def smoothed_force(
    x: Points, score: Points, kernel: AbstractRadialKernel, tile: int | None = None
) -> Points:
    """The direction of `GFSD`.

    With F_ij = f(||x_i - x_j||^2), F' alike and X centered,

        phi = S - 2 diag(1 / F 1) (diag(F' 1) X - F' X).

    No density vanishes, since every particle adds f(0) = 1 to its own.
    """
    d = x.shape[1]
    x = x - x.mean(axis=0)
    weights = with_ones(x)

    def force(r: Array, y: Points) -> Points:
        slope = dot(kernel.slope(r), weights)
        mass = jnp.sum(kernel.value(r), axis=1, keepdims=True)
        return 2 * (slope[:, :d] - slope[:, d:] * y) / mass

    return score + over_rows(x, force, tile)
