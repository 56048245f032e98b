"""What users hand over, as pytrees with named array leaves."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from jaxtyping import PyTree as Tree


def path_name(path: tuple[Any, ...], bare: str) -> str:
    """The keys on the way to a leaf joined with dots; `bare` for a tree that is one leaf."""
    keys = []
    for key in path:
        match key:
            case jax.tree_util.DictKey(key=name):
                keys.append(str(name))
            case jax.tree_util.GetAttrKey(name=name):
                keys.append(str(name))
            case jax.tree_util.SequenceKey(idx=index):
                keys.append(str(index))
            case jax.tree_util.FlattenedIndexKey(key=index):
                keys.append(str(index))
            case _:
                keys.append(str(key))
    return ".".join(keys) or bare


def named_leaves(tree: Tree, bare: str) -> list[tuple[str, Any]]:
    """Every leaf of a tree with its name."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(path_name(path, bare), leaf) for path, leaf in found]


def named_arrays(tree: Tree, bare: str) -> dict[str, Array]:
    """The array leaves of a tree by name."""
    return {name: leaf for name, leaf in named_leaves(tree, bare) if eqx.is_array(leaf)}


def as_leaf(leaf: Any, name: str) -> Any:
    """An array leaf for what is numeric, the object itself for what is static.

    NumPy and JAX arrays and Python floats become JAX arrays of a strong type; `int`, `bool`,
    `str` and functions stay as they are and take part in what is compiled.
    """
    if isinstance(leaf, np.integer | np.bool_):
        return leaf.item()
    if isinstance(leaf, float | complex | np.generic):
        return jnp.asarray(leaf, jnp.result_type(type(leaf)))
    if isinstance(leaf, np.ndarray):
        if leaf.dtype.kind not in "biufc":
            raise TypeError(
                f"{name} is a NumPy array of dtype {leaf.dtype}; JAX holds numbers only. Encode "
                "it, for instance by `np.unique(values, return_inverse=True)[1]`."
            )
        return jnp.asarray(leaf)
    if isinstance(leaf, jax.Array):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else leaf.astype(leaf.dtype)
    try:
        hash(leaf)
    except TypeError:
        raise TypeError(
            f"{name} is a {type(leaf).__name__}, which is neither an array nor hashable. Hand "
            "over its numbers: `np.asarray(value)` or `value.to_numpy()`."
        ) from None
    return leaf


def as_leaves(tree: Tree, bare: str) -> Tree:
    """A tree with `as_leaf` applied to every leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: as_leaf(leaf, path_name(path, bare)), tree
    )


def as_function(function: Callable) -> Any:
    """A callable whose bound arrays are leaves: `functools.partial` becomes JAX's own."""
    if isinstance(function, functools.partial) and type(function) is functools.partial:
        bound = as_leaves((function.args, function.keywords), "bound")
        return jax.tree_util.Partial(function.func, *bound[0], **bound[1])
    return function


def describe(tree: Tree, bare: str) -> str:
    """Names, dtypes and shapes of the array leaves, for messages: `y: float32[434]`."""
    parts = []
    for name, leaf in named_leaves(tree, bare):
        if isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            sizes = ",".join(map(str, leaf.shape))
            parts.append(f"{name}: {np.dtype(leaf.dtype).name}[{sizes}]")
        else:
            parts.append(f"{name}: {leaf!r}")
    return ", ".join(parts) if parts else "nothing"


def check_batch_size(batch_size: object, size: int) -> None:
    """Refuse a batch that is not an integer in 1..size."""
    if batch_size is None:
        return
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer):
        raise TypeError(
            f"batch_size is {batch_size!r}, it must be an int or None. Write "
            f"`batch_size={min(size, 64)}`."
        )
    if batch_size < 1:
        raise ValueError(
            f"batch_size is {batch_size}, it must be at least 1. Write "
            f"`batch_size={min(size, 64)}`, or leave it out to use every row at every step."
        )
    if batch_size > size:
        raise ValueError(
            f"batch_size is {batch_size}, but there are only {size} rows. Write "
            f"`batch_size={min(size, 64)}`, or leave it out to use every row at every step."
        )


def common_rows(tree: Tree, bare: str, what: str) -> int:
    """The leading axis that all arrays of a tree share."""
    lengths = {}
    for name, leaf in named_arrays(tree, bare).items():
        if leaf.ndim == 0:
            raise ValueError(
                f"{what}: {name} is a scalar, every array needs one leading axis of rows. Bind "
                "constants to the function: `functools.partial(log_likelihood, constant=c)`."
            )
        lengths[name] = leaf.shape[0]
    if not lengths:
        raise ValueError(f"{what}: there is no array with rows, got {describe(tree, bare)}.")
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(
            f"{what}: all arrays need the same number of rows on their first axis, but {listing}."
        )
    size = next(iter(lengths.values()))
    if size == 0:
        raise ValueError(f"{what}: the data are empty, {next(iter(lengths))} has 0 rows.")
    return size
