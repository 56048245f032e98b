"""Mirrored SVGD: the kernel measures distance where the parameters live."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.mirror import Geometry, geometry, mirror_maps, primal
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Vector
from infer.kernels.pairwise import dot, over_rows
from infer.kernels.radial import AbstractRadialKernel
from infer.particles.method import AbstractParticleMethod, Direction, Swarm
from infer.references.citation import cites
from infer.references.particles import SHI_2022

ENTRIES = 2**22  # numbers held at once where every pair needs a product with a Jacobian


@cites(SHI_2022)
class MSVGD(AbstractParticleMethod):
    """Mirrored Stein variational gradient descent, for parameters on simplices, boxes, orthants.

    The particles z move on the unconstrained scale; the kernel compares them on their supports,
    at x = x(z) with Jacobian J = dx/dz:

        phi_i = (1/n) sum_j [ k(x_j, x_i) grad_z log p(z_j) + J_j^T grad_{x_j} k(x_j, x_i) ]

    Between two points near a boundary the unconstrained distance says how their logarithms
    differ; this one says how the parameters do, which spreads the particles as they are looked at.
    Works on every support. Where all sites have mirror maps (see `infer.mirrored`) z is the dual
    variable, J the inverse Hessian of the mirror potential, and this is the method of the paper.

    Cost per step: n gradients and four n x n x d matrix products, two more for a simplex or a
    ball; on supports without a mirror map n^2 products with a Jacobian, which is far slower.

    Args:
        n_particles: number of particles n, >= 1.
        kernel: `IMQ()` or `RBF()` of the distance on the supports.
        optimizer, init_scale, start, stopping: as in `infer.SVGD`.

    Limits: those of `SVGD`: spread is lost where n is not large beside d. Sites of different units
    share one bandwidth.

    Source: Shi, Liu and Mackey, Sampling with mirrored Stein operators, ICLR 2022.
    """

    exact_target: ClassVar[bool] = False

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """The mirrored Stein force."""
        phi, kernel, _ = mirrored_force(target, x, score, self.kernel)
        return Direction(phi, {"bandwidth": kernel.h})


def mirrored_force(
    target: Target, z: Points, score: Points, kernel: AbstractRadialKernel
) -> tuple[Points, AbstractRadialKernel, Float[Array, "n p"]]:
    """The direction of `MSVGD`, the kernel with its bandwidth settled, the particles as values."""
    x = jax.vmap(lambda point: primal(target, point))(z)
    kernel = kernel.at(x)
    force = _by_autodiff if mirror_maps(target) is None else _by_metric
    return force(target, z, x - x.mean(axis=0), score, kernel) / len(z), kernel, x


def _by_metric(
    target: Target, z: Points, x: Float[Array, "n p"], score: Points, kernel: AbstractRadialKernel
) -> Points:
    """With J_j = diag(a_j) - b_j b_j^T everything is matrix products.

    sum_j J_j w_ij (x_j - x_i) with w = 2 f' is  W (a x) - (W a) x_i  for the diagonal, minus
    W (b (b . x)) - (W o (X B^T)) B  for the part of rank one.
    """
    a, ranks = jax.vmap(lambda point: _jacobian(geometry(target, point)))(z)
    places = jax.eval_shape(lambda point: geometry(target, point), z[0]).places()
    d, drift = a.shape[1], a * x
    for place, b in zip(places, ranks, strict=True):
        along = jnp.sum(b * x[:, place], axis=1, keepdims=True)
        drift = drift.at[:, place].add(-b * along)
    weights = jnp.concatenate([drift, a], axis=1)

    def force(r: Array, y: Array) -> Array:
        w = 2 * kernel.slope(r)
        sums = dot(w, weights)
        phi = dot(kernel.value(r), score) + sums[:, :d] - sums[:, d:] * y
        for place, b in zip(places, ranks, strict=True):
            phi = phi.at[:, place].add(dot(w * dot(y[:, place], b.T), b))
        return phi

    return over_rows(x, force)


def _jacobian(shape: Geometry) -> tuple[Vector, list[Array]]:
    return shape.diagonal(), shape.ranks()


def _by_autodiff(
    target: Target, z: Points, x: Float[Array, "n p"], score: Points, kernel: AbstractRadialKernel
) -> Points:
    """One vector-Jacobian product per pair, some rows at a time."""
    n, p = x.shape

    def pull(point: Array, cotangents: Array) -> Array:
        _, back = jax.vjp(lambda u: primal(target, u), point)
        return jax.vmap(lambda c: back(c)[0])(cotangents)

    def force(r: Array, y: Array) -> Array:
        w = 2 * kernel.slope(r)
        pairs = w.T[:, :, None] * (x[:, None, :] - y)  # (n, b, p)
        return dot(kernel.value(r), score) + jnp.sum(jax.vmap(pull)(z, pairs), axis=0)

    return over_rows(x, force, tile=max(1, min(n, ENTRIES // (n * p))))
