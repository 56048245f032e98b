"""Fresh draws of a fitted distribution in many dimensions, seen block by block and not kept."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, Draws
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Vector
from infer.diagnostics.coordinates import (
    MOMENTS,
    CoordinateRegression,
    Directions,
    regress_moments,
)

BLOCK_BYTES = 128 * 2**20  # of a block of draws with all that is computed from it
ARRAYS = 10  # of the size of the draws, alive at once in a block
MOST_ROWS = 256
DIRECTIONS = 64  # as many draws choose directions
MOST_NUMBERS = 8_000_000  # in the matrix of directions
SHARE = 1e-6  # directions in which g varies by a smaller share of its variance are rounding


class Metric(NamedTuple):
    """Mean m, standard deviations and covariance of a distribution, as far as they are known.

    Where its parameters do not tell, `known` is False and the covariance the diagonal of draws.
    """

    mean: Vector
    sd: Vector
    covariance: Covariance
    known: bool


def rows_of(target: Target, most: int = MOST_ROWS) -> int:
    """Draws per block: as many as fit into `BLOCK_BYTES`, at least 1."""
    size = ARRAYS * target.dim * jnp.zeros(()).dtype.itemsize
    return max(1, min(most, BLOCK_BYTES // size))


class Stream:
    """Moments, densities and norms of all fresh draws so far; nothing of size draws x d.

    Block i uses the key `fold_in(key, i)`, so more draws repeat none. On the device there is one
    block (`BLOCK_BYTES`) and the matrix of directions, on the host 10 numbers per coordinate, that
    matrix, and k numbers per draw.
    """

    def __init__(self, target: Target, q: AbstractDistribution, key: PRNGKey) -> None:
        self.target, self.q, self.key = target.full(), q, key
        self.rows = rows_of(target)
        self.blocks, self.n, self.lost = 0, 0, 0
        self.sums = np.zeros((len(MOMENTS), target.dim))
        self.parts: list[dict[str, np.ndarray]] = []
        self.metric = self._metric()
        self.w, self.image = self._directions()

    def until(self, n: int) -> None:
        """Draw and evaluate whole blocks until there are at least n draws."""
        while self.n < n:
            sums, part = jax.device_get(
                _look(self.target, self.q, self.metric, self.w, self.image, *self._next())
            )
            self.lost += int(np.sum(~part["finite"]))
            self.n += self.rows
            self.sums += sums
            self.parts.append(part)

    def every(self, name: str) -> np.ndarray:
        """What was kept of each draw: `log_prob`, `log_q`, `norm`, `z`, `g`; in float64."""
        return np.concatenate([part[name] for part in self.parts]).astype(np.float64)

    def constant(self) -> np.ndarray:
        """The coordinates that never left their mean."""
        return np.flatnonzero(self.sums[MOMENTS.index("zz")] == 0)

    def regression(self) -> CoordinateRegression:
        """What the scores say; every draw must be finite."""
        directions = None
        if self.w.shape[0]:
            loadings = (np.asarray(self.image) / np.asarray(self.metric.sd)).T.astype(np.float64)
            directions = Directions(loadings, self.every("z"), self.every("g"))
        return regress_moments(self.sums / self.n, self.n, self.every("norm"), directions)

    def _next(self) -> tuple[Array, int]:
        self.blocks += 1
        return jax.random.fold_in(self.key, self.blocks - 1), self.rows

    def _metric(self) -> Metric:
        """The moments of a Gaussian by its parameters, those of others from 256 draws."""
        moments = self.q.moments()
        if moments is not None:
            mean, covariance = moments
            return Metric(mean, covariance.sd(), covariance, True)
        first = np.asarray(_sample(self.q, *self._next()), np.float64)
        near, n = first[0], len(first)  # a point to subtract, so that squares lose nothing
        total, square = np.sum(first - near, axis=0), np.sum((first - near) ** 2, axis=0)
        while n < MOST_ROWS:
            away = np.asarray(_sample(self.q, *self._next()), np.float64) - near
            total, square, n = (
                total + away.sum(axis=0),
                square + (away**2).sum(axis=0),
                n + len(away),
            )
        variance = np.maximum(square / n - (total / n) ** 2, 0)
        dtype = jnp.zeros(()).dtype
        mean, sd = near + total / n, np.sqrt(variance)
        diagonal = Covariance(jnp.asarray(sd**2, dtype), jnp.zeros((len(sd), 0), dtype))
        return Metric(jnp.asarray(mean, dtype), jnp.asarray(sd, dtype), diagonal, False)

    def _directions(self) -> tuple[Array, Array]:
        """W^T, along which g = s - r varies most, and W^T Sigma, with W^T Sigma W = I: (k, d) each.

        The principal components of g in the metric of Sigma, from draws that are not used again.
        """
        d, k = self.target.dim, min(DIRECTIONS, MOST_NUMBERS // self.target.dim)
        none = jnp.zeros((0, d))
        if not self.metric.known or k < 2:
            return none, none
        parts, n = [], 0
        while n < k:
            parts.append(_difference(self.target, self.q, *self._next()))
            n += self.rows
        return _principal(self.metric, jnp.concatenate(parts)[:k])


class _Seen(NamedTuple):
    draws: Draws
    log_prob: Float[Array, " n"]
    score: Points


def _see(target: Target, q: AbstractDistribution, key: PRNGKey, n: int) -> _Seen:
    draws = q.equal_draws(key, n)
    return _Seen(draws, *jax.vmap(target.value_and_score)(draws.x))


@eqx.filter_jit
def _sample(q: AbstractDistribution, key: PRNGKey, n: int) -> Points:
    return q.sample(key, n)


@eqx.filter_jit
def _difference(target: Target, q: AbstractDistribution, key: PRNGKey, n: int) -> Points:
    seen = _see(target, q, key, n)
    return seen.score - seen.draws.score


def _principal(metric: Metric, g: Points) -> tuple[Array, Array]:
    """Combinations of the rows of g that are orthonormal in the metric, the widest first."""
    image = _times(metric.covariance, g)
    gram = np.asarray(g @ image.T, np.float64)
    if not np.isfinite(gram).all():
        return g[:0], g[:0]
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    kept = values > max(SHARE * values[-1], 0.0)
    mix = jnp.asarray((vectors[:, kept] / np.sqrt(values[kept])).T[::-1], g.dtype)
    return mix @ g, mix @ image


@eqx.filter_jit
def _times(covariance: Covariance, v: Points) -> Points:
    return covariance.times(v)


@eqx.filter_jit
def _look(
    target: Target,
    q: AbstractDistribution,
    metric: Metric,
    w: Points,
    image: Points,
    key: PRNGKey,
    n: int,
) -> tuple[Float[Array, "moments d"], dict[str, Array]]:
    """Sums over a block in the order of `MOMENTS`, and what is kept of each of its draws."""
    seen = _see(target, q, key, n)
    away = seen.draws.x - metric.mean
    raw = seen.score - seen.draws.score
    z, g = away / metric.sd, metric.covariance.times(raw) / metric.sd
    z = jnp.where(metric.sd > 0, z, 0.0)
    finite = jnp.isfinite(seen.log_prob) & jnp.isfinite(seen.draws.x).all(1)
    kept = {
        "log_prob": seen.log_prob,
        "log_q": seen.draws.log_q,
        "norm": jnp.linalg.norm(seen.score * metric.sd, axis=1),
        "z": away @ w.T,
        "g": raw @ image.T,
        "finite": finite & jnp.isfinite(seen.score).all(1),
    }

    def add(sums: Array, row: tuple[Vector, Vector]) -> tuple[Array, None]:
        z, g = row
        zz = z * z
        products = (z, zz, zz * z, zz * zz, g, g * z, g * zz, g * zz * z, g * g, g * g * zz)
        return sums + jnp.stack(products), None

    # Row by row: ten sums down the columns of a block are several times slower on a CPU.
    sums = jax.lax.scan(add, jnp.zeros((len(MOMENTS), z.shape[1]), z.dtype), (z, g))[0]
    return sums, kept
