"""A target seen through its supports: values by site, primal coordinates, mirror maps."""

import math
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.support import AbstractMirrorMap, AbstractSupport, Metric
from infer.core.target import Site, Target, check_named
from infer.core.types import Scalar, Values, Vector

Sites = tuple[Site, ...]
Supports = tuple[AbstractSupport, ...]


def constrained(sites: Sites, supports: Supports, free: Values) -> tuple[Values, Scalar]:
    """Site values on their supports, and the log Jacobian of all."""
    pairs = {
        site.name: support.constrain(jnp.asarray(free[site.name]))
        for site, support in zip(sites, supports, strict=True)
    }
    values = {name: value for name, (value, _) in pairs.items()}
    return values, sum((log_det for _, log_det in pairs.values()), start=jnp.zeros(()))


def unconstrained(sites: Sites, supports: Supports, values: Values) -> Values:
    """The inverse of `constrained`."""
    check_named(sites, values)
    dtype = jnp.result_type(float)
    return {
        site.name: support.unconstrain(jnp.asarray(values[site.name], dtype))
        for site, support in zip(sites, supports, strict=True)
    }


def mirror_maps(target: Target) -> tuple[AbstractMirrorMap, ...] | None:
    """The mirror map of every site, or None where one has none."""
    supports = target.model.supports
    if supports is None:
        return None
    maps = tuple(support for support in supports if isinstance(support, AbstractMirrorMap))
    return maps if len(maps) == len(supports) else None


def primal(target: Target, z: Vector) -> Float[Array, " p"]:
    """Site values on their supports as one vector, on which kernels measure distance.

    Where all sites have mirror maps these are as many as z has coordinates, in the same order (a
    simplex without its last entries); else all entries of all sites.
    """
    values = target.model.constrain(target.unravel(z))
    whole = mirror_maps(target) is None
    parts = [
        values[site.name] if whole else values[site.name][tuple(map(slice, site.free_shape))]
        for site in target.sites
    ]
    return jnp.concatenate([jnp.ravel(part) for part in parts])


class Geometry(eqx.Module):
    """The metrics of all sites at one point; J = dx/dz is block diagonal.

    Attributes:
        metrics: one per site, in the shape of its unconstrained value.
    """

    metrics: tuple[Metric, ...]

    def times(self, v: Vector) -> Vector:
        """J v."""
        return self._each(v, Metric.times)

    def solve(self, v: Vector) -> Vector:
        """J^-1 v."""
        return self._each(v, Metric.solve)

    def color(self, v: Vector) -> Vector:
        """L v with L L^T = J^-1."""
        return self._each(v, Metric.color)

    def square(self, v: Vector) -> Scalar:
        """V . J v."""
        squares = (metric.square(part) for metric, part in self._parts(v))
        return sum(squares, start=jnp.zeros((), v.dtype))

    def log_det(self) -> Scalar:
        """Log det J."""
        return sum((metric.log_det() for metric in self.metrics), start=jnp.zeros(()))

    def diagonal(self) -> Vector:
        """The parts a of all sites as one vector."""
        return jnp.concatenate([jnp.ravel(metric.a) for metric in self.metrics])

    def ranks(self) -> list[Array]:
        """The vector b of every block whose Jacobian is not diagonal."""
        found: list[Array] = []
        for metric in self.metrics:
            if metric.b is not None:
                found += list(metric.b.reshape(-1, metric.b.shape[-1]))
        return found

    def places(self) -> list[slice]:
        """The coordinates of those blocks."""
        found, offset = [], 0
        for metric in self.metrics:
            if metric.b is not None:
                k = metric.b.shape[-1]
                found += [slice(i, i + k) for i in range(offset, offset + metric.b.size, k)]
            offset += metric.a.size
        return found

    def _each(self, v: Vector, apply: Callable[[Metric, Array], Array]) -> Vector:
        return jnp.concatenate([jnp.ravel(apply(m, part)) for m, part in self._parts(v)])

    def _parts(self, v: Vector) -> Iterator[tuple[Metric, Array]]:
        offset = 0
        for metric in self.metrics:
            size = math.prod(metric.a.shape)
            yield metric, v[offset : offset + size].reshape(metric.a.shape)
            offset += size


def geometry(target: Target, z: Vector) -> Geometry:
    """The metrics at z of a target all of whose sites have mirror maps.

    Where they are singular to floating point, they are held at what can be divided by.
    """
    maps = mirror_maps(target)
    assert maps is not None
    free, least = target.unravel(z), 1024 * jnp.finfo(z.dtype).tiny
    found = (m.metric(free[site.name]) for site, m in zip(target.sites, maps, strict=True))
    return Geometry(
        tuple(
            Metric(
                jnp.maximum(m.a, least), m.b, None if m.rest is None else jnp.maximum(m.rest, least)
            )
            for m in found
        )
    )


def primal_score(target: Target, z: Vector) -> tuple[Scalar, Vector]:
    """`log_prob(z)` and the gradient in x of the density on the supports.

    The density on the supports is `log_prob` without its log Jacobian; J^-1 of its gradient in z.
    Needs a mirror map for every site.
    """

    def on_supports(z: Vector) -> tuple[Scalar, Scalar]:
        terms = dict(target.log_terms(z))
        log_jacobian = jnp.asarray(terms.pop("log_jacobian"), z.dtype)
        return sum(terms.values(), start=jnp.zeros((), z.dtype)), log_jacobian

    (value, log_jacobian), pulled = jax.value_and_grad(on_supports, has_aux=True)(z)
    return value + log_jacobian, geometry(target, z).solve(pulled)


def check_mirror_maps(target: Target, name: str, instead: str = "infer.MSVGD()") -> None:
    """Refuse a target with a site that has no mirror map, or whose supports are not known."""
    supports = target.model.supports
    if mirror_maps(target) is not None:
        return
    if supports is None:
        raise ValueError(
            f"{name} needs mirror maps, and this model maps its sites in its own way. Write "
            f"`infer.fit(infer.mirrored(target), infer.{name}(), key=0)`, or take {instead}, "
            "which does without."
        )
    lacking = {
        site.name: site.support
        for site, support in zip(target.sites, supports, strict=True)
        if not isinstance(support, AbstractMirrorMap)
    }
    raise ValueError(
        f"{name} needs a mirror map for every site; {lacking} are mapped to the real line in "
        "another way. For a simplex write `infer.mirrored(target)`, which takes "
        f"infer.EntropicSimplex(); elsewhere take {instead}, which needs no mirror map."
    )
