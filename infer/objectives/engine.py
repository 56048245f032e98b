"""The one place where a gradient of an objective is computed."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.posterior import AbstractDistribution, Draws
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar
from infer.objectives.by_site import BySite
from infer.objectives.estimator import AbstractEstimator, Coefficients
from infer.objectives.objective import AbstractObjective, Weights

Points = Float[Array, "K d"]


def estimate(
    key: PRNGKey,
    target: Target,
    q: AbstractDistribution,
    objective: AbstractObjective,
    estimator: AbstractEstimator | BySite,
    n_samples: int,
    at_once: int | None = None,
) -> tuple[Scalar, AbstractDistribution]:
    """Value of an objective and its gradient in the parameters of q, from K draws of q.

        log w_k = log p(x_k) - log q(x_k),   (a, c, b, m) = estimator(objective, log w, mass)
        gradient = sum_k  <a_k s_k + c_k (grad log q)(x_k), dx_k/dphi>
                          + b_k d log q_k/dphi + m_k dmass_k/dphi + v_k d log_noise_k/dphi

    with s_k = grad log p(x_k). The last term is there where the noise of draws depends on the
    parameters and draws move; v are the score weights, and the objective is linear. Nothing is
    evaluated twice: the value and gradient of the target at the K draws are all that is asked of
    it. Returns (F, ascent direction shaped like q). Cost: K gradients of the target and one
    backward pass through the sampler.

    With `BySite` a product of distributions takes each factor's part from the gradient by its own
    estimator: one backward pass for every kind of them.

    With `at_once` the K draws are made in blocks of that many, in two passes: the first for the K
    log weights, on which all coefficients depend, the second for the gradient. Memory is that of
    one block, cost one more draw and one more value of the target each.
    """
    parameters, rest = eqx.partition(q, eqx.is_inexact_array)

    def draw(parameters: AbstractDistribution, key: PRNGKey, n: int):
        q = eqx.combine(parameters, rest)
        draws = _over_devices(objective.draw(key, q, n, estimator.uses_gradient))
        return (draws.x, draws.log_q, _mass(draws), draws.log_noise), draws.score

    def coefficients(log_w: Weights, mass: Weights) -> tuple[Coefficients, ...]:
        each = estimator.estimators if isinstance(estimator, BySite) else (estimator,)
        return tuple(e.coefficients(objective, log_w, mass) for e in each)

    def ascent(pull_back, weights, v, s, score, log_q) -> AbstractDistribution:
        each = [pull_back(_cotangents(w, v, s, score, log_q))[0] for w in weights]
        return estimator.join(each) if isinstance(estimator, BySite) else each[0]

    def look(x: Points) -> tuple[Weights, Points | None]:
        if estimator.uses_gradient:
            return jax.vmap(target.value_and_score)(x)
        return jax.vmap(target.log_prob)(x), None

    if at_once is None or at_once >= n_samples:
        (x, log_q, mass, log_noise), pull_back, score = jax.vjp(
            lambda p: draw(p, key, n_samples), parameters, has_aux=True
        )
        log_p, s = look(x)
        log_w = log_p - log_q
        v = None if log_noise is None else objective.score_weights(log_w, mass)
        gradient = ascent(pull_back, coefficients(log_w, mass), v, s, score, log_q)
        return objective.value(log_w, mass), gradient

    log_w, mass = log_weights(key, target, q, objective, n_samples, at_once)
    weights = coefficients(log_w, mass)
    moving = jax.eval_shape(lambda p: draw(p, key, at_once), parameters)[0][3] is not None
    v = objective.score_weights(log_w, mass) if moving else None

    def add(total, block):
        key, weights, v = block
        (x, log_q, *_), pull_back, score = jax.vjp(
            lambda p: draw(p, key, at_once), parameters, has_aux=True
        )
        s = look(x)[1] if estimator.uses_gradient else None
        gradient = ascent(pull_back, weights, v, s, score, log_q)
        return jax.tree.map(jnp.add, total, gradient), None

    keys = jax.random.split(key, n_samples // at_once)
    weights = tuple(w if w.mass is None else w._replace(mass=w.mass / len(keys)) for w in weights)
    by_block = jax.tree.map(lambda v: v.reshape(len(keys), at_once), (weights, v))
    gradient, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, parameters), (keys, *by_block))
    return objective.value(log_w, mass), gradient


def log_weights(
    key: PRNGKey,
    target: Target,
    q: AbstractDistribution,
    objective: AbstractObjective,
    n_samples: int,
    at_once: int | None = None,
) -> tuple[Weights, Weights]:
    """Log w and mass of the K draws that `estimate` makes with this key."""

    def weigh(key: PRNGKey, n: int) -> tuple[Weights, Weights]:
        draws = _over_devices(objective.draw(key, q, n, False))
        return jax.vmap(target.log_prob)(draws.x) - draws.log_q, _mass(draws)

    if at_once is None or at_once >= n_samples:
        return weigh(key, n_samples)
    keys = jax.random.split(key, n_samples // at_once)
    log_w, mass = jax.lax.map(lambda key: weigh(key, at_once), keys)
    return log_w.reshape(-1), mass.reshape(-1) / len(keys)


def _over_devices(draws: Draws) -> Draws:
    """The draws divided over the devices of a mesh with an axis "samples", if there is one."""
    mesh = jax.sharding.get_abstract_mesh()
    if "samples" not in mesh.axis_names:
        return draws
    n, devices = draws.log_q.shape[0], mesh.shape["samples"]
    if n % devices:
        raise ValueError(
            f"{n} draws do not divide over {devices} devices; choose n_samples (and at_once) a "
            f"multiple of {devices}."
        )
    rows = jax.sharding.PartitionSpec("samples")
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, rows), draws)


def _mass(draws: Draws) -> Weights:
    equal = jnp.full_like(draws.log_q, 1 / draws.log_q.shape[0])
    return equal if draws.mass is None else draws.mass


def _cotangents(
    weights: Coefficients, v: Weights | None, s: Points | None, score: Points, like: Weights
) -> tuple[Points, Weights, Weights, Weights | None]:
    """What is pulled back through the draws, their log density, mass and noise."""
    along = jnp.zeros_like(score)
    if weights.path is not None:
        assert s is not None
        along += weights.path[:, None] * s
    if weights.score is not None:
        along += weights.score[:, None] * score
    zero = jnp.zeros_like(like)
    return (
        along,
        zero if weights.density is None else weights.density,
        zero if weights.mass is None else weights.mass,
        zero if v is not None and weights.path is None else v,
    )
