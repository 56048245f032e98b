"""Counts without a largest value."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.special import betaln
from infer.core.types import PRNGKey
from infer.likelihoods.likelihood import AbstractLikelihood, floats, refuse, rows

MOST = 1e4  # of a first total count; with more it is a Poisson distribution for all purposes


class NegativeBinomial(AbstractLikelihood):
    """Whole numbers >= 0 of any size, with a learned total count r; the output is a logit.

        log p(x) = -log B(x + 1, r) - log(x + r) + x log sigmoid(logit) + r log sigmoid(-logit)

    A Poisson distribution whose rate has a gamma distribution: mean m = r exp(logit), variance
    m + m^2 / r, the Poisson's for large r. Draws are limited to rates below 2^31.

    Args:
        per_dimension: learn one total count per entry, instead of one for all.
        log_total: log r, before `init` sets it from the data.
    """

    per_dimension: bool = eqx.field(static=True, default=False)
    log_total: Float[Array, "..."] = eqx.field(converter=floats, default=0.0)

    def __check_init__(self) -> None:
        """Refuse what is no yes or no."""
        if not isinstance(self.per_dimension, bool):
            raise TypeError(
                f"NegativeBinomial needs per_dimension=True or False, got {self.per_dimension!r}."
            )

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
        """With Gamma(x + r) / (x! Gamma(r)) = 1 / ((x + r) B(x + 1, r))."""
        x = x.astype(outputs.dtype)
        total = jnp.exp(self.log_total)
        ways = -betaln(x + 1, total) - jnp.log(x + total)
        return ways + x * log_sigmoid(outputs) + total * log_sigmoid(-outputs)

    def sample(self, key: PRNGKey, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """Poisson draws at gamma rates."""
        key_rate, key_count = jax.random.split(key)
        total = jnp.exp(self.log_total).astype(outputs.dtype)
        rate = jax.random.gamma(key_rate, total, outputs.shape, outputs.dtype) * jnp.exp(outputs)
        return jax.random.poisson(key_count, rate, outputs.shape).astype(outputs.dtype)

    def mean(self, outputs: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """The total times exp(logit)."""
        return jnp.exp(self.log_total + outputs)

    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "*event"]:
        """The logit at which the mean is that of the data, half a count being added to each sum."""
        x = rows(x)
        mean = (np.nansum(x, axis=0) + 0.5) / np.maximum(np.sum(~np.isnan(x), axis=0), 1)
        return floats(np.log(mean)) - self.log_total

    def init(self, x: Num[ArrayLike, "n *event"]) -> "NegativeBinomial":
        """The total m^2 / (variance - m), of sums over the entries if they share it."""
        x = rows(x)
        mean, variance = np.nanmean(x, axis=0), np.nanvar(x, axis=0)
        square, excess = mean**2, variance - mean
        if not self.per_dimension:
            square, excess = np.sum(square), np.sum(excess)
        least = square / MOST
        total = np.maximum(square, 1e-30) / np.maximum(np.maximum(excess, least), 1e-30)
        return NegativeBinomial(self.per_dimension, np.log(total))

    def check(self, x: np.ndarray) -> None:
        """Refuse all but whole numbers >= 0."""
        refuse("NegativeBinomial", "whole numbers >= 0", x, (x == np.round(x)) & (x >= 0))
