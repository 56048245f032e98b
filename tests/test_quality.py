"""Measures of sample quality against closed forms, loops and automatic differentiation."""

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.diagnostics import ksd_squared, mmd_squared, pairs, widest_gap


@pytest.fixture(params=[2**20, 17], ids=["one tile", "many tiles"])
def tile(request, monkeypatch):
    monkeypatch.setattr(pairs, "TILE", request.param)


def gaussian(seed, d):
    """Mean, covariance and score of a correlated Gaussian target far from the origin."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((d, d)) + 2 * np.eye(d)
    mean, precision = 3 * rng.standard_normal(d) + 5, np.linalg.inv(factor @ factor.T)
    return mean, factor @ factor.T, lambda x: -(x - mean) @ precision


# Kernel Stein discrepancy.


def stein_kernel(score, scale, beta, c):
    """k_p of two points by differentiating the kernel, in the original coordinates."""

    def kernel(x, y):
        return (c**2 + jnp.sum(((x - y) / scale) ** 2)) ** beta

    def value(x, y):
        # Dividing the coordinates by `scale` multiplies the scores and the gradients by it.
        s, t, square = score(x) * scale, score(y) * scale, scale**2
        mixed = jax.jacfwd(jax.grad(kernel, 1), 0)(x, y)
        return (
            kernel(x, y) * s @ t
            + s @ (scale * jax.grad(kernel, 1)(x, y))
            + t @ (scale * jax.grad(kernel, 0)(x, y))
            + jnp.trace(mixed * square)
        )

    return jax.jit(jax.vmap(jax.vmap(value, (None, 0)), (0, None)))


@pytest.mark.parametrize("beta, c", [(-0.5, 1.0), (-0.3, 2.5)])
@pytest.mark.parametrize("scaled", [False, True])
def test_ksd_is_the_sum_over_pairs_of_the_differentiated_kernel(beta, c, scaled, tile):
    mean, covariance, score = gaussian(0, 3)
    x = mean + 1.5 * np.random.default_rng(1).standard_normal((7, 3))
    scale = np.array([0.5, 1.0, 3.0]) if scaled else None
    with jax.enable_x64():
        unit = jnp.ones(3) if scale is None else jnp.asarray(scale)
        pairwise = np.asarray(stein_kernel(score, unit, beta, c)(jnp.asarray(x), jnp.asarray(x)))
    s = score(x)
    expected = math.sqrt(pairwise.sum()) / 7
    assert infer.ksd(x, s, scale, beta, c) == pytest.approx(expected, rel=1e-10)
    assert ksd_squared(x, s, scale, beta, c) == pytest.approx(expected**2, rel=1e-10)
    off = pairwise.sum() - np.trace(pairwise)
    unbiased = ksd_squared(x, s, scale, beta, c, unbiased=True)
    assert unbiased == pytest.approx(off / 42, rel=1e-9)


def test_ksd_floor_is_the_root_mean_square_over_ideal_samples():
    mean, covariance, score = gaussian(2, 4)
    rng, scale = np.random.default_rng(3), np.sqrt(np.diag(covariance))
    for options in ({}, {"scale": scale, "beta": -0.3, "c": 2.0}):
        both = []
        for _ in range(600):
            x = rng.multivariate_normal(mean, covariance, 30)
            s = score(x)
            both.append([ksd_squared(x, s, **options), ksd_squared(x, s, **options, unbiased=True)])
        (value, unbiased), error = np.mean(both, 0), np.std(both, 0) / math.sqrt(600)
        assert infer.ksd_floor(covariance, 30, **options) ** 2 == pytest.approx(
            value, abs=4 * error[0]
        )
        assert abs(unbiased) < 4 * error[1]
    assert infer.ksd_floor(np.zeros((2, 2)), 5) == math.inf


def test_ksd_grows_with_the_error_of_the_sample():
    mean, covariance, score = gaussian(4, 3)
    x = np.random.default_rng(5).multivariate_normal(mean, covariance, 400)
    floor = infer.ksd_floor(covariance, 400)
    assert 0.5 * floor < infer.ksd(x, score(x)) < 1.5 * floor
    for wrong in (x + 1, mean + 2 * (x - mean), mean + 0.3 * (x - mean)):
        assert infer.ksd(wrong, score(wrong)) > 3 * floor
    assert infer.ksd(x + 1e6, score(x)) == pytest.approx(infer.ksd(x, score(x)), rel=1e-6)


# Energy distance and maximum mean discrepancy.


def pair_means(x, y, value):
    """Means over all pairs, and over pairs of different points, by loops."""
    table = np.array([[value(math.dist(a, b)) for b in y] for a in x])
    return table.mean(), (table.sum() - np.trace(table)) / (len(x) * (len(x) - 1))


SAMPLES = [
    np.random.default_rng(6).standard_normal((7, 3)) * [1, 2, 3] + 100,
    np.random.default_rng(7).standard_normal((11, 3)) + 101,
]


def test_energy_distance_is_its_sum_over_pairs(tile):
    x, y = SAMPLES
    means = [pair_means(a, b, float)[0] for a, b in ((x, y), (x, x), (y, y))]
    assert infer.energy_distance(x, y) == pytest.approx(2 * means[0] - means[1] - means[2])


def test_mmd_is_its_sum_over_pairs(tile):
    x, y = SAMPLES
    bandwidths = [0.7, 2.0]

    def kernel(r):
        return np.mean([math.exp(-(r**2) / (2 * h**2)) for h in bandwidths])

    between = pair_means(x, y, kernel)[0]
    (xx, xx_off), (yy, yy_off) = pair_means(x, x, kernel), pair_means(y, y, kernel)
    v = xx + yy - 2 * between
    assert infer.mmd(x, y, bandwidths) == pytest.approx(math.sqrt(v))
    assert mmd_squared(x, y, bandwidths) == pytest.approx(v)
    u = mmd_squared(x, y, bandwidths, unbiased=True)
    assert u == pytest.approx(xx_off + yy_off - 2 * between)
    wide = np.array([0.25, 0.5, 1, 2]) * math.sqrt((x.var(0) + y.var(0)).sum() / 2)
    assert infer.mmd(x, y) == pytest.approx(infer.mmd(x, y, wide))


def quantiles(n):
    """A standard normal sample without noise."""
    return np.array([[NormalDist().inv_cdf((i + 0.5) / n)] for i in range(n)])


def test_energy_distance_of_two_normals():
    """E|N(m, v)| is known, and so is every term."""

    def folded(m, v):
        return math.sqrt(2 * v / math.pi) * math.exp(-(m**2) / (2 * v)) + m * math.erf(
            m / math.sqrt(2 * v)
        )

    x, y = quantiles(1500), 1.3 + 2 * quantiles(1700)
    expected = 2 * folded(1.3, 5) - folded(0, 2) - folded(0, 8)
    assert infer.energy_distance(x, y) == pytest.approx(expected, rel=0.01)


def test_mmd_of_two_normals():
    """E exp(-|X - Y|^2 / 2 h^2) is a Gaussian density, one factor per coordinate."""
    h, d, shift, sd, rng = 1.7, 2, 0.8, 1.5, np.random.default_rng(8)

    def mean(m, v):
        return (h / math.sqrt(h**2 + v)) ** d * math.exp(-d * m**2 / (2 * (h**2 + v)))

    expected = mean(0, 2) + mean(0, 2 * sd**2) - 2 * mean(shift, 1 + sd**2)
    pairs_of_samples = [
        (rng.standard_normal((150, d)), shift + sd * rng.standard_normal((100, d)))
        for _ in range(200)
    ]
    u = [mmd_squared(x, y, h, unbiased=True) for x, y in pairs_of_samples]
    assert np.mean(u) == pytest.approx(expected, abs=4 * np.std(u) / math.sqrt(200))
    # The V statistic counts each point with itself, where the kernel is 1.
    bias = (1 - mean(0, 2)) / 150 + (1 - mean(0, 2 * sd**2)) / 100
    v = [mmd_squared(x, y, h) for x, y in pairs_of_samples]
    assert np.mean(v) == pytest.approx(expected + bias, abs=4 * np.std(v) / math.sqrt(200))


@pytest.mark.parametrize("name, rate", [("energy_distance", 1.0), ("mmd", 0.5)])
def test_floors_are_the_noise_of_ideal_samples(name, rate):
    distance, floor = getattr(infer, name), getattr(infer, f"{name}_floor")
    rng = np.random.default_rng(9)
    x = rng.standard_normal((1000, 3)) * [1, 2, 3]
    fresh = [
        distance(*np.split(rng.standard_normal((180, 3)) * [1, 2, 3], [60])) for _ in range(60)
    ]
    expected = pytest.approx(np.mean(fresh), rel=0.1)
    assert floor(x, 60, 120, n_repeats=40) == expected
    assert floor(x[:90], 60, 120, n_repeats=40) == pytest.approx(np.mean(fresh), rel=0.25)
    assert floor(x, 240, n_repeats=20) / floor(x, 60, n_repeats=40) == pytest.approx(
        0.25**rate, rel=0.15
    )
    assert distance(x[:60], x[60:180] + x.std(0)) > 2 * floor(x, 60, 120)


@pytest.mark.parametrize("distance", [infer.energy_distance, infer.mmd])
def test_distances_of_equal_and_of_broken_samples(distance):
    x = np.random.default_rng(10).standard_normal((9, 2)) + 1e3
    assert distance(x, np.repeat(x[::-1], 3, axis=0)) == pytest.approx(0, abs=1e-5)
    assert distance(x, x + 1) == pytest.approx(distance(x + 1, x)) and distance(x, x + 1) > 0.1
    assert distance(x[:1], x[:1]) == 0
    x[3, 1] = np.nan
    assert math.isnan(distance(x, x))
    with pytest.raises(ValueError, match="same width"):
        distance(x, x[:, :1])
    with pytest.raises(ValueError, match=r"\(n, d\)"):
        distance(x[0], x)


def test_wrong_use():
    x = np.zeros((4, 2))
    for wrong in ({"beta": 0.5}, {"c": 0.0}, {"scale": [1.0]}, {"scale": [1.0, 0.0]}):
        with pytest.raises(ValueError):
            infer.ksd(x, x, **wrong)
        with pytest.raises(ValueError):
            infer.ksd_floor(np.eye(2), 4, **wrong)
    with pytest.raises(ValueError, match="same shape"):
        infer.ksd(x, x[:3])
    with pytest.raises(ValueError, match="two points"):
        ksd_squared(x[:1], x[:1], unbiased=True)
    with pytest.raises(ValueError, match="positive"):
        infer.mmd(x, x, [1.0, -1.0])
    assert math.isnan(infer.ksd(x + np.inf, x))


# Variances.


def test_variance_ratio_along_coordinates_and_directions():
    rng = np.random.default_rng(11)
    reference = rng.standard_normal((500, 2)) @ [[1, 1], [0.1, -0.1]] + 50
    # Half the width along the narrow diagonal, which no coordinate shows.
    mean, turn = reference.mean(0), np.array([[1, 1], [1, -1]]) / math.sqrt(2)
    narrow = mean + (reference - mean) @ turn.T @ np.diag([1, 0.5]) @ turn
    ratio = infer.variance_ratio(narrow, reference)
    np.testing.assert_allclose(ratio.directions, [0.25, 1], atol=0.01)
    np.testing.assert_allclose(ratio.coordinates, 1, atol=0.02)
    given = infer.variance_ratio(narrow[:7], np.array([9.0, 4.0]))
    expected = narrow[:7].var(axis=0, ddof=1) / [9, 4]
    np.testing.assert_allclose(given.coordinates, expected)
    np.testing.assert_allclose(given.directions, expected[::-1])  # the narrowest first


@pytest.mark.parametrize("heavy", [False, True])
def test_variance_ratio_floor_is_the_noise_of_ideal_draws(heavy):
    rng = np.random.default_rng(12)

    def draws(n):
        z = rng.standard_normal((n, 3)) * [1, 2, 3]
        return np.sign(z) * np.abs(z) ** 1.3 if heavy else z

    reference = draws(20_000)
    ratios = [infer.variance_ratio(draws(40), reference) for _ in range(2000)]
    floor = infer.variance_ratio_floor(reference, 40)
    for name in ("coordinates", "directions"):
        noise = np.std([getattr(r, name) for r in ratios], axis=0)
        np.testing.assert_allclose(getattr(floor, name), noise, rtol=0.1)
    np.testing.assert_allclose(
        infer.variance_ratio_floor(np.ones(4), 9).directions, math.sqrt(2 / 8)
    )
    for wrong in (np.zeros(3), reference[:1], np.nan * reference, np.ones(())):
        with pytest.raises(ValueError, match="reference must be"):
            infer.variance_ratio(reference, wrong)
    with pytest.raises(ValueError, match="n >= 2"):
        infer.variance_ratio(reference[:1], reference)


# Groups.

ONE_MODE = {
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "t5": lambda rng, n, d: rng.standard_t(5, (n, d)),
    "exponential": lambda rng, n, d: rng.exponential(size=(n, d)),
    "uniform": lambda rng, n, d: rng.uniform(size=(n, d)),
}


@pytest.mark.parametrize("kind", ONE_MODE)
def test_one_mode_is_not_split(kind):
    rng = np.random.default_rng(13)
    found = 0
    for n, d in [(50, 1), (50, 20), (100, 5), (200, 2), (500, 20)]:
        for _ in range(60):
            gap = widest_gap(ONE_MODE[kind](rng, n, d))
            found += gap.width > gap.limit
    assert found <= 6  # 2 % of 300


@pytest.mark.parametrize("n, d", [(50, 1), (100, 2), (200, 20), (500, 5)])
@pytest.mark.parametrize("direction", ["axis", "diagonal"])
def test_two_modes_are_split_and_their_shares_counted(n, d, direction):
    rng = np.random.default_rng(14)
    towards = np.eye(d)[0] if direction == "axis" else np.full(d, 1 / math.sqrt(d))
    far = np.arange(n) < 0.3 * n
    x = 100 + rng.standard_normal((n, d)) + 10 * far[:, None] * towards
    gap = widest_gap(x)
    assert gap.width > gap.limit
    np.testing.assert_allclose(gap.shares, [0.7, 0.3], atol=0.02)


def test_groups_at_the_edges():
    assert widest_gap(np.zeros((100, 3))).width == 0
    assert widest_gap(np.zeros((5, 3))).width == 0
    assert widest_gap(np.full((50, 2), np.nan)).width == 0
