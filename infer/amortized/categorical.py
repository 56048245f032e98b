"""Discrete latent variables: one-hot codes, their priors, and posteriors of rows."""

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.amortized.code_draws import AbstractCodeDraws, Hard
from infer.amortized.heads import AbstractHead, AbstractPosterior, Outputs
from infer.amortized.parts import Frozen
from infer.amortized.priors import VampPrior
from infer.core.checks import check_count
from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, Draws, Sampling
from infer.core.types import Count, Points, PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.rows import JANG_2017
from infer.references.variational import MNIH_2016


class CategoricalDistribution(AbstractDistribution):
    """V independent variables of C classes, at V one-hot vectors joined to one of length V C.

        log q(z) = <z, log pi>,   pi_v = softmax(logits_v)

    Between codes `log_prob` is this linear function, which relaxed draws make use of.

    Attributes:
        logits: log probabilities, up to a constant per variable.
        draws: how `sample_score` makes its draws. All others are hard.
    """

    logits: Float[Array, "V C"]
    draws: AbstractCodeDraws
    discrete: ClassVar[bool] = True

    @property
    def log_p(self) -> Float[Array, "V C"]:
        """Normalized log probabilities."""
        return jax.nn.log_softmax(self.logits)

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws as the rule makes them, with scores of zero."""
        return self.draws.draw(key, self.log_p, n)

    def equal_draws(self, key: PRNGKey, n: int) -> Draws:
        """`n` independent one-hot draws."""
        return Hard().draw(key, self.log_p, n)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent one-hot draws."""
        return self.equal_draws(key, n).x

    def log_prob(self, x: Vector) -> Scalar:
        """The log probability of one code."""
        return jnp.sum(x * self.log_p.reshape(-1))

    def entropy(self) -> Scalar:
        """The entropy, nats."""
        return -jnp.sum(jnp.exp(self.log_p) * self.log_p)

    def moments(self) -> tuple[Vector, Covariance]:
        """Mean pi and covariance diag(pi) - pi_v pi_v^T, one block per variable."""
        return _moments(jnp.exp(self.log_p))


