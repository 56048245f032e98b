"""Couplings by mixtures of logistics, against SciPy's formulas, roots and dense autodiff."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from marks import slow
from scipy.optimize import brentq
from scipy.special import log_expit, log_softmax

import infer
from infer.flows import LogisticMixture, LogisticMixtureFlow
from infer.flows.coupling import coupling
from infer.flows.logistic_mixture import FLOOR

K, CLAMP = 3, 2.0
TRANSFORM = LogisticMixture(K, CLAMP)


@pytest.fixture(params=["float32", *slow("float64")])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def normal(*shape, seed=0, scale=1.0):
    """In the precision of the time."""
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape))


N = 50  # points of one program


def settings(scale=1.5):
    return normal(N, 3 * K, scale=scale)


def moved(thing, seed, scale):
    """With noise on every leaf."""
    arrays, rest = eqx.partition(thing, eqx.is_inexact_array)
    flat, back = ravel_pytree(arrays)
    return eqx.combine(back(flat + normal(len(flat), seed=seed, scale=scale)), rest)


def by_formula(t, h):
    """tau at one point by NumPy in float64."""
    h = np.asarray(h, float).reshape(3, K)
    rate = np.array([0.5, 1.0, 1.5])
    scale = np.exp(CLAMP * np.tanh(rate * h[2] / CLAMP))
    log_w, u = log_softmax(h[0]), (t - rate * h[1]) / scale
    below = np.logaddexp.reduce(log_w + log_expit(u))
    above = np.logaddexp.reduce(log_w + log_expit(-u))
    return FLOOR * t + (1 - FLOOR) * (below - above)


forward, inverse = jax.jit(TRANSFORM.forward), jax.jit(TRANSFORM.inverse)


def test_the_map_is_the_formula(precision):
    t, h = normal(N, seed=1, scale=3.0), settings()
    y, log_slope = forward(t, h)
    expected = [by_formula(float(a), b) for a, b in zip(t, h, strict=True)]
    step = 1e-5
    above = [by_formula(float(a) + step, b) for a, b in zip(t, h, strict=True)]
    below = [by_formula(float(a) - step, b) for a, b in zip(t, h, strict=True)]
    slope = np.subtract(above, below) / (2 * step)
    single = precision == "float32"
    np.testing.assert_allclose(y, expected, rtol=1e-5 if single else 1e-11, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_slope), slope, rtol=1e-5 if single else 1e-7)
    assert y.dtype == log_slope.dtype == precision
    assert slope.min() < 0.3 and slope.max() > 2  # it bends


def test_the_inverse_is_the_root(precision):
    y, h = normal(N, seed=2, scale=4.0), settings()
    t, minus = inverse(y, h)
    expected = [
        brentq(lambda t, a=a, b=b: by_formula(t, b) - a, -300, 300, xtol=1e-13)
        for a, b in zip(np.asarray(y, float), h, strict=True)
    ]
    np.testing.assert_allclose(t, expected, atol=1e-5 if precision == "float32" else 1e-10)
    np.testing.assert_allclose(minus, -forward(t, h)[1], rtol=1e-6)


def test_far_out_and_for_extreme_settings(precision):
    """Slopes between the floor and exp(c), to a million noise units; the inverse finds its way."""
    t = jnp.asarray(np.concatenate([-np.logspace(0, 6, 25), np.logspace(0, 6, 25)]))
    h = settings(6.0)
    y, log_slope = forward(t, h)
    t_again, minus = inverse(y, h)
    eps = np.finfo(precision).eps
    assert (np.exp(log_slope) > FLOOR * (1 - 4 * eps)).all()
    assert (log_slope < CLAMP + 8 * eps).all()
    off = np.abs(t_again - t) * np.exp(log_slope) / np.maximum(np.abs(y), 1)
    assert off.max() < 100 * eps
    derivatives = jax.jit(jax.grad(lambda a: jnp.sum(jnp.stack(TRANSFORM.forward(*a)))))((t, h))
    assert all(np.isfinite(v).all() for v in (y, log_slope, t_again, minus, *derivatives))


def test_settings_of_zero_are_the_identity(precision):
    t = jnp.asarray(np.concatenate([np.linspace(-6, 6, N - 2), [-1e6, 1e6]]))
    y, log_slope = forward(t, jnp.zeros((len(t), 3 * K)))
    eps = np.finfo(precision).eps
    np.testing.assert_allclose(y, t, rtol=4 * eps, atol=4 * eps)
    np.testing.assert_allclose(log_slope, 0, atol=4 * eps)


def test_equal_components_do_not_stay_equal(x64):
    """One step down any gradient parts them, where equal rates would move all alike."""
    t = jnp.asarray([-2.0, -1.0, 1.5, 3.0])

    @jax.jit
    def step(h):
        gradient = jax.grad(lambda h: jnp.sum(TRANSFORM.forward(t, h)[0] ** 2))(h)
        return TRANSFORM._components(h - 0.1 * gradient)

    for parted in step(jnp.zeros((4, 3 * K)))[1:]:
        assert (np.diff(np.sort(parted, axis=1), axis=1) > 1e-3).all()


def test_derivatives_of_the_inverse(x64):
    """To second order, by differences of roots that SciPy finds."""
    at, v = np.concatenate([[1.3], settings()[0]]), np.asarray(normal(3 * K + 1, seed=1))

    def root(at):
        return brentq(lambda t: by_formula(t, at[1:]) - at[0], -99, 99, xtol=1e-15, rtol=1e-14)

    def ours(at):
        return TRANSFORM.inverse(at[:1], at[None, 1:])[0][0]

    @jax.jit
    def derivatives(at):
        gradient, along = jax.jvp(jax.grad(ours), (at,), (jnp.asarray(v),))
        return gradient, along @ v

    gradient, second = derivatives(at)
    unit = np.eye(len(at))
    by_roots = [(root(at + 1e-5 * e) - root(at - 1e-5 * e)) / 2e-5 for e in unit]
    np.testing.assert_allclose(gradient, by_roots, atol=1e-8)
    e = 1e-3 * v
    by_roots = (root(at + e) - 2 * root(at) + root(at - e)) / 1e-6
    np.testing.assert_allclose(second, by_roots, rtol=1e-3)
    assert abs(second) > 0.1


def test_a_coupling_carries_the_score(x64):
    """Score and log determinant by dense Jacobians of `forward` and differences of them."""
    d = 5  # odd: halves of 2 and 3 coordinates
    layer = moved(coupling(jax.random.key(1), jnp.zeros(d), TRANSFORM, 6, 1), 2, 1.0)
    x, score = 0.3 + normal(7, d, seed=3, scale=2.0), normal(7, d, seed=4)

    @eqx.filter_jit
    def there_and_back(layer, x, score):
        y, log_det, pushed = jax.vmap(layer.push)(x, score)
        return log_det, pushed, *jax.vmap(layer.inverse)(y)

    jacobians = jax.jit(jax.vmap(jax.jacfwd(lambda x: layer.forward(x)[0])))
    step = 1e-5 * np.eye(d)[:, None]
    nearby = np.concatenate([x[None] + step, x[None] - step, x[None]])
    jacobian = np.asarray(jacobians(nearby.reshape(-1, d))).reshape(-1, 7, d, d)
    expected = np.linalg.slogdet(jacobian)[1]
    slope = (expected[:d] - expected[d:-1]).T / 2e-5
    solved = np.linalg.solve(np.swapaxes(jacobian[-1], 1, 2), (score - slope)[..., None])[..., 0]

    log_det, pushed, x_again, minus = there_and_back(layer, x, score)
    np.testing.assert_allclose(log_det, expected[-1], atol=1e-10)
    np.testing.assert_allclose(pushed, solved, rtol=1e-6)
    np.testing.assert_allclose(x_again, x, atol=1e-10)
    np.testing.assert_allclose(minus, -log_det, atol=1e-10)
    assert np.abs(log_det).max() > 0.1


def test_no_search_where_draws_are_made():
    """A program of draws, scores and their derivatives holds no loop of unknown length."""
    layer = coupling(jax.random.key(1), jnp.zeros(3), TRANSFORM, 4, 1)

    def total(layer, x):
        y, log_det, score = layer.push(x, -x)
        return jnp.sum(y * score) + log_det

    def loops(function):
        return str(jax.make_jaxpr(function)(layer, jnp.ones(3))).count("while[")

    assert loops(jax.value_and_grad(total)) == 0
    assert loops(lambda layer, y: layer.inverse(y)) == 1


@pytest.mark.slow
def test_the_first_member_is_a_gaussian_at_the_start():
    start = jnp.arange(4) - 2.0
    family = LogisticMixtureFlow(n_layers=2, width=6, depth=1, components=K, scale=0.7)

    @eqx.filter_jit
    def sampled(family):
        q = family.init(jax.random.key(0), start)
        return q.sample_score(jax.random.key(1), 50)

    draws = sampled(family)
    log_q = jax.scipy.stats.norm.logpdf(draws.x, start, 0.7).sum(axis=1)
    np.testing.assert_allclose(draws.log_q, log_q, rtol=1e-5)
    np.testing.assert_allclose(draws.score, (start - draws.x) / 0.49, atol=1e-4)


def banana(x):
    """exp(this) integrates to pi."""
    return -0.5 * x[0] ** 2 - 0.5 * ((x[1] - x[0] ** 2) / 0.5) ** 2


@pytest.mark.slow
def test_a_banana_and_its_normalizer():
    """The bound comes within 0.05 of log pi, from below up to noise."""
    target = infer.from_log_density(banana, jnp.zeros(2))
    method = infer.VI(
        family=LogisticMixtureFlow(width=16, scale=0.5),
        estimator=infer.Path(),
        optimizer=infer.optimizer(optax.adam, learning_rate=5e-3),
        n_samples=64,
        stopping=None,
    )
    result = infer.fit(target, method, key=0, steps=3000, draws=4000, progress=False)
    log_w = np.asarray(result.log_prob - result.log_q)
    error = log_w.std() / log_w.size**0.5
    assert np.log(np.pi) - 0.05 < log_w.mean() < np.log(np.pi) + 4 * error
    assert result.verdict.status == "ok", result.verdict


def test_refusals():
    for name in ("n_layers", "components", "width", "depth"):
        with pytest.raises(ValueError, match=f"LogisticMixtureFlow needs {name} >= 1, got 0"):
            LogisticMixtureFlow(**{name: 0})
    with pytest.raises(ValueError, match=r"clamp > 0, got -1.0; write clamp=3.0"):
        LogisticMixtureFlow(clamp=-1.0)
