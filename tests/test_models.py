"""Models whose posterior is known in closed form or by quadrature, fitted by every method.

Every test compares moments of draws with the truth. The tolerance is the Monte Carlo error of
the moment (from the effective number of draws) times the normal quantile for a false alarm in one
of a thousand runs of the whole file, Bonferroni-corrected for `COMPARISONS` numbers; to which the
documented bias of the method is added.
"""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

import infer
from infer.core.algorithm import AbstractSampler
from infer.core.support import unit_interval
from infer.diagnostics.chains import ess_mean

COMPARISONS = 300
Z = NormalDist().inv_cdf(1 - 1e-3 / (2 * COMPARISONS))

ALGORITHMS = {
    "NUTS": lambda: infer.NUTS(max_doublings=5),
    "HMC": lambda: infer.HMC(n_leapfrog=7),
    "MALA": lambda: infer.MALA(preconditioner=infer.Dense()),
    "ULA": lambda: infer.ULA(step_size=0.02, preconditioner=infer.Dense()),
    "VI": infer.VI,
    "path": lambda: infer.VI(estimator=infer.Path()),
    "SVGD": lambda: infer.SVGD(n_particles=200),
}
# Parts of a posterior sd (mean) and of a variance or of a product of two sds (covariance).
BIAS = {"ULA": (0.0, 0.02), "VI": (0.03, 0.03), "path": (0.02, 0.02), "SVGD": (0.02, 0.15)}


@pytest.fixture(params=["float32", *slow("float64")])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


STEPS = {"ULA": 20_000, "HMC": 4000}  # these mix slowly here


def quick(*names):
    """Every method; `slow` but for these: most of the others recover a Gaussian elsewhere."""
    return [pytest.param(n, marks=() if n in names else pytest.mark.slow) for n in ALGORITHMS]


def both(*names):
    """Every method in both precisions; `slow` but for these in single precision."""
    return [
        pytest.param(name, word, marks=() if name in names and not i else pytest.mark.slow)
        for name in ALGORITHMS
        for i, word in enumerate(("float32", "float64"))
    ]


def fit(target, name, key=0, **options):
    options = {"steps": STEPS.get(name)} | options
    return infer.fit(target, ALGORITHMS[name](), key=key, progress=False, **options)


def assert_moments(result, name, x, mean, covariance):
    """Means and covariances of draws x (chain, draw, d) are within their Monte Carlo error."""
    mean, covariance = np.atleast_1d(mean), np.atleast_2d(covariance)
    sd = np.sqrt(np.diag(covariance))
    u = (np.asarray(x, np.float64) - mean) / sd
    rows, columns = np.triu_indices(len(mean))
    products = u[..., rows] * u[..., columns] - (covariance / np.outer(sd, sd))[rows, columns]
    series = np.concatenate([u, products], axis=-1)
    if isinstance(result.algorithm, AbstractSampler):
        error = Z * series.std(axis=(0, 1)) / np.sqrt(ess_mean(series))
    elif name == "SVGD":
        error = np.zeros(series.shape[-1])  # the particles are deterministic, their bias is all
    else:
        error = Z * series.std(axis=(0, 1)) / np.sqrt(series.shape[1])
    assert error.max() < 0.5, "the test has no power"
    allowed = error + np.repeat(BIAS.get(name, (0.0, 0.0)), [len(mean), len(rows)])
    miss = np.abs(series.mean(axis=(0, 1)))
    assert (miss <= allowed).all(), (miss, allowed)


# A normal mean with a normal prior ------------------------------------------------------------

Y = np.array([3.1, 4.0, 2.2, 3.7, 2.9])


def normal_normal(p, y):
    return -0.5 * ((p["mu"] - 1) / 2) ** 2 - 0.5 * jnp.sum(((y - p["mu"]) / 0.8) ** 2)


@pytest.mark.parametrize("name", quick("MALA"))
def test_normal_normal(name):
    target = infer.from_log_density(normal_normal, {"mu": 0.0}, data=jnp.asarray(Y, float))
    result = fit(target, name)
    weight = 1 / 4 + len(Y) / 0.64
    mean = (1 / 4 + Y.sum() / 0.64) / weight
    assert_moments(result, name, result["mu"][..., None], mean, 1 / weight)
    assert result.verdict.status == "ok", result.verdict


# Linear regression with known noise -----------------------------------------------------------

N, D, NOISE = 30, 4, 0.7
rng = np.random.default_rng(3)
X = rng.normal(size=(N, D)) @ (np.eye(D) + 0.4)
OUTCOME = X @ np.array([1.0, -2.0, 0.5, 3.0]) + NOISE * rng.normal(size=N)
PRECISION = np.eye(D) / 4 + X.T @ X / NOISE**2
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ X.T @ OUTCOME / NOISE**2


