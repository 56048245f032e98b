"""Gaussian variational inference: points, expectations, rules, and fits that check themselves."""

import dataclasses
from collections import deque
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import assert_same
from marks import slow
from scipy import integrate, optimize, stats
from scipy.linalg import sqrtm

import infer
from infer.core.linear import LinearPredictor
from infer.gaussian import bwgd, fbgvi, natural_gradient
from infer.gaussian.certified import CONVERGED
from infer.gaussian.newton import COLUMNS
from infer.gaussian.oracle import Expectations
from infer.gaussian.points import CHUNK, DOUBLINGS, sobol_directions, whitener
from infer.gaussian.rule import Rule, in_fixed_frame, in_moving_frame

SLOW = pytest.mark.slow

MOVING = {
    "forward_backward": fbgvi.RULE,
    "gradient": bwgd.RULE,
    "plain": Rule(natural_gradient.plain, None),
    "corrected": Rule(natural_gradient.corrected, None),
    "square_root": Rule(natural_gradient.square_root, None),
}


@eqx.filter_jit
def traced_expect(oracle, key, target, mean, factor, level):
    return oracle.expect(key, target, mean, factor, level)


def expect(oracle, key, target, mean, factor, level=0):
    return traced_expect(
        oracle,
        key,
        target,
        jnp.asarray(mean, float),
        jnp.asarray(factor, float),
        jnp.asarray(level),
    )


@eqx.filter_jit
def expect_many(oracle, keys, target, mean, factor):
    """Over many sets of points."""
    level = jnp.zeros((), int)
    return jax.lax.map(
        lambda k: oracle.expect(k, target, mean, factor, level), keys, batch_size=100
    )


@eqx.filter_jit
def traced_chunk(points, key, j, rows, d):
    return points.chunk(points.prepare(key, d), j, rows, d)


def number(x):
    return jnp.asarray(x, float)


def chunk(points, key, j, rows, d):
    return np.asarray(traced_chunk(points, key, jnp.asarray(j), rows, d))


@eqx.filter_jit
def traced_whitener(points, key, chunks, rows, n, d):
    return whitener(points, points.prepare(key, d), chunks, rows, n, d)


def whiten(points, key, chunks, rows, n, d):
    return np.asarray(traced_whitener(points, key, jnp.asarray(chunks), rows, jnp.asarray(n), d))


@eqx.filter_jit
def start(algorithm, key, target):
    return algorithm.init(key, target)


@eqx.filter_jit
def step(algorithm, key, target, state):
    return algorithm.step(key, target, state)


@eqx.filter_jit
def run(algorithm, target, keys, states, steps):
    """Many chains at once; what the answer and the statistics were after every step."""

    def one(key, state):
        def body(state, i):
            state, info = algorithm.step(jax.random.fold_in(key, i), target, state)
            return state, (algorithm.posterior(state), info)

        return jax.lax.scan(body, state, jnp.arange(steps))

    return jax.vmap(one)(keys, states)


def fit(target, algorithm=None, **options):
    options = {"key": 1, "progress": False} | options
    return infer.fit(target, infer.FBGVI() if algorithm is None else algorithm, **options)


def pairs(z, mean, factor):
    """Whitened coordinates of points."""
    return np.linalg.solve(factor, (z - mean).T).T


# Points ---------------------------------------------------------------------------------------


def uniform(points, key, n, d):
    return stats.norm.cdf(chunk(points, key, 0, n, d))


@pytest.mark.parametrize("digits", [6, *slow(3, 9)])
def test_sobol_points_are_a_net(digits, x64):
    """A point per interval of length 2^-digits; in the plane, one per box of area 2^-digits."""
    n = 2**digits
    u = uniform(infer.Sobol(n=2 * n), jax.random.key(3), n, 7)
    for column in u.T:
        np.testing.assert_array_equal(np.sort(np.floor(column * n)), np.arange(n))
    for wide in range(digits + 1):
        boxes = np.floor(u[:, 0] * 2**wide) * 2 ** (digits - wide)
        boxes += np.floor(u[:, 1] * 2 ** (digits - wide))
        np.testing.assert_array_equal(np.sort(boxes), np.arange(n))


def test_sobol_directions_make_the_points_of_scipy(x64):
    d, digits = 40, 9
    directions = sobol_directions(d, digits)
    own = np.uint64(2.0**32 * stats.qmc.Sobol(d, scramble=False, bits=32).random(2**digits))
    for i in range(2**digits):
        gray = i ^ (i >> 1)
        point = np.zeros(d, np.uint32)
        for k in range(digits):
            point ^= directions[k] * np.uint32((gray >> k) & 1)
        np.testing.assert_array_equal(point, own[i])


def test_sobol_scrambles_are_uniform_and_new_for_every_key(x64):
    points = infer.Sobol()
    keys = jax.random.split(jax.random.key(0), 2000)
    u = stats.norm.cdf(
        jax.jit(jax.vmap(lambda k: points.chunk(points.prepare(k, 3), jnp.asarray(0), 8, 3)))(keys)
    )
    for i in range(8):
        for j in range(3):
            assert stats.kstest(u[:, i, j], "uniform").pvalue > 1e-4
    np.testing.assert_allclose(u.mean(axis=0), 0.5, atol=4.5 / np.sqrt(12 * len(u)))
    assert len(np.unique(u[:, 0, 0])) == len(u)
    # Not only shifted: the digits by which two points differ are new, too.
    digits = np.uint64(u * 2.0**32)
    differences = digits[:, 1] ^ digits[:, 2]
    assert len(np.unique(differences[:, 0])) > 0.99 * len(u)
    # Independent: coordinates of one point are uncorrelated over the keys.
    assert np.abs(np.corrcoef(u[:, 5].T) - np.eye(3)).max() < 4.5 / np.sqrt(len(u))


