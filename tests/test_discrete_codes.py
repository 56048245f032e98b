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


@pytest.mark.parametrize("rule", [infer.Relaxed, infer.StraightThrough])
def test_the_bias_of_relaxed_draws_falls_with_temperature(rule, x64):
    """1000 gradients each; 51 and 11 % of its length (straight through 57 and 19 %) by 4000."""
    bias, noise = [], []
    for temperature in (2.0, 0.5):
        vae, data, state = case(rule(temperature), infer.Reparam())
        wanted = np.asarray(exact(lower_bound, state.model))
        found = np.asarray(ascents(vae, data, state, 1000))
        error = found.std(axis=0) / 1000**0.5
        bias.append(np.linalg.norm((found.mean(axis=0) - wanted)[ENCODER]))
        noise.append(np.linalg.norm(error[ENCODER]))
        if rule is infer.StraightThrough:  # codes stay codes: unbiased for prior and decoder
            gap = np.abs(found.mean(axis=0) - wanted)[30:]
            assert (gap <= 4.5 * error[30:] + 1e-12).all()
    assert bias[0] > bias[1] + 4 * np.hypot(*noise)
    assert bias[1] > 0.05 * np.linalg.norm(wanted[ENCODER])  # there is one


def test_relaxed_draws_have_the_exact_divergence_from_the_uniform_prior(x64):
    """Where the decoder ignores z, what is left of the gradient in the encoder is that of KL."""
    vae, data, state = case(infer.Relaxed(0.7), infer.Reparam(), infer.UniformCategorical(C))
    first = lambda s: s.model.decoder.layers[0].weight  # noqa: E731
    state = eqx.tree_at(first, state, jnp.zeros_like(first(state)))
    wanted = exact(lower_bound, state.model)
    found = ascents(vae, data, state, 3)[:, ENCODER]
    np.testing.assert_allclose(found, np.tile(wanted[ENCODER], (3, 1)), rtol=0, atol=1e-12)
    assert np.linalg.norm(wanted[ENCODER]) > 0.1


def test_straight_through_draws_are_codes_that_move_like_relaxed_ones():
    """So a function linear in z gets the same gradient from both, by the same key."""
    logits = jax.random.normal(jax.random.key(1), (V, C))
    weights = jax.random.normal(jax.random.key(2), (V * C,))

    @jax.jit
    def look(logits):
        def linear(logits, rule):
            draws = rule.draw(jax.random.key(0), jax.nn.log_softmax(logits), 50)
            return jnp.mean(draws.x @ weights), draws

        rules = infer.StraightThrough(0.4), infer.Relaxed(0.4)
        return [jax.grad(linear, has_aux=True)(logits, rule) for rule in rules]

    (g_hard, hard), (g_soft, soft) = look(logits)
    np.testing.assert_allclose(g_hard, g_soft, rtol=1e-5)
    assert set(np.unique(hard.x)) == {0.0, 1.0}
    assert (hard.x.reshape(50, V, C).sum(axis=2) == 1).all()
    assert (hard.x.reshape(50, V, C).argmax(2) == soft.x.reshape(50, V, C).argmax(2)).all()
    assert soft.x.max() < 1 and np.allclose(soft.x.reshape(50, V, C).sum(axis=2), 1, atol=1e-6)
    p = np.exp(jax.nn.log_softmax(logits))
    np.testing.assert_allclose(hard.log_q, (p * np.log(p)).sum(), rtol=1e-5)
    assert not soft.score.any()


