"""Reparametrized gradients with a proximal step for the entropy, free of step sizes."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, optional_positive, positive
from infer.core.linalg import LOG_2PI
from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.families.gaussian import CholeskyGaussian
from infer.optimizers.averaging import average
from infer.references.citation import cites
from infer.references.gaussian import DOMKE_2020, KHALED_2023

FIRST_REACH = 1e-6  # DoWG's first guess of the distance to the answer, relative to the start


class Parameters(eqx.Module):
    """A mean and a lower triangular factor C with a positive diagonal, as plain numbers."""

    mean: Vector
    factor: Float[Array, "d d"]


def prox_entropy(a: Float[Array, "..."], step: Scalar) -> Float[Array, "..."]:
    """The c > 0 that minimizes (c - a)^2 / (2 step) - log c: (a + sqrt(a^2 + 4 step)) / 2.

    For a < 0 the same root without its cancellation, so that it never rounds to zero.
    """
    root = jnp.hypot(a, 2 * jnp.sqrt(step))
    return jnp.where(a > 0, 0.5 * (a + root), 2 * step / (root - jnp.minimum(a, 0)))


def energy_gradient(
    key: PRNGKey, target: Target, q: Parameters, n: int, hessian: bool, path: bool
) -> tuple[Parameters, Scalar, Count]:
    """Gradient of E_q[-log p] in (m, C), with the loss and the number of draws left out."""
    d = q.mean.shape[0]
    noise = jax.random.normal(key, (n, d), q.mean.dtype)
    z = q.mean + noise @ q.factor.T
    log_p, score = jax.vmap(target.value_and_score)(z)
    used = jnp.isfinite(log_p) & jnp.all(jnp.isfinite(score), axis=1)
    if hessian:
        curvature = -jax.vmap(jax.hessian(target.log_prob))(z)
        used &= jnp.all(jnp.isfinite(curvature), axis=(1, 2))
    count = jnp.sum(used)
    weight = used.astype(noise.dtype) / jnp.maximum(count, 1).astype(noise.dtype)
    log_p = jnp.where(used, log_p, 0)
    slope = jnp.where(used[:, None], -score, 0)
    noise = jnp.where(used[:, None], noise, 0)
    diagonal = jnp.diagonal(q.factor)
    known = jnp.zeros_like(q.factor)
    if path:
        # C^-T u has mean zero, and C^-T u u^T has mean C^-T, whose lower part is its diagonal.
        solve = jax.scipy.linalg.solve_triangular
        slope -= solve(q.factor, noise.T, lower=True, trans="T").T
        known = jnp.diag(1 / diagonal)
    if hessian:
        mean_curvature = jnp.tensordot(weight, jnp.where(used[:, None, None], curvature, 0), 1)
        by_factor = jnp.tril(mean_curvature @ q.factor)
    else:
        by_factor = jnp.tril((weight[:, None] * slope).T @ noise) + known
    log_q = -0.5 * jnp.sum(noise**2, axis=1) - 0.5 * d * LOG_2PI - jnp.sum(jnp.log(diagonal))
    loss = jnp.where(count > 0, weight @ (log_q - log_p), jnp.nan)
    return Parameters(weight @ slope, by_factor), loss, n - count


class _State(eqx.Module):
    q: Parameters
    average: Parameters
    start: Parameters
    reach: Scalar
    total: Scalar
    t: Count


def _norm_squared(x: Parameters) -> Scalar:
    return jnp.sum(x.mean**2) + jnp.sum(x.factor**2)


@cites(DOMKE_2020, KHALED_2023)
class ProximalVI(AbstractApproximator):
    """Fits a Gaussian with a triangular factor by gradients of the energy and exact entropy steps.

        (m, C) <- (m, C) - e * gradient of E_q[-log p],          z = m + C u,  C lower triangular
        C_ii <- (C_ii + sqrt(C_ii^2 + 4 e)) / 2
        average_t = average_{t-1} + (9 / (t + 8)) ((m, C)_t - average_{t-1})

    The second line is the proximal step of -log |C|, the entropy, so the diagonal stays positive
    without a logarithm and however large the step. The step size needs no tuning (DoWG): r is the
    farthest that (m, C) has been from its start, at first 10^-6 of the start's own size, and

        v <- v + r^2 |gradient|^2,     e = r^2 / sqrt(v).

    The posterior is the average, weighted towards the end of the run (polynomial decay).

    Cost per step: `n_samples` gradients of the target and O(n_samples d^2) flops.

    Args:
        n_samples: draws of q per step, >= 1.
        step_size: a fixed e > 0 instead of DoWG; below 2 / (largest curvature of -log p).
        path: subtract the score of q from that of the target, which leaves no noise at a Gaussian
            posterior, and far more than there was on the way there. Good with a small fixed
            `step_size`: logistic regression, d = 10, was left at a tenth of the gap or less. DoWG
            never recovers from one wild gradient, and with `path=True` collapsed on three of six
            trial posteriors.
        hessian: the gradient for C from the mean Hessian H at the draws, tril(H C) (Price), in
            place of the scores times the noise. Far less noise, for d more derivatives per draw.
        init_scale: standard deviation of the first q around the start, > 0.
        stopping: a `LossSettled` rule, or None to take every step. The loss is the mean of
            log q - log p over the draws, the negative evidence lower bound, before averaging.

    Draws at which density or score are not finite are left out; `stats["rejected"]` counts them.
    If none is left, or the step is not finite, everything stays as it was.

    Limits: one scalar step for all coordinates, so the number of steps grows with the condition
    of the posterior's covariance, unlike `BaM` or the Adam of `VI`. After 8000 steps a Gaussian
    (d = 10) of condition 10^4 was 0.3 nats off, and one with standard deviations 1 to 1000 was 40:
    rescale such a model. A Gaussian follows no skewed, heavy-tailed or multimodal posterior.

    Source: Domke, Provable smoothness guarantees for black-box variational inference, ICML 2020;
    the step size from Khaled, Mishchenko and Jin, DoWG unleashed, NeurIPS 2023.
    """

    n_samples: int = eqx.field(static=True, default=8)
    step_size: Scalar | None = eqx.field(
        converter=optional_positive("step_size", 0.01), default=None
    )
    path: bool = eqx.field(static=True, default=False)
    hessian: bool = eqx.field(static=True, default=False)
    init_scale: Scalar = eqx.field(converter=positive("init_scale", 0.1), default=0.1)
    stopping: AbstractStopping | None = eqx.field(static=True, default=LossSettled())
    exact_target: ClassVar[bool] = False
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 20_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("ProximalVI", "n_samples", self.n_samples, 8)
        for name, value in (("path", self.path), ("hessian", self.hessian)):
            if not isinstance(value, bool):
                raise TypeError(f"ProximalVI needs {name}=True or False, got {value!r}.")

    def init(self, key: PRNGKey, target: Target) -> _State:
        """N(start, init_scale^2 I)."""
        start = target.initial(key)
        identity = jnp.eye(start.shape[0], dtype=start.dtype)
        q = Parameters(start, self.init_scale.astype(start.dtype) * identity)
        reach = FIRST_REACH * (1 + jnp.sqrt(_norm_squared(q)))
        return _State(q, q, q, reach, jnp.zeros_like(reach), jnp.zeros((), int))

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """A gradient step on the energy, then the proximal step of the entropy."""
        q = state.q
        gradient, loss, rejected = energy_gradient(
            key, target, q, self.n_samples, self.hessian, self.path
        )
        away = jax.tree.map(jnp.subtract, q, state.start)
        reach = jnp.maximum(state.reach, jnp.sqrt(_norm_squared(away)))
        total = state.total + reach**2 * _norm_squared(gradient)
        step = reach**2 / jnp.sqrt(total) if self.step_size is None else self.step_size
        step = step.astype(loss.dtype)
        moved = jax.tree.map(lambda x, g: x - step * g, q, gradient)
        diagonal = prox_entropy(jnp.diagonal(moved.factor), step)
        new = Parameters(moved.mean, jnp.tril(moved.factor, -1) + jnp.diag(diagonal))
        mean = average(state.average, new, state.t)
        after = _State(new, mean, state.start, reach, total, state.t + 1)
        good = jnp.all(
            jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((after, loss))])
        ) & jnp.all(diagonal > 0)
        after = jax.tree.map(lambda x, old: jnp.where(good, x, old), after, state)
        stats = {"step_size": step, "rejected": rejected}
        return after, Info(loss, jnp.asarray(self.n_samples), stats)

    def posterior(self, state: _State) -> CholeskyGaussian:
        """The averaged Gaussian."""
        factor = state.average.factor
        return CholeskyGaussian(state.average.mean, factor, jnp.log(jnp.diagonal(factor)))