def regression(batch_size=None):
    return infer.from_log_density(
        example={"beta": jnp.zeros(D)},
        log_prior=lambda p: -0.125 * jnp.sum(p["beta"] ** 2),
        log_likelihood=lambda p, rows: -0.5 * ((rows["y"] - rows["x"] @ p["beta"]) / NOISE) ** 2,
        data={"x": jnp.asarray(X, float), "y": jnp.asarray(OUTCOME, float)},
        batch_size=batch_size,
    )


@pytest.mark.parametrize("name, precision", both("path"), indirect=["precision"])
def test_linear_regression(name, precision):
    result = fit(regression(), name, key=4)
    assert result["beta"].dtype == precision
    assert_moments(result, name, result["beta"], MEAN, COVARIANCE)
    assert result.verdict.status == "ok", result.verdict


def test_the_bound_is_the_evidence():
    """With the exact family the bound is log Z: here within 0.01 nats."""
    with jax.enable_x64(True):
        result = fit(regression(), "path", steps=4000)
    bound = np.mean(result.log_prob - result.log_q)
    at_mean = -0.125 * MEAN @ MEAN - 0.5 * np.sum((OUTCOME - X @ MEAN) ** 2) / NOISE**2
    log_z = at_mean + 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    assert log_z - 0.01 < bound < log_z + 1e-3


def test_minibatches_find_the_full_posterior(precision):
    """Batches of 10 of 30 rows: no bias for a distribution, but noise of the optimizer."""
    result = infer.fit(
        regression(batch_size=10), infer.VI(n_samples=8), key=1, steps=20_000, progress=False
    )
    q = result.posterior
    sd = np.sqrt(np.diag(COVARIANCE))
    np.testing.assert_allclose((np.asarray(q.mean) - MEAN) / sd, 0, atol=0.15)
    np.testing.assert_allclose(np.sqrt(np.diag(q.covariance)) / sd, 1, atol=0.15)
    assert result.verdict.status == "ok", result.verdict
    lp = jax.vmap(regression().log_prob)(jnp.asarray(result.z[0, :5]))
    np.testing.assert_allclose(result.log_prob[0, :5], lp, rtol=1e-4)  # on all rows


@pytest.mark.parametrize("name", ["VI", *slow("NUTS", "SVGD")])
def test_several_chains(name):
    """Every chain, restart and ensemble is right by itself."""
    result = fit(regression(), name, chains=3, key=9)
    assert result["beta"].shape[0] == 3
    assert len({result.z[c].tobytes() for c in range(3)}) == 3
    for c in range(3):
        assert_moments(result, name, result["beta"][c : c + 1], MEAN, COVARIANCE)
    assert result.verdict.status == "ok", result.verdict


# A coin ---------------------------------------------------------------------------------------

HEADS, TAILS = 7, 3


def coin(p, data):
    """Beta(2, 3) prior; the log Jacobian is the library's to add."""
    heads, tails = data
    return (heads + 1) * jnp.log(p) + (tails + 2) * jnp.log1p(-p)


def beta_moments():
    """Mean and variance of p and of its logit, by quadrature on the logit."""
    u = np.linspace(-15, 15, 20_001)
    p = 1 / (1 + np.exp(-u))
    log_density = (HEADS + 2) * np.log(p) + (TAILS + 3) * np.log1p(-p)
    w = np.exp(log_density - log_density.max())
    w /= w.sum()
    return [(w @ t, w @ (t - w @ t) ** 2) for t in (p, u)]


@pytest.mark.parametrize("name, precision", both("NUTS"), indirect=["precision"])
def test_beta_binomial(name, precision):
    data = jnp.array([HEADS, TAILS], float)
    target = infer.from_log_density(coin, jnp.asarray(0.5), supports=unit_interval, data=data)
    result = fit(target, name, key=2)
    (mean, variance), (u_mean, u_variance) = beta_moments()
    np.testing.assert_allclose(mean, (HEADS + 2) / (HEADS + TAILS + 5), rtol=1e-6)
    # The best Gaussian is not this posterior: its logit is skewed by 0.2.
    close = name in ("VI", "path")
    if close:
        np.testing.assert_allclose(result["x"].mean(), mean, atol=0.1 * np.sqrt(variance))
        np.testing.assert_allclose(result["x"].std(), np.sqrt(variance), rtol=0.08)
    else:
        assert_moments(result, name, result["x"][..., None], mean, variance)
        assert_moments(result, name, result.z, u_mean, u_variance)
    assert result.verdict.status == "ok", result.verdict
