"""Structured stochastic-gradient MCMC: its step, its stationary law, what it refuses and says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.langevin.structured import StructuredState, membership

N, D, SIGMA = 60, 5, 0.7
rng = np.random.default_rng(4)
MIX = np.eye(D)
MIX[0, 1], MIX[2, 3], MIX[3, 4] = 0.6, -0.5, 0.7
MIX[:2, 2:] = [[0.5, -0.3, 0.2], [-0.2, 0.5, 0.3]]
X = np.linalg.qr(rng.normal(size=(N, D)))[0] * np.sqrt(N) @ MIX
Y = X @ np.array([1.0, -2.0, 0.5, 3.0, 0.0]) + SIGMA * rng.normal(size=N)
CENTERS = rng.normal(size=(N, D)) @ MIX + [1.0, -2.0, 0.0, 3.0, 0.5]
GROUP = np.array([0, 0, 1, 1, 1])
SAME = GROUP[:, None] == GROUP
NAMES = [["a"], ["b"]]


def joined(p):
    return jnp.concatenate([p["a"], p["b"]])


def log_prior(p):
    return -jnp.sum(joined(p) ** 2) / 18


def regression():
    return infer.from_log_density(
        example={"a": jnp.zeros(2), "b": jnp.zeros(3)},
        log_prior=log_prior,
        log_likelihood=lambda p, r: -0.5 * ((r["y"] - r["X"] @ joined(p)) / SIGMA) ** 2,
        data={"X": jnp.asarray(X, float), "y": jnp.asarray(Y, float)},
    ), X.T @ X / SIGMA**2 + np.eye(D) / 9


def location(batch_size):
    """Of a Gaussian with precision LIKELIHOOD: minibatches whose noise is the same everywhere."""
    return infer.from_log_density(
        example={"a": jnp.zeros(2), "b": jnp.zeros(3)},
        log_prior=log_prior,
        log_likelihood=lambda p, y: -0.5 * jnp.sum(((y - joined(p)) @ jnp.asarray(MIX.T)) ** 2, 1),
        data=jnp.asarray(CENTERS, float),
        batch_size=batch_size,
    ), N * MIX.T @ MIX + np.eye(D) / 9


def product_law(P):
    """(P_ii)^-1 on the diagonal: the covariance of the optimum."""
    return np.linalg.inv(np.where(SAME, P, 0))


def stationary(P, e, noise):
    """Of the recursion of each group: its own curvature, and the spread of the others as noise."""
    M, others, S = product_law(P), np.where(SAME, 0, P), product_law(P)
    a = np.eye(D) - e * M @ np.where(SAME, P, 0)
    for _ in range(50):  # the spread of the others is what is sought
        seen = np.where(SAME, noise + others @ S @ others.T, 0)
        q = 2 * e * M + e**2 * M @ seen @ M
        S = np.linalg.solve(np.eye(D**2) - np.kron(a, a), q.ravel()).reshape(D, D)
    return S


@eqx.filter_jit
def moments(algorithm, target, key, center, burn, steps):
    """First and second moments around `center` of 64 chains that start there."""

    def chain(key):
        def body(i, loop):
            state, first, second = loop
            rows, move = jax.random.split(jax.random.fold_in(key, i))
            state, _ = algorithm.step(move, target.subsample(rows), state)
            u, on = algorithm.position(state) - center, (i >= burn) / steps
            return state, first + on * u, second + on * jnp.outer(u, u)

        begun = algorithm.init(key, target.at(center)), jnp.zeros(D), jnp.zeros((D, D))
        return jax.lax.fori_loop(0, burn + steps, body, begun)[1:]

    return jax.vmap(chain)(jax.random.split(key, 64))


@pytest.mark.parametrize("batch", [pytest.param(None, marks=pytest.mark.slow), 20])
def test_draws_are_the_product_nearest_to_the_posterior(batch):
    """Variances of the recursion, no correlation between groups, within 3.9 standard errors.

    20 comparisons at 0.1 % each. Wandering means add 2 r^2 / (e K (1 - r^2)) or so: 0.4 %, r = 0.5.
    """
    target, P = regression() if batch is None else location(batch)
    mean = np.linalg.solve(P, X.T @ Y / SIGMA**2 if batch is None else MIX.T @ MIX @ CENTERS.sum(0))
    noise = np.zeros((D, D))
    if batch is not None:
        noise = N**2 / batch * MIX.T @ MIX @ np.cov(CENTERS.T, ddof=0) @ MIX.T @ MIX
    e, best, posterior = 0.2, product_law(P), np.linalg.inv(P)
    canonical = np.abs(np.linalg.eigvals(np.eye(D) - best @ P)).max()
    assert 0.4 < canonical < 0.7
    expected = stationary(P, e, noise)
    assert np.diag(expected).max() > 1.1 * np.diag(best).max()
    algorithm = infer.StructuredSGMCMC(NAMES, memory=1000, step_size=e, covariance=best)
    key, center = jax.random.key(0), jnp.asarray(mean, float)
    first, second = moments(algorithm, target, key, center, 3000, 5000)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    found = np.asarray(second, float) / scale
    error = found.std(axis=0, ddof=1) / 8
    assert error.max() < 0.01
    rows, columns = np.triu_indices(D)
    miss = np.abs(found.mean(axis=0) - expected / scale)[rows, columns]
    assert (miss < 0.004 + 3.9 * error[rows, columns]).all(), miss / error[rows, columns]
    middle = np.asarray(first, float)
    assert (np.abs(middle.mean(axis=0)) < 3.9 * middle.std(axis=0, ddof=1) / 8).all()
    lost = posterior[~SAME] / np.sqrt(np.outer(np.diag(posterior), np.diag(posterior)))[~SAME]
    assert np.abs(lost).max() > 0.2  # which are 0 in the product


def test_a_step_by_hand(x64):
    """Every group among values of the others at times drawn for it; draws are composed of two."""
    target, P = regression()
    b = X.T @ Y / SIGMA**2
    e, key, M = 0.1, jax.random.key(3), np.linspace(0.01, 0.03, D)
    algorithm = infer.StructuredSGMCMC(NAMES, memory=4, step_size=e, covariance=M)
    z = np.array([1.0, -1.5, 0.7, 2.0, 0.3])
    state = algorithm.init(key, target.at(jnp.asarray(z)))
    past = np.random.default_rng(0).normal(size=(4, D))
    past[1] = z  # number 5 of the positions: the newest
    state = StructuredState(state.at, jnp.asarray(past), jnp.asarray(6, jnp.int32))
    new, info = eqx.filter_jit(algorithm.step)(key, target, state)
    key_past, key_noise = jax.random.split(key)
    when = np.asarray(jax.random.randint(key_past, (2, 2), 0, 4))
    first = b - P @ np.concatenate([z[:2], past[when[0, 1], 2:]])
    second = b - P @ np.concatenate([past[when[1, 0], :2], z[2:]])
    noise = np.asarray(jax.random.normal(key_noise, (D,)))
    moved = z + e * M * np.concatenate([first[:2], second[2:]]) + np.sqrt(2 * e * M) * noise
    np.testing.assert_allclose(new.at.position, moved, rtol=1e-10)
    np.testing.assert_allclose(new.past[2], moved, rtol=1e-10)
    draw = np.concatenate([moved[:2], past[0, 2:]])  # the second group two steps ago
    np.testing.assert_allclose(algorithm.position(new), draw, rtol=1e-10)
    np.testing.assert_allclose(info.loss, -target.log_prob(jnp.asarray(draw)), rtol=1e-10)
    assert info.gradients == 2 and new.count == 7


def test_one_group_is_sgld():
    target, key, z = location(20)[0], jax.random.key(2), jnp.linspace(-1.0, 1.0, D)
    rows = target.subsample(jax.random.key(1)).at(z)
    whole = infer.StructuredSGMCMC([["a", "b"]], memory=3, step_size=0.1, covariance=0.02)
    state = eqx.filter_jit(whole.init)(key, rows)
    plain = infer.SGLD(step_size=0.1, covariance=0.02)
    after = eqx.filter_jit(plain.step)(
        jax.random.split(key)[1], rows, eqx.filter_jit(plain.init)(key, rows)
    )[0]
    found = eqx.filter_jit(whole.step)(key, rows, state)[0]
    np.testing.assert_allclose(whole.position(found), plain.position(after), rtol=1e-5)


@pytest.mark.slow
def test_the_verdict_on_a_product():
    """Warm-up learns M; spreads are those of the product, and the scores see what is missing."""
    target, P = regression()
    result = infer.fit(target, infer.StructuredSGMCMC(), key=0, progress=False)
    assert result.verdict.status == "suspect"
    assert "the sd of a[0] is 0." in str(result.verdict)
    best = np.diag(product_law(P))
    np.testing.assert_allclose(result.z.var(axis=(0, 1)) / best, 1.05, atol=0.1)
    assert np.diag(np.linalg.inv(P))[0] > 1.3 * best[0]


def test_groups(unchecked):
    target, method = regression()[0], infer.StructuredSGMCMC
    for groups in (NAMES, [[0, 1], [2, 3, 4]], None):
        np.testing.assert_array_equal(membership(target, method(groups).groups), GROUP)
    assert membership(target, method([["a", 3], [2, 4]]).groups).tolist() == [0, 0, 1, 0, 1]
    for groups, message in (
        (["a", "b"], r"a list of lists.*\['a', 'b'\]; write groups="),
        ([["a"], []], "a list of lists"),
        ([["a"], ["c"]], r"'c' is neither a site, one of \['a', 'b'\]"),
        ([[0, 1], [2, 5]], "5 is neither.* 0 to 4; write groups="),
        ([["a"]], r"exactly one group, and 'b\[0\]' is in 0"),
        ([["a"], ["b", 1]], r"'a\[1\]' is in 2"),
    ):
        with pytest.raises(ValueError, match=message):
            infer.fit(target, method(groups), key=0)
    with pytest.raises(ValueError, match="memory >= 2, got 1"):
        method(memory=1)
    with pytest.raises(ValueError, match="StructuredSGMCMC"):
        method(step_size=2.0)
