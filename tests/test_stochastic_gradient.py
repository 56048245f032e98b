"""Samplers on minibatches: against stationary distributions in closed form; what is said of them.

A linear recursion x' = A x + noise of covariance Q has the stationary covariance S = A S A' + Q.
On a Gaussian posterior SGLD and SGHMC are such recursions, the noise of minibatches included.
"""

import dataclasses
import itertools
from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow

import infer
from infer.langevin.stochastic import LOOKS

COMPARISONS = 100
Z = NormalDist().inv_cdf(1 - 1e-3 / (2 * COMPARISONS))

# Rows that are not spread as the likelihood says, so that nothing cancels by luck.
N, B = 40, 8
rng = np.random.default_rng(5)
ROWS = rng.normal(size=(N, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]]) + [1.0, -2.0]
LIKELIHOOD = np.linalg.inv([[1.0, 0.4], [0.4, 0.7]])  # precision of a row
PRECISION = N * LIKELIHOOD + np.eye(2) / 9
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ LIKELIHOOD @ ROWS.sum(axis=0)
NOISE = N**2 / B * LIKELIHOOD @ np.cov(ROWS.T, ddof=0) @ LIKELIHOOD  # of the score of a minibatch
ROOT = np.linalg.cholesky(COVARIANCE)


def log_prior(x):
    return -jnp.sum(x**2) / 18


def log_row(x, y):
    return -0.5 * jnp.einsum("ni,ij,nj->n", y - x, jnp.asarray(LIKELIHOOD, x.dtype), y - x)


def gaussian(batch_size: int | None = B):
    return infer.from_log_density(
        example=jnp.zeros(2),
        log_prior=log_prior,
        log_likelihood=log_row,
        data=jnp.asarray(ROWS, float),
        batch_size=batch_size,
    )


@pytest.fixture(params=["float32", *slow("float64")])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@eqx.filter_jit
def run(algorithm, target, key, starts, steps, burn):
    """Positions (chains, steps, d), and what the last step told."""

    def chain(key, start):
        state = algorithm.init(key, target.at(start))

        def body(state, key):
            rows, move = jax.random.split(key)
            state, info = algorithm.step(move, target.subsample(rows), state)
            return state, (algorithm.position(state), info)

        return jax.lax.scan(body, state, jax.random.split(key, steps))[1]

    z, info = jax.vmap(chain)(jax.random.split(key, len(starts)), starts)
    return z[:, burn:], info


def assert_covariance(z, mean, expected, least=0.05):
    """Second moments of independent chains around `mean`; by the spread between chains."""
    u = np.linalg.solve(np.linalg.cholesky(expected), (np.asarray(z, float) - mean)[..., None])
    u = u[..., 0]
    series = np.stack([u[..., 0] ** 2, u[..., 1] ** 2, u[..., 0] * u[..., 1]], -1).mean(axis=1)
    error = Z * series.std(axis=0, ddof=1) / np.sqrt(len(series))
    assert error.max() < least, ("no power", error)
    miss = np.abs(series.mean(axis=0) - [1, 1, 0])
    assert (miss < error).all(), (miss, error)


def starts_of(mean, covariance, chains, key=0):
    noise = np.random.default_rng(key).normal(size=(chains, len(mean)))
    return jnp.asarray(mean + noise @ np.linalg.cholesky(covariance).T, float)


def stationary(a, q):
    """S = A S A' + Q."""
    n = len(a)
    return np.linalg.solve(np.eye(n * n) - np.kron(a, a), q.ravel()).reshape(n, n)


# Against closed forms --------------------------------------------------------------------------


def sgld_covariance(e, m, noise):
    return stationary(np.eye(2) - e * m @ PRECISION, 2 * e * m + e**2 * m @ noise @ m)


@pytest.mark.parametrize("dense", [pytest.param(False, marks=pytest.mark.slow), True])
def test_sgld_has_its_stationary_covariance(dense, precision):
    """Large steps and much noise, where both parts of the bias are far beyond error."""
    m = np.array([[0.03, 0.01], [0.01, 0.02]]) if dense else np.diag([0.03, 0.02])
    e = 0.2
    expected = sgld_covariance(e, m, NOISE)
    assert np.diag(expected).min() > 1.3 * np.diag(COVARIANCE).max() * 0.5
    algorithm = infer.SGLD(step_size=e, covariance=m if dense else np.diag(m))
    starts = starts_of(MEAN, expected, 512)
    z, _ = run(algorithm, gaussian(), jax.random.key(1), starts, 1200, 100)
    assert z.dtype == precision
    assert_covariance(z, MEAN, expected)


