"""Layers of flows and the families made of them, against dense autodiff and known densities."""

from statistics import NormalDist
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from marks import slow

import infer
from infer.families import CholeskyGaussian, DiagonalGaussian, LowRankGaussian
from infer.flows import (
    AbstractLayer,
    Chain,
    Elementwise,
    RationalQuadratic,
    RealNVP,
    Reverse,
    SoftAffine,
    SplineFlow,
    Stack,
    Triangular,
)
from infer.flows.coupling import AbstractTransform, coupling
from infer.flows.linear import triangular

SLOW = pytest.mark.slow  # splines take long to compile
D = 5  # odd: the halves of a coupling have 2 and 3 coordinates


def moved(thing, key, scale=0.5):
    """With noise on every leaf."""
    flat, back = ravel_pytree(eqx.filter(thing, eqx.is_inexact_array))
    noise = scale * jax.random.normal(key, flat.shape, flat.dtype)
    return eqx.combine(back(flat + noise), eqx.filter(thing, eqx.is_inexact_array, inverse=True))


def affine(key, d=D):
    return coupling(key, jnp.zeros(d), SoftAffine(1.5), width=6, depth=2)


def spline(key, d=D):
    return coupling(key, jnp.zeros(d), RationalQuadratic(4, 2.0), width=6, depth=1)


def stack(make, n=3):
    def layer(key):
        return Chain((triangular(jnp.zeros(D)), make(key), Reverse()))

    return Stack(eqx.filter_vmap(layer)(jax.random.split(jax.random.key(3), n)))


LAYERS = {
    "elementwise": lambda key: Elementwise(jnp.zeros(D), jnp.zeros(D)),
    "triangular": lambda key: triangular(jnp.zeros(D)),
    "reverse": lambda key: Reverse(),
    "affine": affine,
    "affine in one dimension": lambda key: affine(key, 1),
    "spline": spline,
}
STACKS = {
    "stack of affine": lambda key: stack(affine),
    "stack of spline": lambda key: stack(spline),
}
FIRST = LAYERS | STACKS


def layer_of(name, scale=0.5) -> AbstractLayer:
    def make(a, b):
        return moved(FIRST[name](a), b, scale)

    return eqx.filter_jit(make)(jax.random.key(1), jax.random.key(2))


def points(name, n=7):
    """About as many coordinates inside the box of the splines as outside."""
    d = 1 if "one" in name else D
    return 0.3 + 2 * jax.random.normal(jax.random.key(4), (n, d))


@eqx.filter_jit
def by_hand(layer, x, score):
    """Image, log determinant and score by a dense Jacobian of `forward` and its derivative."""

    def log_det(x):
        return jnp.linalg.slogdet(jax.jacfwd(lambda x: layer.forward(x)[0])(x))[1]

    def one(x, s):
        jacobian = jax.jacfwd(lambda x: layer.forward(x)[0])(x)
        value, gradient = jax.value_and_grad(log_det)(x)
        return layer.forward(x)[0], value, jnp.linalg.solve(jacobian.T, s - gradient)

    return jax.vmap(one)(x, score)


@eqx.filter_jit
def through(layer, x, score):
    return jax.vmap(layer.push)(x, score), jax.vmap(layer.forward)(x)


@eqx.filter_jit
def back(layer, y):
    return jax.vmap(layer.inverse)(y)


