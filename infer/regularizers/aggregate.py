"""The divergence of one Gaussian, matched to all posteriors of a batch, from the prior."""

import equinox as eqx
import jax.numpy as jnp

from infer.core.checks import nonnegative
from infer.core.types import PRNGKey, Scalar
from infer.references.citation import cites
from infer.references.rows import RIVERA_2024
from infer.regularizers.kl import diagonal_kl
from infer.regularizers.regularizer import (
    AbstractRegularizer,
    Batch,
    check_diagonal,
    gaussian_prior,
    posterior_moments,
)


@cites(RIVERA_2024)
class AggregateGaussianKL(AbstractRegularizer):
    """Divergence of the Gaussian of all posteriors together from the prior, with a barrier.

        sum_j KL( N(m_j, v_j) || p_j )  +  barrier * (1/B) sum_b sum_j (r_bj - 1 - log r_bj) / 2

    with m_j = mean_b mean_bj, v_j = var_b mean_bj (+ mean_b s_bj^2 with the spread: the variance
    of the aggregate posterior) and r_bj = s_bj^2 / p_j^2 for standard deviations s of the
    posteriors and p of the prior. The posteriors together are to look like the prior, no single one
    of them; the barrier alone keeps each from collapsing to a point. In nats per row; cost O(B d).

    A variance over a batch has a relative error of (2 / B)^1/2 and divergences are biased upwards
    by about 1 / B per coordinate, so B should be large beside d. A coordinate that is constant over
    the batch counts as one of the variance of a rounding error, so that the logarithm is finite.

    Args:
        weight: >= 0.
        barrier: weight of the barrier beside the divergence, >= 0.
        with_spread: whether v counts the variances of the posteriors; the source leaves them out.

    Raises:
        TypeError: where posteriors do not know their moments, or the prior is no diagonal Gaussian.
        ValueError: for a single row without the spread, whose variance would be zero.

    Source: Rivera, How to train your VAE, ICIP 2024.
    """

    weight: Scalar = eqx.field(converter=nonnegative("weight", 1.0), default=1.0)
    barrier: Scalar = eqx.field(converter=nonnegative("barrier", 0.2), default=0.2)
    with_spread: bool = eqx.field(static=True, default=True)

    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The divergence and the barrier."""
        mean, covariance = posterior_moments("AggregateGaussianKL", batch)
        center, spread = gaussian_prior("AggregateGaussianKL", batch)
        check_diagonal("AggregateGaussianKL", "a prior", spread)
        if len(mean) < 2 and not self.with_spread:
            raise ValueError(
                "AggregateGaussianKL needs two rows or more in a batch, got 1, whose mean has no "
                "variance; write batch_size=128, or with_spread=True."
            )
        variances = eqx.filter_vmap(lambda c: c.sd() ** 2)(covariance)
        v = jnp.var(mean, axis=0)
        v = v + variances.mean(axis=0) if self.with_spread else v
        floor = jnp.finfo(v.dtype).eps * spread.diagonal
        population = jnp.sum(diagonal_kl(mean.mean(axis=0) - center, v + floor, spread.diagonal))
        wall = diagonal_kl(jnp.zeros_like(mean), variances, spread.diagonal)
        return population + self.barrier.astype(v.dtype) * jnp.mean(jnp.sum(wall, axis=1))
