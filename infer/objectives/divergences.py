"""Divergences estimated with self-normalized weights, and others with draws held fixed.

Their gradients are not derivatives of the expected value but of a divergence at fixed draws, so
autodiff of the value would give something else: `Score` and `Path` are their estimators.
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from infer.core.checks import nonnegative
from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import Points, PRNGKey, Scalar
from infer.objectives.objective import AbstractObjective, Weights
from infer.references.citation import cites
from infer.references.variational import (
    BORNSCHEIN_2015,
    DIENG_2017,
    LI_2024,
    RICHTER_2020,
    TUCKER_2019,
    VAITL_2024,
    WAN_2020,
    WANG_2018,
)


def _chi_order(order: ArrayLike) -> Array:
    if not isinstance(order, Tracer) and not np.all(np.asarray(order) > 1):
        raise ValueError(
            f"CUBO needs order > 1, got {order}: up to 1 the bound is a lower one; write "
            "infer.Renyi(alpha=0.5), which is order 0.5, or infer.IWAE(), which is order 1."
        )
    return jnp.asarray(order, jnp.zeros(()).dtype)


def _as_draws(draws: ArrayLike) -> Array:
    array = jnp.asarray(draws, jnp.zeros(()).dtype)
    if array.ndim != 2 or not array.shape[0]:
        raise ValueError(
            f"MaximumLikelihood needs draws of shape (n, d), got {array.shape}; write "
            "infer.MaximumLikelihood(result.z.reshape(-1, result.z.shape[-1]))."
        )
    if not isinstance(draws, Tracer) and not np.isfinite(np.asarray(draws)).all():
        raise ValueError("MaximumLikelihood needs finite draws; leave out those that are not.")
    return array


@cites(WAN_2020)
class FDivergence(AbstractObjective):
    """Minus any f-divergence of the posterior from q:  F = -sum_k mass_k f(w_k),  f(1) = 0.

    With weights that are normalized by their own sum, w_k = W_k / mass_k and W = softmax(log w), so
    all is biased by O(1/K):

        v_k = mass_k (w_k f'(w_k) - f(w_k)),   a_k = mass_k w_k^2 f''(w_k) (1 - W_k)

    f(w) = -log w is KL(q || p), w log w is KL(p || q), (sqrt(w) - 1)^2 is Hellinger's distance and
    (w - 1)^2 is chi^2.

    Args:
        f: convex with f(1) = 0, a scalar function of w > 0 that JAX can differentiate twice; part
            of the program.

    Source: Wan, Li and Hovakimyan, f-divergence variational inference, NeurIPS 2020.
    """

    f: Callable[[Scalar], Scalar] = eqx.field(static=True)
    derivative: ClassVar[bool] = False
    least_samples: ClassVar[int] = 2
    uses_mass: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Refuse what is no divergence."""
        if not callable(self.f):
            raise TypeError(
                f"FDivergence needs a function f of w, got {self.f!r}; write "
                "infer.FDivergence(lambda w: w * jnp.log(w))."
            )
        one = jnp.ones(())
        at_one, bend = float(self.f(one)), float(jax.grad(jax.grad(self.f))(one))
        if not abs(at_one) < 1e-5 or not bend > 0:
            raise ValueError(
                f"FDivergence needs a convex f with f(1) = 0, got f(1) = {at_one:.3g} and "
                f"f''(1) = {bend:.3g}; write infer.FDivergence(lambda w: w * jnp.log(w))."
            )

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        w = jax.nn.softmax(log_w + jnp.log(mass)) / mass
        return -jnp.sum(mass * jax.vmap(self.f)(w))

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The score weights v."""
        w = jax.nn.softmax(log_w + jnp.log(mass)) / mass
        value, slope = jax.vmap(jax.value_and_grad(self.f))(w)
        return mass * (w * slope - value)

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The path weights a."""
        share = jax.nn.softmax(log_w + jnp.log(mass))
        w = share / mass
        return mass * w**2 * jax.vmap(jax.grad(jax.grad(self.f)))(w) * (1 - share)


@cites(BORNSCHEIN_2015, TUCKER_2019)
class ForwardKL(AbstractObjective):
    """Minus the divergence that covers:  F = -sum_k W_k log(W_k / mass_k),  W = softmax(log w).

    F estimates -KL(p || q) with self-normalized weights, biased by O(1/K); it is near zero too
    where all draws of q miss the posterior, so a small loss proves nothing. The gradient is that of
    the weighted log likelihood of q at its own draws, the wake phase of reweighted wake-sleep:

        v_k = W_k,   a_k = W_k - W_k^2

    Source: Bornschein and Bengio, Reweighted wake-sleep, ICLR 2015; Tucker et al., Doubly
    reparameterized gradient estimators, ICLR 2019.
    """

    derivative: ClassVar[bool] = False
    least_samples: ClassVar[int] = 2
    uses_mass: ClassVar[bool] = True

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        log_share = jax.nn.log_softmax(log_w + jnp.log(mass))
        return -jnp.sum(jnp.exp(log_share) * (log_share - jnp.log(mass)))

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """W."""
        return jax.nn.softmax(log_w + jnp.log(mass))

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """W - W^2."""
        share = jax.nn.softmax(log_w + jnp.log(mass))
        return share * (1 - share)


@cites(DIENG_2017, LI_2024)
class CUBO(AbstractObjective):
    """Minus the chi upper bound:  F = -(1/n) log sum_k mass_k w_k^n,  n > 1.

    For infinitely many draws -F = log Z + (n - 1)/n D_n(p || q), above the evidence; for n = 2 that
    is log Z + log(1 + chi^2(p || q)) / 2. From K draws -F is too low, the more so the worse q is,
    and its derivative would send q away from the posterior. The gradient here is that of the moment
    at fixed draws instead, with W = softmax(n log w):

        v_k = (n - 1)/n W_k,   a_k = (n - 1) (W_k - W_k^2)

    The weights must have n moments: where q has thinner tails than the posterior the bound is
    infinite, whatever its estimate. k-hat of the verdict above 1/n says so where draws reach that
    far; a small one proves nothing (Student's t with 2 degrees, d = 3, Gaussian q: 0.15).

    Args:
        order: n > 1.

    Source: Dieng et al., Variational inference via chi upper bound minimization, NeurIPS 2017; Li
    et al., Forward chi^2 divergence based variational importance sampling, ICLR 2024.
    """

    order: Scalar = eqx.field(converter=_chi_order, default=2.0)
    derivative: ClassVar[bool] = False
    least_samples: ClassVar[int] = 2
    uses_mass: ClassVar[bool] = True

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        return -jax.nn.logsumexp(self.order * log_w, b=mass) / self.order

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The score weights v."""
        n = self.order
        return (n - 1) / n * jax.nn.softmax(n * log_w + jnp.log(mass))

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The path weights a."""
        share = jax.nn.softmax(self.order * log_w + jnp.log(mass))
        return (self.order - 1) * share * (1 - share)


def ChiSquare() -> CUBO:
    """The forward chi^2 divergence of the posterior from q, a preset of `CUBO` of order 2.

    Returns:
        A `CUBO`.
    """
    return CUBO(2.0)


@cites(RICHTER_2020)
class LogVariance(AbstractObjective):
    """Minus half the variance of the log weights:  F = -sum_k (log w_k - mean)^2 / (2 (K - 1)).

    Zero exactly where q is the posterior, whatever the evidence. With draws held fixed its gradient
    is that of `ReverseKL` with a leave-one-out baseline, v_k = (log w_k - mean) / (K - 1), and its
    path weights are 1/K; what differs is the loss that is recorded, which needs no evidence to be
    read.

    Source: Richter et al., VarGrad: a low-variance gradient estimator for variational inference,
    NeurIPS 2020.
    """

    derivative: ClassVar[bool] = False
    least_samples: ClassVar[int] = 2

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        return -0.5 * jnp.var(log_w, ddof=1)

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The score weights v."""
        return (log_w - jnp.mean(log_w)) / (log_w.shape[0] - 1)

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The masses."""
        return mass


@cites(WANG_2018)
class TailAdaptive(AbstractObjective):
    """The f-divergence whose weights depend on ranks alone:  a_k = r_k / sum_j r_j.

    r_k = (K / number of draws with a weight of at least w_k)^strength: draws where q has too little
    mass pull harder, the one with the largest weight K^strength times as hard as the least, but
    never alone, however heavy the tail of the weights. Which f this is depends on their
    distribution, so no score weights are known and the value recorded is the evidence lower bound.

    Args:
        strength: >= 0; 0 is `ReverseKL()` by `Path()`, 1 the published choice.

    Source: Wang, Liu and Liu, Variational inference with tail-adaptive f-divergence, NeurIPS 2018.
    """

    strength: Scalar = eqx.field(converter=nonnegative("strength", 1.0), default=1.0)
    derivative: ClassVar[bool] = False
    from_score: ClassVar[bool] = False

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """The evidence lower bound."""
        return jnp.sum(mass * log_w)

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The path weights a."""
        above = log_w.shape[0] - jnp.searchsorted(jnp.sort(log_w), log_w, side="left")
        r = (above / log_w.shape[0]).astype(log_w.dtype) ** -self.strength
        return r / jnp.sum(r)


@cites(VAITL_2024)
class MaximumLikelihood(AbstractObjective):
    """Fits q to draws of the posterior:  F = -(1/K) sum_k log w_k  at K of these draws.

    F estimates -log Z - KL(p || q), so the recorded loss is an upper bound of the evidence. With
    `Score()` the gradient is that of the mean log likelihood of q at the draws. With `Path()`, for
    Gaussians and flows, the draws are images of fixed noise and move with q,

        grad F = E_p <grad log p - grad log q, dT/dphi at T^-1(x)>,   v_k = a_k = 1/K

    the path gradient of the divergence of T^-1(x) from the noise. It uses the scores of the
    posterior at the draws, so it vanishes draw by draw where q is the posterior, and few draws are
    not fitted by heart.

    Args:
        draws: draws of the posterior on the unconstrained scale, (n, d): `result.z.reshape(-1, d)`
            of a sampler. Every step takes `n_samples` of them at random.

    Source: Vaitl, Winkler, Richter and Kessel, Fast and unified path gradient estimators for
    normalizing flows, ICLR 2024.
    """

    draws: Points = eqx.field(converter=_as_draws)
    derivative: ClassVar[bool] = False
    own_draws: ClassVar[bool] = True

    def check(self, dim: int) -> None:
        """Refuse draws of another dimension."""
        if self.draws.shape[1] != dim:
            raise ValueError(
                f"MaximumLikelihood got draws of {self.draws.shape[1]} coordinates, the target has "
                f"{dim} unconstrained ones; take result.z of a run on this target."
            )

    def draw(self, key: PRNGKey, q: AbstractDistribution, n: int, moving: bool) -> Draws:
        """Draws of the posterior, chosen with replacement."""
        rows = jax.random.randint(key, (n,), 0, self.draws.shape[0])
        x = q.attached(self.draws[rows]) if moving else self.draws[rows]
        log_q, score = jax.vmap(jax.value_and_grad(q.log_prob))(x)
        return Draws(x, log_q, jax.lax.stop_gradient(score), independent=True)

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        return -jnp.sum(mass * log_w)

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The masses: no baseline is needed."""
        return mass

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The masses."""
        return mass
