"""Running a NumPyro model under handlers of ours. Importing this module imports NumPyro.

The private NumPyro function used here is its own substitution of unconstrained values: it rebuilds
every bijector inside the trace, so bounds may depend on other parameters, and it knows how to index
the sites of a `scan`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.primitives import Messenger

from infer.bridges.constraints import constraint_label
from infer.bridges.model_inputs import Inputs
from infer.core.types import Values

try:
    from numpyro.infer.util import _unconstrain_reparam as substitute_unconstrained
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "This version of NumPyro has no `numpyro.infer.util._unconstrain_reparam`, which "
        "`from_numpyro` is built on. Install one that has it: `pip install 'numpyro>=0.20'`."
    ) from error

Shape = tuple[int, ...]
Trace = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a trace told about one site; `frames` are its plates as (name, axis, size)."""

    name: str
    kind: str  # "latent", "discrete", "observed", "factor", "deterministic" or "param"
    shape: Shape
    frames: tuple[tuple[str, int, int], ...]
    event_ndim: int = 0
    event_dims: tuple[str, ...] = ()
    free_shape: Shape = ()
    support: str = ""
    log_prob_shape: Shape = ()
    argument: str | None = None  # the argument that it observes, where it is one


@dataclasses.dataclass(frozen=True)
class Survey:
    """All sites of a model, and its plates with a `subsample_size` as (name, size)."""

    sites: tuple[Found, ...]
    subsampled: tuple[tuple[str, int], ...]

    def of(self, *kinds: str) -> list[Found]:
        """The sites of these kinds."""
        return [site for site in self.sites if site.kind in kinds]


class FixedPlates(Messenger):
    """No randomness in plates: all indices, or the given ones for one plate.

    A size that differs from the plate's makes NumPyro scale the sites inside. Requests for a key
    are answered with a constant one.
    """

    def __init__(self, plate: str | None, indices: Array | None) -> None:
        super().__init__()
        self.plate = plate
        self.indices = indices
        self.subsampled: dict[str, int] = {}

    def process_message(self, msg: dict[str, Any]) -> None:
        """Give the plate its indices, and tell it how many they are."""
        if msg["type"] == "prng_key" and msg["value"] is None:
            msg["value"] = jax.random.key(0)
        if msg["type"] != "plate" or msg["args"][1] is None:
            return
        name, size = msg["name"], int(msg["args"][0])
        self.subsampled[name] = size
        chosen = self.indices if name == self.plate and self.indices is not None else None
        msg["value"] = jnp.arange(size) if chosen is None else chosen
        msg["args"] = (size, msg["value"].shape[0])


def is_factor(site: dict[str, Any]) -> bool:
    """Is this `numpyro.factor`, rather than a quantity that was observed?"""
    return bool(site["infer"].get("is_auxiliary")) or isinstance(site["fn"], dist.Unit)


def is_masked(fn: Any) -> bool:
    """Does a mask hide some of the entries of this distribution?"""
    while isinstance(fn, dist.ExpandedDistribution | dist.Independent):
        fn = fn.base_dist
    return isinstance(fn, dist.MaskedDistribution) and fn._mask is not True


def run(
    model: Callable,
    inputs: Inputs,
    substitute: Callable | None,
    plate: str | None,
    indices: Array | None,
) -> tuple[Trace, dict[str, int]]:
    """The trace of a model without randomness, and its plates with a `subsample_size`."""
    plates = FixedPlates(plate, indices)
    with plates:
        if substitute is not None:
            model = handlers.substitute(model, substitute_fn=substitute)
        recorder = handlers.trace(model)
        inputs.call(recorder)
    return recorder.trace, plates.subsampled


def run_unconstrained(
    model: Callable, inputs: Inputs, free: Values, plate: str | None, indices: Array | None
) -> Trace:
    """The trace with latent sites given on the real line; Jacobians are factor sites."""
    trace = run(model, inputs, partial(substitute_unconstrained, free), plate, indices)[0]
    for site in trace.values():
        if site["type"] == "sample" and not site["is_observed"] and site["name"] not in free:
            raise ValueError(
                f"latent site {site['name']!r} was not there when the model was first traced; the "
                "sites of a model must not depend on values or on the number of rows."
            )
    return trace


