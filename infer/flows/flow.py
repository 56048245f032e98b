"""The distribution that a flow makes of standard normal noise."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.flows.coupling import AbstractTransform, coupling
from infer.flows.layer import AbstractLayer, Chain, Stack
from infer.flows.linear import Elementwise, Reverse, triangular

LOG_2PI = 1.8378770664093453


class Flow(AbstractDistribution):
    """x = place(body(z)) with z ~ N(0, I): a shape, and where and how wide it is.

    log q(x) = log N(z; 0, I) - log |det dx/dz|; the score of a draw is carried through the layers
    with it, see `AbstractLayer`.

    Attributes:
        body: the layers, around the origin and on the scale of one.
        place: shift and scale per coordinate, applied last.
    """

    body: AbstractLayer
    place: Elementwise

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws with log density and score from one pass through the layers."""

        def one(z: Vector) -> tuple[Vector, Scalar, Vector]:
            y, first, score = self.body.push(z, -z)
            x, second, score = self.place.push(y, score)
            return x, _standard(z) - first - second, score

        x, log_q, score = jax.vmap(one)(self._noise(key, n))
        return Draws(x, log_q, score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""

        def one(z: Vector) -> Vector:
            return self.place.forward(self.body.forward(z)[0])[0]

        return jax.vmap(one)(self._noise(key, n))

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point, by the inverse of every layer."""
        y, last = self.place.inverse(x)
        z, rest = self.body.inverse(y)
        return _standard(z) + last + rest

    def moments(self) -> None:
        """Not known from the parameters."""
        return None

    def _noise(self, key: PRNGKey, n: int) -> Points:
        like = self.place.shift
        return jax.random.normal(key, (n, like.shape[0]), like.dtype)


def _standard(z: Vector) -> Scalar:
    return -0.5 * jnp.sum(z**2) - 0.5 * z.shape[0] * LOG_2PI


def coupling_flow(
    key: PRNGKey,
    start: Vector,
    scale: Scalar,
    transform: AbstractTransform,
    n_layers: int,
    width: int,
    depth: int,
    linear: bool,
) -> Flow:
    """N(start, scale^2 I) as a flow of couplings, each followed by a reversal.

    With `linear` a triangular layer goes before each coupling.
    """

    def layer(key: PRNGKey) -> AbstractLayer:
        couple = coupling(key, start, transform, width, depth)
        mixed = (triangular(start),) if linear else ()
        return Chain((*mixed, couple, Reverse()))

    return stacked_flow(key, start, scale, layer, n_layers)


def stacked_flow(
    key: PRNGKey,
    start: Vector,
    scale: Scalar,
    layer: Callable[[PRNGKey], AbstractLayer],
    n_layers: int,
) -> Flow:
    """Layers made by `layer` of keys, around `start`; N(start, scale^2 I) if identities."""
    body = Stack(eqx.filter_vmap(layer)(jax.random.split(key, n_layers)))
    return Flow(body, Elementwise(start, jnp.full_like(start, jnp.log(scale))))
