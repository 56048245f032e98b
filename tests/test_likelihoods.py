"""Likelihoods of decoders, against SciPy, sums, quadrature, moments of draws and optimization."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from jax.flatten_util import ravel_pytree

import infer
from infer.core.special import betaln
from infer.likelihoods import (
    Bernoulli,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    DecodedScale,
    DiscretizedLogistic,
    FixedScale,
    Gaussian,
    Laplace,
    LearnedScale,
    NegativeBinomial,
    StudentT,
    likelihood_for,
)

EVENT = (3, 5)
RANDOM = np.random.default_rng(0)
LOCATION = RANDOM.normal(0.4, 1.5, EVENT)
RAW = RANDOM.normal(-0.3, 0.8, EVENT)
SCORES = RANDOM.normal(size=(4, *EVENT))  # of four classes
SCALES = 0.3 + RANDOM.random(EVENT)  # learned, one per entry
P = scipy.special.expit(LOCATION)


def decoded(unit, raw):
    """The scale that `DecodedScale` and `LearnedScale` stand for."""
    return unit * (1e-3 + np.exp(raw))


def per_entry():
    return LearnedScale(True, np.log(SCALES / 2.5 - 1e-3), 2.5)


class Levels:
    """A logistic distribution cut at the middles of levels, by differences of SciPy's functions."""

    def __init__(self, location, scale, low, high, n):
        self.logistic = scipy.stats.logistic(location, scale)
        self.low, self.high, self.n = low, high, n

    def logpmf(self, x):
        level = (x - self.low) / (self.high - self.low) * (self.n - 1)
        edge = np.stack([level - 0.5, level + 0.5]) * 2 / (self.n - 1) - 1
        edge[0] = np.where(level == 0, -np.inf, edge[0])
        edge[1] = np.where(level == self.n - 1, np.inf, edge[1])
        right = edge[0] > self.logistic.mean()
        below, above = self.logistic.cdf(edge), self.logistic.sf(edge)
        return np.log(np.where(right, above[0] - above[1], below[1] - below[0]))

    def moment(self, k):
        grid = np.linspace(self.low, self.high, self.n)
        p = np.exp([self.logpmf(np.full(EVENT, v)) for v in grid])
        return np.einsum("v,vij->ij", grid**k, p)

    def mean(self):
        return self.moment(1)

    def var(self):
        return self.moment(2) - self.moment(1) ** 2


class Tilted:
    """The continuous Bernoulli in its own parameter, moments by quadrature."""

    def __init__(self, p):
        self.p = p

    def logpdf(self, x):
        p = self.p
        constant = np.log(2 * np.arctanh(1 - 2 * p) / (1 - 2 * p))
        return constant + x * np.log(p) + (1 - x) * np.log(1 - p)

    def moment(self, k):
        nodes, weights = np.polynomial.legendre.leggauss(60)
        nodes = (nodes + 1) / 2
        density = np.exp([self.logpdf(np.full(EVENT, v)) for v in nodes])
        return np.einsum("v,vij->ij", weights / 2 * nodes**k, density)

    def mean(self):
        return self.moment(1)

    def var(self):
        return self.moment(2) - self.moment(1) ** 2


