"""A result as an `xarray.DataTree` in ArviZ's schema. xarray is imported when it is needed."""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from infer.core.evidence import Evidence
from infer.core.target import Labels

if TYPE_CHECKING:
    import xarray

    from infer.result import Result

_PREDICT = 3  # address of the key's use here; `infer.fit` has those below
_SAMPLE = ("chain", "draw")
_RESERVED = ("chain", "draw", "sample", "pred_id")


def to_datatree(
    result: "Result", *, log_likelihood: bool = False, predictive: bool = False
) -> "xarray.DataTree":
    """The result as an `xarray.DataTree`, the container of ArviZ >= 0.8 and 1.x.

    Groups: `posterior` (draws on the supports); `sample_stats` (`lp`, the log density on the
    unconstrained scale with the log Jacobian; `log_q`, that of the fit in the same space, where it
    has one; a sampler's statistics per draw); `fit` (loss and statistics per step of an
    optimization; settings, verdict and cost as attributes); `observed_data` and `constant_data`
    where the target is known. For an optimization `chain` counts restarts, for particles `draw`
    counts particles.

    A variable called `chain` or `draw` gets a `_` at its end, a `/` in a name becomes a `.`, and a
    dimension with the name of a variable gets `_dim` at its end, as the schema demands; the
    attribute `renamed` of the group lists what was changed. Attributes are strings, numbers and
    lists, so that `to_netcdf` takes the tree as it is.

    Args:
        result: what `infer.fit` or `infer.load` returned.
        log_likelihood: add the pointwise log likelihood, which `az.loo` needs: unscaled, computed
            in chunks of draws.
        predictive: add draws of the observed quantities at the training inputs.

    Raises:
        ImportError: where xarray is missing.
        ValueError: where the target is needed and unknown, or has no pointwise log likelihood.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError("to_arviz needs xarray: pip install 'infer-jax[arviz]'.") from error
    labels = result.labels
    posterior = result.draws()
    groups = {
        "posterior": _group(posterior, labels, _SAMPLE),
        "sample_stats": _group(_sample_stats(result), labels, _SAMPLE),
        "fit": _fit(result),
    }
    if log_likelihood:
        groups["log_likelihood"] = _group(result.log_likelihood(), labels, _SAMPLE)
    if predictive:
        drawn = result.predict(key=jax.random.fold_in(result.key, _PREDICT))
        # At the training inputs deterministic sites are in the posterior.
        drawn = {name: values for name, values in drawn.items() if name not in posterior}
        groups["posterior_predictive"] = _group(drawn, labels, _SAMPLE)
    if result.target is not None:
        data = {
            "observed_data": result.target.model.observed(),
            "constant_data": result.target.model.constant(),
        }
        groups |= {name: _group(values, labels) for name, values in data.items() if values}
    for name in ("posterior", "sample_stats"):
        groups[name].attrs |= {"tuning_steps": result.plan.warmup}
        groups[name].attrs |= {"sampling_time": result.timings.run}
    for group in groups.values():
        group.attrs = _origin(result) | group.attrs
    return xarray.DataTree.from_dict(groups)


def _sample_stats(result: "Result") -> dict[str, np.ndarray]:
    stats = {"lp": result.log_prob}
    if result.log_q is not None:
        stats["log_q"] = result.log_q
    if result.is_chains:
        stats |= {name: x for name, x in result.history.items() if name != "loss"}
    return stats


def _fit(result: "Result") -> "xarray.Dataset":
    history = {} if result.is_chains else result.history
    group = _group(history, Labels({}, {}), ("chain", "step"))
    if "step" in group.coords:
        group = group.assign_coords(step=result.plan.thin * np.arange(1, group.sizes["step"] + 1))
    verdict, timings = result.verdict, result.timings
    group.attrs |= {
        "algorithm": result.algorithm_name,
        "settings": result.settings,
        "verdict": verdict.status,
        "evidence": json.dumps([_as_json(e) for e in verdict.evidence]),
        "not_looked_for": verdict.not_looked_for,
        "outcome": str(result.outcome),
        "ending": result.outcome.ending.name.lower(),
        "n_steps": result.outcome.steps,
        "warmup": result.plan.warmup,
        "thin": result.plan.thin,
        "best_restart": result.best,
        "gradients": int(result.gradients),
        "compile_seconds": timings.compile,
        "warmup_seconds": timings.warmup,
        "run_seconds": timings.run,
        "verdict_seconds": timings.verdict,
        "key": [int(word) for word in np.ravel(jax.random.key_data(result.key))],
        "x64": int(result.z.dtype == np.float64),
        "infer_version": result.made["infer"],
        "jax_version": result.made["jax"],
        "platform": result.made["platform"],
    }
    return group


def _as_json(evidence: Evidence) -> dict[str, Any]:
    """Strict JSON has no NaN and no infinities: they become strings."""
    value = evidence.value if math.isfinite(evidence.value) else str(evidence.value)
    return {
        "name": evidence.name,
        "value": value,
        "threshold": evidence.threshold,
        "status": evidence.status,
        "meaning": evidence.meaning,
    }


def _origin(result: "Result") -> dict[str, str]:
    version = result.made["infer"]
    return {
        "created_at": result.made["at"],
        "creation_library": "infer",
        "creation_library_version": version,
        "creation_library_language": "Python",
        "inference_library": "infer",
        "inference_library_version": version,
    }


def _group(
    values: Mapping[str, Any], labels: Labels, leading: tuple[str, ...] = ()
) -> "xarray.Dataset":
    """A data set whose variables start with the dimensions `leading`, every one a coordinate."""
    import xarray

    named: dict[str, str] = {}
    for old in values:
        named[old] = _safe(old, {*_RESERVED, *leading, *named.values()})
    renamed = [f"{old} -> {new}" for old, new in named.items() if old != new]
    taken = {*named.values(), *_RESERVED, *leading}
    sizes: dict[str, int] = {}
    variables, coords = {}, {}
    for old, value in values.items():
        name, x = named[old], np.asarray(value)
        given = _given(labels.dims.get(old, ()), x.ndim - len(leading))
        dims = list(leading)
        sizes |= dict(zip(leading, x.shape, strict=False))
        for axis, size in enumerate(x.shape[len(leading) :]):
            wanted = given[axis] if given else f"{name}_dim_{axis}"
            dim = wanted
            while dim in taken or dim in dims or sizes.get(dim, size) != size:
                dim += "_bis" if dim in dims[len(leading) :] else "_dim"
            if dim != wanted:
                renamed.append(f"{wanted} -> {dim} (dimension of {name})")
            sizes[dim] = size
            known = labels.coords.get(wanted)
            coords[dim] = _coordinate(known, size)
            dims.append(dim)
        variables[name] = (tuple(dims), x)
    coords |= {dim: np.arange(sizes[dim]) for dim in leading if dim in sizes}
    group = xarray.Dataset(variables, coords)
    if renamed:
        group.attrs["renamed"] = renamed
    return group


def _safe(name: str, taken: set[str]) -> str:
    """A name that the schema allows: no path, and not taken."""
    name = name.replace("/", ".")
    while name in taken:
        name += "_"
    return name


def _given(dims: tuple[str, ...], ndim: int) -> tuple[str, ...]:
    """The given dimensions; a log likelihood has none for the axes of one event, the last ones."""
    return tuple(dims[:ndim]) if len(dims) >= ndim else ()


def _coordinate(known: np.ndarray | None, size: int) -> np.ndarray:
    """Values along a dimension, in a type that a file can hold."""
    if known is None or len(known) != size:
        return np.arange(size)
    known = np.asarray(known)
    return known.astype(str) if known.dtype.kind == "O" else known
