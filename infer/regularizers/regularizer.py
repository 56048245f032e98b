"""What a regularizer is, and what it sees of a step."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution
from infer.core.types import Count, Points, PRNGKey, Scalar, Vector


class Batch(eqx.Module):
    """B rows of data with their posteriors q(z | x_b) and K draws of each.

    Attributes:
        x: the rows, a pytree whose leaves have a leading axis B.
        z: draws of the posteriors, attached to their parameters.
        q: the posteriors, one distribution whose array leaves have a leading axis B.
        prior: the distribution of z before anything was seen; not stacked.
        t: number of steps taken.
        size: number N of rows in the whole data set, >= B.
        model: encoder, posterior, prior, decoder and likelihood together, attached.
        condition: what is given of the rows and not modelled, with a leading axis B, or None.
        masked: was part of the rows not observed?
    """

    x: Any
    z: Float[Array, "B K d"]
    q: AbstractDistribution
    prior: AbstractDistribution
    t: Count = eqx.field(converter=lambda count: jnp.asarray(count, int))
    size: Count = eqx.field(converter=lambda count: jnp.asarray(count, int))
    model: Any = None
    condition: Any = None
    masked: bool = eqx.field(static=True, default=False)


class AbstractRegularizer(eqx.Module):
    """A penalty on a batch of latent draws: loss + weight * penalty(key, batch).

    Attributes:
        weight: factor of the penalty, >= 0.
    """

    weight: eqx.AbstractVar[Scalar]

    @abstractmethod
    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The penalty without its weight, in the same unit whatever the number of rows."""

    def __call__(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The penalty times its weight."""
        penalty = self.penalty(key, batch)
        return self.weight.astype(penalty.dtype) * penalty


def posterior_moments(owner: str, batch: Batch) -> tuple[Points, Covariance]:
    """Means (B, d) and stacked covariances of the posteriors; refused where they are unknown."""
    moments = eqx.filter_vmap(lambda q: q.moments())(batch.q)
    if moments is None:
        raise TypeError(
            f"{owner} needs posteriors that know their mean and covariance, got "
            f"{type(batch.q).__name__}; take a Gaussian, or regularizers.MMD(), which needs draws."
        )
    return moments


def gaussian_posterior(owner: str, batch: Batch) -> tuple[Points, Covariance]:
    """The moments of posteriors that have to be Gaussian."""
    _check_gaussian(owner, "Gaussian posteriors", batch.q)
    return posterior_moments(owner, batch)


def gaussian_prior(owner: str, batch: Batch) -> tuple[Vector, Covariance]:
    """The moments of a prior that has to be Gaussian."""
    _check_gaussian(owner, "a Gaussian prior", batch.prior)
    moments = batch.prior.moments()
    assert moments is not None  # of a Gaussian
    return moments


def is_diagonal(covariance: Covariance) -> bool:
    """Whether it is diagonal by its form, whatever the numbers in it."""
    return covariance.factor.shape[-1] == 0


def check_diagonal(owner: str, what: str, covariance: Covariance) -> None:
    """Refuse a covariance that is not diagonal by its form."""
    if not is_diagonal(covariance):
        raise TypeError(
            f"{owner} needs {what} with a diagonal covariance, since it looks at one coordinate "
            "at a time, got a full one; take a diagonal Gaussian."
        )


def lower_root(covariance: Covariance) -> Float[Array, "d d"]:
    """The lower triangular root L of a covariance L L^T; O(d^3)."""
    if is_diagonal(covariance):
        return jnp.diag(jnp.sqrt(covariance.diagonal))
    return jnp.linalg.cholesky(covariance.dense())


def _check_gaussian(owner: str, what: str, q: AbstractDistribution) -> None:
    if not q.is_gaussian:
        raise TypeError(
            f"{owner} needs {what}, since its formula is that of Gaussians, got "
            f"{type(q).__name__}; take a Gaussian, or regularizers.MMD(), which needs draws alone."
        )
