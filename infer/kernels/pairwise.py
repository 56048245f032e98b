"""Sums over all pairs of particles, a tile of rows at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from infer.core.types import Points
from infer.kernels.radial import AbstractRadialKernel

Moves = Float[Array, "n m"]  # along m directions, which may be all of them
Rows = Callable[..., Float[Array, "b m"]]  # of r (b, n), points (b, d), rows of what is beside
LEAST_ROWS = 512
TILE_ELEMENTS = {"cpu": 2**21}  # what a cache holds; elsewhere 2**26, what memory spares easily


def over_rows(
    x: Points, each: Rows, tile: int | None = None, beside: tuple[Array, ...] = ()
) -> Float[Array, "n m"]:
    """What `each` makes of every row of the matrix of squared distances, a tile of rows at a time.

    Distances come from one matrix product per tile, at full precision, and are exactly zero from a
    particle to itself: memory O(n tile), never n x n x d, and n x n only while that is small.

    Args:
        x: particles, centered: an offset would cost accuracy.
        each: from squared distances (b, n), the b particles they belong to and the b rows of each
            array in `beside`, to (b, m).
        tile: rows per tile, >= 1; None chooses.
        beside: arrays with one row per particle.
    """
    n = x.shape[0]
    square = jnp.sum(x**2, axis=1)

    def one(rows: tuple[Int[Array, " b"], tuple[Array, ...]]) -> Float[Array, "b m"]:
        index, (y, *others) = rows
        product = dot(-2 * y, x.T)
        r = jnp.maximum(product + jnp.sum(y**2, axis=1)[:, None] + square, 0)
        return each(jnp.where(index[:, None] == jnp.arange(n), 0, r), y, *others)

    tiles = -(-n // (tile_rows(n) if tile is None else tile))
    if tiles == 1:
        return one((jnp.arange(n), (x, *beside)))
    size = -(-n // tiles)

    def dealt(a: Array) -> Array:
        # Tile t holds rows t, t + tiles, ...: particles laid out over devices stay where they are.
        padded = jnp.pad(a, ((0, size * tiles - n),) + ((0, 0),) * (a.ndim - 1))
        return padded.reshape(size, tiles, *a.shape[1:]).swapaxes(0, 1)

    index = jnp.arange(size * tiles).reshape(size, tiles).T
    out = jax.lax.map(one, (index, jax.tree.map(dealt, (x, *beside))))
    return out.swapaxes(0, 1).reshape(size * tiles, -1)[:n]


def stein_force(
    x: Points,
    score: Moves,
    kernel: AbstractRadialKernel,
    tile: int | None = None,
    moved: Moves | None = None,
) -> Moves:
    """The direction in which Stein variational gradient descent moves each particle.

        phi_i = (1/n) sum_j [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ]

    With F_ij = f(||x_i - x_j||^2), F' alike and X centered, all particles at once:

        phi = (1/n) [ F S - 2 (diag(F' 1) X - F' X) ]

    which is three matrix products and one exponential per entry, and where f' = -c f (RBF) only
    two: phi = (1/n) [ F (S - 2 c X) + 2 c diag(F 1) X ]. 6 n^2 d flops, 4 n^2 d for RBF; memory as
    `over_rows`. A single particle gets exactly its score.

    Args:
        x: particles. Centered here, so a common offset costs no accuracy.
        score: gradients of the log density at the particles, or unbiased estimates of them.
        kernel: any radial kernel; one without a bandwidth takes the median rule at x.
        tile: rows per tile, >= 1; None chooses.
        moved: X C^T, where the kernel looks at X and the particles are moved along C only: then
            grad is C grad, and `score` has as many columns.
    """
    kernel = kernel.at(x)
    x = centered(x)
    moved = x if moved is None else centered(moved)
    n, d = moved.shape
    decay = kernel.decay
    # A column of ones makes the row sums part of the product.
    weights = with_ones(moved if decay is None else score - 2 * decay * moved)

    def force(r: Array, _: Array, own: Array) -> Array:
        if decay is None:
            slope = dot(kernel.slope(r), weights)
            return dot(kernel.value(r), score) + 2 * (slope[:, :d] - slope[:, d:] * own)
        total = dot(kernel.value(r), weights)
        return total[:, :d] + 2 * decay * total[:, d:] * own

    return over_rows(x, force, tile, beside=(moved,)) / n


def kernel_matrix(x: Points, kernel: AbstractRadialKernel) -> Float[Array, "n n"]:
    """K_ij = k(x_i, x_j) of a kernel whose bandwidth is settled; memory n^2."""
    return over_rows(centered(x), lambda r, _: kernel.value(r))


def centered(x: Points) -> Points:
    """Less the mean, by differences first: equal points become 0, whatever the rounding."""
    x = x - x[0]
    return x - x.mean(axis=0)


def with_ones(x: Points) -> Float[Array, "n d_1"]:
    """A last column of ones."""
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


def dot(a: Array, b: Array) -> Array:
    """The matrix product at full precision, on devices that would round the factors too."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)


def tile_rows(n: int) -> int:
    """Rows per tile for n particles: a few megabytes of kernel matrix on a CPU."""
    elements = TILE_ELEMENTS.get(jax.default_backend(), 2**26)
    return min(n, max(LEAST_ROWS, elements // n))
