"""Optimizers: equal to optax, free of retraces, and the coin against its recursion by hand."""

import functools
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from infer.optimizers import Optimizer, coin, optimizer

START = np.array([1.0, -2.0, 0.3])
WIDTH = np.array([0.1, 1.0, 7.0])


def gradient(x):
    return (x - jnp.asarray([3.0, 0.0, -1.0], x.dtype)) / jnp.asarray(WIDTH, x.dtype) ** 2


def path(transformation, x, steps):
    """Positions after each step, and the states before the first and after the last."""

    def body(carry, _):
        x, state = carry
        updates, state = transformation.update(gradient(x), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    first = transformation.init(x)
    (_, last), positions = jax.lax.scan(body, (x, first), length=steps)
    return positions, first, last


@pytest.mark.parametrize(
    "factory, numbers",
    [
        (optax.adam, {"learning_rate": 0.05, "b1": 0.8, "b2": 0.99}),
        (optax.adagrad, {"learning_rate": 1}),
        (optax.sgd, {"learning_rate": 1e-3, "momentum": 0.5, "nesterov": True}),
        (optax.adam, {"learning_rate": optax.exponential_decay(0.1, 10, 0.5)}),
        (optax.rmsprop, {"learning_rate": np.float64(0.05)}),
    ],
)
def test_equals_optax(x64, factory, numbers):
    ours = path(optimizer(factory, **numbers), jnp.asarray(START), 50)[0]
    theirs = path(factory(**numbers), jnp.asarray(START), 50)[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def strongly_typed(tree):
    return [(leaf.dtype, leaf.weak_type) for leaf in map(jax.api_util.shaped_abstractify, tree)]


@pytest.mark.parametrize("x64_enabled", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "make", [coin, functools.partial(optimizer, optax.adam, learning_rate=0.1, b1=0.9)]
)
def test_state_keeps_its_types(make, dtype, x64_enabled):
    if dtype == np.float64 and not x64_enabled:
        return
    with jax.enable_x64(x64_enabled):
        x = jnp.asarray(START, dtype)
        positions, first, last = path(make(), x, 3)
        before, after = jax.tree.leaves(first), jax.tree.leaves(last)
        assert strongly_typed(before) == strongly_typed(after)
        assert not any(weak for _, weak in strongly_typed(before))
        assert positions.dtype == dtype


def test_a_new_learning_rate_compiles_nothing_and_a_sweep_is_a_vmap():
    traces = deque()  # a list would be read as data

    @jax.jit
    def final(transformation, x):
        traces.append(0)
        return path(transformation, x, 20)[0][-1]

    x = jnp.asarray(START, jnp.float32)
    rates = [0.01, 0.5, 2]
    singly = [final(optimizer(optax.adam, learning_rate=rate), x) for rate in rates]
    assert len(traces) == 1
    assert not np.allclose(singly[0], singly[1])
    swept = jax.vmap(lambda rate: final(optimizer(optax.adam, learning_rate=rate), x))(
        jnp.asarray(rates)
    )
    np.testing.assert_allclose(swept, np.stack(singly), rtol=1e-5)


def coin_by_hand(x, alpha, steps):
    """The recursion of Sharrock and Nemeth in NumPy."""
    x0 = x = np.array(x, np.float64)
    largest, size, total, reward = np.full(x.shape, 1e-10), 0 * x, 0 * x, 0 * x
    positions = []
    for _ in range(steps):
        c = -np.asarray(gradient(jnp.asarray(x)))
        largest = np.maximum(largest, np.abs(c))
        size = size + np.abs(c)
        reward = np.maximum(reward + c * (x - x0), 0)
        total = total + c
        x = x0 + total / (largest * np.maximum(size + largest, alpha * largest)) * (
            largest + reward
        )
        positions.append(x)
    return np.stack(positions)


@pytest.mark.parametrize("alpha", [0.0, 100.0])
def test_coin_is_its_recursion(x64, alpha):
    ours = path(coin(alpha), jnp.asarray(START), 300)[0]
    np.testing.assert_allclose(ours, coin_by_hand(START, alpha, 300), rtol=1e-12, atol=1e-12)


def test_first_coin_step_is_half_a_unit():
    first = path(coin(), jnp.asarray(START, jnp.float32), 1)[0][0]
    np.testing.assert_allclose(np.abs(first - START), 0.5, rtol=1e-5)


def test_numbers_are_data_and_the_rest_is_program():
    schedule = optax.constant_schedule(0.1)
    made = optimizer(optax.adam, learning_rate=schedule, b1=0.9, nesterov=True)
    assert isinstance(made, Optimizer)
    assert set(made.hyperparameters) == {"b1"}
    assert dict(made.options) == {"learning_rate": schedule, "nesterov": True}
    counted = optimizer(optax.lbfgs, learning_rate=1, memory_size=3)
    assert dict(counted.options) == {"memory_size": 3}
    assert made.hyperparameters["b1"].dtype == jnp.zeros(()).dtype
    assert not made.hyperparameters["b1"].weak_type


def test_wrong_use():
    with pytest.raises(ValueError, match=r"Write `learning_rate=0.1`"):
        optimizer(optax.adam, learning_rate=-0.1)
    with pytest.raises(TypeError, match=r"no hyper-parameter 'lr'.*learning_rate"):
        optimizer(optax.adam, lr=0.1)
