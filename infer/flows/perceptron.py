"""The network inside flows and transports."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import PRNGKey, Vector


class Perceptron(eqx.Module):
    """A network with hidden layers of tanh. Its leaves are arrays alone."""

    layers: tuple[eqx.nn.Linear, ...]

    def __call__(self, u: Vector) -> Float[Array, " out"]:
        """The output at one point."""
        for layer in self.layers[:-1]:
            u = jnp.tanh(layer(u))
        return self.layers[-1](u)


def perceptron(key: PRNGKey, size: int, out: int, width: int, depth: int) -> Perceptron:
    """A perceptron R^size -> R^out with `depth` hidden layers that is zero to begin with."""
    sizes = (size, *(width,) * depth, out)
    keys = jax.random.split(key, depth + 1)
    layers = [
        eqx.nn.Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
    ]
    layers[-1] = jax.tree.map(jnp.zeros_like, layers[-1])
    return Perceptron(tuple(layers))
