"""A function that reads from outside is compiled anew when what it reads has changed."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import infer
from infer.bridges.outside import outside

PRIOR = 100.0  # variance
Y = np.zeros(3)


def helper():
    return jnp.asarray(Y)


def density(z):
    return -0.5 * jnp.sum(z**2) / PRIOR - 0.5 * jnp.sum((z[0] - helper()) ** 2)


def model():
    mean = numpyro.sample("mean", dist.Normal(0, PRIOR**0.5))
    numpyro.sample("y", dist.Normal(mean, 1), obs=Y)


def row(eta, i):
    return -0.5 * (eta - helper()[i]) ** 2


class Plain:
    def __init__(self, y):
        self.y = y

    def density(self, z):
        return -0.5 * jnp.sum(z**2) / PRIOR - 0.5 * jnp.sum((z[0] - self.y) ** 2)


def mean(target):
    result = infer.fit(target, infer.Laplace(), key=0, progress=False)
    return result.z.mean()


@pytest.mark.parametrize("kind", ["helper", "numpyro", "in place", "method", "glm"])
def test_a_changed_global_changes_the_answer(kind, monkeypatch):
    """The conjugate mean, n ybar / (n + 1/100), before and after."""
    plain = Plain(np.zeros(3))

    def target():
        if kind == "numpyro":
            return infer.from_numpyro(model)
        if kind == "glm":
            return infer.from_glm(np.ones((3, 1)), np.arange(3), row, prior_scale=PRIOR**0.5)
        return infer.from_log_density(plain.density if kind == "method" else density, jnp.zeros(1))

    monkeypatch.setitem(globals(), "Y", np.zeros(3))
    for y in (np.array([1.0, 2, 3]), np.array([7.0, 8, 12])):
        if kind == "in place":
            Y[:] = y
        else:
            plain.y = y
            monkeypatch.setitem(globals(), "Y", y)
        assert abs(mean(target()) - 3 * y.mean() / 3.01) < 0.05


def make(y, more=()):
    def f(z):
        return jnp.sum((z - y) ** 2) + len(more)

    return f


def test_equal_contents_are_one_key_and_other_ones_another():
    keys = [
        outside(make(np.arange(3.0))),
        outside(make(np.arange(3))),
        outside(make(np.arange(3.0).reshape(3, 1))),
        outside(make(np.arange(3.0) + 1e-9)),
        outside(make({"a": [1.0, np.nan]})),
        outside(make({"a": [1.0, 2.0]})),
        outside(make("text", [1])),
        outside(make(jax.random.key(0))),
        outside(make(jax.random.key(1))),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == outside(make(np.arange(3.0)))
    assert keys[4] == outside(make({"a": [1.0, float("nan")]}))
    assert keys[8] == outside(make(jax.random.key(1)))


def test_inner_functions_defaults_and_recursion_are_followed():
    def outer(y):
        def f(z, power=2):
            def inner(u):
                return f(u) if u is None else jnp.sum((u - y) ** power)

            return inner(z)

        return f

    first, second = outer(1.0), outer(1.0)
    # Two functions, so two keys of what refers to itself; but each is the same when asked again.
    assert outside(first) == outside(first) and outside(outer(2.0)) != outside(first)
    second.__defaults__ = (3,)
    assert outside(second) != outside(outer(1.0))


def test_what_becomes_data_is_not_part_of_the_program():
    class Module(eqx.Module):
        y: jax.Array

        def __call__(self, z):
            return -jnp.sum((z - self.y) ** 2)

    assert outside(Module(jnp.zeros(2))) == outside(Module(jnp.ones(2)))
    bound = functools.partial(make, more=())
    assert outside(functools.partial(bound, 1.0)) == outside(functools.partial(bound, 2.0))
