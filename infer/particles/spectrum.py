"""Eigenfunctions of the Langevin generator of a density in one or two dimensions, on a grid."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.types import Count, Points, Scalar, Vector
from infer.kernels.pairwise import dot

DEPTH = 8.0  # nats below the largest density: what is deeper is left out
SEARCH = {1: 64, 2: 24}  # cells per axis where the box is looked for
SEARCHES = 30
GHOSTS = 2  # nodes beyond each edge, which cubic interpolation needs

LogDensity = Callable[[Points], Float[Array, " m"]]  # at many points, -inf where there is none


class Spectrum(eqx.Module):
    """The leading eigenpairs of L = -Laplacian - grad log p . grad, the constant left out.

    Attributes:
        low: the lower corner of the grid.
        width: of a cell, per axis.
        nearest: for each cell the middle of the nearest one with enough density.
        eigenvalues: lam_i, ascending.
        waves: phi_i / sqrt(lam_i) at the cells and at ghosts around them, (nodes, ..., modes).
    """

    low: Vector
    width: Vector
    nearest: Float[Array, "..."]
    eigenvalues: Float[Array, " modes"]
    waves: Float[Array, "..."]

    def energy(self, x: Points) -> Scalar:
        """(1/2n) sum_ij k_L(x_i, x_j), and half the squared distances to the domain."""
        y = self.held(x)
        return 0.5 * (len(x) * jnp.sum(self.means(y) ** 2) + jnp.sum((x - y) ** 2))

    def held(self, x: Points) -> Points:
        """The particles, those outside the domain moved to the nearest cell of it.

        Not quite to a wall of the grid, where the waves are flat and would hold them for ever.
        """
        cells, half = self.nearest.shape[0], self.width / 2
        y = jnp.clip(x, self.low + half / 2, self.low + cells * self.width - half / 2)
        cell = jnp.clip(jnp.floor((y - self.low) / self.width).astype(int), 0, cells - 1)
        middle = self.nearest[tuple(cell.T)]
        return jnp.clip(y, middle - half, middle + half)

    def means(self, y: Points) -> Float[Array, " modes"]:
        """(1/n) sum_j phi_i(y_j) / sqrt(lam_i) for every mode i, cubic between the cells."""
        n, d = y.shape
        nodes = jnp.arange(self.waves.shape[0]) - GHOSTS + 0.5
        t = jnp.abs(((y - self.low) / self.width).T[:, :, None] - nodes)  # (d, n, nodes)
        near = (1.5 * t - 2.5) * t * t + 1
        far = ((2.5 - 0.5 * t) * t - 4) * t + 2
        weights = jnp.where(t < 1, near, jnp.where(t < 2, far, 0))
        share = weights[0].mean(axis=0) if d == 1 else dot(weights[0].T, weights[1]) / n
        return jnp.tensordot(share, self.waves, axes=d, precision=jax.lax.Precision.HIGHEST)


def spectrum(
    log_density: LogDensity,
    low: Vector,
    high: Vector,
    cells: int,
    modes: int,
    depth: float = DEPTH,
) -> Spectrum:
    """The spectrum on a grid of cells^d cells with reflecting walls.

    With m_a the mass of cell a and p the density half way between neighbors a and b at distance h,

        sum_a m_a f_a (L f)_a = sum_ab p_ab (f_a - f_b)^2 / h^2.

    For g = sqrt(m) f this is a symmetric matrix with -p_ab / (h^2 sqrt(m_a m_b)) off the diagonal.
    It has differences of log p only, no derivatives, and sqrt(m) is its null vector, whatever the
    rounding. Cells more than `depth` nats below the largest density are no part of it, but for
    those beside the others, which count as just so deep: thin diagonal ridges hang together.

    Args:
        log_density: log p at many points, up to a constant, -inf where there is none.
        low: the lower corner, (d,) with d = 1 or 2.
        high: the upper corner.
        cells: per axis.
        modes: how many eigenpairs, < cells.
        depth: nats.
    """
    d, shape = len(low), (cells,) * len(low)
    width = (high - low) / cells
    z = centers(low, high, cells)
    log_m = log_density(z)
    top = jnp.max(log_m)
    log_m = jnp.maximum(log_m - top, -depth)
    core = log_m > -depth
    around = jax.lax.reduce_window(
        core.reshape(shape), False, jax.lax.bitwise_or, (3,) * d, (1,) * d, "SAME"
    ).ravel()
    root = jnp.where(around, jnp.exp(log_m / 2), 0)
    root = root / jnp.linalg.norm(root)
    index = np.arange(cells**d).reshape(shape)
    matrix = jnp.zeros((cells**d, cells**d), low.dtype)
    edges = []
    for axis in range(d):
        a, b = (np.delete(index, end, axis).ravel() for end in (-1, 0))
        between = jnp.maximum(log_density((z[a] + z[b]) / 2) - top, -depth)
        rate = jnp.exp(between - (log_m[a] + log_m[b]) / 2) / width[axis] ** 2
        rate = jnp.where(around[a] & around[b], rate, 0)
        ratio = jnp.exp((log_m[b] - log_m[a]) / 2)
        matrix = matrix.at[a, b].set(-rate).at[b, a].set(-rate)
        matrix = matrix.at[a, a].add(rate * ratio).at[b, b].add(rate / ratio)
        edges.append((a, b, rate * root[a] * root[b]))
    # What is not wanted goes to the far end: the constant, and cells outside the domain.
    far = 2 * jnp.max(jnp.diag(matrix))
    matrix = matrix + far * (root[:, None] * root + jnp.diag(jnp.where(around, 0.0, 1.0)))
    vectors = jnp.linalg.eigh(matrix)[1][:, :modes]
    phi = vectors / jnp.where(around, root, jnp.inf)[:, None]
    # As Dirichlet forms small eigenvalues keep the digits that they lose beside large ones.
    values = jnp.zeros(modes, low.dtype)
    for a, b, weight in edges:
        values += jnp.sum(weight[:, None] * (phi[a] - phi[b]) ** 2, axis=0)
    values = jnp.maximum(values, jnp.finfo(low.dtype).eps * far)
    nearest, inner = (_nearest(z / width, cells_in) for cells_in in (around, core))
    waves = (phi / jnp.sqrt(values))[nearest].reshape(*shape, modes)
    waves = jnp.pad(waves, [(GHOSTS, GHOSTS)] * d + [(0, 0)], mode="symmetric")
    return Spectrum(low, width, z[inner].reshape(*shape, d), values, waves)


def _nearest(z: Points, wanted: Array) -> Array:
    """The index of the nearest of the cells that are wanted, for each cell."""
    z = z - z.mean(axis=0)
    reach = jnp.where(wanted, jnp.sum(z**2, axis=1), jnp.inf) - 2 * dot(z, z.T)
    return jnp.where(wanted, jnp.arange(len(z)), jnp.argmin(reach, axis=1))


def centers(low: Vector, high: Vector, cells: int) -> Points:
    """The middles of all cells of a grid, (cells^d, d), the last axis running fastest."""
    at = (jnp.arange(cells, dtype=low.dtype) + 0.5) / cells
    axes = [low[k] + (high[k] - low[k]) * at for k in range(len(low))]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def find_box(log_density: LogDensity, x: Points) -> tuple[Vector, Vector]:
    """A box around all that is within DEPTH of the largest density, as far as it is seen.

    It starts around x. Where an outermost cell is that good it doubles on that side; where none
    is, it shrinks to the cells that are and one more around them, so that in the end it rests.
    """
    cells = SEARCH[x.shape[1]]

    def once(_: Count, found: tuple[Vector, Vector, Scalar]) -> tuple[Vector, Vector, Scalar]:
        low, high, top = found
        z = centers(low, high, cells)
        log_p = log_density(z)
        best = jnp.max(log_p)
        top = jnp.maximum(top, best)
        good = ((log_p >= top - DEPTH) | (log_p == best))[:, None]
        first = jnp.min(jnp.where(good, z, jnp.inf), axis=0)
        last = jnp.max(jnp.where(good, z, -jnp.inf), axis=0)
        span = high - low
        width = span / cells
        left, right = first < low + width, last > high - width
        grow = jnp.any(left | right)
        low = jnp.where(grow, low - left * span, first - 1.5 * width)
        return low, jnp.where(grow, high + right * span, last + 1.5 * width), top

    low, high = jnp.min(x, axis=0), jnp.max(x, axis=0)
    margin = 0.1 * (high - low) + 0.5
    top = jnp.max(log_density(x))
    return jax.lax.fori_loop(0, SEARCHES, once, (low - margin, high + margin, top))[:2]
