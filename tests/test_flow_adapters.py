"""Distributions of ours in NumPyro, and FlowJAX's as families of ours."""

from collections import deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer import SVI, Trace_ELBO
from scipy.stats import multivariate_normal, norm

import infer

# To NumPyro -------------------------------------------------------------------------------------


def gaussian(mean, covariance):
    """The member of `FullRank` that is this Gaussian."""
    q = infer.FullRank().init(jax.random.key(0), jnp.asarray(mean, jnp.float32))
    factor = np.linalg.cholesky(covariance)
    log_diagonal = np.log(np.diag(factor))
    parts = (jnp.asarray(part, jnp.float32) for part in (log_diagonal, np.tril(factor, -1)))
    return eqx.tree_at(lambda q: (q.log_diagonal, q.lower), q, tuple(parts))


PRIOR_MEAN, PRIOR = np.array([0.5, -1.0]), np.array([[1.0, 0.6], [0.6, 0.8]])


def test_sample_and_log_prob_are_those_of_the_distribution():
    p = infer.to_numpyro(gaussian(PRIOR_MEAN, PRIOR))
    assert isinstance(p, dist.Distribution) and p.support is dist.constraints.real_vector
    assert p.event_shape == (2,) and p.batch_shape == ()

    @jax.jit
    def look(p, key):
        x = p.sample(key, (3, 4))
        return x, p.log_prob(x), p.sample(key), p.sample(key, (0,)), p.expand([5]).sample(key)

    x, log_p, single, none, expanded = look(p, jax.random.key(1))
    assert x.shape == (3, 4, 2) and single.shape == (2,)
    assert none.shape == (0, 2) and expanded.shape == (5, 2)
    expected = multivariate_normal(PRIOR_MEAN, PRIOR).logpdf(x)
    np.testing.assert_allclose(log_p, expected, rtol=1e-5)
    x_again, *_ = look(p, jax.random.PRNGKey(1))  # a key of old
    np.testing.assert_allclose(x_again, x, rtol=1e-6)


def test_another_distribution_compiles_nothing_new():
    traces = deque()  # a list would be read as data

    @jax.jit
    def look(p):
        traces.append(p)
        return p.log_prob(jnp.zeros(2))

    looked = [look(infer.to_numpyro(gaussian(PRIOR_MEAN + i, PRIOR))) for i in range(2)]
    assert len(traces) == 1 and looked[0] != looked[1]


# y = x_0 + 2 x_1 + noise of standard deviation 0.5, y = 1.2 was seen.
ROW, NOISE, SEEN = np.array([1.0, 2.0]), 0.5, 1.2


def test_as_a_prior_and_as_a_guide():
    """At the exact posterior every draw says the exact evidence; SVI finds it from elsewhere."""
    variance = ROW @ PRIOR @ ROW + NOISE**2
    gain = PRIOR @ ROW / variance
    posterior = gaussian(
        PRIOR_MEAN + gain * (SEEN - ROW @ PRIOR_MEAN), PRIOR - np.outer(gain, ROW @ PRIOR)
    )
    evidence = norm(ROW @ PRIOR_MEAN, variance**0.5).logpdf(SEEN)
    prior = infer.to_numpyro(gaussian(PRIOR_MEAN, PRIOR))

    def model():
        x = numpyro.sample("x", prior)
        numpyro.sample("y", dist.Normal(x @ jnp.asarray(ROW), NOISE), obs=SEEN)

    flat, unravel = ravel_pytree(posterior)

    def guide():
        numpyro.sample("x", infer.to_numpyro(unravel(numpyro.param("q", flat))))

    svi = SVI(model, guide, optax.adam(0.02), Trace_ELBO(num_particles=5))
    loss = jax.jit(lambda key, q: svi.loss.loss(key, {"q": q}, model, guide))
    np.testing.assert_allclose(loss(jax.random.key(1), flat), -evidence, rtol=1e-4)
    away = flat + jnp.asarray([1.0, -1.0, 0.5, 0.5, 0.0, 0.0, 0.7, 0.0])[: len(flat)]
    assert loss(jax.random.key(2), away) > -evidence + 1
    fitted = svi.run(jax.random.key(3), 500, progress_bar=False, init_params={"q": away})
    np.testing.assert_allclose(loss(jax.random.key(4), fitted.params["q"]), -evidence, atol=0.05)


