"""Multivariate Student t distributions: a Gaussian stretched by one random factor."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import betaln, gammaln
from jaxtyping import Array, ArrayLike, Float

from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.families.gaussian import CholeskyGaussian, DiagonalGaussian, FullRank, MeanField
from infer.families.low_rank import LowRank, LowRankGaussian
from infer.references.citation import cites
from infer.references.variational import FIGURNOV_2018, KOTZ_2004

LEAST = 2.0  # degrees of freedom above which there is a covariance


def _degrees(value: ArrayLike) -> Array:
    if not isinstance(value, Tracer) and not np.all(np.asarray(value) > LEAST):
        raise ValueError(
            f"StudentT needs df > 2, below which it has no covariance, got {value}; write df=10.0."
        )
    return jnp.asarray(value, jnp.zeros(()).dtype)


class StudentTDistribution(AbstractDistribution):
    """Student's t with the location and scale matrix of a Gaussian N(mean, S), and df > 2.

        x = mean + sqrt(df / (2 g)) (y - mean),   y ~ N(mean, S),   g ~ Gamma(df / 2, 1)
        log q(x) = log N(mean; mean, S) + log Gamma(df/2 + d/2) - log Gamma(df/2)
                   - (d/2) log(df/2) - (df + d)/2 log(1 + u/df),    u = (x - mean)^T S^-1 (x - mean)
        score = (df + d) / (df + u) (score of the Gaussian at x)

    u is twice the drop of the Gaussian's log density from its top, so S enters through the
    Gaussian alone, at its cost; the gradient of g in df is that of implicit reparametrization.

    Attributes:
        gaussian: N(mean, S).
        log_excess: log(df - 2).
        fixed: is df not to be fitted?
    """

    gaussian: DiagonalGaussian | CholeskyGaussian | LowRankGaussian
    log_excess: Scalar
    fixed: bool = eqx.field(static=True)

    @property
    def df(self) -> Scalar:
        """Degrees of freedom, > 2."""
        df = LEAST + jnp.exp(self.log_excess)
        return jax.lax.stop_gradient(df) if self.fixed else df

    @property
    def mean(self) -> Vector:
        """The location."""
        return self.gaussian.mean

    @property
    def factor(self) -> Float[Array, "d r"]:
        """F with covariance F F^T; dense, for small d."""
        return jnp.sqrt(self.df / (self.df - LEAST)) * self.gaussian.factor

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix df / (df - 2) S; dense, for small d."""
        return self.df / (self.df - LEAST) * self.gaussian.covariance

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws of the Gaussian, stretched, with log density and score from theirs."""
        key_y, key_g = jax.random.split(key)
        y, df = self.gaussian.sample_score(key_y, n), self.df
        g = jax.random.gamma(key_g, df / 2, (n,), df.dtype)
        stretch = jnp.sqrt(df / (2 * g))[:, None]
        x = self.mean + stretch * (y.x - self.mean)
        top = self.gaussian.log_prob(self.mean)
        u = 2 * (top - y.log_q)[:, None] * stretch**2
        pull = jax.lax.stop_gradient((df + x.shape[1]) / (df + u) * stretch)
        return Draws(x, self._density(u[:, 0], top), pull * y.score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return self.sample_score(key, n).x

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        top = self.gaussian.log_prob(self.mean)
        return self._density(2 * (top - self.gaussian.log_prob(x)), top)

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean and covariance."""
        mean, c = self.gaussian.moments()
        inflation = self.df / (self.df - LEAST)
        return mean, Covariance(inflation * c.diagonal, jnp.sqrt(inflation) * c.factor, c.core)

    def _density(self, u: Float[Array, "..."], top: Scalar) -> Float[Array, "..."]:
        df, half = self.df, 0.5 * self.mean.shape[0]
        # Not as a difference of log gamma functions, which is lost to rounding where df is large.
        ratio = gammaln(half) - betaln(df / 2, half) - half * jnp.log(df / 2)
        return top + ratio - (df / 2 + half) * jnp.log1p(u / df)


@cites(KOTZ_2004, FIGURNOV_2018)
class StudentT(AbstractFamily):
    """Multivariate Student t on R^d, for heavy tails: those of a power -(df + d) of the distance.

    A Gaussian family gives location and scale matrix S; q has the covariance df / (df - 2) S. One
    df serves all directions, and all are heavy together: coordinates with tails of their own need
    one `StudentT()` each, see `Product`. Cost per draw: that of the Gaussian and one gamma variate.

    It cannot be heavier than df = 2, where the variance is infinite: the verdict, like every
    summary by mean and spread, would have nothing to go by. Where the
    posterior is a Gaussian df grows for as long as the fit runs, with less and less effect.

    Args:
        gaussian: the shape: `FullRank()`, `MeanField()` or `LowRank()`, with its parameters and its
            `scale` for the first member.
        df: degrees of freedom of the first member, > 2.
        fixed: keep df as it is, instead of fitting log(df - 2).

    Source: Kotz and Nadarajah, Multivariate t distributions and their applications, 2004; Figurnov,
    Mohamed and Mnih, Implicit reparameterization gradients, NeurIPS 2018.
    """

    gaussian: FullRank | MeanField | LowRank = eqx.field(default_factory=FullRank)
    df: Scalar = eqx.field(converter=_degrees, default=10.0)
    fixed: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        """Refuse what is no Gaussian, and what is no yes or no."""
        if not isinstance(self.gaussian, FullRank | MeanField | LowRank):
            raise TypeError(
                f"StudentT needs gaussian=infer.FullRank(), infer.MeanField() or infer.LowRank(), "
                f"got {self.gaussian!r}."
            )
        if not isinstance(self.fixed, bool):
            raise TypeError(f"StudentT needs fixed=True or False, got {self.fixed!r}.")

    def init(self, key: PRNGKey, start: Vector) -> StudentTDistribution:
        """Student t around `start` with scale matrix scale^2 I."""
        gaussian: Any = self.gaussian.init(key, start)
        log_excess = jnp.log(self.df - LEAST).astype(start.dtype)
        return StudentTDistribution(gaussian, log_excess, self.fixed)
