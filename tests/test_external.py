"""BlackJAX's kernels in our loop, against closed forms."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import digamma, polygamma

import infer
from infer.diagnostics.chains import ess_mean
from infer.families.gaussian import CholeskyGaussian, DiagonalGaussian
from infer.families.reference import check_reference

SHAPE, SLOPE, NOISE = 3.0, 0.5, 0.6


def skewed(z):
    """z0 the log of a Gamma(3) variable, z1 | z0 ~ N(z0 / 2, 0.6^2)."""
    return SHAPE * z[0] - jnp.exp(z[0]) - 0.5 * ((z[1] - SLOPE * z[0]) / NOISE) ** 2


def skewed_moments():
    """Mean and covariance of z in closed form."""
    mean, variance = float(digamma(SHAPE)), float(polygamma(1, SHAPE))
    cross = SLOPE * variance
    covariance = np.array([[variance, cross], [cross, NOISE**2 + SLOPE * cross]])
    return np.array([mean, SLOPE * mean]), covariance


EXACT = {
    "AdjustedMCLMC": (infer.AdjustedMCLMC(), 4000),
    "GHMC": (infer.GHMC(preconditioner=infer.Dense()), 20_000),
    "SliceSampling": (infer.SliceSampling(moves=4), 3000),
    "EllipticalSlice": (infer.EllipticalSlice(mean=0.5, covariance=2.0), 6000),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_on_a_skewed_posterior(name):
    """Five moments within 4.5 standard errors."""
    algorithm, steps = EXACT[name]
    target = infer.from_log_density(skewed, jnp.zeros(2))
    result = infer.fit(target, algorithm, key=7, steps=steps, progress=False)
    assert result.verdict.status == "ok", result.verdict
    mean, covariance = skewed_moments()
    x = result.z.astype(np.float64) - mean
    i, j = np.triu_indices(2)
    series = np.concatenate([x, x[..., i] * x[..., j] - covariance[i, j]], axis=-1)
    size = ess_mean(series)
    assert size.min() > 400
    off = np.abs(series.mean(axis=(0, 1))) / (series.std(axis=(0, 1)) / np.sqrt(size))
    assert off.max() < 4.5, off


def correlated(d):
    rng = np.random.default_rng(3)
    factor = np.tril(rng.standard_normal((d, d))) / 3 + np.diag(np.geomspace(0.3, 3, d))
    return factor @ factor.T


def gaussian(z, data):
    return -0.5 * (z - 1) @ data @ (z - 1)


def test_mclmc_tunes_step_size_and_length():
    """The energy error has the mean square it aims at, variances are right; what is fixed stays."""
    d = 20
    covariance = correlated(d)
    precision = jnp.asarray(np.linalg.inv(covariance), jnp.float32)
    target = infer.from_log_density(gaussian, jnp.zeros(d), data=precision)
    result = infer.fit(target, infer.MCLMC(), key=1, steps=6000, progress=False)
    assert result.verdict.status == "ok", result.verdict
    history = result.history
    error = np.mean(history["energy_error"].astype(np.float64) ** 2) / d
    assert 2.5e-4 < error < 1e-3
    assert (history["length"] > 2 * history["step_size"]).all()
    assert history["length"].max() < 100
    z = result.z.astype(np.float64)
    square = (z - 1) ** 2 / np.diag(covariance) - 1
    off = np.abs(square.mean(axis=(0, 1))) / np.sqrt(2 / ess_mean(square))
    assert off.max() < 4.5
    given = infer.Fixed(np.diag(covariance))
    fixed = infer.MCLMC(step_size=0.7, length=5.0, preconditioner=given)
    again = infer.fit(target, fixed, key=1, warmup=200, steps=50, progress=False)
    scale = again.trail.carry.states.tuning.scale
    np.testing.assert_allclose(scale.covariance, [np.diag(covariance)] * 4, rtol=1e-6)
    assert np.allclose(again.history["length"], 5) and np.allclose(again.history["step_size"], 0.7)


@pytest.mark.slow
def test_elliptical_slices_of_a_gaussian_process():
    """Regression with a squared-exponential prior: mean and variance of the posterior."""
    d, noise = 25, 0.3
    x = np.linspace(0, 1, d)
    prior = np.exp(-0.5 * ((x[:, None] - x) / 0.2) ** 2) + 1e-4 * np.eye(d)
    y = np.sin(6 * x) + noise * np.random.default_rng(0).standard_normal(d)
    factor = jnp.asarray(np.linalg.inv(np.linalg.cholesky(prior)), jnp.float32)

    def log_density(f, data):
        factor, y = data
        return -0.5 * jnp.sum((factor @ f) ** 2) - 0.5 * jnp.sum((y - f) ** 2) / noise**2

    data = (factor, jnp.asarray(y, jnp.float32))
    target = infer.from_log_density(log_density, jnp.zeros(d), data=data)
    algorithm = infer.EllipticalSlice(mean=0.0, covariance=prior)
    result = infer.fit(
        target, algorithm, key=4, init={"x": np.zeros(d)}, warmup=200, steps=8000, progress=False
    )
    gain = prior @ np.linalg.inv(prior + noise**2 * np.eye(d))
    mean, variance = gain @ y, np.diag(prior - gain @ prior)
    z = result.z.astype(np.float64)
    size = ess_mean(z)
    assert size.min() > 200
    off = np.abs(z.mean(axis=(0, 1)) - mean) / np.sqrt(variance / size)
    assert off.max() < 4.5
    square = (z - mean) ** 2 / variance - 1
    assert np.abs(square.mean(axis=(0, 1)) / np.sqrt(2 / ess_mean(square))).max() < 4.5
    assert (result.history["n_evaluations"] >= 2).all()


def test_slices_need_no_gradient():
    """Uniform on the triangle 0 < z1 < z0 < 1: means 2/3 and 1/3, variances 1/18."""

    def log_density(z):
        return jnp.where((z[1] > 0) & (z[0] > z[1]) & (z[0] < 1), 0.0, -jnp.inf)

    target = infer.from_log_density(log_density, jnp.zeros(2))
    init = {"x": np.array([0.6, 0.3])}
    result = infer.fit(target, infer.SliceSampling(), key=0, init=init, progress=False)
    assert result.gradients == 0
    z = result.z.astype(np.float64)
    error = np.sqrt(1 / 18 / ess_mean(z))
    assert (np.abs(z.mean(axis=(0, 1)) - [2 / 3, 1 / 3]) < 4.5 * error).all()
    assert (z[..., 0] > z[..., 1]).all()
    assert result.verdict.status == "suspect"
    assert "density jumps" in result.verdict["score regression"].meaning


def regression():
    """Conjugate linear regression, N = 30, d = 4: target, posterior, log evidence."""
    rng = np.random.default_rng(5)
    X, noise = rng.standard_normal((30, 4)) @ correlated(4), 0.8
    y = X @ np.array([0.5, -1.0, 0.2, 0.0]) + noise * rng.standard_normal(30)

    def log_prior(w):
        return -0.5 * jnp.sum(w**2) / 4 - 2 * jnp.log(2 * jnp.pi * 4)

    def log_likelihood(w, rows):
        residual = (rows["y"] - rows["X"] @ w) / noise
        return -0.5 * residual**2 - 0.5 * jnp.log(2 * jnp.pi * noise**2)

    target = infer.from_log_density(
        example=jnp.zeros(4),
        log_prior=log_prior,
        log_likelihood=log_likelihood,
        data=dict(X=X, y=y),
    )
    marginal = 4 * X @ X.T + noise**2 * np.eye(30)
    log_z = -0.5 * (y @ np.linalg.solve(marginal, y) + np.linalg.slogdet(2 * np.pi * marginal)[1])
    covariance = np.linalg.inv(X.T @ X / noise**2 + np.eye(4) / 4)
    return target, covariance @ X.T @ y / noise**2, covariance, log_z


def test_smc_knows_the_evidence():
    """Log evidence and mean of a conjugate model within 4.5 standard errors of 16 runs."""
    target, mean, covariance, log_z = regression()
    algorithm = infer.TemperedSMC(n_particles=400)
    result = infer.fit(target, algorithm, key=0, chains=16, progress=False)
    assert result.verdict.status != "failed", result.verdict
    assert result.verdict["particles at rest"].status == "ok"
    found = result.history["log_evidence"][:, -1].astype(np.float64)
    assert found.std() < 0.5
    assert abs(found.mean() - log_z) < 4.5 * found.std(ddof=1) / 4 + found.var() / 2
    sd = np.sqrt(np.diag(covariance))
    means = (result.z.astype(np.float64).mean(axis=1) - mean) / sd
    assert (np.abs(means.mean(axis=0)) < 4.5 * means.std(axis=0, ddof=1) / 4).all()
    pooled = np.cov((result.z.reshape(-1, 4) / sd).T)
    np.testing.assert_allclose(np.diag(pooled), 1, atol=0.12)
    assert "tempered in" in result.verdict["tempering"].meaning

    short = infer.fit(target, algorithm, key=0, chains=16, steps=2, progress=False)
    assert short.verdict.status == "failed"
    assert "inverse temperature" in short.verdict["tempering"].meaning


def two_modes(z):
    """0.3 N(-3, I / 4) + 0.7 N(3, I) in any dimension, normalized."""
    d = z.shape[0]
    narrow = jnp.log(0.3) - 2 * jnp.sum((z + 3) ** 2) + d * jnp.log(2.0)
    wide = jnp.log(0.7) - 0.5 * jnp.sum((z - 3) ** 2)
    return jnp.logaddexp(narrow, wide) - 0.5 * d * jnp.log(2 * jnp.pi)


@pytest.mark.slow
def test_smc_weighs_modes():
    """Shares of two modes of different width in d = 4, and log evidence 0, from 8 runs."""
    target = infer.from_log_density(two_modes, jnp.zeros(4))
    algorithm = infer.TemperedSMC(n_particles=2000, scale=4.0)
    result = infer.fit(target, algorithm, key=3, chains=8, progress=False)
    shares = (result.z.sum(axis=-1) < 0).mean(axis=1)
    error = shares.std(ddof=1) / np.sqrt(8)
    assert error < 0.03
    assert abs(shares.mean() - 0.3) < 4 * error
    found = result.history["log_evidence"][:, -1]
    assert abs(found.mean()) < 4.5 * found.std(ddof=1) / np.sqrt(8) + found.var() / 2
    groups = result.verdict["separate groups"]
    assert groups.status == "info" and "by their weights" in groups.meaning


def test_smc_from_a_fit_needs_few_temperatures():
    target, mean, covariance, log_z = regression()
    lower = np.linalg.cholesky(covariance)
    parts = mean, np.tril(lower, -1), np.log(np.diag(lower))
    near = CholeskyGaussian(*(jnp.asarray(part, jnp.float32) for part in parts))
    algorithm = infer.TemperedSMC(reference=near, n_particles=300)
    result = infer.fit(target, algorithm, key=1, progress=False)
    assert result.outcome.steps == 2  # the reference is the posterior
    np.testing.assert_allclose(result.history["log_evidence"][0, -1], log_z, atol=1e-3)
    assert result.verdict.status == "ok"


def refused(make):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    return str(caught.value)


def test_wrong_use_is_refused_before_compilation():
    flat = infer.from_log_density(lambda z: -0.5 * jnp.sum(z**2), jnp.zeros(1))
    plane = infer.from_log_density(lambda z: -0.5 * jnp.sum(z**2), jnp.zeros(2))
    near = DiagonalGaussian(jnp.zeros(1), jnp.zeros(1))
    fit = infer.fit
    cases = {
        "write infer.NUTS()": lambda: fit(flat, infer.MCLMC(), key=0),
        "turns a direction": lambda: fit(flat, infer.AdjustedMCLMC(), key=0),
        "infer.Fixed(variances)": lambda: fit(
            plane, infer.MCLMC(preconditioner=infer.Dense()), key=0
        ),
        "full matrix": lambda: fit(
            plane, infer.AdjustedMCLMC(preconditioner=infer.Fixed(np.eye(2))), key=0
        ),
        "length must be > 0": lambda: infer.MCLMC(length=0.0),
        "friction must be > 0": lambda: infer.GHMC(friction=-1.0),
        "moves >= 1": lambda: infer.SliceSampling(moves=0),
        "write covariance= too": lambda: infer.EllipticalSlice(mean=0.0),
        "a mean of shape (3,)": lambda: fit(
            plane, infer.EllipticalSlice(mean=np.zeros(3), covariance=1.0), key=0
        ),
        "positive definite": lambda: infer.EllipticalSlice(covariance=-np.eye(2)),
        "n_particles >= 2": lambda: infer.TemperedSMC(n_particles=1),
        "needs reference= as a distribution": lambda: check_reference("TemperedSMC", plane),
        "a reference in 1 dimensions": lambda: fit(plane, infer.TemperedSMC(reference=near), key=0),
        "ess must lie in (0, 1)": lambda: infer.TemperedSMC(ess=1.0),
    }
    for words, make in cases.items():
        assert words in refused(make), words


def test_evaluations_are_counted():
    """Slices spend as many evaluations as they record."""
    calls = deque()  # a list would be read as data

    def log_density(z):
        jax.debug.callback(lambda: calls.append(0))
        return -0.5 * jnp.sum(z**2)

    target = infer.from_log_density(log_density, jnp.zeros(2))
    algorithm = infer.SliceSampling(moves=3)
    state = algorithm.init(jax.random.key(0), target)
    jax.effects_barrier()
    calls.clear()
    _, info = jax.jit(lambda k, s: algorithm.step(k, target, s))(jax.random.key(1), state)
    jax.effects_barrier()
    assert len(calls) == int(info.stats["n_evaluations"])