def test_of_a_result_the_flat_unconstrained_distribution():
    target = infer.from_log_density(
        lambda p: -p["rate"] - 0.5 * (p["x"] - p["rate"]) ** 2,
        {"rate": jnp.ones(()), "x": jnp.zeros(())},
        supports={"rate": infer.positive},
    )
    result = infer.fit(target, infer.VI(stopping=None), key=0, steps=200, draws=50, progress=False)
    p = infer.to_numpyro(result.posterior)
    assert p.event_shape == (2,)
    np.testing.assert_allclose(jax.jit(p.log_prob)(result.z[0]), result.log_q[0], rtol=1e-4)


@pytest.mark.parametrize("refused", [infer.Particles(jnp.zeros((5, 2))), infer.FullRank()])
def test_what_has_no_density_is_refused(refused):
    with pytest.raises(TypeError, match=r"Write `infer.to_numpyro\(result.posterior\)`"):
        infer.to_numpyro(refused)


# From FlowJAX -----------------------------------------------------------------------------------


@pytest.fixture
def flowjax():
    return pytest.importorskip("flowjax", reason="pip install 'infer-jax[flowjax]'")


def coupled(flowjax, d=3, **options):
    """A small coupling flow of FlowJAX with every parameter perturbed."""
    import flowjax.flows
    from flowjax.distributions import Normal

    options = {"flow_layers": 2, "nn_width": 4, "invert": False} | options
    base = Normal(jnp.zeros(d), 1.5 * jnp.ones(d))
    flow = flowjax.flows.coupling_flow(jax.random.key(0), base_dist=base, **options)
    arrays, rest = eqx.partition(flow, eqx.is_inexact_array)
    flat, back = ravel_pytree(arrays)
    noise = np.random.default_rng(0).standard_normal(len(flat))
    return eqx.combine(back(flat + 0.3 * jnp.asarray(noise, flat.dtype)), rest)


def test_the_first_member_is_theirs_shifted_and_scaled(flowjax):
    flow = coupled(flowjax)
    start, scale = jnp.asarray([1.0, -2.0, 3.0]), 0.5
    q = infer.from_flowjax(flow, scale=scale).init(jax.random.key(0), start)
    assert all(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(q))

    @jax.jit
    def look(q, key):
        draws = q.sample_score(key, 20)
        u = flow.sample(key, (20,))
        score = jax.vmap(jax.grad(q.log_prob))(draws.x)
        return draws, q.sample(key, 20), score, u, flow.log_prob(u)

    draws, x, score, u, log_q = look(q, jax.random.key(1))
    np.testing.assert_allclose(draws.x, start + scale * u, rtol=1e-5)
    np.testing.assert_allclose(x, draws.x, rtol=1e-5)
    np.testing.assert_allclose(draws.log_q, log_q - 3 * np.log(scale), rtol=1e-4)
    np.testing.assert_allclose(draws.score, score, rtol=1e-3, atol=1e-3)
    assert np.abs(score - score.mean(axis=0)).max() > 1