@pytest.mark.parametrize("n, d", [(256, 70), (520, 5), *slow((256, 3), (256, 100), (258, 3))])
def test_sobol_points_are_white_at_every_level(n, d, x64):
    points, key = infer.Sobol(n=n), jax.random.key(2)
    size = points.size(d)
    assert 2 * size >= max(n, 4 * d)
    rows = -(-size // -(-size // CHUNK))
    assert rows <= CHUNK
    before = None
    for level in (0, 1, 3, points.doublings()):
        whole = size * 2**level
        u = np.concatenate([chunk(points, key, j, rows, d) for j in range(-(-whole // rows))])
        u = u[:whole]
        if before is not None:
            np.testing.assert_array_equal(u[: len(before)], before)  # doubling keeps what was
        before = u
        shape = whiten(points, key, -(-whole // rows), rows, whole, d)
        np.testing.assert_array_equal(shape, np.tril(shape))
        white = u @ shape.T
        both = np.concatenate([white, -white])
        np.testing.assert_allclose(both.T @ both / len(both), np.eye(d), atol=1e-12)
        assert np.abs(u.T @ u / whole - np.eye(d)).max() > 1e-8  # they were not before


def test_cubature_is_exact_for_cubic_polynomials(x64):
    d = 4
    u = chunk(infer.Cubature(), jax.random.key(0), 0, d, d)
    u = np.concatenate([u, -u])
    one, two, three = (np.ones(len(u)), u, u[:, :, None] * u[:, None, :])
    assert one.mean() == 1
    np.testing.assert_allclose(two.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(three.mean(axis=0), np.eye(d), atol=1e-14)
    cubes = np.einsum("ni,nj,nk->ijk", u, u, u) / len(u)
    np.testing.assert_allclose(cubes, 0, atol=1e-14)
    assert abs((u[:, 0] ** 4).mean() - 3) > 0.5  # and not beyond


def test_points_refuse_impossible_sizes():
    with pytest.raises(ValueError, match=r"Independent\(n=7\).*Independent\(n=8\).*mirrored=False"):
        infer.Independent(7)
    for wrong in (0, -2, True):
        with pytest.raises(ValueError, match="Independent needs n >= 1"):
            infer.Independent(wrong)
    with pytest.raises(ValueError, match="Sobol needs n >= 2"):
        infer.Sobol(n=1)
    with pytest.raises(ValueError, match="GaussHermite needs nodes >= 2"):
        infer.GaussHermite(nodes=1)
    assert not infer.Independent(1).mirrored and infer.Independent(2).mirrored
    assert infer.Independent(7, mirrored=False).size(3) == 7
    assert infer.Independent(8).size(3) == 4
    assert infer.Independent(8).halved().n == 4 and infer.Independent(2).halved() is None


# Expectations ---------------------------------------------------------------------------------

P = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 1.5]])
CENTER = np.array([0.8, -0.5, 0.3])
FACTOR = np.array([[0.7, 0.2, -0.1], [-0.3, 0.9, 0.0], [0.1, 0.4, 0.5]])


def skewed(x):
    product = 0.1 * (x[0] * x[1]) ** 2
    return -0.5 * x @ P @ x - jnp.sum(jnp.exp(0.4 * x)) - product


def derivatives(z):
    """V = -log density of `skewed` with gradient and Hessian at points (n, 3), by hand."""
    x, y = z[:, 0], z[:, 1]
    bent = np.exp(0.4 * z)
    value = 0.5 * np.einsum("ni,ij,nj->n", z, P, z) + bent.sum(axis=1) + 0.1 * (x * y) ** 2
    gradient = z @ P + 0.4 * bent
    gradient[:, 0] += 0.2 * x * y**2
    gradient[:, 1] += 0.2 * x**2 * y
    hessian = P + 0.16 * bent[:, :, None] * np.eye(3)
    hessian[:, 0, 0] += 0.2 * y**2
    hessian[:, 1, 1] += 0.2 * x**2
    hessian[:, 0, 1] += 0.4 * x * y
    hessian[:, 1, 0] += 0.4 * x * y
    return value, gradient, hessian


def averages(u, weights, mean=CENTER, factor=FACTOR):
    """Energy, gradient, curvature and curvature from gradients, by hand."""
    value, gradient, hessian = derivatives(mean + u @ factor.T)
    gradient = gradient @ factor
    bent = factor.T @ np.einsum("n,nij->ij", weights, hessian) @ factor
    stein = np.einsum("n,ni,nj->ij", weights, gradient, u)
    return weights @ value, weights @ gradient, bent, stein


@cache
def truth():
    """By 30 nodes of Gauss-Hermite quadrature along every axis."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    u = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 3)
    w = np.einsum("i,j,k->ijk", weights, weights, weights).ravel()
    return averages(u, w / w.sum())


def skew():
    return infer.from_log_density(skewed, jnp.zeros(3))


ORACLES = [infer.Price, infer.Stein]


@pytest.mark.parametrize(
    "oracle, variate, mirrored",
    [
        (infer.Price, True, True),
        (infer.Stein, True, True),
        (infer.Stein, False, False),
        *slow(
            (infer.Price, False, True),
            (infer.Price, True, False),
            (infer.Price, False, False),
            (infer.Stein, False, True),
            (infer.Stein, True, False),
        ),
    ],
)
def test_independent_points_are_unbiased(oracle, variate, mirrored, x64):
    """Means of 5000 sets; 22 comparisons at 4.5 standard errors."""
    made = oracle(points=infer.Independent(2, mirrored=mirrored), control_variate=variate)
    keys = jax.random.split(jax.random.key(5), 5000)
    found = expect_many(made, keys, skew(), CENTER, FACTOR)
    energy, gradient, curvature, stein = truth()
    np.testing.assert_allclose(curvature, stein, atol=1e-8)  # the identity of Stein
    wanted = [energy, gradient, curvature, stein]
    parts = [found.energy, found.gradient, found.curvature, found.stein]
    for part, want in zip(parts, wanted, strict=True):
        part = np.asarray(part)
        error = np.abs(part.mean(axis=0) - want)
        se = part.std(axis=0) / np.sqrt(len(keys))
        assert (error < 4.5 * se + 1e-9).all()
        assert np.linalg.norm(want) > 10 * np.linalg.norm(se)  # it is not all noise
    assert (found.n == 2).all()


@pytest.mark.parametrize("oracle", ORACLES)
def test_sobol_points_come_near_the_truth_and_nearer_with_more(oracle, x64):
    energy, gradient, curvature, _ = truth()
    errors = []
    for level in (0, 4):
        misses = []
        for seed in range(5):
            found = expect(oracle(), jax.random.key(seed), skew(), CENTER, FACTOR, level)
            assert found.n == 256 * 2**level == np.count_nonzero(found.values)
            misses += [
                abs(found.energy - energy),
                np.abs(found.gradient - gradient).max(),
                np.abs(found.curvature - curvature).max(),
            ]
        errors.append(np.reshape(misses, (5, 3)).max(axis=0))
    assert (errors[0] < [0.05, 0.01, 0.15]).all(), errors
    assert (errors[1] < 0.3 * errors[0]).all(), errors


@pytest.mark.parametrize("n, level", [(520, 1), *slow((520, 0), (258, 2), (256, 0))])
@pytest.mark.parametrize("oracle", ORACLES)
def test_chunks_are_one_plain_average(oracle, n, level, x64):
    points, key = infer.Sobol(n=n), jax.random.key(7)
    found = expect(oracle(points=points), key, skew(), CENTER, FACTOR, level)
    size = points.size(3) * 2**level
    u = chunk(points, key, 0, size, 3)
    u = u @ np.linalg.inv(np.linalg.cholesky(u.T @ u / size)).T
    u = np.concatenate([u, -u])
    energy, gradient, curvature, stein = averages(u, np.full(len(u), 1 / len(u)))
    curvature = stein if oracle is infer.Stein else curvature
    np.testing.assert_allclose(found.energy, energy, rtol=1e-12)
    np.testing.assert_allclose(found.gradient, gradient, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.curvature, curvature, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.stein, stein, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.square, 3, rtol=1e-12)
    assert found.n == len(u)
    values = np.sort(derivatives(CENTER + u @ FACTOR.T)[0])
    np.testing.assert_allclose(np.sort(found.values)[-len(u) :], values, rtol=1e-12)
    np.testing.assert_allclose(found.values.sum(), len(u) * energy, rtol=1e-12)


def wavy(x):
    return -jnp.sum(jnp.cos(x[:-1] * x[1:])) - 0.5 * jnp.sum(x**2)


def test_hessians_come_in_blocks_of_columns(x64):
    d = 40
    assert d > COLUMNS and d % COLUMNS
    rng = np.random.default_rng(0)
    mean, factor = rng.normal(size=d), np.eye(d) + 0.1 * rng.normal(size=(d, d))
    points, key = infer.Independent(4), jax.random.key(0)
    target = infer.from_log_density(wavy, jnp.zeros(d))
    found = expect(infer.Price(points=points), key, target, mean, factor)
    u = chunk(points, key, 0, 2, d)
    hessian = jax.jit(jax.hessian(lambda z: -wavy(z)))
    mean_hessian = np.mean([hessian(mean + factor @ v) for v in (*u, *-u)], axis=0)
    np.testing.assert_allclose(found.curvature, factor.T @ mean_hessian @ factor, atol=1e-11)


def quadratic(x, data):
    away = x - data["mean"]
    return -0.5 * away @ data["precision"] @ away


def gaussian(mean, precision, dtype=float):
    data = {"mean": jnp.asarray(mean, dtype), "precision": jnp.asarray(precision, dtype)}
    return infer.from_log_density(quadratic, jnp.zeros(len(mean), dtype), data=data)


EXACT = {
    "price": infer.Price(),
    "stein": infer.Stein(),
    "stein_plain": infer.Stein(control_variate=False),
    "price_cubature": infer.Price(points=infer.Cubature()),
    "stein_cubature": infer.Stein(points=infer.Cubature()),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("precision", ["float64", *slow("float32")])
def test_quadratic_densities_are_exact(name, precision):
    with jax.enable_x64(precision == "float64"):
        mean = np.array([0.3, -1.0, 2.0])
        target = gaussian(mean, P)
        found = expect(EXACT[name], jax.random.key(0), target, CENTER, FACTOR)
        tolerance = 1e-12 if precision == "float64" else 2e-5
        away, covariance = CENTER - mean, FACTOR @ FACTOR.T
        energy = 0.5 * (np.trace(P @ covariance) + away @ P @ away)
        assert all(leaf.dtype == precision for leaf in jax.tree.leaves(found)[:-1])
        np.testing.assert_allclose(found.energy, energy, rtol=tolerance)
        np.testing.assert_allclose(found.gradient, FACTOR.T @ P @ away, atol=tolerance)
        np.testing.assert_allclose(found.curvature, FACTOR.T @ P @ FACTOR, atol=tolerance)
        np.testing.assert_allclose(found.stein, FACTOR.T @ P @ FACTOR, atol=tolerance)


@pytest.mark.parametrize("oracle", ORACLES)
def test_float32_expectations(oracle):
    found = expect(oracle(), jax.random.key(1), skew(), CENTER, FACTOR, 2)
    energy, gradient, curvature, _ = truth()
    np.testing.assert_allclose(found.energy, energy, rtol=2e-3)
    np.testing.assert_allclose(found.gradient, gradient, atol=0.02)
    np.testing.assert_allclose(found.curvature, curvature, atol=0.06)
    np.testing.assert_allclose(found.square, 3, rtol=1e-5)


@pytest.mark.parametrize("oracle", [infer.Price, *slow(infer.Stein)])
def test_chains_with_other_numbers_of_points_do_not_mix(oracle, x64):
    keys = jax.random.split(jax.random.key(4), 3)
    means = CENTER + np.array([[0.0], [0.5], [1.0]])
    levels = jnp.array([0, 2, -1])
    target, made = skew(), oracle()

    @jax.jit
    def together(keys, means, levels):
        return jax.vmap(lambda k, m, n: made.expect(k, target, m, jnp.asarray(FACTOR), n))(
            keys, means, levels
        )

    both = together(keys, means, levels)
    for i in range(3):
        alone = expect(made, keys[i], target, means[i], FACTOR, levels[i])
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-12, atol=1e-12),
            both,
            alone,
        )
    assert list(both.n) == [256, 1024, 0]


evaluated = []


def counted(x):
    jax.debug.callback(evaluated.append, x)
    return -0.5 * jnp.sum(x**2)


def test_below_level_zero_nothing_is_evaluated(x64):
    target, oracle = infer.from_log_density(counted, jnp.zeros(3)), infer.Stein()
    for level, count in ((-1, 0), (0, 256), (1, 512)):
        evaluated.clear()
        found = expect(oracle, jax.random.key(0), target, CENTER, FACTOR, level)
        jax.block_until_ready(found.energy)
        jax.effects_barrier()
        assert len(evaluated) == count
        assert found.n == count and np.isfinite(found.energy)


# Generalized linear models --------------------------------------------------------------------

QUADRATURE = infer.GaussHermite(nodes=80)


def poisson(eta, y):
    return y * eta - jnp.exp(eta)


def bernoulli(eta, y):
    return y * eta - jax.nn.softplus(eta)


def density(z, model, log_likelihood):
    eta = model["design"] @ z + model["offset"]
    prior = jnp.sum(model["prior_precision"] * (z - model["prior_mean"]) ** 2) / 2
    return jnp.sum(jax.vmap(log_likelihood)(eta, model["response"])) - prior


def linear(log_likelihood, **parts):
    """A target with its linear predictors declared."""
    parts = {name: jnp.asarray(part, float) for name, part in parts.items()}

    d = parts["design"].shape[1]
    made = infer.from_log_density(DENSITIES[log_likelihood], jnp.zeros(d), data=parts)
    predictor = LinearPredictor(log_likelihood=log_likelihood, **parts)
    return dataclasses.replace(made, linear=predictor)


def poisson_density(z, model):
    return density(z, model, poisson)


def bernoulli_density(z, model):
    return density(z, model, bernoulli)


DENSITIES = {poisson: poisson_density, bernoulli: bernoulli_density}


def rows(n=12, d=3, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "design": rng.normal(size=(n, d)),
        "offset": 0.3 * rng.normal(size=n),
        "response": rng.integers(0, 2, size=n).astype(float),
        "prior_mean": rng.normal(size=d),
        "prior_precision": np.linspace(0, 2, d),
    }


def prior_terms(parts):
    away, precision = CENTER - parts["prior_mean"], np.diag(parts["prior_precision"])
    energy = 0.5 * (away @ precision @ away + np.trace(precision @ FACTOR @ FACTOR.T))
    return energy, FACTOR.T @ precision @ away, FACTOR.T @ precision @ FACTOR


def test_quadrature_of_counts_is_the_closed_form(x64):
    """E exp(eta) = exp(mean + variance / 2), and so are all its derivatives."""
    parts = rows()
    target, oracle = linear(poisson, **parts), QUADRATURE
    found = expect(oracle, jax.random.key(0), target, CENTER, FACTOR)
    x, y = parts["design"], parts["response"]
    middle = x @ CENTER + parts["offset"]
    rate = np.exp(middle + 0.5 * np.sum((x @ FACTOR) ** 2, axis=1))
    energy, gradient, curvature = prior_terms(parts)
    np.testing.assert_allclose(found.energy, energy + np.sum(rate - y * middle), rtol=1e-10)
    np.testing.assert_allclose(found.gradient, gradient + FACTOR.T @ x.T @ (rate - y), rtol=1e-9)
    bent = curvature + FACTOR.T @ (x.T * rate) @ x @ FACTOR
    np.testing.assert_allclose(found.curvature, bent, rtol=1e-9)
    np.testing.assert_array_equal(found.curvature, found.stein)


def test_quadrature_of_binary_data_is_the_integral(x64):
    """Row by row with an adaptive rule over the line."""
    parts = rows()
    target, oracle = linear(bernoulli, **parts), QUADRATURE
    found = expect(oracle, jax.random.key(0), target, CENTER, FACTOR)
    x, y = parts["design"], parts["response"]
    energy, gradient, curvature = prior_terms(parts)
    for row, offset, answer in zip(x, parts["offset"], y, strict=True):
        middle, sd = row @ CENTER + offset, np.linalg.norm(row @ FACTOR)

        def over(function, middle=middle, sd=sd):
            return integrate.quad(
                lambda t: function(middle + sd * t) * stats.norm.pdf(t), -12, 12, epsabs=1e-12
            )[0]

        energy += over(lambda eta: np.logaddexp(0, eta)) - answer * middle
        slope = over(lambda eta: 1 / (1 + np.exp(-eta))) - answer
        bend = over(lambda eta: 1 / (2 + np.exp(eta) + np.exp(-eta)))
        gradient = gradient + slope * FACTOR.T @ row
        curvature = curvature + bend * np.outer(FACTOR.T @ row, FACTOR.T @ row)
    np.testing.assert_allclose(found.energy, energy, atol=1e-6)
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-6)
    np.testing.assert_allclose(found.curvature, curvature, atol=1e-6)


def test_quadrature_agrees_with_the_derivatives_of_its_energy(x64):
    """dE/dm = C^-T gradient, dE/dC = C^-T curvature."""
    target, oracle, key = linear(bernoulli, **rows()), QUADRATURE, jax.random.key(0)
    found = expect(oracle, key, target, CENTER, FACTOR)
    by_mean, by_factor = jax.jit(
        jax.grad(lambda m, c: oracle.expect(key, target, m, c, jnp.asarray(0)).energy, (0, 1))
    )(jnp.asarray(CENTER), jnp.asarray(FACTOR))
    np.testing.assert_allclose(found.gradient, FACTOR.T @ by_mean, atol=1e-12)
    np.testing.assert_allclose(found.curvature, FACTOR.T @ by_factor, atol=1e-5)


def test_quadrature_agrees_with_a_sample(x64):
    """A million points of NumPy, 13 comparisons at z < 4.5, and the density of the target."""
    parts = rows()
    target = linear(bernoulli, **parts)
    found = expect(QUADRATURE, jax.random.key(0), target, CENTER, FACTOR)
    u = np.random.default_rng(3).normal(size=(1_000_000, 3))
    z = CENTER + u @ FACTOR.T
    eta = z @ parts["design"].T + parts["offset"]
    away = z - parts["prior_mean"]
    value = np.logaddexp(0, eta).sum(axis=1) - eta @ parts["response"]
    value += 0.5 * away**2 @ parts["prior_precision"]
    slope = (1 / (1 + np.exp(-eta)) - parts["response"]) @ parts["design"]
    slope = (slope + away * parts["prior_precision"]) @ FACTOR
    stein = slope[:, :, None] * u[:, None, :]
    for sample, want in ((value, found.energy), (slope, found.gradient), (stein, found.curvature)):
        se = sample.std(axis=0) / 1000
        assert (np.abs(sample.mean(axis=0) - want) < 4.5 * se).all()
    some = np.array([0.3, -0.2, 1.0])
    eta = parts["design"] @ some + parts["offset"]
    away = some - parts["prior_mean"]
    want = eta @ parts["response"] - np.logaddexp(0, eta).sum()
    want -= 0.5 * parts["prior_precision"] @ away**2
    np.testing.assert_allclose(target.log_prob(jnp.asarray(some)), want, rtol=1e-12)


def test_quadrature_needs_a_declared_model():
    with pytest.raises(ValueError, match=r"FBGVI with GaussHermite\(\).*from_glm"):
        fit(skew(), infer.FBGVI(oracle=infer.GaussHermite()))


# Rules ----------------------------------------------------------------------------------------

ETA = 0.4


def seen(gradient, curvature):
    none, number = jnp.zeros(()), jnp.zeros((), int)
    gradient, curvature = jnp.asarray(gradient), jnp.asarray(curvature)
    return Expectations(none, jnp.zeros(0), gradient, curvature, curvature, none, number)


def random_case(seed, d=4, symmetric=True):
    """A factor, a mean Hessian S with eigenvalues below 1 / ETA, and a mean gradient."""
    rng = np.random.default_rng(seed)
    factor, s = rng.normal(size=(d, d)) + np.eye(d), rng.normal(size=(d, d))
    s = (s + s.T) / 2 if symmetric else s
    s *= 0.9 / ETA / np.linalg.norm(s, 2)
    return factor, s, rng.normal(size=d)


def paper(covariance, s, eta):
    """Sigma' of the forward-backward step, with a matrix square root."""
    eye = np.eye(len(s))
    m = eye - eta * s
    half = m @ covariance @ m.T
    squares, vectors = np.linalg.eigh((half + half.T) / 2)
    squares = np.maximum(squares, 0)
    root = (vectors * np.sqrt(squares * (squares + 4 * eta))) @ vectors.T
    return (half + 2 * eta * eye + root) / 2


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_forward_backward_is_the_formula_of_the_paper(seed, symmetric, x64):
    factor, s, _ = random_case(seed, symmetric=symmetric)
    new = np.asarray(fbgvi.forward_backward(jnp.asarray(factor), number(s @ factor), number(ETA)))
    np.testing.assert_allclose(new @ new.T, paper(factor @ factor.T, s, ETA), rtol=1e-8, atol=1e-9)
    # And with a square root that knows nothing of symmetry.
    m = np.eye(4) - ETA * s
    half = m @ factor @ factor.T @ m.T
    root = sqrtm(half @ (half + 4 * ETA * np.eye(4))).real
    want = (half + 2 * ETA * np.eye(4) + root) / 2
    np.testing.assert_allclose(new @ new.T, want, atol=1e-3)
    assert np.linalg.eigvalsh(new @ new.T).min() >= ETA - 1e-12  # never narrower than that


def test_forward_backward_beyond_the_inverse_curvature(x64):
    """The formula holds there, too, and at eta = 1 / lambda_max, where the forward half is flat."""
    factor, s, _ = random_case(11)
    for eta in (2 * ETA, 1 / np.linalg.norm(s, 2)):
        new = np.asarray(
            fbgvi.forward_backward(jnp.asarray(factor), number(s @ factor), number(eta))
        )
        want = paper(factor @ factor.T, s, eta)
        np.testing.assert_allclose(new @ new.T, want, rtol=1e-6, atol=1e-6)


def moved(name, factor, s, gradient, eta):
    """What a method makes of N(0, C C^T), in matrices and from the books."""
    d, covariance = len(s), factor @ factor.T
    eye, precision = np.eye(d), np.linalg.inv(covariance)
    away = precision - s
    if name == "forward_backward":  # in the frame of q
        return -eta * covariance @ gradient, factor @ paper(
            eye, factor.T @ s @ factor, eta
        ) @ factor.T
    if name == "gradient":
        m = eye - eta * (factor.T @ s @ factor - eye)
        return -eta * covariance @ gradient, factor @ m @ m.T @ factor.T
    if name == "square_root":
        bent = factor @ (eye - eta * (factor.T @ s @ factor - eye) / 2)
        return -eta * covariance @ gradient, bent @ bent.T
    new = precision - eta * away
    if name == "corrected":
        new = new + eta**2 / 2 * away @ covariance @ away
    return -eta * np.linalg.solve(new, gradient), np.linalg.inv(new)


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("seed", range(3))
def test_multipliers_are_the_formulas_in_matrices(name, seed, x64):
    factor, s, gradient = random_case(seed)
    s = s @ s.T if name == "plain" else s  # without the correction it may not bend upwards
    found = seen(factor.T @ gradient, factor.T @ s @ factor)
    eta = 0.9 / np.linalg.norm(factor.T @ s @ factor, 2)
    mean, frame = jnp.zeros(4), jnp.eye(4)
    largest, go = in_moving_frame(MOVING[name], mean, jnp.asarray(factor), frame, found)
    np.testing.assert_allclose(largest, 0.9 / eta, rtol=1e-10)
    new_mean, new = go(jnp.asarray(eta))
    want_mean, want = moved(name, factor, s, gradient, eta)
    np.testing.assert_allclose(new_mean, want_mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(new @ new.T, want, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["forward_backward", "gradient"])
@pytest.mark.parametrize("seed", range(3))
def test_the_moving_frame_is_the_fixed_one_taken_at_q(name, seed, x64):
    factor, s, gradient = random_case(seed)
    found = seen(factor.T @ gradient, factor.T @ s @ factor)
    mean, c = jnp.ones(4), jnp.asarray(factor)
    one, moving = in_moving_frame(MOVING[name], mean, c, jnp.eye(4), found)
    two, fixed = in_fixed_frame(MOVING[name], mean, c, c, found)
    np.testing.assert_allclose(one, two, rtol=1e-10)
    (m, k), (other, there) = moving(0.9 / one), fixed(0.9 / one)
    np.testing.assert_allclose(m, other, rtol=1e-10)
    np.testing.assert_allclose(k @ k.T, there @ there.T, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_a_fixed_frame_is_the_method_for_the_mapped_density(seed, x64):
    """With z = L phi: S_phi = L^T S L, g_phi = L^T g, K = L^-1 C."""
    factor, s, gradient = random_case(seed)
    frame = np.random.default_rng(seed + 50).normal(size=(4, 4)) + np.eye(4)
    found = seen(factor.T @ gradient, factor.T @ s @ factor)
    inner = np.linalg.solve(frame, factor)
    there = frame.T @ s @ frame
    eta = 0.7 / np.linalg.norm(there, 2)
    for name, want in (
        ("forward_backward", paper(inner @ inner.T, there, eta)),
        (
            "gradient",
            (lambda m: m @ inner @ inner.T @ m.T)(
                np.eye(4) - eta * (there - np.linalg.inv(inner @ inner.T))
            ),
        ),
    ):
        largest, go = in_fixed_frame(
            MOVING[name], jnp.zeros(4), jnp.asarray(factor), jnp.asarray(frame), found
        )
        np.testing.assert_allclose(largest, 0.7 / eta, rtol=1e-9)
        mean, new = go(jnp.asarray(eta))
        np.testing.assert_allclose(mean, -eta * frame @ frame.T @ gradient, rtol=1e-9)
        np.testing.assert_allclose(new @ new.T, frame @ want @ frame.T, rtol=1e-7, atol=1e-8)


def test_the_backward_half_is_a_proximal_step(x64):
    """It minimizes W2(N(0, B), N(0, A))^2 / (2 eta) - log det B / 2, found by brute force."""
    d, lower = 3, np.tril_indices(3)
    half = np.random.default_rng(2).normal(size=(d, d))
    a = half @ half.T
    root = np.linalg.cholesky(a)

    def objective(entries):
        c = np.zeros((d, d))
        c[lower] = entries
        transport = np.linalg.svd(root.T @ c, compute_uv=False).sum()  # tr (A^1/2 B A^1/2)^1/2
        far = np.trace(a) + np.sum(c**2) - 2 * transport
        return far / (2 * ETA) - np.log(np.abs(np.diag(c))).sum()

    best = optimize.minimize(objective, np.eye(d)[lower], method="BFGS", options={"gtol": 1e-8})
    c = np.zeros((d, d))
    c[lower] = best.x
    new = np.asarray(fbgvi.forward_backward(jnp.asarray(half), jnp.zeros((d, d)), number(ETA)))
    np.testing.assert_allclose(new @ new.T, c @ c.T, atol=1e-5)
    for r in (-2.0, -0.1, 0.0, 0.5, 3.0):
        a, _ = fbgvi.multipliers(jnp.array([(1 - r) / ETA]), jnp.asarray(ETA))
        brute = optimize.minimize_scalar(
            lambda x, r=r: (x - r) ** 2 / 2 - ETA * np.log(x),
            bounds=(1e-9, 10),
            method="bounded",
            options={"xatol": 1e-10},
        )
        np.testing.assert_allclose(a[0], brute.x, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_descent_is_the_formula_of_the_paper(seed, x64):
    factor, s, _ = random_case(seed, symmetric=False)
    new = np.asarray(bwgd.gradient_step(jnp.asarray(factor), number(s @ factor), number(0.2)))
    covariance = factor @ factor.T
    m = np.eye(4) - 0.2 * (s - np.linalg.inv(covariance))
    np.testing.assert_allclose(new @ new.T, m @ covariance @ m.T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MOVING)
def test_the_best_gaussian_stays_where_it_is(name, x64):
    """g = 0 and S = Sigma^-1 is a fixed point of every method, at every step size up to 1."""
    factor, _, _ = random_case(0)
    found = seen(np.zeros(4), np.eye(4))
    _, go = in_moving_frame(MOVING[name], jnp.ones(4), jnp.asarray(factor), jnp.eye(4), found)
    for eta in (0.1, 0.5, 1.0):
        mean, new = go(jnp.asarray(eta))
        np.testing.assert_allclose(mean, 1)
        np.testing.assert_allclose(new @ new.T, factor @ factor.T, rtol=1e-10, atol=1e-12)


# The Gaussian of the paper --------------------------------------------------------------------

D = 10
SPREAD = np.geomspace(1, 200, D)  # eigenvalues of the covariance


def badly_scaled(seed):
    """Mean and precision: eigenvalues from 1/200 to 1, in random directions."""
    turn = stats.ortho_group.rvs(D, random_state=seed)
    return np.random.default_rng(seed).uniform(size=D), turn.T @ np.diag(1 / SPREAD) @ turn


def divergence(mean, factor, center, precision):
    """KL(N(mean, C C^T) || N(center, precision^-1)); NaN where C is singular."""
    away = mean - center
    log_det = 2 * jnp.linalg.slogdet(factor)[1] + jnp.linalg.slogdet(precision)[1]
    spread = jnp.trace(precision @ factor @ factor.T)
    return (spread + away @ precision @ away - len(mean) - log_det) / 2


@eqx.filter_jit
def descend(update, centers, precisions, eta, steps):
    """log KL after the steps of a method in fixed coordinates from N(0, I), exact expectations."""

    def one(center, precision):
        def body(_, q):
            mean, factor = q
            gradient = precision @ (mean - center)
            return mean - eta * gradient, update(factor, precision @ factor, eta)

        q = jax.lax.fori_loop(0, steps, body, (jnp.zeros(D), jnp.eye(D)))
        return jnp.log(divergence(*q, center, precision))

    return jax.lax.map(lambda args: one(*args), (centers, precisions))


@pytest.fixture
def problems(x64):
    made = [badly_scaled(seed) for seed in range(20)]
    return jnp.stack([m for m, _ in made]), jnp.stack([p for _, p in made])


@pytest.mark.parametrize(
    "update, eta, steps, median, least, most",
    [
        (fbgvi.forward_backward, 1.0, 0, 2.262, 2.249, 2.374),
        (fbgvi.forward_backward, 1.0, 200, -5.222, -5.236, -5.122),
        (fbgvi.forward_backward, 0.5, 400, -5.234, -5.248, -5.133),
        (bwgd.gradient_step, 1.0, 200, -5.301, None, None),
        (bwgd.gradient_step, 0.5, 400, -5.273, None, None),
        # Beyond 1 / lambda_max it does not blow up: it settles at a wrong covariance.
        (fbgvi.forward_backward, 1 / 0.9, 180, -3.972, -3.976, -3.942),
    ],
)
def test_the_gaussian_of_the_paper(update, eta, steps, median, least, most, problems):
    found = np.asarray(descend(update, *problems, number(eta), jnp.asarray(steps)))
    np.testing.assert_allclose(np.median(found), median, atol=6e-4)
    if least is not None:
        np.testing.assert_allclose(found.min(), least, atol=6e-4)
        np.testing.assert_allclose(found.max(), most, atol=6e-4)


def test_explicit_steps_blow_up_where_the_proximal_ones_do_not(problems):
    found = np.asarray(descend(bwgd.gradient_step, *problems, number(1 / 0.9), jnp.asarray(180)))
    assert not (found < -3).all() and not np.nanmax(found) < 0


@pytest.mark.parametrize("eta, variance", [(10 / 9, 1.25), (1.5, 3.0), (1.9, 19.0), (0.9, 1.0)])
def test_steps_too_long_settle_at_a_wrong_variance(eta, variance, x64):
    """eta / (2 - eta lam) in place of 1 / lam, where eta lam > 1."""
    factor = jax.lax.fori_loop(
        0, 3000, lambda _, k: fbgvi.forward_backward(k, k, number(eta)), jnp.full((1, 1), 0.7)
    )
    np.testing.assert_allclose(factor[0, 0] ** 2, variance, rtol=1e-6)


@pytest.mark.parametrize("oracle", [infer.Price(), *slow(infer.Price(points=infer.Independent(8)))])
def test_the_step_size_has_a_cap(oracle, x64):
    """The fit takes what is asked for only up to 1 / lambda_max."""
    precision = np.array([[1.0, 0.3], [0.3, 0.5]])
    target = gaussian(np.array([1.0, -1.0]), precision)
    algorithm = infer.FBGVI(
        oracle=oracle, frame=infer.IdentityFrame(), step_size=1.9, tolerance=1e-8, stopping=None
    )
    result = fit(target, algorithm, steps=400)
    largest = np.linalg.eigvalsh(precision).max()
    taken = result.history["step_size"][0]
    taken = taken[taken > 0][1:]
    assert (taken <= 1 / largest + 1e-12).all() and taken[-1] > 0.5 / largest
    np.testing.assert_allclose(result.history["largest_curvature"][0, -1], largest, rtol=1e-8)
    covariance = result.posterior.covariance
    np.testing.assert_allclose(covariance, np.linalg.inv(precision), rtol=1e-3)


def floor(eta, points, chains, settle, steps):
    """Mean KL of the iterates, not of their average, after they have settled."""
    center, precision = badly_scaled(0)
    algorithm = infer.FBGVI(
        oracle=infer.Price(points=points, control_variate=False),
        frame=infer.IdentityFrame(),
        step_size=eta,
        init_scale=1.0,
        stopping=None,
    )
    target = gaussian(center, precision)
    keys = jax.random.split(jax.random.key(8), chains)
    return float(noise(algorithm, target, keys, jnp.asarray(settle), jnp.asarray(steps)))


@eqx.filter_jit
def noise(algorithm, target, keys, settle, steps):
    data = target.model.data

    def one(key):
        def body(i, carry):
            state, total = carry
            state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
            kl = divergence(state.mean, state.factor, data["mean"], data["precision"])
            return state, total + jnp.where(i >= settle, kl, 0.0)

        first = algorithm.init(key, target)
        return jax.lax.fori_loop(0, settle + steps, body, (first, jnp.zeros(())))[1] / steps

    return jnp.mean(jax.vmap(one)(keys))


def predicted(eta, n):
    lam = eta / SPREAD
    return np.sum(lam / (2 - lam)) / (2 * n)


@pytest.mark.parametrize(
    "eta, value",
    [
        (1.0, 0.8833),
        pytest.param(0.5, 0.3376, marks=SLOW),
        pytest.param(0.25, 0.1527, marks=SLOW),
    ],
)
def test_noise_of_steps_with_new_points(eta, value, x64):
    np.testing.assert_allclose(predicted(eta, 1), value, atol=6e-5)
    found = floor(eta, infer.Independent(1), 8, int(1500 / eta), int(2000 / eta))
    np.testing.assert_allclose(found, predicted(eta, 1), rtol=0.05)


# Logistic regressions with known optima -------------------------------------------------------


class Known:
    """A logistic regression with a standard normal prior, and its best Gaussian."""

    def __init__(self, d, n, beta, best, laplace, mean, sd):
        self.d, self.n, self.beta, self.best, self.laplace = d, n, beta, best, laplace
        self.mean, self.sd = np.array(mean), np.array(sd)
        rng = np.random.default_rng(0)
        truth, self.x = rng.normal(size=d), rng.normal(size=(n, d))
        self.y = 1.0 * (rng.uniform(size=n) < 1 / (1 + np.exp(-self.x @ truth)))

    def target(self):
        zero, one = np.zeros(self.d), np.ones(self.d)
        return linear(
            bernoulli,
            design=self.x,
            offset=np.zeros(self.n),
            response=self.y,
            prior_mean=zero,
            prior_precision=one,
        )


KNOWN = {
    "few": Known(
        10, 20, 11.2444, 0.53350755, 0.91601063,
        (0.748235, -0.645352, 0.075483), (0.721821, 0.676323, 0.717222),
    ),
    "many": Known(
        10, 200, 75.3224, 92.38592777, 92.51541129,
        (-0.353914, 0.187837, 0.455469), (0.191426, 0.200644, 0.212671),
    ),
    "small": Known(
        5, 50, 19.5128, 33.36121203, 33.39547955,
        (0.443359, 0.283301, 0.361326), (0.382641, 0.295776, 0.303264),
    ),
}  # fmt: skip


def free_energy(found, factor):
    d = len(factor)
    entropy = jnp.linalg.slogdet(factor)[1] + 0.5 * d * (1 + jnp.log(2 * jnp.pi))
    return found.energy - entropy


@pytest.mark.parametrize("name", ["few", *slow("many", "small")])
def test_free_energy_of_the_laplace_approximation(name, x64):
    known = KNOWN[name]
    x, y, z = known.x, known.y, np.zeros(known.d)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ z))
        hessian = (x.T * (p * (1 - p))) @ x + np.eye(known.d)
        z = z - np.linalg.solve(hessian, x.T @ (p - y) + z)
    factor = np.linalg.cholesky(np.linalg.inv(hessian))
    np.testing.assert_allclose(np.linalg.eigvalsh(x.T @ x).max() / 4 + 1, known.beta, atol=6e-5)
    found = expect(QUADRATURE, jax.random.key(0), known.target(), z, factor)
    np.testing.assert_allclose(free_energy(found, factor), known.laplace, atol=6e-9)


@pytest.mark.parametrize(
    "algorithm", [infer.FBGVI, pytest.param(infer.NaturalGradientVI, marks=SLOW)]
)
@pytest.mark.parametrize("name", ["few", *slow("many", "small")])
def test_the_best_gaussian_is_found(name, algorithm, x64):
    """The loss is -ELBO with all its constants."""
    known = KNOWN[name]
    result = fit(known.target(), algorithm(oracle=QUADRATURE, tolerance=1e-9), draws=100)
    assert result.outcome.ending is infer.Ending.CONVERGED
    np.testing.assert_allclose(result.history["loss"][0, -1], known.best, atol=2e-8)
    q = result.posterior
    np.testing.assert_allclose(q.mean[:3], known.mean, atol=2e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(q.covariance))[:3], known.sd, atol=2e-6)
    assert abs(result.history["gap"][0, -1]) < 1e-9


@eqx.filter_jit
def traced_energies(target, rule, moving, c, adaptive, steps):
    d, key = target.dim, jax.random.key(0)
    eye = jnp.eye(d)

    def body(q, _):
        found = QUADRATURE.expect(key, target, *q, jnp.asarray(0))
        largest, go = (in_moving_frame if moving else in_fixed_frame)(rule, *q, eye, found)
        return go(c * jnp.where(adaptive, 1 / largest, 1.0)), free_energy(found, q[1])

    return jax.lax.scan(body, (jnp.zeros(d), eye), None, length=steps)[1]


def energies(target, rule, moving, c, adaptive):
    """Free energy of N(0, I) and after every step of c, or of c / lambda_max."""
    return np.asarray(traced_energies(target, rule, moving, number(c), jnp.asarray(adaptive), 160))


FB, BETA = "forward_backward", "beta"
COUNTS = [
    ("few", FB, 1.0, BETA, (15, 32, 51, 73)),
    ("few", FB, 1.0, True, (7, 15, 25, 36)),
    ("few", "plain", 1.0, False, (3, 5, 8, 10)),
    *slow(
        ("many", FB, 1.0, BETA, (21, 38, 55, 72)),
        ("many", FB, 0.5, BETA, (45, 80, 114, 149)),
        ("many", FB, 1.0, True, (8, 16, 25, 34)),
        ("many", FB, 0.5, True, (24, 42, 61, 80)),
        ("many", "plain", 1.0, False, (4, 5, 7, 9)),
        ("many", "plain", 0.5, False, (7, 11, 16, 21)),
        ("many", "plain", 0.1, False, (32, 60, 88, 117)),
        ("many", "corrected", 0.5, False, (13, 17, 22, 27)),
    ),
]


@pytest.mark.parametrize("name, method, c, kind, counts", COUNTS)
def test_steps_to_the_best_gaussian(name, method, c, kind, counts, x64):
    """Steps until 1e-2, 1e-4, 1e-6 and 1e-8 nats are left."""
    known = KNOWN[name]
    c = c / known.beta if kind == BETA else c
    values = energies(known.target(), MOVING[method], method != FB, c, kind is True)
    exact = energies(known.target(), MOVING["plain"], True, 1.0, False)
    np.testing.assert_allclose(exact[-1], known.best, atol=6e-9)
    gap = values - exact[-1]
    found = [int(np.argmax(gap < tolerance)) for tolerance in (1e-2, 1e-4, 1e-6, 1e-8)]
    assert gap[-1] < 1e-8
    assert np.abs(np.subtract(found, counts)).max() <= 1, (found, counts)
    if method == FB:
        assert (np.diff(values) < 1e-11).all()  # the free energy never rises


# Equivariance ---------------------------------------------------------------------------------


def counts(a, b):
    """A regression on counts under a flat prior, for the coordinates a z + b."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(25, 3))
    y = rng.poisson(np.exp(x @ np.array([0.5, -0.3, 0.2])))
    back = np.linalg.inv(a)
    return linear(
        poisson,
        design=x @ back,
        offset=-x @ back @ b,
        response=y,
        prior_mean=np.zeros(3),
        prior_precision=np.zeros(3),
    )


def path(algorithm, a, b, steps=12):
    """Means and covariances along a fit that starts at a z + b with the factor a C."""
    target = counts(a, b)
    state = start(algorithm, jax.random.key(0), target)
    mean, factor = jnp.asarray(a @ (0.1 * CENTER) + b), jnp.asarray(a @ (0.2 * FACTOR))
    log_det = jnp.linalg.slogdet(factor)[1]
    best = eqx.tree_at(lambda p: (p.mean, p.factor, p.log_det), state.best, (mean, factor, log_det))
    state = eqx.tree_at(lambda s: (s.now, s.base, s.best), state, (best, best, best))
    found = []
    for i in range(steps):
        state, _ = step(algorithm, jax.random.key(i), target, state)
        found.append((np.asarray(state.now.mean), np.asarray(state.now.factor)))
    return [m for m, _ in found], [c @ c.T for _, c in found]


TURN = stats.ortho_group.rvs(3, random_state=0)
SHEAR = np.array([[30.0, 2.0, 0.0], [0.0, 1.0, 0.7], [0.0, 0.0, 0.01]])
SHIFT = np.array([3.0, -1.0, 0.2])


@pytest.mark.parametrize(
    "algorithm, a, same",
    [
        (infer.FBGVI(oracle=infer.GaussHermite(), frame=infer.IdentityFrame()), TURN, True),
        (infer.FBGVI(oracle=infer.GaussHermite(), frame=infer.IdentityFrame()), SHEAR, False),
        (infer.NaturalGradientVI(oracle=infer.GaussHermite()), SHEAR, True),
        # Points u make the same z in all coordinates, as long as the factor is mapped along.
        (infer.FBGVI(), SHEAR, True),
        *slow(
            (infer.BWGD(oracle=infer.GaussHermite(), frame=infer.IdentityFrame()), TURN, True),
            (infer.FBGVI(oracle=infer.GaussHermite()), SHEAR, True),
            (infer.NaturalGradientVI(oracle=infer.GaussHermite(), on_factor=True), SHEAR, True),
            (infer.NaturalGradientVI(oracle=infer.Stein()), SHEAR, True),
        ),
    ],
)
def test_which_coordinates_a_method_does_not_see(algorithm, a, same, x64):
    """The same start, mapped: iterates are mapped along. Quadrature knows no coordinates."""
    means, covariances = path(algorithm, np.eye(3), np.zeros(3))
    mapped, there = path(algorithm, a, SHIFT)
    assert np.abs(means[-1] - means[0]).max() > 0.01  # it has moved
    sd = np.sqrt(np.diag(a @ covariances[-1] @ a.T))
    errors = [np.abs((a @ m + SHIFT - n) / sd).max() for m, n in zip(means, mapped, strict=True)]
    scale = np.outer(sd, sd)
    errors += [
        np.abs((a @ s @ a.T - t) / scale).max() for s, t in zip(covariances, there, strict=True)
    ]
    assert (max(errors) < 1e-7) if same else (max(errors) > 0.01)


# Fits -----------------------------------------------------------------------------------------


def meaning(result):
    return result.verdict["converged"].meaning


def test_badly_scaled_gaussian_in_float32():
    sd = np.geomspace(1e-3, 1e3, 6)
    target = infer.from_log_density(scaled, jnp.zeros(6), data=jnp.asarray(sd, jnp.float32))
    result = fit(target)
    assert result.verdict.status == "ok", result.verdict
    assert result.z.dtype == np.float32
    q = result.posterior
    np.testing.assert_allclose(np.sqrt(np.diag(q.covariance)) / sd, 1, atol=1e-3)
    np.testing.assert_allclose(q.mean / sd, 1, atol=1e-3)


def scaled(x, sd):
    return -0.5 * jnp.sum((x / sd - 1) ** 2)


def logistic(x, data):
    return density(x, data, bernoulli)


@pytest.mark.parametrize(
    "oracle, precision",
    [(None, "float32"), *slow((infer.Stein(), "float32"), (None, "float64"))],
)
def test_logistic_regression(oracle, precision):
    known = KNOWN["small"]
    with jax.enable_x64(precision == "float64"):
        result = fit(known.target(), infer.FBGVI(oracle=oracle))
        assert result.verdict.status == "ok", result.verdict
        assert result.outcome.ending is infer.Ending.CONVERGED
        q = result.posterior
        np.testing.assert_allclose(q.mean[:3] / known.sd, known.mean / known.sd, atol=0.05)
        np.testing.assert_allclose(np.sqrt(np.diag(q.covariance))[:3] / known.sd, 1, atol=0.05)
        assert np.abs(result.history["loss"][0, -1] - known.best) < 0.02
        assert result.history["gap"][0, -1] < 0.01


def separable():
    return linear(
        bernoulli,
        design=np.array([[1.0, -2.0], [1.0, -1.0], [1.0, 1.0], [1.0, 2.0]]),
        offset=np.zeros(4),
        response=np.array([0.0, 0.0, 1.0, 1.0]),
        prior_mean=np.zeros(2),
        prior_precision=np.zeros(2),
    )


def test_an_improper_posterior_is_not_converged(capsys):
    result = fit(separable(), steps=6000)
    assert result.outcome.ending is infer.Ending.GAVE_UP
    assert result.verdict.status == "failed"
    assert meaning(result).startswith("not converged:")
    assert "not converged" in capsys.readouterr().err


def kinked(x):
    return -jnp.sum(jnp.abs(x - 0.5))


def test_kinks_are_seen_and_gradients_alone_serve_them():
    """For N(0, s^2), E |x| = s sqrt(2 / pi): the best one has s = sqrt(pi / 2)."""
    target = infer.from_log_density(kinked, jnp.zeros(3))
    blind = fit(target)
    assert blind.verdict.status != "ok"
    assert "Stein()" in str(blind.verdict)
    result = fit(target, infer.FBGVI(oracle=infer.Stein()))
    assert result.outcome.ending is infer.Ending.CONVERGED
    q = result.posterior
    np.testing.assert_allclose(q.mean, 0.5, atol=0.05)
    np.testing.assert_allclose(q.covariance, np.pi / 2 * np.eye(3), atol=0.1)


@jax.custom_vjp
def foreign(x):
    """A density from another language, with its gradient."""
    shape = jax.ShapeDtypeStruct((), x.dtype)
    return jax.pure_callback(lambda x: -0.5 * np.sum(x**2), shape, x, vmap_method="sequential")


def foreign_slope(x, g):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return (g * jax.pure_callback(lambda x: -np.asarray(x), shape, x, vmap_method="sequential"),)


foreign.defvjp(lambda x: (foreign(x), x), foreign_slope)


@jax.custom_vjp
def once(x):
    """JAX code that may be differentiated backwards, and only once."""
    return -0.5 * jnp.sum(x**2)


@jax.custom_vjp
def line(x):
    return -x


line.defvjp(lambda x: (line(x), None), lambda _, g: (-g,))
once.defvjp(lambda x: (once(x), x), lambda x, g: (g * line(x),))


@pytest.mark.parametrize("density", [foreign, pytest.param(once, marks=SLOW)])
def test_a_density_with_one_derivative(density):
    target = infer.from_log_density(lambda x: density(x), jnp.zeros(2))
    with pytest.raises(TypeError, match=r"infer\.FBGVI\(oracle=infer\.Stein\(\)\)"):
        fit(target)
    result = fit(target, infer.FBGVI(oracle=infer.Stein()))
    assert result.verdict.status == "ok", result.verdict
    np.testing.assert_allclose(result.posterior.covariance, np.eye(2), atol=0.02)


def row(x, y):
    return -0.5 * (y - x[0]) ** 2


def prior(x):
    return -0.5 * jnp.sum(x**2)


def test_minibatches_need_new_points():
    """The posterior of 12 rows y ~ N(x, 1) under x ~ N(0, 1) is N(sum y / 13, 1 / 13)."""
    data = jnp.linspace(-1, 2, 12)
    target = infer.from_log_density(
        example=jnp.zeros(1), log_prior=prior, log_likelihood=row, data=data, batch_size=4
    )
    with pytest.raises(ValueError, match=r"FBGVI needs .*batch_size=4"):
        fit(target)
    result = fit(target, infer.FBGVI(oracle=infer.Price(points=infer.Independent(8))), steps=3000)
    q, sd = result.posterior, np.sqrt(1 / 13)
    np.testing.assert_allclose(q.mean[0] / sd, float(data.sum()) / 13 / sd, atol=0.15)
    np.testing.assert_allclose(np.sqrt(q.covariance[0, 0]) / sd, 1, atol=0.1)
    assert "not measured" in meaning(result)


def holed(x):
    return jnp.where(x[0] > 1.0, jnp.nan, -0.5 * jnp.sum(x**2))


@pytest.mark.parametrize(
    "oracle", [infer.Price(), *slow(infer.Stein(), infer.Price(points=infer.Independent(8)))]
)
def test_a_hole_in_the_density_leaves_a_finite_state(oracle, capsys):
    target = infer.from_log_density(holed, jnp.zeros(2))
    result = fit(target, infer.FBGVI(oracle=oracle), steps=100, on_nonfinite="skip")
    answer = result.posterior
    assert np.isfinite(answer.mean).all() and np.isfinite(answer.factor).all()
    assert np.isfinite(result.z).all()
    assert result.verdict.status != "ok"


def eight_schools(x):
    """Non-centered: mu, log tau and eight standard effects."""
    traces.append(0)
    y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sd = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    mu, log_tau, effects = x[0], x[1], x[2:]
    fit = jnp.sum(((y - mu - jnp.exp(log_tau) * effects) / sd) ** 2) + jnp.sum(effects**2)
    tau = log_tau - jnp.log1p((jnp.exp(log_tau) / 5) ** 2)  # half-Cauchy, with its Jacobian
    return -0.5 * fit - 0.5 * (mu / 5) ** 2 + tau


traces = deque()  # one entry per time Python runs through the density; a list would be read
SCHOOLS = infer.from_log_density(eight_schools, jnp.zeros(10))


@cache
def schools():
    return fit(SCHOOLS, key=2, draws=100)


def test_more_points_compile_nothing(capsys):
    few = fit(SCHOOLS, key=3, steps=5, draws=100)
    assert few.history["points"].max() == 256
    before = len(traces)
    assert before
    result = schools()
    assert len(traces) == before
    points = result.history["points"][0]
    assert points.max() >= 4 * 256
    assert set(points) <= {0, *(256 * 2**level for level in range(DOUBLINGS + 1))}
    assert result.outcome.ending is infer.Ending.CONVERGED
    assert result.gradients >= 11 * points.sum()
    assert (np.diff(points[points > 0]) >= 0).all()


@SLOW
def test_new_settings_compile_nothing(capsys):
    first = fit(SCHOOLS, infer.FBGVI(step_size=0.5, tolerance=0.01, init_scale=0.2), steps=40)
    before = len(traces)
    other = fit(SCHOOLS, infer.FBGVI(step_size=0.25, tolerance=0.02, init_scale=0.1), steps=40)
    assert len(traces) == before
    for result, most in ((first, 0.5), (other, 0.25)):
        np.testing.assert_array_equal(result.history["step_size"][0, 1:].max(), most)


@SLOW
def test_chains_are_single_fits(x64, capsys):
    """Each with its own points, and its own number of them."""
    algorithm, target = infer.FBGVI(), infer.from_log_density(eight_schools, jnp.zeros(10))
    keys = jax.random.split(jax.random.key(6), 3)
    states = jax.vmap(lambda k: algorithm.init(k, target))
    together = run(algorithm, target, keys, eqx.filter_jit(states)(keys), 80)[0]
    for i in range(3):
        state = start(algorithm, keys[i], target)
        alone = run(algorithm, target, keys[i : i + 1], jax.tree.map(lambda x: x[None], state), 80)[
            0
        ]
        assert together.reason[i] == alone.reason[0] and together.level[i] == alone.level[0]
        np.testing.assert_allclose(together.best.mean[i], alone.best.mean[0], atol=1e-8)
        np.testing.assert_allclose(together.best.factor[i], alone.best.factor[0], atol=1e-8)
    assert (together.reason == CONVERGED).any()
    assert np.ptp(together.best.mean, axis=0).max() > 1e-6  # but not to the same points


@SLOW
def test_three_fits_at_once(capsys):
    many = fit(KNOWN["small"].target(), chains=3)
    one = fit(KNOWN["small"].target(), chains=1)
    assert len(many.posteriors) == 3
    np.testing.assert_allclose(many.posteriors[0].mean, one.posterior.mean, atol=1e-4)
    np.testing.assert_allclose(many.posteriors[0].covariance, one.posterior.covariance, atol=1e-4)
    for q in many.posteriors[1:]:
        np.testing.assert_allclose(q.mean, one.posterior.mean, atol=0.02)


STEPS = 24
ENDLESS = {
    "fixed": infer.FBGVI(stopping=None),
    "new": infer.FBGVI(oracle=infer.Price(points=infer.Independent(4)), stopping=None),
}


@pytest.mark.parametrize("name", ["new", pytest.param("fixed", marks=SLOW)])
def test_stopped_resumed_and_extended_fits_are_one_fit(name, tmp_path, capsys):
    options = {"algorithm": ENDLESS[name], "key": 3, "draws": 100}
    path = tmp_path / "fit.infer"
    whole = fit(SCHOOLS, steps=STEPS, chunk=5, **options)
    stop = [lambda progress: progress.step >= 10]
    part = fit(SCHOOLS, steps=STEPS, chunk=5, callbacks=stop, checkpoint=path, **options)
    assert part.outcome.ending is infer.Ending.CALLBACK and part.trail.taken < STEPS
    assert_same(fit(SCHOOLS, steps=STEPS, chunk=7, resume=path, **options), whole)
    shorter = fit(SCHOOLS, steps=11, **options)
    assert_same(shorter.extend(steps=STEPS - 11, progress=False), whole)
