"""Student t, mixtures and products, against closed forms, quadrature and one another."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

import infer
from infer.families import (
    CholeskyGaussian,
    DiagonalGaussian,
    MixtureDistribution,
    StudentTDistribution,
)
from infer.objectives import estimate

MEAN = np.array([2.0, -1.0, 0.5])
FACTOR = np.array([[1.2, 0.0, 0.0], [0.5, 0.7, 0.0], [-0.3, 0.4, 0.9]])
SCALE = FACTOR @ FACTOR.T


def cholesky(mean, factor):
    mean, factor = jnp.asarray(mean, float), jnp.asarray(factor, float)
    return CholeskyGaussian(mean, factor, jnp.log(jnp.diagonal(factor)))


def student(df, fixed=False):
    return StudentTDistribution(cholesky(MEAN, FACTOR), jnp.log(jnp.asarray(df - 2.0)), fixed)


def mixture(means, scales, weights):
    """Of Gaussians with a diagonal covariance: means (C, d), scales (C, d)."""
    means, scales = jnp.asarray(means, float), jnp.asarray(scales, float)
    parts = jax.vmap(DiagonalGaussian)(means, jnp.log(scales))
    return MixtureDistribution(parts, jnp.log(jnp.asarray(weights, float)))


@eqx.filter_jit
def run(target, method, steps):
    """The posterior after these steps: `fit` without its verdict."""

    def step(state, key):
        return method.step(key, target, state)[0], None

    keys = jax.random.split(jax.random.key(1), steps)
    first = method.init(jax.random.key(0), target)
    return method.posterior(jax.lax.scan(step, first, keys)[0])


# Student t ------------------------------------------------------------------------------------


def test_student_t_has_its_density(x64):
    x = np.random.default_rng(0).normal(size=(20, 3)) * 3
    density = jax.jit(lambda q, x: jax.vmap(q.log_prob)(x))
    for df in (2.3, 7.0, 500.0):
        exact = scipy.stats.multivariate_t(MEAN, SCALE, df).logpdf(x)
        np.testing.assert_allclose(density(student(df), x), exact, rtol=1e-10)


def test_draws_of_student_t(x64):
    """Their law, and their dependence on df, in one dimension.

    x is t distributed (Kolmogorov and Smirnov); d/d log(df - 2) of E log(1 + x^2) is that of
    quadrature, z < 4.
    """
    n, a = 4000, jnp.log(jnp.asarray(1.5))

    def made(a):
        one = DiagonalGaussian(jnp.asarray([0.4]), jnp.asarray([0.2]))
        return StudentTDistribution(one, a, False)

    @jax.jit
    def draw(a, key):
        return jax.jvp(lambda a: made(a).sample(key, n)[:, 0], (a,), (jnp.ones_like(a),))

    # x = tan(t) has no tails: the midpoint rule on t converges geometrically.
    t = (np.arange(4000) + 0.5) / 4000 * np.pi - np.pi / 2
    grid, weight = np.tan(t), np.pi / 4000 / np.cos(t) ** 2

    @jax.jit
    def mean(a):
        log_q = jax.vmap(made(a).log_prob)(grid[:, None])
        return jnp.sum(weight * jnp.log1p(grid**2) * jnp.exp(log_q))

    x, dx = draw(a, jax.random.key(2))
    law = scipy.stats.t(3.5, 0.4, np.exp(0.2))
    assert scipy.stats.kstest(x, law.cdf).pvalue > 0.01
    assert scipy.stats.kstest(x, scipy.stats.t(30, 0.4, np.exp(0.2)).cdf).pvalue < 0.001
    exact, drawn = jax.grad(mean)(a), 2 * x * dx / (1 + x**2)
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / np.sqrt(n)
    assert 4 * drawn.std() / np.sqrt(n) < 0.3 * abs(exact)


def test_student_t_of_many_degrees_is_a_gaussian_in_single_precision():
    """A difference of log gamma functions would be off by 0.3 at df = 1e6."""
    x = np.random.default_rng(0).normal(size=(20, 3))
    exact = scipy.stats.multivariate_t(MEAN, SCALE, 1e6).logpdf(x)
    exact -= scipy.stats.multivariate_normal(MEAN, SCALE).logpdf(x)

    @jax.jit
    def look(q, x):
        gap = jax.vmap(q.log_prob)(x) - jax.vmap(q.gaussian.log_prob)(x)
        slope = jax.grad(lambda q: jnp.mean(jax.vmap(q.log_prob)(x)))(q).log_excess
        return gap, slope

    gap, slope = look(student(1e6), jnp.asarray(x, jnp.float32))
    assert gap.dtype == jnp.float32
    np.testing.assert_allclose(gap, exact, atol=3e-5)
    np.testing.assert_allclose(slope, -exact.mean(), atol=1e-5)  # the gap goes as 1 / df


@pytest.mark.slow
def test_student_t_recovers_degrees_of_freedom():
    """Where q can be the posterior the path gradient has no noise, and df is found."""
    target = infer.from_log_density(
        lambda z, q: q.log_prob(z), jnp.zeros(3), data=student(4.0, fixed=True)
    )
    method = infer.VI(infer.StudentT(), estimator=infer.Path(), n_samples=16)
    q = run(target, method, 4000)
    assert abs(q.df - 4) < 0.1
    np.testing.assert_allclose(q.mean, MEAN, atol=0.02)
    np.testing.assert_allclose(q.gaussian.covariance, SCALE, atol=0.03)
    held = run(target, infer.VI(infer.StudentT(infer.MeanField(), df=5.0, fixed=True)), 50)
    np.testing.assert_allclose(held.df, 5, rtol=1e-6)


# Mixtures -------------------------------------------------------------------------------------


def test_moments_of_mixtures(x64):
    """By the components one by one; these have a diagonal and a factor, and a factor alone."""
    logits = np.array([0.3, -0.5, 1.0])
    weights = np.exp(logits) / np.sum(np.exp(logits))

    @eqx.filter_jit
    def look(family, key):
        q = family.init(key, jnp.asarray(MEAN))
        q = eqx.tree_at(lambda q: q.logits, q, jnp.asarray(logits))
        parts = jax.vmap(lambda part: (part.mean, part.covariance))(q.components)
        return (q.mean, q.covariance), parts

    for component in (infer.LowRank(1), infer.StudentT()):
        (mean, covariance), parts = look(infer.Mixture(component, 3, spread=1.5), jax.random.key(0))
        expected = sum(w * m for w, m in zip(weights, parts[0], strict=True))
        second = sum(w * (c + np.outer(m, m)) for w, m, c in zip(weights, *parts, strict=True))
        np.testing.assert_allclose(mean, expected, rtol=1e-12)
        np.testing.assert_allclose(
            covariance, second - np.outer(expected, expected), rtol=1e-9, atol=1e-12
        )


def skew(x):
    return -0.5 * x**2 - jnp.exp(0.5 * x)


@pytest.mark.parametrize("estimator, n", [(infer.Reparam(), 7), (infer.Path(), 6)])
def test_gradient_of_a_mixture_is_that_of_a_sum_over_components(estimator, n, x64):
    """sum_c pi_c integral q_c log(p / q), in one dimension by quadrature; z < 4.5."""
    q = mixture([[-0.8], [0.6], [1.0]], [[0.5], [0.9], [0.3]], [0.2, 0.5, 0.3])
    target = infer.from_log_density(lambda z: skew(z[0]), jnp.zeros(1))
    grid = jnp.linspace(-9, 9, 3001)

    @jax.jit
    def bound(q):
        m, s = q.components.mean, jnp.exp(q.components.log_scale)
        parts = jnp.exp(-0.5 * ((grid - m) / s) ** 2) / s / jnp.sqrt(2 * jnp.pi)
        density = jax.nn.softmax(q.logits) @ parts
        return jnp.sum(density * (skew(grid) - jnp.log(density))) * (grid[1] - grid[0])

    @jax.jit
    def several(q, keys):
        def one(key):
            value, ascent = estimate(key, target, q, infer.ReverseKL(), estimator, n)
            return value, ravel_pytree(ascent)[0]

        return jax.vmap(one)(keys)

    values, ascents = several(q, jax.random.split(jax.random.key(3), 4000))
    exact = ravel_pytree(jax.grad(bound)(q))[0]
    assert abs(values.mean() - bound(q)) < 4.5 * values.std() / np.sqrt(4000)
    error = ascents.std(axis=0) / np.sqrt(4000)
    assert (np.abs(ascents.mean(axis=0) - exact) < 4.5 * error).all()
    assert np.linalg.norm(exact) > 10 * np.linalg.norm(error)


def test_draws_of_a_mixture_are_stratified(x64):
    """Numbers and masses by component, and the mean of the parameter score: zero; z < 4.5."""
    apart = mixture([[-50.0], [0.0], [50.0]], [[1.0]] * 3, [0.2, 0.5, 0.3])
    draws = jax.jit(lambda q: q.sample_score(jax.random.key(0), 7))(apart)
    of = np.argmin(np.abs(np.asarray(draws.x) - [-50, 0, 50]), axis=1)
    assert np.bincount(of).tolist() == [3, 2, 2]
    np.testing.assert_allclose(draws.mass, np.array([0.2 / 3, 0.25, 0.15])[of], rtol=1e-12)
    near = mixture([[-0.8, 0.1], [0.6, 0.0]], [[0.5, 1.0], [0.9, 0.4]], [0.2, 0.8])

    @jax.jit
    def several(q, keys):
        def one(key):
            draws = jax.lax.stop_gradient(q.sample_score(key, 5))

            def total(q):
                return jnp.sum(draws.mass * jax.vmap(q.log_prob)(draws.x))

            return ravel_pytree(jax.grad(total)(q))[0]

        return jax.vmap(one)(keys)

    scores = several(near, jax.random.split(jax.random.key(1), 4000))
    assert (np.abs(scores.mean(axis=0)) < 4.5 * scores.std(axis=0) / np.sqrt(4000)).all()


def test_distinct_components_are_counted():
    apart = mixture([[-9.0], [0.0], [9.0]], [[1.0]] * 3, [0.2, 0.3, 0.5])
    pair = mixture([[-9.0], [9.0], [9.0]], [[1.0]] * 3, [0.5, 0.25, 0.25])
    together = mixture([[1.0]] * 3, [[2.0]] * 3, [0.2, 0.3, 0.5])
    distinct = jax.jit(lambda q: q.distinct(jax.random.key(0), 1000))
    entropy = scipy.stats.entropy([0.2, 0.3, 0.5])
    np.testing.assert_allclose(distinct(apart), np.exp(entropy), rtol=1e-4)
    np.testing.assert_allclose(distinct(pair), 2, rtol=1e-4)
    np.testing.assert_allclose(distinct(together), 1, rtol=1e-5)


def two_modes(z):
    left = jnp.log(0.3) - 2 * jnp.sum((z - jnp.asarray([-2.0, 1.0])) ** 2)
    right = jnp.log(0.7) - 2 * jnp.sum((z - jnp.asarray([2.0, -1.0])) ** 2)
    return jnp.logaddexp(left, right)


def test_mixture_shares_out_two_modes():
    """Shares .3 and .7 where both are found; that one mode was found twice is stated."""
    target = infer.from_log_density(two_modes, jnp.zeros(2))
    method = infer.VI(infer.Mixture(), n_samples=16)
    result = infer.fit(target, method, key=0, init=jnp.zeros(2), steps=3000, progress=False)
    q = result.posterior
    left = q.components.mean[:, 0] < 0
    assert abs(jnp.sum(q.weights[left]) - 0.3) < 0.02
    assert result.verdict.status == "ok", result.verdict
    (told,) = [e for e in result.verdict.evidence if e.name == "distinct components"]
    assert 1.7 < told.value < 2.1  # two modes, 1.84 by their shares, each nearly Gaussian
    share = float(np.mean(result["x"][0, :, 0] < 0))  # draws are of equal mass
    assert abs(share - 0.3) < 4 * np.sqrt(0.21 / result.z.shape[1])


def test_mixture_refuses(unchecked):
    target = infer.from_log_density(two_modes, jnp.zeros(2))
    for make, message in (
        (lambda: infer.Mixture(n_components=1), "n_components >= 2, got 1"),
        (lambda: infer.Mixture(infer.NUTS()), "Mixture needs component=infer.FullRank"),
        (lambda: infer.Mixture(infer.Mixture()), "Mixture are stratified; write component="),
        (lambda: infer.Mixture(spread=0.0), "spread must be > 0"),
        (lambda: infer.VI(infer.Mixture(), estimator=infer.Score()), "infer.Reparam"),
        (
            lambda: infer.VI(infer.Mixture(), objective=infer.IWAE(), estimator=infer.Path()),
            "this family depend on one another.*; write estimator=infer.Reparam",
        ),
        (
            lambda: eqx.filter_eval_shape(run, target, infer.VI(infer.Mixture(), n_samples=3), 1),
            "mixture of 4 components needs at least 4 draws at a time, got 3; write n_samples=16",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            make()
    flows = infer.Mixture(infer.RealNVP(n_layers=2, width=4), 2)
    first = eqx.filter_eval_shape(flows.init, jax.random.key(0), jnp.zeros(2))
    assert eqx.filter_eval_shape(lambda q: q.moments(), first) is None
    with pytest.raises(ValueError, match="do not know their moments"):
        eqx.filter_eval_shape(lambda q: q.mean, first)


# Products -------------------------------------------------------------------------------------

PRECISION = np.array(
    [[2.0, 0.6, 0.5, 0.3], [0.6, 1.5, 0.7, 0.2], [0.5, 0.7, 2.5, 0.4], [0.3, 0.2, 0.4, 1.0]]
)


def named():
    """A Gaussian over sites b (2,) and a, c (), in this order: mean (1, 2, 3, 4)."""

    def log_density(z):
        x = jnp.concatenate([z["b"], z["a"][None], z["c"][None]]) - jnp.arange(1.0, 5.0)
        return -0.5 * x @ jnp.asarray(PRECISION, x.dtype) @ x

    return infer.from_log_density(log_density, {"b": jnp.zeros(2), "a": 0.0, "c": 0.0})


def test_product_of_one_factor_is_that_factor(x64):
    """At random parameters; the mean by its places."""
    target = named()
    family = infer.Product({tuple(site.name for site in target.sites): infer.FullRank()})
    noise = 0.3 * jax.random.normal(jax.random.key(1), (4, 4))

    @eqx.filter_jit
    def look(family, x):
        q = family.on(target).init(jax.random.key(0), jnp.arange(4.0))
        q = eqx.tree_at(lambda q: q.factors[0].lower, q, noise)
        plain = q.factors[0]
        return [(q.mean, q.covariance, q.log_prob(x)) for q in (q, plain)]

    product, plain = look(family, jnp.asarray([0.3, -1.0, 2.0, 0.1]))
    for a, b in zip(product, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_product_finds_the_nearest_product():
    """Of a Gaussian: the mean is right, a factor has the covariance of its block given all else."""
    target = named()
    places = {
        site: [i for i, n in enumerate(target.coordinate_names()) if n[0] == site] for site in "abc"
    }
    family = infer.Product({("c", "b"): infer.FullRank(), "a": infer.MeanField()})
    method = infer.VI(family, estimator=infer.Path())
    q = run(target, method, 3000)
    # The order of sites is the target's, so the truth is put into it by name.
    truth = np.concatenate([{"b": [0, 1], "a": [2], "c": [3]}[s.name] for s in target.sites])
    precision = PRECISION[np.ix_(truth, truth)]
    expected = np.zeros((4, 4))
    for block in (places["b"] + places["c"], places["a"]):
        block = sorted(block)
        expected[np.ix_(block, block)] = np.linalg.inv(precision[np.ix_(block, block)])
    np.testing.assert_allclose(q.mean, truth + 1.0, atol=0.05)
    np.testing.assert_allclose(q.covariance, expected, atol=0.02)
    assert np.abs(expected - np.diag(np.diag(expected))).max() > 0.1


def test_products_and_mixtures_of_one_another(x64):
    """Components are products: each has no correlation between factors, and their mixture does."""
    family = infer.Mixture(infer.Product({"a": infer.MeanField(), ("b", "c"): infer.FullRank()}), 2)

    @eqx.filter_jit
    def look(family, key):
        q = family.init(key, jnp.zeros(4))
        draws = q.sample_score(key, 6)
        return q.covariance, draws.score, jax.vmap(jax.grad(q.log_prob))(draws.x)

    covariance, drawn, score = look(family.on(named()), jax.random.key(0))
    np.testing.assert_allclose(drawn, score, rtol=1e-10)
    assert np.abs(np.triu(covariance, 1)).max() > 0.1


def test_product_refuses(unchecked):
    target, full = named(), infer.FullRank()
    for make, message in (
        (lambda: infer.Product({}), "needs a mapping from sites to families"),
        (lambda: infer.Product([full]), "needs a mapping from sites to families"),
        (
            lambda: infer.Product({"a": 1}),
            r"a family for \('a',\), got 1; write infer.Product",
        ),
        (lambda: infer.Product({(): full}), "names of sites, numbers of coordinates"),
        (lambda: infer.Product({1.5: full}), "names of sites, numbers of coordinates"),
        (lambda: infer.Product({"a": infer.Mixture()}), r"stratified; write infer.Mixture\("),
        (lambda: infer.Product({"a": infer.Product({"b": full})}), "name all sites in one"),
        (
            lambda: run(target, infer.VI(infer.Product({"a": full, "b": full})), 1),
            r"exactly one group, and 'c' is in 0; write infer.Product\(\{\"",
        ),
        (
            lambda: infer.Product({("a", "b"): full, ("b", "c"): full}).on(target),
            r"'b\[0\]' is in 2",
        ),
        (lambda: infer.Product({"d": full}).on(target), "Product: 'd' is neither a site"),
        (
            lambda: infer.Product({"a": full}).init(jax.random.key(0), jnp.zeros(4)),
            r"write family.on\(target\).init",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            make()
