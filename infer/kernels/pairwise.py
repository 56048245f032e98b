"""Sums over all pairs of particles, a tile of rows at a time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from infer.core.types import Points
from infer.kernels.radial import AbstractRadialKernel

HIGHEST = jax.lax.Precision.HIGHEST
LEAST_ROWS = 512
TILE_ELEMENTS = {"cpu": 2**21}  # what a cache holds; elsewhere 2**26, what memory spares easily


def stein_force(
    x: Points, score: Points, kernel: AbstractRadialKernel, tile: int | None = None
) -> Points:
    """The direction in which Stein variational gradient descent moves each particle.

        phi_i = (1/n) sum_j [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ]

    With F_ij = f(||x_i - x_j||^2), F' alike and X centered, all particles at once:

        phi = (1/n) [ F S - 2 (diag(F' 1) X - F' X) ]

    which is three matrix products and one exponential per entry, and where f' = -c f (RBF) only
    two: phi = (1/n) [ F (S - 2 c X) + 2 c diag(F 1) X ]. Rows are taken a tile at a time: memory
    O(n tile), never n x n x d, and n x n only while that is small. 6 n^2 d flops, 4 n^2 d for RBF.
    A single particle gets exactly its score.

    Args:
        x: particles. Centered here, so a common offset costs no accuracy.
        score: gradients of the log density at the particles, or unbiased estimates of them.
        kernel: any radial kernel; one without a bandwidth takes the median rule at x.
        tile: rows per tile, >= 1; None chooses.
    """
    n, d = x.shape
    kernel = kernel.at(x)
    x = x - x.mean(axis=0)
    square = jnp.sum(x**2, axis=1)
    one = jnp.ones((n, 1), x.dtype)
    decay = kernel.decay
    # A column of ones makes the row sums part of the product.
    weights = jnp.concatenate([x if decay is None else score - 2 * decay * x, one], axis=1)

    def force(rows: tuple[Points, Int[Array, " b"]]) -> Float[Array, "b d"]:
        y, index = rows
        product = jnp.dot(-2 * y, x.T, precision=HIGHEST)
        r = jnp.maximum(product + jnp.sum(y**2, axis=1)[:, None] + square, 0)
        r = jnp.where(index[:, None] == jnp.arange(n), 0, r)
        if decay is None:
            slope = jnp.dot(kernel.slope(r), weights, precision=HIGHEST)
            drift = jnp.dot(kernel.value(r), score, precision=HIGHEST)
            return drift + 2 * (slope[:, :d] - slope[:, d:] * y)
        total = jnp.dot(kernel.value(r), weights, precision=HIGHEST)
        return total[:, :d] + 2 * decay * total[:, d:] * y

    tiles = -(-n // (tile_rows(n) if tile is None else tile))
    if tiles == 1:
        return force((x, jnp.arange(n))) / n
    size = -(-n // tiles)
    # Tile t holds rows t, t + tiles, ...: particles laid out over devices stay where they are.
    padded = jnp.pad(x, ((0, size * tiles - n), (0, 0))).reshape(size, tiles, d)
    index = jnp.arange(size * tiles).reshape(size, tiles)
    phi = jax.lax.map(force, (padded.swapaxes(0, 1), index.T))
    return phi.swapaxes(0, 1).reshape(size * tiles, d)[:n] / n


def tile_rows(n: int) -> int:
    """Rows per tile for n particles: a few megabytes of kernel matrix on a CPU."""
    elements = TILE_ELEMENTS.get(jax.default_backend(), 2**26)
    return min(n, max(LEAST_ROWS, elements // n))
