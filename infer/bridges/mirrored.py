"""A target in the coordinates of mirror maps."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from infer.bridges.neutra import NeuTraModel
from infer.core.composite import CompositeModel
from infer.core.legendre import AbstractLegendre, LegendreMap
from infer.core.mirror import constrained, unconstrained
from infer.core.mirror_support import EntropicSimplex
from infer.core.support import AbstractMirrorMap, AbstractSupport
from infer.core.target import AbstractModel, Labels, Site, Target
from infer.core.types import PRNGKey, Values
from infer.core.vector_support import Simplex


class MirroredModel(AbstractModel):
    """A model whose sites are mapped to the real line by supports given from outside."""

    model: AbstractModel
    supports: tuple[AbstractSupport, ...]
    sites: tuple[Site, ...] = eqx.field(static=True)
    labels: Labels = eqx.field(static=True)
    rows: int | None = eqx.field(static=True)

    def constrain(self, free: Values) -> Values:
        """Site values on their supports."""
        return constrained(self.sites, self.supports, free)[0]

    def unconstrain(self, values: Values) -> Values:
        """The inverse of `constrain`."""
        return unconstrained(self.sites, self.supports, values)

    def log_terms(self, free: Values, scale: float) -> Values:
        """Terms of the model on its supports, and `log_jacobian`."""
        values, log_jacobian = constrained(self.sites, self.supports, free)
        return self.density_terms(values, scale) | {"log_jacobian": log_jacobian}

    def density_terms(self, values: Values, scale: float) -> Values:
        """Those of the model."""
        return self.model.density_terms(values, scale)

    def _inner(self, free: Values) -> Values:
        return self.model.unconstrain(self.constrain(free))

    def derived(self, free: Values) -> Values:
        """Deterministic quantities of the model."""
        return self.model.derived(self._inner(free))

    def log_likelihood(self, free: Values) -> Values:
        """That of the model."""
        return self.model.log_likelihood(self._inner(free))

    def take(self, indices: Int[Array, " B"]) -> "MirroredModel":
        """The model on these data rows."""
        return dataclasses.replace(self, model=self.model.take(indices))

    def prediction_inputs(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Those of the model."""
        return self.model.prediction_inputs(args, kwargs)

    def predict(self, key: PRNGKey, free: Values, args: tuple, kwargs: dict) -> Values:
        """That of the model."""
        return self.model.predict(key, self._inner(free), args, kwargs)

    def observed(self) -> Values:
        """Observed data of the model."""
        return self.model.observed()

    def constant(self) -> Values:
        """Other data of the model."""
        return self.model.constant()


def mirrored(target: Target, maps: Mapping[str, Any] | None = None) -> Target:
    """The same target in the coordinates of mirror maps, for methods that need them.

        target = infer.mirrored(infer.from_numpyro(model, y=y))
        result = infer.fit(target, infer.SVMD(), key=0)

    The dual variable u = grad psi(x) of each site takes the place of its unconstrained value; so
    any method can be run on it, results and draws by name are as before. By default real, positive
    and bounded sites keep their maps, which are mirror maps as they are, and a simplex gets
    `EntropicSimplex()`.

    Args:
        target: any target.
        maps: from site name to a mirror map, `infer.LogBarrierBox(0, 1)` for instance, or to a
            Legendre function whose slopes cover the real line, `infer.HyperbolicEntropy(2.0)`.

    Returns:
        The target, with draws by name as before.

    Raises:
        ValueError: for a name that is no site, a map that does not fit the shape of its site, or
            a site for which there is no map, because its support has none (ordered vectors,
            matrices) or has bounds that depend on other sites.
    """
    if target.control is not None:
        raise ValueError(
            "the control variates of this target belong to its old coordinates; write "
            "infer.control_variates(infer.mirrored(target), center), in this order."
        )
    maps = {} if maps is None else dict(maps)
    if isinstance(target.model, CompositeModel):
        inside = mirrored(dataclasses.replace(target, model=target.model.model), maps)
        return dataclasses.replace(
            inside, model=dataclasses.replace(target.model, model=inside.model)
        )
    names = [site.name for site in target.sites]
    unknown = [name for name in maps if name not in names]
    if unknown:
        raise ValueError(f"mirrored: maps names {unknown}, but the sites are {names}.")
    known = _known(target)
    supports = []
    for site in target.sites:
        support = maps.get(site.name, _default(known[site.name]))
        if isinstance(support, AbstractLegendre):
            support = LegendreMap(support)
        if not isinstance(support, AbstractMirrorMap):
            line = f"infer.mirrored(target, {{{site.name!r}: infer.LogBarrierBox(0.0, 1.0)}})"
            raise ValueError(
                f"mirrored: site {site.name!r} ({site.support}) has no mirror map by itself, got "
                f"{maps.get(site.name)!r}. Give one, as in `{line}`, or take infer.MSVGD(), which "
                "works on every support without one."
            )
        supports.append(support)
    sites = tuple(
        dataclasses.replace(site, free_shape=support.free_shape(site.shape))
        for site, support in zip(target.sites, supports, strict=True)
    )
    start = target.start
    model = MirroredModel(
        model=target.model,
        supports=tuple(supports),
        sites=sites,
        labels=target.model.labels,
        rows=target.model.rows,
    )
    new = dataclasses.replace(target, model=model, start=None, linear=None)
    if start is None:
        return new
    values = target.model.constrain(target.unravel(start))
    return dataclasses.replace(new, start=new.unconstrain(values))


