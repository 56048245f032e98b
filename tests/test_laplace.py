"""The Laplace approximation, and generalized linear models declared as such."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer

D, N = 5, 50


def logistic(eta, y):
    return y * eta - jax.nn.softplus(eta)


def data():
    rng = np.random.default_rng(0)
    beta, x = rng.normal(size=D), rng.normal(size=(N, D))
    y = 1.0 * (rng.uniform(size=N) < 1 / (1 + np.exp(-x @ beta)))
    return x, y


def fit(target, algorithm, **options):
    return infer.fit(target, algorithm, key=0, progress=False, **options)


def newton_mode(x, y, scale, mean, offset):
    """Mode and inverse Hessian of the posterior, by Newton's method in NumPy."""
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ beta + offset)))
        gradient = x.T @ (p - y) + (beta - mean) / scale**2
        hessian = (x.T * (p * (1 - p))) @ x + np.diag(1 / scale**2)
        beta = beta - np.linalg.solve(hessian, gradient)
    return beta, np.linalg.inv(hessian)


def test_mode_and_curvature(x64):
    x, y = data()
    scale, mean, offset = np.linspace(0.5, 2, D), np.linspace(-1, 1, D), np.linspace(0, 1, N)
    target = infer.from_glm(
        x, y, logistic, prior_scale=scale, prior_mean=mean, offset=offset, name="slope"
    )
    result = fit(target, infer.Laplace(tolerance=1e-16))
    assert result.outcome.ending is infer.Ending.CONVERGED
    mode, covariance = newton_mode(x, y, scale, mean, offset)
    np.testing.assert_allclose(result.posterior.mean, mode, rtol=1e-8)
    np.testing.assert_allclose(result.posterior.covariance, covariance, rtol=1e-6, atol=1e-9)
    assert result.draws()["slope"].shape == (1, 1000, D)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_scales_do_not_matter(scale):
    """A Gaussian whose standard deviations span eight decades, in float32."""
    sd = jnp.asarray(scale * np.geomspace(1e-4, 1e4, 4), jnp.float32)
    target = infer.from_log_density(lambda x, s: -0.5 * jnp.sum((x / s - 1) ** 2), sd, data=sd)
    result = fit(target, infer.Laplace())
    np.testing.assert_allclose(result.posterior.mean, sd, rtol=1e-3)
    np.testing.assert_allclose(np.diag(result.posterior.covariance), sd**2, rtol=1e-3)
    assert result.verdict.status == "ok", result.verdict


def saddle(z):
    """No mode: along the first coordinate the density only rises, from a saddle at the origin."""
    return 0.5 * z[0] ** 2 - 0.5 * z[1] ** 2


def test_an_indefinite_hessian_is_said_aloud(capsys):
    target = infer.from_log_density(saddle, jnp.zeros(2))
    result = fit(target, infer.Laplace(), init={"x": np.zeros(2, np.float32)})
    assert result.verdict.status == "failed"
    evidence = result.verdict["mode"]
    assert evidence.status == "failed" and evidence.value < 0
    assert "not positive definite" in evidence.meaning and "FBGVI" in evidence.meaning


def test_stepping_after_the_end_changes_nothing(x64):
    x, y = data()
    target = infer.from_glm(x, y, logistic)
    result = fit(target, infer.Laplace(), steps=40)
    state = jax.tree.map(lambda leaf: leaf[0], result.trail.carry.states)
    again, info = infer.Laplace().step(jax.random.key(9), target, state)
    assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(again)))
    assert info.gradients == 0


def test_laplace_needs_a_second_derivative():
    def square(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda x: -0.5 * np.square(x), shape, x, vmap_method="sequential")

    slope = jax.custom_vjp(square)
    slope.defvjp(lambda x: (square(x), x), lambda x, g: (2 * g * square(x) / x,))
    target = infer.from_log_density(lambda x: jnp.sum(slope(x)), jnp.ones(2))
    with pytest.raises(TypeError, match=r"Laplace needs .*oracle=infer\.Stein\(\)"):
        fit(target, infer.Laplace())


