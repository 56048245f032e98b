"""LAWGD: spectra against Hermite polynomials, directions against closed forms, where it ends."""

from functools import partial
from math import factorial, sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow
from numpy.polynomial.hermite_e import hermeval
from scipy.stats import norm, truncnorm

import infer
from infer.bridges.density import from_log_density
from infer.particles.spectrum import GHOSTS, centers, find_box, spectrum

SDS = np.array([1.0, 0.8])


def log_density(x, data):
    return -0.5 * jnp.sum((x - data["mean"]) ** 2 @ data["precision"])


def gaussian(mean, sds):
    """Independent coordinates."""
    data = {"mean": np.asarray(mean), "precision": np.asarray(sds, float) ** -2.0}
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), data)
    return from_log_density(log_density, jnp.zeros(len(mean)), data=data)


def two_modes(share):
    """Modes of variance 1/2 at (2, 0) and (-2, 0), `share` of the mass in the first."""

    def log_p(x):
        at = jnp.array([2.0, 0.0])
        right, left = (-jnp.sum((x - side * at) ** 2) for side in (1, -1))
        return jnp.logaddexp(jnp.log(share) + right, jnp.log1p(-share) + left)

    return from_log_density(log_p, jnp.zeros(2))


def hermite(i, u):
    """The i-th polynomial, orthonormal for N(0, 1)."""
    return hermeval(u, np.eye(i + 1)[i]) / sqrt(factorial(i))


def normal(sds):
    return lambda z: -0.5 * jnp.sum((z / jnp.asarray(sds)) ** 2, axis=1)


@partial(jax.jit, static_argnums=(0, 3, 4, 5))
def solved(log_p, low, high, cells, modes, depth=8.0):
    return spectrum(log_p, low, high, cells, modes, depth)


def functions(found):
    """The eigenfunctions at the cells, (cells^d, modes)."""
    d = found.waves.ndim - 1
    inner = found.waves[(slice(GHOSTS, -GHOSTS),) * d]
    return (inner * jnp.sqrt(found.eigenvalues)).reshape(-1, inner.shape[-1])


def corners(sds, reach=6.0):
    return -reach * jnp.asarray(sds, float), reach * jnp.asarray(sds, float)


@eqx.filter_jit
def move(algorithm, target, x):
    state = eqx.tree_at(lambda s: s.particles, algorithm.init(jax.random.key(0), target), x)
    score = jax.vmap(jax.grad(target.log_prob))(x)
    return algorithm.direction(jax.random.key(0), target, x, score, state)


def finish(target, algorithm, seed=0, **options):
    return infer.fit(target, algorithm, key=seed, progress=False, **options)


@pytest.mark.parametrize("width, tolerance", [("float32", 1e-3), *slow(("float64", 1e-3))])
def test_spectrum_of_a_gaussian_in_one_dimension(width, tolerance):
    """Hermite polynomials, with eigenvalues i / sd^2."""
    with jax.enable_x64(width == "float64"):
        sd = 0.5
        low, high = corners([sd])
        found = solved(normal([sd]), low, high, 256, 5, 40.0)
        np.testing.assert_allclose(found.eigenvalues, np.arange(1, 6) / sd**2, rtol=tolerance)
        z = np.asarray(centers(low, high, 256))[:, 0]
        phi, near = np.asarray(functions(found)), np.abs(z) < 2.5 * sd
        for i in range(1, 6):
            ours, right = phi[near, i - 1], hermite(i, z / sd)[near]
            np.testing.assert_allclose(np.sign(ours @ right) * ours, right, atol=0.01)


def test_spectrum_of_a_product(x64):
    """Sums of eigenvalues, products of functions; orthonormal under the density."""
    low, high = corners(SDS)
    found = solved(normal(SDS), low, high, 30, 6, 40.0)
    powers = [(1, 0), (0, 1), (2, 0), (1, 1), (3, 0), (0, 2)]
    right = [i / SDS[0] ** 2 + j / SDS[1] ** 2 for i, j in powers]
    np.testing.assert_allclose(found.eigenvalues, right, rtol=0.01)
    z, phi = np.asarray(centers(low, high, 30)), np.asarray(functions(found))
    mass = norm.pdf(z / SDS).prod(axis=1) * np.prod((high - low) / 30 / SDS)
    np.testing.assert_allclose(phi.T @ (mass[:, None] * phi), np.eye(6), atol=1e-5)
    np.testing.assert_allclose(mass @ phi, 0, atol=1e-5)
    for k, (i, j) in enumerate(powers):
        overlap = mass @ (phi[:, k] * hermite(i, z[:, 0] / SDS[0]) * hermite(j, z[:, 1] / SDS[1]))
        np.testing.assert_allclose(np.abs(overlap), 1, atol=2e-3)


