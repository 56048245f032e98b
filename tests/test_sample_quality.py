"""Scores of generated rows against closed forms, double loops and scikit-learn."""

import itertools
import math
from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import infer
from infer.diagnostics import (
    classifier,
    frechet_distance,
    linear_accuracy,
    median_distance,
    mmd_squared,
    mmd_test,
    nearest_distance,
    neighbor_accuracy,
    neighbor_scores,
    pairs,
    sliced_wasserstein_squared,
)

MEAN = np.array([3.0, -1.0, 0.5])
ROOT = np.array([[1.2, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.3, 0.4, 0.9]])


@pytest.fixture(params=[2**20, 17], ids=["one tile", "many tiles"])
def tile(request, monkeypatch):
    monkeypatch.setattr(pairs, "TILE", request.param)


def gaussian(rng, n, mean=MEAN, root=ROOT):
    return mean + rng.normal(size=(n, len(mean))) @ root.T


def distances(x, y):
    return np.linalg.norm(x[:, None] - y, axis=2)


def z_of(values, exact):
    """How many standard errors the mean is away."""
    return (np.mean(values) - exact) / (np.std(values, ddof=1) / math.sqrt(len(values)))


# Frechet distance -------------------------------------------------------------------------------


def with_moments(rng, n, mean, root):
    """A sample with exactly this mean and covariance."""
    x = rng.normal(size=(n, len(mean)))
    x = x - x.mean(axis=0)
    return mean + np.linalg.solve(np.linalg.cholesky(np.cov(x.T)), x.T).T @ root.T


def test_frechet_distance_of_gaussians():
    rng = np.random.default_rng(0)
    mean, root = np.array([2.5, 1.0, 0.0]), np.diag([0.5, 2.0, 1.0]) + 0.3
    x, y = with_moments(rng, 30, MEAN, ROOT), with_moments(rng, 50, mean, root)
    s, p = ROOT @ ROOT.T, root @ root.T
    half = np.real(scipy.linalg.sqrtm(s))
    cross = np.real(scipy.linalg.sqrtm(half @ p @ half))
    exact = np.sum((MEAN - mean) ** 2) + np.trace(s + p - 2 * cross)
    assert frechet_distance(x, y) == pytest.approx(exact, rel=1e-10)
    assert frechet_distance(x + 1e6, y + 1e6) == pytest.approx(exact, rel=1e-7)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_on_a_line_and_in_more_dimensions_than_rows():
    x, y = np.array([[0.0], [2.0], [7.0]]), np.array([[1.0], [5.0]])
    exact = (3 - 3) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(exact, rel=1e-10)
    rng = np.random.default_rng(1)
    few, others = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    s, p = np.cov(few.T), np.cov(others.T)
    root = np.sqrt(np.maximum(np.linalg.eigvals(s @ p).real, 0)).sum()
    exact = np.sum((few.mean(0) - others.mean(0)) ** 2) + np.trace(s + p) - 2 * root
    assert frechet_distance(few, others) == pytest.approx(exact, rel=1e-6)


def test_bias_of_the_frechet_distance():
    """sigma^2 (1/n + 1/m) d (d + 5) / 4 to leading order, whose error is O(d / n) of it."""
    rng, d, n, m, sigma = np.random.default_rng(2), 4, 400, 250, 1.7
    found = [
        frechet_distance(sigma * rng.normal(size=(n, d)), sigma * rng.normal(size=(m, d)))
        for _ in range(600)
    ]
    bias = sigma**2 * (1 / n + 1 / m) * d * (d + 5) / 4
    assert abs(z_of(found, bias)) < 4 + 0.01 * bias * math.sqrt(600) / np.std(found)
    assert np.std(found) / math.sqrt(600) < 0.02 * bias


# Maximum mean discrepancy -----------------------------------------------------------------------


