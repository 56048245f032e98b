"""The nuclear norm: matrices of low rank."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import positive
from infer.core.nonsmooth import AbstractNonsmooth, soft
from infer.core.types import Count, Scalar

MOST = 1000  # iterations where the t of one matrix differ
Loop = tuple[Count, Array, Array, Array]


class NuclearNorm(AbstractNonsmooth):
    """g = sum over matrices of weight (s_1 + ... + s_k), s the singular values: favors low rank.

    Args:
        weight: > 0; broadcasts to the axes before the last two, which hold the matrices.

    With one t for a matrix its prox is a soft threshold of the singular values: one SVD. With
    several (a preconditioner whose variances differ) it has no closed form, and is found by
    accelerated proximal gradient steps, v <- prox of the norm at v + t_min (x - v) / t, an SVD
    each, to the precision of floating point: from ten where all t are alike to hundreds where
    they differ by factors of 1000, 1000 at most. `infer.Diagonal(variances)` with the same
    variance for all entries and `warmup=0` keeps it at one.
    """

    weight: Float[Array, "..."] = eqx.field(converter=positive("weight", 1.0), default=1.0)

    def value(self, x: Array) -> Scalar:
        """Sum weight s_i."""
        return jnp.sum(self.weight * jnp.sum(jnp.linalg.svd(x, compute_uv=False), axis=-1))

    def prox(self, x: Array, t: Array) -> Array:
        """U max(S - t weight, 0) V^T of x = U S V^T, or the limit of such steps."""

        def most(a: Array) -> Array:
            return jnp.max(a, axis=(-2, -1), keepdims=True)

        least = -most(-t)
        root = jnp.sqrt(least / most(t))
        momentum, enough = (1 - root) / (1 + root), 16 * jnp.finfo(x.dtype).eps * most(jnp.abs(x))
        k = jnp.broadcast_to(self.weight, x.shape[:-2])[..., None, None] * least

        def moving(loop: Loop) -> Array:
            return (loop[0] < MOST) & jnp.any(loop[3] > enough)

        def improve(loop: Loop) -> Loop:
            i, v, ahead, _ = loop
            new = thresholded(ahead + least / t * (x - ahead), k)
            return i + 1, new, new + momentum * (new - v), most(jnp.abs(new - v))

        first = thresholded(x, k)  # all there is to do where t is one number
        moved = jnp.where(root == 1, 0, jnp.inf).astype(x.dtype)
        return jax.lax.while_loop(moving, improve, (jnp.asarray(0), first, first, moved))[1]

    def lipschitz(self, x: Array) -> Array:
        """The weight of the matrix: no entry of U V^T exceeds 1."""
        return jnp.broadcast_to(jnp.asarray(self.weight)[..., None, None], x.shape)


def thresholded(x: Array, k: Array) -> Array:
    """X with its singular values moved towards 0 by k (..., 1, 1)."""
    u, s, v = jnp.linalg.svd(x, full_matrices=False)
    return jnp.matmul(u * soft(s, k[..., 0])[..., None, :], v, precision="highest")
