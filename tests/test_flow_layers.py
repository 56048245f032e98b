"""Planar, radial, orthogonal and autoregressive layers, and the families made of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_flows import Jumping, algorithm, banana, limit, mean_score_of_parameters, precision

import infer
from infer.flows import (
    AutoregressiveFlow,
    Chain,
    Elementwise,
    Flow,
    Householder,
    Inverse,
    MaskedPerceptron,
    Planar,
    Radial,
    RationalQuadratic,
    Reverse,
    SoftAffine,
    Stack,
    StackedFlow,
    autoregressive,
    householder,
    planar,
    push_by_inverse,
    radial,
    standardized,
)
from infer.flows.root import increasing_root

__all__ = ["precision"]  # a fixture

SLOW = pytest.mark.slow
D = 5


def filled(make, scale=0.7, seed=0):
    """What `make` makes of a key, with noise for every leaf; nothing is compiled."""
    rng = np.random.default_rng(seed)
    shapes = eqx.filter_eval_shape(make, jax.random.key(0))
    return jax.tree.map(lambda s: jnp.asarray(scale * rng.normal(size=s.shape), s.dtype), shapes)


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


def affine(key, d=D):
    return autoregressive(key, jnp.zeros(d), SoftAffine(1.5), width=6, depth=2)


def spline(key):
    return autoregressive(key, jnp.zeros(D), RationalQuadratic(4, 2.0), width=6, depth=1)


LAYERS = {
    "planar": lambda key: planar(key, jnp.zeros(D)),
    "radial": lambda key: radial(key, jnp.zeros(D)),
    "householder": lambda key: householder(key, jnp.zeros(D), 3),
    "autoregressive": affine,
    "inverse of autoregressive": lambda key: Inverse(affine(key)),
    "planar in one dimension": lambda key: planar(key, jnp.zeros(1)),
    "radial in one dimension": lambda key: radial(key, jnp.zeros(1)),
    "autoregressive in one dimension": lambda key: affine(key, 1),
    "autoregressive spline": spline,
    "inverse of autoregressive spline": lambda key: Inverse(spline(key)),
}
QUICK = [pytest.param(n, marks=SLOW) if i > 3 else n for i, n in enumerate(LAYERS)]


@eqx.filter_jit
def look(layer, x, score):
    """What push, forward and inverse say, and a dense Jacobian and its derivative."""

    def dense(x):
        return jax.jacfwd(lambda x: layer.forward(x)[0])(x)

    def one(x, s):
        log_det, gradient = jax.value_and_grad(lambda x: jnp.linalg.slogdet(dense(x))[1])(x)
        expected = layer.forward(x)[0], log_det, jnp.linalg.solve(dense(x).T, s - gradient)
        pushed = layer.push(x, s)
        return pushed, expected, layer.inverse(pushed[0])

    return jax.vmap(one)(x, score)


@pytest.mark.parametrize("name", QUICK)
def test_push_is_dense_autodiff_and_inverse_is_the_inverse(name, x64):
    layer, d = filled(LAYERS[name], 1.0), 1 if "one" in name else D
    x, score = 0.3 + 2 * normal(7, d), normal(7, d, seed=2)
    (y, log_det, pushed), (expected_y, expected_log_det, expected), (x_again, minus) = look(
        layer, x, score
    )
    np.testing.assert_allclose(y, expected_y, rtol=1e-12)
    np.testing.assert_allclose(log_det, expected_log_det, atol=1e-10)
    np.testing.assert_allclose(pushed, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(x_again, x, atol=1e-10)
    np.testing.assert_allclose(minus, -log_det, atol=1e-10)
    assert np.abs(y - x).max() > 0.01
    assert np.abs(log_det).max() > 0.01 or name == "householder"


def one_of_each(key, like):
    """Each of the layers that compile quickly, once; the identity or a rotation at first."""
    keys = jax.random.split(key, 5)
    return Chain(
        (
            planar(keys[0], like),
            autoregressive(keys[1], like, SoftAffine(1.5), 6, 1),
            radial(keys[2], like),
            Inverse(autoregressive(keys[3], like, SoftAffine(1.5), 6, 1)),
            householder(keys[4], like, 2),
        )
    )


def test_layers_begin_as_the_identity_or_a_rotation(x64):
    x = jnp.asarray(normal(D))
    layers = one_of_each(jax.random.key(0), jnp.zeros(D)).layers
    push = eqx.filter_jit(lambda layers, x: [layer.push(x, -x) for layer in layers])
    *identities, (rotated, _, score) = push(layers, x)
    np.testing.assert_allclose(np.sum(rotated**2), np.sum(x**2), rtol=1e-14)
    np.testing.assert_allclose(score, -rotated, rtol=1e-14)
    assert np.abs(rotated - x).max() > 0.1
    for y, log_det, score in identities:
        np.testing.assert_allclose(y, x, rtol=1e-14)
        np.testing.assert_allclose(log_det, 0, atol=1e-14)
        np.testing.assert_allclose(score, -x, rtol=1e-14)


@eqx.filter_jit
def carried(layer, x):
    """N(0, I) carried along; and by the inverse and its derivative."""

    def log_q(y):
        x, log_det = layer.inverse(y)
        return -0.5 * jnp.sum(x**2) + log_det, x

    def one(x):
        y, log_det, score = layer.push(x, -x)
        (value, x_again), gradient = jax.value_and_grad(log_q, has_aux=True)(y)
        return (x, -0.5 * jnp.sum(x**2) - log_det, score), (x_again, value, gradient)

    return jax.vmap(one)(x)


@pytest.mark.parametrize(
    "precision", [pytest.param("float32", marks=SLOW), "float64"], indirect=True
)
def test_a_stack_of_all_of_them(precision):
    """Every leaf far from the start in float64; near it in float32, there and back to 1e-4."""

    def make(key):
        layer = eqx.filter_vmap(lambda key: one_of_each(key, jnp.zeros(D)))
        return Stack(layer(jax.random.split(key, 3)))

    scale, tolerance = {"float32": (0.2, 1e-4), "float64": (0.5, 1e-10)}[precision]
    forth, back = carried(filled(make, scale), normal(20, D))
    for a, b in zip(forth, back, strict=True):
        assert a.dtype == b.dtype == precision
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(a).max())


def test_a_layer_with_an_inverse_is_pushed_by_it(x64):
    layer = filled(lambda key: radial(key, jnp.zeros(D)))

    @eqx.filter_jit
    def both(layer, x, s):
        return layer.push(x, s), push_by_inverse(layer, x, s)

    for a, b in zip(*both(layer, *map(jnp.asarray, normal(2, D))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


# Any values of the leaves ---------------------------------------------------------------------


@eqx.filter_jit
def there_and_back(layers, x):
    """One point of its own for each layer; what `push` and `inverse` say, and derivatives."""

    def one(layer, x):
        def total(layer, y):
            x, minus = layer.inverse(y)
            return jnp.sum(x) + minus

        y, log_det, score = layer.push(x, -x)
        x_again, minus = layer.inverse(y)
        slopes = jax.grad(total, argnums=(0, 1))(layer, y)
        return (y, log_det, score), (x_again, minus), slopes

    return eqx.filter_vmap(one)(layers, x)


N = 300


@pytest.mark.parametrize("make", [planar, radial])
def test_extreme_leaves_make_invertible_layers(make, x64):
    """Leaves of the order of 10: many layers have their least slope, 0.001, or next to it."""

    def several(key):
        return eqx.filter_vmap(lambda key: make(key, jnp.zeros(D)))(jax.random.split(key, N))

    x = 3 * normal(N, D)
    out = there_and_back(filled(several, 10.0), x)
    (_, log_det, _), (x_again, minus), _ = out
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    np.testing.assert_allclose(x_again, x, atol=1e-10)
    np.testing.assert_allclose(minus, -log_det, atol=1e-10)
    assert np.abs(log_det).max() > 1


def test_a_planar_layer_at_its_steepest_fold(x64):
    """w.u is next to -0.999: the slope is 0.001 on the ridge, and there is one inverse."""
    w = np.array([1.0, -2.0, 0.5, 0.0, 1.0])
    leaves = np.tile(-4 * w, (N, 1)), np.tile(w, (N, 1)), np.full(N, 0.3)
    x = (np.linspace(-3, 2.98, N)[:, None] - 0.3) * w / (w @ w)
    (y, log_det, _), (x_again, minus), _ = there_and_back(jax.vmap(Planar)(*leaves), x)
    assert 0.001 <= np.exp(log_det).min() < 0.0011
    np.testing.assert_allclose(x_again, x, atol=1e-10)
    np.testing.assert_allclose(minus, -log_det, atol=1e-10)
    assert (np.diff(y @ w) > 0).all()


def test_a_planar_layer_without_a_direction(x64):
    """At w = 0, where the formula divides by zero: continuous, with finite gradients."""
    u, w = np.array([1.0, -0.7, 2.0, 1.0, 3.0]), np.array([1.0, 2.0, -1.0, 0.5, 1.0])
    sizes = np.resize([0, 1e-9, -1e-9, 1e-100, 1e-170], (N, 1))
    leaves = np.tile(u, (N, 1)), sizes * w, np.full(N, 0.4)
    x = np.tile(normal(D), (N, 1))
    (y, log_det, score), (x_again, _), slopes = there_and_back(jax.vmap(Planar)(*leaves), x)
    np.testing.assert_allclose(y, x + u * np.tanh(0.4), atol=1e-7)
    np.testing.assert_allclose(log_det, 0, atol=1e-7)
    np.testing.assert_allclose(score, -x, atol=1e-7)
    np.testing.assert_allclose(x_again, x, atol=1e-14)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_a_radial_layer_at_its_center(x64):
    """The density is continuous there, and all gradients are finite."""
    leaves = center, _, strength = normal(N, D), normal(N, seed=2), normal(N, seed=3)
    x = center + np.resize([0, 1e-9], (N, 1))
    (y, log_det, score), (x_again, minus), slopes = there_and_back(jax.vmap(Radial)(*leaves), x)
    # What k is by the docstring, and all stretches are 1 + k.
    k = np.where(strength > 0, strength, 0.999 * np.expm1(strength / 0.999))
    np.testing.assert_allclose(y, x, atol=1e-8)
    np.testing.assert_allclose(x_again, x, atol=1e-14)
    np.testing.assert_allclose(log_det, D * np.log(1 + k), atol=1e-6)
    np.testing.assert_allclose(minus, -log_det, atol=1e-12)
    np.testing.assert_allclose(score[::2], -x[::2] / (1 + k[::2, None]), rtol=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_householder_skips_what_has_no_length(x64):
    v = normal(3, 4) * np.array([[1.0], [0.0], [1e-200]])
    q = jax.jit(jax.vmap(lambda x: Householder(jnp.asarray(v)).forward(x)[0]))(np.eye(4)).T
    np.testing.assert_allclose(q, np.eye(4) - 2 * np.outer(v[0], v[0]) / (v[0] @ v[0]), atol=1e-14)


# Roots ----------------------------------------------------------------------------------------

INCREASING = {
    "swings": lambda t: jnp.sign(t) * jnp.sqrt(jnp.abs(t)),  # as Newton's method does, forever
    "leaves": lambda t: jnp.arctan(9 * t),
    "step": lambda t: jnp.tanh(1e4 * t),
    "flat at the root": lambda t: t**3,
    "exponential": jnp.expm1,
}


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float64", marks=SLOW)], indirect=True
)
def test_roots(precision):
    a = jnp.asarray([-7, -0.3, 1e-3, 2.2, 7.9], precision)
    low, high = jnp.asarray(-7, precision), jnp.asarray(8, precision)

    @jax.jit
    @jax.vmap
    def roots(a):
        return {
            name: increasing_root(lambda t, f=f: f(t - a), low, high)
            for name, f in INCREASING.items()
        }

    for root in roots(a).values():
        assert root.dtype == precision
        np.testing.assert_allclose(root, a, atol=16 * np.finfo(precision).eps)


def test_derivatives_of_a_root_are_those_of_the_implicit_function(x64):
    """t + a tanh t = b, whose derivatives are known from those of its inverse b(t)."""

    def root(a, b):
        return increasing_root(lambda t: t + a * jnp.tanh(t) - b, b - abs(a), b + abs(a))

    @jax.jit
    def both(a, b):
        return root(a, b), jax.grad(root, (0, 1))(a, b), jax.hessian(root, 1)(a, b)

    a, b = -0.7, 0.4
    t, (in_a, in_b), second = both(a, b)
    th, s = np.tanh(t), 1 - np.tanh(t) ** 2
    slope = 1 + a * s
    np.testing.assert_allclose(t + a * th, b, rtol=1e-14)
    np.testing.assert_allclose([in_a, in_b], [-th / slope, 1 / slope], rtol=1e-12)
    np.testing.assert_allclose(second, 2 * a * th * s / slope**3, rtol=1e-12)


# Masks ----------------------------------------------------------------------------------------


def network(d, n, *hidden):
    def make(key):
        pairs = zip((d, *hidden), (*hidden, d * n), strict=True)
        return MaskedPerceptron(tuple(eqx.nn.Linear(a, b, key=key) for a, b in pairs))

    return filled(make)


@pytest.mark.parametrize(
    "d, n, hidden", [(5, 3, (7, 4, 11)), (4, 2, ()), (1, 2, (3,)), (7, 2, (3,))]
)
def test_outputs_see_the_inputs_before_them_and_no_others(d, n, hidden, x64):
    made = network(d, n, *hidden)
    jacobian = np.abs(jax.jit(jax.jacrev(lambda x: made(x)))(normal(d)))
    assert jacobian.shape == (d, n, d)
    seen = (jacobian > 0).any(axis=1)
    assert not np.triu(seen).any()
    np.testing.assert_array_equal(seen, (jacobian > 0).all(axis=1))
    if min(hidden, default=d) >= d - 1:
        np.testing.assert_array_equal(seen, np.tri(d, k=-1, dtype=bool))
    else:  # some see not all of those before them
        np.testing.assert_array_equal(seen[-1], np.arange(d) < d - 1)
    assert len(jax.tree.leaves(made)) == 2 * (len(hidden) + 1)  # weights and biases alone


def test_an_output_is_a_bias_and_a_mean_over_what_it_sees(x64):
    """All units at one, weights of one behind them; output 0 sees none."""
    made = network(4, 2, 9)
    made = eqx.tree_at(lambda m: m.layers[1].weight, made, jnp.asarray(np.ones((8, 9))))
    made = eqx.tree_at(lambda m: m.layers[0].bias, made, jnp.asarray(np.full(9, 100.0)))
    expected = np.reshape(made.layers[1].bias, (4, 2)) + (np.arange(4) > 0)[:, None]
    np.testing.assert_allclose(jax.jit(lambda x: made(x))(np.zeros(4)), expected, rtol=1e-14)


def test_sweeps_of_a_solve_are_few(x64):
    """None for the identity, and fewer than d where coordinates depend on others weakly."""

    @eqx.filter_jit
    def sweeps(layer, x):
        return jax.vmap(layer.solve)(x, -x)

    layer = filled(lambda key: autoregressive(key, jnp.zeros(12), SoftAffine(), 12, 1), 0.3)
    x = jnp.asarray(normal(20, 12))
    assert 1 < sweeps(layer, x)[1].max() < 12
    s, n = sweeps(jax.tree.map(lambda a: 0 * a, layer), x)
    np.testing.assert_array_equal(s, -x)
    assert not n.any()


# Shifts and scales from the data --------------------------------------------------------------


def test_outputs_are_standardized_layer_after_layer(x64):
    like = jnp.zeros(D)

    def inner(key):
        return Chain((planar(key, like), Elementwise(like, like), Reverse()))

    def make(key):
        layers = Stack(eqx.filter_vmap(inner)(jax.random.split(key, 3)))
        return Chain((Elementwise(like, like), layers, radial(key, like)))

    @eqx.filter_jit
    def settled(layer, z):
        """The layer, and the points behind each `Elementwise`."""
        done = standardized(layer, z)
        first, deep, _ = done.layers
        reached = [jax.vmap(first.forward)(z)[0]]
        for i in range(3):
            bend, scale, _ = jax.tree.map(lambda a, i=i: a[i], deep.layer).layers
            x = reached[-1] if i == 0 else reached[-1][:, ::-1]
            reached.append(jax.vmap(Chain((bend, scale)).forward)(x)[0])
        return done, reached

    layer = filled(make)
    z = 3 + normal(400, D) * np.arange(1.0, D + 1)
    done, reached = settled(layer, z)
    assert jax.tree.structure(done) == jax.tree.structure(layer)
    for points in reached:
        np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(points.std(axis=0), 1, rtol=1e-12)
    for others in (lambda c: c.layers[1].layer.layers[0], lambda c: c.layers[2]):
        for a, b in zip(*map(jax.tree.leaves, (others(layer), others(done))), strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_does_not_vary_keeps_its_scale():
    z = np.stack([np.full(10, 2.0), np.arange(10.0)], axis=1)
    done = jax.jit(standardized)(Elementwise(jnp.ones(2), jnp.ones(2)), z)
    np.testing.assert_allclose(done.log_scale, [0, -0.5 * np.log(8.25)], rtol=1e-6)
    np.testing.assert_allclose(done.shift, [-2, -4.5 / 8.25**0.5], rtol=1e-6)


def test_nothing_to_standardize_is_refused():
    layer = Elementwise(jnp.zeros(3), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"n >= 2, got \(1, 3\); write points="):
        standardized(layer, jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="needs an Elementwise in the layer, got Chain without"):
        standardized(Chain((Reverse(), Inverse(layer))), jnp.zeros((5, 3)))


# Families -------------------------------------------------------------------------------------

SMALL = {
    "planar": lambda: StackedFlow(n_layers=6, scale=0.7),
    "radial": lambda: StackedFlow(radial, n_layers=6, scale=0.7),
    "inverse autoregressive": lambda: AutoregressiveFlow(n_layers=2, width=6, scale=0.7),
    "masked autoregressive": lambda: AutoregressiveFlow(
        n_layers=2, width=6, parallel_density=True, scale=0.7
    ),
    "spline": lambda: AutoregressiveFlow(
        RationalQuadratic(4, 2.0), n_layers=2, width=6, depth=1, scale=0.7
    ),
    "mixed": lambda: StackedFlow(one_of_each, n_layers=2, scale=0.7),
}


def slow_but(*quick):
    return [n if n in quick else pytest.param(n, marks=SLOW) for n in SMALL]


@pytest.mark.slow
@pytest.mark.parametrize("precision, d", [("float32", 5), ("float64", 2)], indirect=["precision"])
@pytest.mark.parametrize("name", SMALL)
def test_the_first_member_is_a_gaussian_at_the_start(name, precision, d):
    start = jnp.arange(d) - 3.0
    q = eqx.filter_jit(SMALL[name]().init)(jax.random.key(0), start)
    assert isinstance(q, Flow) and all(leaf.dtype == precision for leaf in jax.tree.leaves(q))
    draws = eqx.filter_jit(lambda q: q.sample_score(jax.random.key(1), 50))(q)
    tolerance = 2e-4 if precision == "float32" else 1e-11
    log_q = jax.scipy.stats.norm.logpdf(np.asarray(draws.x), start, 0.7).sum(axis=1)
    np.testing.assert_allclose(draws.log_q, log_q, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(draws.score, (start - draws.x) / 0.49, atol=tolerance)
    assert abs(np.mean(draws.x - start)) < 0.5 and q.moments() is None


@pytest.mark.parametrize("name", slow_but("inverse autoregressive"))
def test_what_the_path_gradient_leaves_out_has_mean_zero(name, x64):
    """E_q[d log q / d parameters] = 0; 4000 draws."""
    q = filled(lambda key: SMALL[name]().init(key, jnp.ones(3)), 0.5)
    z = mean_score_of_parameters(q)
    assert len(z) > 30 and np.abs(z).max() < limit(z)


@pytest.mark.slow
def test_a_jump_of_the_density_would_be_noticed(x64):
    def make(key):
        q = StackedFlow(n_layers=1).init(key, jnp.ones(3))
        jumping = autoregressive(key, jnp.ones(3), Jumping(), 4, 1)
        return eqx.tree_at(lambda q: q.body, q, jumping)

    z = mean_score_of_parameters(filled(make, 0.5))
    assert np.abs(z).max() > 2 * limit(z)


@eqx.filter_jit
def draw(q):
    """Draws with density and score, and by the inverse and its derivative; and a derivative."""
    draws = q.sample_score(jax.random.key(1), 40)
    by_inverse = jax.vmap(jax.value_and_grad(q.log_prob))(draws.x)
    leaked = jax.grad(lambda q: jnp.sum(q.sample_score(jax.random.key(1), 2).score))(q)
    return draws, by_inverse, q.sample(jax.random.key(1), 40), leaked


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_draws_know_their_density(name, x64):
    q = filled(lambda key: SMALL[name]().init(key, jnp.ones(3)), 0.5)
    draws, (log_q, score), x, leaked = draw(q)
    np.testing.assert_allclose(draws.log_q, log_q, rtol=1e-10)
    np.testing.assert_allclose(draws.score, score, rtol=1e-10, atol=1e-10 * np.abs(score).max())
    np.testing.assert_allclose(draws.x, x, rtol=1e-12)
    assert not any(leaf.any() for leaf in jax.tree.leaves(leaked))  # the score is a constant


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision, name, estimator",
    [
        ("float32", "planar", infer.Path()),
        ("float64", "radial", infer.Reparam()),
        ("float64", "inverse autoregressive", infer.Path()),
        ("float32", "masked autoregressive", infer.Reparam()),
        ("float32", "spline", infer.Path()),
        ("float64", "mixed", infer.Path()),
    ],
    indirect=["precision"],
)
def test_steps_lower_the_loss_in_both_precisions(precision, name, estimator):
    target = infer.from_log_density(banana, jnp.zeros(2))
    vi = algorithm(SMALL[name](), estimator, n=8, rate=2e-2)
    state = eqx.filter_jit(vi.init)(jax.random.key(0), target)
    step = eqx.filter_jit(vi.step)
    losses = []
    for i in range(60):
        state, info = step(jax.random.key(i), target, state)
        losses.append(float(info.loss))
    assert all(leaf.dtype == precision for leaf in jax.tree.leaves(state.q))
    assert np.isfinite(losses).all() and np.mean(losses[-20:]) < np.mean(losses[:20])


def test_refusals(unchecked):
    def refused(error, message, make, **settings):
        with pytest.raises(error, match=message):
            make(**settings)

    flow = AutoregressiveFlow
    refused(ValueError, "AutoregressiveFlow needs n_layers >= 1, got 0; write", flow, n_layers=0)
    refused(ValueError, "width >= 1, got 0; write width=32", flow, width=0)
    refused(ValueError, "depth >= 1, got -1; write depth=2", flow, depth=-1)
    refused(TypeError, "parallel_density=True or False, got 1", flow, parallel_density=1)
    message = r"needs a transform such as infer.flows.SoftAffine\(\), got .* write transform=infer"
    refused(TypeError, message, flow, transform=RationalQuadratic)
    refused(ValueError, "scale must be > 0", flow, scale=-1.0)
    refused(ValueError, "StackedFlow needs n_layers >= 1, got 0; write", StackedFlow, n_layers=0)
    message = "StackedFlow needs a function .* got 'planar'; write layer=infer.flows.radial"
    refused(TypeError, message, StackedFlow, layer="planar")
    no_layer = StackedFlow(lambda key, like: like)
    with pytest.raises(TypeError, match=r"makes an infer.flows.AbstractLayer, got .* write layer="):
        no_layer.init(jax.random.key(0), jnp.zeros(3))
    refused(ValueError, "scale must be > 0", StackedFlow, scale=0.0)
    refused(ValueError, "SoftAffine needs clamp > 0, got -1.0", SoftAffine, clamp=-1.0)
    refused(ValueError, "RationalQuadratic needs bins <= 500", RationalQuadratic, bins=501)
    refused(ValueError, "RationalQuadratic needs bins >= 2", RationalQuadratic, bins=1)
    refused(ValueError, "RationalQuadratic needs bound > 0", RationalQuadratic, bound=0.0)
    key, like = jax.random.key(0), jnp.zeros(3)
    message = "householder needs n >= 1, got 0; write n=3"
    refused(ValueError, message, householder, key=key, like=like, n=0)
