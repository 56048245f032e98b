"""The maximum mean discrepancy between the latent draws and the prior."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.checks import nonnegative, positive
from infer.core.types import Points, PRNGKey, Scalar
from infer.references.citation import cites
from infer.references.judging import GRETTON_2012
from infer.references.rows import TOLSTIKHIN_2018, ZHAO_2019
from infer.regularizers.regularizer import AbstractRegularizer, Batch

IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
RBF_SCALES = (0.5, 1.0, 2.0)


def _scales(value: Any) -> Float[Array, " s"]:
    values = value if isinstance(value, jax.Array) else np.asarray(value)
    return jnp.atleast_1d(positive("scales", 1.0)(values))


class AbstractMixtureKernel(eqx.Module):
    """A mean of kernels of the squared distance r, one per scale s: squared width C = 2 d s^2.

    Two draws of N(0, I) in d dimensions are at a mean squared distance of 2 d, so s = 1 looks at
    the size of that prior whatever d, s = 0.1 at a tenth of it.

    Attributes:
        scales: s > 0, in units of the coordinates.
    """

    scales: eqx.AbstractVar[Float[Array, " s"]]

    @abstractmethod
    def shape(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """The kernel at u = r / C >= 0, elementwise, 1 at 0."""

    def __call__(self, r: Float[Array, "..."], d: int) -> Float[Array, "..."]:
        """The mean over the scales at squared distances r in d dimensions."""
        widths = 2 * d * self.scales.astype(r.dtype) ** 2
        return jnp.mean(jnp.stack([self.shape(r / width) for width in widths]), axis=0)


class RBFMixture(AbstractMixtureKernel):
    """Gaussian kernels: mean_s exp(-r / (2 d s^2)), which is exp(-r / 2 l^2) with l = s d^1/2.

    Args:
        scales: s > 0, one or several.
    """

    scales: Float[Array, " s"] = eqx.field(converter=_scales, default=RBF_SCALES)

    def shape(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """exp(-u)."""
        return jnp.exp(-u)


@cites(TOLSTIKHIN_2018)
class IMQMixture(AbstractMixtureKernel):
    """Inverse multiquadrics: mean_s C / (C + r) with C = 2 d s^2, whose tails still pull.

    Args:
        scales: s > 0, one or several.

    Source: Tolstikhin, Bousquet, Gelly and Scholkopf, Wasserstein auto-encoders, ICLR 2018.
    """

    scales: Float[Array, " s"] = eqx.field(converter=_scales, default=IMQ_SCALES)

    def shape(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """1 / (1 + u)."""
        return 1 / (1 + u)


@cites(ZHAO_2019, TOLSTIKHIN_2018, GRETTON_2012)
class MMD(AbstractRegularizer):
    """Squared maximum mean discrepancy between the aggregate posterior and the prior, unbiased.

        mean_{b != c} k(z_bk, z_cl) + mean_{i != j} k(y_i, y_j) - 2 mean k(z_bk, y_i),   y ~ prior

    with as many draws y as there are of z. Two draws of one row, even different ones, are no
    independent draws of the aggregate posterior, so pairs within a row are left out. Zero on
    average, and negative every other time, where the aggregate posterior is the prior. Needs
    draws alone, so posteriors may be points and the prior anything that can be drawn.

    At most 2, where a log likelihood is of the size of the data: weights of 100 to 1000 are usual,
    and B of 100 or more, since the noise falls like 1 / B only. Cost O(n^2 (d + s)) and memory
    O(n^2) for n = B K draws and s scales.

    Args:
        weight: >= 0.
        kernel: `IMQMixture()` or `RBFMixture()`, with scales in units of the coordinates.

    Raises:
        ValueError: for a batch of a single row, which has no pair.

    Source: Zhao, Song and Ermon, InfoVAE, AAAI 2019; Tolstikhin et al., Wasserstein auto-encoders,
    ICLR 2018; Gretton et al., A kernel two-sample test, JMLR 13, 2012.
    """

    weight: Scalar = eqx.field(converter=nonnegative("weight", 1.0), default=1.0)
    kernel: AbstractMixtureKernel = eqx.field(default_factory=IMQMixture)

    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The unbiased estimate."""
        rows, k, d = batch.z.shape
        if rows < 2:
            raise ValueError(
                "MMD needs two rows or more in a batch, got 1, which has no pair of independent "
                "draws; write batch_size=128."
            )
        z = batch.z.reshape(-1, d)
        y = batch.prior.sample(key, len(z)).astype(z.dtype)
        center = jax.lax.stop_gradient(
            z.mean(axis=0)
        )  # near the origin, so that no digits are lost
        z, y = z - center, y - center
        row, one = jnp.arange(len(z)) // k, jnp.arange(len(y))
        within = jnp.sum(self.kernel(_squared(z, z), d), where=row[:, None] != row)
        prior_within = jnp.sum(self.kernel(_squared(y, y), d), where=one[:, None] != one)
        across = jnp.mean(self.kernel(_squared(z, y), d))
        return (
            within / (rows * (rows - 1) * k**2)
            + prior_within / (len(y) * (len(y) - 1))
            - 2 * across
        )


def _squared(x: Points, y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Squared distances by one matrix product at full precision, >= 0."""
    product = jnp.dot(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1) - 2 * product, 0)
