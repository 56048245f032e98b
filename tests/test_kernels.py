"""Kernels and the sums over pairs: against autodiff of k, pair by pair."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

from infer.kernels import IMQ, RBF, median_bandwidth, stein_force
from infer.kernels.radial import MEDIAN_POINTS, median

force = jax.jit(stein_force, static_argnames="tile")
KERNELS = [RBF, IMQ]


def cloud(n, d, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return offset + x, rng.normal(size=(n, d)) - x


@jax.jit
def by_hand(x, score, kernel):
    """The definition: the kernel's gradient by autodiff for every pair."""

    def k(a, b):
        return kernel.value(jnp.sum((a - b) ** 2))

    def pair(xj, sj, xi):
        return k(xj, xi) * sj + jax.grad(k)(xj, xi)

    over_j = jax.vmap(pair, (0, 0, None))
    return jax.vmap(lambda xi: jnp.mean(over_j(x, score, xi), axis=0))(x)


@pytest.mark.parametrize("tile", [None, 8, *slow(37, 1)])
@pytest.mark.parametrize("make", KERNELS)
def test_force_is_its_definition(x64, make, tile):
    x, score = map(jnp.asarray, cloud(37, 5, offset=3.0))
    np.testing.assert_allclose(
        force(x, score, make(2.3), tile=tile), by_hand(x, score, make(2.3)), atol=1e-13
    )
    median_rule = force(x, score, make(), tile=tile)
    np.testing.assert_allclose(median_rule, by_hand(x, score, make().at(x)), atol=1e-13)


@pytest.mark.parametrize("make", KERNELS)
def test_value_slope_decay(x64, make):
    kernel = make(0.7)
    r = jnp.linspace(0.0, 4.0, 9)
    slope = jax.vmap(jax.grad(lambda r: kernel.value(r)))(r)
    np.testing.assert_allclose(kernel.slope(r), slope, rtol=1e-12)
    assert kernel.value(r[0]) == 1.0
    if kernel.decay is not None:
        np.testing.assert_allclose(slope, -kernel.decay * kernel.value(r), rtol=1e-12)


@pytest.mark.parametrize("make", KERNELS)
def test_a_common_offset_costs_no_accuracy_in_float32(make):
    x, score = cloud(64, 5)
    x = np.round(x * 2**10) / 2**10  # so that x + 1000 is exact in float32
    near, far, score = (jnp.asarray(a, jnp.float32) for a in (x, x + 1000, score))
    np.testing.assert_allclose(
        force(far, score, make()), force(near, score, make()), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("tile", [None, 8])
def test_renaming_particles_renames_forces(x64, tile):
    x, score = map(jnp.asarray, cloud(37, 5))
    order = np.random.default_rng(1).permutation(37)
    np.testing.assert_allclose(
        force(x[order], score[order], RBF(), tile=tile),
        force(x, score, RBF(), tile=tile)[order],
        atol=1e-13,
    )


@pytest.mark.parametrize("make", KERNELS)
def test_one_particle_gets_exactly_its_score(make):
    x, score = (jnp.asarray(a, jnp.float32) for a in cloud(1, 7, offset=1e3))
    np.testing.assert_array_equal(force(x, score, make()), score)


@pytest.mark.parametrize("make", KERNELS)
def test_collapsed_particles_are_finite(make):
    for point in (0.0, 123.456):
        x = jnp.full((20, 3), point, jnp.float32)
        score = jnp.ones((20, 3), jnp.float32)
        phi = force(x, score, make())
        np.testing.assert_allclose(phi, score, rtol=1e-5)


@pytest.mark.parametrize("m", [1, 10, 11, *slow(2, 3, 190)])
@pytest.mark.parametrize("x64_enabled", [False, True])
def test_median_is_exact(m, x64_enabled):
    rng = np.random.default_rng(m)
    with jax.enable_x64(x64_enabled):
        for values in (rng.exponential(size=m) ** 8, rng.integers(0, 3, m), np.zeros(m)):
            values = jnp.asarray(values, float)
            expected = np.median(np.asarray(values))
            np.testing.assert_allclose(median(values), expected, rtol=1e-7)


def test_median_rule(x64):
    n = MEDIAN_POINTS
    x = cloud(n, 4)[0]
    r = np.sum((x[:, None] - x) ** 2, axis=-1)[np.triu_indices(n, 1)]
    np.testing.assert_allclose(
        median_bandwidth(jnp.asarray(x)), np.median(r) / np.log(n + 1), rtol=1e-12
    )
    large = jnp.asarray(cloud(3000, 4)[0])
    expected = np.median(r) / np.log(3001)
    np.testing.assert_allclose(median_bandwidth(large), expected, rtol=0.1)
    assert not np.any(jax.grad(lambda x: median_bandwidth(x))(jnp.asarray(x)))


def test_bandwidth_is_data():
    traces = deque()  # a list would be read as data

    @jax.jit
    def phi(x, kernel):
        traces.append(0)
        return stein_force(x, -x, kernel)

    x = jnp.asarray(cloud(9, 2)[0], jnp.float32)
    for h in (1, 2.0, np.float64(3.0)):
        phi(x, RBF(h))
    assert len(traces) == 1


def test_wrong_use():
    with pytest.raises(ValueError, match=r"bandwidth=infer\.Median"):
        RBF(0.0)
    with pytest.raises(ValueError, match=r"kernel.at\(x\)"):
        IMQ().value(jnp.ones(2))
