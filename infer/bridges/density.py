"""A density that is a Python function, as a target."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.bridges.density_checks import check_functions, check_labels, site_layout, site_supports
from infer.bridges.leaves import (
    as_function,
    as_leaves,
    check_batch_size,
    common_rows,
    describe,
    named_arrays,
)
from infer.bridges.outside import outside
from infer.core.mirror import constrained, unconstrained
from infer.core.support import AbstractSupport
from infer.core.target import AbstractModel, Labels, Site, Target
from infer.core.types import PRNGKey, Values


class Layout(eqx.Module):
    """How site values become the user's parameter tree.

    Attributes:
        slots: per leaf of the tree the index of its site, or -1.
        others: the leaves that are no parameters, in order.
        structure: the tree without its leaves.
    """

    slots: tuple[int, ...] = eqx.field(static=True)
    others: tuple[Any, ...]
    structure: Any = eqx.field(static=True)

    def build(self, values: Sequence[Array]) -> Any:
        """The parameter tree of these site values."""
        others = iter(self.others)
        leaves = [values[slot] if slot >= 0 else next(others) for slot in self.slots]
        return jax.tree.unflatten(self.structure, leaves)


class DensityModel(AbstractModel):
    """A joint density, or a prior and a likelihood of rows, written as functions.

    Attributes:
        joint: `log_density(params)` or `log_density(params, data)`, or None.
        prior: `log_prior(params)`, or None.
        likelihood: `log_likelihood(params, data)`, one value per row, or None.
        supports: one support per site.
        layout: how site values become `params`.
        data: a pytree whose arrays are leaves, or None.
        outside: what the functions read beside their arguments.
    """

    joint: Callable | None
    prior: Callable | None
    likelihood: Callable | None
    supports: tuple[AbstractSupport, ...]
    layout: Layout
    data: Any
    sites: tuple[Site, ...] = eqx.field(static=True)
    labels: Labels = eqx.field(static=True)
    rows: int | None = eqx.field(static=True)
    outside: Hashable = eqx.field(static=True)

    def _params(self, values: Values) -> Any:
        return self.layout.build([values[site.name] for site in self.sites])

    def constrain(self, free: Values) -> Values:
        """Site values on their supports."""
        return constrained(self.sites, self.supports, free)[0]

    def unconstrain(self, values: Values) -> Values:
        """The inverse of `constrain`."""
        return unconstrained(self.sites, self.supports, values)

    def derived(self, free: Values) -> Values:
        """Nothing: a function names no deterministic quantities."""
        return {}

    def log_terms(self, free: Values, scale: float) -> Values:
        """`log_density`, or `log_prior` and `log_likelihood`; and `log_jacobian`."""
        values, log_jacobian = constrained(self.sites, self.supports, free)
        return self.density_terms(values, scale) | {"log_jacobian": log_jacobian}

    def density_terms(self, values: Values, scale: float) -> Values:
        """The same on the supports, without `log_jacobian`."""
        params = self._params(values)
        if self.joint is not None:
            arguments = (params,) if self.data is None else (params, self.data)
            return {"log_density": jnp.asarray(self.joint(*arguments))}
        assert self.prior is not None and self.likelihood is not None
        return {
            "log_prior": jnp.asarray(self.prior(params)),
            "log_likelihood": scale * jnp.sum(self.likelihood(params, self.data)),
        }

    def log_likelihood(self, free: Values) -> Values:
        """One value per row under the name `log_likelihood`; {} for a joint density."""
        if self.likelihood is None:
            return {}
        return {"log_likelihood": self.likelihood(self._params(self.constrain(free)), self.data)}

    def take(self, indices: Array) -> "DensityModel":
        """The model on these data rows."""
        if self.likelihood is None:
            raise ValueError(_NO_ROWS)
        taken = jax.tree.map(lambda x: x[indices] if eqx.is_array(x) else x, self.data)
        return dataclasses.replace(self, data=taken)

    def prediction_inputs(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments as they are."""
        return args, kwargs

    def predict(self, key: PRNGKey, free: Values, args: tuple, kwargs: dict) -> Values:
        """Not possible: a density says how probable data are, not how to draw them."""
        raise NotImplementedError(
            "A target made by `from_log_density` cannot predict: a log density does not say how "
            "to draw new data. Write the model in NumPyro and use `infer.from_numpyro(model, X, "
            "y=y)`, or draw by hand from `result.draws()`."
        )

    def observed(self) -> Values:
        """Nothing: a function does not say which of its data are observed."""
        return {}

    def constant(self) -> Values:
        """Every data array by name; a bare array is called `data`."""
        return named_arrays(self.data, "data")


_NO_ROWS = (
    "batch_size needs a likelihood of single rows, and a joint `log_density` does not show them. "
    "Write the two parts: `infer.from_log_density(example=example, log_prior=log_prior, "
    "log_likelihood=log_likelihood, data=data, batch_size=batch_size)`, where "
    "`log_likelihood(params, rows)` returns one value per row."
)


