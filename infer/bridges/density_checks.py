"""What `from_log_density` checks before anything is compiled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.bridges.leaves import describe, named_arrays, named_leaves
from infer.core.support import AbstractSupport, real
from infer.core.target import Labels

Shape = tuple[int, ...]


def site_layout(
    example: Any,
) -> tuple[list[str], list[Array], tuple[int, ...], tuple[Any, ...], Any]:
    """Names and values of the sites of an example, and how to rebuild a tree like it.

    Returns names, values, per leaf the index of its site or -1, the other leaves, the structure.
    """
    dtype = jnp.result_type(float)
    names: list[str] = []
    values: list[Array] = []
    slots: list[int] = []
    others: list[Any] = []
    for name, leaf in named_leaves(example, "x"):
        numeric = isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex)
        if not numeric:
            slots.append(-1)
            others.append(leaf)
            continue
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"example: site {name!r} is {leaf!r} of type {np.result_type(leaf)}, parameters "
                f"must be floating. Write `jnp.asarray({np.asarray(leaf).tolist()}, float)`; "
                "what is no parameter belongs in `data`."
            )
        if name in names:
            raise ValueError(f"example: two sites are called {name!r}. Rename one of them.")
        slots.append(len(names))
        names.append(name)
        values.append(jnp.asarray(leaf, dtype))
    if sum(value.size for value in values) == 0:
        raise ValueError(
            f"example is empty: it holds {describe(example, 'x')}. Pass parameters of the right "
            "structure and shape, such as `{'mu': 0.0, 'theta': jnp.zeros(8)}`."
        )
    return names, values, tuple(slots), tuple(others), jax.tree.structure(example)


def site_supports(
    supports: Any, names: Sequence[str], values: Sequence[Array], bare: bool
) -> tuple[list[AbstractSupport], list[str]]:
    """The support of every site and its label, checked against shapes and example values."""
    if supports is None:
        supports = {}
    if not isinstance(supports, Mapping):
        if not bare:
            raise TypeError(
                f"supports is {supports!r}, but the example has the sites {list(names)}. Write "
                f"`supports={{{names[0]!r}: support}}`."
            )
        supports = {names[0]: supports}
    unknown = [name for name in supports if name not in names]
    if unknown:
        raise ValueError(f"supports names {unknown}, but the sites are {list(names)}.")
    found, words = [], []
    for name, value in zip(names, values, strict=True):
        support, word = _as_support(name, supports.get(name, real))
        try:
            free = support.free_shape(value.shape)
            shape = jax.eval_shape(
                lambda u, s=support: s.constrain(u)[0], jax.ShapeDtypeStruct(free, value.dtype)
            ).shape
        except Exception as error:
            raise ValueError(f"supports: {word} does not fit site {name!r}: {error}") from error
        if shape != value.shape:
            raise ValueError(
                f"supports: {word} does not fit site {name!r} of shape {value.shape}: it gives "
                f"values of shape {shape}."
            )
        if not bool(support.contains(value)):
            raise ValueError(
                f"example: site {name!r} is {np.asarray(value)}, which does not lie inside its "
                f"support {word}. Give an example inside it, or another support."
            )
        found.append(support)
        words.append(word)
    return found, words


def _as_support(name: str, given: Any) -> tuple[AbstractSupport, str]:
    if isinstance(given, AbstractSupport):
        return given, given.label
    from infer.bridges.constraints import from_constraint

    try:
        return from_constraint(given)
    except TypeError:
        line = f"supports={{{name!r}: infer.positive}}"
        raise TypeError(
            f"supports: site {name!r} has {given!r}, which is neither a support nor a NumPyro "
            f"constraint. Write `{line}`."
        ) from None
    except NotImplementedError:
        raise TypeError(
            f"supports: site {name!r} has {given!r}, for which NumPyro knows no bijector from "
            "real numbers."
        ) from None


def check_functions(
    joint: Callable | None,
    prior: Callable | None,
    likelihood: Callable | None,
    params: Any,
    data: Any,
    rows: int | None,
    batch_size: int | None,
) -> None:
    """Find the shapes that the functions return, without computing anything."""
    if joint is not None:
        arguments = (params,) if data is None else (params, data)
        _scalar("log_density", joint, arguments)
        return
    assert prior is not None and likelihood is not None and rows is not None
    _scalar("log_prior", prior, (params,))
    _rows(likelihood, params, data, rows)
    # a function that has N written into it fails on another number of rows
    if batch_size is not None and batch_size != rows:
        fewer = jax.tree.map(lambda x: x[:batch_size] if eqx.is_array(x) else x, data)
        _rows(likelihood, params, fewer, batch_size)


def _shapes_of(name: str, function: Callable, arguments: tuple) -> Any:
    given = "; ".join(
        f"{word}: {describe(tree, bare)}"
        for word, tree, bare in zip(("params", "data"), arguments, ("x", "data"), strict=False)
    )
    try:
        return eqx.filter_eval_shape(lambda f, a: f(*a), function, arguments), given
    except Exception as error:
        raise ValueError(
            f"{name} raised {type(error).__name__} when it was traced with {given}. The error "
            f"was: {error}. It must be written in jax.numpy and take "
            f"{'(params, data)' if len(arguments) > 1 else '(params)'}; data are passed only "
            "where `data=` is given."
        ) from error


def _scalar(name: str, function: Callable, arguments: tuple) -> None:
    out, given = _shapes_of(name, function, arguments)
    if isinstance(out, int | float):
        return
    if not isinstance(out, jax.ShapeDtypeStruct | jax.Array | np.ndarray | np.generic):
        raise ValueError(
            f"{name} returned {type(out).__name__}, it must return one number. Given was {given}."
        )
    if out.shape != ():
        raise ValueError(
            f"{name} returned an array of shape {out.shape}, it must return one number. Write "
            f"`return jnp.sum(value)`. Given was {given}."
        )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"{name} returned a number of type {out.dtype}, it must be floating.")


def _rows(function: Callable, params: Any, data: Any, rows: int) -> None:
    out, given = _shapes_of("log_likelihood", function, (params, data))
    shape = np.shape(out) if isinstance(out, int | float | list | tuple) else out.shape
    if shape != (rows,):
        raise ValueError(
            f"log_likelihood returned shape {shape} for {rows} rows of data, it must return one "
            f"value per row, shape {(rows,)}. Sum over the other axes only: "
            f"`jnp.sum(value, axis=-1)`. Given was {given}."
        )


def check_labels(
    shapes: dict[str, Shape],
    data: Any,
    rows: int | None,
    dims: Mapping[str, Sequence[str]] | None,
    coords: Mapping[str, Sequence[Any]] | None,
) -> Labels:
    """Names of dimensions and coordinates, checked against the shapes they label."""
    known = dict(shapes)
    known |= {name: leaf.shape for name, leaf in named_arrays(data, "data").items()}
    if rows is not None:
        known["log_likelihood"] = (rows,)
    sizes: dict[str, int] = {}
    found: dict[str, tuple[str, ...]] = {}
    for name, words in (dims or {}).items():
        if name not in known:
            raise ValueError(f"dims names {name!r}, but there is {sorted(known)}.")
        words = (words,) if isinstance(words, str) else tuple(words)
        if len(words) != len(known[name]):
            raise ValueError(
                f"dims gives {name!r} the dimensions {words}, but its shape is {known[name]}: "
                "one name per axis is needed."
            )
        for word, size in zip(words, known[name], strict=True):
            if sizes.setdefault(word, size) != size:
                raise ValueError(f"dims: {word!r} has size {sizes[word]} and {size} ({name!r}).")
            if word in shapes:
                raise ValueError(f"dims: {word!r} is the name of a site. Rename the dimension.")
        found[name] = words
    values = {word: np.arange(size) for word, size in sizes.items()}
    for word, given in (coords or {}).items():
        if word not in sizes:
            raise ValueError(
                f"coords names {word!r}, but the dimensions are {sorted(sizes)}. Write "
                f"`dims={{site: ({word!r},)}}`."
            )
        if len(given) != sizes[word]:
            raise ValueError(
                f"coords gives {word!r} {len(given)} values, but the dimension has {sizes[word]}."
            )
        values[word] = np.asarray(given)
    return Labels(found, values)
