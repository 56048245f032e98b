"""Directions besides SVGD's: against autodiff of kernel and kernel density, pair by pair."""

from itertools import permutations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

import infer
from infer.bridges.density import from_log_density
from infer.kernels import IMQ, RBF, stein_force
from infer.particles.blob import blob_force
from infer.particles.gfsd import smoothed_force
from infer.particles.gfsf import by_parts_force

N, D = 12, 5

METHODS = [
    infer.Blob,
    infer.GFSF,
    *slow(infer.GFSD, infer.AnnealedSVGD, infer.NoisySVGD, infer.RandomBatchSVGD),
]


def log_density(x, data):
    mean, precision = data
    return -0.5 * (x - mean) @ precision @ (x - mean)


def gaussian(mean, covariance):
    """The target N(mean, covariance)."""
    data = jnp.asarray(mean, float), jnp.asarray(np.linalg.inv(covariance), float)
    return from_log_density(log_density, jnp.zeros(len(mean)), data=data)


def cloud(n=N, d=D, offset=3.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return jnp.asarray(offset + x), jnp.asarray(rng.normal(size=(n, d)) - x)


@eqx.filter_jit
def phi(algorithm, target, x, score, step, key):
    swarm = algorithm.init(key, target)
    swarm = eqx.tree_at(lambda s: s.i, swarm, step)
    return algorithm.direction(key, target, x, score, swarm).phi


def direction(algorithm, x, score, step=0, key=None):
    """What a method makes of these scores; it looks at no target."""
    target = gaussian(np.zeros(x.shape[1]), np.eye(x.shape[1]))
    key = jax.random.key(0) if key is None else key
    return phi(algorithm, target, x, score, jnp.asarray(step, jnp.int32), key)


@eqx.filter_jit
def run(algorithm, target, key, steps):
    """The last state, and the variances of the particles at every step."""

    def body(state, i):
        state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
        return state, jnp.var(state.particles, axis=0)

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))


def pair(kernel):
    """K(a, b), to be differentiated."""
    return lambda a, b: kernel.value(jnp.sum((a - b) ** 2))


@eqx.filter_jit
def stein_sum(x, score, kernel, weight=1.0):
    """sum_j [ weight k(x_j, x_i) s_j + grad_{x_j} k(x_j, x_i) ], (n, n, d) before the sum."""
    k = pair(kernel)
    term = jax.vmap(lambda xj, sj, xi: weight * k(xj, xi) * sj + jax.grad(k)(xj, xi), (0, 0, None))
    return jax.vmap(lambda xi: term(x, score, xi))(x)


def log_density_of(cloud, kernel):
    """The logarithm of the kernel density of a cloud, at one point."""
    k = pair(kernel)
    return lambda point: jnp.log(jnp.mean(jax.vmap(lambda y: k(point, y))(cloud)))


@pytest.mark.parametrize(
    "make, tile", [(RBF, None), (IMQ, 5), *slow((IMQ, None), (RBF, 5), (RBF, 1), (IMQ, 1))]
)
def test_flows_of_a_kernel_density_are_their_definition(x64, make, tile):
    x, score = cloud()
    kernel = make().at(x)
    own = jax.jit(jax.vmap(jax.grad(log_density_of(x, kernel))))(x)
    np.testing.assert_allclose(smoothed_force(x, score, kernel, tile), score - own, atol=1e-12)

    def energy(x):
        return jnp.sum(jax.vmap(log_density_of(x, kernel))(x))

    downhill = score - jax.jit(jax.grad(energy))(x)
    np.testing.assert_allclose(blob_force(x, score, kernel, tile), downhill, atol=1e-12)
    if tile is None:
        for method, expected in ((infer.GFSD, score - own), (infer.Blob, downhill)):
            found = direction(method(n_particles=N, kernel=make()), x, score)
            np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("make, tile", [(RBF, None), (IMQ, 5), *slow((IMQ, None), (RBF, 5))])
def test_scores_by_parts_satisfy_what_defines_them(x64, make, tile):
    """sum_j [ k(x_j, x_i) u_j + grad_{x_j} k(x_j, x_i) ] = 0 but for the ridge, for u = s - phi."""
    x, score = cloud()
    kernel, ridge = make().at(x), jnp.asarray(0.03)
    own = score - by_parts_force(x, score, kernel, ridge, tile)
    left = jnp.sum(stein_sum(x, own, kernel), axis=1) + ridge * own
    np.testing.assert_allclose(left, 0, atol=1e-12)
    assert np.abs(own).max() > 0.1
    found = direction(infer.GFSF(N, make(), ridge=0.03), x, score)
    np.testing.assert_allclose(found, score - own, atol=1e-11)


