"""Directions with a metric, against their definitions by autodiff and loops."""

from collections import deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow

import infer
from infer.particles.curvature import divergence

N, D = 5, 3
COVARIANCE = np.array([[1.0, 0.6, -0.2], [0.6, 2.0, 0.3], [-0.2, 0.3, 0.5]])
PRECISION = np.linalg.inv(COVARIANCE)
MEAN = np.array([20.0, -3.0, 0.5])
ONE = infer.optimizer(optax.sgd, learning_rate=1.0)
METHODS = {
    "MatrixSVGD": infer.MatrixSVGD,
    "MixtureSVGD": infer.MixtureSVGD,
    "SVN": infer.SVN,
    "SVNG": infer.SVNG,
}


def bent(x, data):
    """Log-concave, skew and not Gaussian, in the coordinates `map x + shift`."""
    y = data["map"] @ x + data["shift"]
    return -0.5 * y @ data["precision"] @ y - jnp.sum(jnp.exp(0.4 * y)) + jnp.sum(y)


def target(map=None, shift=None, precision=PRECISION):
    data = {
        "map": np.eye(len(precision)) if map is None else map,
        "shift": np.zeros(len(precision)) if shift is None else shift,
        "precision": precision,
    }
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), data)
    return infer.from_log_density(bent, jnp.zeros(len(precision)), data=data)


def wavy(x, data):
    """Its Hessian changes sign from place to place."""
    return -0.05 * jnp.sum(x**2) + jnp.sum(jnp.cos(data["turn"] @ x)) + 0.3 * x[0] * x[1]


def wavy_target():
    turn = jax.random.normal(jax.random.key(8), (D, D))
    return infer.from_log_density(wavy, jnp.zeros(D), data={"turn": turn})


def quadratic(x, data):
    return -0.5 * (x - data["mean"]) @ data["precision"] @ (x - data["mean"])


def gaussian(mean=MEAN, covariance=COVARIANCE):
    data = {"mean": jnp.asarray(mean, float), "precision": jnp.asarray(np.linalg.inv(covariance))}
    data = jax.tree.map(lambda leaf: leaf.astype(float), data)
    return infer.from_log_density(quadratic, jnp.zeros(len(mean)), data=data)


def log_logistic(eta, y):
    return y * eta - jax.nn.softplus(eta)


def logistic(seed=0, rows=20):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows).astype(float)
    options = {"prior_scale": [1.0, 2.0, 0.7], "prior_mean": 0.3, "offset": rng.normal(size=rows)}
    return infer.from_glm(rng.normal(size=(rows, D)), y, log_logistic, **options)


class Curved(eqx.Module):
    """A metric that is the Hessian of nothing."""

    tilt: jax.Array

    def __call__(self, z):
        a = jnp.sin(self.tilt @ z)
        return jnp.diag(1 + 0.5 * jnp.cos(z[::-1]) + z**2) + jnp.outer(a, a)


def curved():
    return Curved(jax.random.normal(jax.random.key(3), (D, D)))


def points(n=N, offset=2.0):
    return offset + jax.random.normal(jax.random.key(1), (n, D))


@eqx.filter_jit
def step(algorithm, problem):
    key = jax.random.key(0)
    return algorithm.step(key, problem, algorithm.init(key, problem))


def direction(cls, problem, x, **settings):
    algorithm = cls(n_particles=len(x), start=x, optimizer=ONE, **settings)
    state, info = step(algorithm, problem)
    hessians = 0 if problem.linear is not None or settings.get("metric") else D * len(x)
    assert info.gradients == len(x) + (0 if cls is infer.SVGD else hessians)
    return state.particles - x


def absolute(matrix):
    lam, vectors = np.linalg.eigh(matrix)
    return (vectors * np.abs(lam)) @ vectors.T


@eqx.filter_jit
def pairs(x, kernel, matrix):
    """k(x_j, x_i) and its gradient in x_j at [j, i], by autodiff."""

    def k(x, y):
        return kernel.value((x - y) @ matrix @ (x - y))

    both = jax.vmap(jax.vmap(jax.value_and_grad(k), (None, 0)), (0, None))
    return both(x, x)


def stein(score, k, grad):
    n = len(score)
    pull = [[k[j, i] * score[j] + grad[j, i] for j in range(n)] for i in range(n)]
    return np.mean(pull, axis=1)


