"""What `from_numpyro` checks before anything is compiled. Importing this imports NumPyro."""

import math
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from infer.bridges.leaves import common_rows
from infer.bridges.model_inputs import Inputs
from infer.bridges.model_trace import Survey, run_unconstrained, scaled_log_prob, survey
from infer.core.target import Labels

ASKS_FOR_A_VALUE = (
    jax.errors.ConcretizationTypeError,  # if, while, int(), float()
    jax.errors.TracerArrayConversionError,  # a function of NumPy
    jax.errors.TracerIntegerConversionError,  # range(), an index into a list
)


def first_survey(model: Callable, inputs: Inputs) -> Survey:
    """The sites of a model; where it cannot be traced, a message that names the argument."""
    try:
        return survey(model, inputs)
    except Exception as error:
        if empty := [name for name, array in inputs.arrays().items() if array.size == 0]:
            raise ValueError(f"the data are empty: {empty} of {inputs.describe()}.") from error
        for name in inputs.array_arguments():
            try:
                survey(model, inputs.freeze((name,)))
            except Exception:  # this argument alone is not the cause
                continue
            raise ValueError(
                f"the model needs the concrete value of its argument {name!r}, which is an array "
                f"and may change without compiling. Write `from_numpyro(model, ..., "
                f"static=({name!r},))`, or pass a Python int. The error was: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        if lists := [name for name, value in inputs.items().items() if isinstance(value, list)]:
            raise ValueError(
                f"the model raised {type(error).__name__}, and its arguments {lists} are lists: "
                f"write `np.asarray({lists[0]})`. The error was: {first_line(error)}"
            ) from error
        raise ValueError(
            f"the model raised {type(error).__name__} when it was traced with "
            f"{inputs.describe()}. The error was: {first_line(error)}{_advice(error, inputs)}"
        ) from error


def _advice(error: Exception, inputs: Inputs) -> str:
    """What to write where the model asks for a value that only a compiled run will have."""
    if not isinstance(error, ASKS_FOR_A_VALUE):
        return ""
    return (
        ". Parameters have no values while the model is compiled: write `jnp.where` in place of "
        "`if`, and jax.numpy in place of numpy. Arguments that it needs the values of are named "
        f"in `static={tuple(inputs.array_arguments())}`."
    )


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_sites(found: Survey) -> None:
    """Refuse models with discrete latent sites, parameters, empty data or nothing latent.

    Warns of data that count more than once because they were broadcast: (n,) beside means (n, 1).
    """
    if discrete := [site.name for site in found.of("discrete")]:
        raise ValueError(
            f"the latent sites {discrete} are discrete. Sum them out by hand, for instance with "
            "`dist.MixtureSameFamily` or the forward algorithm, and remove them from the model."
        )
    if params := [site.name for site in found.of("param")]:
        raise ValueError(
            f"the sites {params} are `numpyro.param`, which has no prior. Write "
            f"`numpyro.sample({params[0]!r}, dist.ImproperUniform(dist.constraints.real, (), "
            "shape))` or a proper prior."
        )
    if empty := [site.name for site in found.of("observed") if 0 in site.shape]:
        raise ValueError(f"the data are empty: the observed sites {empty} have no entries.")
    for site in found.of("observed"):
        data = site.shape[: len(site.shape) - site.event_ndim]
        times = math.prod(site.log_prob_shape) // math.prod(data)
        if math.prod(data) > 1 and times > 1:  # a single value beside many means is a usual trick
            warnings.warn(
                f"the observed site {site.name!r} has data of shape {data} and terms of shape "
                f"{site.log_prob_shape}: every datum counts {times} times. If that is not meant, "
                f"give its distribution the shape of the data, {data}.",
                stacklevel=3,
            )
    if not found.of("latent"):
        names = [site.name for site in found.sites]
        raise ValueError(
            f"the model has no latent site, there is nothing to infer. Its sites are {names}; a "
            "site without `obs=` is latent."
        )


def check_rows(inputs: Inputs, rows: tuple[str, ...]) -> int:
    """The number of rows that these arguments share."""
    items = inputs.items()
    arrays = inputs.array_arguments()
    for name in rows:
        if name not in arrays:
            raise ValueError(
                f"rows names {name!r}, which is {items[name]!r}: it must be an array with one row "
                f"per observation. Array arguments are {arrays}."
            )
    return common_rows({name: items[name] for name in rows}, "rows", f"rows={rows}")


def row_sites(
    model: Callable, inputs: Inputs, found: Survey, rows: tuple[str, ...], n: int, batch_size: int
) -> tuple[str, ...]:
    """Observed sites and factors with one term per row, those that a minibatch scales.

    Found by tracing the model with another number of rows and comparing shapes. Refused are models
    that cannot run on fewer rows, latent sites over rows, and terms that depend on the rows
    without having them as an axis.
    """
    other = n - 1 if n > 2 else n + 1  # not 1, which broadcasts
    look = {m: _survey_rows(model, inputs, rows, m) for m in {other, batch_size} - {n}}
    changed = {site.name: site for site in look[other].sites}
    scaled, rest = [], []
    for site in found.of("latent", "observed", "factor"):
        now = changed.get(site.name)
        if now is None or (site.kind == "latent" and now.shape != site.shape):
            raise ValueError(
                f"latent site {site.name!r} has an entry per row (shape {site.shape} with {n} "
                "rows), so it cannot be subsampled. Leave out batch_size, or make the site a "
                "deterministic function of the rows (amortization)."
            )
        if now.log_prob_shape != site.log_prob_shape:
            scaled.append(site.name)
        elif now.shape != site.shape:
            raise ValueError(
                f"site {site.name!r} is one joint event over all rows (event shape {site.shape}), "
                "its density is no sum over rows. Leave out batch_size."
            )
        else:
            rest.append(site.name)
    for name in depends_on_rows(model, inputs, found, rows):
        if name in rest:
            raise ValueError(
                f"the term of site {name!r} depends on {rows} but has no axis of rows, so its "
                "value on a minibatch means something else. Write one term per row, for "
                "instance `numpyro.factor(name, log_likelihoods)` with an array of N values, or "
                "compute it from an argument that is not in rows."
            )
    if not scaled:
        raise ValueError(f"no observed site has an axis of the {n} rows of {rows}.")
    return tuple(scaled)


def _survey_rows(model: Callable, inputs: Inputs, rows: tuple[str, ...], m: int) -> Survey:
    try:
        return survey(model, inputs, rows=rows, n_rows=m)
    except Exception as error:
        raise ValueError(
            f"the model does not run with {m} rows of {rows}: {type(error).__name__}: "
            f"{first_line(error)}. A number of rows must not be written into it: use "
            f"`numpyro.plate('N', {rows[0]}.shape[0])`, and name every argument with rows."
        ) from error


def depends_on_rows(
    model: Callable, inputs: Inputs, found: Survey, rows: tuple[str, ...]
) -> list[str]:
    """Sites whose term is computed from the row arguments, read off the traced program."""
    names: list[str] = []
    dtype = jnp.result_type(float)
    free = {site.name: jnp.zeros(site.free_shape, dtype) for site in found.of("latent")}
    dynamic, static = eqx.partition({name: inputs.items()[name] for name in rows}, eqx.is_array)

    def terms(dynamic):  # noqa: ANN001, ANN202
        given = inputs.replace(eqx.combine(dynamic, static))
        trace = run_unconstrained(model, given, free, None, None)
        sites = {name: site for name, site in trace.items() if site["type"] == "sample"}
        names.extend(sites)
        return [jnp.asarray(scaled_log_prob(site)) for site in sites.values()]

    program = jax.make_jaxpr(terms)(dynamic).jaxpr
    tainted = set(program.invars)
    for equation in program.eqns:
        if any(not isinstance(v, Literal) and v in tainted for v in equation.invars):
            tainted.update(equation.outvars)
    return [
        name
        for name, out in zip(names, program.outvars, strict=True)
        if not isinstance(out, Literal) and out in tainted
    ]


def check_plate(
    model: Callable, inputs: Inputs, found: Survey, batch_size: int | None
) -> tuple[str | None, int | None]:
    """The one plate that a minibatch subsamples, with its size; (None, None) without one."""
    if not found.subsampled:
        if batch_size is None:
            return None, None
        raise ValueError(
            f"batch_size={batch_size} needs to know the rows. Name the arguments that share the "
            "axis of observations, `from_numpyro(model, X, y=y, rows=('X', 'y'), "
            f"batch_size={batch_size})`, or subsample in the model: `with numpyro.plate('N', N, "
            "subsample_size=B) as i:` and index the data by `i`."
        )
    if len(found.subsampled) > 1:
        if batch_size is None:
            return None, None
        raise ValueError(
            f"the plates {[name for name, _ in found.subsampled]} are all subsampled; batch_size "
            "can choose the rows of one. Leave out `subsample_size` in the others."
        )
    plate, size = next(iter(found.subsampled))
    if batch_size is None:
        return plate, size
    for site in found.of("latent"):
        if any(frame[0] == plate for frame in site.frames):
            raise ValueError(
                f"latent site {site.name!r} is inside the subsampled plate {plate!r}: it has one "
                "entry per row and cannot be subsampled. Leave out batch_size, or move the site "
                "out of the plate."
            )
    fewer = batch_size if batch_size not in (1, size) else (size - 1 if size > 2 else size + 1)
    try:
        survey(model, inputs, plate=plate, n_indices=fewer)
    except Exception as error:
        raise ValueError(
            f"the model does not run with {fewer} indices of plate {plate!r}: "
            f"{type(error).__name__}: {first_line(error)}. Index the data by the plate: `with "
            f"numpyro.plate({plate!r}, {size}, subsample_size=B) as i:` and then `y[i]`."
        ) from error
    return plate, size


def label_sites(found: Survey, arrays: list[str]) -> Labels:
    """Dimension names from plates and `infer={'event_dims': [...]}`, coordinates 0, 1, ..."""
    taken = {site.name for site in found.sites} | set(arrays)
    dims: dict[str, tuple[str, ...]] = {}
    coords: dict[str, np.ndarray] = {}
    for site in found.of("latent", "observed", "deterministic"):
        rank = len(site.shape)
        events = [site.event_ndim] if site.kind != "deterministic" else range(rank + 1)
        for event_ndim in events:
            axes = {rank - event_ndim + dim: (name, size) for name, dim, size in site.frames}
            if all(0 <= axis and site.shape[axis] == axes[axis][1] for axis in axes):
                break
        else:
            continue
        words = [f"{site.name}_dim_{axis}" for axis in range(rank)]
        for axis, (name, _) in axes.items():
            words[axis] = f"{name}_dim" if name in taken else name
        if site.event_dims and len(site.event_dims) == event_ndim:
            words[rank - event_ndim :] = site.event_dims
        if words != [f"{site.name}_dim_{axis}" for axis in range(rank)]:
            dims[site.name] = tuple(words)
            coords |= {w: np.arange(n) for w, n in zip(words, site.shape, strict=True)}
    return Labels(dims, coords)
