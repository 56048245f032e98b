"""Networks of libraries that keep the weights apart from the function."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from infer.amortized.networks import AbstractNetwork
from infer.core.types import PRNGKey


class Applied(eqx.Module):
    """x -> apply(params, x).

    Attributes:
        params: the weights, a pytree of arrays; all of them are trained.
        apply: the function.
    """

    params: PyTree[Array]
    apply: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, *inputs: Any) -> Any:
        """What the network gives for one row."""
        return self.apply(self.params, *inputs)


class Functional(AbstractNetwork):
    """A network as two functions, as flax.linen, haiku and `jax.example_libraries.stax` have them.

        params = init(key, x),   output = apply(params, x)

    for one row x (of an encoder then mask and condition where there are any; of a decoder z, then
    the condition), without a batch axis. With `flax`: `Functional(module.init, module.apply)`; with
    haiku the same of `hk.without_apply_rng(hk.transform(f))`; with stax, as NumPyro's examples have
    it, `Functional(lambda key, x: made[0](key, x.shape)[1], made[1])`. The modules of `flax.nnx`
    and Equinox are callable pytrees and need none of this. All of params is trained: state that is
    not (running means of a batch norm) has no place here.

    Args:
        init: makes the weights from a key and the arrays of one row.
        apply: gives the output from the weights and the arrays of one row. Part of the program, so
            a new function means a new compilation.

    Raises:
        TypeError: for what is no function, or weights that are no arrays.
    """

    make: Callable[..., PyTree[Array]] = eqx.field(static=True)
    apply: Callable[..., Any] = eqx.field(static=True)
    flat: ClassVar[bool] = False

    def __init__(self, init: Callable[..., PyTree[Array]], apply: Callable[..., Any]) -> None:
        for name, function in (("init", init), ("apply", apply)):
            if not callable(function):
                raise TypeError(
                    f"Functional needs {name} as a function, got {function!r}; write "
                    "infer.Functional(module.init, module.apply)."
                )
        self.make, self.apply = init, apply

    def init(self, key: PRNGKey, inputs: tuple[Any, ...], start: Array, spread: float) -> Applied:
        """The first network; where it starts is its own affair."""
        del start, spread
        params = self.make(key, *(jax.tree.map(lambda leaf: leaf[0], part) for part in inputs))
        if wrong := [leaf for leaf in jax.tree.leaves(params) if not eqx.is_array(leaf)]:
            raise TypeError(
                f"Functional needs init to give a pytree of arrays alone, got {wrong[0]!r} in it."
            )
        return Applied(params, self.apply)
