"""Shifts and scales set from the points that reach them."""

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.types import Points
from infer.flows.layer import AbstractLayer, Chain, Stack
from infer.flows.linear import Elementwise
from infer.references.citation import cites
from infer.references.flows import KINGMA_2018


@cites(KINGMA_2018)
def standardized(layer: AbstractLayer, points: Points) -> AbstractLayer:
    """The layer with every `Elementwise` set so that its outputs have mean 0 and deviation 1.

    In a chain or a stack, also nested, points go through one layer after another, each set before
    the next sees them:

        shift_i = -mean_i / sd_i,   log_scale_i = -log sd_i

    Other layers stay as they are. A coordinate that does not vary keeps the scale 1. Deviations
    divide by n. Cost: `forward` at every point.

    Args:
        layer: an `Elementwise`, or a `Chain` or `Stack` with such layers in it.
        points: what enters it, noise of a flow: shape (n, d), n >= 2.

    Raises:
        ValueError: for fewer than two points, or if there is no `Elementwise` to set.

    Source: Kingma and Dhariwal, Glow: generative flow with invertible 1x1 convolutions, NeurIPS
    2018 (actnorm).
    """
    if len(points) < 2:
        raise ValueError(
            f"standardized needs points of shape (n, d) with n >= 2, got {points.shape}; write "
            "points=jax.random.normal(key, (1000, d))."
        )
    if not _settable(layer):
        raise ValueError(
            "standardized needs an Elementwise in the layer, got "
            f"{type(layer).__name__} without one; write Chain((layer, Elementwise(zero, zero)))."
        )
    return _through(layer, points)[0]


def _settable(layer: AbstractLayer) -> bool:
    match layer:
        case Elementwise():
            return True
        case Chain(layers=layers):
            return any(_settable(inner) for inner in layers)
        case Stack(layer=inner):
            return _settable(inner)
    return False


def _through(layer: AbstractLayer, points: Points) -> tuple[AbstractLayer, Points]:
    """The layer with its shifts and scales set, and what it makes of the points."""
    match layer:
        case Elementwise():
            sd = jnp.std(points, axis=0)
            sd = jnp.where(sd > 0, sd, 1)
            layer = Elementwise(-jnp.mean(points, axis=0) / sd, -jnp.log(sd))
        case Chain(layers=layers):
            done = []
            for inner in layers:
                inner, points = _through(inner, points)
                done.append(inner)
            return Chain(tuple(done)), points
        case Stack(layer=inner):
            arrays, rest = eqx.partition(inner, eqx.is_array)

            def one(points: Points, arrays: AbstractLayer) -> tuple[Points, AbstractLayer]:
                done, points = _through(eqx.combine(arrays, rest), points)
                return points, eqx.filter(done, eqx.is_array)

            points, arrays = jax.lax.scan(one, points, arrays)
            return Stack(eqx.combine(arrays, rest)), points
    return layer, jax.vmap(layer.forward)(points)[0]