def test_mmd_test_is_its_statistic_over_divisions(tile):
    rng, widths = np.random.default_rng(3), np.array([0.8, 2.5])
    x, y = gaussian(rng, 9), gaussian(rng, 6) + 0.4
    statistic, p = mmd_test(x, y, widths, n_permutations=30, seed=5)
    assert statistic == pytest.approx(mmd_squared(x, y, widths, unbiased=True), rel=1e-10)
    pooled, divide = np.concatenate([x, y]), np.random.default_rng(5)
    others = []
    for _ in range(30):
        order = divide.permutation(15)
        first = np.isin(np.arange(15), order[:9])
        others.append(mmd_squared(pooled[first], pooled[~first], widths, unbiased=True))
    assert p == (1 + np.sum(np.array(others) >= statistic)) / 31
    assert 1 / 31 < p < 1


def test_p_values_of_one_distribution_are_uniform_and_of_two_small():
    """P(p <= 0.2) = 0.2 with 19 divisions; z < 4 over 400 pairs."""
    rng = np.random.default_rng(4)
    p = [mmd_test(gaussian(rng, 12), gaussian(rng, 8), 2.0, 19, seed)[1] for seed in range(400)]
    assert abs(np.mean(np.array(p) < 0.201) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 400)
    assert mmd_test(gaussian(rng, 12), gaussian(rng, 8) + 5, 2.0, 19)[1] == 1 / 20
    x = gaussian(rng, 8)
    assert mmd_test(np.ones((8, 3)), np.ones((6, 3)), 1.0)[1] == 1  # all divisions alike
    assert median_distance(x) == pytest.approx(np.median(distances(x, x)[np.triu_indices(8, 1)]))
    assert median_distance(np.repeat([[0.0], [3.0]], [9, 1], axis=0)) == pytest.approx(
        math.sqrt(9 * 9 / 45)
    )
    assert median_distance(np.ones((4, 2))) == 1


def test_mmd_of_gaussians():
    """k(d, S) = det(I + S / l^2)^-1/2 exp(-d^T (l^2 I + S)^-1 d / 2); z < 4 over 400 pairs."""
    rng, width, shift = np.random.default_rng(5), 1.5, np.array([0.5, -0.3, 0.4])

    def kernel(gap, s):
        inner = gap @ np.linalg.solve(width**2 * np.eye(3) + s, gap)
        return np.exp(-0.5 * inner) / math.sqrt(np.linalg.det(np.eye(3) + s / width**2))

    s, p = ROOT @ ROOT.T, np.eye(3)
    exact = kernel(np.zeros(3), 2 * s) + kernel(np.zeros(3), 2 * p) - 2 * kernel(shift, s + p)
    found = [
        mmd_test(gaussian(rng, 40), gaussian(rng, 30, MEAN - shift, np.eye(3)), width, 1)[0]
        for _ in range(400)
    ]
    assert abs(z_of(found, exact)) < 4
    assert np.std(found) / 20 < 0.05 * exact


# Sliced Wasserstein -----------------------------------------------------------------------------


def test_sliced_wasserstein_squared_of_few_points():
    x, y = np.array([[0.0], [4.0], [1.0], [9.0]]), np.array([[3.0], [2.0], [-1.0], [0.5], [6], [2]])
    exact = np.mean((np.sort(np.repeat(x, 3)) - np.sort(np.repeat(y, 2))) ** 2)
    assert sliced_wasserstein_squared(x, y) == pytest.approx(exact, rel=1e-12)
    rng = np.random.default_rng(6)
    points, others = rng.normal(size=(2, 5, 2)) * [[[1]], [[2]]]
    way = np.random.default_rng(3).standard_normal((2, 7))
    way /= np.linalg.norm(way, axis=0)
    cheapest = [
        min(
            np.mean((points @ w - (others @ w)[list(o)]) ** 2)
            for o in itertools.permutations(range(5))
        )
        for w in way.T
    ]
    found = sliced_wasserstein_squared(points, others, 7, seed=3)
    assert found == pytest.approx(np.mean(cheapest), rel=1e-12)


