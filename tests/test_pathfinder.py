"""Pathfinder: its covariance against textbook BFGS, its path, its choice and its end."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

import infer
from infer.gaussian import pathfinder
from infer.gaussian.pathfinder import TRIALS, BentGaussian, PathEnded, Pathfinder


def log_density(x, data):
    mean, precision = data
    return -0.5 * (x - mean) @ precision @ (x - mean)


def gaussian(d, condition=30.0, seed=0):
    """The target N(mean, covariance) with rotated axes, its mean and its covariance."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    precision = rotation * np.geomspace(1, condition, d) @ rotation.T
    mean = 3 * rng.standard_normal(d)
    data = jax.tree.map(lambda x: jnp.asarray(x, float), (mean, precision))
    target = infer.from_log_density(log_density, jnp.zeros(d), data=data)
    return target, mean, np.linalg.inv(precision)


def pairs(d, n, seed=0):
    """Steps and gradient changes of a random quadratic, scaled to s^T y = 1."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((d, d))
    s = rng.standard_normal((n, d))
    y = s @ (factor @ factor.T + np.eye(d))
    unit = np.sqrt(np.sum(s * y, axis=1, keepdims=True))
    return s / unit, y / unit, np.exp(rng.standard_normal(d))


def bfgs(diagonal, s, y):
    """H by the BFGS formula, one pair after another."""
    h = np.diag(diagonal)
    for a, b in zip(s, y, strict=True):
        left = np.eye(len(h)) - np.outer(a, b) / (a @ b)
        h = left @ h @ left.T + np.outer(a, a) / (a @ b)
    return h


STEPS = 40


@eqx.filter_jit
def run(algorithm, target, key):
    def body(state, i):
        return algorithm.step(jax.random.fold_in(key, i), target, state)

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(STEPS))


inverse_hessian = eqx.filter_jit(pathfinder.inverse_hessian)
line_search = eqx.filter_jit(pathfinder.line_search)


@pytest.mark.parametrize(("d", "n"), [(7, 3), (4, 6), (1, 2), (30, 6)])
def test_inverse_hessian_is_that_of_bfgs(d, n, x64):
    s, y, diagonal = pairs(d, n)
    q = inverse_hessian(jnp.zeros(d), *map(jnp.asarray, (diagonal, s, y)))
    expected = bfgs(diagonal, s, y)
    np.testing.assert_allclose(q.covariance, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(y[-1] @ q.covariance, s[-1], rtol=1e-7)  # the secant equation
    v = np.arange(d) - 0.3
    np.testing.assert_allclose(q.covariance_times(jnp.asarray(v)), expected @ v, rtol=1e-7)


def test_rows_of_zeros_are_no_pairs(x64):
    s, y, diagonal = pairs(5, 3)
    blank = np.zeros((2, 5))
    padded = [np.concatenate([blank[:1], x[:2], blank[1:], x[2:]]) for x in (s, y)]
    q = inverse_hessian(jnp.zeros(5), *map(jnp.asarray, (diagonal, *padded)))
    np.testing.assert_allclose(q.covariance, bfgs(diagonal, s, y), rtol=1e-9)
    none = inverse_hessian(
        jnp.zeros(5), jnp.asarray(diagonal), jnp.zeros((2, 5)), jnp.zeros((2, 5))
    )
    np.testing.assert_allclose(none.covariance, np.diag(diagonal), atol=1e-15)


def test_low_rank_gaussian_knows_its_density(x64):
    s, y, diagonal = pairs(9, 3)
    q = inverse_hessian(jnp.arange(9.0), *map(jnp.asarray, (diagonal, s, y)))
    draws = q.sample_score(jax.random.key(1), 20)
    expected = jax.scipy.stats.multivariate_normal.logpdf(draws.x, q.mean, q.covariance)
    np.testing.assert_allclose(draws.log_q, expected, rtol=1e-10)
    np.testing.assert_allclose(draws.log_q, jax.vmap(q.log_prob)(draws.x), rtol=1e-10)
    np.testing.assert_allclose(draws.score, jax.vmap(jax.grad(q.log_prob))(draws.x), rtol=1e-8)
    np.testing.assert_allclose(q.sample(jax.random.key(1), 20), draws.x)
    np.testing.assert_allclose(q.factor @ q.factor.T, q.covariance)
    leaked = jax.grad(lambda q: jnp.sum(q.sample_score(jax.random.key(1), 5).score))(q)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(leaked))


@pytest.mark.parametrize("precision", ["float32", *slow("float64")])
def test_recovers_a_gaussian_with_a_pair_per_coordinate(precision):
    with jax.enable_x64(precision == "float64"):
        target, mean, covariance = gaussian(5)
        state, info = run(Pathfinder(), target, jax.random.key(2))
        assert bool(info.stats["ended"][-1])
        q, sd = state.best, np.sqrt(np.diag(covariance))
        assert q.mean.dtype == precision
        small = 1e-4 if precision == "float64" else 1e-2
        np.testing.assert_allclose((q.mean - mean) / sd, 0, atol=small)
        found = q.covariance / np.outer(sd, sd)
        np.testing.assert_allclose(found, covariance / np.outer(sd, sd), atol=10 * small)
        x = q.place(state.noise)  # the bound that was kept is that of these draws
        bound = jnp.mean(jax.vmap(target.log_prob)(x) - jax.vmap(q.log_prob)(x))
        np.testing.assert_allclose(-state.best_loss, bound, atol=100 * small**2)


def test_keeps_the_largest_elbo_and_stands_still_at_the_end(key):
    target, _, _ = gaussian(5, 200.0)
    _, info = run(Pathfinder(), target, key)
    loss, elbo = np.asarray(info.loss), np.asarray(info.stats["elbo"])
    np.testing.assert_array_equal(loss, np.minimum.accumulate(-elbo))
    assert (np.diff(info.stats["objective"]) <= 1e-4).all()
    end = int(np.argmax(info.stats["ended"]))
    assert 0 < end < STEPS - 1 and (np.asarray(info.gradients)[end + 1 :] == 0).all()
    assert all(len(np.unique(x[end:])) == 1 for x in (loss, elbo, info.stats["objective"]))
    counts = np.asarray(info.stats["pairs"])
    assert counts[0] == 1 and counts.max() <= Pathfinder().history


def test_line_search_is_nearly_exact_and_steps_back_from_holes(x64):
    target, mean, _ = gaussian(4)
    x = jnp.zeros(4)
    log_prob, score = target.value_and_score(x)
    for length in (1e-6, 1.0, 1e6):
        found = line_search(target, x, -log_prob, -score, length * score)
        assert abs(found.gradient @ score) <= 0.1 * (score @ score)
        assert int(found.gradients) <= 12 and bool(found.done)
    hole = infer.from_log_density(lambda x: jnp.where(x[0] > 1, jnp.nan, x[0]), jnp.zeros(1))
    found = line_search(hole, jnp.zeros(1), jnp.zeros(()), -jnp.ones(1), 50 * jnp.ones(1))
    assert 0.5 < float(found.x[0]) <= 1 and int(found.gradients) == TRIALS
    uphill = line_search(target, x, -log_prob, -score, -score)
    assert (uphill.x == x).all() and int(uphill.gradients) == 0


def test_logistic_regression():
    rng = np.random.default_rng(0)
    truth, x = rng.normal(size=10), rng.normal(size=(200, 10))
    y = rng.uniform(size=200) < 1 / (1 + np.exp(-x @ truth))
    sign = jnp.asarray(np.where(y, 1, -1)[:, None] * x, float)
    target = infer.from_log_density(
        lambda b, sign: jnp.sum(jax.nn.log_sigmoid(sign @ b)) - 0.5 * b @ b,
        jnp.zeros(10),
        data=sign,
    )
    result = infer.fit(target, Pathfinder(), key=0, progress=False)
    assert result.outcome.ending is infer.Ending.CONVERGED and result.outcome.steps < 100
    assert result.verdict["KL gap"].value < 0.5 and result.verdict["k-hat"].value < 0.7
    # Mean and sd of the optimal Gaussian, by quadrature; the mode is a little off.
    np.testing.assert_allclose(result.posterior.mean[:3], [-0.354, 0.188, 0.455], atol=0.1)
    sd = np.sqrt(np.diag(result.posterior.covariance))[:3]
    np.testing.assert_allclose(sd, [0.191, 0.201, 0.213], rtol=0.35)
    assert isinstance(result.posterior, BentGaussian)
    assert set(result.history) == {"loss", "elbo", "objective", "pairs", "ended"}


def test_many_paths_are_chains_and_those_that_ended_wait(key):
    target, mean, covariance = gaussian(5)
    result = infer.fit(target, Pathfinder(), key=key, chains=5, progress=False)
    assert result.outcome.ending is infer.Ending.CONVERGED
    assert result.history["ended"][:, -1].all() and result.z.shape == (5, 1000, 5)
    first = result.history["ended"].argmax(axis=1)
    assert len(set(first)) > 1  # at different steps
    assert result.verdict.status == "ok", result.verdict


def test_rule_reads_the_end_and_tells_how_to_go_on():
    rule = PathEnded(every=10)
    assert rule.looks_at(1) == 10 and rule.looks_at(3) == 12
    moving, ended = ({"stats/ended": np.array([False, x])} for x in (False, True))
    assert rule.look(moving, 1) is None and rule.look(ended, 1) is infer.Ending.CONVERGED
    assert "more steps" in rule.hint(moving) and rule.hint(ended) == ""
    assert rule.evidence({}).value == 0 and rule.evidence(ended).value == 1
    assert rule == PathEnded() and hash(rule) == hash(PathEnded())


@pytest.mark.parametrize("wrong", [{"history": 0}, {"history": True}, {"n_samples": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} >= 1"):
        Pathfinder(**wrong)
    with pytest.raises(ValueError, match="every >= 1"):
        PathEnded(every=0)
