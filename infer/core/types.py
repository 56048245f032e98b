"""The shapes that recur, named once."""

from typing import Any

from jaxtyping import Array, Bool, Float, Int, Key

Scalar = Float[Array, ""]
Count = Int[Array, ""]
Flag = Bool[Array, ""]
Vector = Float[Array, " d"]
Points = Float[Array, "n d"]
PRNGKey = Key[Array, ""]
State = Any  # a pytree of arrays, private to each algorithm
Values = dict[str, Array]  # named arrays, one per site of a model
