"""Points u in R^d that stand for a standard Gaussian, in chunks that never change their size."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt

from infer.core.checks import check_count
from infer.core.types import Count, Points, PRNGKey
from infer.references.citation import cites
from infer.references.gaussian import MATOUSEK_1998, OWEN_1998, SARKKA_2007

CHUNK = 128  # points at once, mirror images not counted
BITS = 32
DOUBLINGS = 6


class AbstractPoints(eqx.Module):
    """A rule that makes points u_1 .. u_N for averages over N(0, I).

    A set is made chunk by chunk, so memory does not grow with N and another N compiles nothing.
    Their second moment can be made exactly I by a linear map; then averages of quadratic
    functions are exact.

    Attributes:
        fixed: True if one set serves a whole fit, which makes the objective deterministic.
        white: True if the second moment is made I.
        mirrored: True if every point u comes with -u.
    """

    fixed: eqx.AbstractClassVar[bool]
    white: eqx.AbstractClassVar[bool]
    mirrored: eqx.AbstractVar[bool]

    @abstractmethod
    def size(self, d: int) -> int:
        """Points in the smallest set, mirror images not counted."""

    @abstractmethod
    def doublings(self) -> int:
        """How many times the set can be doubled."""

    @abstractmethod
    def halved(self) -> "AbstractPoints | None":
        """Half as many points, new at every step; None where they are fixed or too few."""

    @abstractmethod
    def prepare(self, key: PRNGKey, d: int) -> Any:
        """What all chunks of a set share: its randomness."""

    @abstractmethod
    def chunk(self, shared: Any, j: Count, rows: int, d: int) -> Points:
        """Rows j * rows .. (j + 1) * rows of the set, without mirror images, not whitened."""


@cites(OWEN_1998, MATOUSEK_1998)
class Sobol(AbstractPoints):
    """Scrambled Sobol points, fixed during a fit and doubled when they turn out to be too few.

    The first set has max(n, 4 d) points, mirror images included. Each coordinate is scrambled by a
    random lower triangular binary matrix and a random shift, so every point has the right
    distribution and two scrambles are independent.

    Args:
        n: points to begin with, >= 2.

    Source: Owen, Scrambling Sobol and Niederreiter-Xing points, Journal of Complexity 14 (1998);
    Matousek, On the L2-discrepancy for anchored boxes, Journal of Complexity 14 (1998).
    """

    n: int = eqx.field(static=True, default=256)
    fixed: ClassVar[bool] = True
    white: ClassVar[bool] = True
    mirrored: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Refuse a set that cannot have mirror images."""
        check_count("Sobol", "n", self.n, 256, least=2)

    def size(self, d: int) -> int:
        """At least 2 d, so that the second moment is far from singular."""
        return max(self.n // 2, 2 * d)

    def doublings(self) -> int:
        """Six: up to 64 times the points."""
        return DOUBLINGS

    def halved(self) -> None:
        """They are fixed."""

    def prepare(self, key: PRNGKey, d: int) -> tuple[Array, Array]:
        """The scrambled generating matrices, and a shift."""
        digits = (self.size(d) * 2**DOUBLINGS + CHUNK).bit_length()
        noise = jax.random.bits(key, (BITS + 1, d), jnp.uint32)
        return _scramble(noise[:BITS], sobol_directions(d, digits)), noise[BITS]

    def chunk(self, shared: tuple[Array, Array], j: Count, rows: int, d: int) -> Points:
        """Digits of the point numbers, multiplied by the scrambled generating matrices."""
        directions, shift = shared
        number = jnp.uint32(j * rows) + jnp.arange(rows, dtype=jnp.uint32)
        x = jnp.broadcast_to(shift, (rows, d))
        for k, direction in enumerate(directions):
            x = x ^ jnp.where(((number >> k) & 1).astype(bool)[:, None], direction, jnp.uint32(0))
        dtype = jnp.zeros(()).dtype
        kept = 23 if dtype == jnp.float32 else BITS  # with the half, what a float can hold
        uniform = ((x >> (BITS - kept)).astype(dtype) + 0.5) * 2.0**-kept
        return jax.scipy.special.ndtri(uniform)


class Independent(AbstractPoints):
    """New independent Gaussian points at every step.

    Args:
        n: points per step, >= 1.
        mirrored: every point comes with its mirror image, which removes all noise of odd order; n
            must be even then. True unless n = 1.
    """

    n: int = eqx.field(static=True, default=8)
    mirrored: bool = eqx.field(static=True, default=True)
    fixed: ClassVar[bool] = False
    white: ClassVar[bool] = False

    def __init__(self, n: int = 8, mirrored: bool | None = None) -> None:
        check_count("Independent", "n", n, 8)
        self.n = n
        self.mirrored = n > 1 if mirrored is None else mirrored
        if self.mirrored and n % 2:
            raise ValueError(
                f"Independent(n={n}) cannot have mirror images: write Independent(n={n + 1}) or "
                f"Independent(n={n}, mirrored=False)."
            )

    def size(self, d: int) -> int:
        """n, or half of it."""
        return self.n // 2 if self.mirrored else self.n

    def doublings(self) -> int:
        """None: noise is averaged over the steps instead."""
        return 0

    def halved(self) -> "Independent | None":
        """Two such sets are as good as one."""
        size = self.size(1)
        return None if size % 2 else Independent(self.n // 2, self.mirrored)

    def prepare(self, key: PRNGKey, d: int) -> PRNGKey:
        """The key."""
        return key

    def chunk(self, shared: PRNGKey, j: Count, rows: int, d: int) -> Points:
        """Gaussian noise."""
        return jax.random.normal(jax.random.fold_in(shared, j), (rows, d))


@cites(SARKKA_2007)
class Cubature(AbstractPoints):
    """The 2 d points +- sqrt(d) e_i, exact for polynomials of degree 3; deterministic.

    Cheap, and blind to all fourth-order terms: the answer is biased where the log density is not
    cubic, and no check on these points can see it.

    Source: Sarkka, On unscented Kalman filtering for state estimation of continuous-time nonlinear
    systems, IEEE Transactions on Automatic Control 52 (2007).
    """

    fixed: ClassVar[bool] = True
    white: ClassVar[bool] = False
    mirrored: ClassVar[bool] = True

    def size(self, d: int) -> int:
        """One point per coordinate."""
        return d

    def doublings(self) -> int:
        """None: there is only one such set."""
        return 0

    def halved(self) -> None:
        """They are fixed."""

    def prepare(self, key: PRNGKey, d: int) -> None:
        """Nothing is random."""

    def chunk(self, shared: None, j: Count, rows: int, d: int) -> Points:
        """Rows of sqrt(d) I."""
        number = j * rows + jnp.arange(rows)
        return jnp.where(number[:, None] == jnp.arange(d), jnp.sqrt(1.0 * d), 0.0)


def sobol_directions(d: int, digits: int) -> UInt[np.ndarray, "digits d"]:
    """Columns of the generating matrices, read off SciPy's points of numbers 2^k."""
    from scipy.stats import qmc  # only here: importing it takes a second

    sampler = qmc.Sobol(d, scramble=False, bits=BITS)
    found: list[np.ndarray] = []
    for k in range(digits):
        sampler.reset()
        sampler.fast_forward(2**k)
        point = np.asarray(2.0**BITS * sampler.random(1)[0]).astype(np.uint32)
        # SciPy counts in Gray code, where number 2^k has the digits k and k - 1.
        found.append(point ^ found[-1] if found else point)
    return np.stack(found)


def _scramble(
    noise: UInt[Array, "bits d"], directions: UInt[np.ndarray, "digits d"]
) -> UInt[Array, "digits d"]:
    """Multiply each by a random lower triangular binary matrix with a unit diagonal."""
    rank = jnp.arange(BITS, dtype=jnp.uint32)[:, None]  # of a digit, the most significant first
    unit = jnp.uint32(1) << (BITS - 1 - rank)
    above = ~(unit | (unit - 1))  # digits more significant than this one
    rows = (noise & above) | unit
    parity = jax.lax.population_count(rows & directions[:, None, :]) & 1
    return jnp.sum(parity << (BITS - 1 - rank), axis=1, dtype=jnp.uint32)


def whitener(
    points: AbstractPoints, shared: Any, chunks: Count, rows: int, n: Count, d: int
) -> Float[Array, "d d"]:
    """The triangular W for which the points W u have the second moment I."""

    def add(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        j, moment = carry
        u = points.chunk(shared, j, rows, d) * inside(j, rows, n)[:, None]
        return j + 1, moment + u.T @ u

    zero = (jnp.zeros((), int), jnp.zeros((d, d)))
    _, moment = jax.lax.while_loop(lambda c: c[0] < chunks, add, zero)
    moment = jnp.where(chunks > 0, moment / n, jnp.eye(d))
    root = jnp.linalg.cholesky(moment)
    return jax.scipy.linalg.solve_triangular(root, jnp.eye(d), lower=True)


def inside(j: Count, rows: int, n: Count) -> Float[Array, " rows"]:
    """One for the rows of a chunk that belong to the set, zero for what fills the last chunk."""
    return 1.0 * (j * rows + jnp.arange(rows) < n)
