"""Rows that a fitted model is asked about, in the form that its own rows have."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.amortized.model import AmortizedModel
from infer.core.data import Data, Rows
from infer.core.layout import Layout, check_layout, flattened
from infer.planning import at_least_one


def rows_like(data: Data, x: Any, condition: Any, mask: Any) -> Rows:
    """Rows like those of the fit, checked."""
    given, like = Data(x, condition=condition, mask=mask), data.rows
    rows = given.rows
    for name in ("x", "mask", "condition"):
        mine, theirs = vars(like)[name], vars(rows)[name]
        if (mine is None) != (theirs is None):
            need = "needs" if mine is not None else "has no"
            raise ValueError(f"this model {need} a {name} for every row.")
    check_layout("x", data.layout, given.layout)
    check_layout("condition", data.condition_layout, given.condition_layout)
    for name in ("x", "mask", "condition"):
        mine, theirs = vars(like)[name], vars(rows)[name]
        if mine is not None and mine.shape[1:] != theirs.shape[1:]:
            raise ValueError(
                f"{name} has shape {theirs.shape}, and the rows of the fit "
                f"(N, {', '.join(map(str, mine.shape[1:]))})."
            )
    return eqx.tree_at(lambda r: r.x, rows, rows.x.astype(like.x.dtype))


def row_like(data: Data, x: Any, condition: Any, mask: Any) -> Rows:
    """One row like those of the fit, checked."""
    x, mask = _one(x, data.layout), _one(mask, data.layout)
    return rows_like(data, x, _one(condition, data.condition_layout), mask).take(0)


def pair_of(data: Data, first: Any, last: Any) -> Any:
    """Two rows, one after the other."""
    if data.layout is None:
        return jnp.stack([jnp.asarray(first), jnp.asarray(last)])
    ends = zip(data.layout.leaves("first", first), data.layout.leaves("last", last), strict=True)
    return data.layout.tree([np.stack(two) for two in ends])


def conditions_like(data: Data, condition: Any) -> Array | None:
    """Conditions as networks get them."""
    layout = data.condition_layout
    if condition is None or layout is None:
        return None if condition is None else jnp.asarray(condition)
    return jax.vmap(lambda one: layout.ravel("condition", one))(condition)


def as_many(data: Data, n: int | None, condition: Any) -> tuple[int, Array | None]:
    """How many rows to make, and the condition of each."""
    given = conditions_like(data, condition)
    if (given is None) != (data.rows.condition is None):
        raise ValueError(
            "generate needs condition= where the fit had one, and none where it had none."
        )
    if given is not None and n not in (None, len(given)):
        raise ValueError(f"n={n} and {len(given)} conditions do not agree; leave out n.")
    return at_least_one("n", n if given is None else len(given)), given


def as_given(x: Array, layout: Layout | None) -> Any:
    """Rows as the user has them."""
    return x if layout is None else layout.unravel(x)


def means_as_given(x: Array, data: Data) -> Any:
    """Means of rows as the user has rows; a mean of whole numbers is none."""
    return as_given(x, None if data.layout is None else data.layout.typed())


def needs_density(model: AmortizedModel, what: str) -> None:
    """Refuse points and codes, which are no posterior."""
    if not model.head.has_density:
        raise TypeError(
            f"{what} needs a posterior with a density, and this encoder gives a point or a "
            "code; fit a VAE with posterior=infer.MeanField(), or see encode and reconstruct."
        )


def _one(value: Any, layout: Layout | None) -> Any:
    if value is None or layout is None:
        return None if value is None else np.asarray(value)[None]
    _, leaves, structure = flattened(value)
    return structure.unflatten([_one(leaf, None) for leaf in leaves])
