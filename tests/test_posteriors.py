"""The models of the posteriordb posteriors have the densities that the reference draws are from.

For a density p with finite moments, E grad log p = 0 and -E[grad log p(x) (x - mean)^T] = I.
"""

from pathlib import Path
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from marks import slow

import infer
from infer.scoreboard import models, programs

DRAWS = 1000
# A regression, a hierarchy, a Gaussian process and a series; the other models are `slow`.
QUICK = (
    "kidiq-kidscore_momiq",
    "eight_schools-eight_schools_noncentered",
    "gp_pois_regr-gp_regr",
    "arK-arK",
)
NAMES = [*QUICK, *slow(*(name for name in models.POSTERIORS if name not in QUICK))]
FUNNEL = "eight_schools-eight_schools_centered"


@pytest.fixture
def stored(posteriordb, name):
    """A database that has the posterior of this name."""
    if not models.stored(posteriordb, name):
        pytest.skip(f"the database has no reference draws of {name}")
    return posteriordb


def whitened(target: infer.Target, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws and scores in coordinates of mean zero and unit covariance."""
    scores = np.asarray(jax.jit(jax.vmap(jax.grad(target.log_prob)))(jnp.asarray(z)))
    factor = np.linalg.cholesky(np.cov(z.T))
    return np.linalg.solve(factor, (z - z.mean(axis=0)).T).T, scores @ factor


def z_scores(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis in standard errors; the draws are thinned to be independent."""
    return values.mean(axis=0) / (values.std(axis=0) / np.sqrt(len(values)))


def worst(values: np.ndarray) -> tuple[float, float]:
    """The largest absolute z-score, and what it stays below in 999 of 1000 sets of draws."""
    scores = np.abs(z_scores(values))
    return float(scores.max()), NormalDist().inv_cdf(1 - 0.0005 / scores.size)


def thinned(database: Path, name: str) -> dict[str, np.ndarray]:
    draws = models.reference(database, name)
    return {stan: values[:: len(values) // DRAWS] for stan, values in draws.items()}


@pytest.mark.parametrize("name", NAMES)
def test_reference_draws_satisfy_the_identities_of_stein(stored, x64, name):
    target = models.load(stored, name)
    z = models.unconstrained(target, name, thinned(stored, name))
    assert z.shape == (DRAWS, target.dim) and z.dtype == np.float64
    x, scores = whitened(target, z)
    found, limit = worst(scores)
    assert found < limit, f"E grad is {found:.1f} standard errors from zero"
    if name != FUNNEL:  # whose scores have tails too heavy for second moments
        found, limit = worst(-scores[:, :, None] * x[:, None, :] - np.eye(target.dim))
        assert found < limit, f"E grad (x - mean)^T is {found:.1f} standard errors from -I"


@pytest.mark.parametrize("name", NAMES)
def test_models_are_finite_at_random_starts_in_float32(stored, name):
    """Values and Hessians, forward over reverse, of a whole batch."""
    target = models.load(stored, name)
    z = jax.random.uniform(jax.random.key(1), (64, target.dim), minval=-2, maxval=2)
    columns = jnp.eye(target.dim)

    @jax.jit
    @jax.vmap
    def curvature(z):
        score = jax.grad(target.log_prob)
        return target.log_prob(z), jax.vmap(lambda v: jax.jvp(score, (z,), (v,))[1])(columns)

    value, hessian = curvature(z)
    assert value.dtype == jnp.float32
    assert jnp.all(jnp.isfinite(value)) and jnp.all(jnp.isfinite(hessian))


def noise_by_its_sd(x, y):
    """The Gaussian process with sigma taken for the sd of the noise, a mistake to be caught."""
    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    kernel = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x) / rho) ** 2)
    covariance = kernel + sigma**2 * jnp.eye(x.shape[0])
    numpyro.factor("y", programs.multivariate_normal(y, covariance))


def test_a_wrong_density_fails_the_identities(posteriordb, x64):
    name = "gp_pois_regr-gp_regr"
    target = infer.from_numpyro(noise_by_its_sd, *models.arguments(posteriordb, name))
    z = models.unconstrained(target, name, thinned(posteriordb, name))
    found, limit = worst(whitened(target, z)[1])
    assert found > 2 * limit


@pytest.mark.parametrize("name", NAMES)
def test_reference_draws_compare_well_with_themselves(stored, name):
    draws = models.reference(stored, name)
    half = {stan: values[::2] for stan, values in draws.items()}
    other = {stan: values[1::2] for stan, values in draws.items()}
    for stan, error in models.compare(models.sites(name, half), name, other).items():
        assert abs(error.mean) < 0.1 and abs(error.log_sd) < 0.1, stan


def test_errors_are_in_sd_of_the_reference():
    theirs = np.array([-1.0, 1.0])
    errors = models.compare(
        {"beta": np.array([[0.0, 1.0], [0.0, 5.0]])}, "any", {"beta[2]": theirs}
    )
    assert errors == {"beta[2]": (3.0, pytest.approx(np.log(2)))}


def test_multivariate_normal_is_that_of_numpyro(x64):
    factor = jax.random.normal(jax.random.key(0), (5, 6))
    y, covariance = factor[:, 5], factor[:, :5] @ factor[:, :5].T + jnp.eye(5)
    theirs = float(dist.MultivariateNormal(jnp.zeros(5), covariance).log_prob(y))
    ours = float(programs.multivariate_normal(y, covariance))
    assert ours == pytest.approx(theirs, rel=1e-12)
