"""Supports: bijections, log Jacobians, agreement with NumPyro, and the ends of floating point."""

from collections import deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import biject_to, constraints

from infer.core import matrix_support as ms
from infer.core import support as sp
from infer.core import vector_support as vs

LOW = np.array([-1.0, 0.0, 2.5, 7.0])

# name: support, NumPyro's constraint, shape on the support, free shape
CASES = {
    "real": (lambda: sp.real, constraints.real, (3, 4), (3, 4)),
    "positive": (lambda: sp.positive, constraints.positive, (3, 4), (3, 4)),
    "greater_than": (
        lambda: sp.greater_than(LOW),
        constraints.greater_than(LOW),
        (3, 4),
        (3, 4),
    ),
    "less_than": (lambda: sp.less_than(LOW), constraints.less_than(LOW), (3, 4), (3, 4)),
    "interval": (
        lambda: sp.interval(LOW, LOW + 3),
        constraints.interval(LOW, LOW + 3),
        (3, 4),
        (3, 4),
    ),
    "unit_interval": (lambda: sp.unit_interval, constraints.unit_interval, (3, 4), (3, 4)),
    "simplex": (lambda: vs.simplex, constraints.simplex, (3, 5), (3, 4)),
    "ordered": (lambda: vs.ordered, constraints.ordered_vector, (3, 4), (3, 4)),
    "positive_ordered": (
        lambda: vs.positive_ordered,
        constraints.positive_ordered_vector,
        (3, 4),
        (3, 4),
    ),
    "lower_cholesky": (lambda: ms.lower_cholesky, constraints.lower_cholesky, (2, 4, 4), (2, 10)),
    "corr_cholesky": (lambda: ms.corr_cholesky, constraints.corr_cholesky, (2, 4, 4), (2, 6)),
}
NAMES = list(CASES)


def free(shape, seed=0, scale=1.5):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * scale, float)


def coordinates(name, x):
    """As many coordinates of x as there are free ones."""
    if name == "simplex":
        return x[..., :-1].ravel()
    if name in ("lower_cholesky", "corr_cholesky"):
        rows, columns = np.tril_indices(x.shape[-1], 0 if name == "lower_cholesky" else -1)
        return x[..., rows, columns].ravel()
    return x.ravel()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_label(name):
    make, _, shape, free_shape = CASES[name]
    support = make()
    assert support.label == name
    assert support.free_shape(shape) == free_shape
    x, log_det = support.constrain(free(free_shape))
    assert x.shape == shape and log_det.shape == ()
    assert bool(support.contains(x))


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_and_jacobian(name, x64):
    make, _, _, free_shape = CASES[name]
    support, u = make(), free(free_shape)
    x, log_det = support.constrain(u)
    np.testing.assert_allclose(support.unconstrain(x), u, rtol=1e-9, atol=1e-9)
    jacobian = jax.jit(
        jax.jacfwd(lambda v: coordinates(name, support.constrain(v.reshape(u.shape))[0]))
    )
    expected = np.linalg.slogdet(np.asarray(jacobian(u.ravel())))[1]
    np.testing.assert_allclose(log_det, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_numpyro(name, x64):
    make, constraint, _, free_shape = CASES[name]
    support, u = make(), free(free_shape, seed=1)
    transform = biject_to(constraint)
    expected = transform(u)
    x, log_det = support.constrain(u)
    np.testing.assert_allclose(x, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(log_det, jnp.sum(transform.log_abs_det_jacobian(u, expected)))


SIZES = [-2000.0, -200.0, -60.0, -20.0, -5.0, 5.0, 20.0, 60.0, 200.0, 2000.0]


@pytest.mark.parametrize("name", NAMES)
def test_extremes_stay_inside(name):
    check_extremes(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_extremes_stay_inside_in_double_precision(name, x64):
    check_extremes(name)


@eqx.filter_jit
def look(support, u):
    def one(u):
        (x, log_det), pull = jax.vjp(support.constrain, u)
        slopes = pull((jnp.ones_like(x), jnp.ones_like(log_det)))[0]
        back = support.unconstrain(x)
        again = support.constrain(back)[0]
        return x, log_det, slopes, back, again, support.contains(x)

    return jax.vmap(one)(u)


def check_extremes(name):
    make, _, _, free_shape = CASES[name]
    count = np.arange(np.prod(free_shape)).reshape(free_shape)
    patterns = [np.ones(free_shape), (-1.0) ** count, count % free_shape[-1] == 1]
    u = jnp.asarray([size * pattern for size in SIZES for pattern in patterns], float)
    x, log_det, slopes, back, again, inside = map(np.asarray, look(make(), u))
    assert inside.all(), x[~inside]
    for array in (x, log_det, slopes, back):
        assert np.isfinite(array).all()
    eps = float(jnp.finfo(x.dtype).eps)
    for one, two in zip(x, again, strict=True):
        np.testing.assert_allclose(two, one, rtol=3e3 * eps, atol=1e3 * eps * np.max(abs(one)))


def test_jacobian_keeps_its_slope_where_the_value_is_clipped():
    slope = jax.grad(lambda u: sp.unit_interval.constrain(u)[1])
    assert slope(jnp.asarray(150.0)) == -1 and slope(jnp.asarray(-150.0)) == 1


@pytest.mark.parametrize(
    ("support", "point"),
    [
        (sp.real, [np.nan]),
        (sp.positive, [0.0]),
        (sp.positive, [np.inf]),
        (sp.greater_than(1.0), [1.0]),
        (sp.less_than(1.0), [1.5]),
        (sp.interval(0.0, 2.0), [2.0]),
        (sp.unit_interval, [1.0]),
        (vs.simplex, [0.5, 0.4]),
        (vs.simplex, [1.0, 0.0]),
        (vs.ordered, [1.0, 1.0]),
        (vs.positive_ordered, [-1.0, 1.0]),
        (ms.lower_cholesky, [[1.0, 0.1], [0.0, 1.0]]),
        (ms.lower_cholesky, [[1.0, 0.0], [0.0, -1.0]]),
        (ms.corr_cholesky, [[1.0, 0.0], [0.5, 1.0]]),
    ],
)
def test_points_outside(support, point):
    assert not bool(support.contains(jnp.asarray(point)))


@pytest.mark.parametrize(
    ("support", "shape", "words"),
    [
        (vs.simplex, (), "last axis of at least 2"),
        (vs.simplex, (3, 1), "last axis of at least 2"),
        (vs.ordered, (), "last axis"),
        (sp.greater_than(LOW), (3,), "does not broadcast"),
        (sp.interval(0.0, LOW + 3), (), "does not broadcast"),
        (ms.lower_cholesky, (3, 2), "two equal last axes"),
        (ms.corr_cholesky, (4,), "two equal last axes"),
    ],
)
def test_shapes_that_do_not_fit(support, shape, words):
    with pytest.raises(ValueError, match=words):
        support.free_shape(shape)


def test_empty_interval_is_refused():
    with pytest.raises(ValueError, match="low < high"):
        sp.interval(1.0, 1.0)


def test_another_bound_compiles_nothing():
    traces = deque()  # a list would be read as data

    @eqx.filter_jit
    def constrain(support, u):
        traces.append(1)
        return support.constrain(u)[0]

    first = constrain(sp.interval(0.0, 1.0), jnp.asarray(0.0))
    second = constrain(sp.interval(1, 4), jnp.asarray(0.0))
    assert (float(first), float(second), len(traces)) == (0.5, 2.5, 1)