def from_log_density(
    log_density: Callable[..., Array] | None = None,
    example: Any = None,
    *,
    log_prior: Callable[[Any], Array] | None = None,
    log_likelihood: Callable[[Any, Any], Array] | None = None,
    supports: Mapping[str, Any] | Any = None,
    data: Any = None,
    batch_size: int | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> Target:
    """A target from Python functions that return log densities.

    Either the joint density as `log_density(params)`, or `log_density(params, data)` where `data`
    is given; or its two parts `log_prior(params)` and `log_likelihood(params, data)`, which allow
    minibatches and pointwise likelihoods. Constants may be left out. `params` has the structure of
    `example`, on the supports; the log Jacobian of the map to the real line is added here.

    The arrays in `data`, the bounds of supports and the arrays bound to a function by
    `functools.partial` or an `equinox.Module` are arguments of whatever is compiled: new ones of
    the same shape compile nothing. Shapes are found without computing anything.

    Args:
        log_density: a function that returns a scalar, written in `jax.numpy`.
        example: parameters of the right structure and shape: an array (its site is called `x`), a
            dict, tuple, `NamedTuple`, `equinox.Module` or any nesting of these. Numbers must be
            floats. Site names are the keys joined by dots. The values are not used to start from,
            but must lie in their supports.
        log_prior: a function of `params` that returns a scalar.
        log_likelihood: a function of `params` and any number of rows of `data`, which returns one
            value per row.
        supports: from site name to a support (`positive`, `simplex`, ...) or a NumPyro constraint;
            for a bare array the support itself. Sites that are not named are real.
        data: a pytree of arrays; Python `int`, `bool`, `str` and None in it are static. In the
            two-part form all arrays share one leading axis of N rows.
        batch_size: rows per step, 1 <= batch_size <= N, in the two-part form; None uses all.
        dims: from site name, data name or `log_likelihood` to one dimension name per axis.
        coords: from dimension name to its coordinate values.

    Returns:
        A target.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: functions, shapes, supports, rows or names that do not fit together. Everything
            is checked here, before anything is compiled.
    """
    _check_parts(log_density, log_prior, log_likelihood, example, data)
    rows = None
    if data is not None:
        data = as_leaves(data, "data")
        if not jax.tree.leaves(data):
            raise ValueError("data is empty. Leave it out, or pass a pytree of arrays.")
    if log_likelihood is not None:
        rows = common_rows(data, "data", "from_log_density(data=...)")
        check_batch_size(batch_size, rows)
    elif batch_size is not None:
        raise ValueError(_NO_ROWS)

    names, values, slots, others, structure = site_layout(example)
    bare = structure == jax.tree.structure(0)
    found, words = site_supports(supports, names, values, bare)
    sites = tuple(
        Site(name, value.shape, support.free_shape(value.shape), word)
        for name, value, support, word in zip(names, values, found, words, strict=True)
    )
    shapes = {name: value.shape for name, value in zip(names, values, strict=True)}
    model = DensityModel(
        joint=None if log_density is None else as_function(log_density),
        prior=None if log_prior is None else as_function(log_prior),
        likelihood=None if log_likelihood is None else as_function(log_likelihood),
        supports=tuple(found),
        layout=Layout(slots, others, structure),
        data=data,
        sites=sites,
        labels=check_labels(shapes, data, rows, dims, coords),
        rows=rows,
        outside=outside(log_density, log_prior, log_likelihood),
    )
    params = model.layout.build(values)
    check_functions(model.joint, model.prior, model.likelihood, params, data, rows, batch_size)
    batch_size = None if batch_size is None else int(batch_size)
    return Target(model=model, batch_size=batch_size)  # pyright: ignore[reportCallIssue]


def _check_parts(
    log_density: object, log_prior: object, log_likelihood: object, example: object, data: object
) -> None:
    """Refuse arguments that make neither the joint nor the two-part form."""
    usage = (
        "Write `from_log_density(log_density, example)` or `from_log_density(example=example, "
        "log_prior=log_prior, log_likelihood=log_likelihood, data=data)`."
    )
    named = {
        "log_density": log_density,
        "log_prior": log_prior,
        "log_likelihood": log_likelihood,
    }
    given = [name for name, function in named.items() if function is not None]
    for name in given:
        if not callable(named[name]):
            raise TypeError(f"{name} is {named[name]!r}, it must be a function. {usage}")
    if given not in (["log_density"], ["log_prior", "log_likelihood"]):
        raise ValueError(f"got {' and '.join(given) or 'no function'}. {usage}")
    if example is None:
        raise ValueError(
            f"example is missing: parameters of the right structure and shape. {usage}"
        )
    if log_likelihood is not None and data is None:
        raise ValueError(f"log_likelihood(params, data) needs data. {usage}")
    if isinstance(data, np.ndarray | jax.Array) and data.ndim and data.shape[0] == 0:
        raise ValueError(f"the data are empty: {describe(data, 'data')}.")