@pytest.mark.parametrize("make", [RBF, *slow(IMQ)])
def test_annealing_weighs_the_scores_only(x64, make):
    x, score = cloud()
    algorithm = infer.AnnealedSVGD(N, make(), annealing=lambda step: step.astype(float) / 10)
    for step, weight in ((0, 0.0), (3, 0.3), (10, 1.0)):
        expected = jnp.mean(stein_sum(x, score, make().at(x), weight), axis=1)
        np.testing.assert_allclose(direction(algorithm, x, score, step), expected, atol=1e-13)


@pytest.mark.parametrize("make", [RBF, *slow(IMQ)])
def test_noisy_move(x64, make):
    """Its mean and its covariance, over many keys."""
    x, score = cloud(n=6, d=3)
    e, kernel = 0.3, make().at(x)
    algorithm = infer.NoisySVGD(6, make(), step_size=e)
    keys = jax.random.split(jax.random.key(1), 4000)
    target, step = gaussian(np.zeros(3), np.eye(3)), jnp.asarray(0, jnp.int32)
    moves = jax.vmap(lambda key: phi(algorithm, target, x, score, step, key))(keys)
    drift = e * jnp.mean(stein_sum(x, score, kernel), axis=1)
    noise = np.asarray(moves - drift)
    gram = jax.vmap(jax.vmap(pair(kernel), (None, 0)), (0, None))(x, x)
    covariance = np.einsum("kia,kjb->iajb", noise, noise) / len(keys)
    expected = 2 * e / 6 * np.einsum("ij,ab->iajb", gram, np.eye(3))
    limit = 5 * (2 * e / 6) / np.sqrt(len(keys))
    assert np.abs(noise.mean(axis=0)).max() < 5 * np.sqrt(2 * e / 6 / len(keys))
    assert np.abs(covariance - expected).max() < 1.5 * limit


