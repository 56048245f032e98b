"""Continuous entries around a location: Gaussian, Laplace and Student t."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.linalg import LOG_2PI
from infer.core.special import betaln
from infer.core.types import PRNGKey, Scalar
from infer.likelihoods.likelihood import AbstractLikelihood, floats, refuse, rows
from infer.likelihoods.scale import AbstractScale, LearnedScale, as_scale
from infer.references.citation import cites
from infer.references.rows import RYBKIN_2021
from infer.references.variational import KINGMA_2014


class AbstractLocationScale(AbstractLikelihood):
    """x = location + scale u, for a noise u of one fixed shape and a location that is decoded.

    log p(x) = log f(u) - log scale,    u = (x - location) / scale

    Attributes:
        scale: fixed, learned or decoded, see `infer.likelihoods`.
    """

    scale: eqx.AbstractVar[AbstractScale]

    @abc.abstractmethod
    def log_shape(self, u: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """The log density of the noise."""

    @abc.abstractmethod
    def noise(self, key: PRNGKey, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Draws of the noise."""

    @abc.abstractmethod
    def fitted(
        self, x: Float[np.ndarray, "n *event"], axis: int | None
    ) -> tuple[Float[np.ndarray, "*event"], np.ndarray]:
        """The most likely location per entry, with a scale per entry (axis 0) or for all (None)."""

    @property
    def n_outputs(self) -> int:
        """The location, and the raw scale if that is decoded."""
        return self.scale.n_outputs

    def log_prob(
        self, outputs: Float[Array, "*outputs"], x: Num[Array, "*event"]
    ) -> Float[Array, "*event"]:
        """Log f(u) - log scale."""
        location, log_scale = self.scale.split(outputs)
        return self.log_shape((x - location) * jnp.exp(-log_scale)) - log_scale

    def sample(self, key: PRNGKey, outputs: Float[Array, "*outputs"]) -> Float[Array, "*event"]:
        """Location + scale noise."""
        location, log_scale = self.scale.split(outputs)
        return location + jnp.exp(log_scale) * self.noise(key, location.shape, location.dtype)

    def mean(self, outputs: Float[Array, "*outputs"]) -> Float[Array, "*event"]:
        """The location."""
        return self.scale.split(outputs)[0]

    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "*outputs"]:
        """The most likely location and scale of every entry."""
        return self.scale.join(*self.fitted(rows(x), 0))

    def init(self, x: Num[ArrayLike, "n *event"]) -> "AbstractLocationScale":
        """The scale at that of the data around their location."""
        x = rows(x)
        scale = self.scale.init(lambda axis: self.fitted(x, axis)[1])
        return eqx.tree_at(lambda likelihood: likelihood.scale, self, scale)

    def check(self, x: np.ndarray) -> None:
        """Refuse what is not finite."""
        refuse(type(self).__name__, "finite numbers", x, np.isfinite(x))


