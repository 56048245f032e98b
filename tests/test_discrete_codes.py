"""Discrete latent variables, against the enumeration of all their states."""

import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import infer
from infer.amortized.parts import split
from infer.core.posterior import Sampling
from infer.likelihoods import Bernoulli
from infer.objectives import valid_estimators

V, C, D, N = 2, 3, 4, 5
X = np.random.default_rng(3).integers(0, 2, (N, D)).astype(float)
STATES = [np.concatenate([np.eye(C)[i] for i in code]) for code in np.ndindex(*(C,) * V)]


def autoencoder(draws, estimator, prior=None, **options):
    return infer.VAE(
        Bernoulli(),
        latent=V,
        encoder=infer.MLP(()),
        decoder=infer.MLP((5,)),
        posterior=infer.Categorical(C, draws),
        prior=infer.FactorizedCategorical(C) if prior is None else prior,
        estimator=estimator,
        optimizer=infer.optimizer(optax.sgd, learning_rate=1.0),
        **options,
    )


@eqx.filter_jit
def somewhere(vae, data):
    """A state whose parameters are all off their first places; the VAE is ready for its rows."""
    state = vae.init(jax.random.key(0), data)
    trained, rest = split(state.model)
    flat, back = ravel_pytree(trained)
    moved = back(flat + 0.7 * jax.random.normal(jax.random.key(1), flat.shape))
    return eqx.tree_at(lambda s: s.model, state, eqx.combine(moved, rest))


def parameters(model):
    """What is trained, as one vector: encoder, prior, decoder."""
    parts = (model.encoder, model.prior, model.decoder)
    return ravel_pytree([split(part)[0] for part in parts])[0]


ENCODER, DECODER = slice(0, 30), slice(-59, None)


@eqx.filter_jit
def ascents(vae, data, state, n):
    """n gradients of what is made large, as steps of length 1, (n, P)."""

    def ascent(key):
        return parameters(vae.step(key, data, state)[0].model) - parameters(state.model)

    return jax.lax.map(ascent, jax.random.split(jax.random.key(2), n), batch_size=min(n, 500))


def case(*parts, **options):
    """A VAE ready for the rows, the rows, and a state."""
    data = infer.Data(X)
    vae = autoencoder(*parts, **options).ready(data)
    return vae, data, somewhere(vae, data)


def logs(model, x):
    """log q and log p(z), log p(x | z) of every state, formula by formula."""
    log_pi = jax.nn.log_softmax(model.encoder(x).reshape(V, C)).reshape(-1)
    log_q = jnp.stack([z @ log_pi for z in STATES])
    if isinstance(model.prior, infer.amortized.categorical.UniformCodes):
        log_prior = jnp.full(len(STATES), -V * np.log(C))
    else:
        log_prior = jnp.stack([z @ jax.nn.log_softmax(model.prior.logits).ravel() for z in STATES])
    p = [jax.nn.sigmoid(model.decoder(jnp.asarray(z))) for z in STATES]
    likelihood = jnp.stack([jnp.sum(jnp.log(jnp.where(x == 1, p, 1 - p))) for p in p])
    return log_q, log_prior, likelihood


def lower_bound(model, beta=1.0):
    def one(x):
        log_q, log_prior, likelihood = logs(model, x)
        return jnp.exp(log_q) @ (likelihood + beta * (log_prior - log_q))

    return jnp.mean(jax.vmap(one)(jnp.asarray(X)))


def evidence(model):
    def one(x):
        _, log_prior, likelihood = logs(model, x)
        return jax.nn.logsumexp(log_prior + likelihood)

    return jnp.mean(jax.vmap(one)(jnp.asarray(X)))


def importance_weighted(model, k=4):
    """E log mean w over all 9^k tuples of states."""
    which = np.array(list(itertools.product(range(len(STATES)), repeat=k)))

    def one(x):
        log_q, log_prior, likelihood = logs(model, x)
        log_w = (log_prior + likelihood - log_q)[which]
        return jnp.exp(log_q[which].sum(1)) @ (jax.nn.logsumexp(log_w, axis=1) - np.log(k))

    return jnp.mean(jax.lax.map(one, jnp.asarray(X)))


@eqx.filter_jit
def exact(function, model):
    """Its gradient by autodiff."""
    trained, rest = split(model)
    gradient = jax.grad(lambda t: function(eqx.combine(t, rest)))(trained)
    return parameters(eqx.combine(gradient, rest))


