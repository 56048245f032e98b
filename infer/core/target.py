"""A posterior density, seen flat by algorithms and by name by people."""

import dataclasses
import math
from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from infer.core.control_variate import ControlVariate
from infer.core.linear import LinearPredictor
from infer.core.problem import AbstractProblem
from infer.core.support import AbstractSupport
from infer.core.types import Flag, Points, PRNGKey, Scalar, Values, Vector

START_RADIUS = 2.0  # starts are uniform on (-2, 2) per unconstrained coordinate, as in Stan
START_TRIES = 100


@dataclasses.dataclass(frozen=True)
class Site:
    """A latent variable: its name, its shape on the support and on R^d, and its support."""

    name: str
    shape: tuple[int, ...]
    free_shape: tuple[int, ...]
    support: str


def check_named(sites: tuple[Site, ...], values: Values) -> None:
    """Refuse values by name that leave a site out."""
    missing = [site.name for site in sites if site.name not in values]
    if missing:
        raise KeyError(
            f"no value for {missing}; needed are {[site.name for site in sites]}, got "
            f"{sorted(values)}"
        )


def unravel(sites: tuple[Site, ...], z: Vector) -> Values:
    """Split a flat vector into unconstrained site values."""
    free, offset = {}, 0
    for site in sites:
        size = math.prod(site.free_shape)
        free[site.name] = z[offset : offset + size].reshape(site.free_shape)
        offset += size
    return free


def ravel(sites: tuple[Site, ...], free: Values) -> Vector:
    """The inverse of `unravel`."""
    dtype = jnp.zeros(()).dtype
    return jnp.concatenate([jnp.ravel(jnp.asarray(free[site.name], dtype)) for site in sites])


class Labels:
    """Names of dimensions and coordinates, for reports only.

    Any two `Labels` compare equal, so that relabelling the same model compiles nothing: they must
    never influence a computation.
    """

    def __init__(self, dims: dict[str, tuple[str, ...]], coords: dict[str, np.ndarray]) -> None:
        self.dims = dims
        self.coords = coords

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels)

    def __hash__(self) -> int:
        return hash(Labels)