@pytest.mark.parametrize("make", [IMQ, *slow(RBF)])
def test_random_batches_are_right_for_every_deal_and_on_average(x64, make):
    n, p = 4, 2
    x, score = cloud(n=n, d=3)
    kernel = make().at(x)
    terms = np.asarray(stein_sum(x, score, kernel))
    own = np.asarray(score) / n

    def by_hand(deal):
        total = own.copy()
        for group in np.reshape(deal, (n // p, p)):
            for i in group:
                others = sum(terms[i, j] for j in group if j != i)
                total[i] += (1 - 1 / n) / (p - 1) * others
        return total

    algorithm = infer.RandomBatchSVGD(n, make(), group=p)
    keys = jax.random.split(jax.random.key(2), 12)
    for key in keys:
        deal = jax.random.permutation(key, n)
        found = direction(algorithm, x, score, key=key)
        np.testing.assert_allclose(found, by_hand(np.asarray(deal)), atol=1e-13)
    average = np.mean([by_hand(deal) for deal in permutations(range(n))], axis=0)
    np.testing.assert_allclose(average, stein_force(x, score, kernel), atol=1e-13)
    whole = direction(infer.RandomBatchSVGD(n, make(), group=n), x, score)
    np.testing.assert_allclose(whole, stein_force(x, score, kernel), atol=1e-13)


# Random moves depend on the order in which noise and groups are dealt: only the others here.
@pytest.mark.parametrize("method", [infer.Blob, infer.GFSD, infer.GFSF, infer.AnnealedSVGD])
def test_renaming_particles_renames_moves(x64, method):
    x, score = cloud()
    order = np.random.default_rng(1).permutation(N)
    algorithm = method(N)
    one, two = (
        direction(algorithm, x, score, 500),
        direction(algorithm, x[order], score[order], 500),
    )
    np.testing.assert_allclose(two, one[order], atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_a_common_offset_costs_no_accuracy_in_float32(method):
    x, score = cloud(n=20, offset=0.0)
    x = np.round(x * 2**10) / 2**10  # so that x + 1000 is exact in float32
    near, far, score = (jnp.asarray(a, jnp.float32) for a in (x, x + 1000, score))
    moves = [direction(method(20), at, score, 500) for at in (near, far)]
    np.testing.assert_allclose(*moves, rtol=0, atol=1e-3 * np.abs(moves[0]).max())


@pytest.mark.parametrize("method", METHODS)
def test_one_particle_climbs(method):
    x, score = (jnp.asarray(a, jnp.float32) for a in cloud(n=1, offset=1e3))
    algorithm = method(1, group=1) if method is infer.RandomBatchSVGD else method(1)
    key = jax.random.key(3)
    found = direction(algorithm, x, score, 10_000, key)
    if method is infer.NoisySVGD:  # Langevin dynamics
        e = np.asarray(algorithm.step_size)
        expected = e * score + np.sqrt(2 * e) * jax.random.normal(key, x.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    else:
        np.testing.assert_array_equal(found, score)


@pytest.mark.parametrize("method", METHODS)
def test_collapsed_particles_are_finite(method):
    x = jnp.full((20, 3), 123.456, jnp.float32)
    score = jnp.ones((20, 3), jnp.float32)
    assert np.isfinite(direction(method(20), x, score)).all()


@pytest.mark.parametrize(
    "method, sds",
    [
        (infer.Blob, (0.93, 0.97)),
        *slow(
            (infer.GFSD, (0.81, 0.88)),
            (infer.GFSF, (0.96, 0.97)),
            (infer.AnnealedSVGD, (0.96, 0.97)),
            (infer.RandomBatchSVGD, (0.97, 0.97)),
        ),
    ],
)
def test_correlated_gaussian(key, method, sds):
    """Means are right; standard deviations, in units of the true ones, as low as they are."""
    mean, sd = np.array([5.0, -1.0]), np.array([1.0, np.sqrt(2)])
    covariance = np.array([[1.0, 1.0], [1.0, 2.0]])
    state, _ = run(method(50), gaussian(mean, covariance), key, 1600)
    x = np.asarray(state.particles)
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(x.std(axis=0) / sd, sds, atol=0.03)


@pytest.mark.slow
def test_noise_keeps_the_spread(key):
    """The table of the docstring: independent draws, not the 0.75 of SVGD."""
    algorithm = infer.NoisySVGD(20, step_size=0.5)
    _, variances = run(algorithm, gaussian(np.zeros(10), np.eye(10)), key, 3000)
    spread = np.sqrt(variances[1000:].mean())
    np.testing.assert_allclose(spread, np.sqrt(1 - 1 / 20), atol=0.03)


def two_modes(x):
    away = jnp.array([4.0, 0.0])
    first, second = -0.5 * jnp.sum((x - away) ** 2), -0.5 * jnp.sum((x + away) ** 2)
    return jnp.logaddexp(jnp.log(2 / 3) + first, jnp.log(1 / 3) + second)


@pytest.mark.slow
def test_annealing_finds_the_other_mode(key):
    start = np.array([-4.0, 0.0]) + 0.5 * np.random.default_rng(0).normal(size=(50, 2))
    target = from_log_density(two_modes, jnp.zeros(2))
    found = {}
    for method in (infer.SVGD, infer.AnnealedSVGD):
        state, _ = run(method(50, start=jnp.asarray(start, float)), target, key, 2000)
        found[method] = np.mean(state.particles[:, 0] > 0)
    assert found[infer.SVGD] == 0
    assert 0.4 < found[infer.AnnealedSVGD] < 0.8


def test_annealing_schedules():
    steps = np.arange(1300)
    rising = np.asarray(jax.jit(jax.vmap(infer.tanh_annealing(1000)))(steps))
    np.testing.assert_allclose(rising[:1000], np.tanh((1.3 * steps[:1000] / 1000) ** 5), rtol=1e-5)
    assert rising[0] == 0 and (rising[1000:] == 1).all()
    cyclic = np.asarray(jax.jit(jax.vmap(infer.cyclic_annealing(1000, cycles=4, power=2)))(steps))
    np.testing.assert_array_equal(cyclic[:750:250], 0)
    np.testing.assert_allclose(cyclic[125:750:250], 0.25, rtol=1e-5)
    assert (cyclic[750:] == 1).all()


def test_wrong_use():
    with pytest.raises(TypeError, match="annealing"):
        infer.AnnealedSVGD(annealing=0.5)
    with pytest.raises(ValueError, match="might stop"):
        infer.AnnealedSVGD(stopping=infer.LossSettled())
    infer.AnnealedSVGD(stopping=infer.LossSettled(minimum=2000))
    with pytest.raises(ValueError, match="cycles"):
        infer.cyclic_annealing(100, cycles=1)
    with pytest.raises(TypeError, match="optimizer"):
        infer.NoisySVGD(optimizer=infer.coin())
    with pytest.raises(ValueError, match="step_size"):
        infer.NoisySVGD(step_size=0)
    with pytest.raises(ValueError, match=r"RandomBatchSVGD\(n_particles=100, group=10\)"):
        infer.RandomBatchSVGD(n_particles=104)
    with pytest.raises(ValueError, match="group"):
        infer.RandomBatchSVGD(group=1)
