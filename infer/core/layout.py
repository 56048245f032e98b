"""Rows of several parts as vectors, and back."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

# Not a field of a tree: a list is an array, as in NumPy, and None stands for a part.
_LEAF = (list, type(None))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the parts of a row lie in one vector, each raveled, one after the other.

    Attributes:
        structure: the tree of the parts.
        names: where in the tree each part is, `"pixels"`, or `"a.b"` in a tree of trees.
        shapes: of a row of each part.
        dtypes: of each part.
    """

    structure: Any
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each part."""
        return tuple(math.prod(shape) for shape in self.shapes)

    def parts(self, x: Any) -> list[Any]:
        """The parts (..., *shape) of vectors (..., D), in the type of the vectors."""
        cuts = np.cumsum(self.sizes)
        lead = x.shape[:-1]
        return [
            x[..., end - size : end].reshape(*lead, *shape)
            for end, size, shape in zip(cuts, self.sizes, self.shapes, strict=True)
        ]

    def tree(self, parts: list[Any]) -> Any:
        """The tree of these parts."""
        return jax.tree.unflatten(self.structure, parts)

    def unravel(self, x: Any) -> Any:
        """The tree of vectors (..., D), each part (..., *shape) in its own type."""
        parts = zip(self.parts(x), self.dtypes, strict=True)
        return self.tree([part.astype(dtype) for part, dtype in parts])

    def ravel(self, owner: str, tree: Any) -> Array:
        """The vector (D,) of the tree of one row, in the default float type.

        Raises:
            ValueError: naming the `owner`, for other parts or other shapes.
        """
        parts = self.leaves(owner, tree)
        self._check_shapes(owner, tuple(np.shape(part) for part in parts))
        dtype = jnp.zeros(()).dtype
        return jnp.concatenate([jnp.ravel(part).astype(dtype) for part in parts])

    def leaves(self, owner: str, tree: Any) -> list[Any]:
        """The parts of a tree that must have these, whatever they are; None may stand for one."""
        names, leaves, structure = flattened(tree)
        self.check_structure(owner, names, structure)
        return leaves

    def check(self, owner: str, found: "Layout | None") -> None:
        """Refuse other parts or other shapes, whatever their types."""
        if found is None:
            self.check_structure(owner, ("",), jax.tree.structure(0))
        else:
            self.check_structure(owner, found.names, found.structure)
            self._check_shapes(owner, found.shapes)

    def check_structure(self, owner: str, names: tuple[str, ...], structure: Any) -> None:
        """Refuse other parts: which are missing, which are too much."""
        if structure == self.structure:
            return
        missing = ", ".join(name for name in self.names if name not in names)
        more = ", ".join(name for name in names if name not in self.names)
        found = [f"lacks {missing}"] * bool(missing) + [f"has {more} too much"] * bool(more)
        if jax.tree_util.treedef_is_leaf(structure):
            found = ["is one array"]
        elif not found:
            found = [f"is built as {structure} and not as {self.structure}"]
        raise ValueError(
            f"{owner} must have the parts {', '.join(self.names)}, and {' and '.join(found)}; "
            f"write {self.written()}."
        )

    def _check_shapes(self, owner: str, found: tuple[tuple[int, ...], ...]) -> None:
        if found != self.shapes:
            wanted, got = (
                ", ".join(f"{n} {shape}" for n, shape in zip(self.names, shapes, strict=True))
                for shapes in (self.shapes, found)
            )
            raise ValueError(f"{owner} must have parts of shapes {wanted}, got {got}.")

    def written(self, values: tuple[str, ...] | None = None) -> str:
        """The tree as one would write it."""
        values = ("...",) * len(self.names) if values is None else values
        return str(self.tree([_Bare(value) for value in values]))

    def described(self) -> str:
        """The tree with the shapes of the parts."""
        return self.written(tuple(f"array of shape {shape}" for shape in self.shapes))

    def typed(self, dtype: Any = None) -> "Layout":
        """The same with all parts of one type, that of floats by default."""
        dtype = jnp.zeros(()).dtype if dtype is None else np.dtype(dtype)
        return dataclasses.replace(self, dtypes=(dtype,) * len(self.names))


class _Bare(str):
    """Text that is shown as it is."""

    def __repr__(self) -> str:
        return str(self)


def flattened(
    tree: Any, leaf: type | tuple[type, ...] = _LEAF
) -> tuple[tuple[str, ...], list[Any], Any]:
    """Names, leaves and structure of a tree, of which also `leaf` are leaves."""
    pairs, structure = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: isinstance(node, leaf)
    )
    names = tuple(jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in pairs)
    return names, [value for _, value in pairs], structure


def check_layout(owner: str, wanted: Layout | None, found: Layout | None) -> None:
    """Refuse rows of parts in the place of one array, and other parts than those of the fit."""
    if wanted is not None:
        wanted.check(owner, found)
    elif found is not None:
        raise ValueError(
            f"{owner} must be one array, as it was in the fit, got parts {', '.join(found.names)}."
        )


def is_tree(values: Any) -> bool:
    """Are those several arrays? Not if it is a list, or a tuple of numbers: these are one array."""
    _, leaves, structure = flattened(values)
    return not jax.tree_util.treedef_is_leaf(structure) and any(np.ndim(leaf) for leaf in leaves)


def table(name: str, values: Any) -> tuple[np.ndarray, Layout | None]:
    """An array of numbers as it is; a tree of arrays with a row per datum as floats (N, D).

    Args:
        name: of the values, for errors.
        values: an array, or a tree of arrays (N, ...).
    """
    if not is_tree(values):
        return _numbers(name, values), None
    names, leaves, structure = flattened(values)
    arrays = [_numbers(f"{name} of {part}", leaf) for part, leaf in zip(names, leaves, strict=True)]
    lengths = {part: np.shape(a)[:1] for part, a in zip(names, arrays, strict=True)}
    if len(set(lengths.values())) > 1 or not all(n and n[0] for n in lengths.values()):
        shapes = {part: a.shape for part, a in zip(names, arrays, strict=True)}
        raise ValueError(
            f"Data needs {name} with as many rows in every part, (N, ...) with N >= 1, got shapes "
            f"{shapes}; a list counts as one array, so write a dict or a tuple of arrays."
        )
    dtype = jnp.zeros(()).dtype
    dtypes = tuple(jax.dtypes.canonicalize_dtype(a.dtype) for a in arrays)
    for part, a, kind in zip(names, arrays, dtypes, strict=True):
        if a.dtype.kind == "i" and np.any((a.astype(dtype) != a) | (a.astype(kind) != a)):
            raise ValueError(
                f"Data got whole numbers in {part} that {dtype} does not hold, up to "
                f'{np.max(np.abs(a))}; write jax.config.update("jax_enable_x64", True), or number '
                "them anew."
            )
    layout = Layout(structure, names, tuple(a.shape[1:] for a in arrays), dtypes)
    flat = [a.reshape(len(a), -1).astype(dtype) for a in arrays]
    return np.concatenate(flat, axis=1), layout


def _numbers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Data needs {name} as an array of numbers, got type {array.dtype}.")
    if array.dtype.kind == "f":
        return array.astype(jnp.zeros(()).dtype)
    return array.astype(jnp.zeros((), int).dtype) if array.dtype.kind == "u" else array
