"""Diagnostics against closed forms, brute force and the reference implementation of ArviZ."""

import math

import numpy as np
import pytest

from infer.diagnostics import (
    ebfmi,
    ess_bulk,
    ess_mean,
    ess_tail,
    kl_gap,
    pareto_k,
    pareto_khat,
    rhat,
    score_regression,
    sliced_wasserstein,
    sliced_wasserstein_floor,
)

CHAIN_STATISTICS = {"rhat": rhat, "bulk": ess_bulk, "tail": ess_tail, "mean": ess_mean}


def autoregression(seed, shape, phi):
    """Stationary AR(1) chains with unit variance; `phi` is a number or one per coordinate."""
    x = np.random.default_rng(seed).standard_normal(shape)
    for t in range(1, shape[1]):
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1 - np.square(phi)) * x[:, t]
    return x


def gaussian(seed, d):
    """Mean, covariance and score of a correlated Gaussian target far from the origin."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((d, d)) * np.arange(1, d + 1)[:, None] + np.eye(d)
    mean, covariance = 3 * rng.standard_normal(d) + 5, factor @ factor.T
    precision = np.linalg.inv(covariance)
    return mean, covariance, lambda x: -(x - mean) @ precision


def sinh_normal(y):
    """Exact draws sinh(y) of a skewless, non-Gaussian target for standard normal y; its score."""
    return np.sinh(y), -(y + np.tanh(y)) / np.cosh(y)


def logistic(rng, shape):
    x = rng.logistic(size=shape)
    return x, -np.tanh(x / 2)


# Chains.


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(
    ("chains", "draws", "phi"),
    [(4, 251, 0.9), (2, 40, 0.0), (3, 101, -0.6), (2, 9, 0.5), (5, 4, 0)],
)
@pytest.mark.parametrize("name", CHAIN_STATISTICS)
def test_chain_statistics_agree_with_arviz(name, chains, draws, phi, rounded):
    reference = pytest.importorskip("arviz_stats.base").array_stats
    x = autoregression(chains, (chains, draws, 7), phi) + 0.2 * np.arange(chains)[:, None, None]
    x = np.round(2 * x) / 2 if rounded else x
    last = np.moveaxis(x, 2, 0)
    if name == "rhat":
        expected = reference.rhat(last)
    else:
        expected = reference.ess(last, method=name, prob=0.05 if name == "tail" else None)
    statistic = CHAIN_STATISTICS[name]
    np.testing.assert_allclose(statistic(x), expected, rtol=1e-9)
    np.testing.assert_allclose(statistic(x[:, :, 3]), expected[3], rtol=1e-9)


@pytest.mark.parametrize("name", CHAIN_STATISTICS)
def test_chain_statistics_have_the_trailing_shape_and_survive_bad_coordinates(name):
    statistic = CHAIN_STATISTICS[name]
    x = autoregression(0, (3, 50, 5), 0.3)
    good = statistic(x)
    x[:, :, 1] = 0.1
    x[1, 7, 2] = np.inf
    x[2, 9, 4] = np.nan
    np.testing.assert_array_equal(statistic(x), np.where([1, 0, 0, 1, 0], good, np.nan))
    assert statistic(x[:, :, 0]).shape == ()
    assert statistic(x[:, :, None, :2]).shape == (1, 2)
    assert np.isnan(statistic(x[:, :3])).all()
    with pytest.raises(ValueError, match="chains, draws"):
        statistic(x[0, :, 0])


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_ess_of_an_autoregression(phi):
    x = autoregression(1, (4, 4000, 6), phi)
    exact = 16000 * (1 - phi) / (1 + phi)
    np.testing.assert_allclose([ess_mean(x), ess_bulk(x)], exact, rtol=0.3)
    np.testing.assert_allclose([ess_mean(x).mean(), ess_bulk(x).mean()], exact, rtol=0.12)
    np.testing.assert_array_equal(ess_bulk(np.exp(x)), ess_bulk(x))


def test_rhat_sees_location_scale_drift_and_stuck_chains():
    x = autoregression(2, (4, 500, 4), 0.0)
    x[0, :, 1] += 1
    x[0, :, 2] *= 5
    x[:, :, 3] += np.linspace(0, 2, 500)
    clean, *others = rhat(x)
    assert clean < 1.01
    assert min(others) > 1.05
    assert rhat(x[:1])[0] < 1.03 and rhat(x[:1])[3] > 1.1
    assert rhat(np.repeat([[0.0], [1.0]], 20, axis=1)) == np.inf


def test_ebfmi():
    energy = np.array([[0.0, 1, 2, 3], [0, 0, 0, 0], [1, np.nan, 2, 3]])
    np.testing.assert_allclose(ebfmi(energy), [0.6, np.nan, np.nan])
    reference = pytest.importorskip("arviz_stats.base").array_stats
    energy = autoregression(3, (5, 60), 0.7)
    np.testing.assert_allclose(ebfmi(energy), reference.bfmi(energy))


# Weights and tails.


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.9])
def test_pareto_shape_of_exact_quantiles(k):
    upper = (np.arange(20000) + 0.5) / 20000
    values = np.random.default_rng(0).permutation((upper**-k - 1) / k)
    assert abs(pareto_k(values) - k) < 0.05
    np.testing.assert_allclose(pareto_k(1e-3 * values + 7), pareto_k(values), rtol=1e-6)
    assert pareto_k(values, tail=50) != pareto_k(values)


@pytest.mark.parametrize("n", [100, 400, 2500])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_khat_agrees_with_arviz(n, scale):
    reference = pytest.importorskip("arviz_stats.base").array_stats
    log_weights = scale * np.random.default_rng(n).standard_normal(n)
    expected = float(reference.psislw(-log_weights)[1])
    assert pareto_khat(log_weights + 1e4) == pytest.approx(expected, abs=1e-6)
    assert pareto_k(np.exp(log_weights)) == pytest.approx(expected, abs=1e-9)


def test_pareto_at_the_edges():
    values = np.arange(30.0)
    assert math.isnan(pareto_k(values[:20]))
    assert not math.isnan(pareto_k(values[:21]))
    assert math.isnan(pareto_k(np.append(values, np.nan)))
    assert pareto_k(np.append(values, np.inf)) == math.inf
    assert pareto_k(np.ones(30)) == -math.inf
    assert pareto_k(np.append(np.ones(28), [2.0, 3.0])) == math.inf
    assert pareto_khat(np.zeros(50)) == -math.inf
    assert pareto_khat(1e4 * values) == math.inf
    assert pareto_khat(np.append(values / 30, -np.inf)) < 0.7
    assert math.isnan(pareto_khat(np.full(30, -np.inf)))
    assert math.isnan(pareto_khat(np.append(values, np.nan)))


def test_kl_gap():
    mean, sd = 0.3, 1.2
    x = np.random.default_rng(4).standard_normal(40000)
    log_weights = -np.square((x - mean) / sd) / 2 + np.square(x) / 2
    exact = math.log(sd) + (1 + mean**2) / (2 * sd**2) - 0.5
    assert exact > 0.06
    assert kl_gap(log_weights) == pytest.approx(exact, abs=0.005)
    assert kl_gap(log_weights + 5000) == pytest.approx(kl_gap(log_weights), abs=1e-9)
    assert kl_gap([0, math.log(3)]) == pytest.approx(math.log(2) - math.log(3) / 2)
    assert kl_gap([0.0, -2000.0]) == pytest.approx(1000 - math.log(2))
    assert kl_gap([3.0, 3.0, 3.0]) == 0
    assert kl_gap([0.0, -math.inf]) == math.inf
    assert math.isnan(kl_gap([0.0, math.nan, -math.inf]))


# Score regression.


@pytest.mark.parametrize("independent", [True, False])
def test_gaussian_target_is_exact_with_few_draws(independent):
    d = 7
    mean, covariance, score = gaussian(5, d)
    x = np.random.default_rng(6).standard_normal((3, 4, d)) * np.arange(1, d + 1) - 4
    result = score_regression(x, score(x), independent=independent)
    flat, sd = x.reshape(-1, d), np.sqrt(np.diag(covariance))
    shift, log_sd = (mean - flat.mean(0)) / sd, np.log(sd / flat.std(0))
    np.testing.assert_allclose(result.shift, shift, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.log_sd, log_sd, rtol=0, atol=1e-9)
    np.testing.assert_allclose([result.shift_error, result.log_sd_error], 0, atol=1e-9)
    errors = np.abs([shift / 0.3, log_sd / np.log(1.3)])
    assert result.lo == pytest.approx(errors.max())
    assert result.hi == pytest.approx(errors.max())
    assert result.worst == (errors.max(0).argmax(), ["mean", "sd"][errors.max(1).argmax()])
    assert result.positive and result.n == 12


def test_gaussian_target_is_exact_on_a_tame_scale():
    mean, precision = np.array([0.5, -1, 2]), np.array([[2, 0.5, 0], [0.5, 1, 0.3], [0, 0.3, 3]])
    x = np.random.default_rng(7).standard_normal((1, 8, 3))
    result = score_regression(x, -(x - mean) @ precision, independent=True)
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    np.testing.assert_allclose(result.shift, (mean - x[0].mean(0)) / sd, rtol=0, atol=1e-10)
    np.testing.assert_allclose(result.log_sd, np.log(sd / x[0].std(0)), rtol=0, atol=1e-10)
    np.testing.assert_allclose([result.shift_error, result.log_sd_error], 0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_exact_draws_of_a_nongaussian_target_pass(seed):
    x, score = logistic(np.random.default_rng(seed), (1, 1000, 5))
    mix = np.random.default_rng(seed + 100).standard_normal((5, 5))
    result = score_regression(x @ mix, score @ np.linalg.inv(mix).T, independent=True)
    assert result.positive and result.tail < 0.5
    assert 0 <= result.lo < result.hi < 0.5
    size = np.abs([result.shift / 0.3, result.log_sd / np.log(1.3)])
    error = np.array([result.shift_error / 0.3, result.log_sd_error / np.log(1.3)])
    assert result.hi == pytest.approx(np.max(size + 2 * error))
    assert result.lo == pytest.approx(max(0, np.max(size - 2 * error)))
    kind, coordinate = np.argwhere(size + 2 * error == np.max(size + 2 * error))[0]
    assert result.worst == (coordinate, ["mean", "sd"][kind])
    assert 0.007 < result.shift_error.min() < result.shift_error.max() < 0.013
    assert 0.8 < result.smallest_eigenvalue < 1
    assert 0 < result.smallest_eigenvalue_error < 0.1


def test_predicts_the_error_of_a_fit():
    d, n, dof = 7, 1500, 40
    mean, scale, score = gaussian(8, d)

    def student(x):
        distance = -np.sum((x - mean) * score(x), axis=-1, keepdims=True)
        return (dof + d) / (dof + distance) * score(x)

    rng = np.random.default_rng(9)
    sd = np.sqrt(np.diag(scale) * dof / (dof - 2))
    z = rng.standard_normal((n, d)) * np.linspace(0.6, 1.1, d) + np.linspace(-0.4, 0.4, d)
    x = mean + z @ np.linalg.cholesky(scale).T
    result = score_regression(x[None], student(x)[None], independent=True)
    shift, log_sd = (mean - x.mean(0)) / sd, np.log(sd / x.std(0))
    assert np.ptp(shift) > 0.6 and np.ptp(log_sd) > 0.3
    np.testing.assert_allclose(result.shift, shift, atol=0.05)
    np.testing.assert_allclose(result.log_sd, log_sd, atol=0.06)
    assert result.lo > 1


@pytest.mark.parametrize("width", [1.0, 0.4, 2.0])
def test_standard_errors_match_the_spread_over_replications(width):
    mix = np.array([[1, 0, 0], [2, 0.5, 0], [-1, 1, 3]])
    predictions, errors = [], []
    for seed in range(200):
        x = width * logistic(np.random.default_rng(seed), (1, 300, 3))[0]
        x, score = x @ mix.T, -np.tanh(x / 2) @ np.linalg.inv(mix)
        result = score_regression(x, score, independent=True)
        sd = np.exp(result.log_sd) * x[0].std(0)
        predictions.append([x[0].mean(0) + result.shift * sd, np.log(sd)])
        errors.append([result.shift_error * sd, result.log_sd_error])
    ratio = np.std(predictions, axis=0) / np.mean(errors, axis=0)
    assert ratio.shape == (2, 3)
    assert np.all((ratio > 0.8) & (ratio < 1.25)), ratio


def test_sticky_chains_have_larger_errors_than_independent_draws():
    x, score = sinh_normal(autoregression(10, (4, 1000, 2), 0.95))
    sticky = score_regression(x, score)
    counted_as_independent = score_regression(x, score, independent=True)
    fresh = score_regression(*sinh_normal(autoregression(11, (4, 1000, 2), 0.0)))
    assert np.all(sticky.shift_error > 2 * counted_as_independent.shift_error)
    assert np.all(sticky.shift_error > 2 * fresh.shift_error)
    assert np.all(sticky.log_sd_error > 2 * fresh.log_sd_error)
    assert sticky.hi > fresh.hi
    np.testing.assert_array_equal(sticky.shift, counted_as_independent.shift)


def test_chains_too_short_for_an_effective_size_count_once_each():
    x, score = logistic(np.random.default_rng(12), (30, 2, 3))
    short = score_regression(x, score)
    independent = score_regression(x, score, independent=True)
    np.testing.assert_allclose(short.shift_error, math.sqrt(2) * independent.shift_error)


def test_tails_of_the_scores():
    rng = np.random.default_rng(13)
    x = rng.standard_t(5, (2000, 3))
    assert score_regression(x[None], (-6 * x / (5 + x**2))[None], independent=True).tail < 0.3
    # A centered hierarchy with half-normal tau: exact draws, yet scores of order 1 / tau.
    tau, e = np.abs(rng.standard_normal(2000)), rng.standard_normal((3, 2000))
    x = np.stack([*(tau * e), np.log(tau)], axis=-1)
    score = np.stack([*(-e / tau), 1 - tau**2 - 3 + (e**2).sum(0)], axis=-1)
    assert score_regression(x[None], score[None], independent=True).tail > 0.5


def test_float32_gives_the_same_answer():
    x, score = logistic(np.random.default_rng(14), (2, 200, 4))
    double = score_regression(x, score)
    single = score_regression(x.astype(np.float32), score.astype(np.float32))
    assert single.shift.dtype == np.float64
    np.testing.assert_allclose(single.shift, double.shift, atol=1e-5)
    assert single.hi == pytest.approx(double.hi, rel=1e-3)


def test_units_do_not_matter():
    x, score = logistic(np.random.default_rng(15), (2, 200, 4))
    units = np.array([1e-6, 1, 1e3, 1e8])
    one, other = score_regression(x, score), score_regression(x * units, score / units)
    np.testing.assert_allclose(one.shift, other.shift, rtol=1e-6)
    assert one.hi == pytest.approx(other.hi) and one.worst == other.worst


def test_matrix_that_is_not_positive():
    rng = np.random.default_rng(16)
    x = 0.5 * rng.standard_normal((1, 200, 2))
    between_modes = score_regression(x, 3 * np.tanh(3 * x) - x, independent=True)
    assert not between_modes.positive and between_modes.smallest_eigenvalue < -0.3
    assert between_modes.lo == between_modes.hi == math.inf
    assert np.isfinite(between_modes.shift).all()
    x, noise = rng.standard_normal((1, 20, 2)), 10 * rng.standard_normal((1, 20, 2))
    cannot_tell = score_regression(x, noise, independent=True)
    assert not cannot_tell.positive
    assert (cannot_tell.lo, cannot_tell.hi) == (0, math.inf)


def test_perfectly_correlated_coordinates():
    x, score = logistic(np.random.default_rng(22), (1, 300, 3))
    x[:, :, 2] = 2 * x[:, :, 0] - 1
    result = score_regression(x, score, independent=True)
    assert not result.positive and abs(result.smallest_eigenvalue) < 1e-3
    assert result.lo == result.hi == math.inf


def test_degenerate_draws():
    x, score = logistic(np.random.default_rng(17), (2, 100, 3))
    constant = x.copy()
    constant[:, :, 1] = 0.1
    result = score_regression(constant, score)
    rest = score_regression(x[:, :, [0, 2]], score[:, :, [0, 2]])
    np.testing.assert_array_equal(result.shift[[0, 2]], rest.shift)
    assert result.log_sd[1] == result.lo == result.hi == math.inf
    assert result.worst == (1, "sd")
    assert score_regression(np.ones((1, 9, 3)), score[:1, :9]).lo == math.inf
    score[1, 5, 2] = np.nan
    broken = score_regression(x, score)
    assert np.isnan(broken.shift).all() and not broken.positive
    assert (broken.lo, broken.hi, broken.tail) == (0, math.inf, math.inf)
    with pytest.raises(ValueError, match=r"at least d \+ 3 = 6 draws, got 5"):
        score_regression(x[:1, :5], x[:1, :5])
    with pytest.raises(ValueError, match="chains, draws, d"):
        score_regression(x, x[:, :, :2])


# Distances.


def test_sliced_wasserstein_in_one_dimension():
    rng = np.random.default_rng(18)
    z = rng.standard_normal((400, 1))
    z = (z - z.mean()) / z.std()
    assert sliced_wasserstein(3 * z, 3 * z + 6) == pytest.approx(2)
    scaled = np.abs(z).mean() * 1.5 / math.sqrt((1 + 2.5**2) / 2)
    assert sliced_wasserstein(z, 2.5 * z) == pytest.approx(scaled)
    x, y = rng.standard_normal((20000, 1)), rng.standard_normal((15000, 1)) + 0.7
    assert sliced_wasserstein(x, y) == pytest.approx(0.7, abs=0.03)


def test_sliced_wasserstein_of_different_sizes_is_exact():
    rng = np.random.default_rng(19)
    x, y = rng.standard_normal((6, 1)), rng.standard_normal((15, 1))
    scale = math.sqrt((x.var() + y.var()) / 2)
    gap = np.sort(np.repeat(x, 5)) - np.sort(np.repeat(y, 2))
    assert sliced_wasserstein(x, y) == pytest.approx(np.abs(gap).mean() / scale)


def test_sliced_wasserstein_is_a_distance_without_units():
    rng = np.random.default_rng(20)
    x, y = rng.standard_normal((90, 3)), rng.standard_normal((70, 3)) + [0, 1, 2]
    value = sliced_wasserstein(x, y)
    assert value == pytest.approx(sliced_wasserstein(y, x))
    units = np.array([1e-3, 1, 1e5])
    assert value == pytest.approx(sliced_wasserstein(x * units + 1e4, y * units + 1e4))
    assert sliced_wasserstein(x, x[::-1]) == pytest.approx(0, abs=1e-12)
    assert sliced_wasserstein(x, np.repeat(x, 3, axis=0)) == pytest.approx(0, abs=1e-12)
    # The mean of |cos| over directions in three dimensions is one half.
    shift = np.array([1.0, 2, 2]) * x.std(axis=0)
    assert sliced_wasserstein(x, x + shift, n_projections=4000) == pytest.approx(1.5, abs=0.05)
    x[3, 1] = np.nan
    assert math.isnan(sliced_wasserstein(x, y))
    with pytest.raises(ValueError, match="same width"):
        sliced_wasserstein(y, y[:, :2])


def test_sliced_wasserstein_floor_is_the_noise_of_ideal_samples():
    rng = np.random.default_rng(21)
    x = rng.standard_normal((4000, 4)) @ rng.standard_normal((4, 4))
    floor = sliced_wasserstein_floor(x, 100, 400, n_repeats=40)
    pairs = [
        sliced_wasserstein(z[:100], z[100:], seed=i)
        for i, z in enumerate(rng.standard_normal((20, 500, 4)))
    ]
    assert floor == pytest.approx(np.mean(pairs), rel=0.2)
    assert floor / sliced_wasserstein_floor(x, 400, n_repeats=40) == pytest.approx(1.58, rel=0.15)
    assert sliced_wasserstein_floor(x[:150], 100, 400) == pytest.approx(floor, rel=0.25)
    assert sliced_wasserstein(x[:100], x[100:500] + x.std(0)) > 4 * floor
