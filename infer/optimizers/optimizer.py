"""Optax transformations whose hyper-parameters are data, not parts of the program."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array

from infer.references.citation import cites
from infer.references.variational import KINGMA_2015

cites(KINGMA_2015)(optax.adam)  # what `optimizer` makes holds the factory


class Optimizer(eqx.Module):
    """An optax factory together with the hyper-parameters that it will be called with.

    Stands wherever an `optax.GradientTransformation` stands. The transformation is built anew
    inside every trace, so that another learning rate compiles nothing and a sweep over learning
    rates is a `vmap`. Make one with `infer.optimizer`.

    Attributes:
        factory: what makes the transformation, for instance `optax.adam`.
        hyperparameters: numbers by name, arrays of the default float type.
        options: everything else by name (schedules, flags, counts); part of the program.
    """

    factory: Callable[..., optax.GradientTransformation] = eqx.field(static=True)
    hyperparameters: dict[str, Array]
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True, default=())

    def _build(self, like: Any) -> optax.GradientTransformation:
        leaves = jax.tree.leaves(like)
        dtype = jnp.result_type(*leaves) if leaves else jnp.zeros(()).dtype
        numbers = {name: value.astype(dtype) for name, value in self.hyperparameters.items()}
        return self.factory(**numbers, **dict(self.options))

    def init(self, params: Any) -> optax.OptState:
        """The state before the first update of `params`, strongly typed."""
        return _strong(self._build(params).init(params))

    def update(
        self, updates: Any, state: optax.OptState, params: Any = None, **extra: Any
    ) -> tuple[Any, optax.OptState]:
        """What to add to `params`, given the gradient `updates` of what is minimized.

        `extra` is for transformations that search along a line, such as `optax.lbfgs`: `value`,
        `grad` and `value_fn` of what is minimized. All others do without.
        """
        built = optax.with_extra_args_support(self._build(updates))
        return built.update(updates, state, params, **extra)


def optimizer(
    factory: Callable[..., optax.GradientTransformation], **hyperparameters: Any
) -> Optimizer:
    """An optax optimizer whose learning rate can change without a new compilation.

        infer.optimizer(optax.adam, learning_rate=0.02, b1=0.8)

    Numbers and arrays become data. Schedules, flags, None and those integers that the factory
    itself declares as integers (`memory_size` of `optax.lbfgs`) stay part of the program, so a
    new schedule object compiles anew. A factory that branches on the value of a number cannot
    have it as data: give it as `functools.partial(factory, name=value)`, and keep that object.

    Args:
        factory: a function that returns an optax transformation.
        hyperparameters: its arguments by name; `learning_rate` is a positive number or a
            schedule (a function of the step).

    Returns:
        An `Optimizer`; it stands wherever an optax transformation does.

    Raises:
        TypeError: for a name that the factory does not take, naming those that it does.
        ValueError: for a negative learning rate.
    """
    signature = inspect.signature(factory).parameters
    name = factory.__name__ if inspect.isroutine(factory) else repr(factory)
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.values())
    unknown = [] if open_ended else [key for key in hyperparameters if key not in signature]
    if unknown:
        raise TypeError(
            f"{name} takes no hyper-parameter {', '.join(map(repr, unknown))}. "
            f"It takes: {', '.join(signature)}."
        )
    numbers: dict[str, Array] = {}
    options: list[tuple[str, Any]] = []
    for key, value in hyperparameters.items():
        if _is_number(value) and not (isinstance(value, int) and _counts(signature.get(key))):
            numbers[key] = jnp.asarray(value, jnp.zeros(()).dtype)
        else:
            options.append((key, value))
    rate = numbers.get("learning_rate")
    if rate is not None and not isinstance(rate, Tracer) and bool(jnp.any(rate < 0)):
        positive = hyperparameters["learning_rate"]
        raise ValueError(
            f"{name} got learning_rate={positive}; every method here minimizes and sets the sign "
            f"itself. Write `learning_rate={-positive}`."
        )
    return Optimizer(factory, numbers, tuple(options))


def first_state(given: Optimizer | optax.GradientTransformation, params: Any) -> optax.OptState:
    """The state before the first update, strongly typed whoever made the optimizer."""
    return _strong(given.init(params))


def advance(
    given: Optimizer | optax.GradientTransformation,
    updates: Any,
    state: optax.OptState,
    params: Any,
    extra: dict[str, Any],
) -> tuple[Any, optax.OptState]:
    """`update` of either kind of optimizer, strongly typed; most have no use for `extra`."""
    if not isinstance(given, Optimizer):
        given = optax.with_extra_args_support(given)
    try:
        updates, state = given.update(updates, state, params, **extra)
    except TypeError as error:
        if extra or "value_fn" not in str(error):
            raise
        raise TypeError(
            "this optimizer searches along a line, which needs a function to be minimized, and a "
            "direction of particles has none. Write infer.KSDD() or infer.MIED(), which do, or "
            "optimizer=infer.coin()."
        ) from error
    return updates, _strong(state)


def searched(state: optax.OptState) -> Array:
    """How often the last update evaluated `value_fn` and its gradient; 0 without a line search."""
    found = optax.tree_utils.tree_get_all_with_path(state, "num_linesearch_steps")
    return sum((count for _, count in found), start=jnp.zeros((), int))


def _strong(state: optax.OptState) -> optax.OptState:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), state)


def check_optimizer(given: Any, method: str) -> None:
    """Refuse what is no optimizer, such as a bare learning rate."""
    if not isinstance(given, Optimizer | optax.GradientTransformation):
        raise TypeError(
            f"{method} needs an optax optimizer, got {given!r}; write "
            "optimizer=infer.optimizer(optax.adam, learning_rate=0.02)."
        )


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float | np.number | np.ndarray | jax.Array)
    return number and not isinstance(value, bool)


def _counts(parameter: inspect.Parameter | None) -> bool:
    """Does the factory declare this parameter as an integer?"""
    if parameter is None:
        return False
    by_default = isinstance(parameter.default, int) and not isinstance(parameter.default, bool)
    return by_default or parameter.annotation in (int, "int")