@pytest.mark.parametrize("name", LAYERS)
def test_push_is_dense_autodiff_and_inverse_is_the_inverse(name, x64):
    layer, x = layer_of(name), points(name)
    score = jax.random.normal(jax.random.key(5), x.shape)
    (y, log_det, pushed), (same_y, same_log_det) = through(layer, x, score)
    expected_y, expected_log_det, expected = by_hand(layer, x, score)
    np.testing.assert_array_equal(y, same_y)
    np.testing.assert_array_equal(log_det, same_log_det)
    np.testing.assert_allclose(y, expected_y, rtol=1e-13)
    np.testing.assert_allclose(log_det, expected_log_det, atol=1e-10)
    np.testing.assert_allclose(pushed, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    x_again, minus = back(layer, y)
    np.testing.assert_allclose(x_again, x, atol=1e-10)
    np.testing.assert_allclose(minus, -log_det, atol=1e-10)
    if name != "reverse":
        assert np.abs(y - x).max() > 0.01 and np.abs(log_det).max() > 0.01


@eqx.filter_jit
def by_inverse(layer, y):
    """Log density and score at y = T(x), x ~ N(0, I), by autodiff of the inverse."""

    def log_q(y):
        x, log_det = layer.inverse(y)
        return -0.5 * jnp.sum(x**2) + log_det

    return jax.vmap(jax.value_and_grad(log_q))(y)


@eqx.filter_jit
def dense_log_det(layer, x):
    jacobian = jax.vmap(jax.jacfwd(lambda x: layer.forward(x)[0]))(x)
    return jnp.linalg.slogdet(jacobian)[1]


@pytest.mark.parametrize("name", ["stack of affine", pytest.param("stack of spline", marks=SLOW)])
def test_push_through_a_stack_is_autodiff_through_its_inverse(name, x64):
    layer, x = layer_of(name), points(name)
    (y, log_det, pushed), _ = through(layer, x, -x)
    log_q, score = by_inverse(layer, y)
    np.testing.assert_allclose(log_det, dense_log_det(layer, x), atol=1e-10)
    np.testing.assert_allclose(log_q, -0.5 * np.sum(x**2, axis=1) - log_det, rtol=1e-10)
    np.testing.assert_allclose(pushed, score, rtol=1e-10, atol=1e-10 * np.abs(score).max())
    np.testing.assert_allclose(back(layer, y)[0], x, atol=1e-10)


@pytest.mark.parametrize("name", ["stack of affine", pytest.param("stack of spline", marks=SLOW)])
def test_single_precision(name):
    layer, x = layer_of(name, 0.1), points(name)
    (y, log_det, score), _ = through(layer, x, jnp.ones_like(x))
    assert y.dtype == log_det.dtype == score.dtype == jnp.float32
    x_again, minus = back(layer, y)
    np.testing.assert_allclose(x_again, x, atol=1e-4)
    np.testing.assert_allclose(minus, -log_det, atol=1e-4)
    with jax.enable_x64(True):  # the same layer and points, exactly
        wide = jax.tree.map(lambda a: a.astype(float), (layer, x, jnp.ones_like(x)))
        expected = through(*wide)[0]
    np.testing.assert_allclose(score, expected[2], rtol=1e-4, atol=1e-4)


@eqx.filter_jit
def forward(layer, x):
    return layer.forward(x)


def test_a_stack_is_its_layers_one_after_another(x64):
    layers: Any = layer_of("stack of affine")
    singly = Chain(tuple(jax.tree.map(lambda a, i=i: a[i], layers.layer) for i in range(3)))
    x = points("stack of affine")
    (y, log_det), (expected_y, expected) = (forward(one, x[0]) for one in (layers, singly))
    np.testing.assert_allclose(y, expected_y, rtol=1e-11)
    np.testing.assert_allclose(log_det, expected, rtol=1e-11)


# Splines --------------------------------------------------------------------------------------


@eqx.filter_jit
def derivatives(transform, t, h):
    """Values, log slopes, and gradients of both in t and in h, point by point."""

    def total(pair):
        y, log_slope = transform.forward(*pair)
        return jnp.sum(y + 0.3 * log_slope)

    return *transform.forward(t, h), *jax.grad(total)((t, h))


@pytest.mark.parametrize(
    "precision, bound", [("float32", 5.0), ("float64", 2.0)], indirect=["precision"]
)
def test_a_spline_at_and_beyond_the_edges_of_its_box(bound, precision):
    far = np.finfo(precision).max ** 0.5
    edge = np.asarray(bound, precision)
    inner, outer = np.nextafter(edge, 0, dtype=precision), np.nextafter(edge, 99, dtype=precision)
    t = np.array([edge, inner, outer, 1e6, far, np.inf])
    t = jnp.asarray(np.concatenate([-t, t]), precision)
    transform = RationalQuadratic(6, bound)
    h = 2 * jax.random.normal(jax.random.key(0), (len(t), transform.settings), precision)
    y, log_slope, in_t, in_h = derivatives(transform, t, h)
    beyond = np.abs(t) >= bound
    np.testing.assert_array_equal(y[beyond], t[beyond])
    np.testing.assert_array_equal(log_slope[beyond], 0)
    np.testing.assert_array_equal(in_t[beyond], 1)
    np.testing.assert_array_equal(in_h[beyond], 0)
    assert all(np.isfinite(v[~beyond]).all() for v in (y, log_slope, in_t, in_h))
    np.testing.assert_allclose(y[~beyond], t[~beyond], rtol=1e-5)
    np.testing.assert_allclose(log_slope[~beyond], 0, atol=2e-4)  # slope one from inside as well
    x, minus = jax.jit(transform.inverse)(y, h)
    np.testing.assert_allclose(x, t, rtol=1e-5)
    np.testing.assert_allclose(minus, -log_slope, atol=2e-4)


@pytest.fixture(params=["float32", *slow("float64")])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def test_a_spline_passes_through_its_knots_with_its_slopes(x64):
    """Also where a point falls on a knot exactly; between them it rises."""
    transform = RationalQuadratic(5, 3.0)
    h = 1.5 * jax.random.normal(jax.random.key(1), (1, transform.settings))
    lefts, bottoms, slopes = jax.jit(transform._knots)(h)
    forward = jax.jit(jax.vmap(lambda t: transform.forward(t[None], h)))
    y, log_slope = forward(lefts[0])
    np.testing.assert_allclose(y[:, 0], bottoms[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(jnp.exp(log_slope[:, 0]), slopes[0], rtol=1e-12)
    assert slopes[0, 0] == slopes[0, -1] == 1 and np.abs(slopes[0, 1:-1] - 1).max() > 0.5
    assert (np.diff(forward(jnp.linspace(-3.5, 3.5, 1001))[0][:, 0]) > 0).all()


@pytest.mark.parametrize("transform", [SoftAffine(), RationalQuadratic()])
def test_settings_of_zero_are_the_identity(transform, precision):
    t = jnp.linspace(-6, 6, 50, dtype=precision)
    h = jnp.zeros((50, transform.settings), precision)
    y, log_slope = jax.jit(transform.forward)(t, h)
    tolerance = 1e-5 if precision == "float32" else 1e-13
    np.testing.assert_allclose(y, t, atol=tolerance)
    np.testing.assert_allclose(log_slope, 0, atol=tolerance)


# Families -------------------------------------------------------------------------------------

# Made inside tests: the precision of `scale` is that of the time.
SMALL = {
    "RealNVP": lambda: RealNVP(n_layers=4, width=6, scale=0.7),
    "RealNVP, linear": lambda: RealNVP(n_layers=3, width=6, linear=True, scale=0.7),
    "SplineFlow": lambda: SplineFlow(n_layers=2, width=6, bins=4, bound=2.0, scale=0.7),
}


@pytest.mark.parametrize(
    "precision, d, name",
    [
        ("float32", 5, "RealNVP"),
        pytest.param("float64", 2, "RealNVP, linear", marks=SLOW),
        pytest.param("float64", 5, "SplineFlow", marks=SLOW),
        pytest.param("float64", 1, "SplineFlow", marks=SLOW),
    ],
    indirect=["precision"],
)
def test_the_first_member_is_a_gaussian_at_the_start(precision, d, name):
    start = jnp.arange(d) - 3.0
    q = eqx.filter_jit(SMALL[name]().init)(jax.random.key(0), start)
    assert all(leaf.dtype == precision for leaf in jax.tree.leaves(q))
    draws = eqx.filter_jit(lambda q: q.sample_score(jax.random.key(1), 50))(q)
    tolerance = 2e-4 if precision == "float32" else 1e-11
    log_q = jax.scipy.stats.norm.logpdf(draws.x, start, 0.7).sum(axis=1)
    np.testing.assert_allclose(draws.log_q, log_q, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(draws.score, (start - draws.x) / 0.49, atol=tolerance)
    assert abs(np.mean(draws.x - start)) < 0.5 and q.moments() is None


def mean_score_of_parameters(q, n=4000):
    """z of the mean of d log q(x) / d parameters over draws x of q, constants apart."""

    def one(q, x):
        return ravel_pytree(jax.grad(lambda q: q.log_prob(x))(q))[0]

    def gradients(q):
        return jax.lax.map(lambda x: one(q, x), q.sample(jax.random.key(6), n), batch_size=500)

    g = np.asarray(jax.jit(gradients)(q))
    g = g[:, g.std(axis=0) > 1e-12]
    return g.mean(axis=0) / g.std(axis=0) * n**0.5


def limit(z):
    """Exceeded by the largest of these |z| with probability 1/1000, if their means are zero."""
    return NormalDist().inv_cdf(1 - 0.0005 / len(z))


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=SLOW) for n in ("RealNVP", "RealNVP, linear")), "SplineFlow"]
)
def test_what_the_path_gradient_leaves_out_has_mean_zero(name, x64):
    """E_q[d log q / d parameters] = 0 holds if q is continuous in x; 4000 draws."""
    first = eqx.filter_jit(SMALL[name]().init)(jax.random.key(0), jnp.ones(3))
    q = moved(first, jax.random.key(1), 0.3)
    z = mean_score_of_parameters(q)
    assert len(z) > 100 and np.abs(z).max() < limit(z)