@pytest.mark.parametrize("prior", [None, infer.UniformCategorical(C)], ids=["fitted", "uniform"])
@pytest.mark.parametrize("beta", [None, 0.3])
def test_enumeration_is_the_gradient_by_brute_force(prior, beta, x64):
    vae, data, state = case(infer.Enumerated(), infer.Enumerate(), prior, beta=beta)
    wanted = exact(partial(lower_bound, beta=1.0 if beta is None else beta), state.model)
    np.testing.assert_allclose(ascents(vae, data, state, 1)[0], wanted, rtol=0, atol=1e-12)
    assert np.linalg.norm(wanted[ENCODER]) > 0.1 and np.linalg.norm(wanted[DECODER]) > 0.1


def test_a_pair_fits_the_model_by_its_evidence(x64):
    objective = (infer.ReverseKL(), infer.IWAE())
    vae, data, state = case(infer.Enumerated(), infer.Enumerate(), objective=objective)
    by_bound, by_evidence = exact(lower_bound, state.model), exact(evidence, state.model)
    wanted = np.concatenate([by_bound[ENCODER], by_evidence[30:]])
    np.testing.assert_allclose(ascents(vae, data, state, 1)[0], wanted, rtol=0, atol=1e-12)
    assert np.abs(by_bound - by_evidence)[DECODER].max() > 0.01


@pytest.mark.parametrize("name", ["ReverseKL", "Renyi", "CUBO", "ForwardKL", "FDivergence"])
def test_objectives_that_use_mass_have_exact_gradients_of_known_divergences(name, x64):
    """At q and p on 5 points; the divergence is written out from probabilities."""
    rng = np.random.default_rng(0)
    logits, log_p = jnp.asarray(rng.normal(size=5)), jnp.asarray(rng.normal(size=5) - 1)
    known = {
        "ReverseKL": lambda q, p: jnp.sum(q * jnp.log(p / q)),
        "Renyi": lambda q, p: jnp.log(jnp.sum(q * (p / q) ** 0.4)) / 0.4,
        "CUBO": lambda q, p: -jnp.log(jnp.sum(p**2 / q)) / 2,
        "ForwardKL": lambda q, p: -jnp.sum(p / p.sum() * jnp.log(p / p.sum() / q)),
        "FDivergence": lambda q, p: -jnp.sum(q * (p / p.sum() / q - 1) ** 2),
    }[name]
    objective = {
        "Renyi": lambda: infer.Renyi(0.6),
        "FDivergence": lambda: infer.FDivergence(lambda w: (w - 1) ** 2),
    }.get(name, getattr(infer, name))()

    def surrogate(logits, c):
        log_q = jax.nn.log_softmax(logits)
        return jnp.sum(c.density * log_q) + jnp.sum(c.mass * jnp.exp(log_q))

    q = jax.nn.softmax(logits)
    c = infer.Enumerate().coefficients(objective, log_p - jnp.log(q), q)
    assert c.path is None and c.score is None
    wanted = jax.grad(lambda logits: known(jax.nn.softmax(logits), jnp.exp(log_p)))(logits)
    np.testing.assert_allclose(jax.grad(surrogate)(logits, c), wanted, atol=1e-12)
    np.testing.assert_allclose(
        objective.value(log_p - jnp.log(q), q), known(q, jnp.exp(log_p)), rtol=1e-12
    )


@pytest.mark.parametrize("name", ["ReverseKL", "IWAE"])
def test_scores_of_hard_draws_agree_with_enumeration(name, x64):
    """20,000 gradients of 4 draws: every entry within 4.5 standard errors."""
    objective, n = getattr(infer, name)(), 20_000
    vae, data, state = case(infer.Hard(), infer.Score(), n_samples=4, objective=objective)
    wanted = exact(lower_bound if name == "ReverseKL" else importance_weighted, state.model)
    found = np.asarray(ascents(vae, data, state, n))
    error = found.std(axis=0) / n**0.5
    assert (np.abs(found.mean(axis=0) - wanted) <= 4.5 * error + 1e-12).all()
    for part in (ENCODER, DECODER):
        assert np.linalg.norm(wanted[part]) > 10 * np.linalg.norm(error[part])


def test_the_bias_of_relaxed_draws_falls_with_temperature(x64):
    print()
    n = 20_000
    for rule in (infer.Relaxed, infer.StraightThrough):
        for temperature in (2.0, 1.0, 0.5, 0.2, 0.1):
            vae, data, state = case(rule(temperature), infer.Reparam())
            w = exact(lower_bound, state.model)
            f = np.asarray(ascents(vae, data, state, n))
            for part in (ENCODER, slice(30, -59), DECODER):
                u = np.linalg.norm(w[part])
                e = f.std(0)[part] / n**0.5
                print(
                    rule.__name__,
                    temperature,
                    np.linalg.norm((f.mean(0) - w)[part]) / u,
                    np.linalg.norm(e) / u,
                    np.max(np.abs((f.mean(0) - w)[part]) / e),
                )