def test_one_dimension_has_the_formula_of_the_docstring():
    """(1 + e c / 2) / (1 - e l / 2) along an eigenvector, from the matrix equation."""
    e, m, p, c = 0.3, 0.02, 40.0, 900.0
    s = stationary(np.array([[1 - e * m * p]]), np.array([[2 * e * m + e**2 * m * c * m]]))
    np.testing.assert_allclose(s * p, (1 + e * m * c / 2) / (1 - e * m * p / 2))


def test_sgld_at_small_steps_is_the_posterior(precision):
    """Temperature and variance right within 5 %, error included; twice the noise would be 2."""
    z, _ = run(
        infer.SGLD(step_size=0.01, covariance=COVARIANCE),
        gaussian(batch_size=20),
        jax.random.key(2),
        starts_of(MEAN, COVARIANCE, 1024),
        2000,
        300,
    )
    expected = sgld_covariance(0.01, COVARIANCE, NOISE * B / 20)
    assert 1 < np.linalg.eigvals(expected @ PRECISION).max() < 1.03
    assert_covariance(z, MEAN, expected, least=0.05)


def sghmc_covariance(h, f, factor, known, noise):
    """Of z alone, from the recursion of (z, v)."""
    pull = -h * factor.T @ PRECISION
    v = np.hstack([pull, (1 - f * h) * np.eye(2)])
    z = np.hstack([np.eye(2), np.zeros((2, 2))]) + h * factor @ v
    drawn = np.diag(np.maximum(2 * f * h - h**2 * known, 0)) + h**2 * factor.T @ noise @ factor
    to_z = np.vstack([h * factor, np.eye(2)])
    return stationary(np.vstack([z, v]), to_z @ drawn @ to_z.T)[:2, :2]


@pytest.mark.parametrize("known", [0.0, 2.0])
def test_sghmc_has_its_stationary_covariance(known, precision):
    h, f = 0.3, 1.5
    expected = sghmc_covariance(h, f, ROOT, known * np.ones(2), NOISE)
    algorithm = infer.SGHMC(step_size=h, friction=f, noise=known, covariance=COVARIANCE)
    z, _ = run(algorithm, gaussian(), jax.random.key(3), starts_of(MEAN, expected, 512), 800, 100)
    assert_covariance(z, MEAN, expected)


def test_sghmc_formula_of_the_docstring():
    h, f, c, known = 0.3, 1.5, 3.0, 1.0
    a = np.array([[1 - h * h, h * (1 - f * h)], [-h, 1 - f * h]])
    to_z = np.array([[h], [1]])
    s = stationary(a, (2 * f * h + h**2 * (c - known)) * to_z @ to_z.T)[0, 0]
    np.testing.assert_allclose(s, (1 + h * (c - known) / (2 * f)) / (1 - h**2 / (4 - 2 * f * h)))


def test_the_thermostat_takes_up_what_sghmc_does_not_know():
    """Variance within 5 % by SGNHT, error included; SGHMC told of no noise is off by half of it."""
    h, target, noise = 0.1, gaussian(batch_size=4), 2 * NOISE
    hot = sghmc_covariance(h, 1.0, ROOT, np.zeros(2), noise)
    assert np.linalg.eigvals(hot @ PRECISION).real.max() > 1.4
    algorithm = infer.SGHMC(step_size=h, noise=0, covariance=COVARIANCE)
    z, _ = run(algorithm, target, jax.random.key(4), starts_of(MEAN, hot, 512), 1200, 100)
    assert_covariance(z, MEAN, hot)
    starts = starts_of(MEAN, COVARIANCE, 512)
    algorithm = infer.SGNHT(step_size=h, covariance=COVARIANCE)
    z, info = run(algorithm, target, jax.random.key(5), starts, 4000, 1500)
    u = np.linalg.solve(ROOT, (np.asarray(z, float) - MEAN)[..., None])[..., 0]
    ratio = np.stack([u[..., 0] ** 2, u[..., 1] ** 2], -1).mean(axis=1)
    error = Z * ratio.std(axis=0) / np.sqrt(512)
    assert (np.abs(ratio.mean(axis=0) - 1) + error < 0.05).all(), (ratio.mean(axis=0), error)
    friction = np.asarray(info.stats["friction"])[:, 1500:].mean()
    absorbed = 1 + h / 2 * np.trace(ROOT.T @ noise @ ROOT) / 2
    assert absorbed > 1.3
    np.testing.assert_allclose(friction, absorbed, rtol=0.05)