def _known(target: Target) -> dict[str, AbstractSupport | None]:
    """The support of every site, None where it is none of ours or moves with other sites."""
    if target.model.supports is not None:
        names = (site.name for site in target.sites)
        return dict(zip(names, target.model.supports, strict=True))
    if isinstance(target.model, NeuTraModel):
        raise ValueError(
            "mirrored got a target of infer.neutra, whose coordinates are the noise of all sites; "
            "write infer.neutra(infer.mirrored(target), q), q fitted to infer.mirrored(target)."
        )
    from infer.bridges.constraints import as_mirror_map
    from infer.bridges.numpyro_model import NumPyroModel

    assert isinstance(target.model, NumPyroModel)
    keys = jax.random.split(jax.random.key(0), 2)
    looks = [
        target.model.constraints(target.unravel(jax.random.normal(key, (target.dim,))))
        for key in keys
    ]
    return {
        site.name: as_mirror_map(looks[0][site.name])
        if _same(looks[0][site.name], looks[1][site.name])
        else None
        for site in target.sites
    }


def _same(one: Any, two: Any) -> bool:
    a, b = jax.tree.leaves(one), jax.tree.leaves(two)
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _default(support: AbstractSupport | None) -> AbstractSupport | None:
    return EntropicSimplex() if isinstance(support, Simplex) else support


def check_mirror(mirror: AbstractMirrorMap, shape: tuple[int, ...], *, key: int = 0) -> None:
    """Compare the parts of a mirror map with one another, at a random point.

    `unconstrain` must undo `constrain`; the Jacobian of `constrain`, by autodiff, must be
    symmetric, positive definite, and that of `metric`; its log determinant that of `constrain`.
    In float32 to 1e-3, in float64 to 1e-8.

    Args:
        mirror: the map.
        shape: shape of the parameter on the support.
        key: seed of the point.

    Returns:
        Nothing: what fits passes in silence.

    Raises:
        ValueError: naming the part that does not fit, with both numbers.
    """
    free = mirror.free_shape(shape)
    dtype = jnp.zeros(()).dtype
    tolerance = 1e-3 if dtype == jnp.float32 else 1e-8
    u = jax.random.normal(jax.random.key(key), free, dtype)
    leading = tuple(map(slice, free))
    x, log_det = mirror.constrain(u)
    size = u.size
    jacobian = jax.jacobian(lambda v: mirror.constrain(v)[0][leading])(u).reshape(size, size)
    metric, eye = mirror.metric(u), jnp.eye(size, dtype=dtype).reshape(size, *free)
    rows = np.reshape(jax.vmap(metric.times)(eye), (size, size))
    undone = np.reshape(jax.vmap(metric.solve)(jax.vmap(metric.times)(eye)), (size, size))
    name = type(mirror).__name__

    def compare(what: str, got: Any, wanted: Any) -> None:
        got, wanted = np.asarray(got), np.asarray(wanted)
        if not np.allclose(got, wanted, rtol=tolerance, atol=tolerance):
            raise ValueError(f"{name}: {what}: got {got}, wanted {wanted}")

    compare("unconstrain(constrain(u)) is not u", mirror.unconstrain(x), u)
    compare("the Jacobian of constrain is not symmetric", jacobian, jacobian.T)
    compare("metric is not the Jacobian of constrain", rows, jacobian)
    compare("metric(u).solve does not undo metric(u).times", undone, np.eye(size))
    least = float(jnp.linalg.eigvalsh(jacobian)[0])
    if not least > 0:
        raise ValueError(f"{name}: the Jacobian is not positive definite: eigenvalue {least:.3g}")
    compare("the log Jacobian of constrain", log_det, jnp.linalg.slogdet(jacobian)[1])
