"""The kinds of answer: a distribution, a generator of draws, particles, chains."""

import enum
from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from infer.core.linalg import Covariance
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Scalar, Vector


class Sampling(enum.Enum):
    """How the draws of `sample_score` are made, on which depends what estimates a gradient."""

    INDEPENDENT = "independent draws that move with the parameters"
    DEPENDENT = "draws that depend on one another (parts, pairs, an even spread)"
    QUADRATURE = "points of a quadrature, whose averages are biased but for few functions"
    DISCRETE = "independent draws of points that do not move"
    RELAXED = "points that move, near draws of points that do not; log_q is minus the entropy"
    EXHAUSTIVE = "every point that there is, with its probability as mass"


def sampling_of(independent: bool) -> Sampling:
    """That of random draws that move with the parameters."""
    return Sampling.INDEPENDENT if independent else Sampling.DEPENDENT


class Draws(eqx.Module):
    """Draws of a distribution with what an estimator needs; leading axis K.

    Attributes:
        x: draws, attached to the parameters of the distribution.
        log_q: log density at x, attached.
        score: gradient of the log density at x, detached.
        independent: are the draws independent of one another?
        mass: weights that sum to one, for draws of which a fixed number comes from each part of
            the distribution; attached. None where all are equal.
        log_noise: log density of the noise behind each draw at that noise, up to a function of the
            parameters alone; attached. None where the noise does not depend on the parameters.
    """

    x: Float[Array, "K d"]
    log_q: Float[Array, " K"]
    score: Float[Array, "K d"]
    independent: bool = eqx.field(static=True)
    mass: Float[Array, " K"] | None = None
    log_noise: Float[Array, " K"] | None = None


class AbstractDistribution(eqx.Module):
    """A distribution on R^d whose array leaves are its parameters.

    Attributes:
        discrete: is it one of finitely many points, whose densities are probabilities? Gradients
            with respect to points then mean nothing.
    """

    discrete: ClassVar[bool] = False

    @property
    def is_gaussian(self) -> bool:
        """Is it a Gaussian, of which the moments say everything?"""
        return False

    @abstractmethod
    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """`n` draws with log density and score, cheaper than each on its own."""

    def equal_draws(self, key: PRNGKey, n: int) -> Draws:
        """`n` independent draws of equal mass with log density and score, to be counted alike."""
        return self.sample_score(key, n)

    @abstractmethod
    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""

    @abstractmethod
    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""

    @abstractmethod
    def moments(self) -> tuple[Vector, Covariance] | None:
        """Mean and covariance where the parameters tell them, else None."""

    def attached(self, x: Points) -> Points:
        """The points x as images of fixed noise, T(T^-1(x)), so that they move with T.

        Raises:
            TypeError: where draws are no invertible map of noise.
        """
        raise TypeError(
            f"{type(self).__name__} is no invertible map of noise, so points do not move with its "
            "parameters; write estimator=infer.Score(), or take a Gaussian or a flow as family."
        )


class AbstractGenerator(eqx.Module):
    """A distribution on R^d that can be drawn from and has no density to evaluate."""

    @abstractmethod
    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""


class AbstractFamily(eqx.Module):
    """A shape of distribution to be fitted; makes the first member of the family.

    Attributes:
        independent: are the draws that `sample_score` of a member makes independent?
        fixed_noise: are they images of noise that does not depend on the parameters?
    """

    @property
    def independent(self) -> bool:
        """True, unless a fixed number of draws comes from each part of a distribution."""
        return True

    @property
    def sampling(self) -> Sampling:
        """How the draws that `sample_score` of a member makes are made."""
        return sampling_of(self.independent)

    @property
    def fixed_noise(self) -> bool:
        """True, unless draws come with the `log_noise` of theirs."""
        return True

    def on(self, target: Target) -> "AbstractFamily":
        """The family on the coordinates of a target; itself, unless it names sites."""
        return self

    @abstractmethod
    def init(self, key: PRNGKey, start: Vector) -> AbstractDistribution:
        """The member to start from, placed at `start`."""


class Particles(eqx.Module):
    """An equally weighted set of points; interacting, hence not independent draws.

    Attributes:
        x: points on the unconstrained scale, (n, d).
    """

    x: Points

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` points of the set, drawn with replacement."""
        return self.x[jax.random.randint(key, (n,), 0, self.x.shape[0])]


class Chains(eqx.Module):
    """The recorded positions of Markov chains.

    Attributes:
        x: positions on the unconstrained scale, (chains, draws, d).
    """

    x: Float[Array, "chains draws d"]

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` recorded positions, drawn with replacement from all chains."""
        flat = self.x.reshape(-1, self.x.shape[-1])
        return flat[jax.random.randint(key, (n,), 0, flat.shape[0])]


Posterior = AbstractDistribution | AbstractGenerator | Particles | Chains
