"""SVGD with a mixture of matrix-valued kernels: one curvature around every particle."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from infer.core.checks import fraction
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.kernels.pairwise import dot, over_rows, with_ones
from infer.kernels.radial import IMQ, AbstractRadialKernel, Median
from infer.optimizers.optimizer import Optimizer, optimizer
from infer.particles.curvature import (
    MetricFunction,
    Root,
    absolute,
    check_metric,
    curvatures,
    metric_of,
    second_derivatives,
)
from infer.particles.method import AbstractParticleMethod, Direction, Swarm
from infer.references.citation import cites
from infer.references.particles import WANG_2019

Each = Float[Array, " n"]
Shares = Float[Array, "n n"]  # of every place (column) at every particle (row)


@cites(WANG_2019)
class MixtureSVGD(AbstractParticleMethod):
    """Stein variational gradient descent with a matrix kernel for every part of the posterior.

    Around every particle z_l the curvature is Q_l, half of it that of the place and half the
    average, and a point belongs to the places by the Gaussians N(z_l, Q_l^-1):

        Q_l = (1 - local) (1/n) sum_j |C(x_j)| + local |C(z_l)|
        w_l(x) = N(x; z_l, Q_l^-1) / sum_m N(x; z_m, Q_m^-1)
        phi_i = (1/n) sum_l w_l(x_i) Q_l^-1 sum_j [ w_l(x_j) k_l(x_j, x_i) grad log p(x_j)
                                                    + grad_{x_j} (w_l(x_j) k_l(x_j, x_i)) ]

    with k_l a radial kernel of (x - y)^T Q_l (x - y). `MatrixSVGD` has one Q for all; this is for
    posteriors that are wide here and narrow there. A linear map of the parameters changes nothing,
    as long as all C are positive definite. One particle takes Newton steps.

    Cost per step: n curvatures, as in `MatrixSVGD`, n eigendecompositions d^3, and n Stein forces,
    6 n^3 d flops; memory n d^2 and n^2.

    Args:
        n_particles: number of particles n, >= 1; tens.
        kernel: `IMQ()` or `RBF()` of the distance in Q_l, each with its own bandwidth.
        optimizer: any optax transformation, by default that of `MatrixSVGD`.
        local: share of the curvature of the place, 0 < local < 1.
        init_scale, start, stopping: as in `infer.SVGD`.
        metric: as in `infer.MatrixSVGD`.

    Where curvature changes sign of direction it is ahead, energy distance of 50 particles from
    N(0, 4 I) to 4000 draws after 300 steps (as many independent draws have 0.09 and 0.07):

                                                     SVGD  MatrixSVGD    SVN  MixtureSVGD
        two modes, correlations 0.95 and -0.95      0.033       2.136  0.281        0.058
        y = sin(1.5 x) + N(0, 0.01), x ~ N(0, 4)    0.409       0.796  0.631        0.218

    Limits: elsewhere it is not worth its cost. On a banana it was as good as `MatrixSVGD` (0.0043
    and 0.0048, n = 50), in a funnel worse (0.044 and 0.015). With `local` near 1 a place in a tail
    believes its own curvature: 0.17 on the sine, 0.46 on the two modes.

    Source: Wang, Tang, Bajaj and Liu, Stein variational gradient descent with matrix-valued
    kernels, NeurIPS 2019.
    """

    kernel: AbstractRadialKernel = eqx.field(default_factory=lambda: IMQ(Median(per_log=False)))
    optimizer: Optimizer | optax.GradientTransformation = eqx.field(
        default_factory=lambda: optimizer(optax.sgd, learning_rate=0.5, momentum=0.9)
    )
    local: Scalar = eqx.field(converter=fraction("local", 0.5), default=0.5)
    metric: MetricFunction | None = None
    exact_target: ClassVar[bool] = False

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """The forces of all places, each where its curvature is the identity."""
        check_metric(self.metric, x, "MixtureSVGD")
        metric = metric_of(self.metric, target)
        bent = curvatures(metric, x)
        local = self.local.astype(x.dtype)
        roots = jax.vmap(absolute)((1 - local) * jnp.mean(bent, axis=0) + local * bent)
        log_share, rise = shares(x, roots)

        def add(phi: Points, place: tuple[Root, Each, Points]) -> tuple[Points, None]:
            root, share, rise = place
            y = root.whiten(x)
            pull = root.whiten_score(score + rise)
            force = weighted_force(y, pull, share, self.kernel.at(y))
            return phi + share[:, None] * root.color(force), None

        places = roots, jnp.exp(log_share).T, rise
        phi = jax.lax.scan(add, jnp.zeros_like(x), places)[0]
        return Direction(phi, {}, gradients=second_derivatives(metric, x))


def shares(x: Points, roots: Root) -> tuple[Shares, Float[Array, "n n d"]]:
    """The logarithm of w_l(x_j) at [j, l], and its gradient in x_j at [l, j]."""
    x = x - x.mean(axis=0)

    def at(root: Root, z: Vector) -> tuple[Each, Points]:
        away = x - z
        slope = -dot(away, root.matrix())
        return 0.5 * jnp.sum(slope * away, axis=1) + jnp.sum(jnp.log(root.root)), slope

    log_density, slope = jax.vmap(at)(roots, x)
    log_share = jax.nn.log_softmax(log_density, axis=0)
    return log_share.T, slope - jnp.sum(jnp.exp(log_share)[:, :, None] * slope, axis=0)


def weighted_force(x: Points, score: Points, weight: Each, kernel: AbstractRadialKernel) -> Points:
    """(1/n) sum_j weight_j [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ]."""
    n, d = x.shape
    pull, push = weight[:, None] * score, weight[:, None] * with_ones(x)

    def force(r: Array, y: Points) -> Points:
        slope = dot(kernel.slope(r), push)
        return dot(kernel.value(r), pull) + 2 * (slope[:, :d] - slope[:, d:] * y)

    return over_rows(x, force) / n
