"""BaM and GSM: the equations they solve, their symmetries, and known counts of gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

import infer
from infer.families.gaussian import DenseGaussian
from infer.gaussian.bam import BaM, in_span, match
from infer.gaussian.gsm import GSM, match_each


def log_density(x, data):
    mean, whiten = data
    u = whiten @ (x - mean)
    return -0.5 * u @ u


def gaussian(mean, covariance):
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    data = jnp.asarray(mean, float), jnp.asarray(whiten, float)
    return infer.from_log_density(log_density, jnp.zeros(len(mean)), data=data)


def logistic_density(x, data):
    rows, y = data
    eta = rows @ x
    return jnp.sum(y * eta - jax.nn.softplus(eta)) - 0.5 * x @ x


def logistic(d, n):
    rng = np.random.default_rng(0)
    truth, rows = rng.normal(size=d), rng.normal(size=(n, d))
    y = rng.uniform(size=n) < 1 / (1 + np.exp(-rows @ truth))
    data = jnp.asarray(rows, float), jnp.asarray(y, float)
    return infer.from_log_density(logistic_density, jnp.zeros(d), data=data)


def holed(x, data):
    return jnp.where(x[0] > data["edge"], data["hole"], -0.5 * x @ x)


@eqx.filter_jit
def step(algorithm, key, target, state):
    return algorithm.step(key, target, state)


@eqx.filter_jit
def run(algorithm, target, key, steps):
    def body(state, i):
        state, info = algorithm.step(jax.random.fold_in(key, i), target, state)
        return state, (algorithm.posterior(state), info)

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))[1]


def forward_kl(mean, covariance, q):
    gap = jnp.linalg.solve(q.covariance, covariance)
    away = mean - q.mean
    quadratic = away @ jnp.linalg.solve(q.covariance, away)
    return 0.5 * (jnp.trace(gap) - len(mean) + quadratic - jnp.linalg.slogdet(gap)[1])


def even(n):
    return jnp.full(n, 1 / n)


def batch(n, d, seed=0):
    """Noise and scores that have nothing to do with one another, off center."""
    u, h = np.random.default_rng(seed).normal(size=(2, n, d))
    return jnp.asarray(u + 0.7), jnp.asarray(3 * h - 2)


# BaM ------------------------------------------------------------------------------------------


def quadratic_terms(u, h, strength):
    """U and V of the whitened problem, written as the paper has them."""
    share = strength / (1 + strength)
    covariance = [np.cov(np.asarray(x).T, bias=True).reshape(u.shape[1], -1) for x in (u, h)]
    u_mean, h_mean = np.mean(u, axis=0), np.mean(h, axis=0)
    big_u = strength * covariance[1] + share * np.outer(h_mean, h_mean)
    big_v = np.eye(u.shape[1]) + strength * covariance[0] + share * np.outer(u_mean, u_mean)
    return big_u, big_v, share, u_mean, h_mean


@pytest.mark.parametrize(("n", "d"), [(2, 7), (3, 3), (4, 9), (12, 5), (1, 4)])
@pytest.mark.parametrize("strength", [0.01, 1.0, 300.0])
def test_the_match_solves_its_equation(n, d, strength, x64):
    u, h = batch(n, d)
    big_u, big_v, share, u_mean, h_mean = quadratic_terms(u, h, strength)
    for solve in (match, lambda *a: in_span(lambda u, h: match(u, h, *a[2:]), *a[:2])):
        shift, factor = solve(u, h, even(n), jnp.asarray(strength))
        x = factor @ factor.T
        residual = x @ big_u @ x + x - big_v
        assert np.abs(residual).max() < 1e-10 * np.abs(big_v).max()
        np.testing.assert_allclose(shift, share * (x @ h_mean + u_mean), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("n", "d"), [(2, 7), (4, 9), (1, 5)])
def test_solving_in_the_span_changes_nothing(n, d, x64):
    u, h = batch(n, d)
    assert 2 * n < d  # or both were the same solver
    updates = {
        "match": lambda u, h: match(u, h, even(n), jnp.asarray(20.0)),
        "match_each": lambda u, h: match_each(u, h, even(n)),
    }
    for update in updates.values():
        shift, factor = update(u, h)
        inside, inside_factor = in_span(update, u, h)
        np.testing.assert_allclose(inside, shift, atol=1e-11)
        np.testing.assert_allclose(inside_factor @ inside_factor.T, factor @ factor.T, atol=1e-9)


def test_left_out_draws_do_not_count(x64):
    u, h = batch(6, 4)
    weight = jnp.array([0.25, 0, 0.25, 0.25, 0, 0.25])
    few = weight > 0
    u0, h0 = (jnp.where(few[:, None], x, 0) for x in (u, h))
    for update in (lambda u, h, w: match(u, h, w, jnp.asarray(7.0)), match_each):
        for one, two in zip(update(u0, h0, weight), update(u[few], h[few], even(4)), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-12)


COVARIANCE = np.array([[2.0, 0.7, 0.0], [0.7, 1.0, -0.3], [0.0, -0.3, 0.5]])
MEAN = np.array([3.0, -8.0, 0.5])


def test_one_step_recovers_a_gaussian(x64, key):
    """With B >= d + 1 draws and a weight of 10^9; B = d draws cannot."""

    def error(n):
        algorithm = BaM(n_samples=n, gain=1e9, constant=True)
        q, _ = run(algorithm, gaussian(MEAN, COVARIANCE), key, 1)
        q = jax.tree.map(lambda x: x[0], q)
        return max(np.abs(q.covariance - COVARIANCE).max(), np.abs(q.mean - MEAN).max())

    assert error(4) < 1e-4 and error(9) < 1e-5
    assert error(3) > 0.1


def test_weight_zero_changes_nothing(x64):
    u, h = batch(5, 3)
    shift, factor = match(u, h, even(5), jnp.asarray(1e-12))
    np.testing.assert_allclose(shift, 0, atol=1e-9)
    np.testing.assert_allclose(factor @ factor.T, np.eye(3), atol=1e-9)


def test_one_draw_and_all_weight_is_gaussian_score_matching(x64):
    u, h = batch(1, 4)
    shift, factor = match(u, h, even(1), jnp.asarray(1e12))
    moved, root = match_each(u, h, even(1))
    np.testing.assert_allclose(shift, moved, rtol=1e-6)
    np.testing.assert_allclose(factor @ factor.T, root @ root.T, rtol=1e-5, atol=1e-8)


# GSM ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_score_at_one_draw_is_matched(seed, x64):
    """m' - z = S' grad log p(z), which in these coordinates reads shift - u = X h."""
    u, h = batch(1, 5, seed)
    shift, factor = match_each(u, h, even(1))
    np.testing.assert_allclose(shift - u[0], factor @ (factor.T @ h[0]), atol=1e-10)
    u, h = batch(3, 5, seed)
    shift, factor = match_each(u, h, even(3))
    residual = shift - u - h @ factor @ factor.T
    assert (np.abs(residual).max(axis=1) > 1e-3).all()  # several draws: no score is


# Both -----------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize(
    "algorithm", [BaM(), GSM(), *slow(BaM(n_samples=2), GSM(n_samples=1))]
)


@BOTH
def test_iterates_commute_with_affine_maps(algorithm, x64, key):
    """theta -> A theta + b of target and first q, with the same noise: factors map as A C."""
    rng = np.random.default_rng(5)
    d = 5
    a, b = rng.normal(size=(d, d)) + 2 * np.eye(d), jnp.asarray(rng.normal(size=d))
    turned = jnp.asarray(a)

    def quartic(x):  # a target that is not Gaussian
        return -0.5 * jnp.sum(x**2) - 0.1 * jnp.sum((x - 1) ** 4) + 0.2 * x[0] * x[1]

    one = infer.from_log_density(quartic, jnp.zeros(d))
    two = infer.from_log_density(lambda y: quartic(jnp.linalg.solve(turned, y - b)), jnp.zeros(d))
    state = algorithm.init(key, one)
    mapped = eqx.tree_at(
        lambda s: s.q, state, DenseGaussian(turned @ state.q.mean + b, turned @ state.q.factor)
    )
    for i in range(6):
        move = jax.random.fold_in(key, i)
        if isinstance(algorithm, GSM):  # it keeps its factor triangular, which turns the noise
            mapped = eqx.tree_at(lambda s: s.q.factor, mapped, turned @ state.q.factor)
        state, info = step(algorithm, move, one, state)
        mapped, mapped_info = step(algorithm, move, two, mapped)
        np.testing.assert_allclose(mapped.q.mean, turned @ state.q.mean + b, atol=1e-9)
        covariance = turned @ state.q.covariance @ turned.T
        np.testing.assert_allclose(mapped.q.covariance, covariance, atol=1e-9)
        divergences = info.stats["divergence"], mapped_info.stats["divergence"]
        np.testing.assert_allclose(*divergences, rtol=1e-8)
    assert np.abs(state.q.covariance - 0.01 * np.eye(d)).max() > 0.05  # and they did move


@BOTH
def test_divergence_and_loss_vanish_at_the_posterior(algorithm, x64, key):
    target = gaussian(MEAN, COVARIANCE)
    state = algorithm.init(key, target)
    exact = DenseGaussian(jnp.asarray(MEAN), jnp.linalg.cholesky(jnp.asarray(COVARIANCE)))
    state = eqx.tree_at(lambda s: s.q, state, exact)
    after, info = step(algorithm, key, target, state)
    assert info.stats["divergence"] < 1e-20
    log_z = 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    np.testing.assert_allclose(info.loss, -log_z, rtol=1e-12)  # without any noise
    np.testing.assert_allclose(after.q.covariance, COVARIANCE, atol=1e-12)


@BOTH
def test_a_hole_in_the_density(algorithm, key):
    """Draws without a finite density are left out and counted; with none left q stays."""
    for hole in (jnp.nan, -jnp.inf):
        for edge in (0.0, -1e9):
            data = {"hole": jnp.asarray(hole), "edge": jnp.asarray(edge)}
            target = infer.from_log_density(holed, jnp.zeros(3), data=data)
            state = algorithm.init(key, target.at(jnp.zeros(3)))
            after, info = step(algorithm, key, target, state)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
            if edge < 0:
                assert info.stats["rejected"] == info.gradients and np.isnan(info.loss)
                assert eqx.tree_equal(after, state)
            elif info.gradients > 2:
                assert 0 < info.stats["rejected"] < info.gradients and np.isfinite(info.loss)
                assert not eqx.tree_equal(after.q, state.q)


def gradients_needed(d, n, key):
    """Of 10 runs on random Gaussians: gradients until the forward KL is below 0.01."""

    algorithm, zero = BaM(n_samples=n, constant=True, init_scale=1.0), jnp.zeros(d)
    several = eqx.filter_jit(jax.vmap(forward_kl, (None, None, 0)))
    counts = []
    for one in jax.random.split(key, 10):
        keys = jax.random.split(one, 3)
        factor = jax.random.normal(keys[0], (d, d))
        target = gaussian(np.zeros(d), factor @ factor.T)
        target = target.at(jax.random.uniform(keys[1], (d,), maxval=0.1))
        q, _ = run(algorithm, target, keys[2], 300 // n + 2)
        close = np.asarray(several(zero, factor @ factor.T, q)) < 0.01
        assert close.any()
        counts.append(n * (close.argmax() + 1))
    return counts


@pytest.mark.parametrize(
    ("d", "n", "least", "most"),
    [
        (4, 5, 10, 20),
        *slow((4, 2, 12, 22), (4, 10, 20, 20), (16, 20, 40, 60), (16, 40, 40, 80)),
    ],
)
def test_gradients_needed_on_a_gaussian(d, n, least, most, x64, key):
    assert least <= np.median(gradients_needed(d, n, key)) <= most


@pytest.mark.parametrize(
    "algorithm, name",
    [(BaM(), "logistic"), (GSM(), "Gaussian"), *slow((BaM(), "Gaussian"), (GSM(), "logistic"))],
)
def test_fits_by_default(algorithm, name):
    factor = np.random.default_rng(1).normal(size=(5, 5))
    covariance = factor @ factor.T
    target = gaussian(np.ones(5), covariance) if name == "Gaussian" else logistic(5, 50)
    result = infer.fit(target, algorithm, key=0, progress=False)
    assert result.verdict.status == "ok", result.verdict
    q = result.posterior
    assert q.mean.dtype == jnp.float32
    if name == "Gaussian":
        assert forward_kl(jnp.ones(5), jnp.asarray(covariance, jnp.float32), q) < 1e-4
    else:  # means and sds of the best Gaussian by quadrature, to a tenth of an sd
        sd = np.sqrt(np.diag(q.covariance))[:3]
        np.testing.assert_allclose(q.mean[:3], [0.443, 0.283, 0.361], atol=0.04)
        np.testing.assert_allclose(sd, [0.383, 0.296, 0.303], rtol=0.1)


def test_a_far_start_on_a_badly_conditioned_gaussian(key):
    """Condition 10^4, started hundreds of standard deviations away, in float32."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 10)))[0]
    covariance = turn * np.logspace(-4, 0, 10) @ turn.T
    target = gaussian(np.ones(10), covariance).at(-jnp.ones(10))
    exact = jnp.ones(10), jnp.asarray(covariance, jnp.float32)
    q, _ = run(BaM(), target, key, 40)
    assert forward_kl(*exact, jax.tree.map(lambda x: x[-1], q)) < 1e-3
    q, _ = run(BaM(constant=True), target, key, 40)  # the weight of the paper does not get there
    assert forward_kl(*exact, jax.tree.map(lambda x: x[-1], q)) > 10