class Jumping(AbstractTransform):
    """tau = sinh(a t) / sinh(a) on (-1, 1), the identity outside: its slope jumps at the edges."""

    @property
    def settings(self):
        return 1

    def forward(self, t, h):
        a, inside = 2 + h[:, 0], jnp.abs(t) < 1
        t_in = jnp.where(inside, t, 0)
        log_slope = jnp.log(a * jnp.cosh(a * t_in) / jnp.sinh(a))
        y = jnp.sinh(a * t_in) / jnp.sinh(a)
        return jnp.where(inside, y, t), jnp.where(inside, log_slope, 0)

    def inverse(self, y, h):
        a, inside = 2 + h[:, 0], jnp.abs(y) < 1
        t = jnp.where(inside, jnp.arcsinh(jnp.where(inside, y, 0) * jnp.sinh(a)) / a, y)
        return t, -self.forward(t, h)[1]


@pytest.mark.slow
def test_a_jump_of_the_density_would_be_noticed(x64):
    q = SMALL["RealNVP"]().init(jax.random.key(0), jnp.ones(3))
    jumping = coupling(jax.random.key(0), jnp.ones(3), Jumping(), width=6, depth=1)
    q = moved(eqx.tree_at(lambda q: q.body, q, jumping), jax.random.key(1), 0.3)
    z = mean_score_of_parameters(q)
    assert np.abs(z).max() > 2 * limit(z)


