"""Codes without a density: vector and scalar quantization."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import infer
from infer.likelihoods import Bernoulli


def quantized(**options):
    """The head of a book of 4 codes of 2 numbers, and 6 rows of 3 groups of outputs."""
    head = infer.VectorQuantized(4, width=2, **options).head(jax.random.key(0), 3)
    return head, 0.1 * jax.random.normal(jax.random.key(1), (6, 6))


def test_the_gradient_before_a_code_is_the_one_at_it():
    head, outputs = quantized()
    book = np.asarray(head.book.value.codes)
    e = np.asarray(outputs[0]).reshape(3, 2)
    nearest = ((e[:, None] - book) ** 2).sum(axis=2).argmin(axis=1)

    def reconstruction(z):
        return jnp.sum(jnp.sin(3 * z) * jnp.arange(1, 7) + z[0] * z[5])

    @jax.jit
    def look(e):
        def draw(e):
            return head(e).sample_score(jax.random.key(0), 1).x[0]

        at = draw(e)
        gradients = [jax.grad(reconstruction)(z) for z in (at, e)]
        return at, head(e).moments()[0], jax.grad(lambda e: reconstruction(draw(e)))(e), *gradients

    z, mean, found, at_code, at_output = look(outputs[0])
    np.testing.assert_allclose(z, book[nearest].ravel(), atol=1e-7)
    np.testing.assert_allclose(mean, book[nearest].ravel(), atol=1e-7)
    np.testing.assert_allclose(found, at_code, rtol=1e-6)
    assert np.abs(found - at_output).max() > 0.01


def test_a_book_without_memory_takes_a_step_of_k_means():
    head, outputs = quantized(decay=0.0)
    book, e = np.asarray(head.book.value.codes), np.asarray(outputs).reshape(-1, 2)
    which = ((e[:, None] - book) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(which, minlength=4)
    assert (counts > 0).all() and len(set(counts)) > 1
    moved, stats = jax.jit(lambda h: h.advance(jax.random.key(2), outputs))(head)
    means = np.stack([e[which == j].mean(axis=0) for j in range(4)])
    np.testing.assert_allclose(moved.book.value.codes, means, rtol=1e-4, atol=1e-6)
    share = counts / counts.sum()
    np.testing.assert_allclose(stats["perplexity"], np.exp(-share @ np.log(share)), rtol=1e-5)
    assert stats["revived_codes"] == 0


def test_a_book_with_memory_follows_running_means():
    """Two batches by the recursion of shares and sums, in numpy."""
    head, outputs = quantized(decay=0.8)
    share, total = np.full(4, 0.25), 0.25 * np.asarray(head.book.value.codes)
    advance = jax.jit(lambda h, o: h.advance(jax.random.key(2), o)[0])
    for batch in (outputs, outputs[::-1] + 0.05):
        e = np.asarray(batch).reshape(-1, 2)
        codes = total / share[:, None]
        hot = np.eye(4)[((e[:, None] - codes) ** 2).sum(axis=2).argmin(axis=1)]
        share = 0.8 * share + 0.2 * hot.mean(axis=0)
        total = 0.8 * total + 0.2 * hot.T @ e / len(e)
        head = advance(head, batch)
    np.testing.assert_allclose(head.book.value.codes, total / share[:, None], rtol=1e-4, atol=1e-6)


def test_dead_codes_become_vectors_of_the_batch():
    head, outputs = quantized(decay=0.0)
    far = eqx.tree_at(lambda h: h.book.value.total, head, head.book.value.total.at[2:].set(50.0))
    advance = jax.jit(lambda h: h.advance(jax.random.key(3), outputs))
    moved, stats = advance(far)
    e, codes = np.asarray(outputs).reshape(-1, 2), np.asarray(moved.book.value.codes)
    assert stats["revived_codes"] == 2
    assert all(np.abs(e - code).sum(axis=1).min() < 1e-6 for code in codes[2:])
    assert advance(moved)[1]["perplexity"] > 2 >= stats["perplexity"]


def test_commitment_moves_the_encoder_alone():
    head, outputs = quantized()

    def penalty(outputs):
        q = jax.vmap(head)(outputs)
        batch = infer.regularizers.Batch(outputs, q.code[:, None], q, q, 0, 6)
        return infer.Commitment(0.5)(jax.random.key(0), batch), q.code

    (value, code), gradient = jax.jit(jax.value_and_grad(penalty, has_aux=True))(outputs)
    far = np.asarray(outputs - code)
    np.testing.assert_allclose(value, 0.5 * (far**2).sum() / 6, rtol=1e-5)
    np.testing.assert_allclose(gradient, far / 6, rtol=1e-4, atol=1e-8)


def test_scalar_codes_are_numbered_one_to_one():
    """Every combination of levels is met and has a number of its own; even and odd levels."""
    head = infer.FiniteScalar((4, 3, 2)).head(jax.random.key(0), 3)
    e = jnp.asarray(list(itertools.product(np.linspace(-3.1, 3, 13), repeat=3)))

    @jax.jit
    def look(e):
        def draw(e):
            return head(e).sample_score(jax.random.key(0), 1).x[0]

        code = jax.vmap(lambda e: head(e).moments()[0])(e)
        return code, jax.vmap(head.index)(code), jax.vmap(jax.jacobian(draw))(e[:5])

    code, index, slope = map(np.asarray, look(e))
    pairs = {(tuple(np.round(c, 4)), int(i)) for c, i in zip(code, index, strict=True)}
    assert len(pairs) == len({c for c, _ in pairs}) == 24
    assert {i for _, i in pairs} == set(range(24))
    np.testing.assert_allclose(np.unique(np.round(code[:, 0], 4)), [-1, -0.3333, 0.3333, 1])
    wanted = [np.diag(1 - np.tanh(row) ** 2) for row in np.asarray(e[:5])]
    np.testing.assert_allclose(slope, wanted, atol=1e-6)


def test_an_empirical_prior_counts():
    x = jnp.asarray([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [2.0, 0.5]])
    q = infer.Empirical(x)
    np.testing.assert_allclose(np.exp([q.log_prob(x[0]), q.log_prob(x[3])]), [0.5, 0.25], rtol=1e-6)
    assert q.log_prob(jnp.asarray([5.0, 5.0])) == -np.inf
    mean, covariance = q.moments()
    np.testing.assert_allclose(covariance.dense(), np.cov(x.T, ddof=0), atol=1e-6)
    draws = q.sample_score(jax.random.key(0), 4000)
    error = np.std(x, axis=0) / 4000**0.5
    assert (np.abs(draws.x.mean(axis=0) - mean) < 4.5 * error).all()
    shares = np.where(draws.x[:, 0] == 0, 0.5, 0.25)
    np.testing.assert_allclose(np.exp(draws.log_q), shares, rtol=1e-6)


def test_a_fit_with_a_book_claims_nothing_and_generates_its_clusters():
    x = np.repeat(np.eye(4), 20, axis=0) @ np.kron(np.eye(4), np.ones((1, 2)))
    vae = infer.VAE(
        Bernoulli(),
        latent=1,
        encoder=infer.MLP(()),
        decoder=infer.MLP((8,)),
        posterior=infer.VectorQuantized(6, width=2, decay=0.9),
        beta=0,
        regularizers=(infer.Commitment(),),
        optimizer=infer.optimizer(optax.adam, learning_rate=0.02),
    )
    result = infer.fit(infer.Data(x), vae, key=0, steps=1500, progress=False)
    assert result.verdict.evidence[0].name == "no density"
    history = result.history
    assert history["perplexity"].shape == history["Commitment"].shape == (1, 1500)
    assert 3.9 < history["perplexity"][0, -1] < 6.1
    assert np.abs(np.asarray(result.reconstruct(x)) - x).max() < 0.1
    with pytest.raises(TypeError, match="needs a posterior with a density"):
        result.given(x[0], key=0)
    with pytest.raises(TypeError, match=r"infer\.Empirical"):
        result.ex_post(key=0)
    made = np.asarray(result.with_prior(infer.Empirical(result.encode())).generate(200, key=1))
    kinds = {tuple(row) for row in np.unique(x, axis=0)}
    assert np.mean([tuple(row) in kinds for row in made]) > 0.9


def test_refuses_codes_that_cannot_be():
    vae = infer.VAE(Bernoulli(), latent=2, posterior=infer.VectorQuantized(9), beta=0)
    with pytest.raises(ValueError, match="n_codes=9 for 4 rows of 2 vectors each; write n_codes=2"):
        vae.ready(infer.Data(np.eye(4)))
    with pytest.raises(ValueError, match="write beta=0"):
        infer.VAE(Bernoulli(), posterior=infer.VectorQuantized(9))
    with pytest.raises(ValueError, match="write beta=0"):
        infer.VAE(Bernoulli(), latent=2, posterior=infer.FiniteScalar((5, 5)), beta=1.0)
    with pytest.raises(ValueError, match="write latent=2"):
        infer.VAE(Bernoulli(), latent=3, posterior=infer.FiniteScalar((5, 5)), beta=0)
    with pytest.raises(ValueError, match="decay < 1"):
        infer.VectorQuantized(9, decay=1.0)
    with pytest.raises(ValueError, match="levels >= 2"):
        infer.FiniteScalar((5, 1))
    with pytest.raises(ValueError, match=r"write posterior=infer\.Categorical"):
        infer.VAE(Bernoulli(), prior=infer.UniformCategorical(3), posterior=infer.Point())


def test_a_step_keeps_the_types_of_the_book():
    """A weakly typed book would compile every program twice."""
    x = (np.random.default_rng(0).random((12, 5)) < 0.4).astype(np.float32)
    data = infer.Data(x)
    vae = infer.VAE(
        infer.likelihoods.Bernoulli(),
        latent=3,
        posterior=infer.VectorQuantized(4, width=2),
        beta=0.0,
        regularizers=(infer.Commitment(),),
    ).ready(data)
    state = vae.init(jax.random.key(0), data)
    after, _ = eqx.filter_eval_shape(vae.step, jax.random.key(1), data, state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
