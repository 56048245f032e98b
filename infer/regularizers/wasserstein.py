"""The Wasserstein distance of the posteriors from the prior, in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.checks import nonnegative
from infer.core.linalg import Covariance
from infer.core.types import PRNGKey, Scalar
from infer.references.citation import cites
from infer.references.rows import DOWSON_1982, JANJOS_2023
from infer.regularizers.regularizer import (
    AbstractRegularizer,
    Batch,
    gaussian_posterior,
    gaussian_prior,
    is_diagonal,
    lower_root,
)


@cites(JANJOS_2023, DOWSON_1982)
class W2ToPrior(AbstractRegularizer):
    """Mean squared 2-Wasserstein distance of Gaussian posteriors from a Gaussian prior, per row.

        r = (1/B) sum_b [ |mean_b - mean_p|^2 + |L_b|_F^2 + |C|_F^2 - 2 |L_b^T C|_* ]

    for roots L L^T of the covariances of the posteriors and C C^T of that of the prior; |.|_* is
    the sum of the singular values. With a prior N(0, I) and diagonal posteriors this is
    |mean|^2 + |L - I|_F^2, which pulls a spread towards 1 without the wall that the divergence has
    at zero. For a full covariance |L - I|_F^2 of a triangular L would be an upper bound only.

    Cost O(B d), with full covariances O(B d^3) for singular values.

    Args:
        weight: >= 0.

    Raises:
        TypeError: where posteriors or prior are not Gaussian.

    Source: Janjos, Rosenbaum, Dolgov and Zollner, Unscented autoencoder, ICML 2023; Dowson and
    Landau, The Frechet distance between multivariate normal distributions, JMVA 12, 1982.
    """

    weight: Scalar = eqx.field(converter=nonnegative("weight", 1.0), default=1.0)

    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The mean squared distance."""
        mean, covariance = gaussian_posterior("W2ToPrior", batch)
        center, spread = gaussian_prior("W2ToPrior", batch)
        moved = jnp.mean(jnp.sum((mean - center) ** 2, axis=1))
        if is_diagonal(covariance) and is_diagonal(spread):
            gap = jnp.sqrt(covariance.diagonal) - jnp.sqrt(spread.diagonal)
            return moved + jnp.mean(jnp.sum(gap**2, axis=1))

        c = lower_root(spread)

        def bent(covariance: Covariance) -> Scalar:
            root = lower_root(covariance)
            overlap = jnp.sum(jnp.linalg.svd(root.T @ c, compute_uv=False))
            return jnp.sum(root**2) + jnp.sum(c**2) - 2 * overlap

        return moved + jnp.mean(jax.vmap(bent)(covariance))
