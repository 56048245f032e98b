"""SVGD: what theory says of Gaussian targets, and its finite-n bias as documented."""

from collections import deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow

from infer.bridges.density import from_log_density
from infer.kernels import IMQ, RBF
from infer.optimizers import optimizer
from infer.particles import SVGD


def log_density(x, data):
    mean, precision = data
    return -0.5 * (x - mean) @ precision @ (x - mean)


def gaussian(mean, covariance):
    """The target N(mean, covariance)."""
    data = jnp.asarray(mean, float), jnp.asarray(np.linalg.inv(covariance), float)
    return from_log_density(log_density, jnp.zeros(len(mean)), data=data)


@eqx.filter_jit
def init(algorithm, target, key):
    return algorithm.init(key, target)


@eqx.filter_jit
def run(algorithm, target, key, steps=1000):
    def body(state, i):
        return algorithm.step(jax.random.fold_in(key, i), target, state)

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))


def spread(particles):
    return jnp.sqrt(jnp.mean(jnp.var(particles, axis=0)))


@pytest.mark.parametrize(
    "kernel, n, d, expected",
    [
        (RBF(), 20, 2, 0.87),
        (IMQ(), 20, 20, 0.60),
        *slow(
            (RBF(), 5, 2, 0.77),
            (RBF(), 50, 2, 0.94),
            (RBF(), 20, 20, 0.38),
            (IMQ(), 5, 2, 0.83),
            (IMQ(), 50, 2, 0.96),
        ),
    ],
)
def test_spread_of_a_standard_normal(key, kernel, n, d, expected):
    algorithm = SVGD(n_particles=n, kernel=kernel)
    state, _ = run(algorithm, gaussian(np.zeros(d), np.eye(d)), key)
    np.testing.assert_allclose(spread(state.particles), expected, atol=0.02)


@pytest.mark.parametrize("kernel", [RBF(), *slow(IMQ())])
def test_mean_of_a_correlated_gaussian(key, kernel):
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 2.0]])
    mean = np.array([5.0, -1.0, 0.5])
    algorithm = SVGD(n_particles=60, kernel=kernel)
    state, info = run(algorithm, gaussian(mean, covariance), key, steps=2000)
    x = algorithm.posterior(state).x
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=5e-3)
    correlation = np.corrcoef(x.T)[0, 1]
    np.testing.assert_allclose(correlation, 0.8, atol=0.05)
    assert info.stats["force"][-1] < 1e-2 * info.stats["force"][0]
    assert algorithm.stopping.settled(np.asarray(info.loss))


def test_one_particle_climbs_to_the_mode(key):
    state, _ = run(SVGD(n_particles=1), gaussian([2.0, -3.0], np.eye(2)), key)
    np.testing.assert_allclose(state.particles, [[2.0, -3.0]], atol=1e-3)


def test_start(key):
    target = gaussian(np.zeros(3), np.eye(3)).at(jnp.array([1.0, 2.0, 3.0]))
    state = init(SVGD(n_particles=500, init_scale=0.1), target, key)
    np.testing.assert_allclose(state.particles.mean(axis=0), [1, 2, 3], atol=0.02)
    np.testing.assert_allclose(state.particles.std(axis=0), 0.1, rtol=0.15)


def test_info(key):
    algorithm = SVGD(n_particles=7, kernel=RBF(0.5))
    target = gaussian(np.zeros(2), np.eye(2))
    state = algorithm.init(key, target)
    new, info = algorithm.step(key, target, state)
    np.testing.assert_allclose(info.loss, 0.5 * jnp.mean(jnp.sum(state.particles**2, 1)), rtol=1e-5)
    assert info.gradients == 7
    assert info.stats["bandwidth"] == 0.5
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_new_numbers_compile_nothing(key):
    traces = deque()  # a list would be read as data
    target = gaussian(np.zeros(2), np.eye(2))

    @jax.jit
    def step(algorithm, state):
        traces.append(0)
        return algorithm.step(key, target, state)[0]

    for rate, scale, h in ((0.1, 1.0, 1.0), (0.2, 0.5, 3)):
        adam = optimizer(optax.adam, learning_rate=rate)
        algorithm = SVGD(n_particles=5, kernel=RBF(h), optimizer=adam, init_scale=scale)
        state = init(algorithm, target, key)
        for _ in range(3):
            state = step(algorithm, state)
    assert len(traces) == 1


def test_chains_under_vmap_are_the_chains(key):
    algorithm = SVGD(n_particles=12)
    target = gaussian(np.zeros(2), np.eye(2))
    keys = jax.random.split(key, 3)
    together = jax.vmap(lambda k: run(algorithm, target, k, steps=20)[0].particles)(keys)
    singly = [run(algorithm, target, k, steps=20)[0].particles for k in keys]
    np.testing.assert_allclose(together, jnp.stack(singly), atol=1e-5)


def test_wrong_use():
    for wrong in (0, -3, True):
        with pytest.raises(ValueError, match="n_particles"):
            SVGD(n_particles=wrong)
    with pytest.raises((TypeError, ValueError), match="n_particles"):
        SVGD(n_particles=2.5)
    with pytest.raises(ValueError, match="init_scale must be > 0"):
        SVGD(init_scale=0.0)
    with pytest.raises(TypeError, match="kernel"):
        SVGD(kernel="rbf")
