"""Hyper-parameters as strongly typed arrays, refused at construction where they cannot work."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike


def positive(name: str, example: float) -> Callable[[ArrayLike], Array]:
    """A field converter: a number > 0 becomes an array of the default float type.

    An array leaf, so that another value compiles nothing and can be vmapped over. `example` is
    the value that the error suggests.
    """

    def convert(value: ArrayLike) -> Array:
        if not isinstance(value, Tracer) and not np.all(np.asarray(value) > 0):
            raise ValueError(f"{name} must be > 0, got {value}; write {name}={example}.")
        return jnp.asarray(value, jnp.zeros(()).dtype)

    return convert


def fraction(name: str, example: float) -> Callable[[float | int | Array], Array]:
    """A field converter: a number strictly between 0 and 1 becomes an array."""

    def convert(value: float | int | Array) -> Array:
        inside = jnp.all((jnp.asarray(value) > 0) & (jnp.asarray(value) < 1))
        if not isinstance(value, Tracer) and not inside:
            raise ValueError(f"{name} must lie in (0, 1), got {value}; write {name}={example}.")
        return jnp.asarray(value, jnp.zeros(()).dtype)

    return convert


def optional_positive(name: str, example: float) -> Callable[[Any], Any]:
    """A field converter like `positive` that lets None through."""
    convert = positive(name, example)
    return lambda value: None if value is None else convert(value)


def nonnegative(name: str, example: float) -> Callable[[ArrayLike], Array]:
    """A field converter: a number >= 0 becomes an array."""

    def convert(value: ArrayLike) -> Array:
        if not isinstance(value, Tracer) and not np.all(np.asarray(value) >= 0):
            raise ValueError(f"{name} must be >= 0, got {value}; write {name}={example}.")
        return jnp.asarray(value, jnp.zeros(()).dtype)

    return convert


def optional_nonnegative(name: str, example: float) -> Callable[[Any], Any]:
    """A field converter like `nonnegative` that lets None through."""
    convert = nonnegative(name, example)
    return lambda value: None if value is None else convert(value)


def check_count(
    owner: str, name: str, value: Any, example: int, least: int = 1, optional: bool = False
) -> None:
    """Refuse what is no whole number of at least `least`; `optional` lets None through."""
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        wanted = f"{name} >= {least}" + (" or None" if optional else "")
        raise ValueError(f"{owner} needs {wanted}, got {value!r}; write {name}={example}.")