def test_small_eigenvalues_of_two_modes_keep_their_digits_in_float32():
    """The slowest one, far below the rounding error of the matrix, against float64."""

    def log_p(z):
        return jnp.logaddexp(-2 * (z[:, 0] - 1.9) ** 2, -2 * (z[:, 0] + 1.9) ** 2)

    found = {}
    for wide in (False, True):
        with jax.enable_x64(wide):
            box = jnp.array([-4.0]), jnp.array([4.0])
            found[wide] = np.asarray(solved(log_p, *box, 200, 3).eigenvalues, float)
    assert found[True][0] < 0.02 < found[True][1]
    np.testing.assert_allclose(found[False], found[True], rtol=2e-3)


@pytest.mark.parametrize("width", ["float64", *slow("float32")])
def test_direction_in_two_dimensions_is_the_sum_over_modes(width):
    """-(1/n) sum_j grad_1 k_L(x_i, x_j) with Hermite polynomials, their gradients by autodiff."""
    with jax.enable_x64(width == "float64"):
        x = jnp.asarray(0.5 + np.random.default_rng(0).normal(size=(7, 2)) * 0.8, float)
        eigen = {(1, 0): 1.0, (0, 1): 1 / 0.64, (2, 0): 2.0, (1, 1): 1 + 1 / 0.64}

        def phi(i, u):
            return (jnp.ones_like(u), u, (u**2 - 1) / sqrt(2))[i]

        sds = jnp.asarray(SDS, float)

        def kernel(a, b):
            a, b = a / sds, b / sds
            return sum(
                phi(i, a[0]) * phi(j, a[1]) * phi(i, b[0]) * phi(j, b[1]) / lam
                for (i, j), lam in eigen.items()
            )

        pairs = jax.vmap(jax.vmap(jax.grad(kernel), (None, 0)), (0, None))(x, x)
        algorithm = infer.LAWGD(n_particles=7, modes=4, box=(-5 * SDS, 5 * SDS), cells=40)
        found = move(algorithm, gaussian(np.zeros(2), SDS), x)
        assert found.phi.dtype == x.dtype
        np.testing.assert_allclose(found.phi, -pairs.mean(axis=1), atol=0.03)
        assert np.abs(found.phi).max() > 0.5


@pytest.mark.parametrize("mixed", [False, True])
def test_direction_in_one_dimension_is_the_difference_of_distribution_functions(x64, mixed):
    """(F_particles - F_p) / p, with particles so many that one alone makes no jump to speak of."""
    parts = [(0.3, 1.5, 0.7), (0.7, -1.0, 1.0)] if mixed else [(1.0, 0.0, 1.0)]

    def log_p(x):
        terms = [jnp.log(w / s) - 0.5 * ((x[0] - m) / s) ** 2 for w, m, s in parts]
        return jax.scipy.special.logsumexp(jnp.stack(terms))

    n = 400
    empirical = (np.arange(n) + 0.5) / n
    x = norm.ppf(empirical, 0.4, 0.8)
    algorithm = infer.LAWGD(n_particles=n, modes=50, cells=200, box=([-4.2], [4.0]))
    found = move(algorithm, from_log_density(log_p, jnp.zeros(1)), jnp.asarray(x[:, None]))
    cdf = sum(w * norm.cdf(x, m, s) for w, m, s in parts)
    pdf = sum(w * norm.pdf(x, m, s) for w, m, s in parts)
    near = np.abs(x - 0.4) < 1.6
    right = ((empirical - cdf) / pdf)[near]
    np.testing.assert_allclose(found.phi[near, 0], right, atol=0.02)
    assert np.ptp(right) > 0.5


@pytest.mark.parametrize("d", [2, *slow(1)])
def test_direction_is_downhill(x64, d):
    """Cubic interpolation has the gradient that the direction claims, by finite differences."""
    rng = np.random.default_rng(1)
    problem = gaussian(np.ones(d), SDS[:d])
    algorithm = infer.LAWGD(n_particles=5)
    memory = eqx.filter_jit(algorithm.init)(jax.random.key(0), problem).memory
    energy = jax.jit(lambda x: memory.energy(x))
    x, step = jnp.asarray(1 + rng.normal(size=(5, d))), rng.normal(size=(5, d))
    x = x.at[0].set(30.0)  # outside the domain, where it is pulled back
    e = 1e-6
    slope = (energy(x + e * step) - energy(x - e * step)) / (2 * e)
    found = move(algorithm, problem, x)
    np.testing.assert_allclose(slope, -jnp.sum(found.phi * step), rtol=1e-6)
    np.testing.assert_allclose(found.stats["energy"], energy(x), rtol=1e-12)
    assert (found.phi[0] < -25).all()


