"""Fits to rows as a user meets them: runs, files, posteriors of rows, verdicts, refusals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.example_libraries import stax

import infer
from infer.likelihoods import Bernoulli, Gaussian

QUIET = {"progress": False, "key": 0}
SMALL = {"latent": 2, "encoder": infer.MLP((5,)), "decoder": infer.MLP((7,))}


def binary(n=60, d=6, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    logits = z @ (3 * rng.normal(size=(2, d)))
    return (rng.random((n, d)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.fixture(scope="module")
def data():
    return infer.Data(binary(), batch_size=16, held_out=infer.Data(binary(20, seed=1)))


@pytest.fixture(scope="module")
def vae():
    return infer.VAE(Bernoulli(), **SMALL)


@pytest.fixture(scope="module")
def result(data, vae):
    return infer.fit(data, vae, steps=40, chunk=10, **QUIET)


def same(first, second):
    for a, b in zip(jax.tree.leaves(first.model), jax.tree.leaves(second.model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_chunks_and_resuming_change_no_bit(data, vae, result, tmp_path):
    path = tmp_path / "run"
    infer.fit(data, vae, steps=40, chunk=10, checkpoint=path, callbacks=[_at(20)], **QUIET)
    resumed = infer.fit(data, vae, steps=40, resume=path, chunk=7, **QUIET)
    same(result, resumed)
    extended = infer.fit(data, vae, steps=15, **QUIET).extend(steps=25, progress=False)
    same(result, extended)
    assert extended.verdict.status == result.verdict.status


def _at(step):
    return lambda progress: progress.step >= step


def test_files(data, vae, result, tmp_path):
    path = tmp_path / "result"
    result.save(path)
    same(result, infer.load(path, data, vae))
    bare = infer.load(path)
    assert str(bare.verdict) == str(result.verdict)
    np.testing.assert_array_equal(bare.history["loss"], result.history["loss"])
    with pytest.raises(ValueError, match=r"infer.load\(path, data, algorithm\)"):
        _ = bare.model
    with pytest.raises(ValueError, match="another"):
        infer.load(path, infer.Data(binary(seed=5), batch_size=16), vae)
    carried = infer.fit(data, vae, key=1, init=infer.load(path, data, vae), steps=5, progress=False)
    assert not np.array_equal(
        carried.model.decoder.layers[0].weight, result.model.decoder.layers[0].weight
    )


def test_what_a_result_gives(data, result):
    x = np.asarray(data.rows.x)
    assert result.encode().shape == (60, 2)
    assert result.reconstruct(x[:3]).shape == (3, 6)
    new = result.generate(5, key=0)
    assert new.shape == (5, 6) and set(np.unique(new)) <= {0, 1}
    assert result.interpolate(x[0], x[1], n=4).shape == (4, 6)
    np.testing.assert_allclose(
        result.interpolate(x[0], x[1], n=2), result.reconstruct(x[:2]), rtol=1e-5
    )
    assert "nats per row" in result.summary() and "VAE" in repr(result)
    with pytest.raises(ValueError, match=r"result.given\(x, key=0\)"):
        result.draws()


def test_the_posterior_of_a_row_is_a_result(data, result):
    x = np.asarray(data.rows.x[4])
    given = result.given(x, key=3, draws=50)
    assert given["z"].shape == (1, 50, 2)
    q = result.model.posterior(infer.core.data.Rows(jnp.asarray(x)))
    np.testing.assert_allclose(given.posterior.mean, q.mean, rtol=1e-6, atol=1e-7)
    row = infer.core.data.Rows(jnp.asarray(x))
    log_joint = jax.vmap(lambda z: result.model.log_joint(z, row))(jnp.asarray(given.z[0]))
    np.testing.assert_allclose(given.log_prob[0], log_joint, rtol=1e-5)
    assert "KL gap" in str([e.name for e in given.verdict.evidence])
    assert given.to_arviz()["posterior"]["z"].shape == (1, 50, 2)


def test_evidence_by_quadrature(data, result):
    """Two latent variables: log p(x) on a grid."""
    x = jnp.asarray(data.held_out.rows.x)
    line = np.linspace(-7, 7, 120)
    grid = jnp.asarray(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2), jnp.float32)

    @jax.jit
    def exact(x):
        row = infer.core.data.Rows(x)
        values = jax.vmap(lambda z: result.model.log_joint(z, row))(grid)
        return jax.nn.logsumexp(values) + 2 * jnp.log(line[1] - line[0])

    wanted = jax.vmap(exact)(x)
    found = result.evidence(key=0, n_samples=2000)
    z = (found.log_evidence - wanted) / np.maximum(found.error, 1e-4)
    assert np.all(abs(z) < 5)
    assert np.all(found.elbo < wanted + 5 * found.elbo_error)


def test_latent_use_is_exact_for_a_linear_model(x64):
    """Rate, information and marginal divergence of a Gaussian model, against their integrals."""
    from infer.diagnostics.latents import latent_use, predicted_active

    rng = np.random.default_rng(0)
    n, s = 2000, np.array([0.5, 1.0])
    means = rng.normal(size=(n, 2)) * np.sqrt([0.75, 0.0])
    z = means + s * rng.normal(size=(n, 2))

    def log_normal(x, m, sd):
        return np.sum(-0.5 * ((x - m) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi), axis=-1)

    log_q = log_normal(z, means, s)
    aggregate = np.array([np.logaddexp.reduce(log_normal(one, means, s)) - np.log(n) for one in z])
    use = latent_use(means, log_q, aggregate, log_normal(z, 0, 1))
    assert use.active == 1
    # The aggregate is N(0, I): the information is that of one Gaussian channel, log 2.
    np.testing.assert_allclose(use.information, np.log(2), atol=0.06)
    np.testing.assert_allclose(use.marginal_kl, 0, atol=0.03)
    np.testing.assert_allclose(use.rate, use.information + use.marginal_kl, rtol=1e-12)
    x = rng.normal(size=(500, 4)) * np.array([3.0, 2.0, 0.5, 0.4])
    assert predicted_active(x, 1.0, 3) == 2
    assert predicted_active(x, 1.0, 1) == 1
    assert predicted_active(x, 0.2, 4) == 3


def test_every_row_is_seen_and_transformed():
    x = np.arange(12.0).reshape(6, 2)
    problem = infer.Data(x, batch_size=4, transform=lambda key, row: row + 100)
    drawn = np.concatenate([problem.subsample(jax.random.key(i)).rows.x[:, 0] for i in range(30)])
    assert set(drawn) == set(100 + x[:, 0])
    assert not problem.exact and problem.subsample(jax.random.key(0)).exact
    mask = np.ones(x.shape, bool)
    mask[1, 0] = False
    masked = infer.Data(x, mask=mask, transform=lambda key, row: row + 100)
    assert masked.seen(jax.random.key(0)).x[1, 0] == 0


@pytest.mark.slow
def test_annealed_beta_and_regularizers_act(data):
    def at(beta=None, **settings):
        vae = infer.VAE(Bernoulli(), beta=beta, **SMALL, **settings)
        return infer.fit(data, vae, steps=12, **QUIET)

    plain, zero = at(), at(0.0)
    assert plain.history["loss"][0, -1] != zero.history["loss"][0, -1]
    same(at(lambda t: 0.0 * t), zero)
    pulled = at(0.0, regularizers=(infer.regularizers.KL(weight=1.0),))
    assert set(pulled.history) >= {"loss", "KL"}
    assert np.all(pulled.history["KL"] > 0)


def test_restarts_and_the_best_of_them(data, vae):
    both = infer.fit(data, vae, steps=60, chains=2, **QUIET)
    assert both.history["loss"].shape == (2, 60)
    first = both.history["loss"][:, -15:].mean(axis=1)
    best = int(np.argmin(first))
    weights = both.trail.carry.states.average.decoder.layers[0].weight
    np.testing.assert_array_equal(both.model.decoder.layers[0].weight, weights[best])


def test_a_rate_that_diverges_fails(data):
    vae = infer.VAE(Gaussian(0.1), optimizer=infer.optimizer(optax.sgd, learning_rate=1e6), **SMALL)
    result = infer.fit(data, vae, steps=50, **QUIET)
    assert result.verdict.status == "failed"
    assert result.outcome.ending is infer.Ending.NONFINITE
    leaves = jax.tree.leaves(eqx.filter(result.model, eqx.is_inexact_array))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def refused(kind, match, make):
    with pytest.raises(kind, match=match):
        make()


def test_bad_input_is_refused_before_compilation(data):
    x = binary()
    gray = np.full((10, 6), 0.5)
    hole = x.copy()
    hole[2, 3] = np.nan
    fit = lambda d, v: infer.fit(d, v, steps=1, **QUIET)  # noqa: E731
    refused(
        ValueError,
        "likelihood=infer.likelihoods",
        lambda: fit(infer.Data(gray), infer.VAE(Bernoulli(), **SMALL)),
    )
    refused(ValueError, r"first at \(2, 3\)", lambda: infer.Data(hole))
    refused(ValueError, "mask as booleans", lambda: infer.Data(x, mask=np.ones((3, 2), bool)))
    refused(ValueError, "n_samples", lambda: infer.VAE(Bernoulli(), n_samples=0))
    refused(ValueError, "latent", lambda: infer.VAE(Bernoulli(), latent=0))
    refused(ValueError, "batch_size", lambda: infer.Data(x, batch_size=0))
    refused(ValueError, "shapes", lambda: infer.Data(x, held_out=infer.Data(x[:, :3])))
    wrong = eqx.nn.Linear(6, 3, key=jax.random.key(0))
    refused(
        ValueError,
        r"encoder of the VAE gives shape \(3,\).*needs \(4,\)",
        lambda: fit(data, infer.VAE(Bernoulli(), latent=2, encoder=wrong)),
    )
    wrong = eqx.nn.Linear(2, 5, key=jax.random.key(0))
    refused(
        ValueError,
        r"decoder of the VAE gives shape \(5,\).*needs \(6,\)",
        lambda: fit(data, infer.VAE(Bernoulli(), latent=2, decoder=wrong)),
    )
    refused(
        TypeError,
        "infer.VI",
        lambda: fit(infer.from_log_density(lambda z: -z @ z, np.ones(2)), infer.VAE(Bernoulli())),
    )
    refused(TypeError, "infer.VAE", lambda: fit(data, infer.VI()))
    refused(
        ValueError, "result.given", lambda: infer.fit(data, infer.VAE(Bernoulli()), key=0, draws=10)
    )
    even = infer.EvenDraws(infer.MeanField(1.0), infer.SigmaPoints())
    refused(
        ValueError,
        "not linear",
        lambda: infer.VAE(
            Bernoulli(),
            posterior=even,
            n_samples=16,
            objective=infer.IWAE(),
            estimator=infer.Reparam(),
        ),
    )
    refused(
        ValueError,
        "groups",
        lambda: infer.VAE(
            Bernoulli(), n_samples=5, objective=infer.Repeated(infer.IWAE(), groups=2)
        ),
    )
    refused(
        ValueError, "IWAE", lambda: infer.VAE(Bernoulli(), objective=infer.ForwardKL(), n_samples=4)
    )
    refused(
        ValueError,
        "no beta",
        lambda: infer.VAE(
            Bernoulli(), n_samples=4, beta=2.0, objective=(infer.ForwardKL(), infer.IWAE())
        ),
    )
    refused(ValueError, "transform", lambda: infer.Data(x, transform=lambda key, row: row[:2]))
    refused(
        ValueError,
        "top",
        lambda: fit(
            data, infer.VAE(Bernoulli(), latent=2, posterior=infer.HierarchicalPosterior(2))
        ),
    )


def test_a_raising_network_is_named(data):
    class Broken(eqx.Module):
        def __call__(self, x):
            raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError) as caught:
        infer.fit(data, infer.VAE(Bernoulli(), latent=2, encoder=Broken()), steps=1, **QUIET)
    assert "encoder of the VAE" in str(caught.value.__notes__)


def test_a_step_keeps_its_shape_and_new_numbers_compile_nothing(data):
    def vae(rate, beta):
        chosen = infer.optimizer(optax.adam, learning_rate=rate)
        return infer.VAE(Bernoulli(), beta=beta, optimizer=chosen, **SMALL).ready(data)

    traced = []

    @eqx.filter_jit
    def step(vae, key, sample, state):
        traced.append(1)
        return vae.step(key, sample, state)

    first = vae(1e-3, 1.0)
    state = first.init(jax.random.key(0), data)
    sample = data.subsample(jax.random.key(1))
    after, _ = step(first, jax.random.key(2), sample, state)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s) for s in (state, after)]
    assert jax.tree.structure(state) == jax.tree.structure(after)
    assert jax.tree.leaves(shapes[0]) == jax.tree.leaves(shapes[1])
    other = infer.Data(binary(seed=9), batch_size=16).subsample(jax.random.key(5))
    step(vae(3e-2, 0.5), jax.random.key(3), other, after)
    assert len(traced) == 1


def test_networks_of_other_libraries(data, unchecked):
    """Two layers by stax, against the formula; the weights are trained."""
    made = stax.serial(stax.Dense(8), stax.Tanh, stax.Dense(6))
    by_stax = infer.Functional(lambda key, x: made[0](key, x.shape)[1], made[1])
    vae = infer.VAE(Bernoulli(), **SMALL | {"decoder": by_stax})
    result = infer.fit(data, vae, steps=20, **QUIET)
    z = jnp.array([0.3, -1.0])
    (w1, b1), _, (w2, b2) = result.model.decoder.params
    logits = jnp.tanh(z @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(result.decode(z[None])[0], jax.nn.sigmoid(logits), rtol=1e-5)
    later = result.extend(steps=20).model.decoder.params[2]
    assert all(np.abs(a - b).max() > 0 for a, b in zip(later, (w2, b2), strict=True))
    with pytest.raises(TypeError, match="infer.Functional\\(module.init, module.apply\\)"):
        infer.Functional(made, made[1])
    wrong = infer.Functional(lambda key, x: {"units": 8}, made[1])
    with pytest.raises(TypeError, match="arrays alone, got 8"):
        infer.fit(data, infer.VAE(Bernoulli(), **SMALL | {"decoder": wrong}), **QUIET)


def test_flax_modules_plug_in(data):
    linen, nnx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx")
    small = linen.Sequential([linen.Dense(8), linen.tanh, linen.Dense(6)])
    decoders = {
        "linen": infer.Functional(small.init, small.apply),
        "nnx": nnx.Linear(2, 6, rngs=nnx.Rngs(0)),
    }
    for decoder in decoders.values():
        vae = infer.VAE(Bernoulli(), **SMALL | {"decoder": decoder})
        result = infer.fit(data, vae, steps=200, **QUIET)
        loss = result.history["loss"][0]
        assert np.isfinite(loss).all() and loss[-20:].mean() < loss[:20].mean()
