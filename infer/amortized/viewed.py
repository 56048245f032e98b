"""Anybody's networks for rows of several parts: trees outside, vectors inside."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array

from infer.core.data import Data
from infer.core.layout import Layout
from infer.likelihoods.likelihood import AbstractLikelihood
from infer.likelihoods.parts import Parts, layout_of


@dataclasses.dataclass(frozen=True)
class Views:
    """Which of the vectors around a network are trees for it.

    Attributes:
        inputs: a layout for each, None for what is no tree.
        output: of what it gives, or None.
    """

    inputs: tuple[Layout | None, ...] = ()
    output: Layout | None = None

    @property
    def plain(self) -> bool:
        """Is there no tree?"""
        return self.output is None and all(layout is None for layout in self.inputs)

    def trees(self, inputs: tuple[Array, ...]) -> tuple[Any, ...]:
        """What the network is called with, or rows of it."""
        if self.plain:
            return inputs
        pairs = zip(inputs, self.inputs, strict=True)
        return tuple(u if layout is None else layout.unravel(u) for u, layout in pairs)


NO_TREES = Views()


class Viewed(eqx.Module):
    """A network of trees as one of vectors."""

    network: Callable[..., Any]
    views: Views = eqx.field(static=True)

    def __call__(self, *inputs: Array) -> Array:
        """What the network gives for one row, as a vector."""
        found = self.network(*self.views.trees(inputs))
        output = self.views.output
        return found if output is None else output.ravel("what the network gives", found)


def encoder_views(likelihood: AbstractLikelihood, data: Data) -> Views:
    """An encoder sees rows as they were given: whole numbers of classes and counts, booleans."""
    x, rows = layout_of(likelihood), data.rows
    mask = None if x is None else x.typed(bool)
    pairs = (rows.x, x), (rows.mask, mask), (rows.condition, data.condition_layout)
    return Views(tuple(layout for part, layout in pairs if part is not None))


def decoder_views(likelihood: AbstractLikelihood, data: Data) -> Views:
    """A decoder gives a tree of outputs."""
    given = () if data.rows.condition is None else (data.condition_layout,)
    output = likelihood.outputs if isinstance(likelihood, Parts) else None
    return Views((None, *given), output)