class UniformCodes(AbstractDistribution):
    """All C^V codes with the same probability; it has no leaves, so nothing in it can be fitted.

    Attributes:
        n_variables: V.
        n_classes: C.
    """

    n_variables: int = eqx.field(static=True)
    n_classes: int = eqx.field(static=True)
    discrete: ClassVar[bool] = True

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """`n` independent one-hot draws with scores of zero."""
        return self._member().equal_draws(key, n)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent one-hot draws."""
        return self._member().sample(key, n)

    def log_prob(self, x: Vector) -> Scalar:
        """-V log C."""
        return jnp.full((), -self.n_variables * jnp.log(self.n_classes), x.dtype)

    def moments(self) -> tuple[Vector, Covariance]:
        """Those of equal probabilities."""
        return self._member().moments()

    def _member(self) -> CategoricalDistribution:
        return CategoricalDistribution(jnp.zeros((self.n_variables, self.n_classes)), Hard())


def _moments(pi: Float[Array, "V C"]) -> tuple[Vector, Covariance]:
    v = pi.shape[0]
    blocks = (jnp.eye(v, dtype=pi.dtype)[:, None, :] * pi[..., None]).reshape(-1, v)
    return pi.reshape(-1), Covariance(pi.reshape(-1), blocks, -jnp.eye(v, dtype=pi.dtype))


class AbstractCodePrior(eqx.Module):
    """The prior of a `VAE` on one-hot codes.

    Attributes:
        n_classes: C, classes per variable.
    """

    n_classes: eqx.AbstractVar[int]

    @abstractmethod
    def init(self, key: PRNGKey, start: Vector) -> AbstractDistribution:
        """The first prior of codes as long as `start`."""


class UniformCategorical(AbstractCodePrior):
    """All codes alike, log p(z) = -V log C: the prior for `Categorical` that is not fitted.

    Args:
        n_classes: C, that of the posterior.
    """

    n_classes: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse what is no number of classes."""
        check_count("UniformCategorical", "n_classes", self.n_classes, 10, least=2)

    def init(self, key: PRNGKey, start: Vector) -> UniformCodes:
        """The prior of V variables."""
        return UniformCodes(start.shape[0] // self.n_classes, self.n_classes)


class FactorizedCategorical(AbstractCodePrior):
    """Independent variables whose probabilities are fitted, log p(z) = <z, log pi>.

    Starts with equal ones.

    Args:
        n_classes: C, that of the posterior.
    """

    n_classes: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse what is no number of classes."""
        check_count("FactorizedCategorical", "n_classes", self.n_classes, 10, least=2)

    def init(self, key: PRNGKey, start: Vector) -> CategoricalDistribution:
        """Equal probabilities for V variables."""
        logits = jnp.zeros((start.shape[0] // self.n_classes, self.n_classes), start.dtype)
        return CategoricalDistribution(logits, Hard())


class CategoricalHead(AbstractHead):
    """q(z | x) has the outputs of the encoder as logits.

    Attributes:
        draws: how draws are made for a gradient.
        n_classes: C.
    """

    draws: Frozen
    dim: int = eqx.field(static=True)
    n_classes: int = eqx.field(static=True)
    discrete: ClassVar[bool] = True

    @property
    def n_outputs(self) -> int:
        """A logit per variable and class."""
        return self.dim

    def __call__(self, outputs: Outputs) -> CategoricalDistribution:
        """The posterior of a row."""
        return CategoricalDistribution(outputs.reshape(-1, self.n_classes), self.draws.value)

    def at(self, t: Count) -> "CategoricalHead":
        """With the draws of step t."""
        return CategoricalHead(
            draws=Frozen(self.draws.value.at(t)), dim=self.dim, n_classes=self.n_classes
        )

    def code(self, outputs: Outputs) -> Vector:
        """The most probable code."""
        logits = outputs.reshape(-1, self.n_classes)
        hot = jax.nn.one_hot(jnp.argmax(logits, axis=1), self.n_classes, dtype=outputs.dtype)
        return hot.reshape(-1)


@cites(JANG_2017, MNIH_2016)
class Categorical(AbstractPosterior):
    """q(z | x) of a `VAE` with V = `latent` independent categorical variables of C classes each.

        log q(z | x) = <z, log pi(x)>,   z one-hot vectors joined to one of length V C

    Its gradient depends on `draws`:

        Enumerated()       with estimator=Enumerate()   exact; at most 4096 codes C^V
        Hard()             with estimator=Score()       unbiased; with IWAE() it is VIMCO
        Relaxed(0.5)       with estimator=Reparam()     biased, little noise
        StraightThrough()  with estimator=Reparam()     biased, codes stay codes

    It needs a prior on codes, `prior=infer.UniformCategorical(C)` or
    `infer.FactorizedCategorical(C)`. `encode` gives the probabilities, `reconstruct` decodes the
    most probable code.

    Args:
        n_classes: C, >= 2.
        draws: how draws are made for a gradient.

    Source: Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017;
    Mnih and Rezende, Variational inference for Monte Carlo objectives, ICML 2016.
    """

    n_classes: int = eqx.field(static=True)
    draws: Any = eqx.field(default_factory=Hard)

    def __check_init__(self) -> None:
        """Refuse what is no number of classes and no rule."""
        check_count("Categorical", "n_classes", self.n_classes, 10, least=2)
        if not isinstance(self.draws, AbstractCodeDraws):
            raise TypeError(
                f"Categorical needs draws=infer.Hard() or the like, got {self.draws!r}."
            )

    @property
    def independent(self) -> bool:
        """False where all codes are enumerated."""
        return self.sampling is not Sampling.EXHAUSTIVE

    @property
    def sampling(self) -> Sampling:
        """That of the draws."""
        return self.draws.sampling

    def check(self, latent: int, prior: Any, beta: Any) -> None:
        """Refuse too many codes, and priors that are on no such codes."""
        self.draws.check(latent, self.n_classes)
        fits = isinstance(prior, AbstractCodePrior) and prior.n_classes == self.n_classes
        if not fits and not isinstance(prior, VampPrior):
            raise ValueError(
                f"VAE with posterior=infer.Categorical({self.n_classes}) has one-hot codes of "
                f"{self.n_classes} classes, of which {prior!r} has no probabilities; write "
                f"prior=infer.UniformCategorical({self.n_classes})."
            )

    def head(self, key: PRNGKey, latent: int) -> CategoricalHead:
        """The first head for `latent` variables."""
        return CategoricalHead(
            draws=Frozen(self.draws), dim=latent * self.n_classes, n_classes=self.n_classes
        )
