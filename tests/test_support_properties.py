"""What holds of every support at any point, searched for counterexamples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from marks import slow

import infer

LOW = np.array([-3.0, 0.0, 500.0])

# name: support, shape on it, indices of as many of its entries as there are free coordinates
CASES = {
    "real": (lambda: infer.real, (3,), np.arange(3)),
    "positive": (lambda: infer.positive, (3,), np.arange(3)),
    "greater_than": (lambda: infer.greater_than(LOW), (3,), np.arange(3)),
    "less_than": (lambda: infer.less_than(LOW), (3,), np.arange(3)),
    "interval": (lambda: infer.interval(LOW, LOW + 5), (3,), np.arange(3)),
    "unit_interval": (lambda: infer.unit_interval, (3,), np.arange(3)),
    "simplex": (lambda: infer.simplex, (4,), np.arange(3)),
    "ordered": (lambda: infer.ordered, (4,), np.arange(4)),
    "positive_ordered": (lambda: infer.positive_ordered, (4,), np.arange(4)),
    "lower_cholesky": (lambda: infer.lower_cholesky, (3, 3), np.array([0, 3, 4, 6, 7, 8])),
    "corr_cholesky": (lambda: infer.corr_cholesky, (3, 3), np.array([3, 6, 7])),
    "log barrier box": (lambda: infer.LogBarrierBox(LOW, LOW + 5), (3,), np.arange(3)),
    "log barrier ball": (lambda: infer.LogBarrierBall(2.0), (3,), np.arange(3)),
    "log barrier simplex": (lambda: infer.LogBarrierSimplex(), (4,), np.arange(3)),
    "entropic simplex": (lambda: infer.EntropicSimplex(), (4,), np.arange(3)),
}
SEARCH = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def points(size, most, width=64):
    """Free coordinates up to a size."""
    return arrays(np.float64, size, elements=st.floats(-most, most, width=width))


def looks(name):
    """The size of a free array, and a compiled function that looks at all of a support there."""
    make, shape, entries = CASES[name]
    support = make()
    free = support.free_shape(shape)

    @jax.jit
    def look(u):
        def flat(u):
            return support.constrain(u.reshape(free))[0].ravel()[jnp.asarray(entries, jnp.int32)]

        x, log_det = support.constrain(u.reshape(free))
        slope = jax.grad(lambda u: support.constrain(u.reshape(free))[1])(u)
        back = support.unconstrain(x)
        again = support.constrain(back)[0]
        return x, log_det, slope, back.ravel(), again, jax.jacfwd(flat)(u), support.contains(x)

    return int(np.prod(free)), look


QUICK = ["interval", "simplex"]
REST = slow(*(name for name in CASES if name not in QUICK))


@pytest.mark.parametrize("name", [*QUICK, *REST])
def test_maps_are_inverse_and_the_jacobian_is_that_of_the_map(name, x64):
    size, look = looks(name)

    @SEARCH
    @given(points(size, 6.0))
    def holds(u):
        x, log_det, _, back, again, jacobian, inside = map(np.asarray, look(jnp.asarray(u)))
        assert inside
        np.testing.assert_allclose(back, u, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(again, x, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-7, atol=1e-7)

    holds()


def stays_inside(name, dtype):
    size, look = looks(name)
    eps = float(jnp.finfo(dtype).eps)

    @SEARCH
    @given(points(size, 1e4, width=32))
    def holds(u):
        told = map(np.asarray, look(jnp.asarray(u, dtype)))
        x, log_det, slope, back, again, _, inside = told
        assert x.dtype == dtype and inside
        for array in (x, log_det, slope, back, again):
            assert np.isfinite(array).all()
        np.testing.assert_allclose(again, x, rtol=3e3 * eps, atol=1e3 * eps * np.max(abs(x)))

    holds()


@pytest.mark.parametrize("name", [*QUICK, *REST])
def test_any_point_lands_inside_and_comes_back(name):
    stays_inside(name, jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_any_point_lands_inside_and_comes_back_in_double_precision(name, x64):
    stays_inside(name, jnp.float64)
