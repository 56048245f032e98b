"""The arguments of a model: arrays as leaves, everything else static, addressed by name."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.bridges.leaves import as_leaves, describe, named_arrays, named_leaves


class Concrete:
    """An array that stays a NumPy array while compiling; compared by content."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = np.array(value)
        self.value.setflags(write=False)
        self._content = (self.value.shape, self.value.dtype.str, self.value.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Concrete) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def __repr__(self) -> str:
        return f"static {self.value.dtype.name}{list(self.value.shape)}"


def freeze(tree: Any) -> Any:
    """A tree with concrete arrays; integer scalars become Python integers."""

    def one(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        value = np.asarray(leaf)
        whole = value.ndim == 0 and value.dtype.kind in "biu"
        return value.item() if whole else Concrete(value)

    return jax.tree.map(one, tree)


def thaw(tree: Any) -> Any:
    """The inverse of `freeze`: NumPy arrays where there are concrete ones."""
    return jax.tree.map(lambda leaf: leaf.value if isinstance(leaf, Concrete) else leaf, tree)


class Inputs(eqx.Module):
    """Positional and keyword arguments with the parameter name of each.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        names: the parameter name of every positional argument, then of every keyword.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: tuple[str, ...] = eqx.field(static=True)

    def items(self) -> dict[str, Any]:
        """Every argument by parameter name."""
        positional = dict(zip(self.names, self.args, strict=False))
        return positional | self.kwargs

    def replace(self, values: dict[str, Any]) -> "Inputs":
        """The same call with other values for these parameters."""
        args = tuple(
            values.get(name, value) for name, value in zip(self.names, self.args, strict=False)
        )
        kwargs = {name: values.get(name, value) for name, value in self.kwargs.items()}
        return Inputs(args, kwargs, self.names)

    def freeze(self, names: Sequence[str]) -> "Inputs":
        """The same call with these parameters concrete."""
        items = self.items()
        return self.replace({name: freeze(items[name]) for name in names})

    def take(self, names: Sequence[str], indices: Array) -> "Inputs":
        """The same call with these rows of these parameters."""
        items = self.items()
        return self.replace(
            {
                name: jax.tree.map(lambda x: x[indices] if eqx.is_array(x) else x, items[name])
                for name in names
            }
        )

    def arrays(self) -> dict[str, Array]:
        """Every array by parameter name, or path where an argument holds several."""
        found = {}
        for name, value in self.items().items():
            for path, leaf in named_arrays(value, "").items():
                found[f"{name}.{path}" if path else name] = leaf
        return found

    def concrete(self) -> dict[str, Array]:
        """Every concrete array, named like those of `arrays`."""
        found = {}
        for name, value in self.items().items():
            for path, leaf in named_leaves(value, ""):
                if isinstance(leaf, Concrete):
                    found[f"{name}.{path}" if path else name] = jnp.asarray(leaf.value)
        return found

    def array_arguments(self) -> list[str]:
        """Names of the parameters that hold arrays."""
        return [name for name, value in self.items().items() if named_arrays(value, "")]

    def call(self, model: Callable) -> Any:
        """What the model returns for these arguments."""
        args, kwargs = thaw((self.args, self.kwargs))
        return model(*args, **kwargs)

    def describe(self) -> str:
        """Names and shapes for messages."""
        return describe(self.items(), "argument")


def bind(model: Callable, args: tuple, kwargs: dict) -> Inputs:
    """The arguments of `model(*args, **kwargs)` with their parameter names."""
    names: list[str] = []
    try:
        signature = inspect.signature(model)
    except ValueError:  # a callable that does not tell its parameters
        names = [f"args[{i}]" for i in range(len(args))]
    else:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(
                f"the model cannot be called with these arguments: {error}. Its parameters are "
                f"{signature}; write `from_numpyro(model, *args, **kwargs)` with the arguments "
                "that the model itself takes."
            ) from None
        fixed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        named = [p.name for p in signature.parameters.values() if p.kind in fixed]
        names = [named[i] if i < len(named) else f"args[{i}]" for i in range(len(args))]
    converted = {name: as_leaves(value, name) for name, value in kwargs.items()}
    positional = tuple(as_leaves(value, name) for name, value in zip(names, args, strict=True))
    return Inputs(positional, converted, tuple(names) + tuple(kwargs))


def check_names(inputs: Inputs, names: Sequence[str], option: str) -> tuple[str, ...]:
    """Refuse names of arguments that were not given."""
    names = (names,) if isinstance(names, str) else tuple(names)
    known = list(inputs.items())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{option} names {unknown}, but the arguments given are {known}. Write "
            f"`{option}={tuple(known[:1])}` with names from that list."
        )
    return names
