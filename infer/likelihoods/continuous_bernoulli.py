"""Entries between 0 and 1 with the density of a Bernoulli's shape."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.types import PRNGKey
from infer.likelihoods.likelihood import AbstractLikelihood, floats, refuse, rows
from infer.references.citation import cites
from infer.references.rows import LOAIZA_GANEM_2019

# log(sinh(y) / y) = sum_k 2^(2k) B_2k / (2k (2k)!) y^(2k), for the Bernoulli numbers B_2k.
SERIES = (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775, -691 / 3831077250)
NEAR = 0.5  # below which six terms of the series have a relative error of 1e-10
STEEPEST = 60.0  # the largest logit of a start


@cites(LOAIZA_GANEM_2019)
class ContinuousBernoulli(AbstractLikelihood):
    """Real entries in [0, 1]; the output is the logit of the shape lambda.

        log p(x) = (x - 1/2) logit - log(sinh(logit / 2) / (logit / 2))

    which is lambda^x (1 - lambda)^(1 - x) and its constant. The constant that a Bernoulli
    loss on gray values leaves out. One number sets both mean and spread: no density has its
    peak inside (0, 1), and an entry that is always 0 or 1 draws the logit to infinity. For most
    images a `Gaussian` fits better.

    Source: Loaiza-Ganem and Cunningham, The continuous Bernoulli, NeurIPS 2019.
    """

    @property
    def n_outputs(self) -> int:
        """The logit."""
        return 1

    def log_prob(
        self, outputs: Float[Array, "*event"], x: Num[Array, "*event"]
    ) -> Float[Array, "*event"]:
        """Symmetric in logit and x - 1/2."""
        return (x - 0.5) * outputs - _log_constant(outputs)

    def sample(self, key: PRNGKey, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """By the inverse of the distribution function, x = log(1 + u (e^logit - 1)) / logit."""
        u = jax.random.uniform(key, outputs.shape, outputs.dtype)
        down = -jnp.maximum(jnp.abs(outputs), jnp.finfo(outputs.dtype).tiny)
        x = jnp.log1p(u * jnp.expm1(down)) / down
        return jnp.where(outputs > 0, 1 - x, x)

    def mean(self, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """1/2 and the derivative of the log constant."""
        return 0.5 + jax.jvp(_log_constant, (outputs,), (jnp.ones_like(outputs),))[1]

    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "*event"]:
        """The logit, from -60 to 60, at which the mean is that of the data; by bisection."""
        target = floats(np.nanmean(rows(x), axis=0))

        def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (ends[0] + ends[1]) / 2
            above = self.mean(middle) > target
            return jnp.where(above, ends[0], middle), jnp.where(above, middle, ends[1])

        ends = jnp.full_like(target, -STEEPEST), jnp.full_like(target, STEEPEST)
        return jax.lax.fori_loop(0, 40, halve, ends)[0]

    def check(self, x: np.ndarray) -> None:
        """Refuse what lies outside [0, 1]."""
        refuse("ContinuousBernoulli", "numbers in [0, 1]", x, (x >= 0) & (x <= 1))


def _log_constant(logit: Float[Array, "*event"]) -> Float[Array, "*event"]:
    """log(sinh(y) / y), y = logit / 2, with finite derivatives everywhere."""
    y = jnp.abs(logit) / 2
    # Neither branch may see the values that are not its own: their gradients would be NaN.
    square = jnp.where(y < NEAR, logit / 2, 0.0) ** 2
    series = square * jnp.polyval(jnp.asarray(SERIES[::-1], logit.dtype), square)
    far = jnp.where(y < NEAR, 1.0, y)
    closed = far + jnp.log1p(-jnp.exp(-2 * far)) - jnp.log(2 * far)
    return jnp.where(y < NEAR, series, closed)
