"""The sliced Wasserstein distance of the latent draws from the prior."""

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.checks import check_count, nonnegative
from infer.core.types import PRNGKey, Scalar
from infer.references.citation import cites
from infer.references.rows import KOLOURI_2019
from infer.regularizers.regularizer import AbstractRegularizer, Batch


@cites(KOLOURI_2019)
class SlicedWasserstein(AbstractRegularizer):
    """Squared sliced 2-Wasserstein distance between the latent draws and as many of the prior.

        (1 / P n) sum_p sum_i ( sort(theta_p . z)_i - sort(theta_p . y)_i )^2,   y ~ prior

    over n = B K draws and P directions, uniform on the sphere and new at every step. Needs draws
    alone, so posteriors may be points and the prior anything that can be drawn. For N(m, s^2 I)
    against N(0, I) it is (s - 1)^2 + |m|^2 / d: a shift counts less and less as d grows, so the
    weight has to grow like d. Biased upwards by O(1 / n), and K draws of one row count as
    draws of the aggregate posterior although they lie together: take B large and K small.

    Cost O(P n (d + log n)).

    Args:
        weight: >= 0.
        n_projections: number P of directions, >= 1.

    Source: Kolouri, Pope, Martin and Rohde, Sliced Wasserstein auto-encoders, ICLR 2019.
    """

    weight: Scalar = eqx.field(converter=nonnegative("weight", 1.0), default=1.0)
    n_projections: int = eqx.field(static=True, default=50)

    def __check_init__(self) -> None:
        """Refuse what is no number of directions."""
        check_count("SlicedWasserstein", "n_projections", self.n_projections, 50)

    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The squared distance."""
        z = batch.z.reshape(-1, batch.z.shape[-1])
        prior_key, direction_key = jax.random.split(key)
        y = batch.prior.sample(prior_key, len(z)).astype(z.dtype)
        theta = jax.random.normal(direction_key, (z.shape[1], self.n_projections), z.dtype)
        theta = theta / jnp.linalg.norm(theta, axis=0)
        return jnp.mean((jnp.sort(z @ theta, axis=0) - jnp.sort(y @ theta, axis=0)) ** 2)