BOTH = np.stack([LOCATION, RAW])
# name: likelihood, outputs, the same distribution by another road. Functions, so that arrays are
# made in the float type of the test.
CASES = {
    "Bernoulli": (Bernoulli, LOCATION, scipy.stats.bernoulli(P)),
    "Binomial": (lambda: Binomial(7), LOCATION, scipy.stats.binom(7, P)),
    "Gaussian": (lambda: Gaussian(per_entry()), LOCATION, scipy.stats.norm(LOCATION, SCALES)),
    "Gaussian fixed": (lambda: Gaussian(0.6), LOCATION, scipy.stats.norm(LOCATION, 0.6)),
    "Gaussian decoded": (
        lambda: Gaussian(DecodedScale(1.7)),
        BOTH,
        scipy.stats.norm(LOCATION, decoded(1.7, RAW)),
    ),
    "Laplace": (
        lambda: Laplace(DecodedScale(1.7)),
        BOTH,
        scipy.stats.laplace(LOCATION, decoded(1.7, RAW)),
    ),
    "StudentT": (
        lambda: StudentT(6.5, DecodedScale(1.7)),
        BOTH,
        scipy.stats.t(6.5, LOCATION, decoded(1.7, RAW)),
    ),
    "ContinuousBernoulli": (ContinuousBernoulli, LOCATION, Tilted(P)),
    "DiscretizedLogistic": (
        lambda: DiscretizedLogistic(-2, 7, 10, DecodedScale(0.4)),
        BOTH / 3,
        Levels(LOCATION / 3, decoded(0.4, RAW / 3), -2, 7, 10),
    ),
    "NegativeBinomial": (
        lambda: NegativeBinomial(True, np.log(5 * SCALES)),
        LOCATION,
        scipy.stats.nbinom(5 * SCALES, 1 - P),
    ),
}
SUPPORT = {
    "Bernoulli": np.arange(2),
    "Binomial": np.arange(8),
    "DiscretizedLogistic": np.arange(-2, 8),
    "NegativeBinomial": np.arange(2000),
}
ALL = [*CASES, "Categorical"]


def case(name):
    if name == "Categorical":
        return Categorical(4), jnp.asarray(SCORES), None
    make, outputs, other = CASES[name]
    return make(), jnp.asarray(outputs), other


def values(name, n=40):
    """Rows in the range of the likelihood, (n, *EVENT)."""
    random = np.random.default_rng(1)
    if name == "ContinuousBernoulli":
        return random.random((n, *EVENT))
    if name in SUPPORT or name == "Categorical":
        return random.choice(SUPPORT.get(name, np.arange(4))[:30], (n, *EVENT)).astype(float)
    return LOCATION + 3 * random.normal(size=(n, *EVENT))


@eqx.filter_jit
def log_probs(likelihood, outputs, x):
    return jax.vmap(lambda row: likelihood.log_prob(outputs, row))(x)


@eqx.filter_jit
def draws(likelihood, outputs, n):
    """Entry by entry and independent: as many rows as wanted are one row of more entries."""
    rows = jnp.broadcast_to(outputs[..., None, :, :], (*outputs.shape[:-2], n, *EVENT))
    return likelihood.sample(jax.random.key(2), rows)


def reference(name, x):
    if name == "Categorical":
        log_p = scipy.special.log_softmax(SCORES, axis=0)
        i, j = np.indices(EVENT)
        return log_p[x.astype(int), i, j]
    other = CASES[name][2]
    return other.logpmf(x) if name in SUPPORT else other.logpdf(x)


def check_log_prob(name, rtol):
    likelihood, outputs, _ = case(name)
    x = values(name)
    found = log_probs(likelihood, outputs, jnp.asarray(x))
    expected = np.stack([reference(name, row) for row in x])
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
    shape = EVENT if likelihood.n_outputs == 1 else (likelihood.n_outputs, *EVENT)
    assert outputs.shape == shape and found.dtype == outputs.dtype


@pytest.mark.parametrize("name", ALL)
def test_log_prob_is_that_of_scipy(name):
    # Betaln of counts up to 30 loses most of what is lost: four digits more than float32 has.
    check_log_prob(name, 2e-5)


@pytest.mark.parametrize("name", ["NegativeBinomial", "DiscretizedLogistic"])
def test_log_prob_in_double_precision(name, x64):
    check_log_prob(name, 1e-10)
    likelihood, outputs, _ = case(name)
    assert likelihood.mean(outputs).dtype == likelihood.start(values(name)).dtype == np.float64


@pytest.mark.parametrize("kind", ["float32", "int32", "uint8"])
def test_bernoulli_is_exact_at_large_logits_for_any_type_of_number(kind):
    logit = np.array([-30.0, -12.0, 0.3, 12.0, 30.0], np.float32)
    x = jnp.asarray([[0] * 5, [1] * 5]).astype(kind)
    found = log_probs(Bernoulli(), jnp.asarray(logit), x)
    expected = [-np.log1p(np.exp(sign * logit.astype(float))) for sign in (1, -1)]
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize("name", [*SUPPORT, "Categorical"])
def test_probabilities_sum_to_one(name):
    likelihood, outputs, _ = case(name)
    grid = SUPPORT.get(name, np.arange(4))
    x = jnp.asarray(grid, float)[:, None, None] + jnp.zeros(EVENT)
    total = np.exp(np.asarray(log_probs(likelihood, outputs, x), float)).sum(axis=0)
    np.testing.assert_allclose(total, 1, atol=2e-5)