def test_a_declared_model_has_the_density_it_says(x64):
    x, y = data()
    target = infer.from_glm(x, y, logistic, prior_scale=2.0, prior_mean=0.5)
    beta = np.linspace(-1, 1, D)
    eta = x @ beta
    want = np.sum(y * eta - np.log1p(np.exp(eta))) - np.sum((beta - 0.5) ** 2) / 8
    np.testing.assert_allclose(target.log_prob(jnp.asarray(beta)), want, rtol=1e-12)
    values = target.log_likelihood(jnp.asarray(beta))["log_likelihood"]
    np.testing.assert_allclose(values, y * eta - np.log1p(np.exp(eta)), rtol=1e-12)


def test_a_flat_prior(x64):
    x, y = data()
    target = infer.from_glm(x, y, logistic, prior_scale=jnp.inf)
    mode, _ = newton_mode(x, y, np.full(D, np.inf), 0.0, 0.0)
    np.testing.assert_allclose(fit(target, infer.Laplace()).posterior.mean, mode, rtol=1e-4)


def test_quadrature_and_hessians_agree(x64):
    """Counts of a Poisson regression: E exp(eta) is known, so quadrature is checked by it too."""
    x, _ = data()
    y = np.random.default_rng(1).poisson(2.0, N)
    target = infer.from_glm(x, y, lambda eta, y: y * eta - jnp.exp(eta), prior_scale=0.5)
    exact = fit(target, infer.FBGVI(oracle=infer.GaussHermite(), tolerance=1e-10))
    assert exact.outcome.ending is infer.Ending.CONVERGED
    m, s = np.asarray(exact.posterior.mean), np.asarray(exact.posterior.covariance)
    rate = np.exp(x @ m + 0.5 * np.sum((x @ s) * x, axis=1))
    np.testing.assert_allclose(x.T @ (rate - y) + 4 * m, 0, atol=1e-3)
    np.testing.assert_allclose((x.T * rate) @ x + 4 * np.eye(D), np.linalg.inv(s), rtol=1e-4)
    plain = fit(target, infer.FBGVI(oracle=infer.Price()))
    np.testing.assert_allclose(plain.posterior.mean, m, atol=0.05 * np.sqrt(np.diag(s)).min())


def test_minibatches_of_a_declared_model():
    x, y = data()
    target = infer.from_glm(x, y, logistic, batch_size=10)
    oracle = infer.Price(points=infer.Independent(8))
    assert np.isfinite(fit(target, infer.FBGVI(oracle=oracle), steps=20).z).all()
    with pytest.raises(ValueError, match=r"FBGVI needs the density on all rows.*target\.full\(\)"):
        fit(target, infer.FBGVI(oracle=infer.GaussHermite()))


def test_quadrature_needs_a_declaration():
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"GaussHermite\(\) needs .*infer\.from_glm"):
        fit(target, infer.FBGVI(oracle=infer.GaussHermite()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": np.zeros(3)}, r"X must be an array of numbers \(n, d\), got shape \(3,\)"),
        ({"offset": np.zeros(3)}, r"offset must have shape \(50,\).*got \(3,\)"),
        ({"prior_scale": 0.0}, r"prior_scale must be > 0, got 0\.0; write prior_scale=1\.0"),
        ({"prior_scale": np.ones(3)}, r"prior_scale must be a number or have shape \(5,\)"),
        ({"prior_mean": np.ones((5, 1))}, r"prior_mean must be a number or have shape \(5,\)"),
        ({"y": np.zeros(7)}, "50"),
    ],
)
def test_wrong_declarations(change, words):
    x, y = data()
    arguments = {"X": x, "y": y, "log_likelihood": logistic} | change
    with pytest.raises(ValueError, match=words):
        infer.from_glm(**arguments)
