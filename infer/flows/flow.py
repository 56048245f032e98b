"""The distribution that a flow makes of standard normal noise."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.linalg import standard_log_prob
from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.flows.coupling import AbstractTransform, coupling
from infer.flows.layer import AbstractLayer, Chain, Stack
from infer.flows.linear import Elementwise, Reverse, Triangular, triangular


class Flow(AbstractDistribution):
    """x = place(body(z)) with z ~ N(0, I): a shape, and where, how wide and how tilted it is.

    log q(x) = log N(z; 0, I) - log |det dx/dz|; the score of a draw is carried through the layers
    with it, see `AbstractLayer`.

    Attributes:
        body: the layers, around the origin and on the scale of one.
        place: shift and scale per coordinate, or shift and triangular factors; applied last.
    """

    body: AbstractLayer
    place: Elementwise | Triangular

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws with log density and score from one pass through the layers."""

        def one(z: Vector) -> tuple[Vector, Scalar, Vector]:
            y, first, score = self.body.push(z, -z)
            x, second, score = self.place.push(y, score)
            return x, standard_log_prob(z) - first - second, score

        x, log_q, score = jax.vmap(one)(self._noise(key, n))
        return Draws(x, log_q, score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return jax.vmap(self._image)(self._noise(key, n))

    def attached(self, x: Points) -> Points:
        """The images of the noise of x."""

        def one(x: Vector) -> Vector:
            y, _ = self.place.inverse(x)
            return self._image(jax.lax.stop_gradient(self.body.inverse(y)[0]))

        return jax.vmap(one)(x)

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point, by the inverse of every layer."""
        y, last = self.place.inverse(x)
        z, rest = self.body.inverse(y)
        return standard_log_prob(z) + last + rest

    def moments(self) -> None:
        """Not known from the parameters."""
        return None

    def _image(self, z: Vector) -> Vector:
        return self.place.forward(self.body.forward(z)[0])[0]

    def _noise(self, key: PRNGKey, n: int) -> Points:
        like = self.place.shift
        return jax.random.normal(key, (n, like.shape[0]), like.dtype)


def placed(
    start: Vector, scale: Scalar, base: AbstractDistribution | None
) -> Elementwise | Triangular:
    """The last layer of N(start, scale^2 I), or of a Gaussian with the moments of `base`."""
    if base is None:
        return Elementwise(start, jnp.full_like(start, jnp.log(scale)))
    moments = base.moments()
    assert moments is not None
    mean, covariance = (jax.tree.map(lambda v: v.astype(start.dtype), part) for part in moments)
    if mean.shape != start.shape:
        raise ValueError(
            f"the base of a flow has {mean.shape[0]} coordinates, the target {start.shape[0]}; fit "
            "both to the same target."
        )
    if covariance.factor.shape[1] == 0:
        return Elementwise(mean, 0.5 * jnp.log(covariance.diagonal))
    factor = jnp.linalg.cholesky(covariance.dense())
    diagonal = jnp.diagonal(factor)
    return Triangular(factor / diagonal, jnp.log(diagonal), mean)


def check_base(owner: str, base: Any) -> None:
    """Refuse what has no moments to begin from."""
    if base is None:
        return
    if not isinstance(base, AbstractDistribution) or base.moments() is None:
        raise TypeError(
            f"{owner} needs base= as a distribution with mean and covariance, got "
            f"{type(base).__name__}; write base=infer.fit(target, infer.Laplace(), "
            "key=0).posterior."
        )


def coupling_flow(
    key: PRNGKey,
    place: Elementwise | Triangular,
    transform: AbstractTransform,
    n_layers: int,
    width: int,
    depth: int,
    linear: bool,
) -> Flow:
    """The Gaussian that `place` makes, as a flow of couplings, each followed by a reversal.

    With `linear` a triangular layer goes before each coupling.
    """

    def layer(key: PRNGKey) -> AbstractLayer:
        couple = coupling(key, place.shift, transform, width, depth)
        mixed = (triangular(place.shift),) if linear else ()
        return Chain((*mixed, couple, Reverse()))

    return stacked_flow(key, place, layer, n_layers)


def stacked_flow(
    key: PRNGKey,
    place: Elementwise | Triangular,
    layer: Callable[[PRNGKey], AbstractLayer],
    n_layers: int,
) -> Flow:
    """Layers made by `layer` of keys, then `place`; the Gaussian of `place` if identities."""
    body = Stack(eqx.filter_vmap(layer)(jax.random.split(key, n_layers)))
    return Flow(body, place)