def run_constrained(
    model: Callable, inputs: Inputs, values: Values, plate: str | None, indices: Array | None
) -> Trace:
    """The trace with latent sites given on their supports."""
    plates = FixedPlates(plate, indices)
    with plates:
        recorder = handlers.trace(handlers.substitute(model, data=values))
        inputs.call(recorder)
    return recorder.trace


def site_log_prob(site: dict[str, Any]) -> Array:
    """Log probability of a sample site, unscaled, with its batch shape."""
    if site["intermediates"]:
        return site["fn"].log_prob(site["value"], site["intermediates"])
    return site["fn"].log_prob(site["value"])


def scaled_log_prob(site: dict[str, Any]) -> Array:
    """Sum of the log probability of a site, times the scale that plates and handlers gave it."""
    total = jnp.sum(site_log_prob(site))
    return total if site["scale"] is None else site["scale"] * total


def _placeholder(site: dict[str, Any]) -> Array | None:
    """Zeros in the shape of a latent site; only shapes are looked at."""
    if site["type"] != "sample" or site["is_observed"]:
        return None
    dtype = int if site["fn"].support.is_discrete else float
    shape = tuple(site["kwargs"]["sample_shape"]) + tuple(site["fn"].shape())
    return jnp.zeros(shape, dtype)


def _look_at(site: dict[str, Any], arguments: dict[str, Array]) -> Found | None:
    name, kind = site["name"], site["type"]
    if kind not in ("sample", "deterministic", "param"):
        return None
    shape = tuple(jnp.shape(site["value"]))
    frames = tuple((f.name, f.dim, f.size) for f in site["cond_indep_stack"])
    if kind != "sample":
        return Found(name, kind, shape, frames)
    fn = site["fn"]
    common = {
        "shape": shape,
        "frames": frames,
        "event_ndim": fn.event_dim,
        "event_dims": tuple(site["infer"].get("event_dims", ())),
    }
    if site["is_observed"]:
        same = (path for path, leaf in arguments.items() if leaf is site["value"])
        return Found(
            name,
            "factor" if is_factor(site) else "observed",
            log_prob_shape=tuple(jnp.shape(site_log_prob(site))),
            argument=next(same, None),
            **common,
        )
    if fn.support.is_discrete:
        return Found(name, "discrete", **common)
    try:
        free_shape = tuple(biject_to(fn.support).inverse_shape(shape))
    except NotImplementedError:
        raise ValueError(
            f"latent site {name!r} has the support {constraint_label(fn.support)}, for which "
            "NumPyro knows no bijector from real numbers. Write the site as a function of "
            "unconstrained ones, for instance with `numpyro.deterministic`."
        ) from None
    return Found(
        name,
        "latent",
        free_shape=free_shape,
        support=constraint_label(fn.support),
        log_prob_shape=tuple(jnp.shape(site_log_prob(site))),
        **common,
    )


def survey(
    model: Callable,
    inputs: Inputs,
    *,
    rows: tuple[str, ...] = (),
    n_rows: int | None = None,
    plate: str | None = None,
    n_indices: int | None = None,
) -> Survey:
    """The sites of a model by abstract evaluation: nothing is computed or drawn.

    `rows` with `n_rows` looks at the model with that many rows of these arguments, `plate` with
    `n_indices` at the model with that many indices of this plate.
    """
    sites: list[Found] = []
    plates: dict[str, int] = {}

    def look(inputs: Inputs) -> None:
        if n_rows is not None:
            inputs = inputs.take(rows, jnp.zeros(n_rows, int))
        indices = None if n_indices is None else jnp.zeros(n_indices, int)
        trace, subsampled = run(model, inputs, _placeholder, plate, indices)
        found = (_look_at(site, inputs.arrays()) for site in trace.values())
        sites.extend(site for site in found if site is not None)
        plates.update(subsampled)

    eqx.filter_eval_shape(look, inputs)
    return Survey(tuple(sites), tuple(plates.items()))


def log_jacobian_name(name: str) -> str:
    """The factor site in which NumPyro puts the log Jacobian of a latent site."""
    return f"_{name}_log_det"
