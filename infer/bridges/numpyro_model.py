"""A NumPyro model as a density over unconstrained sites. Importing this imports NumPyro."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array
from numpyro import handlers
from numpyro.distributions import biject_to

from infer.bridges.model_inputs import Inputs, bind
from infer.bridges.model_trace import (
    FixedPlates,
    Trace,
    is_factor,
    is_masked,
    log_jacobian_name,
    run_constrained,
    run_unconstrained,
    scaled_log_prob,
    site_log_prob,
)
from infer.core.target import AbstractModel, Labels, Site, check_named
from infer.core.types import PRNGKey, Values
from infer.references.citation import cites
from infer.references.software import NUMPYRO


@cites(NUMPYRO)
class NumPyroModel(AbstractModel):
    """A model written with NumPyro's primitives, and the arguments it is called with.

    Attributes:
        model: the user's function.
        inputs: its arguments; arrays are leaves.
        indices: indices of the subsampled plate, or None for all of them.
        plate: name of the plate whose indices a minibatch chooses, or None.
        row_names: arguments whose rows a minibatch chooses.
        row_sites: observed sites and factors over those rows, scaled by N/B on a minibatch.
        observed_arguments: arguments that are observed as they are, with their sites.
        outside: what the function reads beside its arguments.
    """

    model: Callable
    inputs: Inputs
    indices: Array | None
    sites: tuple[Site, ...] = eqx.field(static=True)
    labels: Labels = eqx.field(static=True)
    rows: int | None = eqx.field(static=True)
    plate: str | None = eqx.field(static=True)
    row_names: tuple[str, ...] = eqx.field(static=True)
    row_sites: tuple[str, ...] = eqx.field(static=True)
    observed_arguments: tuple[tuple[str, str], ...] = eqx.field(static=True)
    outside: Hashable = eqx.field(static=True)
    supports: None = eqx.field(static=True, default=None)  # bounds may depend on other sites

    def _trace(self, free: Values) -> Trace:
        free = {name: jnp.asarray(value) for name, value in free.items()}
        return run_unconstrained(self.model, self.inputs, free, self.plate, self.indices)

    def constrain(self, free: Values) -> Values:
        """Site values on their supports."""
        trace = self._trace(free)
        return {site.name: jnp.asarray(trace[site.name]["value"]) for site in self.sites}

    def unconstrain(self, values: Values) -> Values:
        """The inverse of `constrain`; bounds are those at these values."""
        check_named(self.sites, values)
        dtype = jnp.result_type(float)
        latent = {site.name: jnp.asarray(values[site.name], dtype) for site in self.sites}
        trace = run_constrained(self.model, self.inputs, latent, self.plate, self.indices)
        return {
            name: jnp.asarray(biject_to(trace[name]["fn"].support).inv(value))
            for name, value in latent.items()
        }

    def constraints(self, free: Values) -> dict[str, Any]:
        """NumPyro's constraint of every site, with the bounds that it has at these values."""
        values = self.constrain(free)
        trace = run_constrained(self.model, self.inputs, values, self.plate, self.indices)
        return {site.name: trace[site.name]["fn"].support for site in self.sites}

    def derived(self, free: Values) -> Values:
        """Values of `numpyro.deterministic` sites."""
        return {
            name: jnp.asarray(site["value"])
            for name, site in self._trace(free).items()
            if site["type"] == "deterministic"
        }

    def log_terms(self, free: Values, scale: float) -> Values:
        """Log probability by site; the log Jacobian of a latent site is in its own term."""
        return self._terms(self._trace(free), scale)

    def density_terms(self, values: Values, scale: float) -> Values:
        """Log probability by site."""
        latent = {site.name: values[site.name] for site in self.sites}
        trace = run_constrained(self.model, self.inputs, latent, self.plate, self.indices)
        return self._terms(trace, scale)

    def _terms(self, trace: Trace, scale: float) -> Values:
        owners = {log_jacobian_name(site.name): site.name for site in self.sites}
        terms: Values = {}
        for site in trace.values():
            if site["type"] != "sample":
                continue
            term = scaled_log_prob(site)
            if site["name"] in self.row_sites:
                term = scale * term
            name = str(owners.get(site["name"], site["name"]))
            terms[name] = terms[name] + term if name in terms else term
        return terms

    def log_likelihood(self, free: Values) -> Values:
        """Log probability of each observation by observed site, unscaled, in its batch shape.

        Factors and masked sites are left out: their entries are no observations.
        """
        return {
            name: site_log_prob(site)
            for name, site in self._trace(free).items()
            if site["type"] == "sample"
            and site["is_observed"]
            and not is_factor(site)
            and not is_masked(site["fn"])
        }

    def take(self, indices: Array) -> "NumPyroModel":
        """The model on these rows, or on these indices of its subsampled plate."""
        if self.plate is not None:
            return dataclasses.replace(self, indices=indices)
        if not self.row_sites:
            raise ValueError(
                "this model was not made for minibatches. Write "
                "`from_numpyro(model, X, y=y, rows=('X', 'y'), batch_size=batch_size)`."
            )
        return dataclasses.replace(self, inputs=self.inputs.take(self.row_names, indices))

    def prediction_inputs(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments, those that are static in training kept concrete."""
        if not args and not kwargs:
            return args, kwargs
        given = bind(self.model, args, kwargs)
        static = {path.split(".")[0] for path in self.inputs.concrete()}
        frozen = given.freeze([name for name in given.items() if name in static])
        return frozen.args, frozen.kwargs

    def predict(self, key: PRNGKey, free: Values, args: tuple, kwargs: dict) -> Values:
        """One draw of everything that is not latent, and deterministic sites, given one draw.

        Without arguments the training inputs are used and what was observed is drawn; with
        arguments the model is run on those, and what is None in them is drawn.
        """
        inputs = self._prediction_inputs(args, kwargs)
        values = self.constrain(free)
        with FixedPlates(None, None):
            recorder = handlers.trace(
                handlers.substitute(handlers.seed(self.model, key), data=values)
            )
            inputs.call(recorder)
        drawn = {
            name: jnp.asarray(site["value"])
            for name, site in recorder.trace.items()
            if site["type"] == "sample" and not site["is_observed"] and name not in values
        }
        if not drawn:
            raise ValueError(
                "nothing is left to predict: every site is latent or observed. Pass None for what "
                "is to be drawn, such as `X_new, y=None`."
            )
        exact = {
            name: jnp.asarray(site["value"])
            for name, site in recorder.trace.items()
            if site["type"] == "deterministic"
        }
        return exact | drawn

    def _prediction_inputs(self, args: tuple, kwargs: dict) -> Inputs:
        if args or kwargs:
            return bind(self.model, args, kwargs)
        arguments: dict[str, Any] = {name: None for name, _ in self.observed_arguments}
        if not arguments:
            raise ValueError(
                "which argument is observed cannot be told, because the model transforms it. Pass "
                "the arguments to predict at, with None for what is to be drawn: `X, y=None`."
            )
        return self.inputs.replace(arguments)

    def observed(self) -> Values:
        """Observed values by site."""
        return _observed(self)

    def constant(self) -> Values:
        """Array arguments that are not observed themselves, by parameter name."""
        observed = {path for pair in self.observed_arguments for path in pair}
        arrays = self.inputs.arrays() | self.inputs.concrete()
        return {name: value for name, value in arrays.items() if name not in observed}


@eqx.filter_jit
def _observed(model: NumPyroModel) -> Values:
    """Observed values; latent sites are at zero, and compiled away where they do not matter."""
    dtype = jnp.result_type(float)
    free = {site.name: jnp.zeros(site.free_shape, dtype) for site in model.sites}
    return {
        name: jnp.asarray(site["value"])
        for name, site in model._trace(free).items()
        if site["type"] == "sample"
        and site["is_observed"]
        and not is_factor(site)
        and name not in {log_jacobian_name(latent.name) for latent in model.sites}
    }
