"""An estimator per factor of a product, against single estimators and wrong gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import infer
from infer.objectives import estimate

KEYS: dict = {"a": infer.MeanField(scale=0.6), ("b", "c"): infer.FullRank(scale=0.6)}
MIXED: dict = {("c", "b"): infer.Path(), "a": infer.Score()}  # in another order


@jax.custom_jvp
def through(a, w):
    """a, with w times its gradient."""
    return a


@through.defjvp
def _(primals, tangents):
    return primals[0], primals[1] * tangents[0]


def log_density(z, w):
    """Skewed in a, correlated between factors and within them."""
    a, b, c = through(z["a"], w), z["b"], z["c"]
    skewed = 1.5 * a - jnp.exp(a) - 0.4 * (a - b[0] + 0.5 * c) ** 2
    return skewed - 0.5 * jnp.sum(b**2) - 0.6 * (c - b[1]) ** 2


SITES = {"a": jnp.zeros(()), "b": jnp.zeros(2), "c": jnp.zeros(())}


def target(w=1.0):
    """Its gradient in a is w times the right one."""
    return infer.from_log_density(log_density, SITES, data=jnp.asarray(w))


def by_site(estimators):
    return infer.BySite(estimators).of(infer.Product(KEYS).groups)


def member():
    first = infer.Product(KEYS).on(target()).init(jax.random.key(0), jnp.full(4, 0.3))
    flat, back = ravel_pytree(first)
    return back(flat + 0.3 * jax.random.normal(jax.random.key(1), flat.shape))


@eqx.filter_jit
def gradients(key, target, q, objective, estimators, n, at_once=None):
    """n gradients of six draws by each of the estimators, all from the same draws."""

    def one(key):
        given = [(key, target, q, objective, e, 6, at_once) for e in estimators]
        return [ravel_pytree(estimate(*g)[1].factors)[0] for g in given]

    return jax.lax.map(one, jax.random.split(key, n), batch_size=500)


OF_A = 2  # parameters of the factor of a, which is the first
N = 4000


def all_ways(key, target, q):
    ways = (by_site(MIXED), infer.Path(), infer.Score(), infer.Reparam())
    return gradients(key, target, q, infer.ReverseKL(), ways, N)


def test_every_factor_has_the_gradient_of_its_estimator(x64):
    mixed, path, score, _ = (np.asarray(g) for g in all_ways(jax.random.key(2), target(), member()))
    read = (path != 0).all(axis=0)  # all but the upper triangle of the factor
    assert read.sum() == OF_A + 9 and not np.isclose(path, score)[:, read].all(axis=0).any()
    np.testing.assert_allclose(mixed[:, :OF_A], score[:, :OF_A], rtol=1e-12)
    np.testing.assert_allclose(mixed[:, OF_A:], path[:, OF_A:], rtol=1e-12)


def test_a_lost_gradient_of_a_site_with_score_does_not_matter(x64):
    """4000 gradients; the means of `Reparam` with nothing lost, z < 4.5; nan stays away."""
    q = member()
    right = np.asarray(all_ways(jax.random.key(0), target(), q)[3])
    mixed, path, *_ = (np.asarray(g) for g in all_ways(jax.random.key(1), target(0.0), q))

    def gap(found):
        error = np.hypot(found.std(axis=0), right.std(axis=0)) / N**0.5
        read = error > 0
        return np.where(read, np.abs(found.mean(axis=0) - right.mean(axis=0)), 0) / np.where(
            read, error, 1
        )

    assert gap(mixed).max() < 4.5
    assert gap(path)[:OF_A].max() > 20 and gap(path)[OF_A:].max() < 4.5
    same, broken, *_ = all_ways(jax.random.key(1), target(jnp.nan), q)
    np.testing.assert_allclose(same, mixed, rtol=1e-12)
    assert np.isnan(broken[:, :OF_A]).all()


@pytest.mark.slow
def test_blocks_take_the_parts_of_each(x64):
    ways = (by_site(MIXED), infer.Path(), infer.Score())
    found = gradients(jax.random.key(2), target(), member(), infer.IWAE(), ways, 1, at_once=2)
    mixed, path, score = (np.asarray(g[0]) for g in found)
    np.testing.assert_allclose(mixed[:OF_A], score[:OF_A], rtol=1e-12)
    np.testing.assert_allclose(mixed[OF_A:], path[OF_A:], rtol=1e-12)


def test_no_noise_at_the_posterior(x64):
    """The product is the posterior of a target without correlation between its factors."""
    q = member()
    exact = infer.from_log_density(q.log_prob, jnp.zeros(4))
    (found,) = gradients(jax.random.key(3), exact, q, infer.IWAE(), (by_site(MIXED),), 2)
    np.testing.assert_allclose(found, 0, atol=1e-12)


def test_fit_without_the_gradient_of_one_site():
    """Of a target without correlation between factors, whose posterior the product contains."""

    def normal(z):
        a, b, c = jax.lax.stop_gradient(z["a"]), z["b"], z["c"]
        return -2 * (a - 1) ** 2 - 0.5 * jnp.sum((b - c) ** 2) - 0.5 * (c + 2) ** 2

    method = infer.VI(
        family=infer.Product(KEYS),
        estimator=infer.BySite(MIXED),
        optimizer=infer.optimizer(optax.adam, learning_rate=0.02),
        n_samples=16,
        stopping=None,
    )
    made = infer.from_log_density(normal, SITES)
    q = infer.fit(made, method, key=0, steps=1500, progress=False).posterior
    np.testing.assert_allclose(q.mean, [1, -2, -2, -2], atol=0.1)
    np.testing.assert_allclose(jnp.diagonal(q.covariance), [0.25, 2, 2, 1], rtol=0.1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: infer.BySite({}), "mapping from sites to estimators"),
        (
            lambda: infer.VI(estimator=infer.BySite(MIXED)),
            "needs a Product, got FullRank; write family=infer.Product",
        ),
        (
            lambda: infer.VI(
                family=infer.Product(KEYS), estimator=infer.BySite({"a": infer.Score()})
            ),
            r"write estimator=infer.BySite\({'a': infer.Path\(\), \('b', 'c'\): infer.Path\(\)}\)",
        ),
        (
            lambda: infer.VI(
                family=infer.Product(KEYS),
                objective=infer.ForwardKL(),
                estimator=infer.BySite({**MIXED, "a": infer.Reparam()}),
            ),
            r"estimator=Reparam: its gradient.*write estimator=infer.Path\(\) or infer.Score\(\)",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
