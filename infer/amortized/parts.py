"""What is trained in a model of parts, and what is not."""

from typing import Any

import equinox as eqx


class Frozen(eqx.Module):
    """Arrays that no optimizer touches: what was measured once, or is moved by its own rule.

    Attributes:
        value: any pytree.
    """

    value: Any


def _is_frozen(node: Any) -> bool:
    return isinstance(node, Frozen)


def split(tree: Any) -> tuple[Any, Any]:
    """The trained arrays of a tree, and all the rest; `join` is the inverse."""
    return eqx.partition(tree, eqx.is_inexact_array, is_leaf=_is_frozen)


def join(trained: Any, rest: Any) -> Any:
    """The tree that was split."""
    return eqx.combine(trained, rest)