def test_a_distribution_of_codes_knows_itself(x64):
    """Probabilities, entropy and moments by enumeration; frequencies of draws."""
    logits, z = np.random.default_rng(1).normal(size=(V, C)), np.array(STATES)
    head = infer.Categorical(C).head(jax.random.key(0), V)

    @jax.jit
    def look(outputs):
        q = head(outputs)
        mean, covariance = q.moments()
        draws = q.equal_draws(jax.random.key(3), 20_000)
        log_p = jax.vmap(q.log_prob)(jnp.asarray(z))
        return log_p, q.entropy(), mean, covariance.dense(), draws, head.code(outputs)

    log_p, entropy, mean, covariance, draws, code = look(logits.ravel())
    p, pi = np.exp(log_p), np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p.reshape(C, C), np.outer(pi[0], pi[1]), rtol=1e-12)
    np.testing.assert_allclose(entropy, -(p @ log_p), rtol=1e-12)
    np.testing.assert_allclose(mean, p @ z, rtol=1e-12)
    np.testing.assert_allclose(covariance, ((z - p @ z).T * p) @ (z - p @ z), atol=1e-12)
    np.testing.assert_array_equal(code, z[np.argmax(p)])
    number = (np.asarray(draws.x) @ [0, 3, 6, 0, 1, 2]).astype(int)
    np.testing.assert_array_equal(draws.x, z[number])
    np.testing.assert_allclose(draws.log_q, np.asarray(log_p)[number], rtol=1e-12)
    counted = np.bincount(number, minlength=9) / 20_000
    assert (np.abs(counted - p) < 4.5 * np.sqrt(p * (1 - p) / 20_000)).all()


def test_a_temperature_may_follow_the_steps():
    schedule = optax.exponential_decay(1.0, 100, 0.5)
    head = infer.Categorical(C, infer.Relaxed(schedule)).head(jax.random.key(0), V)
    for t in (0, 250):
        found = head.at(jnp.asarray(t)).draws.value.temperature
        np.testing.assert_allclose(found, 0.5 ** (t / 100), rtol=1e-6)
    assert not jax.tree.leaves(head)  # part of the program: nothing in it is trained
    key, logits = jax.random.key(5), jnp.arange(6.0).reshape(V, C) / 3
    fixed = infer.Relaxed(1.0).draw(key, logits, 2).x
    np.testing.assert_array_equal(infer.Relaxed(schedule).draw(key, logits, 2).x, fixed)


