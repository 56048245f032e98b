"""Rows of several parts, a likelihood for each."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.layout import Layout, flattened
from infer.core.types import PRNGKey
from infer.likelihoods.likelihood import AbstractLikelihood


class Parts(AbstractLikelihood):
    """A likelihood for each part of a row, independent given the outputs.

        log p(x | outputs) = sum_p log p_p(x_p | outputs_p)

    What `VAE({"pixels": Bernoulli(), "digit": Categorical(10)})` makes of its argument. Parts are
    of very different weight in this sum: 64 pixels have 64 terms and a class has one.

    Inside, a row is the vector of its parts, raveled, one after the other, and so are the outputs;
    a decoder of one's own gives a tree of outputs.

    Args:
        tree: a dict or a tuple of likelihoods, or a tree of them, with the structure of a row.
        placed: the layout of the rows, which `on` sets.
    """

    parts: tuple[AbstractLikelihood, ...]
    names: tuple[str, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)
    placed: Layout | None = eqx.field(static=True)

    def __init__(self, tree: Any, placed: Layout | None = None) -> None:
        self.names, leaves, self.structure = flattened(tree, (AbstractLikelihood, list, type(None)))
        if not leaves:
            raise TypeError(
                f"Parts needs likelihoods, got {tree!r}; write one for each part of a row, "
                '{"height": infer.likelihoods.Gaussian(), ...}.'
            )
        for name, leaf in zip(self.names, leaves, strict=True):
            if not isinstance(leaf, AbstractLikelihood):
                raise TypeError(
                    f"{name or 'Parts'} needs a likelihood, got {leaf!r}; write "
                    "infer.likelihoods.Gaussian() or the like. A tree of them is made of dicts and "
                    "tuples."
                )
        self.parts, self.placed = tuple(leaves), placed

    def on(self, layout: Layout | None) -> "Parts":
        """For rows of this layout; refused where they have other parts.

        Whole numbers stay whole in draws of a part whose likelihood gives whole numbers.
        """
        if layout is None:
            raise ValueError(
                f"the likelihood has parts {', '.join(self.names)}, and the rows are one array; "
                "write infer.Data({name: array, ...}) with the same names, or one likelihood."
            )
        layout.check_structure("the likelihood", self.names, self.structure)
        floats = layout.typed().dtypes
        each = zip(self.parts, layout.dtypes, floats, strict=True)
        dtypes = tuple(own if part.whole else real for part, own, real in each)
        tree = self.structure.unflatten(self.parts)
        return Parts(tree, dataclasses.replace(layout, dtypes=dtypes))

    @property
    def layout(self) -> Layout:
        """Of a row, with the types of its draws."""
        assert self.placed is not None, "Parts are placed on rows first: likelihood.on(data.layout)"
        return self.placed

    @property
    def outputs(self) -> Layout:
        """Of what a decoder gives."""
        pairs = zip(self.parts, self.layout.shapes, strict=True)
        shapes = tuple(part.output_shape(shape) for part, shape in pairs)
        return dataclasses.replace(self.layout.typed(), shapes=shapes)

    @property
    def n_outputs(self) -> int:
        """Of all parts together."""
        return sum(self.outputs.sizes)

    def output_shape(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """One vector."""
        return (self.n_outputs,)

    def log_prob(
        self, outputs: Float[Array, " outputs"], x: Num[Array, " D"]
    ) -> Float[Array, " D"]:
        """The terms of all parts."""
        pairs = zip(self._each(outputs), self.layout.parts(x), strict=True)
        return _joined([part.log_prob(o, u) for (part, o), u in pairs])

    def sample(self, key: PRNGKey, outputs: Float[Array, " outputs"]) -> Float[Array, " D"]:
        """Draws of all parts."""
        keys = jax.random.split(key, len(self.parts))
        pairs = zip(self._each(outputs), keys, strict=True)
        return _joined([part.sample(k, o) for (part, o), k in pairs])

    def mean(self, outputs: Float[Array, " outputs"]) -> Float[Array, " D"]:
        """Means of all parts."""
        return _joined([part.mean(o) for part, o in self._each(outputs)])

    def average(
        self, weights: Float[Array, " K"], outputs: Float[Array, "K outputs"]
    ) -> Float[Array, " D"]:
        """Averages of all parts."""
        return _joined([part.average(weights, o) for part, o in self._each(outputs)])

    def start(self, x: Num[ArrayLike, "n D"]) -> Float[Array, " outputs"]:
        """First outputs of all parts."""
        starts = []
        for name, part, u in self._named(x):
            with _told(name):
                starts.append(part.start(u))
        return _joined(starts)

    def init(self, x: Num[ArrayLike, "n D"]) -> "Parts":
        """Every part ready for its entries."""
        ready = []
        for name, part, u in self._named(x):
            with _told(name):
                ready.append(part.init(u))
        return Parts(self.structure.unflatten(ready), self.layout)

    def check(self, x: np.ndarray) -> None:
        """Refuse rows (n, D) with values out of the range of their part; NaN is left out."""
        for name, part, u in self._named(x):
            with _told(name):
                part.check_rows(u)

    def check_rows(self, x: np.ndarray) -> None:
        """The same."""
        self.check(x)

    def _each(self, outputs: Array) -> Iterator[tuple[AbstractLikelihood, Array]]:
        return zip(self.parts, self.outputs.parts(outputs), strict=True)

    def _named(self, x: ArrayLike) -> Iterator[tuple[str, AbstractLikelihood, np.ndarray]]:
        return zip(self.names, self.parts, self.layout.parts(np.asarray(x)), strict=True)


def as_likelihood(value: Any) -> Any:
    """A field converter: a tree of likelihoods becomes `Parts`."""
    one = isinstance(value, AbstractLikelihood) or jax.tree_util.all_leaves([value])
    return value if one else Parts(value)


def layout_of(likelihood: AbstractLikelihood) -> Layout | None:
    """Of the rows that it is for; None for those that are one array."""
    return likelihood.layout if isinstance(likelihood, Parts) else None


def _joined(parts: list[Array]) -> Array:
    return jnp.concatenate([jnp.ravel(part) for part in parts])


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Errors begin with the name of the part."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
