"""Batch and match: a whole Gaussian from the scores at its own draws."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, positive
from infer.core.linalg import LOG_2PI
from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Count, Flag, Points, PRNGKey, Scalar, Vector
from infer.families.gaussian import DenseGaussian
from infer.references.citation import cites
from infer.references.gaussian import CAI_2024

Weights = Float[Array, " n"]
Matrix = Float[Array, "d d"]
Update = tuple[Vector, Matrix]


class Batch(eqx.Module):
    """Draws of q = N(m, C C^T) and the scores there, seen from coordinates in which q = N(0, I).

    Attributes:
        u: the noise of the draws z = m + C u; zero where a draw is left out.
        h: C^T grad log p(z), the scores in these coordinates; likewise.
        weight: 1 / (number of draws used) or 0 for each draw.
        rejected: draws left out because density or score was not finite.
        loss: mean of log q - log p over the draws used, in nats; NaN if there is none.
        divergence: mean of |u + h|^2, the score divergence of q from p (0 where they agree).
    """

    u: Points
    h: Points
    weight: Weights
    rejected: Count
    loss: Scalar
    divergence: Scalar


def draw(key: PRNGKey, target: Target, q: DenseGaussian, n: int) -> Batch:
    """`n` draws of q with the scores of the target."""
    d = q.mean.shape[0]
    noise = jax.random.normal(key, (n, d), q.mean.dtype)
    log_p, score = jax.vmap(target.value_and_score)(q.mean + noise @ q.factor.T)
    used = jnp.isfinite(log_p) & jnp.all(jnp.isfinite(score), axis=1)
    count = jnp.sum(used)
    weight = used.astype(noise.dtype) / jnp.maximum(count, 1).astype(noise.dtype)
    u = jnp.where(used[:, None], noise, 0)
    h = jnp.where(used[:, None], score, 0) @ q.factor
    log_det = jnp.linalg.slogdet(q.factor)[1]
    # The sampled entropy: log q - log p is the same at every draw once q is a Gaussian posterior.
    log_q = -0.5 * jnp.sum(u**2, axis=1) - 0.5 * d * LOG_2PI - log_det
    loss = weight @ (log_q - jnp.where(used, log_p, 0))
    loss = jnp.where(count > 0, loss, jnp.nan)
    return Batch(u, h, weight, n - count, loss, weight @ jnp.sum((u + h) ** 2, axis=1))


def in_span(update: Callable[[Points, Points], Update], u: Points, h: Points) -> Update:
    """An update of N(0, I) that moves nothing outside the span of the rows of u and h.

    It is solved in an orthonormal basis W of that span, in 2n instead of d coordinates, wherever
    these are fewer:  shift = W shift',  F = I + W (F' - I) W^T.
    """
    d = u.shape[1]
    if 2 * u.shape[0] >= d:
        return update(u, h)
    basis = jnp.linalg.qr(jnp.concatenate([u, h]).T)[0]
    shift, factor = update(u @ basis, h @ basis)
    inside = factor - jnp.eye(factor.shape[0], dtype=u.dtype)
    return basis @ shift, jnp.eye(d, dtype=u.dtype) + basis @ inside @ basis.T


def move(q: DenseGaussian, shift: Vector, factor: Matrix, used: Flag) -> tuple[DenseGaussian, Flag]:
    """N(m + C shift, C F F^T C^T), or q again where that is not finite or nothing was used."""
    mean, product = q.mean + q.factor @ shift, q.factor @ factor
    good = used & jnp.all(jnp.isfinite(mean)) & jnp.all(jnp.isfinite(product))
    new = DenseGaussian(jnp.where(good, mean, q.mean), jnp.where(good, product, q.factor))
    return new, good


def match(u: Points, h: Points, weight: Weights, strength: Scalar) -> Update:
    """The update of q = N(0, I): mean, and a factor F of the solution X of X U X + X = V.

    From X = F F^T = L Q diag(2 / (1 + sqrt(1 + 4 s^2))) Q^T L^T, V = L L^T and singular values s of
    U^(1/2) L. A product of factors, so X is positive definite however U and V are rounded; and
    with singular values rather than eigenvalues of L^T U L float32 keeps the small ones.
    """
    share = strength / (1 + strength)

    def spread(x: Points) -> tuple[Vector, Float[Array, "rows d"]]:
        center = weight @ x
        rows = jnp.sqrt(strength * weight)[:, None] * (x - center)
        return center, jnp.concatenate([rows, jnp.sqrt(share) * center[None]])

    (u_mean, from_draws), (h_mean, from_scores) = spread(u), spread(h)
    identity = jnp.eye(u.shape[1], dtype=u.dtype)
    root = jnp.linalg.cholesky(identity + from_draws.T @ from_draws)
    _, s, rotation = jnp.linalg.svd(from_scores @ root, full_matrices=True)
    s = jnp.zeros_like(u_mean).at[: s.shape[0]].set(s)
    # The symmetric root: singular vectors have arbitrary signs, which would turn later draws.
    factor = root @ (rotation.T * jnp.sqrt(2 / (1 + jnp.hypot(1, 2 * s)))) @ rotation
    return share * (factor @ (factor.T @ h_mean) + u_mean), factor


class _State(eqx.Module):
    q: DenseGaussian
    clock: Scalar


@cites(CAI_2024)
class BaM(AbstractApproximator):
    """Fits a Gaussian with a full covariance to the scores g_b = grad log p(z_b) at its own draws.

        U = l Gamma + l/(1+l) g g^T             V = S + l C + l/(1+l) (m - z)(m - z)^T
        S' = the positive definite solution of  S' U S' + S' = V
        m' = m/(1+l) + l/(1+l) (S' g + z)

    with z, C the mean and covariance of the draws of q = N(m, S), g, Gamma those of the scores,
    and l the weight of this batch against what is known. No step size, no Hessian; the iterates
    commute with affine maps of the parameters. By default, with D = mean |u + F^T g_b|^2 for
    z_b = m + F u_b, S = F F^T (the score divergence of q from p) and `reach` the same of the means,

        l = gain * B * d / (1 + t) * max(1, sqrt(D / d)),      t <- t + min(1, 1 / reach^2).

    That is B d / (t + 1) of the paper once q is where the posterior is. Far from it the paper's
    rule shrinks q to a point which then creeps: on a Gaussian of condition 10^4 in d = 10, started
    some 250 standard deviations away, it made no headway in 200 steps, this one had converged
    after 10. The first update takes q to the posterior where that is Gaussian, B > d and l is
    large; elsewhere the falling l averages the noise of the batches away.

    Cost per step: B gradients and O(d^3) flops, a Cholesky and a singular value decomposition of
    d x d, or of 2 B x 2 B where 2 B < d.

    Args:
        n_samples: draws B per step, >= 2, or None for 2 d, but no fewer than 8 and no more than
            128. Below d + 1 the batch does not determine a covariance: logistic regression, d = 10,
            by the paper's rule took 1000 gradients with B = d, and 200 with B = 2 d.
        constant: keep l = gain * B * d, for posteriors close to Gaussian; elsewhere noise remains.
        gain: factor of l, > 0. Larger moves faster and averages less.
        init_scale: standard deviation of the first q around the start, > 0.
        stopping: a `LossSettled` rule, or None to take every step. The loss is the mean of
            log q - log p over the draws, the negative evidence lower bound.

    Draws at which density or score are not finite are left out; `stats["rejected"]` counts them.
    If none is left, or the update is not finite, q stays as it was.

    Limits: a Gaussian, which matches scores and not the Kullback-Leibler divergence: on a skewed
    posterior the two differ, and on a funnel or heavy tails the scores may have no variance to
    match. For B much below d it is slow and noisy. Data in minibatches bias the covariance of the
    scores, so the exact target is required.

    Source: Cai et al., Batch and match: black-box variational inference with a score-based
    divergence, ICML 2024.
    """

    n_samples: int | None = eqx.field(static=True, default=None)
    constant: bool = eqx.field(static=True, default=False)
    gain: Scalar = eqx.field(converter=positive("gain", 1.0), default=1.0)
    init_scale: Scalar = eqx.field(converter=positive("init_scale", 0.1), default=0.1)
    stopping: AbstractStopping | None = eqx.field(
        static=True, default=LossSettled(minimum=200, every=50)
    )
    exact_target: ClassVar[bool] = True
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 2000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("BaM", "n_samples", self.n_samples, 16, least=2, optional=True)
        if not isinstance(self.constant, bool):
            raise TypeError(f"BaM needs constant=True or False, got {self.constant!r}.")

    def init(self, key: PRNGKey, target: Target) -> _State:
        """N(start, init_scale^2 I)."""
        start = target.initial(key)
        d = start.shape[0]
        factor = self.init_scale.astype(start.dtype) * jnp.eye(d, dtype=start.dtype)
        return _State(DenseGaussian(start, factor), jnp.zeros((), start.dtype))

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """Match the scores at fresh draws of q."""
        d = state.q.mean.shape[0]
        n = max(8, min(2 * d, 128)) if self.n_samples is None else self.n_samples
        batch = draw(key, target, state.q, n)
        strength = (self.gain * n * d).astype(batch.u.dtype)
        if not self.constant:
            far = jnp.sqrt(jnp.maximum(1, batch.divergence / d))
            strength = strength * far / (1 + state.clock)
        shift, factor = in_span(lambda u, h: match(u, h, batch.weight, strength), batch.u, batch.h)
        q, good = move(state.q, shift, factor, batch.rejected < n)
        # Time stands still while the mean is far, or the weights would be spent on the way there.
        reach = jnp.sum((batch.weight @ (batch.u + batch.h)) ** 2)
        clock = state.clock + jnp.where(good, 1 / jnp.maximum(1, reach), 0)
        stats = {"divergence": batch.divergence, "lambda": strength, "rejected": batch.rejected}
        return _State(q, clock), Info(batch.loss, jnp.asarray(n), stats)

    def posterior(self, state: _State) -> DenseGaussian:
        """The Gaussian matched last."""
        return state.q
