"""Targets whose negative log density is f + g, g with kinks or jumps."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from infer.core.nonsmooth import AbstractNonsmooth
from infer.core.support import AbstractSupport, Real
from infer.core.target import AbstractModel, Labels, Site, Target
from infer.core.types import PRNGKey, Scalar, Values, Vector


class CompositeModel(AbstractModel):
    """A model times exp(-g) of its values.

    Attributes:
        model: the smooth part.
        terms: one per site, None where there is none.
        blunt: is g seen in the density but not in its gradient?
    """

    model: AbstractModel
    terms: tuple[AbstractNonsmooth | None, ...]
    blunt: bool = eqx.field(static=True, default=False)

    @property
    def sites(self) -> tuple[Site, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model."""
        return self.model.sites

    @property
    def supports(self) -> tuple[AbstractSupport, ...] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model."""
        return self.model.supports

    @property
    def labels(self) -> Labels:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model."""
        return self.model.labels

    @property
    def rows(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model."""
        return self.model.rows

    def nonsmooth(self, values: Values) -> Scalar:
        """-g of the values."""
        total = jnp.zeros(())
        for site, term in zip(self.sites, self.terms, strict=True):
            if term is not None:
                total = total - term.value(jnp.asarray(values[site.name]))
        return jax.lax.stop_gradient(total) if self.blunt else total

    def constrain(self, free: Values) -> Values:
        """That of the model."""
        return self.model.constrain(free)

    def unconstrain(self, values: Values) -> Values:
        """That of the model."""
        return self.model.unconstrain(values)

    def derived(self, free: Values) -> Values:
        """Those of the model."""
        return self.model.derived(free)

    def log_terms(self, free: Values, scale: float) -> Values:
        """Those of the model, and `nonsmooth`."""
        return self.model.log_terms(free, scale) | {
            "nonsmooth": self.nonsmooth(self.constrain(free))
        }

    def density_terms(self, values: Values, scale: float) -> Values:
        """Those of the model, and `nonsmooth`."""
        return self.model.density_terms(values, scale) | {"nonsmooth": self.nonsmooth(values)}

    def log_likelihood(self, free: Values) -> Values:
        """That of the model."""
        return self.model.log_likelihood(free)

    def take(self, indices: Int[Array, " B"]) -> "CompositeModel":
        """The model on these data rows."""
        return dataclasses.replace(self, model=self.model.take(indices))

    def prediction_inputs(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Those of the model."""
        return self.model.prediction_inputs(args, kwargs)

    def predict(self, key: PRNGKey, free: Values, args: tuple, kwargs: dict) -> Values:
        """That of the model."""
        return self.model.predict(key, free, args, kwargs)

    def observed(self) -> Values:
        """Observed data of the model."""
        return self.model.observed()

    def constant(self) -> Values:
        """Other data of the model."""
        return self.model.constant()


def Composite(
    smooth: Target, nonsmooth: AbstractNonsmooth | Mapping[str, AbstractNonsmooth]
) -> Target:
    """A target exp(-f - g): a smooth one, -f its log density, times exp(-g), g convex.

        target = infer.Composite(likelihood, {"beta": infer.L1(1.0)})

    g is a function of the values of a site. Adjusted samplers (`MYMALA`, `NUTS`, `MALA`) use the
    density with g as it is, proximal ones (`MYULA`, `SKROCK`, `PGLA`, `BregmanProximalLangevin`,
    `BregmanPGLA`) the proximal map of g; other methods are refused, because a gradient does not
    show a kink or a jump.

    Args:
        smooth: the target without g.
        nonsmooth: from site name to `L1`, `GroupLasso`, `NuclearNorm`, `Box`, `L2Ball`, `Simplex`,
            `Penalty` or an `AbstractNonsmooth` of your own; for a target with one site the term
            itself.

    Returns:
        A target; every adjusted sampler and every proximal one takes it.

    Raises:
        TypeError, ValueError: for a name that is no site, a term that does not fit the shape of its
            site, or a site whose coordinates are not its entries.
    """
    if not isinstance(smooth, Target):
        raise TypeError(
            f"Composite needs a target for the smooth part, got {type(smooth).__name__}; write "
            "infer.Composite(infer.from_log_density(log_density, example), infer.L1(1.0))."
        )
    if isinstance(smooth.model, CompositeModel):
        raise ValueError(
            "Composite got a composite target; write infer.Composite(smooth, {name: term, ...}) "
            "with all the terms at once."
        )
    names = [site.name for site in smooth.sites]
    if not isinstance(nonsmooth, Mapping):
        if len(names) > 1:
            raise ValueError(
                f"Composite got {nonsmooth!r} for a target with the sites {names}; write "
                f"infer.Composite(target, {{{names[0]!r}: ...}})."
            )
        nonsmooth = {names[0]: nonsmooth}
    unknown = [name for name in nonsmooth if name not in names]
    if unknown or not nonsmooth:
        raise ValueError(f"Composite names {unknown}, but the sites are {names}.")
    terms = tuple(nonsmooth.get(name) for name in names)
    for site, term in zip(smooth.sites, terms, strict=True):
        if term is not None:
            _check_term(site, term)
    model = CompositeModel(smooth.model, terms)  # pyright: ignore[reportCallIssue]
    return dataclasses.replace(smooth, model=model, linear=None)


def _check_term(site: Site, term: Any) -> None:
    if not isinstance(term, AbstractNonsmooth):
        raise TypeError(
            f"Composite: the term of site {site.name!r} is {term!r}; write infer.L1(1.0) or one "
            "of infer.GroupLasso, NuclearNorm, Box, L2Ball, Simplex, Penalty."
        )
    if site.free_shape != site.shape:
        raise ValueError(
            f"Composite: site {site.name!r} ({site.support}) has {site.free_shape} unconstrained "
            f"coordinates for {site.shape} entries, so g has no gradient in its coordinates. Give "
            "the term to a site of real, positive or bounded entries."
        )
    x = jax.ShapeDtypeStruct(site.shape, jnp.zeros(()).dtype)
    try:
        value, moved = jax.eval_shape(lambda v: (term.value(v), term.prox(v, jnp.ones_like(v))), x)
    except Exception as error:
        raise ValueError(
            f"Composite: {type(term).__name__} does not fit site {site.name!r} of shape "
            f"{site.shape}: {error}"
        ) from error
    if value.shape != () or moved.shape != site.shape:
        raise ValueError(
            f"Composite: {type(term).__name__} of site {site.name!r} gives a value of shape "
            f"{value.shape} and a prox of shape {moved.shape}; needed are () and {site.shape}."
        )


def is_composite(target: Target) -> bool:
    """Has the target a nonsmooth part?"""
    return isinstance(target.model, CompositeModel)


def blunted(target: Target) -> Target:
    """The same density, whose score is that of the smooth part alone."""
    if not isinstance(target.model, CompositeModel):
        return target
    return dataclasses.replace(target, model=dataclasses.replace(target.model, blunt=True))


def terms_of(target: Target) -> dict[str, AbstractNonsmooth]:
    """The nonsmooth terms by site; {} for a smooth target."""
    if not isinstance(target.model, CompositeModel):
        return {}
    pairs = zip(target.sites, target.model.terms, strict=True)
    return {site.name: term for site, term in pairs if term is not None}


def prox(target: Target, z: Vector, t: Vector) -> Vector:
    """The proximal map of g with widths t; z itself on sites without a term."""
    terms, values, widths = terms_of(target), target.unravel(z), target.unravel(t)
    return target.ravel(
        {
            name: terms[name].prox(x, widths[name]) if name in terms else x
            for name, x in values.items()
        }
    )


def pull(target: Target, z: Vector, t: Vector) -> Vector:
    """-(z - prox(z)) / t: minus the gradient of the Moreau envelope of g with widths t."""
    return (prox(target, z, t) - z) / t


def smoothing_gap(target: Target, z: Vector, t: Vector) -> Scalar:
    """g(z) less its Moreau envelope there, in nats: what smoothing adds to the log density."""
    t_of, gap = target.unravel(t), jnp.zeros((), z.dtype)
    for name, term in terms_of(target).items():
        x, width = target.unravel(z)[name], t_of[name]
        p = term.prox(x, width)
        gap += term.value(x) - term.value(p) - jnp.sum((x - p) ** 2 / width) / 2
    return gap


def check_real(target: Target, name: str) -> None:
    """Refuse terms on sites whose coordinates are not their values."""
    supports = target.model.supports
    for i, site in enumerate(target.sites):
        if site.name not in terms_of(target):
            continue
        real = isinstance(supports[i], Real) if supports is not None else "real" in site.support
        if not real:
            raise ValueError(
                f"{name} takes the proximal map in the coordinates of the target, and those of "
                f"site {site.name!r} ({site.support}) are not its values. Write "
                "infer.BregmanProximalLangevin(), which smooths g where the values live, or "
                "infer.MALA(), which needs no proximal map."
            )


def check_composite(target: Target, algorithm: object, takes: bool) -> None:
    """Refuse a composite target for a method that would follow the gradient and miss g."""
    if takes or not is_composite(target):
        return
    kinds = ", ".join(f"{type(term).__name__} on {n!r}" for n, term in terms_of(target).items())
    raise ValueError(
        f"{type(algorithm).__name__} follows gradients, which do not show the nonsmooth part of "
        f"this target ({kinds}). Write infer.fit(target, infer.MYMALA(), key=0), exact, or "
        "infer.MYULA(), infer.PGLA(); infer.NUTS() and infer.MALA() are exact on it too. To follow "
        "subgradients all the same write g into the log density of infer.from_log_density."
    )
