"""Gaussians whose covariance is a diagonal plus a matrix of low rank."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import check_count, positive
from infer.core.linalg import LOG_2PI, Covariance
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.variational import ONG_2018

MOST = 32  # the largest rank that is chosen where none was given
FIRST = 0.1  # spread of the first loadings, in units of the first standard deviation


class LowRankGaussian(AbstractDistribution):
    """N(mean, D^2 + U U^T) with D = diag(exp(log_diagonal)) and U = loadings of shape (d, r).

        x = mean + D e + U f,   e ~ N(0, I_d),  f ~ N(0, I_r)

    The density follows from Q R = A = [D^-1 U; I_r], a QR factorization of d + r rows and r
    columns: with P = I - Q Q^T,

        log det covariance = 2 sum(log_diagonal) + 2 log |det R|
        (x - mean)^T covariance^-1 (x - mean) = |P b|^2,   b = [D^-1 (x - mean); 0]
        score = -D^-1 (first d entries of P b)

    which is Woodbury's identity without the difference of two large numbers that single precision
    loses where D is small. Of a draw, b - A f = [e; -f] is known and gives the same P b. Cost
    O(d r^2 + r^3) once and O(d r) per draw; no d x d matrix.
    """

    mean: Vector
    log_diagonal: Vector
    loadings: Float[Array, "d r"]

    @property
    def is_gaussian(self) -> bool:
        """True."""
        return True

    @property
    def factor(self) -> Float[Array, "d d_plus_r"]:
        """F = [D, U] with covariance F F^T; dense, for small d."""
        return jnp.concatenate([jnp.diag(jnp.exp(self.log_diagonal)), self.loadings], axis=1)

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix; dense, for small d."""
        return jnp.diag(jnp.exp(2 * self.log_diagonal)) + self.loadings @ self.loadings.T

    @property
    def entropy(self) -> Scalar:
        """(d / 2)(1 + log 2 pi) + sum(log_diagonal) + log |det R|."""
        return 0.5 * self.mean.shape[0] * (1 + LOG_2PI) + self._log_det(self._qr()[1])

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws with log density and score from one QR factorization."""
        x, noise = self._draw(key, n)
        q, r = self._qr()
        rest = self._project(q, noise)
        log_q = self._density(rest, r)
        d = self.mean.shape[0]
        score = jax.lax.stop_gradient(-rest[:, :d] * jnp.exp(-self.log_diagonal))
        return Draws(x, log_q, score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return self._draw(key, n)[0]

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point; O(d r^2)."""
        q, r = self._qr()
        known = (x - self.mean) * jnp.exp(-self.log_diagonal)
        b = jnp.concatenate([known, jnp.zeros(q.shape[1], known.dtype)])
        return self._density(self._project(q, b), r)

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean and covariance."""
        return self.mean, Covariance(jnp.exp(2 * self.log_diagonal), self.loadings)

    def _draw(self, key: PRNGKey, n: int) -> tuple[Points, Float[Array, "n d_plus_r"]]:
        """Draws, and [e; -f] of each."""
        d, r = self.loadings.shape
        noise = jax.random.normal(key, (n, d + r), self.mean.dtype)
        e, f = noise[:, :d], noise[:, d:]
        x = self.mean + jnp.exp(self.log_diagonal) * e + f @ self.loadings.T
        return x, jnp.concatenate([e, -f], axis=1)

    def _qr(self) -> tuple[Float[Array, "d_plus_r r"], Float[Array, "r r"]]:
        d, r = self.loadings.shape
        # A reduced QR is differentiable only with at least as many rows as columns: d + r >= r.
        scaled = self.loadings * jnp.exp(-self.log_diagonal)[:, None]
        q, upper = jnp.linalg.qr(jnp.concatenate([scaled, jnp.eye(r, dtype=scaled.dtype)]))
        return q, upper

    def _project(self, q: Float[Array, "d_plus_r r"], b: Float[Array, "..."]) -> Array:
        return b - (b @ q) @ q.T

    def _log_det(self, r: Float[Array, "r r"]) -> Scalar:
        """Half the log determinant of the covariance."""
        return jnp.sum(self.log_diagonal) + jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r))))

    def _density(self, rest: Float[Array, "..."], r: Float[Array, "r r"]) -> Float[Array, "..."]:
        quadratic = jnp.sum(rest**2, axis=-1)
        return -0.5 * quadratic - 0.5 * self.mean.shape[0] * LOG_2PI - self._log_det(r)


@cites(ONG_2018)
class LowRank(AbstractFamily):
    """Gaussians with covariance diag + rank r on R^d: q(z) = N(z; m, D^2 + U U^T).

    With d (r + 2) parameters between `MeanField()` and `FullRank()`: for thousands of coordinates
    whose correlations come from a few common directions along which the posterior is *wide*.
    D^2 + U U^T is nowhere narrower than D^2, so a posterior that is narrow along a few directions
    (a precision of diagonal plus low rank) needs a full covariance. Remaining KL in nats for
    random Gaussians, d = 20, float32, `VI(family=..., estimator=Path())`, one key:

                                  MeanField  LowRank(2)  LowRank(18)  FullRank
        covariance diag + rank 2       1.38       0.001        0.001     0.002
        precision diag + rank 2        4.30        2.90         1.74     0.000

    The first loadings are small and random. At U = 0 the gradient in U vanishes in expectation, and
    an objective without noise would never leave it.

    Args:
        rank: r, from 1 to d; round(sqrt(d)), but at most 32, if None.
        scale: standard deviation of the first member, > 0, on the unconstrained scale.

    Source: Ong, Nott and Smith, Gaussian variational approximation with a factor covariance
    structure, JCGS 27 (2018).
    """

    rank: int | None = eqx.field(static=True, default=None)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)

    def __check_init__(self) -> None:
        """Refuse what is no rank."""
        check_count("LowRank", "rank", self.rank, 5, optional=True)

    def init(self, key: PRNGKey, start: Vector) -> LowRankGaussian:
        """N(start, scale^2 (I + W W^T)) with independent entries N(0, 0.01 / r) in W."""
        d = start.shape[0]
        r = min(max(1, round(d**0.5)), MOST) if self.rank is None else self.rank
        if r > d:
            raise ValueError(
                f"LowRank needs a rank of at most {d}, the number of coordinates, got {r}; "
                "write rank=None, or infer.FullRank()."
            )
        scale = self.scale.astype(start.dtype)
        noise = jax.random.normal(key, (d, r), start.dtype)
        return LowRankGaussian(
            start, jnp.full_like(start, jnp.log(scale)), FIRST * scale * noise / r**0.5
        )