def test_sliced_wasserstein_squared_of_isotropic_gaussians():
    """(s - 1)^2 + |m|^2 / d; z < 4 over 60 pairs."""
    rng, s, m = np.random.default_rng(7), 1.6, np.array([1.0, -0.5, 2.0, 0.3])
    found = [
        sliced_wasserstein_squared(
            m + s * rng.normal(size=(1500, 4)), rng.normal(size=(1000, 4)), 20, seed
        )
        for seed in range(60)
    ]
    exact = (s - 1) ** 2 + m @ m / 4
    assert abs(z_of(found, exact)) < 4
    assert np.std(found) / math.sqrt(60) < 0.03 * exact


# Neighbors --------------------------------------------------------------------------------------


def test_neighbor_scores_are_those_of_a_double_loop(tile):
    rng, n, m, k = np.random.default_rng(8), 25, 18, 4
    real, made = gaussian(rng, n), gaussian(rng, m) + [1.0, 0.5, -0.8]

    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - p) for p in points)[k]  # the first is itself

    def inside(y, points, i):
        return np.linalg.norm(y - points[i]) <= radius(points, i)

    hits = np.array([[inside(made[j], real, i) for j in range(m)] for i in range(n)])
    recalled = [any(inside(x, made, j) for j in range(m)) for x in real]
    found = neighbor_scores(real, made, k)
    assert found.precision == pytest.approx(np.mean(hits.any(axis=0)))
    assert found.recall == pytest.approx(np.mean(recalled))
    assert found.density == pytest.approx(hits.sum() / (k * m))
    assert found.coverage == pytest.approx(np.mean(hits.any(axis=1)))
    assert len({round(v, 6) for v in (found.precision, found.recall, found.density)}) == 3
    assert nearest_distance(real, made) == pytest.approx(distances(real, made).min(axis=1).mean())


def test_density_and_coverage_of_one_distribution():
    """1 and 1 - prod (n - i) / (n + m - i) whatever the distribution; z < 4 over 400 pairs."""
    rng, n, m, k = np.random.default_rng(9), 30, 20, 3
    found = [neighbor_scores(gaussian(rng, n), gaussian(rng, m), k) for _ in range(400)]
    coverage = 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    assert abs(z_of([f.density for f in found], 1)) < 4
    assert abs(z_of([f.coverage for f in found], coverage)) < 4
    assert np.std([f.coverage for f in found]) / 20 < 0.01


# Classifiers ------------------------------------------------------------------------------------


def test_classifiers_are_at_a_loss_within_one_distribution():
    """0.5 on average; z < 4 over 150 pairs."""
    rng = np.random.default_rng(10)
    samples = [(gaussian(rng, 30), gaussian(rng, 45)) for _ in range(150)]
    for accuracy in (linear_accuracy, neighbor_accuracy):
        found = [accuracy(x, y, seed=seed) for seed, (x, y) in enumerate(samples)]
        assert abs(z_of(found, 0.5)) < 4
        assert np.std(found) / math.sqrt(150) < 0.01


def test_linear_accuracy_of_shifted_gaussians_is_that_of_bayes():
    """Phi(|S^-1/2 shift| / 2), less O(d / n) for what has to be learned; n = 4000."""
    rng, n, shift = np.random.default_rng(11), 4000, np.array([0.9, -0.2, 0.7])
    x, y = gaussian(rng, n), gaussian(rng, n) + shift
    bayes = NormalDist().cdf(np.linalg.norm(np.linalg.solve(ROOT, shift)) / 2)
    error = math.sqrt(bayes * (1 - bayes) / (2 * n))
    assert -4 * error - 3 / n < linear_accuracy(x, y) - bayes < 4 * error
    assert 0.6 < bayes < 0.9