@cites(KINGMA_2014, RYBKIN_2021)
class Gaussian(AbstractLocationScale):
    """Real entries with Gaussian noise; the output is the mean, in the unit of x.

        log p(x) = -u^2 / 2 - log scale - log(2 pi) / 2,    u = (x - mean) / scale

    The scale weighs the reconstruction against the code, so it is learned by default: a scale set
    by hand is a choice of how much is noise. Densities of data in another unit, or of
    whole numbers taken for real ones, are not comparable.

    Args:
        scale: `LearnedScale()`, one for all entries; `LearnedScale(per_dimension=True)`, one per
            entry; a number > 0, fixed; or `DecodedScale()`, one per entry and row, from the
            decoder.

    Source: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014; for the learned scale,
    Rybkin, Daniilidis and Levine, Simple and effective VAE training with calibrated decoders, ICML
    2021.
    """

    scale: AbstractScale = eqx.field(converter=as_scale, default_factory=LearnedScale)

    def log_shape(self, u: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """Log N(u; 0, 1)."""
        return -0.5 * u**2 - 0.5 * LOG_2PI

    def noise(self, key: PRNGKey, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Standard normal."""
        return jax.random.normal(key, shape, dtype)

    def fitted(
        self, x: Float[np.ndarray, "n *event"], axis: int | None
    ) -> tuple[Float[np.ndarray, "*event"], np.ndarray]:
        """Mean and root mean square deviation."""
        mean = np.asarray(np.nanmean(x, axis=0))
        return mean, np.asarray(np.sqrt(np.nanmean((x - mean) ** 2, axis=axis)))


class Laplace(AbstractLocationScale):
    """Real entries with Laplace noise; the output is the median, in the unit of x.

        log p(x) = -|u| - log(2 scale),    u = (x - median) / scale

    Tails of the exponential's: large errors cost their size, not its square.

    Args:
        scale: as of `Gaussian`; it is the mean absolute deviation.
    """

    scale: AbstractScale = eqx.field(converter=as_scale, default_factory=LearnedScale)

    def log_shape(self, u: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """-|u| - log 2."""
        return -jnp.abs(u) - jnp.log(2.0).astype(u.dtype)

    def noise(self, key: PRNGKey, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Standard Laplace."""
        return jax.random.laplace(key, shape, dtype)

    def fitted(
        self, x: Float[np.ndarray, "n *event"], axis: int | None
    ) -> tuple[Float[np.ndarray, "*event"], np.ndarray]:
        """Median and mean absolute deviation."""
        median = np.asarray(np.nanmedian(x, axis=0))
        return median, np.asarray(np.nanmean(np.abs(x - median), axis=axis))


DF_LEAST = 1.0  # degrees of freedom above which there is a mean


class StudentT(AbstractLocationScale):
    """Real entries with heavy-tailed noise; the output is the location, in the unit of x.

        log p(x) = -log B(df/2, 1/2) - log(df) / 2 - (df + 1)/2 log(1 + u^2 / df) - log scale,
        u = (x - location) / scale

    An error of many scales costs the log of its size only, and pulls at the decoder the less
    the larger it is: for outliers.

    Args:
        df: degrees of freedom at the start, > 1, so that there is a mean.
        scale: as of `Gaussian`; the standard deviation is scale sqrt(df / (df - 2)), if df > 2.
        fixed: keep df as it is, instead of learning log(df - 1).
    """

    log_excess: Scalar
    scale: AbstractScale
    fixed: bool = eqx.field(static=True)

    def __init__(
        self,
        df: float | Scalar = 5.0,
        scale: AbstractScale | float | None = None,
        fixed: bool = False,
    ) -> None:
        if not isinstance(df, Tracer) and not df > DF_LEAST:
            raise ValueError(
                f"StudentT needs df > 1, below which it has no mean, got {df}; write df=5.0."
            )
        if not isinstance(fixed, bool):
            raise TypeError(f"StudentT needs fixed=True or False, got {fixed!r}.")
        self.log_excess = jnp.log(floats(df) - DF_LEAST)
        self.scale = LearnedScale() if scale is None else as_scale(scale)
        self.fixed = fixed

    @property
    def df(self) -> Scalar:
        """Degrees of freedom, > 1."""
        df = DF_LEAST + jnp.exp(self.log_excess)
        return jax.lax.stop_gradient(df) if self.fixed else df

    def log_shape(self, u: Float[Array, "*event"]) -> Float[Array, "*event"]:
        """The log density of Student's t."""
        df = self.df
        # Not as a difference of log gamma functions, which is lost to rounding where df is large.
        top = -betaln(df / 2, 0.5) - 0.5 * jnp.log(df)
        return top - 0.5 * (df + 1) * jnp.log1p(u**2 / df)

    def noise(self, key: PRNGKey, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Student's t."""
        return jax.random.t(key, self.df, shape, dtype)

    def fitted(
        self, x: Float[np.ndarray, "n *event"], axis: int | None
    ) -> tuple[Float[np.ndarray, "*event"], np.ndarray]:
        """By expectation maximization: rows far out have the weight (df + 1) / (df + u^2)."""
        df = float(self.df)
        location = np.nanmedian(x, axis=0)
        scale = np.maximum(np.nanmean(np.abs(x - location), axis=axis), 1e-30)
        for _ in range(50):
            weight = (df + 1) / (df + ((x - location) / scale) ** 2)
            location = np.nansum(weight * x, axis=0) / np.nansum(weight, axis=0)
            scale = np.sqrt(np.nanmean(weight * (x - location) ** 2, axis=axis))
            scale = np.maximum(scale, 1e-30)
        return np.asarray(location), np.asarray(scale)