@pytest.mark.slow
def test_a_flow_of_theirs_is_fitted(flowjax, tmp_path):
    """Reparam and Path lower the loss; what is not trainable stays; the result is saved."""
    from paramax import non_trainable

    flow = coupled(flowjax, d=2)
    fixed = eqx.tree_at(lambda f: f.base_dist, flow, replace_fn=non_trainable)
    family = infer.from_flowjax(fixed, scale=0.5)
    free = infer.from_flowjax(flow, scale=0.5)
    counts = [len(jax.tree.leaves(f.parameters)) for f in (family, free)]
    assert counts[1] == counts[0] + 2
    target = infer.from_log_density(
        lambda x: -0.5 * x[0] ** 2 - 2 * (x[1] - 0.5 * x[0] ** 2) ** 2, jnp.zeros(2)
    )
    for estimator in (infer.Path(), infer.Reparam()):
        adam = infer.optimizer(optax.adam, learning_rate=5e-3)
        vi = infer.VI(family=family, estimator=estimator, optimizer=adam, stopping=None)
        result = infer.fit(target, vi, key=0, steps=400, draws=100, progress=False)
        loss = result.history["loss"][0]
        assert np.isfinite(loss).all() and loss[-100:].mean() < loss[:100].mean() - 0.5
    result.save(tmp_path / "flow")
    np.testing.assert_array_equal(infer.load(tmp_path / "flow").z, result.z)


@pytest.mark.slow
def test_the_jump_that_is_warned_of(flowjax):
    """E_q[d log q / d log scale] is not zero where the slope at the ends of a spline is not one."""
    from flowjax.bijections import RationalQuadraticSpline, Vmap
    from flowjax.distributions import Normal, Transformed

    def mean_score(end):
        spline = RationalQuadraticSpline(knots=3, interval=1)
        raw = spline.derivatives.args[0].at[jnp.asarray([0, -1])].set(np.log(np.expm1(end - 1e-3)))
        spline = eqx.tree_at(lambda s: s.derivatives.args[0], spline, raw)
        stacked = jax.tree.map(lambda a: a[None] if eqx.is_array(a) else a, spline)
        flow = Transformed(Normal(jnp.zeros(1)), Vmap(stacked, in_axes=eqx.if_array(0)))
        with pytest.warns(UserWarning, match="biased"):
            q = infer.from_flowjax(flow).init(jax.random.key(0), jnp.ones(1))

        @jax.jit
        def gradients(q):
            x = q.sample(jax.random.key(1), 100_000)
            return jax.vmap(lambda x: jax.grad(lambda q: q.log_prob(x))(q).place.log_scale[0])(x)

        g = np.asarray(gradients(q))
        return g.mean(), g.std() / len(g) ** 0.5

    mean, error = mean_score(1.0)
    assert abs(mean) < 4 * error
    mean, error = mean_score(3.0)
    assert mean > 20 * error


def test_what_cannot_be_fitted_is_refused(flowjax):
    import flowjax.flows
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal, StandardNormal

    base = StandardNormal((3,))
    with pytest.raises(TypeError, match=r"write `infer.from_flowjax\(flowjax.flows.coupling_flow"):
        infer.from_flowjax("RealNVP")
    with pytest.raises(ValueError, match=r"cond_shape=\(2,\); leave out `cond_dim`"):
        infer.from_flowjax(coupled(flowjax, cond_dim=2))
    with pytest.raises(ValueError, match=r"shape \(d,\), got shape \(2, 2\)"):
        infer.from_flowjax(Normal(jnp.zeros((2, 2))))
    with pytest.raises(ValueError, match=r"inverse.*NumericalInverse"):
        infer.from_flowjax(flowjax.flows.planar_flow(jax.random.key(0), base_dist=base))
    with pytest.raises(ValueError, match="has 3 coordinates, the target 2"):
        infer.from_flowjax(base).init(jax.random.key(0), jnp.zeros(2))
    with pytest.raises(ValueError, match="scale must be > 0"):
        infer.from_flowjax(base, scale=-1.0)
    spline = RationalQuadraticSpline(knots=3, interval=2)
    with pytest.warns(UserWarning, match=r"gradients of a fit are biased. Write `infer.SplineFlow"):
        infer.from_flowjax(coupled(flowjax, transformer=spline))