def test_linear_accuracy_sees_means_and_neighbors_see_shapes():
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(400, 2)), 3 * rng.normal(size=(500, 2))
    r2 = 4 * math.log(3) / (1 - 1 / 9)  # where the two densities are equal
    bayes = 0.5 * (1 - math.exp(-r2 / 2)) + 0.5 * math.exp(-r2 / 18)
    assert abs(linear_accuracy(x, y) - 0.5) < 0.07
    assert bayes - 0.05 < neighbor_accuracy(x, y) < bayes + 0.04


def test_classifiers_guess_like_scikit_learn():
    rng = np.random.default_rng(13)
    x, y = gaussian(rng, 35), gaussian(rng, 28) + [0.8, 0.0, -0.5]
    center = (x.mean(axis=0) + y.mean(axis=0)) / 2
    rows, label = np.concatenate([x, y]) - center, np.repeat([False, True], [35, 28])
    guesses = {"linear": np.zeros(63, bool), "neighbors": np.zeros(63, bool)}
    sizes = []
    for held in classifier._folds(35, 28, 5, seed=2):
        a, b = rows[~held].mean(axis=0), rows[~held].std(axis=0)
        linear = LogisticRegression(C=1.0, tol=1e-10).fit((rows[~held] - a) / b, label[~held])
        guesses["linear"][held] = linear.predict((rows[held] - a) / b)
        vote = KNeighborsClassifier(7).fit(rows[~held], label[~held])
        guesses["neighbors"][held] = vote.predict(rows[held])
        sizes.append((held[:35].sum(), held[35:].sum()))
    assert np.ptp(sizes, axis=0).max() <= 1 and np.sum(sizes) == 63

    def balanced(guess):
        right = guess == label
        return (right[:35].mean() + right[35:].mean()) / 2

    assert linear_accuracy(x, y, seed=2) == pytest.approx(balanced(guesses["linear"]))
    assert neighbor_accuracy(x, y, 7, seed=2) == pytest.approx(balanced(guesses["neighbors"]))


# All together -----------------------------------------------------------------------------------


def data(seed, n):
    """Correlated rows of shape (2, 4), off center."""
    root = np.linalg.cholesky(0.8 + 0.2 * np.eye(8))
    rows = np.random.default_rng(seed).normal(size=(n, 8)) @ root.T
    return (rows * np.arange(1, 9) / 4 + 5).reshape(n, 2, 4)


def test_scores_lie_between_floor_and_ceiling():
    train, test = data(0, 150), data(1, 70)
    quality = infer.sample_quality(data(2, 90), train, test, key=0, n_components=5)
    assert (quality.n, quality.n_components) == (70, 5)
    assert quality.notes == (
        "generated: 70 of 90 rows, chosen by the key.",
        "train: 70 of 150 rows, chosen by the key.",
    )
    good, floor, bad = quality.generated, quality.floor, quality.ceiling
    for name in ("frechet", "mmd_squared", "sliced_w2", "energy"):
        assert max(getattr(good, name), getattr(floor, name)) < 0.5 * getattr(bad, name)
    for name in ("precision", "density", "coverage"):
        assert min(getattr(good, name), getattr(floor, name)) > 1.5 * getattr(bad, name)
    assert bad.mmd_p_value == pytest.approx(1 / 201) and good.mmd_p_value > 0.02
    assert abs(good.neighbor_accuracy - 0.5) < 0.5 * (bad.neighbor_accuracy - 0.5)
    assert floor.train_distance == 1 and 0.7 < good.train_distance < 1.4 < bad.train_distance
    text = str(quality)
    for row in quality.rows:
        assert row in text
    assert "near 0.5" in text and f"{good.frechet:.3g}" in text and quality.notes[0] in text
    assert list(quality.to_dataframe().columns) == ["generated", "floor", "ceiling", "better"]


