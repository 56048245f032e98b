"""What functions read beside their arguments, so that a compiled program never outlives it.

Compiled programs are found again by the identity of the function they were made from. A function
that reads a global variable keeps its identity when the variable changes, and the program with the
old value would answer in its place. So the values that it reads are part of what is looked up.
"""

import functools
import hashlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

PLAIN = (type(None), bool, int, float, complex, str, bytes)


@dataclass(frozen=True, eq=False)
class Itself:
    """An object known by its identity alone; held, so that no other can take its id."""

    thing: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def outside(*functions: Any) -> Hashable:
    """Values that functions read from globals, closures, defaults and bound objects, as a key.

    Helpers are followed where they were defined in the same module. Arrays count by their numbers,
    containers by what they contain, other objects by identity. Not seen: attributes of modules and
    of objects from elsewhere, and what a function decorated with `jax.jit` keeps by itself.
    """
    return tuple(_reads(function, set()) for function in functions)


def _reads(thing: Any, seen: set[int]) -> Hashable:
    """The key of a callable; () where it was looked at before."""
    if isinstance(thing, functools.partial):  # what it binds becomes data
        return _reads(thing.func, seen)
    if id(thing) in seen:
        return ()
    seen.add(id(thing))
    if isinstance(thing, MethodType):
        return _reads(thing.__func__, seen), _held(thing.__self__, seen)
    if not isinstance(thing, FunctionType):
        return _held(thing, seen)
    found = [*_named(thing), ("", (thing.__defaults__, thing.__kwdefaults__))]
    return tuple((name, _value(value, thing, seen)) for name, value in found)


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Globals and closure cells that a function, or one inside it, names and that have a value."""
    world = function.__globals__
    for name in sorted(_names(function.__code__)):
        if name in world:
            yield name, world[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _names(code: CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*(_names(part) for part in inner))


def _held(thing: Any, seen: set[int]) -> Hashable:
    """What an object has in its fields; of a pytree its functions alone, since arrays are data."""
    try:
        fields = sorted(vars(thing).items())
    except TypeError:
        return ()
    if isinstance(thing, type):
        return ()
    plain = _is_leaf(thing)
    held: list[Hashable] = []
    for name, value in fields:
        if isinstance(value, FunctionType | MethodType):
            held.append((name, value, _reads(value, seen)))
        elif plain:
            held.append((name, _value(value, thing, seen)))
    return tuple(held)


def _is_leaf(thing: Any) -> bool:
    return jax.tree_util.all_leaves([thing])


def _value(value: Any, reader: Any, seen: set[int]) -> Hashable:
    if isinstance(value, PLAIN):
        return type(value), repr(value)  # a NaN equals itself here
    if isinstance(value, Tracer | ModuleType | type):
        return Itself(value)
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        if array.dtype.hasobject:
            return Itself(value)
        digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16)
        return array.shape, array.dtype.str, digest.digest()
    if isinstance(value, FunctionType):
        near = isinstance(reader, FunctionType) and value.__globals__ is reader.__globals__
        return value, _reads(value, seen) if near else ()
    try:
        leaves, structure = jax.tree.flatten(value)
    except (TypeError, ValueError):  # a dictionary whose keys have no order
        return Itself(value)
    if _is_leaf(value):
        return Itself(value)
    return repr(structure), tuple(_value(leaf, reader, seen) for leaf in leaves)