class AbstractModel(eqx.Module):
    """What a bridge provides: somebody's model as a density over unconstrained sites.

    `free` is a dictionary from site name to an array of `site.free_shape` on the real line. The
    data are leaves of the model, so that new data of the same shape compile nothing. `supports` is
    there, one per site, where they do not depend on the values of other sites.
    """

    sites: eqx.AbstractVar[tuple[Site, ...]]
    supports: eqx.AbstractVar[tuple[AbstractSupport, ...] | None]
    labels: eqx.AbstractVar[Labels]
    rows: eqx.AbstractVar[int | None]

    @abstractmethod
    def constrain(self, free: Values) -> Values:
        """Site values on their supports."""

    @abstractmethod
    def unconstrain(self, values: Values) -> Values:
        """The inverse of `constrain`."""

    @abstractmethod
    def derived(self, free: Values) -> Values:
        """Deterministic quantities that the model names, on the support scale."""

    @abstractmethod
    def log_terms(self, free: Values, scale: float) -> Values:
        """Terms of the log joint density by name, each summed; together with the log Jacobian.

        `scale` multiplies the terms of the data rows (N/B on a minibatch).
        """

    @abstractmethod
    def density_terms(self, values: Values, scale: float) -> Values:
        """`log_terms` at site values on their supports, without the log Jacobian."""

    @abstractmethod
    def log_likelihood(self, free: Values) -> Values:
        """Log likelihood per observation, by observed site, unscaled; {} if not separable."""

    @abstractmethod
    def take(self, indices: Int[Array, " B"]) -> "AbstractModel":
        """The model on these data rows."""

    @abstractmethod
    def prediction_inputs(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Arguments of `predict` made ready for tracing: what must stay concrete is."""

    @abstractmethod
    def predict(self, key: PRNGKey, free: Values, args: tuple, kwargs: dict) -> Values:
        """One draw of the observed quantities at one posterior draw, at the given inputs."""

    @abstractmethod
    def observed(self) -> Values:
        """Observed data by name."""

    @abstractmethod
    def constant(self) -> Values:
        """Data that are not observed quantities (covariates), by name."""


class Target(AbstractProblem):
    """A posterior density on R^d, with the names, shapes and supports of its coordinates.

    Algorithms see `z`, a vector of all sites on the real line, raveled in the order of `sites`;
    `log_prob(z)` includes the log Jacobian of the map to the supports. `linear` is there for
    generalized linear models that were declared as such, `control` for minibatches whose noise is
    reduced by control variates.

    Attributes:
        model: somebody's model, as a density over unconstrained sites.
        start: the point to start from, (d,), or None for the first good random one.
        linear: the linear predictor of a declared generalized linear model, else None.
        batch_size: rows per step, or None where all of them are used.
        minibatch: is this one minibatch of the target, whose rows count N/B times?
        control: a control variate for minibatches, or None.
    """

    model: AbstractModel
    start: Vector | None = None
    linear: LinearPredictor | None = None
    batch_size: int | None = eqx.field(static=True, default=None)
    minibatch: bool = eqx.field(static=True, default=False)
    control: ControlVariate | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """The latent sites, in the order of the coordinates of `z`."""
        return self.model.sites

    @property
    def dim(self) -> int:
        """Number of unconstrained coordinates."""
        return sum(math.prod(site.free_shape) for site in self.sites)

    @property
    def size(self) -> int | None:
        """Number of data rows, or None where the model declares none."""
        return self.model.rows

    @property
    def exact(self) -> bool:
        """Does every evaluation use all rows?"""
        return self.batch_size is None

    def coordinate_names(self) -> list[str]:
        """A name per coordinate of z: `tau`, `theta[2]`, `L[1,0]` (0-based)."""
        return [
            site.name + ("[" + ",".join(map(str, index)) + "]" if index else "")
            for site in self.sites
            for index in np.ndindex(*site.free_shape)
        ]

    def unravel(self, z: Vector) -> Values:
        """Split a flat vector into unconstrained site values."""
        return unravel(self.sites, z)

    def ravel(self, free: Values) -> Vector:
        """The inverse of `unravel`."""
        return ravel(self.sites, free)

    def log_terms(self, z: Vector) -> Values:
        """The named terms whose sum is `log_prob(z)`."""
        scale = 1.0
        if self.minibatch:
            assert self.size is not None and self.batch_size is not None
            scale = self.size / self.batch_size
        terms = self.model.log_terms(self.unravel(z), scale)
        if self.minibatch and self.control is not None:
            plain = dataclasses.replace(self, control=None)
            terms |= {"control_variate": self.control.term(plain.log_prob, z)}
        return terms

    def log_prob(self, z: Vector) -> Scalar:
        """Log density on R^d, log Jacobian included; unbiased if this is a minibatch."""
        total = sum(self.log_terms(z).values(), start=jnp.zeros((), z.dtype))
        return jnp.asarray(total, z.dtype)

    def value_and_score(self, z: Vector) -> tuple[Scalar, Vector]:
        """`log_prob(z)` and its gradient."""
        return jax.value_and_grad(self.log_prob)(z)

    def constrain(self, z: Vector) -> Values:
        """Named values on their supports, deterministic sites included."""
        free = self.unravel(z)
        return self.model.constrain(free) | self.model.derived(free)

    def unconstrain(self, values: Values) -> Vector:
        """The vector z of these named values."""
        return self.ravel(self.model.unconstrain(values))

    def log_likelihood(self, z: Vector) -> Values:
        """Unscaled log likelihood per observation, by observed site."""
        return self.model.log_likelihood(self.unravel(z))

    def subsample(self, key: PRNGKey) -> "Target":
        """The target on `batch_size` rows drawn with replacement; itself if exact."""
        if self.batch_size is None:
            return self
        assert self.size is not None
        indices = jax.random.randint(key, (self.batch_size,), 0, self.size)
        return dataclasses.replace(self, model=self.model.take(indices), minibatch=True)

    def full(self) -> "Target":
        """The same target with every row used at every evaluation."""
        return dataclasses.replace(self, batch_size=None, minibatch=False)

    def at(self, z: Vector) -> "Target":
        """The same target with `initial` fixed at z."""
        return dataclasses.replace(self, start=z)

    def initial(self, key: PRNGKey) -> Vector:
        """A point to start from: `start` where it was given, else the first good random point."""
        if self.start is not None:
            return self.start
        return self.search_start(key)[0]

    def search_start(self, key: PRNGKey) -> tuple[Vector, Flag]:
        """Uniform points on (-2, 2)^d until density and gradient are finite, at most 100.

        Needs no prior draws, so improper priors are welcome. Returns the last point tried and
        whether it is good.
        """

        def propose(i: Array) -> Vector:
            return jax.random.uniform(
                jax.random.fold_in(key, i), (self.dim,), minval=-START_RADIUS, maxval=START_RADIUS
            )

        def good(z: Vector) -> Flag:
            value, score = self.value_and_score(z)
            return jnp.isfinite(value) & jnp.all(jnp.isfinite(score))

        def body(carry: tuple[Array, Vector, Flag]) -> tuple[Array, Vector, Flag]:
            z = propose(carry[0])
            return carry[0] + 1, z, good(z)

        first = (jnp.asarray(0), jnp.zeros(self.dim), jnp.asarray(False))
        _, z, ok = jax.lax.while_loop(lambda c: ~c[2] & (c[0] < START_TRIES), body, first)
        return z, ok


def evaluate(target: Target, z: Points, batch_size: int = 256) -> tuple[Array, Points]:
    """Log density (n,) and score (n, d) at many points, `batch_size` of them at a time."""
    return jax.lax.map(target.value_and_score, z, batch_size=batch_size)
