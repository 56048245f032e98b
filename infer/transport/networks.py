"""Networks of a transport: a residual map of R^d, and the logarithm of a density ratio."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.posterior import AbstractDistribution, AbstractGenerator
from infer.core.types import Points, PRNGKey, Vector
from infer.flows.perceptron import Perceptron, perceptron


class Frame(eqx.Module):
    """Coordinates u = L^-1 (x - m) in which points have mean zero and covariance I.

    Attributes:
        mean: m.
        factor: L, lower triangular, L L^T the covariance.
    """

    mean: Vector
    factor: Float[Array, "d d"]

    def units(self, moves: Points) -> Points:
        """Differences of points, in units of the frame."""
        return jax.scipy.linalg.solve_triangular(self.factor, moves.T, lower=True).T

    def log_scale(self) -> Array:
        """The log determinant of L."""
        return jnp.sum(jnp.log(jnp.diag(self.factor)))


def frame_of(x: Points) -> Frame:
    """The frame of a set of points, by its mean and its covariance with 1 / n."""
    mean = jnp.mean(x, axis=0)
    sd = jnp.std(x, axis=0)
    unit = (x - mean) / sd
    correlation = jnp.matmul(unit.T, unit, precision=jax.lax.Precision.HIGHEST) / x.shape[0]
    # Rounding may leave a correlation of nearly one a little above it.
    jitter = 10 * jnp.finfo(x.dtype).eps * jnp.eye(x.shape[1], dtype=x.dtype)
    return Frame(mean, sd[:, None] * jnp.linalg.cholesky(correlation + jitter))


class ResidualMap(eqx.Module):
    """T(x) = x + L (b + A u + f(u)) with u = L^-1 (x - m): affine part and a perceptron f.

    The frame (m, L) is that of the points which the map was made for, so that the same network
    serves whatever their units.
    """

    frame: Frame
    affine: eqx.nn.Linear
    bend: Perceptron

    def __call__(self, x: Points) -> Points:
        """The images of points."""
        u = self.frame.units(x - self.frame.mean)
        moved = jax.vmap(self.affine)(u) + jax.vmap(self.bend)(u)
        return x + moved @ self.frame.factor.T


def identity_map(key: PRNGKey, frame: Frame, width: int, depth: int) -> ResidualMap:
    """A residual map that moves nothing yet, its hidden layers drawn at random."""
    d = frame.mean.shape[0]
    affine = jax.tree.map(jnp.zeros_like, eqx.nn.Linear(d, d, key=key))
    return ResidualMap(frame, affine, perceptron(key, d, d, width, depth))


class Pushforward(AbstractGenerator):
    """Draws of `base`, moved by one map after another; no density.

    Attributes:
        base: where draws begin.
        maps: residual maps, stacked along a leading axis; those not yet fitted are the identity.
    """

    base: AbstractDistribution
    maps: ResidualMap

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws; cost O(width^2 depth) per draw and map."""
        return _through(self.maps, self.base.sample(key, n))


@eqx.filter_jit
def _through(maps: ResidualMap, x: Points) -> Points:
    return jax.lax.scan(lambda x, one: (one(x), None), x, maps)[0]
