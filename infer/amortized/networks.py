"""Networks of an amortized model: ours, made to measure, and anybody's, as they are."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.amortized.parts import Frozen
from infer.amortized.viewed import NO_TREES, Viewed, Views
from infer.core.checks import check_count
from infer.core.types import PRNGKey


class AbstractNetwork(eqx.Module):
    """A shape of network; makes the network once it is known what goes in and what must come out.

    A network is called with the arrays of one row (encoder: x, then mask and condition where there
    are any; decoder: z, then the condition) and gives one array.

    Attributes:
        flat: whether it takes and gives vectors where rows have several parts, and no trees.
    """

    flat: ClassVar[bool] = True

    @abstractmethod
    def init(
        self, key: PRNGKey, inputs: tuple[Array, ...], start: Array, spread: float
    ) -> Callable[..., Array]:
        """The first network.

        Args:
            key: of the random weights.
            inputs: arrays that it will be called with, with a leading axis of examples.
            start: what it gives to begin with, on average; its shape is that of the output.
            spread: scale of the last weights, relative to the usual one.
        """


class MultilayerPerceptron(eqx.Module):
    """Layers W_l phi(... phi(W_1 u + b_1) ...) + b_l of u = (inputs - mean) / scale, end to end.

    Attributes:
        mean, scale: of the training rows, per entry of the raveled inputs; not trained.
        layers: affine maps.
        activation: phi, entry by entry.
        shape: of the output.
    """

    mean: Frozen
    scale: Frozen
    layers: tuple[eqx.nn.Linear, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, *inputs: Array) -> Array:
        """The output for one row."""
        u = (_raveled(inputs) - self.mean.value) / self.scale.value
        for layer in self.layers[:-1]:
            u = self.activation(_affine(layer, u))
        return _affine(self.layers[-1], u).reshape(self.shape)


class MLP(AbstractNetwork):
    """Multilayer perceptrons of inputs raveled and joined: `infer.MLP((64, 64))`.

    Inputs are brought to mean 0 and standard deviation 1 of the training rows, so their units do
    not matter. Weights are uniform on +-1/sqrt(inputs of the layer), the last layer starts at what
    it should give on average. Cost per row: the product of widths of neighboring layers, summed.

    Args:
        widths: units of the hidden layers, each >= 1; () makes an affine map.
        activation: a function of arrays, entry by entry; part of the program, so give it a name
            outside of loops.
    """

    widths: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(64, 64))
    activation: Callable[[Array], Array] = eqx.field(static=True, default=jnp.tanh)

    def __check_init__(self) -> None:
        """Refuse what is no width."""
        for width in self.widths:
            check_count("MLP", "each of widths", width, 64)
        if not callable(self.activation):
            raise TypeError(
                f"MLP needs activation as a function, got {self.activation!r}; write jax.nn.silu."
            )

    def init(
        self, key: PRNGKey, inputs: tuple[Array, ...], start: Array, spread: float
    ) -> MultilayerPerceptron:
        """The first network."""
        return made_perceptron(key, inputs, start, spread, self.widths, self.activation)


def made_perceptron(
    key: PRNGKey,
    inputs: tuple[Array, ...],
    start: Array,
    spread: float,
    widths: tuple[int, ...],
    activation: Callable[[Array], Array],
) -> MultilayerPerceptron:
    """A perceptron for inputs like these, that begins around `start`."""
    dtype = jnp.zeros(()).dtype
    rows = jax.vmap(lambda *row: _raveled(row))(*inputs)
    sd = jnp.std(rows, axis=0)
    sizes = (rows.shape[1], *widths, math.prod(start.shape))
    keys = jax.random.split(key, len(sizes) - 1)
    layers = [
        eqx.nn.Linear(a, b, key=k, dtype=dtype)
        for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
    ]
    layers[-1] = eqx.tree_at(
        lambda layer: (layer.weight, layer.bias),
        layers[-1],
        (spread * layers[-1].weight, start.reshape(-1).astype(dtype)),
    )
    mean, scale = Frozen(jnp.mean(rows, axis=0)), Frozen(jnp.where(sd > 1e-6, sd, 1))
    return MultilayerPerceptron(mean, scale, tuple(layers), activation, start.shape)


def _affine(layer: eqx.nn.Linear, u: Array) -> Array:
    # W @ u over rows and draws puts units in front, and XLA then copies them back in every layer.
    assert layer.bias is not None
    return u @ layer.weight.T + layer.bias


def _raveled(inputs: tuple[Array, ...]) -> Array:
    dtype = jnp.zeros(()).dtype
    return jnp.concatenate([jnp.ravel(part).astype(dtype) for part in inputs])


class Plugged(eqx.Module):
    """Anybody's callable pytree, its arrays apart from everything else.

    Attributes:
        arrays: its array leaves.
        rest: its other leaves, None in the places of arrays.
        structure: of the whole.
    """

    arrays: tuple[Any, ...]
    rest: tuple[Any, ...] = eqx.field(static=True)
    structure: Any = eqx.field(static=True)

    def __call__(self, *inputs: Any) -> Any:
        """What the network gives for one row."""
        leaves = [r if a is None else a for a, r in zip(self.arrays, self.rest, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)(*inputs)


def plugged(network: Callable[..., Array]) -> Plugged:
    """A callable pytree as a network whose leaves are arrays alone."""
    leaves, structure = jax.tree.flatten(network)
    arrays = tuple(leaf if eqx.is_array(leaf) else None for leaf in leaves)
    rest = tuple(None if eqx.is_array(leaf) else leaf for leaf in leaves)
    return Plugged(arrays, rest, structure)


def network_of(
    given: AbstractNetwork | Callable[..., Array],
    key: PRNGKey,
    inputs: tuple[Array, ...],
    start: Array,
    spread: float,
    views: Views = NO_TREES,
) -> Callable[..., Array]:
    """The network itself: made to measure, or the user's as it is, which sees trees."""
    if not isinstance(given, AbstractNetwork):
        network = plugged(given)
    elif given.flat:
        return given.init(key, inputs, start, spread)
    else:
        network = given.init(key, views.trees(inputs), start, spread)
    return network if views.plain else Viewed(network, views)
