"""Codes of a finite set that encoder outputs are moved to: vector and scalar quantization."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from infer.amortized.heads import AbstractHead, AbstractPosterior, Outputs
from infer.amortized.parts import Frozen
from infer.amortized.point import PointDistribution
from infer.core.checks import check_count, fraction, nonnegative
from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.rows import MENTZER_2024, VAN_DEN_OORD_2017
from infer.regularizers.regularizer import AbstractRegularizer, Batch


class CodeDistribution(AbstractDistribution):
    """All mass at one code; draws move like the encoder outputs that it stands for.

        z = code + e - stop(e)

    so that the gradient with respect to e is the one at the code.

    Attributes:
        before: e.
        code: the code next to it.
    """

    before: Vector
    code: Vector
    discrete: ClassVar[bool] = True

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """The code, n times; log q is 0."""
        return self._point().sample_score(key, n)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """The code, n times."""
        return self._point().sample(key, n)

    def log_prob(self, x: Vector) -> Scalar:
        """0: nothing is claimed."""
        return self._point().log_prob(x)

    def moments(self) -> tuple[Vector, Covariance]:
        """The code, and no covariance."""
        return self._point().moments()

    def _point(self) -> PointDistribution:
        e, code = self.before, jax.lax.stop_gradient(self.code)
        return PointDistribution(code + (e - jax.lax.stop_gradient(e)))


class FiniteScalarHead(AbstractHead):
    """Every output is rounded to one of its levels.

    Attributes:
        levels: how many, for each latent variable.
    """

    dim: int = eqx.field(static=True)
    levels: tuple[int, ...] = eqx.field(static=True)
    has_density: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    @property
    def n_outputs(self) -> int:
        """One per latent variable."""
        return len(self.levels)

    def __call__(self, outputs: Outputs) -> CodeDistribution:
        """The code of a row."""
        most = jnp.asarray(self.levels, outputs.dtype) - 1
        e = jnp.tanh(outputs)
        return CodeDistribution(e, 2 * jnp.round(most * (1 + e) / 2) / most - 1)

    def index(self, code: Vector) -> Int[Array, ""]:
        """The number of a code, from 0 to the product of the levels less one."""
        most = jnp.asarray(self.levels, code.dtype) - 1
        digits = jnp.round(most * (1 + code) / 2).astype(int)
        return jnp.sum(digits * np.cumprod((1, *self.levels[:-1])))


@cites(MENTZER_2024)
class FiniteScalar(AbstractPosterior):
    """A code instead of a posterior: every latent variable is rounded to a few levels.

        u_j = (L_j - 1) (1 + tanh e_j) / 2
        z_j = 2 round(u_j) / (L_j - 1) - 1,   dz_j = d tanh e_j

    for encoder outputs e: L_j levels from -1 to 1, so prod_j L_j codes, with nothing to learn and
    no regularizer. The gradient in the encoder is biased: it takes rounding for the identity. Goes
    with `beta=0`. Nothing is claimed about the posterior of a row, so there is no evidence;
    `result.with_prior(infer.Empirical(result.encode()))` generates.

    Args:
        levels: L_j >= 2, one number for each of `latent` variables.

    Source: Mentzer, Minnen, Agustsson and Tschannen, Finite scalar quantization, ICLR 2024.
    """

    levels: tuple[int, ...] = eqx.field(static=True, converter=tuple)

    def __check_init__(self) -> None:
        """Refuse what are no levels."""
        for level in self.levels:
            check_count("FiniteScalar", "each of levels", level, 5, least=2)

    @property
    def independent(self) -> bool:
        """True."""
        return True

    def check(self, latent: int, prior: Any, beta: Any) -> None:
        """Refuse another number of levels than of latent variables, and a pull to the prior."""
        if len(self.levels) != latent:
            raise ValueError(
                f"FiniteScalar has {len(self.levels)} levels for latent={latent} variables; write "
                f"latent={len(self.levels)}."
            )
        _check_beta("FiniteScalar", beta)

    def head(self, key: PRNGKey, latent: int) -> FiniteScalarHead:
        """The head that rounds."""
        return FiniteScalarHead(dim=latent, levels=self.levels)


class Codebook(eqx.Module):
    """K codes as running means of the vectors that were next to them.

    Attributes:
        share: running share of the vectors that each code was nearest to; sums to one.
        total: running sum of these vectors over the number of all, so that codes = total / share.
        decay, least: see `VectorQuantized`.
    """

    share: Float[Array, " K"]
    total: Float[Array, "K w"]
    decay: Scalar
    least: Scalar

    @property
    def codes(self) -> Float[Array, "K w"]:
        """The codes."""
        return self.total / self.share[:, None]

    def nearest(self, e: Float[Array, "n w"]) -> Int[Array, " n"]:
        """The number of the code next to each vector; O(n K w)."""
        squared = jnp.sum((e[:, None] - self.codes) ** 2, axis=-1)
        return jnp.argmin(squared, axis=1)

    def moved(self, key: PRNGKey, e: Float[Array, "n w"]) -> tuple["Codebook", dict[str, Array]]:
        """After one batch of vectors; codes that few are near become vectors of the batch."""
        hot = jax.nn.one_hot(self.nearest(e), self.share.shape[0], dtype=e.dtype)
        now, decay = jnp.mean(hot, axis=0), self.decay.astype(e.dtype)
        share = decay * self.share + (1 - decay) * now
        total = decay * self.total + (1 - decay) * hot.T @ e / e.shape[0]
        even = 1 / share.shape[0]
        dead = share < self.least.astype(e.dtype) * even
        fresh = e[jax.random.randint(key, share.shape, 0, e.shape[0])]
        share, total = (
            jnp.where(dead, even, share),
            jnp.where(dead[:, None], even * fresh, total),
        )
        size = jnp.sum(share)
        entropy = -jnp.sum(jnp.where(now > 0, now * jnp.log(jnp.where(now > 0, now, 1)), 0))
        stats = {"perplexity": jnp.exp(entropy), "revived_codes": jnp.sum(dead)}
        return Codebook(share / size, total / size, self.decay, self.least), stats


class VectorQuantizedHead(AbstractHead):
    """Every group of outputs is moved to the nearest code of one book.

    Attributes:
        book: the `Codebook`, which no optimizer touches.
        width: length of a code.
    """

    book: Frozen
    dim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    has_density: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    @property
    def n_outputs(self) -> int:
        """As many as the codes of a row have numbers."""
        return self.dim

    def __call__(self, outputs: Outputs) -> CodeDistribution:
        """The codes of a row, joined."""
        return CodeDistribution(outputs, self.book.value.codes[self.index(outputs)].reshape(-1))

    def index(self, outputs: Outputs) -> Int[Array, " groups"]:
        """The numbers of the codes."""
        return self.book.value.nearest(outputs.reshape(-1, self.width))

    def advance(
        self, key: PRNGKey, outputs: Float[Array, "B n"]
    ) -> tuple["VectorQuantizedHead", dict[str, Array]]:
        """The book moved by the outputs of a batch."""
        book, stats = self.book.value.moved(key, outputs.reshape(-1, self.width))
        return VectorQuantizedHead(book=Frozen(book), dim=self.dim, width=self.width), stats


@cites(VAN_DEN_OORD_2017)
class VectorQuantized(AbstractPosterior):
    """Codes of a learned book instead of a posterior: the VQ-VAE.

        z_g = code nearest to e_g,   dz_g = de_g
        share_j <- decay share_j + (1 - decay) (share of the e_g nearest to code j)
        total_j <- decay total_j + (1 - decay) (sum of these e_g / number of all)
        code_j = total_j / share_j

    for `latent` groups of `width` encoder outputs. Codes are running means, not trained: with
    decay 0 a step is one of k-means. A code with fewer vectors than `least` times an even share
    becomes a vector of the batch; `history` has `revived_codes` and the `perplexity` of a batch,
    the number of codes in even use. Goes with `beta=0` and `regularizers=(infer.Commitment(),)`,
    which keeps the encoder near its codes. The gradient in the encoder is biased, and nothing is
    claimed about the posterior of a row: there is no evidence, and
    `result.with_prior(infer.Empirical(result.encode()))` generates. Cost per row and step: `latent`
    times `n_codes` distances.

    Args:
        n_codes: size of the book, >= 2, at most the vectors that the rows have.
        width: numbers in a code, >= 1.
        decay: of the running means, in [0, 1).
        least: share of an even use below which a code is revived, in (0, 1).

    Source: van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, NeurIPS
    2017.
    """

    n_codes: int = eqx.field(static=True)
    width: int = eqx.field(static=True, default=8)
    decay: Scalar = eqx.field(converter=nonnegative("decay", 0.99), default=0.99)
    least: Scalar = eqx.field(converter=fraction("least", 0.03), default=0.03)

    def __check_init__(self) -> None:
        """Refuse what is no size and no decay."""
        check_count("VectorQuantized", "n_codes", self.n_codes, 64, least=2)
        check_count("VectorQuantized", "width", self.width, 8)
        if not isinstance(self.decay, Tracer) and not np.all(np.asarray(self.decay) < 1):
            raise ValueError(
                f"VectorQuantized needs decay < 1, got {self.decay}; write decay=0.99."
            )

    @property
    def independent(self) -> bool:
        """True."""
        return True

    def check(self, latent: int, prior: Any, beta: Any) -> None:
        """Refuse a pull to the prior."""
        _check_beta("VectorQuantized", beta)

    def check_rows(self, latent: int, n: int) -> None:
        """Refuse more codes than there are vectors."""
        if self.n_codes > latent * n:
            raise ValueError(
                f"VectorQuantized has n_codes={self.n_codes} for {n} rows of {latent} vectors "
                f"each; write n_codes={max(2, latent * n // 4)}."
            )

    def head(self, key: PRNGKey, latent: int) -> VectorQuantizedHead:
        """The head with a random book, as narrow as the first outputs of an encoder."""
        share = jnp.full(self.n_codes, 1 / self.n_codes)
        codes = 0.1 * jax.random.normal(key, (self.n_codes, self.width))
        book = Codebook(share, share[:, None] * codes, self.decay, self.least)
        return VectorQuantizedHead(book=Frozen(book), dim=latent * self.width, width=self.width)


@cites(VAN_DEN_OORD_2017)
class Commitment(AbstractRegularizer):
    """Keeps encoder outputs near their codes, which are held fixed.

        r = (1/B) sum_b |e_b - code_b|^2

    For `VectorQuantized`, whose codes follow the encoder.

    Args:
        weight: >= 0.

    Source: van den Oord, Vinyals and Kavukcuoglu, Neural discrete representation learning, NeurIPS
    2017.
    """

    weight: Scalar = eqx.field(converter=nonnegative("weight", 0.25), default=0.25)

    def penalty(self, key: PRNGKey, batch: Batch) -> Scalar:
        """The mean squared distance."""
        q = batch.q
        if not isinstance(q, CodeDistribution):
            raise TypeError(
                f"Commitment needs codes, got {type(q).__name__}; write "
                "posterior=infer.VectorQuantized(64)."
            )
        return jnp.mean(jnp.sum((q.before - jax.lax.stop_gradient(q.code)) ** 2, axis=-1))


def _check_beta(owner: str, beta: Any) -> None:
    if beta is None or callable(beta) or (not isinstance(beta, Tracer) and np.any(beta != 0)):
        raise ValueError(
            f"{owner} gives codes without a posterior, on which prior and entropy have no hold; "
            "write beta=0."
        )