@pytest.mark.parametrize("decay, low, high", [(0.9, 1.17, 1.23), *slow((0.999, 0.98, 1.02))])
def test_the_neglected_divergence_of_psgld(decay, low, high):
    """Beyond SGLD with a constant M = G: a short memory biases, a long one does not."""
    g = np.diag(1 / np.sqrt(np.diag(PRECISION)))
    expected = stationary(np.eye(2) - 0.02 * g @ PRECISION, 0.04 * g)
    algorithm = infer.PSGLD(step_size=0.02, decay=decay)
    starts = starts_of(MEAN, expected, 512)
    z, _ = run(algorithm, gaussian(None), jax.random.key(7), starts, 3000, 1000)
    ratio = ((np.asarray(z, float) - MEAN) ** 2).mean(axis=(0, 1)) / np.diag(expected)
    assert ((ratio > low) & (ratio < high)).all(), ratio


@eqx.filter_jit
def once(algorithm, key, target):
    return algorithm.step(key, target, algorithm.init(key, target))[0]


def test_on_all_rows_sgld_takes_the_step_of_ula():
    target, z, key = gaussian(None), jnp.array([0.3, -1.0]), jax.random.key(0)
    one, two = infer.SGLD(step_size=0.1), infer.ULA(step_size=0.1)
    after = [once(a, key, target.at(z)) for a in (one, two)]
    np.testing.assert_allclose(one.position(after[0]), two.position(after[1]), rtol=1e-6)


# Warm-up ---------------------------------------------------------------------------------------


@eqx.filter_jit
def warmed(algorithm, target, key, n):
    def body(i, state):
        rows, move = jax.random.split(jax.random.fold_in(key, i))
        return algorithm.adapt(move, target.subsample(rows), state, i, n)[0]

    far = target.at(jnp.asarray(MEAN, float) + 30)
    return jax.lax.fori_loop(0, n, body, algorithm.init(key, far))


