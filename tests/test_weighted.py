"""Errors of a fit that its importance weights show, against exact moments."""

import numpy as np
import pytest
from scipy import integrate, stats

from infer.diagnostics.coordinates import bonferroni
from infer.diagnostics.weighted import weighted_moments


def draws(seed, n, scales):
    return np.random.default_rng(seed).normal(size=(n, len(scales))) * scales + 5.0


def test_moments_of_another_gaussian():
    """Draws of N(5, s^2) weighted to N(m, t^2): shift and ratio are known, one coordinate each."""
    q, p = np.array([1.0, 2.0, 0.5]), np.array([1.1, 2.0, 0.5])
    mean = np.array([5.0, 5.5, 5.0])
    x = draws(0, 40_000, q)
    log_w = np.sum(stats.norm.logpdf(x, mean, p) - stats.norm.logpdf(x, 5, q), axis=1) + 300
    found = weighted_moments(x, log_w)
    np.testing.assert_array_less(np.abs(found.shift - [0, 0.25, 0]), 4 * found.shift_error)
    exact = np.log(p / q)
    np.testing.assert_array_less(np.abs(found.log_sd - exact), 4 * found.log_sd_error)
    assert found.worst == (1, "mean")
    # The largest error is a shift of .25 / .3 label units.
    assert found.lo < 0.25 / 0.3 < found.hi and found.hi - found.lo < 0.3


@pytest.mark.parametrize("d", [1, 7])
def test_standard_errors_are_those_of_repetition(d):
    scales = np.linspace(0.5, 2, d)
    rows = []
    for seed in range(300):
        x = draws(seed, 500, scales)
        log_w = -0.1 * np.abs(x - 5).sum(axis=1)
        found = weighted_moments(x, log_w)
        rows.append([found.shift, found.log_sd, found.shift_error, found.log_sd_error])
    shift, log_sd, shift_error, log_sd_error = np.array(rows).transpose(1, 0, 2)
    # The spread of 300 values is known to 4 %.
    np.testing.assert_allclose(shift_error.mean(axis=0), shift.std(axis=0), rtol=0.15)
    np.testing.assert_allclose(log_sd_error.mean(axis=0), log_sd.std(axis=0), rtol=0.15)


def test_equal_weights_show_nothing():
    x = draws(1, 200, np.ones(4))
    x[:, 2] = 1e6  # a coordinate that never moves has no error
    found = weighted_moments(x, np.full(200, -1e4))
    np.testing.assert_allclose([found.shift, found.log_sd], 0, atol=1e-9)
    assert found.lo < 1e-9 and found.hi < 1e-6


def test_one_wrong_coordinate_among_many_is_seen():
    """Of 60 coordinates one is too narrow, by 1.38, and the divergence .056 nats: no limit of it.

    p = N(0, 1) with probability .7, N(0, 2^2) otherwise; q = N(0, 1). Exact elsewhere.
    """
    d, n = 60, 16_000

    def density(t):
        return 0.7 * stats.norm.pdf(t) + 0.3 * stats.norm.pdf(t, scale=2)

    divergence = integrate.quad(
        lambda t: stats.norm.pdf(t) * np.log(stats.norm.pdf(t) / density(t)), -12, 12
    )[0]
    assert 0.05 < divergence < 0.06
    exact = np.log(0.7 + 0.3 * 4) / 2
    for seed in range(5):
        x = draws(seed, n, np.ones(d)) - 5
        found = weighted_moments(x, np.log(density(x[:, 17]) / stats.norm.pdf(x[:, 17])))
        assert found.worst == (17, "sd") and found.lo > 0.5
        # A part of the tails is beyond all draws.
        assert 0.5 * exact < found.log_sd[17] < exact + 3 * found.log_sd_error[17]


def test_chance_among_many_coordinates_is_no_error():
    """Weights without any relation to 400 coordinates: none beyond chance, in 20 of 20 tries."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        x = rng.normal(size=(1000, 400))
        found = weighted_moments(x, rng.normal(size=1000) * 0.8)
        assert found.lo < 0.1
    assert bonferroni(400) > 3.9