@pytest.mark.parametrize(
    "mean, sds, start",
    [([0.0], [1.0], 0.0), ([500.0, -3.0], [1.0, 30.0], 0.0), ([0.2, 0.1], [0.01, 0.02], 5.0)],
)
def test_box_is_found(mean, sds, start):
    """4 sd each way is 8 nats down; the box is no more than two coarse cells wider."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(start + rng.normal(size=(20, len(mean))))
    mean, sds = np.asarray(mean), np.asarray(sds)
    target = gaussian(mean, sds)
    low, high = jax.jit(lambda x: find_box(jax.vmap(target.log_prob), x))(x)
    for reach in ((mean - low) / sds, (high - mean) / sds):
        assert (reach > 4).all() and (reach < 5).all()


def test_box_reaches_over_to_another_mode(x64):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 2)) * 0.1 - [2, 0])
    target = two_modes(0.1)
    low, high = jax.jit(lambda x: find_box(jax.vmap(target.log_prob), x))(x)
    assert low[0] < -4.5 and 4.2 < high[0] < 6 and (np.abs([low[1], high[1]]) < 4).all()


SPREADS = [(1, 5, 0.89), (1, 20, 0.97), (2, 20, 0.87), (2, 100, 0.97)]


@pytest.mark.parametrize(
    "d, n, sd",
    [pytest.param(*s, marks=() if s == (1, 20, 0.97) else pytest.mark.slow) for s in SPREADS],
)
def test_spread_of_a_gaussian(d, n, sd):
    """The table of the docstring, from a start far away, at other scales."""
    mean, sds = np.array([60.0, -1.0])[:d], np.array([2.0, 2.0])[:d]
    result = finish(gaussian(mean, sds), infer.LAWGD(n_particles=n))
    np.testing.assert_allclose((result.z[0].mean(axis=0) - mean) / sds, 0, atol=0.03)
    # Few particles have several places to rest: coordinates differ by 0.05, n = 20.
    np.testing.assert_allclose(np.mean(result.z[0].std(axis=0) / sds), sd, atol=0.03)


@pytest.mark.parametrize(
    "share, side",
    [
        (0.1, -1),
        *slow((0.3, 1), (0.1, 1), (0.3, -1)),
    ],
)
def test_shares_of_modes_are_right_wherever_particles_start(share, side):
    n = 50
    start = np.random.default_rng(0).normal(size=(n, 2)) / sqrt(2) + [2 * side, 0]
    result = finish(two_modes(share), infer.LAWGD(n_particles=n, start=start))
    x = result.z[0]
    assert abs(np.sum(x[:, 0] > 0) - share * n) <= 1
    # One particle on the wrong side moves the mean by 4 / n.
    np.testing.assert_allclose(x.mean(axis=0), [4 * share - 2, 0], atol=4 / n)


@pytest.mark.slow
def test_banana():
    """x ~ N(0, 1), y ~ N(x^2, 1/4): mean (0, 1), sd 1 and 1.5."""
    target = from_log_density(
        lambda z: -0.5 * z[0] ** 2 - 2 * (z[1] - z[0] ** 2) ** 2, jnp.zeros(2)
    )
    x = finish(target, infer.LAWGD()).z[0]
    np.testing.assert_allclose(x.mean(axis=0), [0, 1], atol=0.1)
    np.testing.assert_allclose(x.std(axis=0), [1, 1.5], atol=0.1)


def test_particles_outside_the_box_come_in():
    """The walls reflect: what is found is the Gaussian cut off at them."""
    low, high = np.array([-0.5, -2.5]), np.array([2.5, 2.0])
    start = np.random.default_rng(0).normal(size=(50, 2)) * 3
    algorithm = infer.LAWGD(n_particles=50, start=start, box=(low, high))
    x = finish(gaussian([0.0, 0.0], [1.0, 1.0]), algorithm).z[0]
    cell = (high - low) / 32
    assert (x > low - cell).all() and (x < high + cell).all()
    right = truncnorm(low, high)
    np.testing.assert_allclose(x.mean(axis=0), right.mean(), atol=0.03)
    np.testing.assert_allclose(x.std(axis=0) / right.std(), 0.96, atol=0.03)


@pytest.mark.parametrize("hole", [np.nan, *slow(-np.inf)])
def test_holes_give_no_nan(hole):
    """No density on the left half, where some of the particles are: they are driven out."""
    cut = from_log_density(
        lambda x: jnp.where(x[0] < 0, hole, -0.5 * jnp.sum(x**2)), jnp.array([1.0, 0.0])
    )
    x = jnp.asarray([[-3.0, 0.0], [-0.5, 1.0], [1.0, 0.0], [0.5, -0.5]], float)
    found = move(infer.LAWGD(n_particles=4, start=x), cut, x)
    assert np.isfinite(found.phi).all() and np.isfinite(found.stats["energy"])
    assert (found.phi[:2, 0] > 0.3).all()


def test_wrong_use():
    three = gaussian(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=r"1 or 2 unconstrained coordinates.*has 3.*infer.KSDD"):
        finish(three, infer.LAWGD())
    two = gaussian(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=r"two arrays \(2,\)"):
        finish(two, infer.LAWGD(box=([-5.0], [5.0])))
    with pytest.raises(ValueError, match="low < high"):
        infer.LAWGD(box=([5.0, -5.0], [-5.0, 5.0]))
    with pytest.raises(ValueError, match="box="):
        infer.LAWGD(box=3.0)
    with pytest.raises(ValueError, match="modes=50"):
        infer.LAWGD(modes=0)
    with pytest.raises(ValueError, match="too few"):
        finish(two, infer.LAWGD(modes=100, cells=10))
    with pytest.raises(TypeError, match=r"takes none.*infer\.SVGD\(kernel"):
        infer.LAWGD(kernel=infer.RBF())