@pytest.mark.parametrize("given", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_warm_up_learns_from_minibatches_without_bias(given):
    """Row norms of the Hessian, noise of the score, steepest direction; from 180 sd away."""
    algorithm = infer.SGLD(covariance=COVARIANCE if given else None)
    found = warmed(algorithm, gaussian(), jax.random.key(0), jnp.asarray(4000))
    learned = found.terrain
    expected = COVARIANCE if given else np.diag(1 / np.linalg.norm(PRECISION, axis=1))
    m = np.asarray(learned.scale.covariance)
    np.testing.assert_allclose(m if given else np.diag(m), expected, rtol=0.05, atol=1e-9)
    np.testing.assert_allclose(learned.noise, np.diag(NOISE), rtol=0.2)
    steepest = np.linalg.eigvals(expected @ PRECISION).real.max()
    np.testing.assert_allclose(learned.steepest, steepest, rtol=0.02)
    assert np.abs(np.linalg.solve(ROOT, found.position - MEAN)).max() < 6


# Control variates ------------------------------------------------------------------------------

FEW = jnp.asarray(np.random.default_rng(1).normal(size=(4, 2)), jnp.float32)


def curved(batch_size: int | None = 2):
    """Logistic rows, and a positive coordinate, so that there is a Jacobian."""
    return infer.from_log_density(
        example={"w": jnp.zeros(2), "s": 1.0},
        log_prior=lambda p: -jnp.sum(p["w"] ** 2) - p["s"],
        log_likelihood=lambda p, x: -jnp.log1p(jnp.exp(-p["s"] * (x @ p["w"]))),
        supports={"s": infer.positive},
        data=jnp.asarray(FEW, float),
        batch_size=batch_size,
    )


def on_rows(target, rows):
    return dataclasses.replace(target, model=target.model.take(rows), minibatch=True)


@eqx.filter_jit
def over_batches(target, batches, z):
    look = jax.vmap(lambda rows: on_rows(target, rows).value_and_score(z))
    return look(batches), target.full().value_and_score(z)


def test_control_variates_are_unbiased_over_all_minibatches(x64):
    """All 16 ordered pairs of 4 rows: the average is the density on all rows, and its score."""
    center = {"w": np.array([0.3, -0.2]), "s": 0.8}
    target = infer.control_variates(curved(), center)
    batches = jnp.asarray(list(itertools.product(range(4), repeat=2)))
    z = jnp.array([0.5, 0.4, -0.7])
    (values, scores), (value, score) = over_batches(target, batches, z)
    np.testing.assert_allclose(values.mean(), value, rtol=1e-12)
    np.testing.assert_allclose(scores.mean(axis=0), score, rtol=1e-11)
    assert scores.std(axis=0).min() > 1e-3
    (plain, loud), _ = over_batches(curved(), batches, z)
    assert (scores.std(axis=0) < loud.std(axis=0)).all() and values.std() < plain.std()
    at = target.unconstrain({k: jnp.asarray(v) for k, v in center.items()})
    (_, scores), (_, score) = over_batches(target, batches, at)
    np.testing.assert_allclose(scores, np.broadcast_to(score, scores.shape), rtol=1e-11)


def test_control_variates_reduce_the_variance_by_the_factor_of_theory(x64):
    """Regression: exactly Var_i(H_i (z - c)) N^2 / B, and by N / (d + 1) at posterior draws."""
    n, d, b, sigma = 4000, 3, 5, 0.7
    r = np.random.default_rng(2)
    x = r.normal(size=(n, d))
    y = x @ np.ones(d) + sigma * r.normal(size=n)
    target = infer.from_log_density(
        example=jnp.zeros(d),
        log_prior=lambda w: 0.0 * jnp.sum(w),
        log_likelihood=lambda w, rows: -0.5 * ((rows["y"] - rows["x"] @ w) / sigma) ** 2,
        data={"x": jnp.asarray(x), "y": jnp.asarray(y)},
        batch_size=b,
    )
    mode = np.linalg.solve(x.T @ x, x.T @ y)
    quiet = infer.control_variates(target, mode)
    draws = (
        mode + r.normal(size=(1000, d)) @ np.linalg.cholesky(sigma**2 * np.linalg.inv(x.T @ x)).T
    )

    @eqx.filter_jit
    def variance(target, z):  # of a batch of one row, exactly
        one = dataclasses.replace(target, batch_size=1)
        look = jax.vmap(lambda i: on_rows(one, i[None]).value_and_score(z)[1])
        return jnp.sum(jnp.var(look(jnp.arange(n)), axis=0)) / b

    z = draws[0]
    rows = x * (x @ (z - mode))[:, None] / sigma**2
    exact = n**2 / b * rows.var(axis=0).sum()
    np.testing.assert_allclose(variance(quiet, jnp.asarray(z)), exact, rtol=1e-9)
    keys = jax.random.split(jax.random.key(0), 20_000)
    at = jnp.asarray(z)
    drawn = jax.jit(jax.vmap(lambda k: quiet.subsample(k).value_and_score(at)[1]))
    np.testing.assert_allclose(np.var(drawn(keys), axis=0).sum(), exact, rtol=0.06)
    some = eqx.filter_jit(lambda t: jax.lax.map(lambda z: variance(t, z), jnp.asarray(draws)))
    loud, less = some(target).mean(), some(quiet).mean()
    np.testing.assert_allclose(loud / less, n / (d + 1), rtol=0.1)


def test_a_new_center_compiles_nothing_and_carries_the_run_on():
    """SVRG in rounds; the location of a Gaussian then has no noise at all."""
    seen = []

    def rows(x, y):
        seen.append(0)
        return log_row(x, y)

    target = infer.from_log_density(
        example=jnp.zeros(2), log_prior=log_prior, log_likelihood=rows,
        data=jnp.asarray(ROWS, float), batch_size=B,
    )  # fmt: skip
    options = {"warmup": 300, "steps": 500, "progress": False, "chains": 4}
    algorithm = infer.SGLD()
    first = infer.control_variates(target, MEAN + 1)
    result = infer.fit(first, algorithm, key=0, **options)
    noise = result.trail.carry.states.terrain.noise
    assert (noise < 1e-3 * np.diag(NOISE)).all(), noise
    options |= {"warmup": None, "init": result}
    second = infer.control_variates(target, result)
    np.testing.assert_allclose(second.control.center, result.z.mean(axis=(0, 1)), rtol=1e-5)
    again = infer.fit(second, algorithm, key=1, **options)
    assert again.trail.warmed == 0 and again.plan.warmup == 0  # the states were carried on
    before = len(seen)
    third = infer.control_variates(target, again)
    infer.fit(third, algorithm, key=2, **options | {"init": again})
    assert len(seen) == before


def test_control_variates_say_what_they_need(tmp_path):
    with pytest.raises(ValueError, match=r"no noise to reduce. Give it batch_size="):
        infer.control_variates(gaussian(None), MEAN)
    with pytest.raises(ValueError, match="center must give every site"):
        infer.control_variates(curved(), {"w": np.zeros(2)})
    with pytest.raises(ValueError, match="does not lie in its support, positive"):
        infer.control_variates(curved(), {"w": np.zeros(2), "s": -1.0})
    with pytest.raises(ValueError, match="gradient are finite"):
        infer.control_variates(gaussian(), np.array([1e30, 0]))
    target = infer.control_variates(curved(), {"w": np.zeros(2), "s": 1.0})
    with pytest.raises(ValueError, match=r"control_variates\(infer.mirrored\(target\), center\)"):
        infer.mirrored(target)
    path = tmp_path / "run.infer"
    options = {"key": 0, "steps": 20, "warmup": 0, "progress": False, "chains": 1}
    infer.fit(target, infer.SGLD(), checkpoint=path, **options)
    other = infer.control_variates(curved(), {"w": np.ones(2), "s": 1.0})
    with pytest.raises(ValueError, match="other control variates"):
        infer.fit(other, infer.SGLD(), resume=path, **options)


# Schedules -------------------------------------------------------------------------------------


def test_schedules_are_what_they_say():
    i = np.arange(20)
    poly = infer.polynomial_decay(0.3, 5.0, 0.7)
    np.testing.assert_allclose(
        [poly(jnp.asarray(t)) for t in i], 0.3 * (1 + i / 5) ** -0.7, rtol=1e-6
    )
    steps, heat = infer.cyclical_steps(0.3, 10), infer.cyclical_temperature(10, 0.4)
    part = (i + 0.5) / 10 % 1
    np.testing.assert_allclose(
        [steps(jnp.asarray(t)) for t in i], 0.15 * (1 + np.cos(np.pi * part)), rtol=1e-4
    )
    np.testing.assert_array_equal([heat(jnp.asarray(t)) for t in i], part >= 0.4)
    assert heat(jnp.asarray(3)) == 0 and heat(jnp.asarray(4)) == 1


def test_numbers_of_schedules_are_data_and_optax_schedules_do():
    """One trace for all numbers of a schedule; the draw stays where noise last was."""
    traced = []

    @eqx.filter_jit
    def go(algorithm, target, key):
        traced.append(0)

        def body(state, key):
            state, info = algorithm.step(key, target, state)
            return state, (info.stats["step_size"], algorithm.position(state))

        state = algorithm.init(key, target.at(jnp.zeros(2)))
        return jax.lax.scan(body, state, jax.random.split(key, 20))[1]

    for first, explore in ((0.1, 0.5), (0.2, 0.3)):
        steps, heat = infer.cyclical_steps(first, 10), infer.cyclical_temperature(10, explore)
        algorithm = infer.SGLD(steps, heat, covariance=np.diag(COVARIANCE))
        sizes, z = go(algorithm, gaussian(None), jax.random.key(0))
        np.testing.assert_allclose(sizes, [steps(jnp.asarray(t)) for t in range(20)], rtol=1e-6)
        still = np.all(np.diff(z, axis=0) == 0, axis=1)
        np.testing.assert_array_equal(still, [heat(jnp.asarray(t)) == 0 for t in range(1, 20)])
    assert len(traced) == 1
    cosine = optax.cosine_decay_schedule(0.1, 20)
    sizes, _ = go(
        infer.SGLD(cosine, covariance=np.diag(COVARIANCE)), gaussian(None), jax.random.key(0)
    )
    np.testing.assert_allclose(sizes, [cosine(t) for t in range(20)], rtol=1e-5)


def log_mixture(x):
    return jnp.logaddexp(-0.5 * (x + 5) ** 2, -0.5 * (x - 5) ** 2)[0]


def test_a_cyclical_schedule_visits_both_modes():
    """Modes 10 sd apart, started in one: a constant step of 0.1 stays, cycles from 1.9 cross.

    By the widening of large steps: 1 / (1 - 1.9 / 2) is twenty times the variance of a mode.
    """
    target = infer.from_log_density(log_mixture, jnp.zeros(1))
    starts = -5 * jnp.ones((8, 1))
    steps = infer.cyclical_steps(1.9, 100)
    still, _ = run(infer.SGLD(0.1), target, jax.random.key(0), starts, 4000, 0)
    assert (still < 0).all()
    algorithm = infer.SGLD(steps, infer.cyclical_temperature(100, 0.1))
    z, _ = run(algorithm, target, jax.random.key(0), starts, 8000, 0)
    share = np.mean(np.asarray(z)[:, ::100] > 0, axis=1)
    assert ((share > 0.05) & (share < 0.95)).all(), share


# What is said ----------------------------------------------------------------------------------


def test_the_verdict_of_minibatch_chains():
    """Judged by scores on all rows: much noise fails, little passes; the noise has its number."""
    options = {"warmup": 1000, "steps": 4000, "progress": False, "key": 3}
    loud = infer.fit(gaussian(batch_size=2), infer.SGLD(step_size=0.2), **options)
    assert loud.verdict.status == "failed", loud.verdict
    assert "control_variates" in loud.verdict["score regression"].meaning
    assert "too large" in loud.verdict["gradient noise"].meaning
    assert "R-hat and ESS do not see" in loud.verdict["adjusted"].meaning
    m = np.diag(1 / np.linalg.norm(PRECISION, axis=1))
    excess = 0.1 * np.diag(m @ NOISE).max() * B / 2
    np.testing.assert_allclose(loud.verdict["gradient noise"].value, excess, rtol=0.2)
    bound = 2 / np.linalg.eigvals(m @ PRECISION).real.max()
    np.testing.assert_allclose(loud.verdict["step size"].value, 0.2 / bound, rtol=0.1)
    lp = jax.vmap(gaussian(None).log_prob)(jnp.asarray(loud.z[0, :5]))
    np.testing.assert_allclose(loud.log_prob[0, :5], lp, rtol=1e-4)
    quiet = infer.control_variates(gaussian(batch_size=2), MEAN)
    fine = infer.fit(quiet, infer.SGLD(step_size=0.05), **options)
    assert fine.verdict.status == "ok", fine.verdict
    assert fine.verdict["gradient noise"].value < 1e-3


def test_a_step_too_large_is_named_with_its_bound():
    with pytest.raises(ValueError, match=r"SGLD diverges unless step_size < 2 .*got 2.0; write"):
        infer.SGLD(step_size=2.0)
    with pytest.raises(ValueError, match=r"SGHMC diverges unless step_size < 1.24"):
        infer.SGHMC(step_size=1.3)
    with pytest.raises(ValueError, match="SGNHT diverges unless"):
        infer.SGNHT(step_size=infer.polynomial_decay(2.0, 10.0))
    with pytest.raises(ValueError, match=r"2 unconstrained coordinates.*of shape \(3"):
        infer.fit(gaussian(), infer.SGLD(covariance=np.ones(3)), key=0)
    with pytest.raises(ValueError, match="symmetric positive definite"):
        infer.SGLD(covariance=-np.eye(2))
    # A covariance ten times the posterior's: stable below 0.2, and warm-up keeps below it.
    algorithm = infer.SGLD(step_size=0.5, covariance=10 * COVARIANCE)
    result = infer.fit(gaussian(), algorithm, key=0, warmup=300, steps=200, progress=False)
    assert result.verdict["step size"].status == "failed" == result.verdict.status
    np.testing.assert_allclose(result.verdict["step size"].value, 0.5 / 0.2, rtol=0.1)
    assert "above 0.2 diverge" in result.verdict["step size"].meaning


def test_warm_up_looks_before_it_moves():
    found = warmed(infer.SGLD(), gaussian(), jax.random.key(0), jnp.asarray(LOOKS))
    np.testing.assert_allclose(found.position, MEAN + 30, rtol=1e-5)