@pytest.mark.parametrize("name", [n for n in CASES if n not in SUPPORT])
def test_densities_integrate_to_one(name):
    likelihood, outputs, _ = case(name)
    if name == "ContinuousBernoulli":
        nodes, weights = np.polynomial.legendre.leggauss(40)
        x, weights = np.tile(((nodes + 1) / 2)[:, None, None], EVENT), weights / 2
    else:  # x = location + tan(angle), midpoints: heavy tails become bounded
        angle = (np.arange(4000) + 0.5) * np.pi / 4000 - np.pi / 2
        x = LOCATION + np.tan(angle)[:, None, None]
        weights = np.pi / 4000 / np.cos(angle) ** 2
    density = np.exp(np.asarray(log_probs(likelihood, outputs, jnp.asarray(x)), float))
    np.testing.assert_allclose(np.einsum("v,vij->ij", weights, density), 1, atol=1e-4)


# The draws of counts and of Student's t compile for long.
LONG = ("Binomial", "NegativeBinomial", "StudentT")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in CASES]
)
def test_draws_have_mean_and_variance(name):
    likelihood, outputs, other = case(name)
    n = 4000
    x = np.asarray(draws(likelihood, outputs, n), float)
    mean = np.asarray(likelihood.mean(outputs), float)
    np.testing.assert_allclose(mean, other.mean(), rtol=2e-5, atol=2e-6)
    # 15 entries each: beyond 4.5 once in 10,000 such tests.
    z = (x.mean(axis=0) - mean) / (other.var() / n) ** 0.5
    assert np.abs(z).max() < 4.5
    square = (x - mean) ** 2
    z = (square.mean(axis=0) - other.var()) / (square.std(axis=0) / n**0.5)
    assert np.abs(z).max() < 4.5


def test_draws_of_classes_have_their_frequencies():
    likelihood, outputs, _ = case("Categorical")
    x = np.asarray(draws(likelihood, outputs, 4000))
    p = scipy.special.softmax(SCORES, axis=0)
    found = np.stack([np.mean(x == c, axis=0) for c in range(4)])
    assert np.abs((found - p) / np.sqrt(p * (1 - p) / 4000)).max() < 4.7  # 60 of them
    np.testing.assert_array_equal(likelihood.mean(outputs), np.argmax(SCORES, axis=0))


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_at_extreme_outputs(name):
    likelihood, outputs, _ = case(name)
    extremes = np.random.default_rng(4).choice([-60.0, -1e-6, 0.0, 60.0], (20, *outputs.shape))

    @eqx.filter_jit
    def all_of_them(likelihood, extremes, x):
        def loss(both, row):
            likelihood, outputs = both
            return jnp.sum(likelihood.log_prob(outputs, row))

        gradient = eqx.filter_value_and_grad(loss)
        return jax.vmap(lambda outputs, row: gradient((likelihood, outputs), row))(extremes, x)

    found = all_of_them(likelihood, jnp.asarray(extremes), jnp.asarray(values(name, 20)))
    for leaf in jax.tree.leaves(found):
        assert leaf.dtype == jnp.float32 and jnp.all(jnp.isfinite(leaf))


