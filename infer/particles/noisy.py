"""Noisy SVGD: a diffusion of all particles that keeps their spread."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from infer.core.checks import positive
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Scalar
from infer.kernels.pairwise import dot, kernel_matrix, stein_force
from infer.particles.method import AbstractParticleMethod, Direction, Swarm, settled_kernel
from infer.references.citation import cites
from infer.references.particles import GALLEGO_2018, PRISER_2025

# An optimizer is given -phi, and here phi is the whole move; there is nothing to cite for that.
AS_IT_IS = cites()(optax.scale(-1.0))


@cites(GALLEGO_2018, PRISER_2025)
class NoisySVGD(AbstractParticleMethod):
    """SVGD with noise as correlated as its forces, so that n particles are n draws in the end.

        x <- x + e phi + sqrt(2 e / n) B xi,    phi = (1/n) [ A S + div K ],    B B^T = A = K + c I

    with S the scores, xi standard normal (n x d), K_ij = k(x_i, x_j), and (div K)_i =
    sum_j grad_{x_j} k(x_j, x_i), as in `SVGD`. For e -> 0 and a kernel of fixed bandwidth this is
    a Langevin diffusion of all particles with n independent draws as its stationary law, whatever
    c; the c that it has, 10 n roundings, keeps the Cholesky factor B finite.

    Cost per step: n gradients, 6 n^2 d flops and a Cholesky factor, n^3 / 3; memory n^2.

    Args:
        step_size: e > 0, in squared units of the particles; the particles may diverge where e is
            more than twice the smallest posterior variance.
        n_particles, kernel, init_scale, start, stopping: as in `infer.SVGD`. There is no
            optimizer to choose, because the noise has to fit the step.

    The spread of `SVGD` shrinks as the dimension d nears n; here it does not. Standard deviations
    of the particles around their mean for N(0, I), over the last 4000 of 6000 steps (n independent
    draws have sqrt(1 - 1/n), that is 0.975 and 0.990), beside those of `SVGD`:

                        n = 20             n = 50
                   e=0.1  e=0.5  SVGD  e=0.1  e=0.5  SVGD
           d = 10   0.96   0.97  0.75   0.98   0.99  0.85
           d = 20   0.98   0.98  0.60   0.99   0.99  0.76

    Limits: n particles are worth n independent draws, not more: their mean is off by 1 / sqrt(n)
    posterior sd, where that of `SVGD` is nearly exact, so take more particles. The loss keeps
    fluctuating and is slow to count as settled: on a Gaussian in three dimensions the verdict on
    100 particles after 5000 steps was still "suspect", that on 200 after 4500 was "ok". A bandwidth
    by the median rule moves with the particles, which the theory does not cover. A minibatch adds
    noise that nothing corrects but a small step.

    Source: Gallego and Rios Insua, Stochastic gradient MCMC with repulsive forces, 2018; Priser,
    Bianchi and Salim, Long-time asymptotics of noisy SVGD outside the population limit, ICLR 2025.
    """

    optimizer: optax.GradientTransformation = eqx.field(
        init=False, default_factory=lambda: AS_IT_IS
    )
    step_size: Scalar = eqx.field(converter=positive("step_size", 0.2), default=0.2)
    exact_target: ClassVar[bool] = False

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """The whole move, noise included."""
        n, e = len(x), self.step_size.astype(x.dtype)
        kernel, stats = settled_kernel(self.kernel, x)
        c = 10 * n * jnp.finfo(x.dtype).eps
        phi = stein_force(x, score, kernel) + (c / n) * score
        matrix = kernel_matrix(x, kernel)
        # Any root of the matrix gives noise of the same law; this one is the cheapest.
        root = jnp.linalg.cholesky(matrix + c * jnp.eye(n, dtype=x.dtype))
        noise = dot(root, jax.random.normal(key, x.shape, x.dtype))
        force = jnp.sqrt(jnp.mean(phi**2))
        return Direction(e * phi + jnp.sqrt(2 * e / n) * noise, stats | {"force": force})
