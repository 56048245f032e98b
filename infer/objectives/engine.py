"""The one place where a gradient of an objective is computed."""

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.posterior import AbstractDistribution
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar
from infer.objectives.estimator import AbstractEstimator
from infer.objectives.objective import AbstractObjective


def estimate(
    key: PRNGKey,
    target: Target,
    q: AbstractDistribution,
    objective: AbstractObjective,
    estimator: AbstractEstimator,
    n_samples: int,
) -> tuple[Scalar, AbstractDistribution]:
    """Value of an objective and its gradient in the parameters of q, from K draws of q.

        log w_k = log p(x_k) - log q(x_k),   (a, c, b) = estimator(objective, log w)
        gradient = sum_k  <a_k s_k + c_k (grad log q)(x_k), dx_k/dphi>  +  b_k d log q_k/dphi

    with s_k = grad log p(x_k). Nothing is evaluated twice: the value and gradient of the target
    at the K draws are all that is asked of it. Returns (F, ascent direction shaped like q).
    Cost: K gradients of the target and one backward pass through the sampler.
    """
    parameters, rest = eqx.partition(q, eqx.is_inexact_array)

    def draw(parameters: AbstractDistribution):
        draws = eqx.combine(parameters, rest).sample_score(key, n_samples)
        return (draws.x, draws.log_q), draws.score

    (x, log_q), pull_back, score = jax.vjp(draw, parameters, has_aux=True)
    log_p, s = jax.vmap(target.value_and_score)(x)
    log_w = log_p - log_q
    weights = estimator.coefficients(objective, log_w)
    along = weights.path[:, None] * s
    if weights.score is not None:
        along += weights.score[:, None] * score
    density = jnp.zeros_like(log_q) if weights.density is None else weights.density
    (gradient,) = pull_back((along, density))
    return objective.value(log_w), gradient