def test_continuous_bernoulli_on_both_sides_of_its_series(x64):
    logit = np.array([0.0, 1e-6, 3e-3, 0.4, 0.99, 1.01, -2.5, 30.0, -80.0])
    nodes, weights = np.polynomial.legendre.leggauss(120)
    nodes = (nodes + 1) / 2
    mass = weights / 2 * np.exp(logit[:, None] * nodes)
    constant, mean = np.log(mass.sum(axis=1)), (mass @ nodes) / mass.sum(axis=1)
    variance = np.sum(mass * (nodes - mean[:, None]) ** 2, axis=1) / mass.sum(axis=1)

    @jax.jit
    def found(logit):
        def of(logit):
            return ContinuousBernoulli().log_prob(logit, jnp.full(9, 0.3))

        def slope(logit):
            return jax.vjp(of, logit)[1](jnp.ones(9))[0]

        curvature = jax.jvp(slope, (logit,), (jnp.ones(9),))[1]
        return of(logit), slope(logit), curvature, ContinuousBernoulli().mean(logit)

    log_prob, slope, curvature, found_mean = found(jnp.asarray(logit))
    np.testing.assert_allclose(log_prob, 0.3 * logit - constant, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(slope, 0.3 - mean, rtol=1e-8)
    np.testing.assert_allclose(curvature, -variance, rtol=1e-6)
    np.testing.assert_allclose(found_mean, mean, rtol=1e-8)


def test_discretized_logistic_in_its_tails():
    """Against logs of tails, which keep their digits where the masses underflow."""
    location, raw, level = np.meshgrid([-60.0, -1.0, 0.3, 60.0], [-60.0, -3.0, 9.0], np.arange(256))
    scale = decoded(1.0, raw)
    edge = (np.stack([level - 0.5, level + 0.5]) * 2 / 255 - 1 - location) / scale
    edge = np.where(edge[0] + edge[1] > 0, -edge[::-1], edge)  # by symmetry, the lower tail
    low, high = -np.logaddexp(0, -edge)
    expected = high + np.log(-np.expm1(low - high))
    expected = np.where(level == 0, -np.logaddexp(0, (254 / 255 + location) / scale), expected)
    expected = np.where(level == 255, -np.logaddexp(0, (254 / 255 - location) / scale), expected)
    likelihood = DiscretizedLogistic(0.0, 1.0, 256, DecodedScale())
    outputs = jnp.asarray(np.stack([location, raw]))
    found = jax.jit(likelihood.log_prob)(outputs, jnp.asarray(level / 255))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def log_beta(a, b):
    """SciPy's, which loses digits for large b; there by log Gamma(b + a) as integral of digamma."""
    a, b = np.minimum(a, b), np.maximum(a, b)
    nodes, weights = np.polynomial.legendre.leggauss(30)
    z = b + a * (nodes[:, None] + 1) / 2
    rise = a * (weights / 2 @ scipy.special.digamma(z))
    return np.where(b < 9, scipy.special.betaln(a, b), scipy.special.gammaln(a) - rise)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_beta_function(dtype, x64):
    """Both sides of every threshold, against SciPy; derivatives against the digamma function."""
    grid = np.array([1e-3, 0.5, 1.0, 3.3, 9.9, 10.1, 41.0, 1e4, 1e7])
    a, b = (part.ravel() for part in np.meshgrid(grid, grid))
    a, b = a.astype(dtype), b.astype(dtype)
    found, pull = jax.jit(lambda a, b: jax.vjp(betaln, a, b))(jnp.asarray(a), jnp.asarray(b))
    expected = log_beta(a.astype(float), b.astype(float))
    eps = np.finfo(dtype).eps
    # W(a) is a difference of terms up to 20 for a < 10; the rest is in proportion to the answer.
    np.testing.assert_allclose(found, expected, rtol=20 * eps, atol=100 * eps)
    da, db = pull(jnp.ones_like(found))
    digamma = scipy.special.digamma
    if dtype == np.float64:
        np.testing.assert_allclose(da, digamma(a) - digamma(a + b), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(db, digamma(b) - digamma(a + b), rtol=1e-8, atol=1e-12)


def test_large_counts_keep_their_digits():
    """Log gamma functions of a million, in float32, are wrong in the second place."""
    x = np.array([0.0, 3.0, 400.0, 5000.0])
    found = NegativeBinomial(False, np.log(1e6)).log_prob(jnp.full(4, -9.0), jnp.asarray(x))
    p = scipy.special.expit(-9.0)
    expected = scipy.stats.nbinom(1e6, 1 - p).logpmf(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)
    found = Binomial(10_000).log_prob(jnp.full(4, -2.0), jnp.asarray(x))
    expected = scipy.stats.binom(10_000, scipy.special.expit(-2.0)).logpmf(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)


def rows(kind, n=300, event=(2, 3)):
    """Rows of independent entries with different distributions, and one that hardly varies."""
    random = np.random.default_rng(3)
    shape = (n, *event)
    p = np.array([[0.02, 0.2, 0.5], [0.7, 0.95, 0.999]])
    location, scale = 3 * random.normal(size=event), np.array([[0.2, 0.5, 1.0], [2.0, 1.0, 0.3]])
    return {
        "binary": lambda: (random.random(shape) < p).astype(float),
        "limited": lambda: random.binomial(7, p, shape).astype(float),
        "counts": lambda: random.negative_binomial(3, 1 - 0.9 * p, shape) * 1.0,
        "mixed counts": lambda: random.negative_binomial([1, 3, 9], 1 - 0.9 * p, shape) * 1.0,
        "few counts": lambda: random.poisson(9 * p, shape).astype(float),
        "classes": lambda: random.choice(4, shape, p=[0.1, 0.2, 0.3, 0.4]).astype(float),
        "real": lambda: location + scale * random.normal(size=shape),
        "heavy": lambda: location + scale * random.standard_t(3, shape),
        "fractions": lambda: random.beta(2, 3, shape) ** np.array([[0.3, 1, 2], [0.5, 5, 0.2]]),
        "levels": lambda: np.clip(np.round(16 * random.beta(2 * p, 2 - 2 * p, shape)), 0, 16),
        "bytes": lambda: np.clip(
            np.round(128 + 480 * (p - 0.5) + 30 * random.logistic(size=shape)), 0, 255
        ),
    }[kind]()


# How far, in nats per entry, the start is from the most likely parameters. Smoothing moves a
# logit by a fraction of its standard error, so that a few nats per entry and n rows are lost;
# moments for a total count, and a line for a logistic, are not likelihood, and lose more.
STARTS = {
    "Bernoulli": (Bernoulli, "binary", 1e-3),
    "Binomial": (lambda: Binomial(7), "limited", 1e-3),
    "Categorical": (lambda: Categorical(4), "classes", 1e-3),
    "Gaussian": (Gaussian, "real", 1e-6),
    "Gaussian decoded": (lambda: Gaussian(DecodedScale()), "real", 1e-6),
    "Gaussian fixed": (lambda: Gaussian(0.7), "real", 1e-6),
    "Laplace": (lambda: Laplace(DecodedScale()), "heavy", 1e-6),
    "StudentT": (lambda: StudentT(3.0, fixed=True), "heavy", 1e-3),
    "StudentT decoded": (lambda: StudentT(3.0, DecodedScale(), fixed=True), "heavy", 1e-5),
    "ContinuousBernoulli": (ContinuousBernoulli, "fractions", 1e-6),
    "NegativeBinomial": (NegativeBinomial, "counts", 0.005),
    "NegativeBinomial per entry": (lambda: NegativeBinomial(True), "mixed counts", 0.005),
    "NegativeBinomial Poisson": (NegativeBinomial, "few counts", 0.005),
    "DiscretizedLogistic": (lambda: DiscretizedLogistic(0, 16, 17), "levels", 0.02),
    "DiscretizedLogistic fixed": (
        lambda: DiscretizedLogistic(0, 16, 17, FixedScale(0.3)),
        "levels",
        0.02,
    ),
    "DiscretizedLogistic decoded": (
        lambda: DiscretizedLogistic(0, 255, 256, DecodedScale()),
        "bytes",
        0.02,
    ),
}


QUICK = ("Bernoulli", "Binomial", "Categorical", "Gaussian decoded", "Laplace", "StudentT")
QUICK = (*QUICK, "ContinuousBernoulli", "NegativeBinomial per entry", "DiscretizedLogistic")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in STARTS]
)
def test_start_is_close_to_the_most_likely_outputs(name, x64):
    make, kind, distance = STARTS[name]
    x = rows(kind)
    likelihood = make().init(x)
    outputs = likelihood.start(x)
    learned, static = eqx.partition((likelihood, outputs), eqx.is_inexact_array)
    first, unravel = ravel_pytree(learned)

    @jax.jit
    @jax.value_and_grad
    def loss(flat):
        likelihood, outputs = eqx.combine(unravel(flat), static)
        return -jnp.mean(jax.vmap(lambda row: likelihood.log_prob(outputs, row))(jnp.asarray(x)))

    def evaluate(flat):
        return tuple(np.asarray(part) for part in loss(jnp.asarray(flat)))

    best = scipy.optimize.minimize(evaluate, np.asarray(first), jac=True, method="BFGS")
    assert best.fun - 1e-12 <= evaluate(first)[0] < best.fun + distance


