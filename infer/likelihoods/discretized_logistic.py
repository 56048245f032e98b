"""Entries on an even grid of levels, such as the bytes of an image."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.checks import check_count
from infer.core.types import PRNGKey
from infer.likelihoods.likelihood import AbstractLikelihood, refuse, rows
from infer.likelihoods.scale import AbstractScale, LearnedScale, as_scale
from infer.references.citation import cites
from infer.references.rows import SALIMANS_2017

ROWS, EDGES = 2000, 32  # about as many tell where to start
TINY = 1e-30  # a lone edge has no slope


@cites(SALIMANS_2017)
class DiscretizedLogistic(AbstractLikelihood):
    """Evenly spaced levels low, ..., high: the mass of a logistic density between neighbors.

        p(x) = sigmoid(b) - sigmoid(a),    a, b = (t(x) -+ width / 2 - location) / scale

    with a = -inf at the lowest level and b = inf at the highest, so that values piled up at the
    ends cost nothing. Location and scale are in units in which the levels t(x) go from -1 to 1, and
    width = 2 / (n_levels - 1). A probability, so data of another depth stay comparable.

    Cost of `mean`: n_levels evaluations of a sigmoid per entry.

    Args:
        low: the lowest level.
        high: the highest level, > low.
        n_levels: number of levels, >= 2.
        scale: as of `Gaussian`, in units of (high - low) / 2.

    Source: Salimans, Karpathy, Chen and Kingma, PixelCNN++, ICLR 2017, with one component.
    """

    low: float | int = eqx.field(static=True)
    high: float | int = eqx.field(static=True)
    n_levels: int = eqx.field(static=True)
    scale: AbstractScale = eqx.field(converter=as_scale, default_factory=LearnedScale)

    def __check_init__(self) -> None:
        """Refuse what is no grid."""
        check_count("DiscretizedLogistic", "n_levels", self.n_levels, 256, least=2)
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"DiscretizedLogistic needs low < high, got {self.low} and {self.high}; write "
                f"DiscretizedLogistic(0, 255, 256)."
            )

    @property
    def width(self) -> float:
        """The distance of neighbors, in units of the location."""
        return 2 / (self.n_levels - 1)

    @property
    def n_outputs(self) -> int:
        """The location, and the raw scale if that is decoded."""
        return self.scale.n_outputs

    @property
    def whole(self) -> bool:
        """If the levels are."""
        step = (self.high - self.low) / (self.n_levels - 1)
        return float(self.low).is_integer() and step.is_integer()

    def log_prob(
        self, outputs: Float[Array, "*outputs"], x: Num[Array, "*event"]
    ) -> Float[Array, "*event"]:
        """By sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)), free of rounding."""
        location, log_scale = self.scale.split(outputs)
        level = jnp.round(
            (x.astype(outputs.dtype) - self.low) / (self.high - self.low) * (self.n_levels - 1)
        )
        center = self.width * level - 1 - location
        above = (center + self.width / 2) * jnp.exp(-log_scale)
        below = (center - self.width / 2) * jnp.exp(-log_scale)
        inside = jnp.log(-jnp.expm1(-self.width * jnp.exp(-log_scale)))
        lowest, highest = level < 0.5, level > self.n_levels - 1.5
        return (
            jnp.where(highest, 0.0, log_sigmoid(above))
            + jnp.where(lowest, 0.0, log_sigmoid(-below))
            + jnp.where(lowest | highest, 0.0, inside)
        )

    def sample(self, key: PRNGKey, outputs: Float[Array, "*outputs"]) -> Float[Array, "*event"]:
        """A logistic draw, moved to the nearest level."""
        location, log_scale = self.scale.split(outputs)
        noise = jax.random.logistic(key, location.shape, location.dtype)
        level = jnp.round((location + jnp.exp(log_scale) * noise + 1) / self.width)
        return self._value(jnp.clip(level, 0, self.n_levels - 1))

    def mean(self, outputs: Float[Array, "*outputs"]) -> Float[Array, "*event"]:
        """E[level] = sum_k P(level >= k), exactly."""
        location, log_scale = self.scale.split(outputs)

        def add(k: Array, level: Array) -> Array:
            edge = self.width * (k - 0.5) - 1
            return level + jax.nn.sigmoid((location - edge) * jnp.exp(-log_scale))

        return self._value(jax.lax.fori_loop(1, self.n_levels, add, jnp.zeros_like(location)))

    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "*outputs"]:
        """Location and scale at the line through the logits of cumulative frequencies."""
        line = _Line(x, self)
        spread = line.scale(0)
        log_scale = self.scale.split(self.scale.join(spread, spread))[1]
        return self.scale.join(line.location(np.asarray(np.exp(log_scale))), spread)

    def init(self, x: Num[ArrayLike, "n *event"]) -> "DiscretizedLogistic":
        """The scale at that of the data around their location."""
        scale = self.scale.init(_Line(x, self).scale)
        return eqx.tree_at(lambda likelihood: likelihood.scale, self, scale)

    def check(self, x: np.ndarray) -> None:
        """Refuse what is none of the levels."""
        level = (x - self.low) / (self.high - self.low) * (self.n_levels - 1)
        near = np.abs(level - np.round(level)) < 1e-2
        valid = near & (level > -0.5) & (level < self.n_levels - 0.5)
        name = f"DiscretizedLogistic({self.low}, {self.high}, {self.n_levels})"
        needs = f"one of {self.n_levels} even levels in [{self.low}, {self.high}]"
        refuse(name, needs, x, valid)

    def _value(self, level: Array) -> Array:
        return self.low + (self.high - self.low) / (self.n_levels - 1) * level


class _Line:
    """The distribution function F of a logistic is a line: logit F(t) = (t - location) / scale.

    Fitted by least squares to the frequencies below some edges, with the inverse variances
    F (1 - F) of their logits as weights; unlike mean and spread, it is right where the data pile
    up at the lowest or the highest level. Half a row is added on either side of each edge.
    """

    def __init__(self, x: ArrayLike, likelihood: DiscretizedLogistic) -> None:
        x = np.asarray(x)
        x = rows(x[:: max(1, len(x) // ROWS)])
        t = 2 * (x - likelihood.low) / (likelihood.high - likelihood.low) - 1
        step = max(1, (likelihood.n_levels - 1) // EDGES)
        edges = likelihood.width * (np.arange(0, likelihood.n_levels - 1, step) + 0.5) - 1
        seen = np.sum(~np.isnan(t), axis=0)
        below = np.stack([np.sum(t < edge, axis=0) for edge in edges])
        frequency = (below + 0.5) / (seen + 1)
        weight = (seen + 1) * frequency * (1 - frequency)
        edge = edges.reshape(-1, *np.ones(x.ndim - 1, int))
        height = np.log(frequency) - np.log1p(-frequency)
        self.edge, self.height = (np.average(y, 0, weight) for y in (edge + 0 * height, height))
        along, up = edge - self.edge, height - self.height
        self.run, self.rise = weight * along**2, weight * along * up

    def scale(self, axis: int | None) -> np.ndarray:
        """1 / slope, per entry or for all; not above half the range, where there is no slope."""
        run, rise = np.sum(self.run, axis=axis), np.sum(self.rise, axis=axis)
        return np.asarray((run + TINY) / (np.maximum(rise, run) + TINY))

    def location(self, scale: np.ndarray) -> np.ndarray:
        """Where the line of this scale is 0."""
        return self.edge - scale * self.height
