"""The Kullback-Leibler divergence of the posteriors from the prior, in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import nonnegative, optional_nonnegative
from infer.core.linalg import Covariance
from infer.core.types import PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.flows import KINGMA_2016
from infer.references.rows import HIGGINS_2017
from infer.regularizers.regularizer import (
    AbstractRegularizer,
    Batch,
    check_diagonal,
    gaussian_posterior,
    gaussian_prior,
    is_diagonal,
    lower_root,
)


@cites(KINGMA_2016, HIGGINS_2017)
class KL(AbstractRegularizer):
    """Mean divergence of Gaussian posteriors from a Gaussian prior, per row, with free bits.

        (1/B) sum_b KL(q_b || p),   KL(q || p) = (|A|_F^2 + |a|^2 - d) / 2 - sum_j log A_jj

    with A = C^-1 L and a = C^-1 (mean_q - mean_p) for the lower triangular roots L of the
    covariance of q and C of that of p. Where both are diagonal, free bits leave a coordinate alone
    while it carries less information than they say, so that it is not switched off early:

        sum_j max(free_bits, (1/B) sum_b KL_j(q_b || p))

    Exact, so without the noise of a term log q - log p; add it to a loss that holds no divergence
    yet. Cost O(B d), with full covariances O(B d^3); these are squared on the way, so that
    single precision needs condition numbers of the roots below 1000.

    Args:
        weight: >= 0; another number than 1 makes a beta-VAE.
        free_bits: nats per coordinate that cost nothing more, >= 0; None has none.

    Raises:
        TypeError: where posteriors or prior are not Gaussian, or not diagonal with free bits.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improving variational
    inference with inverse autoregressive flow, NeurIPS 2016 (free bits); Higgins et al.,
    beta-VAE, ICLR 2017 (weights).
    """

    weight: Scalar = eqx.field(converter=nonnegative("weight", 1.0), default=1.0)
    free_bits: Scalar | None = eqx.field(
        converter=optional_nonnegative("free_bits", 0.1), default=None
    )

    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The mean divergence, or the sum over coordinates of those above their free bits."""
        mean, covariance = gaussian_posterior("KL", batch)
        center, spread = gaussian_prior("KL", batch)
        if self.free_bits is not None:
            check_diagonal("KL with free_bits", "posteriors", covariance)
            check_diagonal("KL with free_bits", "a prior", spread)
        if is_diagonal(covariance) and is_diagonal(spread):
            each = diagonal_kl(mean - center, covariance.diagonal, spread.diagonal).mean(axis=0)
            if self.free_bits is not None:
                each = jnp.maximum(each, self.free_bits.astype(each.dtype))
            return jnp.sum(each)

        c = lower_root(spread)

        def divergence(shift: Vector, covariance: Covariance) -> Scalar:
            a = jax.scipy.linalg.solve_triangular(c, lower_root(covariance), lower=True)
            b = jax.scipy.linalg.solve_triangular(c, shift, lower=True)
            log_det = jnp.sum(jnp.log(jnp.diagonal(a)))
            return 0.5 * (jnp.sum(a**2) + jnp.sum(b**2) - len(shift)) - log_det

        return jnp.mean(jax.vmap(divergence)(mean - center, covariance))


def diagonal_kl(
    shift: Float[Array, "*B d"], variance: Float[Array, "*B d"], prior_variance: Vector
) -> Float[Array, "*B d"]:
    """KL of one-dimensional Gaussians, (s^2/p^2 - 1 - log s^2/p^2 + shift^2/p^2) / 2."""
    log_ratio = jnp.log(variance / prior_variance)
    return 0.5 * (jnp.expm1(log_ratio) - log_ratio + shift**2 / prior_variance)
