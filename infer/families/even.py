"""Gaussians whose draws are spread more evenly than independent ones."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from infer.core.linalg import Covariance
from infer.core.posterior import (
    AbstractDistribution,
    AbstractFamily,
    Draws,
    Sampling,
    sampling_of,
)
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.families.gaussian import FullRank, MeanField
from infer.families.low_rank import LowRank
from infer.references.citation import cites
from infer.references.gaussian import CRANLEY_1976, NIEDERREITER_1992, UHLMANN_1995
from infer.references.rows import JANJOS_2023


class AbstractNoise(eqx.Module):
    """A rule for n points of R^r that stand together for N(0, I).

    Attributes:
        random: is the average of any function over the points unbiased?
    """

    random: ClassVar[bool] = True

    @abstractmethod
    def points(self, key: PRNGKey, n: int, r: int, dtype: Any) -> Points:
        """The points, of equal mass."""


class Antithetic(AbstractNoise):
    """Pairs e and -e: what is odd in e averages to zero without noise. n is even."""

    def points(self, key: PRNGKey, n: int, r: int, dtype: Any) -> Points:
        """N/2 standard normal points and their opposites."""
        if n % 2:
            raise ValueError(f"Antithetic draws come in pairs, got n={n}; write n_samples={n + 1}.")
        half = jax.random.normal(key, (n // 2, r), dtype)
        return jnp.concatenate([half, -half])


@cites(NIEDERREITER_1992, CRANLEY_1976)
class QuasiRandom(AbstractNoise):
    """A randomly shifted Kronecker sequence, e_k = Phi^-1(frac(u + k alpha)), u uniform.

    alpha_i = g^-i with g the positive root of g^(r+1) = g + 1. Each point is standard normal,
    together they fill the space evenly: averages of smooth functions of few dimensions have errors
    of nearly 1/n instead of 1/sqrt(n).

    Source: Niederreiter, Random number generation and quasi-Monte Carlo methods, 1992; Cranley and
    Patterson, SIAM J. Numer. Anal. 13 (1976).
    """

    def points(self, key: PRNGKey, n: int, r: int, dtype: Any) -> Points:
        """The points."""
        g = 2.0
        for _ in range(60):  # a contraction
            g = (1 + g) ** (1 / (r + 1))
        alpha = np.outer(np.arange(n), g ** -np.arange(1.0, r + 1)) % 1
        u = (jax.random.uniform(key, (r,), dtype) + alpha.astype(dtype)) % 1
        tiny = jnp.finfo(dtype).eps
        return ndtri(jnp.clip(u, tiny, 1 - tiny))


@cites(UHLMANN_1995, JANJOS_2023)
class SigmaPoints(AbstractNoise):
    """The 2 r points +-sqrt(r) along every axis: exact for polynomials up to the third degree.

    Nothing is random, so bounds of a linear-Gaussian model are exact and their gradients without
    noise; elsewhere what is beyond the third degree is a bias, and what looks like a lower bound
    may lie above the evidence. For objectives that are linear in the log weights alone.

    Source: Uhlmann, Dynamic map building and localization, 1995; Janjos et al., Unscented
    autoencoder, ICML 2023.
    """

    random: ClassVar[bool] = False

    def points(self, key: PRNGKey, n: int, r: int, dtype: Any) -> Points:
        """The points."""
        if n != 2 * r:
            raise ValueError(f"SigmaPoints makes {2 * r} draws, not {n}; write n_samples={2 * r}.")
        axes = jnp.sqrt(jnp.asarray(r, dtype)) * jnp.eye(r, dtype=dtype)
        return jnp.concatenate([axes, -axes])


class EvenGaussian(AbstractDistribution):
    """A Gaussian with draws x = mean + F e whose e come from a rule and are not independent.

    Density and moments are those of the Gaussian; `sample` and `equal_draws` are independent.

    Attributes:
        gaussian: N(mean, F F^T).
        noise: makes the e.
    """

    gaussian: Any
    noise: AbstractNoise

    @property
    def is_gaussian(self) -> bool:
        """True."""
        return True

    @property
    def mean(self) -> Vector:
        """The mean."""
        return self.gaussian.mean

    @property
    def factor(self) -> Points:
        """F."""
        return self.gaussian.factor

    @property
    def covariance(self) -> Points:
        """The covariance matrix."""
        return self.gaussian.covariance

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """`n` draws by the rule; F dense, so O(d r) each."""
        factor = self.gaussian.factor
        e = self.noise.points(key, n, factor.shape[1], factor.dtype)
        x = self.gaussian.mean + e @ factor.T
        fixed, log_prob = jax.lax.stop_gradient(self.gaussian), self.gaussian.log_prob
        score = jax.vmap(jax.grad(fixed.log_prob))(jax.lax.stop_gradient(x))
        return Draws(x, jax.vmap(log_prob)(x), score, independent=False)

    def equal_draws(self, key: PRNGKey, n: int) -> Draws:
        """`n` independent draws."""
        return self.gaussian.sample_score(key, n)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return self.gaussian.sample(key, n)

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        return self.gaussian.log_prob(x)

    def moments(self) -> tuple[Vector, Covariance] | None:
        """Mean and covariance."""
        return self.gaussian.moments()


class EvenDraws(AbstractFamily):
    """Gaussians on R^d whose draws are spread more evenly than independent ones.

        x_k = mean + C u_k,   (u_1, ..., u_K) from `noise`: each N(0, I), all of them even together

        infer.EvenDraws(infer.FullRank(), infer.Antithetic())

    The Gaussian is the same, its averages have less noise. Baselines and path gradients of
    objectives that are not linear in the log weights need independent draws, and are refused: of
    these `Reparam()` is left, and with `SigmaPoints()` nothing.

    Args:
        gaussian: `FullRank()`, `MeanField()` or `LowRank()`.
        noise: `Antithetic()`, `QuasiRandom()` or `SigmaPoints()`.
    """

    gaussian: Any = eqx.field(default_factory=FullRank)
    noise: Any = eqx.field(default_factory=Antithetic)

    def __check_init__(self) -> None:
        """Refuse what is no Gaussian and no rule."""
        if not isinstance(self.gaussian, FullRank | MeanField | LowRank):
            raise TypeError(
                f"EvenDraws needs gaussian=infer.FullRank(), infer.MeanField() or infer.LowRank(), "
                f"got {self.gaussian!r}."
            )
        if not isinstance(self.noise, AbstractNoise):
            raise TypeError(f"EvenDraws needs noise=infer.Antithetic(), got {self.noise!r}.")

    @property
    def independent(self) -> bool:
        """False."""
        return False

    @property
    def sampling(self) -> Sampling:
        """Draws that depend on one another, or the points of a quadrature."""
        return sampling_of(self.independent) if self.noise.random else Sampling.QUADRATURE

    def init(self, key: PRNGKey, start: Vector) -> EvenGaussian:
        """The first member of the Gaussian family."""
        return EvenGaussian(self.gaussian.init(key, start), self.noise)
