"""Kernel Stein discrepancy descent."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Scalar
from infer.kernels.pairwise import dot, over_rows, with_ones
from infer.kernels.radial import AbstractRadialKernel
from infer.optimizers.optimizer import Optimizer, optimizer
from infer.particles.energy import downhill
from infer.particles.method import AbstractParticleMethod, Direction, Swarm, settled_kernel
from infer.references.citation import cites
from infer.references.particles import KORBA_2021


def _line_search() -> Optimizer:
    return optimizer(optax.lbfgs)


@cites(KORBA_2021)
class KSDD(AbstractParticleMethod):
    """Moves n particles downhill on their squared kernel Stein discrepancy from the posterior.

        F(X) = (1/n^2) sum_ij k_p(x_i, x_j)
        k_p(x, y) = k s(x) . s(y) + s(x) . grad_y k + s(y) . grad_x k + tr grad_x grad_y k

    with s = grad log p, pairs of a particle with itself included. Unlike the direction of `SVGD`
    this is the gradient of a function, so that quasi-Newton methods apply.

    Cost per evaluation of F: n gradients, n Hessian-vector products (recorded as 2 gradients each)
    and about 20 n^2 d flops; memory O(n d) plus a few tiles of the kernel matrix.

    Args:
        n_particles: number of particles n, >= 1; one particle seeks a stationary point.
        kernel: `IMQ()`, `RBF()` or another radial kernel; no gradient is taken through the median
            rule, which moves the bandwidth from step to step. With a number for the bandwidth
            every step lowers one and the same function.
        optimizer: any optax transformation; by default L-BFGS, `infer.optimizer(optax.lbfgs)`, a
            step of which evaluates F up to 20 times, some 2 to 7 on average. `coin()` suffers
            from the steep F of a start far away: 5000 steps left the spread of a Gaussian 1.2
            (`IMQ()`) and 1.8 (`RBF()`) times too wide, where L-BFGS was done after 200.
        init_scale, start, stopping: as in `infer.SVGD`; the default rule looks from step 200 on.

    Limits: the score vanishes between modes, too, and there particles stay. Of 30 particles around
    the middle of two Gaussians at -2 and 2 with standard deviation 1/2, started with standard
    deviation 0.1, 19 stayed in the middle, started with 1, 9; of `infer.MIED` none. Look at
    `result.examine()`, start wide, or use it to finish what another method began. Weights of
    separated modes are those of the start. Spread is lost as the dimension d approaches n; standard
    deviations for N(0, I), where 1 is right, with `IMQ()`:

        n =            5    20    50   100   200
        d = 2       0.74  0.88  0.94  0.96  0.98
        d = 10      0.55  0.76  0.84  0.89  0.93

    The wider the kernel the better the spread: for a Gaussian in 3 dimensions with correlation 0.8
    and n = 60, 0.92 by the median rule and 0.95 with `IMQ(2.0)`, 0.88 and 0.94 with `RBF`. The log
    density must be twice differentiable by JAX and its rows exact.

    Source: Korba, Aubin-Frankowski, Majewski and Ablin, Kernel Stein discrepancy descent, ICML
    2021.
    """

    optimizer: Optimizer | optax.GradientTransformation = eqx.field(default_factory=_line_search)
    stopping: AbstractStopping | None = eqx.field(
        static=True, default=LossSettled(minimum=200, every=50)
    )
    exact_target: ClassVar[bool] = True
    default_steps: ClassVar[int] = 1_000

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """Downhill, with the bandwidth settled at x."""
        kernel, stats = settled_kernel(self.kernel, x)

        def energy(y: Points) -> tuple[Scalar, Points]:
            s, along = jax.linearize(jax.vmap(jax.grad(target.log_prob)), y)
            value, by_x, by_score = stein_energy(y, s, kernel)
            return value, by_x + along(by_score)  # Hessians are symmetric

        return downhill(energy, x, stats, gradients=2 * len(x))


def stein_energy(
    x: Points, score: Points, kernel: AbstractRadialKernel, tile: int | None = None
) -> tuple[Scalar, Points, Points]:
    """F(X) and its gradients in the particles and in their scores, each with the other held.

    For k = f(r), r = |x - y|^2, c = s(x) . s(y) and D = (s(x) - s(y)) . (x - y)

        k_p      = f c - 2 f' (D + d) - 4 f'' r
        d k_p/dx = 2 A (x - y) - 2 f' (s(x) - s(y)),   A = f' c - 2 f'' (D + d + 2) - 4 f''' r
        d k_p/ds(x) = f s(y) - 2 f' (x - y)

    and all sums over pairs are matrix products.
    """
    n, d = x.shape
    x = x - x.mean(axis=0)
    along = jnp.sum(score * x, axis=1)
    ones = with_ones(x)
    weights = jnp.concatenate([ones, score], axis=1)

    def each(r: Array, y: Points, s: Points) -> Array:
        f, df = kernel.value(r), kernel.slope(r)
        ddf, dddf = jax.jvp(kernel.curvature, (r,), (jnp.ones_like(r),))
        c = dot(s, score.T)
        drift = jnp.sum(s * y, axis=1)[:, None] + along - dot(s, x.T) - dot(y, score.T) + d
        total = jnp.sum(f * c - 2 * df * drift - 4 * ddf * r, axis=1, keepdims=True)
        a = dot(df * c - 2 * ddf * (drift + 2) - 4 * dddf * r, ones)
        b = dot(df, weights)
        by_x = a[:, d:] * y - a[:, :d] - (b[:, d : d + 1] * s - b[:, d + 1 :])
        by_score = dot(f, score) - 2 * (b[:, d : d + 1] * y - b[:, :d])
        return jnp.concatenate([total, 4 * by_x, 2 * by_score], axis=1)

    out = over_rows(x, each, tile, beside=(score,)) / n**2
    return jnp.sum(out[:, 0]), out[:, 1 : 1 + d], out[:, 1 + d :]