REFUSED = {
    "prior": ({"prior": infer.Standard()}, "write prior=infer.UniformCategorical(3)"),
    "classes": ({"prior": infer.UniformCategorical(4)}, "write prior=infer.UniformCategorical(3)"),
    "path": ({"estimator": infer.Path()}, "write estimator=infer.Score(), n_samples=8"),
    "reparam": ({"estimator": infer.Reparam(), "n_samples": 4}, "write estimator=infer.Score()"),
    "single": ({"estimator": infer.Score()}, "write estimator=infer.Score(), n_samples=8"),
    "hard": ({"estimator": infer.Enumerate()}, "write estimator=infer.Score(), n_samples=8"),
    "states": ({"draws": infer.Enumerated(), "latent": 8}, "at most 4096 codes, got 3\\^8"),
    "enumerated": ({"draws": infer.Enumerated()}, "write estimator=infer.Enumerate()"),
    "count": (
        {"draws": infer.Enumerated(), "estimator": infer.Enumerate(), "n_samples": 4},
        "write estimator=infer.Enumerate(), n_samples=1",
    ),
    "own": (
        {
            "draws": infer.Enumerated(),
            "estimator": infer.Enumerate(),
            "objective": infer.Objective(lambda log_w: jnp.mean(log_w)),
        },
        "write objective=infer.ReverseKL()",
    ),
    "relaxed": ({"draws": infer.Relaxed(0.5)}, "write estimator=infer.Reparam()"),
    "nonlinear": (
        {
            "draws": infer.StraightThrough(0.5),
            "estimator": infer.Reparam(),
            "objective": infer.IWAE(),
        },
        "write objective=infer.ReverseKL()",
    ),
    "model": (
        {
            "draws": infer.StraightThrough(0.5),
            "estimator": infer.Reparam(),
            "objective": (infer.ReverseKL(), infer.IWAE()),
        },
        "VAE cannot fit a model by Renyi",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_does_not_go_together(name):
    options, message = REFUSED[name]
    defaults = {"draws": infer.Hard(), "latent": V, "prior": infer.UniformCategorical(C)}
    options = defaults | options
    posterior = infer.Categorical(C, options.pop("draws"))
    with pytest.raises(ValueError, match=message.replace("(", "\\(").replace(")", "\\)")):
        infer.VAE(Bernoulli(), posterior=posterior, **options)


def test_refuses_single_parts():
    for rule in (infer.Relaxed, infer.StraightThrough):
        with pytest.raises(ValueError, match="temperature must be > 0, got 0.0; write"):
            rule(0.0)
    with pytest.raises(ValueError, match="temperature must be > 0"):
        infer.Relaxed(lambda t: -1.0)
    with pytest.raises(ValueError, match="n_classes >= 2"):
        infer.Categorical(1)
    with pytest.raises(TypeError, match="draws=infer.Hard"):
        infer.Categorical(3, 0.5)
    with pytest.raises(ValueError, match=r"write posterior=infer.Categorical\(3\)"):
        infer.VAE(Bernoulli(), prior=infer.UniformCategorical(3))
    with pytest.raises(ValueError, match="write estimator=infer.Reparam"):
        infer.VI(estimator=infer.Enumerate())


def test_only_one_estimator_goes_with_each_kind_of_discrete_draws():
    names = {
        kind: [type(e).__name__ for e in valid_estimators(infer.ReverseKL(), kind, n)]
        for kind, n in [(Sampling.DISCRETE, 4), (Sampling.RELAXED, 4), (Sampling.EXHAUSTIVE, 1)]
    }
    assert list(names.values()) == [["Score"], ["Reparam"], ["Enumerate"]]


def best_mixture(x, p, steps=300):
    """The likeliest mixture of 4 Bernoulli components by EM: mean log evidence."""
    weights = np.full(len(p), 1 / len(p))
    for _ in range(steps):
        log_joint = np.log(weights) + x @ np.log(p).T + (1 - x) @ np.log(1 - p).T
        top = log_joint.max(axis=1, keepdims=True)
        log_p = top[:, 0] + np.log(np.exp(log_joint - top).sum(axis=1))
        r = np.exp(log_joint - log_p[:, None])
        weights, p = r.mean(axis=0), (r.T @ x) / r.sum(axis=0)[:, None]
    return log_p.mean(), p, weights


def test_a_fit_of_four_clusters_is_the_likeliest_mixture():
    """Encoder and decoder are affine: the best model is a mixture, its posterior in the family."""
    rng = np.random.default_rng(0)
    centers = np.array([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]] * 2)
    centers[2:, ::2] = 1 - centers[2:, ::2]
    which = rng.choice(4, 500, p=[0.4, 0.3, 0.2, 0.1])
    x = np.where(rng.random((500, 8)) < 0.1, 1 - centers[which], centers[which]).astype(float)
    best, p, weights = best_mixture(x, 0.1 + 0.8 * centers)
    vae = infer.VAE(
        Bernoulli(),
        latent=1,
        encoder=infer.MLP(()),
        decoder=infer.MLP(()),
        posterior=infer.Categorical(4, infer.Enumerated()),
        prior=infer.FactorizedCategorical(4),
        estimator=infer.Enumerate(),
        optimizer=infer.optimizer(optax.adam, learning_rate=0.05),
    )
    result = infer.fit(infer.Data(x), vae, key=0, steps=1000, progress=False)
    loss = result.history["loss"][0, -1]
    assert -1e-5 < best + loss < 1e-3  # the bound is tight, and not above the best evidence
    codes = np.asarray(result.encode(x)).argmax(axis=1)
    order = [int(np.argmax(np.bincount(codes[which == i], minlength=4))) for i in range(4)]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(result.decode(np.eye(4)[order]), p, atol=0.02)
    np.testing.assert_allclose(
        jax.nn.softmax(result.model.prior.logits[0])[jnp.asarray(order)], weights, atol=0.01
    )
    z = np.eye(4)
    wanted = np.log([np.sum(np.prod(p * r + (1 - p) * (1 - r), axis=1) * weights) for r in x[:20]])
    evidence = result.evidence(x[:20], key=1, n_samples=400)
    np.testing.assert_allclose(evidence.log_evidence, wanted, atol=0.05)
    one = result.given(x[0], key=2)
    assert result.verdict.status == one.verdict.status == "ok"
    assert set(np.unique(one.draws()["z"])) <= {0.0, 1.0}
    made = np.asarray(result.generate(4000, key=3))
    np.testing.assert_allclose(made.mean(axis=0), weights @ p, atol=4.5 * 0.5 / 4000**0.5)
    hard = np.asarray(result.reconstruct(x[:20]))
    np.testing.assert_allclose(hard, np.asarray(result.decode(z))[codes[:20]], atol=1e-6)
    with pytest.raises(ValueError, match="write inflate=None"):
        result.evidence(x[:2], key=0, inflate=1.2)