def banana(x):
    """exp(this) integrates to pi."""
    return -0.5 * x[0] ** 2 - 0.5 * ((x[1] - x[0] ** 2) / 0.5) ** 2


BANANA = infer.from_log_density(banana, jnp.zeros(2))


def algorithm(family, estimator, rate=5e-3, n=32):
    adam = infer.optimizer(optax.adam, learning_rate=rate)
    return infer.VI(family=family, estimator=estimator, optimizer=adam, n_samples=n, stopping=None)


@pytest.mark.parametrize(
    "precision, name, estimator",
    [
        ("float32", "RealNVP", infer.Path()),
        pytest.param("float64", "RealNVP, linear", infer.Reparam(), marks=SLOW),
        pytest.param("float64", "SplineFlow", infer.Reparam(), marks=SLOW),
        pytest.param("float32", "SplineFlow", infer.Path(), marks=SLOW),
    ],
    indirect=["precision"],
)
def test_steps_lower_the_loss_in_both_precisions(precision, name, estimator):
    target = infer.from_log_density(banana, jnp.zeros(2))
    vi = algorithm(SMALL[name](), estimator, n=8)
    state = eqx.filter_jit(vi.init)(jax.random.key(0), target)
    step = eqx.filter_jit(vi.step)
    losses = []
    for i in range(60):
        state, info = step(jax.random.key(i), target, state)
        losses.append(float(info.loss))
    assert all(leaf.dtype == precision for leaf in jax.tree.leaves(state.q))
    assert np.isfinite(losses).all() and np.mean(losses[-20:]) < np.mean(losses[:20])


