"""KSDD and MIED: energies and gradients against their definitions, pair by pair; where they end."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow

import infer
from infer.bridges.density import from_log_density
from infer.core.support import interval
from infer.kernels import IMQ, RBF, Riesz
from infer.optimizers import coin, optimizer
from infer.particles import KSDD, MIED
from infer.particles.ksdd import stein_energy
from infer.particles.mied import interaction_energy, own_distances

COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 2.0]])
MEAN = np.array([5.0, -1.0, 0.5])


def log_density(x, data):
    mean, precision, quartic = data
    u = x - mean
    return -0.5 * u @ precision @ u - quartic * jnp.sum(u**4)


def target(mean=MEAN, covariance=COVARIANCE, quartic=0.0):
    """N(mean, covariance), with lighter tails where `quartic` > 0."""
    data = mean, np.linalg.inv(covariance), quartic
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), data)
    return from_log_density(log_density, jnp.zeros(len(mean)), data=data)


@eqx.filter_jit
def run(algorithm, target, key, steps):
    def body(state, i):
        return algorithm.step(jax.random.fold_in(key, i), target, state)

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))


@eqx.filter_jit
def found(algorithm, target, x, key):
    """Value and gradient of the energy at x, and those of what a line search is given at y."""
    state = algorithm.init(key, target)
    score = jax.vmap(jax.grad(target.log_prob))(x)
    direction = algorithm.direction(key, target, x, score, state)
    along = jax.value_and_grad(direction.line["value_fn"])(x + 0.1)
    return direction.stats["energy"], -direction.phi, along


def cloud(n=11, d=3):
    rng = np.random.default_rng(0)
    return jnp.asarray(MEAN[:d] + 0.3 + rng.normal(size=(n, d)))


def stein_by_hand(x, target, kernel):
    """The V statistic with every derivative of the kernel by autodiff, pair by pair."""

    def k(a, b):
        return kernel.value(jnp.sum((a - b) ** 2))

    def pair(a, b):
        s, t = jax.grad(target.log_prob)(a), jax.grad(target.log_prob)(b)
        cross = jnp.trace(jax.jacfwd(jax.grad(k, 0), 1)(a, b))
        return k(a, b) * s @ t + s @ jax.grad(k, 1)(a, b) + t @ jax.grad(k, 0)(a, b) + cross

    return jnp.mean(jax.vmap(lambda a: jax.vmap(lambda b: pair(a, b))(x))(x))


def interaction_by_hand(x, target, kernel, own):
    """The energy pair by pair; `own` is what stands for squared distances on the diagonal."""
    r = jnp.sum((x[:, None] - x) ** 2, axis=2)
    p = jnp.exp(jax.vmap(target.log_prob)(x))
    total = kernel.value(jnp.where(jnp.eye(len(x), dtype=bool), own[:, None], r))
    return jnp.log(jnp.sum(total / jnp.sqrt(p[:, None] * p)))


def nearest(x):
    """Squared distances to the nearest neighbor over (1.3 d)^(2/d), by hand."""
    r = np.sum((np.asarray(x)[:, None] - np.asarray(x)) ** 2, axis=2) + np.diag([np.inf] * len(x))
    return jnp.asarray(r.min(axis=1) / (1.3 * x.shape[1]) ** (2 / x.shape[1]))


@pytest.mark.parametrize("kernel", [RBF(), IMQ(2.3), *slow(IMQ(), RBF(0.7))])
def test_stein_energy_is_its_definition(x64, kernel, key):
    x, problem = cloud(), target(quartic=0.02)
    kernel = jax.tree.map(lambda leaf: leaf.astype(float), kernel)

    def by_hand(y):
        return stein_by_hand(y, problem, kernel.at(x))

    value, gradient, along = found(KSDD(n_particles=11, kernel=kernel), problem, x, key)
    hand = jax.jit(jax.value_and_grad(by_hand))
    for ours, theirs in zip(((value, gradient), along), (hand(x), hand(x + 0.1)), strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-12 * np.abs(theirs[1]).max())
    score = jax.vmap(jax.grad(problem.log_prob))(x)
    squared = infer.ksd_squared(x, score, c=1.0)
    np.testing.assert_allclose(stein_energy(x, score, IMQ(1.0))[0], squared, rtol=1e-12)


@pytest.mark.parametrize("kernel", [Riesz(), RBF(0.7), *slow(Riesz(0.3))])
def test_interaction_energy_is_its_definition(x64, kernel, key):
    x, problem = cloud(), target(quartic=0.02)
    kernel = jax.tree.map(lambda leaf: leaf.astype(float), kernel)
    own = nearest(x)

    def by_hand(y):
        return interaction_by_hand(y, problem, kernel.at(x), own)

    value, gradient, along = found(MIED(n_particles=11, kernel=kernel), problem, x, key)
    hand = jax.jit(jax.value_and_grad(by_hand))
    for ours, theirs in zip(((value, gradient), along), (hand(x), hand(x + 0.1)), strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-11 * np.abs(theirs[1]).max())


@pytest.mark.parametrize("tile", [4, *slow(1, 11)])
def test_tiles_change_nothing(x64, tile):
    x, problem = cloud(), target()
    log_prob, score = jax.vmap(problem.value_and_score)(x)
    own = own_distances(x)
    np.testing.assert_allclose(own, nearest(x), rtol=1e-12)
    for energy in (
        lambda tile: stein_energy(x, score, IMQ(1.5), tile),
        lambda tile: interaction_energy(x, log_prob, own, Riesz().at(x), tile),
    ):
        for tiled, whole in zip(energy(tile), energy(None), strict=True):
            np.testing.assert_allclose(tiled, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [KSDD, MIED])
def test_single_precision(method, key):
    x = np.asarray(cloud(60), np.float32)
    single = found(method(n_particles=60), target(), jnp.asarray(x), key)[:2]
    assert all(leaf.dtype == jnp.float32 for leaf in single)
    with jax.enable_x64(True):
        double = found(method(n_particles=60), target(), jnp.asarray(x, float), key)[:2]
    np.testing.assert_allclose(single[0], double[0], rtol=1e-4)
    np.testing.assert_allclose(single[1], double[1], atol=1e-3 * np.abs(double[1]).max())


LINE_SEARCHES = [(KSDD, optimizer(optax.lbfgs, memory_size=10)), (MIED, optax.lbfgs())]


@pytest.mark.parametrize("x64_enabled", [True, *slow(False)])
@pytest.mark.parametrize("method, search", LINE_SEARCHES)
def test_line_search_keeps_types(method, search, x64_enabled, key):
    with jax.enable_x64(x64_enabled):
        algorithm, problem = method(n_particles=6, optimizer=search), target()
        state = eqx.filter_eval_shape(algorithm.init, key, problem)
        after, _ = eqx.filter_eval_shape(lambda s: algorithm.step(key, problem, s), state)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
            assert (old.shape, old.dtype) == (new.shape, new.dtype)
            assert not old.weak_type and not new.weak_type


@pytest.mark.parametrize("method, search", [LINE_SEARCHES[0], *slow(LINE_SEARCHES[1])])
def test_line_search_needs_fewer_evaluations(method, search, key):
    """At as many evaluations of the energy, those of its line searches included."""
    options = {"n_particles": 20, "kernel": IMQ(2.0) if method is KSDD else Riesz()}
    state, info = run(method(**options, optimizer=search), target(), key, 60)
    cost = 60 if method is KSDD else 20
    last = optax.tree_utils.tree_get(state.optimizer, "num_linesearch_steps")
    assert info.gradients[-1] == cost * (1 + last) and last >= 1
    evaluations = int(info.gradients.sum()) // cost
    assert 60 <= evaluations <= 600
    for rival in (coin(), optimizer(optax.adam, learning_rate=0.1)):
        _, other = run(method(**options, optimizer=rival), target(), key, 600)
        assert info.stats["energy"][-1] < other.stats["energy"][evaluations - 1]


@pytest.mark.parametrize(
    "method, n, d, expected",
    [(MIED, 20, 2, 0.83), *slow((KSDD, 20, 10, 0.76), (MIED, 20, 10, 0.76))],
)
def test_spread_of_a_standard_normal(method, n, d, expected, key):
    problem = target(np.zeros(d), np.eye(d))
    state, _ = run(method(n_particles=n), problem, key, 200 if method is KSDD else 3000)
    np.testing.assert_allclose(state.particles.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(np.sqrt(state.particles.var(axis=0).mean()), expected, atol=0.02)


@pytest.mark.parametrize("method, expected", [(KSDD, 0.92), *slow((MIED, 0.81))])
def test_spread_of_a_correlated_gaussian(method, expected, key):
    """In coordinates in which the target is N(0, I)."""
    algorithm = method(n_particles=60)
    state, info = run(algorithm, target(), key, 200 if method is KSDD else 3000)
    u = np.linalg.solve(np.linalg.cholesky(COVARIANCE), (state.particles - MEAN).T)
    np.testing.assert_allclose(u.mean(axis=1), 0, atol=0.01)
    np.testing.assert_allclose(np.sqrt(u.var(axis=1).mean()), expected, atol=0.02)
    assert algorithm.stopping.settled(np.asarray(info.loss))
    loss = -jnp.mean(jax.vmap(target().log_prob)(state.particles))
    np.testing.assert_allclose(info.loss[-1], loss, atol=1e-2)


def test_one_particle_of_mied_climbs_to_the_mode(key):
    state, _ = run(MIED(n_particles=1), target(), key, 1000)
    np.testing.assert_allclose(state.particles[0], MEAN, atol=1e-2)


def test_mied_fills_a_box(key):
    """The uniform density on a square: particles inside, as spread as it is."""
    box = from_log_density(lambda x: 0 * jnp.sum(x), jnp.zeros(2), supports=interval(-1.0, 1.0))
    state, _ = run(MIED(n_particles=100), box, key, 3000)
    x = jax.vmap(box.constrain)(state.particles)["x"]
    assert (np.abs(x) < 1).all()
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(x.std(axis=0), 1 / np.sqrt(3), atol=0.04)


def test_ksdd_leaves_particles_between_modes(key):
    """The score vanishes half way between two modes; MIED moves on from there."""

    def two_modes(x):
        shift = jnp.array([2.0, 0.0])
        return jnp.logaddexp(-2 * jnp.sum((x - shift) ** 2), -2 * jnp.sum((x + shift) ** 2))

    problem, start = from_log_density(two_modes, jnp.zeros(2)), 0.1 * cloud(30, 2)
    start = start - start.mean(axis=0)
    adam = optimizer(optax.adam, learning_rate=0.03)
    between = {}
    for method in (KSDD, MIED):
        algorithm = method(n_particles=30, start=start, optimizer=adam)
        state, _ = run(algorithm, problem, key, 2000)
        between[method] = np.mean(np.abs(state.particles[:, 0]) < 1)
    assert between[KSDD] > 0.4 and between[MIED] == 0


def test_wrong_use():
    for method in (KSDD, MIED):
        with pytest.raises(ValueError, match="n_particles"):
            method(n_particles=0)
        with pytest.raises(TypeError, match="kernel"):
            method(kernel="rbf")
        with pytest.raises(TypeError, match="optimizer"):
            method(optimizer=0.1)
        with pytest.raises(ValueError, match="identical"):
            method(n_particles=3, start=jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="bandwidth must be > 0"):
        Riesz(bandwidth=0.0)
    with pytest.raises(ValueError, match="exponent must be > 0"):
        Riesz(exponent=-1.0)
    with pytest.raises(ValueError, match=r"kernel\.at\(x\)"):
        Riesz().value(jnp.ones(2))


def test_a_line_search_needs_an_energy():
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(2))
    algorithm = infer.SVGD(n_particles=5, optimizer=optax.lbfgs())
    with pytest.raises(TypeError, match=r"direction of particles has none.*infer\.KSDD\(\)"):
        infer.fit(target, algorithm, key=0, steps=3, progress=False)
