"""Gaussians with a covariance of diagonal plus low rank."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.families.low_rank import LowRank, LowRankGaussian
from infer.objectives import Path, Reparam, estimate


def member(d=7, r=3, seed=0):
    a, b, c = jax.random.split(jax.random.key(seed), 3)
    return LowRankGaussian(
        jax.random.normal(a, (d,)), 0.5 * jax.random.normal(b, (d,)), jax.random.normal(c, (d, r))
    )


def dense(q, x):
    """Log density and score by the textbook formulas, in double precision."""
    c = np.diag(np.exp(2 * np.asarray(q.log_diagonal, float)))
    c += np.asarray(q.loadings, float) @ np.asarray(q.loadings, float).T
    y = np.asarray(x, float) - np.asarray(q.mean, float)
    solved = np.linalg.solve(c, y.T).T
    log_det = np.linalg.slogdet(2 * np.pi * c)[1]
    return -0.5 * np.sum(y * solved, axis=-1) - 0.5 * log_det, -solved


def test_density_score_and_entropy_against_dense_formulas(x64):
    q = member()
    draws = q.sample_score(jax.random.key(1), 40)
    log_q, score = dense(q, draws.x)
    np.testing.assert_allclose(draws.log_q, log_q, rtol=1e-12)
    np.testing.assert_allclose(draws.score, score, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(jax.vmap(q.log_prob)(draws.x), log_q, rtol=1e-12)
    np.testing.assert_allclose(q.sample(jax.random.key(1), 40), draws.x, rtol=0)
    np.testing.assert_allclose(q.covariance, q.factor @ q.factor.T, rtol=1e-12)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * q.covariance)[1]
    np.testing.assert_allclose(q.entropy, entropy, rtol=1e-12)
    leaked = jax.grad(lambda q: jnp.sum(q.sample_score(jax.random.key(1), 5).score))(q)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(leaked))


def test_derivatives_against_autodiff_of_the_dense_density(x64):
    """Attached: log q of a draw moves with the parameters through the draw and the density."""
    q, key = member(), jax.random.key(2)

    def by_hand(q):
        p = jax.scipy.stats.multivariate_normal
        return jnp.mean(p.logpdf(q.sample_score(key, 6).x, q.mean, q.covariance))

    ours = jax.grad(lambda q: jnp.mean(q.sample_score(key, 6).log_q))(q)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
        ours,
        jax.grad(by_hand)(q),
    )
    x = q.sample(key, 1)[0]
    np.testing.assert_allclose(jax.grad(q.log_prob)(x), dense(q, x)[1], rtol=1e-10)


@pytest.mark.parametrize("small", [1e-2, 1e-4])
def test_single_precision_with_a_small_diagonal(small):
    """Loadings of order 1 beside a diagonal of order `small`: errors stay near rounding."""
    q = eqx.tree_at(lambda q: q.log_diagonal, member(50, 4), jnp.full(50, jnp.log(small)))
    draws = q.sample_score(jax.random.key(3), 100)
    with jax.enable_x64(True):  # the same member and noise, exactly
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), q)
        noise = np.asarray(jax.random.normal(jax.random.key(3), (100, 54), jnp.float32), float)
        d = np.exp(np.asarray(exact.log_diagonal))
        x = exact.mean + d * noise[:, :50] + noise[:, 50:] @ exact.loadings.T
        log_q, score = dense(exact, x)
    np.testing.assert_allclose(draws.log_q, log_q, rtol=2e-5, atol=2e-4)
    assert np.abs(draws.score - score).max() < 1e-4 * np.abs(score).max()


def test_zero_loadings_are_a_stationary_point_and_no_start_is_one(x64):
    """At U = 0 every odd moment of the gradient in U vanishes; the family does not start there."""
    p = np.eye(4) + 0.5
    target = infer.from_log_density(lambda x, p: -0.5 * x @ p @ x, jnp.zeros(4), data=p)

    def pull(q):  # the exact gradient in U of the bound: P minus the precision of q, times U
        return (jnp.linalg.inv(q.covariance) - p) @ q.loadings

    first = LowRank(rank=2).init(jax.random.key(0), jnp.zeros(4))
    flat = eqx.tree_at(lambda q: q.loadings, first, jnp.zeros((4, 2)))
    assert not pull(flat).any() and np.abs(pull(first)).min() > 0
    keys = jax.random.split(jax.random.key(1), 2000)

    def loadings(q):
        def draw(k):
            return estimate(k, target, q, infer.ReverseKL(), Reparam(), 2)[1].loadings

        return np.asarray(jax.jit(jax.vmap(draw))(keys))

    g = loadings(flat)
    assert (np.abs(g.mean(axis=0)) < 4.5 * g.std(axis=0) / 2000**0.5).all()
    g = loadings(first)
    assert (np.abs(g.mean(axis=0) - pull(first)) < 4.5 * g.std(axis=0) / 2000**0.5).all()
    assert 0.01 < np.linalg.norm(first.loadings) / np.exp(first.log_diagonal[0]) < 0.5


def kl(q, covariance, mean):
    c, shift = np.asarray(q.covariance, float), np.asarray(q.mean, float) - mean
    ratio = np.linalg.solve(covariance, c)
    far = shift @ np.linalg.solve(covariance, shift)
    return 0.5 * (np.trace(ratio) - len(c) - np.linalg.slogdet(ratio)[1] + far)


@pytest.mark.parametrize("estimator", [Reparam(), Path()])
def test_vi_finds_a_gaussian_with_two_common_directions(estimator):
    """Diagonal plus rank 2, in the covariance: KL of the mean field 1.4, of the family 0."""
    rng, d = np.random.default_rng(0), 20
    loadings, mean = rng.normal(size=(d, 2)), rng.normal(size=d)
    covariance = np.diag(rng.uniform(0.5, 2, d)) + loadings @ loadings.T
    data = {"p": np.linalg.inv(covariance), "m": mean}
    target = infer.from_log_density(
        lambda x, t: -0.5 * (x - t["m"]) @ t["p"] @ (x - t["m"]), jnp.zeros(d), data=data
    )
    algorithm = infer.VI(family=LowRank(rank=2), estimator=estimator)
    result = infer.fit(target, algorithm, key=0, progress=False)
    assert result.verdict.status == "ok", result.verdict
    assert kl(result.posterior, covariance, mean) < 0.08


def test_ranks():
    start = jnp.zeros(10)
    assert LowRank().init(jax.random.key(0), start).loadings.shape == (10, 3)
    assert LowRank().init(jax.random.key(0), jnp.zeros(1)).loadings.shape == (1, 1)
    assert LowRank().init(jax.random.key(0), jnp.zeros(5000)).loadings.shape == (5000, 32)
    for wrong in (0, -1, True):
        with pytest.raises(ValueError, match=r"rank >= 1 or None.*write rank=5"):
            LowRank(rank=wrong)
    with pytest.raises(ValueError, match=r"at most 10.*got 11; write rank=None"):
        LowRank(rank=11).init(jax.random.key(0), start)


MEMORY = """
import resource, sys
import equinox as eqx, jax, jax.numpy as jnp
import infer
from infer.families.low_rank import LowRank

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def steps(d, r):
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(d))
    vi = infer.VI(family=LowRank(rank=r))
    state = eqx.filter_jit(vi.init)(jax.random.key(0), target)
    step = eqx.filter_jit(vi.step)
    for i in range(3):
        state, info = step(jax.random.key(i), target, state)
    return float(info.loss)

steps(1000, 2)
before, d, r = peak(), 100_000, 10
loss = steps(d, r)
print((peak() - before) / (4 * d * r), loss)
"""


@pytest.mark.slow
def test_memory_in_a_hundred_thousand_coordinates():
    """Three steps at d = 100,000, r = 10 within 50 arrays of d x r floats; 36 were measured.

    Of these q, its average and Adam's two moments take 4, their successors 4, QR, its gradient and
    the 8 draws the rest; a single d x d matrix would be 10,000 of them.
    """
    run = [sys.executable, "-c", MEMORY]
    arrays, loss = map(float, subprocess.check_output(run, text=True).split())
    print(f"{arrays:.1f} arrays of d x r")
    assert arrays < 50 and np.isfinite(loss)
