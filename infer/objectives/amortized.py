"""The gradient of an objective for many pairs (p, q) at once, in both of their parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from infer.core.posterior import Draws
from infer.core.types import PRNGKey, Scalar
from infer.objectives.estimator import AbstractEstimator
from infer.objectives.objective import AbstractObjective


class Bounds(NamedTuple):
    """What a step of an amortized fit learns of its B rows.

    Attributes:
        surrogate: a scalar whose derivative is the gradient of the mean objective; no bound itself.
        values: F_p for every row, nats.
        draws: the K draws of every row, attached; leading axes (B, K).
        log_w: log weights (B, K).
    """

    surrogate: Scalar
    values: Float[Array, " B"]
    draws: Draws
    log_w: Float[Array, "B K"]


def surrogate(
    keys: Key[Array, " B"],
    model: Any,
    draw: Callable[[PRNGKey, Array], Draws],
    outputs: Float[Array, "B n"],
    log_joint: Callable[[Any, Float[Array, "B K d"]], Float[Array, "B K"]],
    objectives: tuple[AbstractObjective, AbstractObjective],
    estimator: AbstractEstimator,
    beta: Scalar | None,
) -> Bounds:
    """What to differentiate for the gradient of mean_b F_b in model, encoder and posterior.

        log w_bk = log p(x_b, z_bk) - beta log q(z_bk | x_b)
        in q:      as `estimate` has it, with (a, c, b, m) = estimator(F_q, log w, mass)
        in model:  sum_k t_k dlog p(x_b, z_bk)/dtheta,   t = dF_p/dlog w,  draws held fixed

    The model is evaluated once and differentiated at fixed draws, B K of them together: once where
    F_q and F_p are the same bound, else twice. The surrogate is linear in model
    parameters, draws and densities, with these weights as constants.

    Args:
        keys: one per row.
        model: every parameter that `log_joint` reads, arrays alone.
        draw: K draws of q from a key and one row of `outputs`.
        outputs: what the encoder says of every row.
        log_joint: log p(x_b, z_bk) of draws, prior and likelihood tempered as wanted.
        objectives: F_q, made large by encoder and posterior, and F_p, by the model.
        estimator: of the gradient in q.
        beta: see `AbstractEstimator.coefficients`.
    """
    for_q, for_p = objectives
    draws = jax.vmap(draw)(keys, outputs)
    n, k = draws.log_q.shape
    mass = jnp.full((n, k), 1 / k, draws.log_q.dtype) if draws.mass is None else draws.mass
    fixed = jax.lax.stop_gradient
    log_p, pull_back = jax.vjp(log_joint, fixed(model), fixed(draws.x))
    log_q = fixed(draws.log_q)
    log_w = log_p - (log_q if beta is None else beta * log_q)
    weights = jax.vmap(lambda w, m: estimator.coefficients(for_q, w, m, beta))(log_w, fixed(mass))
    by_weight = jax.vmap(jax.grad(for_p.value))(log_w, fixed(mass))
    in_model, pulled = pull_back(by_weight)
    along = jnp.zeros_like(draws.x)
    if weights.path is not None and for_q is for_p and for_p.bounded_path:
        # Both weights scale the slope of their draw, so one pull-back gives it for the two.
        share = jnp.where(by_weight == 0, 0, weights.path / jnp.where(by_weight == 0, 1, by_weight))
        along += share[..., None] * pulled
    elif weights.path is not None:
        along += pull_back(weights.path)[1]
    if weights.score is not None:
        along += weights.score[..., None] * draws.score
    total = jnp.sum(fixed(along) * draws.x)
    if weights.density is not None:
        total += jnp.sum(fixed(weights.density) * draws.log_q)
    if weights.mass is not None and draws.mass is not None:
        total += jnp.sum(fixed(weights.mass) * draws.mass)
    for constant, parameter in zip(*map(jax.tree.leaves, (in_model, model)), strict=True):
        total += jnp.sum(fixed(constant) * parameter)
    values = jax.vmap(for_p.value)(log_w, fixed(mass))
    return Bounds(total / n, values, draws, log_w)