@pytest.mark.slow
def test_a_banana_and_its_normalizer():
    """RealNVP by path gradients: the verdict is ok, and weights integrate the density.

    Where |x_0| < 2 within 5 standard errors. Beyond, weights are large and few, as a reverse
    Kullback-Leibler divergence leaves them: in total 0.981 pi of 4000 draws, at a standard error
    of 0.002, so that the error of log Z is of the order of the mass out there and not of its
    standard error.
    """
    family = RealNVP(n_layers=6, width=16, scale=0.5)
    vi = algorithm(family, infer.Path(), n=64)
    result = infer.fit(BANANA, vi, key=0, steps=3000, draws=4000, progress=False)
    assert result.verdict.status == "ok", result.verdict
    w = np.exp(result.log_prob - result.log_q)[0]
    assert w.std() < 0.5 * w.mean()
    bulk = w * (np.abs(result.z[0, :, 0]) < 2)
    mass = 2 * NormalDist().cdf(2) - 1
    assert abs(bulk.mean() - np.pi * mass) < 5 * bulk.std() / len(w) ** 0.5
    assert abs(np.log(w.mean() / np.pi)) < 1 - mass  # all of what is outside, 0.046


def test_refusals():
    for family in (RealNVP, SplineFlow):
        name = family.__name__
        with pytest.raises(ValueError, match=f"{name} needs n_layers >= 1, got 0; write n_layers"):
            family(n_layers=0)
        with pytest.raises(ValueError, match="width >= 1"):
            family(width=-1)
        with pytest.raises(ValueError, match="depth >= 1"):
            family(depth=0)
        with pytest.raises(ValueError, match="scale must be > 0"):
            family(scale=0.0)
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=r"clamp > 0.*write clamp=2.0"):
            RealNVP(clamp=wrong)
    with pytest.raises(ValueError, match=r"bound > 0.*write bound=5.0"):
        SplineFlow(bound=0.0)
    with pytest.raises(ValueError, match="bins >= 2"):
        SplineFlow(bins=1)
    with pytest.raises(ValueError, match="bins <= 500"):
        SplineFlow(bins=501)


# Warm starts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["diagonal", "low rank", "full"])
def test_the_first_member_has_the_moments_of_the_base(kind, x64):
    rng = np.random.default_rng(1)
    mean, log_scale = jnp.asarray(rng.normal(size=4)), jnp.asarray(0.3 * rng.normal(size=4))
    lower = jnp.asarray(np.tril(rng.normal(size=(4, 4)), -1))
    base = {
        "diagonal": lambda: DiagonalGaussian(mean, log_scale),
        "low rank": lambda: LowRankGaussian(mean, log_scale, lower[:, :2]),
        "full": lambda: CholeskyGaussian(mean, lower, log_scale),
    }[kind]()
    q = RealNVP(n_layers=2, width=3, base=base).init(jax.random.key(0), jnp.full(4, 9.0))
    draws = jax.jit(lambda q: q.sample_score(jax.random.key(1), 6))(q)
    expected = jax.jit(jax.vmap(base.log_prob))(draws.x)
    np.testing.assert_allclose(draws.log_q, expected, rtol=1e-12)
    score = jax.jit(jax.vmap(jax.grad(base.log_prob)))(draws.x)
    np.testing.assert_allclose(draws.score, score, rtol=1e-9)
    assert isinstance(q.place, Elementwise if kind == "diagonal" else Triangular)


def test_bases_that_cannot_be(x64):
    with pytest.raises(TypeError, match=r"RealNVP needs base= .*Laplace\(\), key=0\)\.posterior"):
        RealNVP(base=RealNVP().init(jax.random.key(0), jnp.zeros(2)))
    flow = SplineFlow(base=DiagonalGaussian(jnp.zeros(3), jnp.zeros(3)))
    target = infer.from_log_density(lambda z: -0.5 * jnp.sum(z**2), jnp.zeros(2))
    with pytest.raises(ValueError, match="base of a flow has 3 coordinates, the target 2"):
        infer.fit(target, infer.VI(family=flow), key=0, steps=5)
