"""Entries that are 0 or 1, or counts out of a known total."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.nn import log_sigmoid
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.checks import check_count
from infer.core.types import PRNGKey
from infer.likelihoods.likelihood import AbstractLikelihood, floats, refuse
from infer.references.citation import cites
from infer.references.variational import KINGMA_2014


@cites(KINGMA_2014)
class Bernoulli(AbstractLikelihood):
    """Entries that are 0 or 1; the output is the logit of P(x = 1).

        log p(x) = log sigmoid((2 x - 1) logit)

    Gray values are refused: for these the formula is no density, and its optimum no likelihood.

    Source: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014.
    """

    @property
    def n_outputs(self) -> int:
        """The logit."""
        return 1

    @property
    def whole(self) -> bool:
        """Yes."""
        return True

    def log_prob(
        self, outputs: Float[Array, "*event"], x: Num[Array, "*event"]
    ) -> Float[Array, "*event"]:
        """One softplus per entry, exact at any logit: most of the time of a small decoder."""
        sign = 2 * jnp.asarray(x, outputs.dtype) - 1  # of 0 in uint8 it would be 255
        return log_sigmoid(sign * outputs)

    def sample(self, key: PRNGKey, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """Zeros and ones."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs)).astype(outputs.dtype)

    def mean(self, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """P(x = 1)."""
        return jax.nn.sigmoid(outputs)

    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "*event"]:
        """The logit of the frequency of ones, with half a row of each kind added."""
        return _smoothed_logit(x, 1)

    def check(self, x: np.ndarray) -> None:
        """Refuse all but 0 and 1."""
        refuse("Bernoulli", "0 and 1", x, (x == 0) | (x == 1))


class Binomial(AbstractLikelihood):
    """Whole numbers from 0 to `total`; the output is the logit of the rate p.

        log p(x) = log C(total, x) + x log sigmoid(logit) + (total - x) log sigmoid(-logit)

    Variance total p (1 - p): entries more spread than this, such as bytes of an image, need
    `DiscretizedLogistic`.

    Args:
        total: the largest value, >= 1.
    """

    total: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse what is no whole number >= 1."""
        check_count("Binomial", "total", self.total, 16)

    @property
    def n_outputs(self) -> int:
        """The logit."""
        return 1

    @property
    def whole(self) -> bool:
        """Yes."""
        return True

    def log_prob(
        self, outputs: Float[Array, "*event"], x: Num[Array, "*event"]
    ) -> Float[Array, "*event"]:
        """With C(n, x) from a table."""
        n, k = self.total, np.arange(self.total + 1)
        ways = -np.log1p(n) - scipy.special.betaln(k + 1, n - k + 1)
        ways = jnp.asarray(ways, outputs.dtype)[x.astype(int)]
        return ways + x * log_sigmoid(outputs) + (n - x) * log_sigmoid(-outputs)

    def sample(self, key: PRNGKey, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """Counts out of `total`."""
        p = jax.nn.sigmoid(outputs)
        return jax.random.binomial(key, self.total, p, dtype=outputs.dtype)

    def mean(self, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """Total p."""
        return self.total * jax.nn.sigmoid(outputs)

    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "*event"]:
        """The logit of the mean rate, with one row's worth of half a success each way added."""
        return _smoothed_logit(x, self.total)

    def check(self, x: np.ndarray) -> None:
        """Refuse all but whole numbers from 0 to `total`."""
        valid = (x == np.round(x)) & (x >= 0) & (x <= self.total)
        refuse(f"Binomial({self.total})", f"whole numbers in [0, {self.total}]", x, valid)


def _smoothed_logit(x: ArrayLike, total: int) -> Array:
    x = np.asarray(x)
    ones = np.nansum(x, axis=0, dtype=np.float64)
    zeros = total * np.sum(~np.isnan(x), axis=0) - ones
    return floats(np.log(ones + 0.5) - np.log(zeros + 0.5))
