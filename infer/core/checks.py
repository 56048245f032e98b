"""Hyper-parameters as strongly typed arrays, refused at construction where they cannot work."""

from collections.abc import Callable

import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array


def positive(name: str, example: float) -> Callable[[float | int | Array], Array]:
    """A field converter: a number > 0 becomes an array of the default float type.

    An array leaf, so that another value compiles nothing and can be vmapped over. `example` is
    the value that the error suggests.
    """

    def convert(value: float | int | Array) -> Array:
        if not isinstance(value, Tracer) and not jnp.all(jnp.asarray(value) > 0):
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
