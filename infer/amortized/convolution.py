"""Small convolutional networks for images."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.amortized.networks import AbstractNetwork, MultilayerPerceptron, made_perceptron
from infer.core.checks import check_count
from infer.core.types import PRNGKey


class Convolution(eqx.Module):
    """Halves an image with every layer, then mixes what is left and all other inputs.

    Attributes:
        layers: 3 x 3 convolutions of stride 2.
        head: a perceptron of the last layer, raveled, and the other inputs.
        activation: between layers, entry by entry.
    """

    layers: tuple[eqx.nn.Conv2d, ...]
    head: MultilayerPerceptron
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, image: Array, *others: Array) -> Array:
        """The output for one row."""
        u = _channels_first(image)
        for layer in self.layers:
            u = self.activation(layer(u))
        return self.head(u, *others)


class Deconvolution(eqx.Module):
    """From a vector to a small image, doubled with every layer and cut to size.

    Attributes:
        head: a perceptron from the inputs to the small image.
        layers: 4 x 4 transposed convolutions of stride 2.
        start: what is added to the output, so that the layers begin at what is usual.
        activation: between layers, entry by entry.
        color: is the last axis of an image its color?
    """

    head: MultilayerPerceptron
    layers: tuple[eqx.nn.ConvTranspose2d, ...]
    start: Array
    activation: Callable[[Array], Array] = eqx.field(static=True)
    color: bool = eqx.field(static=True)

    def __call__(self, *inputs: Array) -> Array:
        """The output for one row."""
        u = self.head(*inputs)
        for layer in self.layers:
            u = layer(self.activation(u))
        height, width, channels = _canvas(self.start.shape, self.color)
        u = u[:channels, :height, :width]
        if self.color:  # (n c, h, w) to (n, h, w, c)
            u = jnp.moveaxis(u.reshape(-1, self.start.shape[-1], height, width), 1, -1)
        return self.start + u.reshape(self.start.shape)


class ConvEncoder(AbstractNetwork):
    """Convolutional encoders of images (H, W) or (H, W, C): `infer.ConvEncoder((16, 32))`.

    Args:
        channels: of the layers, each of which halves the image; >= 1 each.
        width: units of one hidden layer after them, >= 1.
        activation: a function of arrays, entry by entry; part of the program.
    """

    channels: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(16, 32))
    width: int = eqx.field(static=True, default=64)
    activation: Callable[[Array], Array] = eqx.field(static=True, default=jax.nn.gelu)

    def __check_init__(self) -> None:
        """Refuse what is no size."""
        _check("ConvEncoder", self.channels, self.width)

    def init(
        self, key: PRNGKey, inputs: tuple[Array, ...], start: Array, spread: float
    ) -> Convolution:
        """The first network."""
        key_head, *keys = jax.random.split(key, len(self.channels) + 1)
        if inputs[0].ndim not in (3, 4):
            raise ValueError(
                f"ConvEncoder needs images (H, W) or (H, W, C), got rows of shape "
                f"{inputs[0].shape[1:]}; write encoder=infer.MLP((64, 64))."
            )
        image = _channels_first(inputs[0][0])
        sizes = (image.shape[0], *self.channels)
        layers = tuple(
            eqx.nn.Conv2d(a, b, 3, 2, 1, key=k, dtype=image.dtype)
            for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        shape = image.shape
        for c in self.channels:
            shape = (c, -(-shape[1] // 2), -(-shape[2] // 2))
        features = jnp.zeros((inputs[0].shape[0], *shape), image.dtype)
        others = (features, *inputs[1:])
        head = made_perceptron(key_head, others, start, spread, (self.width,), self.activation)
        return Convolution(layers, head, self.activation)


class ConvDecoder(AbstractNetwork):
    """Convolutional decoders of images (H, W), or (H, W, C) with `color=True`.

    Args:
        channels: of the layers before each doubling of the image; >= 1 each.
        width: units of one hidden layer before them, >= 1.
        color: is the last axis of an image its color?
        activation: a function of arrays, entry by entry; part of the program.
    """

    channels: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(32, 16))
    width: int = eqx.field(static=True, default=64)
    color: bool = eqx.field(static=True, default=False)
    activation: Callable[[Array], Array] = eqx.field(static=True, default=jax.nn.gelu)

    def __check_init__(self) -> None:
        """Refuse what is no size."""
        _check("ConvDecoder", self.channels, self.width)

    def init(
        self, key: PRNGKey, inputs: tuple[Array, ...], start: Array, spread: float
    ) -> Deconvolution:
        """The first network."""
        key_head, *keys = jax.random.split(key, len(self.channels) + 1)
        start = start.astype(jnp.zeros(()).dtype)
        height, width, last = _canvas(start.shape, self.color)
        factor = 2 ** len(self.channels)
        small = (self.channels[0], -(-height // factor), -(-width // factor))
        head = made_perceptron(
            key_head, inputs, jnp.zeros(small, start.dtype), 1.0, (self.width,), self.activation
        )
        sizes = (*self.channels, last)
        layers = tuple(
            eqx.nn.ConvTranspose2d(a, b, 4, 2, padding=1, key=k, dtype=start.dtype)
            for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        return Deconvolution(head, layers, start, self.activation, self.color)


def _check(owner: str, channels: tuple[int, ...], width: int) -> None:
    if not channels:
        raise ValueError(f"{owner} needs channels for at least one layer; write (16, 32).")
    for count in channels:
        check_count(owner, "each of channels", count, 16)
    check_count(owner, "width", width, 64)


def _channels_first(image: Array) -> Array:
    image = image.astype(jnp.zeros(()).dtype)
    return image[None] if image.ndim == 2 else jnp.moveaxis(image, -1, 0)


def _canvas(shape: tuple[int, ...], color: bool) -> tuple[int, int, int]:
    """Height, width and number of planes of the output (h, w), (n, h, w) and the same in color."""
    plain = shape[:-1] if color else shape
    if len(plain) not in (2, 3) or (color and len(shape) < 3):
        raise ValueError(
            f"ConvDecoder(color={color}) needs images, got rows for which the decoder gives "
            f"{shape}; write decoder=infer.MLP((64, 64))."
        )
    return plain[-2], plain[-1], math.prod(shape) // (plain[-2] * plain[-1])
