"""What is asked of a fitted model of rows, compiled once for all models of its shapes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.amortized.model import AmortizedModel
from infer.core.data import Rows
from infer.core.posterior import AbstractDistribution
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.diagnostics.latents import Latents, latent_use


def use_of(model: AmortizedModel, rows: Rows, key: PRNGKey) -> Latents:
    """How the latent variables of these rows are used, from one draw for each."""
    centers, *logs = _looked_at(model, rows, key)
    return latent_use(np.asarray(centers), *map(np.asarray, logs))


@eqx.filter_jit
def _looked_at(model: AmortizedModel, rows: Rows, key: PRNGKey) -> tuple[Array, ...]:
    """Means, and log q(z | x), log q(z), log p(z) at a draw of every row."""
    q, n = jax.vmap(model.posterior)(rows), rows.x.shape[0]
    draws = jax.vmap(lambda q, key: q.equal_draws(key, 1))(q, jax.random.split(key, n))
    z, log_q = draws.x[:, 0], draws.log_q[:, 0]

    def log_aggregate(z: Vector) -> Scalar:
        return jax.nn.logsumexp(jax.vmap(lambda q: q.log_prob(z))(q)) - jnp.log(n)

    log_prior = jax.vmap(model.latent_prior().log_prob)(z)
    return means(model, rows), log_q, jax.lax.map(log_aggregate, z), log_prior


@eqx.filter_jit
def posterior(model: AmortizedModel, row: Rows) -> AbstractDistribution:
    """The posterior q(z | x) of a row."""
    return model.posterior(row)


@eqx.filter_jit
def posteriors(model: AmortizedModel, rows: Rows) -> AbstractDistribution:
    """The posterior q(z | x) of every row, stacked."""
    return jax.vmap(model.posterior)(rows)


@eqx.filter_jit
def means(model: AmortizedModel, rows: Rows) -> Points:
    """The posterior mean of every row."""
    return jax.vmap(lambda row: model.head.mean(model.outputs(row)))(rows)


@eqx.filter_jit
def codes(model: AmortizedModel, rows: Rows, key: PRNGKey) -> Points:
    """A draw of q(z | x) for every row."""
    keys = jax.random.split(key, rows.x.shape[0])
    return jax.vmap(lambda key, row: model.posterior(row).sample(key, 1)[0])(keys, rows)


@eqx.filter_jit
def likeliest(model: AmortizedModel, rows: Rows) -> Points:
    """Where rows are reconstructed."""
    return jax.vmap(lambda row: model.head.code(model.outputs(row)))(rows)


@eqx.filter_jit
def decode(model: AmortizedModel, z: Points, condition: Array | None) -> Array:
    """The mean of x at latent points."""
    return jax.vmap(model.mean)(z, condition)


@eqx.filter_jit
def simulated(model: AmortizedModel, key: PRNGKey, n: int) -> tuple[Points, Array]:
    """`n` pairs (z, x) of the joint distribution."""
    return model.simulate(key, n)


@eqx.filter_jit
def generate(model: AmortizedModel, key: PRNGKey, n: int, condition: Array | None) -> Array:
    """`n` new rows."""
    return model.generate(key, n, condition)


@eqx.filter_jit
def imputed(model: AmortizedModel, rows: Rows, key: PRNGKey, n: int) -> Array:
    """The posterior mean of x for every row, by importance weights of n draws."""

    def one(key: PRNGKey, row: Rows) -> Array:
        draws = model.posterior(row).equal_draws(key, n)
        log_p = jax.vmap(lambda z: model.log_joint(z, row))(draws.x)
        weights = jax.nn.softmax(log_p - draws.log_q)
        outputs = jax.vmap(lambda z: model.decoded(z, row.condition))(draws.x)
        return model.likelihood.average(weights, outputs)

    keys = jax.random.split(key, rows.x.shape[0])
    return jax.lax.map(lambda pair: one(*pair), (keys, rows), batch_size=64)
