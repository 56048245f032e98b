"""ProximalVI: its proximal step, its gradients, its fixed point and the noise it settles to."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow

import infer
from infer.gaussian.proximal import Parameters, ProximalVI, energy_gradient, prox_entropy

MEAN = np.array([3.0, -1.0, 0.5])
COVARIANCE = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 0.5]])


def log_density(x, data):
    mean, precision = data
    return -0.5 * (x - mean) @ precision @ (x - mean)


def gaussian(mean, covariance):
    data = jnp.asarray(mean, float), jnp.asarray(np.linalg.inv(covariance), float)
    return infer.from_log_density(log_density, jnp.zeros(len(mean)), data=data)


def logistic_density(x, data):
    rows, y = data
    eta = rows @ x
    return jnp.sum(y * eta - jax.nn.softplus(eta)) - 0.5 * x @ x


D, BEST = 10, 92.38592777  # -ELBO of the best Gaussian, without constants, by quadrature


def logistic_rows():
    rng = np.random.default_rng(0)
    truth, rows = rng.normal(size=D), rng.normal(size=(200, D))
    return rows, rng.uniform(size=200) < 1 / (1 + np.exp(-rows @ truth))


def logistic():
    data = tuple(jnp.asarray(x, float) for x in logistic_rows())
    return infer.from_log_density(logistic_density, jnp.zeros(D), data=data)


def gap(q):
    """-ELBO above the best Gaussian, by 40 Gauss-Hermite nodes along every row."""
    rows, y = logistic_rows()
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    center, spread = rows @ q.mean, jnp.linalg.norm(rows @ q.factor, axis=1)
    softplus = jax.nn.softplus(center[:, None] + spread[:, None] * nodes) @ (
        weights / weights.sum()
    )
    energy = jnp.sum(softplus) - y @ center + 0.5 * (q.mean @ q.mean + jnp.sum(q.factor**2))
    entropy = jnp.linalg.slogdet(q.factor)[1] + 0.5 * D * (1 + np.log(2 * np.pi))
    return energy - entropy - BEST


def holed(x, data):
    return jnp.where(x[0] > data["edge"], data["hole"], -0.5 * x @ x)


@eqx.filter_jit
def step(algorithm, key, target, state):
    return algorithm.step(key, target, state)


@eqx.filter_jit
def run(algorithm, target, key, steps):
    """The last state, and parameters before averaging with what each step showed."""

    def body(state, i):
        state, info = algorithm.step(jax.random.fold_in(key, i), target, state)
        return state, (state.q, info)

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))


@pytest.mark.parametrize("step", [1e-6, 0.01, 3.0])
@pytest.mark.parametrize("a", [-50.0, -0.3, 0.0, 0.2, 40.0])
def test_the_prox_minimizes(a, step, x64):
    c = float(prox_entropy(jnp.asarray(a), jnp.asarray(step)))
    assert c > 0

    def objective(c):
        return (c - a) ** 2 / (2 * step) - np.log(c)

    grid = np.geomspace(1e-9, 100, 200_001)
    values = objective(grid)
    np.testing.assert_allclose(c, grid[values.argmin()], rtol=1e-3)
    assert objective(c) <= values.min() + 1e-9 * abs(values.min())


def test_the_prox_stays_positive_in_float32():
    c = prox_entropy(jnp.asarray([-1.0, -1e3]), jnp.asarray(1e-9))
    np.testing.assert_allclose(c, [1e-9, 1e-12], rtol=1e-5)  # the plain root is 0


@pytest.mark.parametrize(
    "hessian, path", [(False, True), (True, False), *slow((False, False), (True, True))]
)
def test_gradients_are_unbiased(path, hessian, x64):
    """On a Gaussian: P (m - mean) and tril(P C); 20,000 draws, 9 comparisons at z < 4."""
    target, precision = gaussian(MEAN, COVARIANCE), np.linalg.inv(COVARIANCE)
    factor = jnp.array([[0.6, 0, 0], [-0.4, 0.9, 0], [0.2, 0.1, 1.3]])
    q = Parameters(jnp.array([2.0, 0.0, 0.0]), factor)

    @jax.jit
    def several(keys):
        return jax.vmap(lambda k: energy_gradient(k, target, q, 20, hessian, path)[0])(keys)

    found = several(jax.random.split(jax.random.key(3), 1000))
    expected = Parameters(precision @ (q.mean - MEAN), jnp.tril(precision @ factor))
    for x, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        error = np.abs(x.mean(axis=0) - want)
        assert (error <= 4 * x.std(axis=0) / np.sqrt(1000) + 1e-12).all()
        assert not np.triu(x[0], 1).any() or x.ndim == 2


@pytest.mark.parametrize("hessian", [False, True])
def test_the_posterior_is_a_fixed_point(hessian, x64, key):
    """With `path` no draw moves it, at any step size; the loss is -log Z without noise."""
    target = gaussian(MEAN, COVARIANCE)
    algorithm = ProximalVI(path=True, hessian=hessian, step_size=0.3)
    exact = Parameters(jnp.asarray(MEAN), jnp.linalg.cholesky(jnp.asarray(COVARIANCE)))
    state = eqx.tree_at(lambda s: s.q, algorithm.init(key, target), exact)
    after, info = step(algorithm, key, target, state)
    np.testing.assert_allclose(after.q.mean, exact.mean, atol=1e-12)
    np.testing.assert_allclose(after.q.factor, exact.factor, atol=1e-12)
    log_z = 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1]
    np.testing.assert_allclose(info.loss, -log_z, rtol=1e-12)


def test_a_fixed_step_finds_a_gaussian(x64, key):
    algorithm = ProximalVI(path=True, step_size=0.2)
    state, _ = run(algorithm, gaussian(MEAN, COVARIANCE), key, 1000)
    q = algorithm.posterior(state)
    np.testing.assert_allclose(q.mean, MEAN, atol=1e-6)
    np.testing.assert_allclose(q.covariance, COVARIANCE, atol=1e-6)


def test_step_sizes_are_those_of_dowg(x64, key):
    target, algorithm = gaussian(MEAN, COVARIANCE), ProximalVI()
    state = algorithm.init(key, target)
    reach, total = 1e-6 * (1 + np.sqrt(np.sum(state.q.mean**2) + 3 * 0.01)), 0.0
    first = state.q
    for i in range(4):
        move = jax.random.fold_in(key, i)
        gradient, *_ = energy_gradient(move, target, state.q, 8, False, False)
        flat = jax.flatten_util.ravel_pytree
        reach = max(reach, np.linalg.norm(flat(state.q)[0] - flat(first)[0]))
        total += reach**2 * np.sum(flat(gradient)[0] ** 2)
        state, info = step(algorithm, move, target, state)
        np.testing.assert_allclose(info.stats["step_size"], reach**2 / np.sqrt(total), rtol=1e-10)


def test_the_average_is_weighted_towards_the_end(x64, key):
    algorithm, target = ProximalVI(step_size=0.1), gaussian(MEAN, COVARIANCE)
    state, (path, _) = run(algorithm, target, key, 30)
    average = np.zeros(3)
    for t, mean in enumerate(np.asarray(path.mean)):
        average += 9 / (t + 9) * (mean - average)
    np.testing.assert_allclose(algorithm.posterior(state).mean, average, rtol=1e-10)


@pytest.mark.parametrize("settings", [{}, {"hessian": True}])
def test_draws_without_a_density_are_left_out(settings, key):
    algorithm = ProximalVI(**settings)
    for hole in (jnp.nan, -jnp.inf):
        for edge in (0.0, -1e9):
            data = {"hole": jnp.asarray(hole), "edge": jnp.asarray(edge)}
            target = infer.from_log_density(holed, jnp.zeros(3), data=data)
            state = algorithm.init(key, target.at(jnp.zeros(3)))
            after, info = step(algorithm, key, target, state)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
            if edge < 0:
                assert info.stats["rejected"] == 8 and np.isnan(info.loss)
                assert eqx.tree_equal(after, state)
            else:
                assert 0 < info.stats["rejected"] < 8 and np.isfinite(info.loss)
                assert not eqx.tree_equal(after.q, state.q)


def test_a_new_step_size_compiles_nothing(key):
    traces, target = [], gaussian(MEAN, COVARIANCE)

    @jax.jit
    def step(algorithm, state):
        traces.append(0)
        return algorithm.step(key, target, state)[0]

    for rate in (0.1, 0.2):
        algorithm = ProximalVI(step_size=rate, init_scale=rate)
        state = algorithm.init(key, target)
        for _ in range(2):
            state = step(algorithm, state)
    assert len(traces) == 1


@pytest.mark.parametrize("settings, most", [({"hessian": True}, 0.005), *slow(({}, 0.02))])
def test_gap_of_a_logistic_regression(settings, most, x64, key):
    """4000 steps from a random start."""
    algorithm = ProximalVI(**settings)
    start = logistic().initial(key)
    state, _ = run(algorithm, logistic().at(start), key, 4000)
    assert 0 < gap(algorithm.posterior(state)) < most


@pytest.mark.parametrize("name", ["logistic", *slow("Gaussian")])
def test_fits_by_default(name):
    factor = np.random.default_rng(1).normal(size=(5, 5))
    target = gaussian(np.ones(5), factor @ factor.T) if name == "Gaussian" else logistic()
    result = infer.fit(target, ProximalVI(), key=0, progress=False)
    assert result.verdict.status == "ok", result.verdict
    assert result.posterior.mean.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings, n, reported",
    [
        ({"hessian": True}, 1, 0.091),
        ({}, 1, 0.79),
        ({"path": True}, 1, 0.011),
        ({"hessian": True}, 10, 0.010),
        ({}, 10, 0.071),
        ({"path": True}, 10, 0.0010),
    ],
)
def test_noise_floor_at_a_fixed_step(settings, n, reported, x64, key):
    """Mean gap before averaging at step 0.1 / smoothness, 3 runs: within a factor of 1.6."""
    rows, _ = logistic_rows()
    smoothness = np.linalg.eigvalsh(rows.T @ rows)[-1] / 4 + 1
    algorithm = ProximalVI(n_samples=n, step_size=0.1 / smoothness, init_scale=1.0, **settings)
    target = logistic().at(jnp.zeros(D))

    def one(key):
        q = run(algorithm, target, key, 4000)[1][0]
        return jnp.mean(jax.vmap(gap)(jax.tree.map(lambda x: x[-1000::10], q)))

    found = jnp.mean(jax.lax.map(one, jax.random.split(key, 3)))
    assert reported / 1.6 < found < reported * 1.6


def test_wrong_use():
    for wrong in (0, 2.5, True):
        with pytest.raises((TypeError, ValueError), match="n_samples"):
            ProximalVI(n_samples=wrong)
    with pytest.raises(ValueError, match="step_size must be > 0"):
        ProximalVI(step_size=-0.1)
    with pytest.raises((TypeError), match="hessian"):
        ProximalVI(hessian=1)
    with pytest.raises((TypeError), match="path"):
        ProximalVI(path="yes")