@pytest.mark.parametrize("name", ALL)
def test_missing_entries_are_left_out(name):
    likelihood, _, _ = case(name)
    x = values(name, 30)
    whole = np.asarray(likelihood.start(x[:20]))
    x[20:] = np.where(np.arange(15).reshape(EVENT) % 2 == 0, np.nan, x[20:])
    seen = np.isnan(x).any(axis=0)
    np.testing.assert_allclose(np.asarray(likelihood.start(x))[..., seen], whole[..., seen])
    x[:, 1, 2] = np.nan
    start = likelihood.init(x).start(x)
    assert start.shape == whole.shape and jnp.all(jnp.isfinite(start))


@pytest.mark.parametrize(
    ("make", "scale"),
    [(Gaussian, LearnedScale(True)), (Laplace, LearnedScale()), (StudentT, DecodedScale())],
)
def test_another_unit_of_the_data_is_a_constant(make, scale):
    x = rows("heavy")
    found = []
    for unit in (1.0, 1e4):
        likelihood = make(scale=scale).init(unit * x)
        outputs = likelihood.start(unit * x)
        found.append(log_probs(likelihood, outputs, jnp.asarray(unit * x)) + np.log(unit))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [LearnedScale(True), DecodedScale()])
def test_scale_of_a_constant_entry_is_bounded(scale):
    x = rows("real")
    x[:, 1, 2] = 0.25
    likelihood = Gaussian(scale).init(x)
    outputs = likelihood.start(x)
    top = float(log_probs(likelihood, outputs, jnp.asarray(x))[0, 1, 2])
    pooled = np.sqrt(np.mean((x - x.mean(axis=0)) ** 2))
    np.testing.assert_allclose(top, scipy.stats.norm(0, 2e-3 * pooled).logpdf(0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"rows that are all the same; write scale=0\.1"):
        Gaussian(scale).init(np.ones((5, 2)))


def test_what_is_fixed_is_not_trained():
    assert jax.tree.leaves(Gaussian(0.5)) == jax.tree.leaves(Gaussian(DecodedScale())) == []
    x, outputs = jnp.asarray(values("StudentT", 1)[0]), jnp.asarray(LOCATION)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(likelihood):
        return jnp.sum(likelihood.log_prob(outputs, x))

    free, fixed = gradient(StudentT()), gradient(StudentT(fixed=True))
    assert float(free.log_excess) != 0 and float(fixed.log_excess) == 0
    assert float(free.scale.raw) == pytest.approx(float(fixed.scale.raw)) != 0
    assert gradient(Gaussian(LearnedScale(True)).init(values("Gaussian"))).scale.raw.shape == EVENT


GRAY = np.array([[0.0, 1.0], [0.25, 0.5]])
COUNTS = np.tile(np.arange(17.0), (3, 1))
REFUSED = [
    (Bernoulli(), COUNTS, ["0 and 1, got 2.0 at (0, 2)", "[0.0, 16.0] that are", "Binomial(16)"]),
    (Bernoulli(), GRAY, ["got 0.25 at (1, 0)", "values in [0.0, 1.0]; write", "Gaussian()"]),
    (Binomial(9), COUNTS, ["Binomial(9) needs whole numbers in [0, 9], got 10.0", "Binomial(16)"]),
    (Binomial(9), GRAY, ["got 0.25 at (1, 0)", "Gaussian()"]),
    (Binomial(9), -COUNTS, ["got -1.0 at (0, 1)", "Gaussian()"]),
    (Categorical(5), COUNTS, ["whole numbers in [0, 4], got 5.0", "likelihoods.Categorical(17)"]),
    (Categorical(5), GRAY, ["got 0.25", "Gaussian()"]),
    (Categorical(5), np.array([1.0, np.inf]), ["got inf", "not finite"]),
    (ContinuousBernoulli(), COUNTS / 4, ["numbers in [0, 1], got 1.25 at (0, 5)", "Gaussian()"]),
    (NegativeBinomial(), GRAY, ["whole numbers >= 0, got 0.25", "Gaussian()"]),
    (NegativeBinomial(), -COUNTS, ["got -1.0 at (0, 1)", "Gaussian()"]),
    (
        DiscretizedLogistic(0, 1, 256),
        np.arange(256.0),
        ["one of 256 even levels in [0, 1], got 2.0 and", "DiscretizedLogistic(0, 255, 256)"],
    ),
    (DiscretizedLogistic(0, 4, 5), GRAY, ["got 0.25 at (1, 0)", "Gaussian()"]),
    (Gaussian(), np.array([[1.0, np.nan]]), ["finite numbers, got nan at (0, 1)", "as missing"]),
    (Laplace(), np.array([np.inf]), ["Laplace needs finite", "got inf, and"]),
    (StudentT(), np.array([-np.inf]), ["StudentT needs finite", "got -inf, and"]),
]  # fmt: skip


@pytest.mark.parametrize(("likelihood", "x", "parts"), REFUSED)
def test_values_out_of_range_are_refused(likelihood, x, parts):
    with pytest.raises(ValueError) as error:
        likelihood.check(x)
    for part in parts:
        assert part in str(error.value)
    line = re.search(r"write likelihood=(infer\.likelihoods\.\w+\(.*\))\.$", str(error.value))
    if line:  # the line runs, and takes the values
        eval(line[1], {"infer": infer}).check(x)
    else:
        assert "np.where(np.isfinite(x), x, np.nan)" in str(error.value)


@pytest.mark.parametrize("name", ALL)
def test_values_in_range_pass(name):
    likelihood, _, _ = case(name)
    likelihood.check(values(name))
    likelihood.check(np.zeros(0))
    DiscretizedLogistic(0.0, 1.0, 256).check(np.arange(256, dtype=np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Binomial(0), r"Binomial needs total >= 1, got 0; write total=16"),
        (lambda: Categorical(1), r"Categorical needs n_classes >= 2, got 1"),
        (lambda: DiscretizedLogistic(0, 1, 1), r"needs n_levels >= 2, got 1"),
        (lambda: DiscretizedLogistic(1, 0, 9), r"needs low < high, got 1 and 0"),
        (lambda: Gaussian(0.0), r"FixedScale needs one number > 0, got 0\.0"),
        (lambda: Gaussian("learned"), r"got 'learned'; write scale=infer\.likelihoods\.Learned"),
        (lambda: LearnedScale("yes"), r"LearnedScale needs per_dimension=True or False"),
        (lambda: NegativeBinomial("yes"), r"NegativeBinomial needs per_dimension=True or False"),
        (lambda: StudentT(1.0), r"StudentT needs df > 1, .* got 1\.0; write df=5\.0"),
        (lambda: StudentT(fixed="yes"), r"StudentT needs fixed=True or False, got 'yes'"),
    ],
)
def test_settings_are_refused(make, message, unchecked):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (rows("binary"), Bernoulli()),
        (rows("binary").astype(bool), Bernoulli()),
        (np.where(rows("binary") == 0, np.nan, 1.0), Bernoulli()),
        (rows("limited").astype(int), Binomial(7)),
        (rows("counts"), NegativeBinomial()),
        (rows("bytes").astype(np.uint8), DiscretizedLogistic(0, 255, 256)),
        (rows("levels") / 16, Gaussian()),
        (rows("fractions"), Gaussian()),
        (-rows("counts"), Gaussian()),
        (rows("real"), Gaussian()),
    ],
)
def test_likelihood_for_data(x, expected):
    assert eqx.tree_equal(likelihood_for(x), expected)
    expected.check(x[~np.isnan(x)])
