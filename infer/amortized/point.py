"""Autoencoders without a posterior: a point for every row."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from infer.amortized.heads import AbstractHead, AbstractPosterior, Outputs
from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.rows import TOLSTIKHIN_2018


class PointDistribution(AbstractDistribution):
    """All mass at one point: draws without spread and without a density, of which log q is 0."""

    mean: Vector

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """The point, n times."""
        x = jnp.broadcast_to(self.mean, (n, *self.mean.shape))
        return Draws(x, jnp.zeros(n, x.dtype), jnp.zeros_like(x), independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """The point, n times."""
        return self.sample_score(key, n).x

    def log_prob(self, x: Vector) -> Scalar:
        """0: there is no density."""
        return jnp.zeros((), x.dtype)

    def moments(self) -> tuple[Vector, Covariance]:
        """The point, and no covariance."""
        none = jnp.zeros((self.mean.shape[0], 0), self.mean.dtype)
        return self.mean, Covariance(jnp.zeros_like(self.mean), none)


class PointHead(AbstractHead):
    """The outputs of the encoder are the point."""

    dim: int = eqx.field(static=True)
    has_density: ClassVar[bool] = False

    @property
    def n_outputs(self) -> int:
        """One per latent variable."""
        return self.dim

    def __call__(self, outputs: Outputs) -> PointDistribution:
        """The point of a row."""
        return PointDistribution(outputs)


@cites(TOLSTIKHIN_2018)
class Point(AbstractPosterior):
    """A point z(x) for every row instead of a posterior: an autoencoder.

    With `beta=0` the objective is the reconstruction alone, and regularizers say what codes should
    look like together: `regularizers.MMD` makes a Wasserstein autoencoder, `SlicedWasserstein` the
    sliced one. With `beta=1` codes are drawn to the mode of the prior. Nothing is claimed about the
    posterior of a row, so there is no evidence either; a prior fitted to the codes afterwards
    (`result.with_prior`) makes it generate.

    Source: Tolstikhin et al., Wasserstein auto-encoders, ICLR 2018.
    """

    @property
    def independent(self) -> bool:
        """True."""
        return True

    def head(self, key: PRNGKey, latent: int) -> PointHead:
        """The head of points."""
        return PointHead(dim=latent)
