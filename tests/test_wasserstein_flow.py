"""WassersteinFlow: steps against their closed form, parts by hand, and its place in `fit`."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow

import infer
from infer import verdict as rule
from infer.families.gaussian import CholeskyGaussian
from infer.transport import WassersteinFlow
from infer.transport.networks import frame_of

COVARIANCE = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 0.5]])
MEAN = np.array([3.0, -2.0, 0.5])
SMALL = {"n_maps": 3, "updates": 2, "n_samples": 32, "n_pool": 64, "width": 8, "depth": 1}


def gaussian(mean, covariance):
    data = jnp.asarray(mean, float), jnp.asarray(np.linalg.inv(covariance), float)
    return infer.from_log_density(
        lambda x, data: -0.5 * (x - data[0]) @ data[1] @ (x - data[0]),
        jnp.zeros(len(mean)),
        data=data,
    ).at(jnp.zeros(len(mean)))


@eqx.filter_jit
def init(algorithm, key, target):
    return algorithm.init(key, target)


@eqx.filter_jit
def run(algorithm, target, state, key, steps):
    def body(state, i):
        return algorithm.step(jax.random.fold_in(key, i), target, state)

    return jax.lax.scan(body, state, jnp.arange(steps))


def jko(mean, covariance, target_mean, target_covariance, a, whitened):
    """One implicit step between Gaussians whose covariances commute in the metric of the step.

    Along an eigenvector of the target's covariance, eigenvalue v, the new mean and sd minimize
    ((m' - m)^2 + (s' - s)^2) / (2 a) + (s'^2 + (m' - m*)^2) / (2 v) - log s'.
    """
    root = np.linalg.cholesky(covariance) if whitened else np.eye(len(mean))
    inverse = np.linalg.inv(root)
    v, axes = np.linalg.eigh(inverse @ target_covariance @ inverse.T)
    old = axes.T @ inverse @ covariance @ inverse.T @ axes
    assert np.allclose(old, np.diag(np.diag(old)))
    s, m = np.sqrt(np.diag(old)), axes.T @ inverse @ mean
    goal = axes.T @ inverse @ target_mean
    new_mean = (m / a + goal / v) / (1 / a + 1 / v)
    curve = 1 / a + 1 / v
    new_sd = (s / a + np.sqrt((s / a) ** 2 + 4 * curve)) / (2 * curve)
    place = root @ axes
    return place @ new_mean, place @ np.diag(new_sd**2) @ place.T


def test_the_closed_form_is_the_minimum():
    """Against a search over Gaussians for the plain step, the distance by its general formula."""
    from scipy.linalg import sqrtm
    from scipy.optimize import minimize

    a, goal, covariance = 0.4, MEAN[:2], COVARIANCE[:2, :2]
    precision = np.linalg.inv(covariance)

    def objective(p):
        mean, factor = p[:2], np.array([[p[2], 0.0], [p[3], p[4]]])
        new = factor @ factor.T
        distance = mean @ mean + np.trace(new + 2.25 * np.eye(2) - 2 * 1.5 * sqrtm(new).real)
        energy = 0.5 * np.trace(precision @ new) - np.log(abs(p[2] * p[4]))
        return distance / (2 * a) + energy + 0.5 * (mean - goal) @ precision @ (mean - goal)

    found = minimize(objective, [0.0, 0.0, 1.0, 0.0, 1.0], method="BFGS", tol=1e-9).x
    factor = np.array([[found[2], 0.0], [found[3], found[4]]])
    mean, new = jko(np.zeros(2), 2.25 * np.eye(2), goal, covariance, a, whitened=False)
    np.testing.assert_allclose(found[:2], mean, atol=1e-4)
    np.testing.assert_allclose(factor @ factor.T, new, atol=1e-4)


# The pool of 20,000 draws alone moves a mean by 0.007 and a variance by 0.01 of its own.
@pytest.mark.parametrize(
    ("d", "whitened", "a"), [(2, False, 0.4), *slow((1, False, 0.5), (3, True, 0.7))]
)
def test_steps_between_gaussians_are_those_of_the_closed_form(d, whitened, a):
    target = gaussian(MEAN[:d], COVARIANCE[:d, :d])
    algorithm = WassersteinFlow(
        step_size=a, whitened=whitened, init_scale=1.5, n_maps=2, updates=150, width=16, depth=1
    )
    state = init(algorithm, jax.random.key(1), target)
    mean, covariance = np.zeros(d), 2.25 * np.eye(d)
    for i in range(2):
        state, _ = run(algorithm, target, state, jax.random.key(i), algorithm.updates)
        mean, covariance = jko(mean, covariance, MEAN[:d], COVARIANCE[:d, :d], a, whitened)
        x = np.asarray(algorithm.posterior(state).sample(jax.random.key(9), 20_000))
        sd = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose((x.mean(axis=0) - mean) / sd, 0, atol=0.04)
        error = (np.cov(x.T).reshape(d, d) - covariance) / np.outer(sd, sd)
        np.testing.assert_allclose(error, 0, atol=0.06)
    assert np.abs(mean - MEAN[:d]).max() > 0.3  # and it is not there yet


def test_log_h_finds_how_far_two_modes_are_from_a_gaussian():
    """A map that stays the identity; the divergence from the normal of equal moments by sums."""
    still = infer.optimizer(optax.sgd, learning_rate=0.0)
    algorithm = WassersteinFlow(optimizer=still, n_maps=1, n_pool=20_000, width=32)
    target = gaussian(MEAN[:2], COVARIANCE[:2, :2])
    state = init(algorithm, jax.random.key(0), target)
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(20_000, 2)) + [2.5, 0] * rng.choice([-1, 1], (20_000, 1))
    pool = jnp.asarray(7 + 3 * pool, jnp.float32)  # where and how large must not matter
    _, info = run(algorithm, target, dataclasses.replace(state, pool=pool), jax.random.key(2), 300)
    x, step = np.linspace(-12, 12, 4001, retstep=True)
    p = sum(np.exp(-0.5 * (x - c) ** 2) for c in (-2.5, 2.5)) / np.sqrt(8 * np.pi)
    q = np.exp(-0.5 * x**2 / 7.25) / np.sqrt(2 * np.pi * 7.25)
    right = step * np.sum(p * np.log(p / q))
    assert right > 0.25
    np.testing.assert_allclose(info.stats["negentropy"][-100:].mean(), right, rtol=0.1)


def test_a_frame_makes_mean_zero_and_covariance_one(x64):
    x = jax.random.normal(jax.random.key(0), (50, 3)) @ jnp.array(COVARIANCE) * 1e-3 + 7
    frame = frame_of(x)
    u = frame.units(x - frame.mean)
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(u.T @ u / 50, np.eye(3), atol=1e-9)
    log_det = 0.5 * np.linalg.slogdet(np.cov(x.T, bias=True))[1]
    np.testing.assert_allclose(frame.log_scale(), log_det, rtol=1e-9)


def test_the_flow_is_its_maps_one_after_another(x64):
    """Seven updates: two finished maps, a third in training that goes on being trained."""
    algorithm, target = WassersteinFlow(**SMALL), gaussian(MEAN[:2], COVARIANCE[:2, :2])
    first = init(algorithm, jax.random.key(0), target)
    np.testing.assert_array_equal(
        algorithm.posterior(first).sample(jax.random.key(1), 5),
        first.base.sample(jax.random.key(1), 5),
    )
    state, info = run(algorithm, target, first, jax.random.key(2), 7)
    np.testing.assert_array_equal(info.stats["map"], [0, 0, 1, 1, 2, 2, 2])
    assert (info.gradients == algorithm.n_samples).all()
    q = algorithm.posterior(state)
    x, pool = np.asarray(state.base.sample(jax.random.key(3), 5)), np.asarray(first.pool)

    def by_hand(one, x):
        u = np.linalg.solve(one.frame.factor, (x - one.frame.mean).T).T
        hidden, last = one.bend.layers
        bend = np.tanh(u @ hidden.weight.T + hidden.bias) @ last.weight.T + last.bias
        move = u @ one.affine.weight.T + one.affine.bias + bend
        return x + move @ one.frame.factor.T

    for k in range(3):
        one = jax.tree.map(lambda leaf, k=k: leaf[k], q.maps)
        np.testing.assert_allclose(one.frame.mean, pool.mean(axis=0), rtol=1e-9)
        assert np.abs(by_hand(one, x) - x).max() > 1e-3
        x = by_hand(one, x)
        pool = by_hand(one, pool) if k < 2 else pool
    np.testing.assert_allclose(q.sample(jax.random.key(3), 5), x, rtol=1e-9)
    np.testing.assert_allclose(state.pool, pool, rtol=1e-9)  # draws of what comes before the last


def test_restarts_side_by_side_are_the_restarts_one_by_one(x64):
    algorithm, target = WassersteinFlow(**SMALL), gaussian(MEAN[:2], COVARIANCE[:2, :2])
    keys = jax.random.split(jax.random.key(0), 2)
    states = [init(algorithm, key, target) for key in keys]
    singly = [run(algorithm, target, s, jax.random.key(1), 5) for s in states]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = eqx.filter_vmap(run, in_axes=(None, None, 0, None, None))(
        algorithm, target, stacked, jax.random.key(1), 5
    )
    again = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singly)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), together, again)


def test_it_starts_from_a_fitted_distribution(x64):
    target = gaussian(MEAN, COVARIANCE)
    start = CholeskyGaussian(jnp.array(MEAN), jnp.zeros((3, 3)), jnp.zeros(3))
    state = WassersteinFlow(**SMALL, start=start).init(jax.random.key(0), target)
    np.testing.assert_allclose(state.pool.mean(axis=0), MEAN, atol=4 / 8)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), start)
    state = WassersteinFlow(**SMALL, start=narrow).init(jax.random.key(0), target)
    assert state.pool.dtype == np.float64
    with pytest.raises(ValueError, match=r"on R\^3, and the target has 2"):
        WassersteinFlow(start=start).init(jax.random.key(0), gaussian(MEAN[:2], np.eye(2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_maps": 0}, "n_maps >= 1"),
        ({"n_pool": 100}, "n_pool >= 512"),
        ({"n_samples": 1}, "n_samples >= 2"),
        ({"step_size": 0}, "step_size must be > 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        WassersteinFlow(**settings)


def test_too_few_samples_for_the_dimension_are_refused():
    with pytest.raises(ValueError, match="n_samples=80"):
        WassersteinFlow(**SMALL).init(jax.random.key(0), gaussian(np.zeros(20), np.eye(20)))


# In `fit` -------------------------------------------------------------------------------------

SHORT = WassersteinFlow(**SMALL, stopping=None)


@pytest.fixture(scope="module")
def result():
    target = gaussian(MEAN, COVARIANCE)
    return infer.fit(target, SHORT, key=0, steps=5, chains=2, draws=300, progress=False)


def names(result):
    return {e.name: e for e in result.verdict.evidence}


def test_too_short_a_flow_is_judged_wrong(result):
    assert result.verdict.status == "failed"
    assert names(result)["score regression"].status == "failed"
    assert "KL gap" not in names(result) and "no density" in names(result)


def test_the_draws_are_fresh_and_of_the_better_restart(result):
    assert result.log_q is None and result.z.shape == (2, 300, 3) and not result.resampled
    last = result.history["loss"][:, -1]
    assert last[0] != last[1] and result.best == int(np.argmin(last))
    q = result.posterior
    x, y = q.sample(jax.random.key(0), 4), q.sample(jax.random.key(1), 4)
    assert not np.any(np.asarray(x) == np.asarray(y))
    assert result.gradients == 2 * 5 * SHORT.n_samples


def test_it_is_saved_loaded_and_carried_on(result, tmp_path):
    result.save(tmp_path / "flow")
    alone = infer.load(tmp_path / "flow")
    np.testing.assert_array_equal(alone.z, result.z)
    assert alone.best == result.best and not alone.resampled
    loaded = infer.load(tmp_path / "flow", gaussian(MEAN, COVARIANCE), SHORT)
    draws = [r.posterior.sample(jax.random.key(3), 7) for r in (loaded, result)]
    np.testing.assert_array_equal(*draws)
    longer = infer.fit(result.target, SHORT, key=0, steps=8, chains=2, draws=300, progress=False)
    np.testing.assert_array_equal(loaded.extend(steps=3, progress=False).z, longer.z)
    other = infer.fit(result.target, SHORT, key=1, steps=5, chains=2, draws=300, progress=False)
    assert infer.combine([result, other]).z.shape == (4, 300, 3)
    with pytest.raises(ValueError, match="come through maps"):
        infer.improve(result, key=0)


# The verdict without a density ----------------------------------------------------------------

TWO = np.array([[-1.5, 0.0], [1.5, 0.0]])


def sample_of(z, log_prob):
    value, score = jax.vmap(jax.value_and_grad(log_prob))(jnp.asarray(z))
    return rule.Sample(
        z[None], np.asarray(value)[None], np.asarray(score)[None], None, ["a", "b"], True, ""
    )


def two_modes(apart):
    centers = jnp.asarray(apart * TWO)
    return lambda x: jax.nn.logsumexp(-0.5 * jnp.sum((x - centers) ** 2, axis=1))


def test_draws_of_the_posterior_are_ok_and_those_of_the_gaussian_next_to_it_are_not(x64):
    """Means, sds and 2-d shape: a Gaussian with both moments right passes all but the shape."""
    rng, log_prob = np.random.default_rng(0), two_modes(1.4)
    exact = 1.4 * TWO[rng.integers(2, size=1000)] + rng.normal(size=(1000, 2))
    found = {e.name: e for e in rule.judge_generated(sample_of(exact, log_prob))}
    assert found["kernel Stein discrepancy"].status == "ok"
    assert abs(found["kernel Stein discrepancy"].value - 1) < 0.3
    normal = rng.normal(size=(1000, 2)) * np.sqrt([1 + 2.1**2, 1])
    found = {e.name: e for e in rule.judge_generated(sample_of(normal, log_prob))}
    assert found["kernel Stein discrepancy"].status == "suspect"


def test_shares_of_separate_modes_are_not_vouched_for(x64):
    rng, log_prob = np.random.default_rng(0), two_modes(4.0)
    wrong = 4 * TWO[(rng.uniform(size=1000) < 0.2).astype(int)] + rng.normal(size=(1000, 2))
    found = {e.name: e for e in rule.judge_generated(sample_of(wrong, log_prob))}
    assert found["kernel Stein discrepancy"].status == "ok"  # the scores cannot tell
    assert found["separate groups"].status == "suspect"
    assert "the draws form separate groups, 8" in found["separate groups"].meaning