def test_averaging_steadies_the_iterates(x64, key):
    """GSM, one draw: the gap of the average is a fraction of that of the iterates."""
    target, algorithm = logistic(5, 50), GSM(n_samples=1)

    @eqx.filter_jit
    def losses(key):
        def body(state, i):
            return algorithm.step(jax.random.fold_in(key, i), target, state)[0], None

        state = jax.lax.scan(body, algorithm.init(key, target), jnp.arange(2000))[0]
        u = jax.random.normal(jax.random.key(99), (2000, 5))

        def loss(q):
            log_p = jax.vmap(target.log_prob)(q.mean + u @ q.factor.T)
            return -jnp.mean(log_p) - jnp.linalg.slogdet(q.factor)[1]

        return loss(state.q), loss(state.average)

    last, average = jax.vmap(losses)(jax.random.split(key, 10))
    assert average.mean() < last.mean() - 0.005
    assert average.std() < 0.7 * last.std()


def test_wrong_use():
    for wrong in (0, 1, True):
        with pytest.raises(ValueError, match="n_samples"):
            BaM(n_samples=wrong)
    with pytest.raises(TypeError, match="constant"):
        BaM(constant=1)  # type: ignore
    with pytest.raises(ValueError, match="n_samples"):
        GSM(n_samples=0)
    for cls in (BaM, GSM):
        with pytest.raises(ValueError, match="init_scale must be > 0"):
            cls(init_scale=0.0)