@eqx.filter_jit
def parts(problem, x):
    """Scores and negative Hessians."""
    score = jax.vmap(jax.grad(problem.log_prob))(x)
    return score, -jax.vmap(jax.hessian(problem.log_prob))(x)


CASES = pytest.mark.parametrize(
    "make, kernel_type",
    [(target, infer.RBF), (wavy_target, infer.IMQ), *slow((logistic, infer.IMQ))],
)


# The definitions -------------------------------------------------------------------------------


@CASES
def test_matrix_svgd_is_its_definition(make, kernel_type, x64):
    problem, x, kernel = make(), points(), kernel_type(bandwidth=1.3)
    score, curvature = parts(problem, x)
    q = np.mean([absolute(h) for h in curvature], axis=0)
    phi = stein(score, *pairs(x, kernel, q))
    expected = [np.linalg.solve(q, v) for v in phi]
    found = direction(infer.MatrixSVGD, problem, x, kernel=kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@CASES
def test_mixture_svgd_is_its_definition(make, kernel_type, x64):
    """(1/n) sum_j [ K(x_i, x_j) s_j + div_j K(x_i, x_j) ] of the matrix kernel, by autodiff."""
    problem, x, kernel, local = make(), points(), kernel_type(bandwidth=1.3), 0.7
    score, curvature = parts(problem, x)
    bends = np.array([absolute(h) for h in curvature])
    q = 0.3 * bends.mean(axis=0) + local * bends

    def share(z):
        p = jax.scipy.stats.multivariate_normal.pdf
        each = jnp.stack([p(z, x[k], np.linalg.inv(q[k])) for k in range(N)])
        return each / jnp.sum(each)

    def matrix_kernel(a, b):
        r = jnp.stack([(a - b) @ q[k] @ (a - b) for k in range(N)])
        return jnp.einsum("l,l,l,lab->ab", share(a), share(b), kernel.value(r), np.linalg.inv(q))

    def term(a, b, s):
        rows = jax.jacfwd(matrix_kernel, argnums=1)(a, b)
        return matrix_kernel(a, b) @ s + jnp.trace(rows, axis1=1, axis2=2)

    each = jax.jit(jax.vmap(jax.vmap(term, (None, 0, 0)), (0, None, None)))(x, x, score)
    found = direction(infer.MixtureSVGD, problem, x, kernel=kernel, local=local)
    np.testing.assert_allclose(found, each.mean(axis=1), rtol=1e-8, atol=1e-11)


@CASES
def test_svn_is_its_definition(make, kernel_type, x64):
    problem, x, kernel = make(), points(), kernel_type(bandwidth=1.3)
    score, curvature = parts(problem, x)
    bends = [absolute(h) for h in curvature]
    k, grad = (np.asarray(part) for part in pairs(x, kernel, np.mean(bends, axis=0)))
    phi = stein(score, k, grad)
    expected = []
    for i in range(N):
        hessian = np.zeros((D, D))
        for j in range(N):
            g = grad[j, i]
            hessian += (k[j, i] ** 2 * bends[j] + np.outer(g, g)) / N
        expected.append(np.linalg.solve(hessian, phi[i]))
    found = direction(infer.SVN, problem, x, kernel=kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def divergence_by_autodiff(metric, z):
    return jnp.einsum("ijj->i", jax.jacfwd(lambda z: jnp.linalg.inv(metric(z)))(z))


def by_definition(problem, metric, x, kernel, keep):
    """The direction of SVNG."""
    score, _ = parts(problem, x)
    k, grad = (np.asarray(part) for part in pairs(x, kernel, np.eye(D)))
    g = np.asarray(jax.vmap(metric)(x))
    inverse = np.linalg.inv(g)
    c = jax.vmap(lambda z: divergence_by_autodiff(metric, z))(x)
    a = [inverse[j] @ score[j] for j in range(N)]
    m = np.zeros((N, D))
    for i in range(N):
        for j in range(N):
            m[i] += (k[j, i] * (a[j] + c[j]) + inverse[j] @ grad[j, i]) / N
    lam, vectors = np.linalg.eigh(k)
    kept, total = [], 0.0
    for i in range(N)[::-1]:
        if total < keep * N:
            kept.append(i)
        total += lam[i]
    lam, vectors = lam[kept], vectors[:, kept]
    half, pseudo = (vectors * lam**0.5) @ vectors.T, (vectors * lam**-0.5) @ vectors.T
    pulled = pseudo @ m
    mixed = half @ np.stack([g[i] @ pulled[i] for i in range(N)])
    return np.stack([inverse[i] @ mixed[i] for i in range(N)])


@pytest.mark.parametrize("kernel_type, keep", [(infer.RBF, 0.8), (infer.IMQ, 0.9999)])
def test_svng_is_its_definition(kernel_type, keep, x64):
    problem, x, metric = wavy_target(), points(), curved()
    kernel = kernel_type(bandwidth=1.3)
    found = direction(infer.SVNG, problem, x, kernel=kernel, keep=keep, metric=metric)
    expected = by_definition(problem, metric, x, kernel, keep)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_svng_takes_the_fisher_information_of_a_declared_model(x64):
    problem, x, kernel = logistic(), points(offset=0.5), infer.IMQ(bandwidth=1.5)
    found = direction(infer.SVNG, problem, x, kernel=kernel)
    expected = by_definition(problem, infer.fisher_metric(problem), x, kernel, 0.98)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_svng_with_a_constant_metric_is_preconditioned_svgd(x64):
    x, kernel = points(n=9), infer.IMQ(bandwidth=1.0)
    options = {"kernel": kernel, "keep": 1 - 1e-12}
    for problem in (gaussian(MEAN), target()):
        svgd = direction(infer.SVGD, problem, x, kernel=kernel)
        flat = direction(infer.SVNG, problem, x, metric=lambda z: jnp.eye(D), **options)
        np.testing.assert_allclose(flat, svgd, rtol=1e-8)
        straight = direction(infer.SVNG, problem, x, metric=lambda z: PRECISION, **options)
        np.testing.assert_allclose(straight, svgd @ COVARIANCE, rtol=1e-8)
    found = direction(infer.SVNG, gaussian(MEAN), x, **options)  # its Hessian is PRECISION
    svgd = direction(infer.SVGD, gaussian(MEAN), x, kernel=kernel)
    np.testing.assert_allclose(found, svgd @ COVARIANCE, rtol=1e-8)


def test_the_divergence_of_an_inverse_metric(x64):
    z = points()[0]
    for metric in (curved(), infer.fisher_metric(logistic())):
        expected = divergence_by_autodiff(metric, z)
        assert jnp.max(jnp.abs(expected)) > 1e-3
        inverse = jnp.linalg.inv(metric(z))
        np.testing.assert_allclose(divergence(metric, z, inverse), expected, rtol=1e-10)


def test_the_fisher_metric_of_a_logistic_regression_is_its_hessian(x64):
    problem = logistic()
    metric = infer.fisher_metric(problem)
    for z in points():
        hessian = -jax.hessian(problem.log_prob)(z)
        np.testing.assert_allclose(metric(z), hessian, rtol=1e-12, atol=1e-12)


# What follows from them ------------------------------------------------------------------------


@pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)
def test_one_particle_takes_a_newton_step(cls, x64):
    """And is at the mode of a Gaussian after one."""
    x = points(n=1)
    np.testing.assert_allclose(x + direction(cls, gaussian(), x), MEAN[None], rtol=1e-10)
    problem = target()
    score, curvature = parts(problem, x)
    newton = np.linalg.solve(curvature[0], score[0])
    np.testing.assert_allclose(direction(cls, problem, x)[0], newton, rtol=1e-9)


@pytest.mark.parametrize("cls", [infer.SVN, *slow(infer.MatrixSVGD, infer.MixtureSVGD)])
def test_a_linear_map_of_the_parameters_changes_nothing(cls, x64):
    """With y = A x + b for a map of condition 1e3: the steps are those in y, mapped back."""
    rng = np.random.default_rng(2)
    turn, scales = np.linalg.qr(rng.normal(size=(D, D)))[0], np.diag([1.0, 0.03, 1e-3])
    a, b = turn @ scales @ np.array([[1, 0.5, 0.1], [0, 1, -0.4], [0, 0, 1]]), rng.normal(size=D)
    y = points(n=8)
    x = np.linalg.solve(a, (y - b).T).T
    plain, mapped = direction(cls, target(), y), direction(cls, target(a, b), jnp.asarray(x))
    np.testing.assert_allclose(mapped @ a.T, plain, rtol=1e-6, atol=1e-9)


def test_no_curvature_leaves_plain_svgd(x64):
    problem = infer.from_log_density(lambda x: x[0] - 2 * x[2], jnp.zeros(D))
    x, kernel = points(), infer.IMQ(bandwidth=1.3)
    svgd = direction(infer.SVGD, problem, x, kernel=kernel)
    for cls in (infer.MatrixSVGD, infer.SVNG):
        settings = {"kernel": kernel} | ({"keep": 1 - 1e-12} if cls is infer.SVNG else {})
        np.testing.assert_allclose(direction(cls, problem, x, **settings), svgd, rtol=1e-8)


@pytest.mark.parametrize("cls", [infer.SVN, *slow(infer.MatrixSVGD, infer.MixtureSVGD, infer.SVNG)])
def test_new_data_compile_nothing(cls):
    traces = deque()  # a list would be read as data

    @eqx.filter_jit
    def move(algorithm, problem):
        traces.append(0)
        state = algorithm.init(jax.random.key(0), problem)
        return algorithm.step(jax.random.key(0), problem, state)[0].particles

    first, second = logistic(seed=0), logistic(seed=1)
    moved = [
        move(cls(n_particles=4, optimizer=ONE, metric=infer.fisher_metric(other)), problem)
        for problem, other in ((first, first), (second, first), (first, second))
    ]
    assert len(traces) == 1
    assert np.ptp(moved, axis=0).max() > 1e-3


@pytest.mark.slow
def test_a_mixture_finds_two_modes_of_different_shape(x64):
    """Correlations 0.95 and -0.95 six apart: one curvature for all loses a mode."""
    away, tilt = jnp.array([3.0, 0.0]), jnp.array([[1.0, 0.95], [0.95, 1.0]])
    first, second = jnp.linalg.inv(tilt), jnp.linalg.inv(tilt * jnp.array([[1, -1], [-1, 1]]))

    def two(z):
        a, b = z - away, z + away
        return jnp.logaddexp(-0.5 * a @ first @ a, -0.5 * b @ second @ b)

    problem = infer.from_log_density(two, jnp.zeros(2))
    x = np.asarray(run(infer.MixtureSVGD(n_particles=50, init_scale=2.0), problem, 1000))
    right = x[:, 0] > 0
    assert 10 <= right.sum() <= 40
    for side, sign in ((x[right], 1), (x[~right], -1)):
        np.testing.assert_allclose(side.mean(axis=0), [3 * sign, 0], atol=0.2)
        assert sign * np.corrcoef(side.T)[0, 1] > 0.9
    lost = np.asarray(run(infer.MatrixSVGD(n_particles=50, init_scale=2.0), problem, 1000))
    assert (lost[:, 0] > 0).mean() in (0.0, 1.0)


def test_wrong_use():
    with pytest.raises(ValueError, match=r"fisher_metric needs .*from_glm.*metric="):
        infer.fisher_metric(gaussian())
    for name, cls in METHODS.items():
        with pytest.raises(ValueError, match=rf"{name} needs a metric that returns a \(3, 3\)"):
            infer.fit(gaussian(), cls(metric=lambda z: z), key=0)
        with pytest.raises(TypeError, match="metric"):
            infer.fit(gaussian(), cls(metric=1.0), key=0)


@pytest.mark.parametrize("cls, steps", [(infer.SVN, 60), *slow((infer.MatrixSVGD, 200))])
def test_a_condition_of_ten_thousand_takes_few_steps(cls, steps, x64):
    """Means within 0.02 sd and every sd within 10 %, where SVGD is not there after 5000 steps."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
    widths = np.array([1.0, 0.1, 0.01])
    problem = gaussian(MEAN / 10, (turn * widths**2) @ turn.T)
    x = run(cls(n_particles=40), problem, steps)
    u = (x - MEAN / 10) @ turn / widths
    assert np.abs(u.mean(axis=0)).max() < 0.02
    assert np.abs(u.std(axis=0) - 1).max() < 0.1


@eqx.filter_jit
def run(algorithm, problem, steps):
    key = jax.random.key(0)

    def body(_, state):
        return algorithm.step(key, problem, state)[0]

    return jax.lax.fori_loop(0, steps, body, algorithm.init(key, problem)).particles
