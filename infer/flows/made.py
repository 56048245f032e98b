"""A network whose output i sees inputs before i alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from infer.core.types import PRNGKey, Vector
from infer.flows.coupling import Settings
from infer.flows.perceptron import perceptron
from infer.references.citation import cites
from infer.references.flows import GERMAIN_2015


@cites(GERMAIN_2015)
class MaskedPerceptron(eqx.Module):
    """n numbers for each i < d that depend on x_0, ..., x_{i-1}; hidden layers of tanh.

    Unit k of a hidden layer of m units has the degree ceil((k + 1) (d - 1) / m) - 1, from 0 to
    d - 2, and sees what has this degree or less; input i has the degree i, and what comes out for
    i sees lower degrees alone. Weights in between are there and never read. If a hidden layer has
    fewer than d - 1 units, some i see not all of the inputs before them.

    Degrees follow from the shapes, so the leaves are weights and biases and nothing else. What
    comes out is a bias and a mean over the units that it sees: a step of Adam moves it about as
    far as one parameter.

    Source: Germain, Gregor, Murray and Larochelle, MADE: masked autoencoder for distribution
    estimation, ICML 2015.

    Attributes:
        layers: linear maps, the first of d inputs, the last of d n outputs, i by i.
    """

    layers: tuple[eqx.nn.Linear, ...]

    def __call__(self, x: Vector) -> Settings:
        """The n numbers of each i."""
        d = x.shape[0]
        u, degrees = x, np.arange(d)
        for layer in self.layers[:-1]:
            below, degrees = degrees, _degrees(d, layer.weight.shape[0])
            u = jnp.tanh(_masked(layer, degrees, below)(u))
        n = self.layers[-1].weight.shape[0] // d
        out = np.arange(d).repeat(n) - 1  # "less than i" is "i - 1 or less"
        seen = np.maximum(np.searchsorted(degrees, out, side="right"), 1)
        last = _masked(self.layers[-1], out, degrees)
        mean = eqx.tree_at(lambda a: a.weight, last, last.weight / seen[:, None])
        return mean(u).reshape(d, n)


def _degrees(d: int, units: int) -> np.ndarray:
    return -(-np.arange(1, units + 1) * (d - 1) // units) - 1


def _masked(layer: eqx.nn.Linear, above: np.ndarray, below: np.ndarray) -> eqx.nn.Linear:
    """The layer without the weights from what has a higher degree."""
    seen = jnp.asarray(above)[:, None] >= jnp.asarray(below)
    return eqx.tree_at(lambda a: a.weight, layer, jnp.where(seen, layer.weight, 0))


def masked_perceptron(
    key: PRNGKey, like: Vector, n: int, width: int, depth: int
) -> MaskedPerceptron:
    """One with `depth` hidden layers, for vectors like this one, that is zero to begin with."""
    network = perceptron(key, len(like), len(like) * n, width, depth)
    return MaskedPerceptron(jax.tree.map(lambda leaf: leaf.astype(like.dtype), network.layers))