def test_scores_are_those_of_the_parts():
    train, test, made = (data(seed, 60).reshape(60, -1) for seed in range(3))
    found = infer.sample_quality(made, train, test, key=1, n_components=3).generated
    _, vectors = np.linalg.eigh(np.cov(train.T))
    axes = vectors[:, :-4:-1]
    flat, held = made @ axes, test @ axes
    near = neighbor_scores(held, flat, 5)
    widths = np.array([0.5, 1.0, 2.0]) * median_distance(test)
    copied = distances(flat, train @ axes).min(axis=1).mean()
    usual = distances(held, train @ axes).min(axis=1).mean()
    assert found.frechet == pytest.approx(frechet_distance(flat, held))
    assert found.mmd_squared == pytest.approx(mmd_squared(made, test, widths, unbiased=True))
    assert found.energy == pytest.approx(infer.energy_distance(made, test))
    assert found.precision == pytest.approx(near.precision)
    assert found.recall == pytest.approx(near.recall)
    assert found.density == pytest.approx(near.density)
    assert found.coverage == pytest.approx(near.coverage)
    assert found.train_distance == pytest.approx(copied / usual)


def test_copies_are_told_by_their_distance_alone():
    train, test = data(0, 120), data(1, 100)
    copies = infer.sample_quality(train[:100], train, test, key=0).generated
    assert copies.train_distance < 1e-6
    assert copies.mmd_p_value > 0.02 and copies.precision > 0.8


def test_rows_of_any_shape_and_the_key():
    train, test, made = (data(seed, 40) for seed in range(3))
    one = infer.sample_quality(made, train, test, key=0)
    flat = infer.sample_quality(*(a.reshape(40, 8) for a in (made, train, test)), key=0)
    split = infer.sample_quality(
        *({"a": jnp.asarray(a[:, 0]), "b": a[:, 1]} for a in (made, train, test)), key=0
    )
    assert one == flat
    assert split.generated.energy == pytest.approx(one.generated.energy, rel=1e-5)
    again, other = (infer.sample_quality(made, train, test, key=k, max_rows=25) for k in (0, 1))
    assert again.n == 25 and len(again.notes) == 3
    assert again == infer.sample_quality(made, train, test, key=0, max_rows=25) != other


def test_what_cannot_be_compared_is_refused():
    rows, key = data(0, 30), 0
    with pytest.raises(ValueError, match=r"rows of one size, got generated \(30, 4\), train"):
        infer.sample_quality(rows[:, 0], rows, rows, key=key)
    with pytest.raises(ValueError, match=r"20 rows or more .* test \(19, 8\)"):
        infer.sample_quality(rows, rows, rows[:19], key=key)
    with pytest.raises(ValueError, match="max_rows=3"):
        infer.sample_quality(rows, rows, rows, key=key, max_rows=3)
    with pytest.raises(ValueError, match="NaN or infinity in generated"):
        infer.sample_quality(np.where(rows > 5, np.nan, rows), rows, rows, key=key)
    with pytest.raises(ValueError, match="one row per observation"):
        infer.sample_quality([1.0, 2.0], rows, rows, key=key)
    with pytest.raises(ValueError, match="equal rows in train"):
        infer.sample_quality(rows, np.ones_like(rows), rows, key=key)
    with pytest.raises(ValueError, match="n_components must be an integer >= 1"):
        infer.sample_quality(rows, rows, rows, key=key, n_components=0)
    x = rows[:, 0]
    with pytest.raises(ValueError, match="odd number k"):
        neighbor_accuracy(x, x, k=4)
    with pytest.raises(ValueError, match="needs folds >= 2 and 5 rows"):
        linear_accuracy(x[:4], x)
    with pytest.raises(ValueError, match="more than k rows in each sample, got k = 30"):
        neighbor_scores(x, x, 30)
    with pytest.raises(ValueError, match="bandwidths must be positive"):
        mmd_test(x, x, 0.0)
    with pytest.raises(ValueError, match="two rows or more"):
        frechet_distance(x[:1], x)
    for score in (frechet_distance, sliced_wasserstein_squared):
        assert math.isnan(score(np.where(x > 5, np.nan, x), x))
