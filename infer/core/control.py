"""Control flow that keeps its sense, and its price, under `vmap`."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.types import Flag, Points, Vector

Tree = TypeVar("Tree")


def when(flag: Flag, function: Callable[[Tree], Tree], x: Tree) -> Tree:
    """`function(x)` where the flag is set, otherwise x, without computing it.

    A loop of one turn or none. `jax.lax.cond` becomes a selection under `vmap` and computes both
    branches; a loop ends once no member of the batch needs another turn.
    """

    def turn(carry: tuple[Tree, Flag]) -> tuple[Tree, Flag]:
        return function(carry[0]), jnp.asarray(False)

    return jax.lax.while_loop(lambda carry: carry[1], turn, (x, flag))[0]


def in_blocks(function: Callable[[Vector], Array], x: Points, most: int) -> Array:
    """The values of a function at the rows of x, at most so many at once.

    `jax.lax.map` does this too, but compiles the function once more for the rows left over.
    """
    blocks = -(-len(x) // most)
    if blocks == 1:
        return jax.vmap(function)(x)
    fill = jnp.zeros((-len(x) % blocks, x.shape[1]), x.dtype)
    stacked = jnp.concatenate([x, fill]).reshape(blocks, -1, x.shape[1])
    values = jax.lax.map(jax.vmap(function), stacked)
    return values.reshape(-1, *values.shape[2:])[: len(x)]
