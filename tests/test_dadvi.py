"""Deterministic variational inference: fixed draws, Newton steps, linear response."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.core.outcome import Ending
from infer.gaussian.dadvi import DADVI, NewtonSettled

RNG = np.random.default_rng(0)
A = RNG.normal(size=(5, 5))
PRECISION = A @ A.T + 0.3 * np.eye(5)
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = 3 * RNG.normal(size=5)


def gaussian_density(x, t):
    return -0.5 * (x - t["mean"]) @ t["precision"] @ (x - t["mean"])


def gaussian():
    data = jax.tree.map(lambda v: jnp.asarray(v, float), {"precision": PRECISION, "mean": MEAN})
    return infer.from_log_density(gaussian_density, jnp.zeros(5), data=data)


def regression_density(b, t):
    """Logistic regression with a N(0, I) prior and correlated coefficients."""
    eta = t["x"] @ b
    return jnp.sum(t["y"] * eta - jax.nn.softplus(eta)) - 0.5 * b @ b


def regression(n=30, d=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) + 1.5 * rng.normal(size=(n, 1))
    y = rng.uniform(size=n) < 1 / (1 + np.exp(-x @ np.linspace(-1, 1, d)))
    data = {"x": jnp.asarray(x, float), "y": jnp.asarray(y, float)}
    return infer.from_log_density(regression_density, jnp.zeros(d), data=data)


@eqx.filter_jit
def fits(algorithm, target, keys, steps=25):
    """Last states and records of several independent fits."""

    def one(key):
        state = algorithm.init(key, target)
        return jax.lax.scan(lambda s, _: algorithm.step(key, target, s), state, None, length=steps)

    return jax.lax.map(one, keys)


def fit(algorithm, target, key=0, **options):
    return infer.fit(target, algorithm, key=key, progress=False, **options)


def test_linear_response_and_mean_are_exact_for_a_gaussian(x64):
    result = fit(DADVI(), gaussian())
    assert result.outcome.ending is Ending.CONVERGED and result.outcome.steps <= 25
    assert result.verdict.status == "ok", result.verdict
    np.testing.assert_allclose(result.posterior.covariance, COVARIANCE, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(result.posterior.mean, MEAN, rtol=1e-4, atol=1e-4)
    assert np.ravel(result.history["mean_error"])[-1] < 1e-6  # the draws do not move this mean
    assert "converged" in result.verdict["Newton decrement"].meaning


def test_mean_field_of_a_gaussian(x64):
    """Exact at fixed draws: s (P * C) s = 1; var = 1/P_ii and the known gap as N grows."""
    algorithm = DADVI(n_samples=2000, linear_response=False)
    states, _ = fits(algorithm, gaussian(), jax.random.split(jax.random.key(0), 2))
    for noise, s in zip(np.asarray(states.noise), np.asarray(states.scale), strict=True):
        c = noise.T @ noise / 2000
        np.testing.assert_allclose(noise.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(np.diag(c), 1, rtol=1e-12)
        np.testing.assert_allclose(s * ((PRECISION * c) @ s), 1, rtol=1e-4)
        noisy = np.abs(np.diag(PRECISION) * s**2 - 1)
        assert noisy.max() < 0.15  # a sum of four products of correlations of order 1/sqrt(2000)
    gap = 0.5 * (np.sum(np.log(np.diag(PRECISION))) - np.linalg.slogdet(PRECISION)[1])
    log_z = 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    np.testing.assert_allclose(np.mean(states.loss), gap - log_z, atol=0.1)


def test_full_rank_needs_more_draws_than_coordinates(x64):
    for n in (4, 5):
        with pytest.raises(ValueError, match=rf"n_samples={n} in 5 dim.*n_samples=20.*`DADVI\(\)`"):
            fit(DADVI(full_rank=True, n_samples=n), gaussian())
    for n in (6, 20):  # whitened draws: exact for a Gaussian as soon as there is a minimum
        states, info = fits(
            DADVI(full_rank=True, n_samples=n), gaussian(), jax.random.split(jax.random.key(n), 1)
        )
        assert info.stats["converged"][0, -1]
        factor = states.scale[0]
        np.testing.assert_allclose(factor @ factor.T, COVARIANCE, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(states.mean[0], MEAN, atol=2e-3)
        assert not np.triu(factor, 1).any()


def test_single_precision_and_restarts():
    result = fit(DADVI(), regression(), chains=3)
    assert result.outcome.ending is Ending.CONVERGED
    assert result.verdict.status == "ok", result.verdict
    again = fit(DADVI(), regression(), chains=3, chunk=1)
    assert (result.z == again.z).all()  # bit for bit
    assert np.isfinite(result.z).all() and result.z.dtype == np.float32


def test_nothing_moves_and_nothing_is_spent_after_convergence(x64):
    states, info = fits(DADVI(), gaussian(), jax.random.split(jax.random.key(0), 2), 40)
    done = np.asarray(info.stats["converged"])
    spent = np.asarray(info.gradients)
    assert done[:, -1].all() and not done[:, 0].any()
    for chain in range(2):
        first = int(np.argmax(done[chain]))
        assert (np.diff(done[chain].astype(int)) >= 0).all()
        assert (spent[chain, : first + 1] > 0).all() and not spent[chain, first + 1 :].any()
        assert len(set(np.asarray(info.loss)[chain, first:])) == 1
    assert (np.diff(np.asarray(info.loss), axis=1) <= 1e-9).all()  # it never goes up


def test_linear_response_mends_the_mean_field(x64):
    """Two correlated coefficients, against quadrature on a grid."""
    target = regression()
    algorithm = DADVI()
    states, info = fits(algorithm, target, jax.random.split(jax.random.key(0), 1))
    assert info.stats["converged"][0, -1]
    axis = np.linspace(-6, 6, 241)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_p = np.asarray(jax.vmap(target.log_prob)(jnp.asarray(grid)))
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    mean = w @ grid
    sd = np.sqrt(w @ (grid - mean) ** 2)
    q = algorithm.posterior(jax.tree.map(lambda leaf: leaf[0], states))
    response = np.abs(np.sqrt(np.diag(q.covariance)) / sd - 1)
    field = np.abs(np.asarray(states.scale[0]) / sd - 1)
    assert field.min() > 0.15  # the case is a case
    assert response.max() < 0.1 and (response < 0.5 * field).all()
    assert (np.abs(q.mean - mean) < 0.2 * sd).all()


def test_gives_up_where_no_step_helps():
    """A slope that ends in a cliff: every step that the model promises much of falls off it."""
    cliff = infer.from_log_density(
        lambda x: jnp.where(jnp.abs(x[0]) < 3, 1e4 * x[0], -jnp.inf), jnp.zeros(1)
    )
    result = fit(DADVI(), cliff, init={"x": np.zeros(1, np.float32)})
    assert result.outcome.ending is Ending.GAVE_UP
    assert np.isfinite(result.z).all()
    assert "infer.VI()" in NewtonSettled().hint(result.trail.record_of(0))
    assert NewtonSettled().hint({}) == ""


@jax.custom_vjp
def once(x):
    return -0.5 * jnp.sum(x**2)


def _host(x):
    return np.asarray(-np.asarray(x))


once.defvjp(
    lambda x: (once(x), x),
    lambda x, g: (
        g
        * jax.pure_callback(
            _host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential"
        ),
    ),
)


def test_a_density_with_one_derivative_is_refused():
    target = infer.from_log_density(lambda x: once(x), jnp.zeros(2))
    with pytest.raises(TypeError, match=r"DADVI needs .*differentiate twice.*infer\.VI\(\)"):
        fit(DADVI(), target, init={"x": np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_samples": 1}, "n_samples >= 2, got 1; write n_samples=30"),
        ({"cg_steps": 0}, "cg_steps >= 1, got 0; write cg_steps=200"),
        ({"tolerance": 0.0}, "tolerance must be > 0"),
    ],
)
def test_wrong_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        DADVI(**settings)
    with pytest.raises(ValueError, match="every >= 1"):
        NewtonSettled(every=0)


@pytest.mark.slow
@pytest.mark.parametrize("linear_response", [True, False])
def test_the_error_of_the_means_is_calibrated(linear_response, x64):
    """Over 200 sets of 32 draws the largest spread of a mean is the error stated, within 30 %."""
    target = regression(25, 5, 1)
    target = target.at(jnp.zeros(5))
    algorithm = DADVI(n_samples=32, linear_response=linear_response)
    states, info = fits(algorithm, target, jax.random.split(jax.random.key(1), 200))
    assert np.asarray(info.stats["converged"])[:, -1].all()
    variance = jax.vmap(lambda s: jnp.diagonal(algorithm.posterior(s).covariance))(states)
    spread = np.std(states.mean, axis=0) / np.sqrt(np.mean(variance, axis=0))
    stated = np.mean(info.stats["mean_error"][:, -1])
    print(spread, stated)
    assert 0.7 < spread.max() / stated < 1.3
    assert spread.max() < 0.5 / np.sqrt(32)  # raw draws would leave 1 / sqrt(32)
