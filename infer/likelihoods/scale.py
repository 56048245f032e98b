"""The scale of a location-scale likelihood: learned, fixed, or put out by the decoder."""

import abc
import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.likelihoods.likelihood import floats

LEAST = 1e-3  # of the scale of the data

# The scale of every entry (axis 0) or of all entries together (None).
Spread = Callable[[int | None], np.ndarray]


class AbstractScale(eqx.Module):
    """Where the scale of p(x | outputs) comes from.

    A scale that is not fixed is unit (1e-3 + exp(raw)), for a free number raw and the scale `unit`
    of the data around their mean: never so small that the density of an entry that the decoder
    reproduces (a pixel that is always black) grows without bound.
    """

    @property
    @abc.abstractmethod
    def n_outputs(self) -> int:
        """Outputs of the decoder per entry of x, the location among them."""

    @abc.abstractmethod
    def split(
        self, outputs: Float[Array, "*outputs"]
    ) -> tuple[Float[Array, "*event"], Float[Array, "..."]]:
        """Location and log scale."""

    @abc.abstractmethod
    def join(
        self, location: Float[np.ndarray, "*event"], spread: Float[np.ndarray, "*event"]
    ) -> Float[Array, "*outputs"]:
        """Outputs with this location and, if it is theirs to say, this scale."""

    @abc.abstractmethod
    def init(self, spread: Spread) -> "AbstractScale":
        """The scale ready for data of this spread."""


class FixedScale(AbstractScale):
    """A known scale > 0, the same for all entries and never trained.

    A direction of the data whose standard deviation is below the scale is cheaper to take for
    noise than to encode: too large a scale switches latent dimensions off.

    Args:
        value: the scale, > 0, in the unit of the location. Another value is compiled anew.
    """

    value: float | int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse what is no positive number."""
        if not isinstance(self.value, Real) or not 0 < self.value < math.inf:
            raise ValueError(
                f"FixedScale needs one number > 0, got {self.value!r}; write FixedScale(0.1)."
            )

    @property
    def n_outputs(self) -> int:
        """The location."""
        return 1

    def split(
        self, outputs: Float[Array, "*event"]
    ) -> tuple[Float[Array, "*event"], Float[Array, "..."]]:
        """The outputs, and log(value)."""
        return outputs, jnp.asarray(math.log(self.value), outputs.dtype)

    def join(
        self, location: Float[np.ndarray, "*event"], spread: Float[np.ndarray, "*event"]
    ) -> Float[Array, "*event"]:
        """The location."""
        return floats(location)

    def init(self, spread: Spread) -> "FixedScale":
        """Itself."""
        return self


class LearnedScale(AbstractScale):
    """A scale that is trained: unit (1e-3 + exp(raw)), with one raw, or one per entry of x.

    Args:
        per_dimension: learn one scale per entry, instead of one for all.
        raw: the parameter, before `init` sets it from the data.
        unit: the scale of the data around their mean, which `init` sets.
    """

    per_dimension: bool = eqx.field(static=True, default=False)
    raw: Float[Array, "..."] = eqx.field(converter=floats, default=0.0)
    unit: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        """Refuse what is no yes or no."""
        if not isinstance(self.per_dimension, bool):
            raise TypeError(
                f"LearnedScale needs per_dimension=True or False, got {self.per_dimension!r}."
            )

    @property
    def n_outputs(self) -> int:
        """The location."""
        return 1

    def split(
        self, outputs: Float[Array, "*event"]
    ) -> tuple[Float[Array, "*event"], Float[Array, "..."]]:
        """The outputs, and the log of the learned scale."""
        return outputs, _log_scale(self.unit, self.raw)

    def join(
        self, location: Float[np.ndarray, "*event"], spread: Float[np.ndarray, "*event"]
    ) -> Float[Array, "*event"]:
        """The location."""
        return floats(location)

    def init(self, spread: Spread) -> "LearnedScale":
        """`unit` and `raw` of the data."""
        unit = _unit(spread)
        axis = 0 if self.per_dimension else None
        return LearnedScale(self.per_dimension, _raw(unit, spread(axis)), unit)


class DecodedScale(AbstractScale):
    """A scale per entry and row, put out by the decoder: unit (1e-3 + exp(second output)).

    The likelihood has two outputs per entry. It fits noise that depends on x, and is prone to
    spend its scales on the entries that are easy to reproduce.

    Args:
        unit: the scale of the data around their mean, which `init` sets.
    """

    unit: float = eqx.field(static=True, default=1.0)

    @property
    def n_outputs(self) -> int:
        """Location and raw scale."""
        return 2

    def split(
        self, outputs: Float[Array, "2 *event"]
    ) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
        """The first output, and the log of the scale that the second stands for."""
        return outputs[0], _log_scale(self.unit, outputs[1])

    def join(
        self, location: Float[np.ndarray, "*event"], spread: Float[np.ndarray, "*event"]
    ) -> Float[Array, "2 *event"]:
        """Both outputs."""
        return jnp.stack([floats(location), floats(_raw(self.unit, spread))])

    def init(self, spread: Spread) -> "DecodedScale":
        """`unit` of the data."""
        return DecodedScale(_unit(spread))


def as_scale(value: Any) -> AbstractScale:
    """A field converter: a number is a fixed scale."""
    if isinstance(value, AbstractScale):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        return FixedScale(float(value))
    raise TypeError(
        f"scale must be a number > 0, LearnedScale(), FixedScale(0.1) or DecodedScale(), got "
        f"{value!r}; write scale=infer.likelihoods.LearnedScale()."
    )


def _log_scale(unit: float, raw: Float[Array, "..."]) -> Float[Array, "..."]:
    return math.log(unit) + jnp.logaddexp(raw, math.log(LEAST))


def _raw(unit: float, scale: np.ndarray) -> np.ndarray:
    # Not further down than twice the least scale, from where there is still a slope upward.
    return np.asarray(np.log(np.maximum(scale / unit - LEAST, LEAST)))


def _unit(spread: Spread) -> float:
    unit = float(spread(None))
    if not unit > 0:
        raise ValueError(
            "A scale cannot be learned from rows that are all the same; write scale=0.1, or give "
            "rows that differ."
        )
    return unit
