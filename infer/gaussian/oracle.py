"""Expectations of energy, gradient and curvature of a target under a Gaussian.

Everything is measured in the frame of q = N(m, C C^T): with u ~ N(0, I), V = -log p and
f(u) = V(m + C u),

    energy = E f(u),   gradient = E grad f(u) = C^T E grad V,
    curvature = E hess f(u) = C^T (E hess V) C.

The derivatives are taken with respect to u, through the map, and not multiplied by C afterwards:
on badly scaled targets that is the difference between 3 and 6 digits in float32. At the optimal
Gaussian the gradient is 0 and the curvature I, whatever the scale of the target.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.checks import check_count
from infer.core.control import in_blocks
from infer.core.target import Target
from infer.core.types import Count, Points, PRNGKey, Scalar, Vector
from infer.gaussian.newton import COLUMNS, twice_differentiable
from infer.gaussian.points import CHUNK, AbstractPoints, Sobol, inside, whitener
from infer.references.citation import cites
from infer.references.gaussian import KATSEVICH_2024


class Expectations(eqx.Module):
    """What an oracle says of q; see the module for the formulas.

    Attributes:
        energy: E V(z).
        values: V at the points, zero beyond their number; empty for an exact oracle.
        gradient: mean gradient in the frame of q.
        curvature: mean Hessian in the frame of q; its estimate from gradients is not symmetric.
        stein: the same from the gradients alone, E grad f(u) u^T.
        square: mean of |u|^2, d where the points are exact for it.
        n: points used.
    """

    energy: Scalar
    values: Float[Array, " most"]
    gradient: Vector
    curvature: Float[Array, "d d"]
    stein: Float[Array, "d d"]
    square: Scalar
    n: Count


class AbstractOracle(eqx.Module):
    """A way to compute expectations under a Gaussian.

    Attributes:
        points: the points that stand for it; None for exact expectations.
    """

    points: eqx.AbstractVar[AbstractPoints | None]

    @property
    def deterministic(self) -> bool:
        """Has the same q the same expectations at every step of a fit?"""
        return self.points is None or self.points.fixed

    def doublings(self) -> int:
        """How many times the number of points can be doubled."""
        return 0 if self.points is None else self.points.doublings()

    def halved(self) -> "AbstractOracle | None":
        """The oracle with half the points; None where they cannot be halved."""
        half = None if self.points is None else self.points.halved()
        return None if half is None else eqx.tree_at(lambda o: o.points, self, half)

    @abstractmethod
    def cost(self, d: int) -> int:
        """Gradients per point; a Hessian-vector product counts as one."""

    @abstractmethod
    def check(self, target: Target, name: str) -> None:
        """Refuse, while tracing, a target of the wrong kind for the algorithm of this name."""

    @abstractmethod
    def expect(
        self,
        key: PRNGKey,
        target: Target,
        mean: Vector,
        factor: Float[Array, "d d"],
        level: Count,
    ) -> Expectations:
        """Expectations under N(mean, factor factor^T), on `level` times doubled points."""


class Price(AbstractOracle):
    """Mean Hessians at points (Price's theorem): few points, d Hessian-vector products at each.

        curvature = mean_b hess f(u_b),   gradient = mean_b grad f(u_b).

    The Hessians are summed over the points before they are formed, 32 columns at a time, so memory
    stays at 32 Hessian-vector products of 256 points. Needs a density that is twice
    differentiable, by JAX and in truth: a kink, as in |x|, has curvature that no Hessian shows.
    Cost: d + 1 gradients per point.

    Args:
        points: `Sobol()` for a deterministic objective; `Independent(n)` for new noise at every
            step; `Cubature()`.
        control_variate: subtract the score of q, u_b, from each gradient, whose mean is zero
            ("sticking the landing"); without mirror images it removes most of the noise.
    """

    points: AbstractPoints = eqx.field(default_factory=Sobol)
    control_variate: bool = eqx.field(static=True, default=True)

    def cost(self, d: int) -> int:
        """A gradient and d Hessian-vector products."""
        return d + 1

    def check(self, target: Target, name: str) -> None:
        """Refuse a density that JAX cannot differentiate twice."""
        if not twice_differentiable(target):
            raise TypeError(
                f"{name} with Price() needs Hessian-vector products, which JAX cannot form for "
                f"this log density. Write infer.{name}(oracle=infer.Stein()), which needs "
                "gradients alone."
            )

    def expect(
        self,
        key: PRNGKey,
        target: Target,
        mean: Vector,
        factor: Float[Array, "d d"],
        level: Count,
    ) -> Expectations:
        """Averages over the points."""
        return _average(self, True, key, target, mean, factor, level)


class Stein(AbstractOracle):
    """Gradients alone (Stein's lemma): cheap points, more of them.

        curvature = I + mean_b (grad f(u_b) - u_b) u_b^T.

    Subtracting the score of q, u_b, removes all noise where q is the posterior. Where the posterior
    is far from Gaussian it takes several times the points of `Price`. Cost: 1 gradient per point.

    Args:
        points: as for `Price`.
        control_variate: False gives mean_b grad f(u_b) u_b^T.
    """

    points: AbstractPoints = eqx.field(default_factory=Sobol)
    control_variate: bool = eqx.field(static=True, default=True)

    def cost(self, d: int) -> int:
        """One gradient."""
        return 1

    def check(self, target: Target, name: str) -> None:
        """Any differentiable density will do."""

    def expect(
        self,
        key: PRNGKey,
        target: Target,
        mean: Vector,
        factor: Float[Array, "d d"],
        level: Count,
    ) -> Expectations:
        """Averages over the points."""
        return _average(self, False, key, target, mean, factor, level)


@cites(KATSEVICH_2024)
class GaussHermite(AbstractOracle):
    """Exact expectations for generalized linear models: one-dimensional integrals per row.

        E l(eta_i),  eta_i ~ N(x_i . m + o_i, |C^T x_i|^2),   by Gauss-Hermite quadrature,
        gradient = -(X C)^T E l' + prior,   curvature = -(X C)^T diag(E l'') (X C) + prior.

    Needs a target from `infer.from_glm`. Cost per evaluation: n (nodes + d^2), no gradients.

    Args:
        nodes: nodes per row, >= 2. 32 give logistic likelihoods to 1e-6 where predictors
            have an sd of 2, to 1e-4 at 3.

    Source: Katsevich, Rigollet, On the approximation accuracy of Gaussian variational inference,
    Annals of Statistics 52 (2024).
    """

    nodes: int = eqx.field(static=True, default=32)
    points: ClassVar[None] = None

    def __check_init__(self) -> None:
        """Refuse a rule without nodes."""
        check_count("GaussHermite", "nodes", self.nodes, 32, least=2)

    def cost(self, d: int) -> int:
        """About that of one gradient and d Hessian-vector products."""
        return d + 1

    def check(self, target: Target, name: str) -> None:
        """Refuse a target that was not declared a generalized linear model."""
        if target.linear is None:
            raise ValueError(
                f"{name} with GaussHermite() needs a generalized linear model, declared as "
                "infer.from_glm(X, y, log_likelihood, prior_scale=1.0); this target is not one. "
                "Leave out oracle= for any other target."
            )

    def expect(
        self,
        key: PRNGKey,
        target: Target,
        mean: Vector,
        factor: Float[Array, "d d"],
        level: Count,
    ) -> Expectations:
        """Quadrature along each row."""
        model = target.linear
        assert model is not None
        nodes, weights = np.polynomial.hermite_e.hermegauss(self.nodes)
        t = jnp.asarray(nodes, mean.dtype)
        w = jnp.asarray(weights / weights.sum(), mean.dtype)
        rows = model.design @ factor
        sd = jnp.sqrt(jnp.sum(rows**2, axis=1))
        eta = (model.design @ mean + model.offset)[:, None] + sd[:, None] * t
        value, slope, curvature = (part @ w for part in model.along(eta))
        away, precision = mean - model.prior_mean, model.prior_precision
        inside = jnp.sum(precision * away**2) + jnp.sum(precision[:, None] * factor**2)
        bent = -rows.T @ (curvature[:, None] * rows) + factor.T @ (precision[:, None] * factor)
        return Expectations(
            -jnp.sum(value) + 0.5 * inside,
            jnp.zeros(0, mean.dtype),
            -rows.T @ slope + factor.T @ (precision * away),
            bent,
            bent,
            jnp.asarray(1.0 * len(mean), mean.dtype),
            jnp.ones((), int),
        )


def _average(
    oracle: Price | Stein,
    hessians: bool,
    key: PRNGKey,
    target: Target,
    mean: Vector,
    factor: Float[Array, "d d"],
    level: Count,
) -> Expectations:
    """Averages over a set of points, chunk by chunk; no chunk at all below level 0."""
    points, d = oracle.points, mean.shape[0]
    smallest, most = points.size(d), points.size(d) * 2 ** points.doublings()
    rows = -(-smallest // -(-smallest // CHUNK))
    size = jnp.where(level < 0, 0, smallest * 2 ** jnp.maximum(level, 0))
    chunks = -(-size // rows)
    shared = points.prepare(key, d)
    shape = whitener(points, shared, chunks, rows, size, d) if points.white else jnp.eye(d)
    images = 2 if points.mirrored else 1

    def energy(u: Vector) -> Scalar:
        return -target.log_prob(mean + factor @ u)

    def add(carry: tuple[Count, Expectations]) -> tuple[Count, Expectations]:
        j, total = carry
        u = points.chunk(shared, j, rows, d).astype(mean.dtype) @ shape.T.astype(mean.dtype)
        u = jnp.concatenate([u, -u]) if points.mirrored else u
        keep = jnp.tile(inside(j, rows, size), images)[:, None]
        values, gradients, bent = _chunk(energy, u, keep, hessians)
        known = keep * u if oracle.control_variate else jnp.zeros_like(u)
        stein = (gradients - known).T @ u
        start = (j * len(u)).astype(jnp.int32)
        return j + 1, Expectations(
            total.energy + jnp.sum(values),
            jax.lax.dynamic_update_slice(total.values, values, (start,)),
            total.gradient + jnp.sum(gradients - known, axis=0),
            total.curvature + (stein if bent is None else bent),
            total.stein + stein,
            total.square + jnp.sum(keep * u**2),
            total.n + jnp.sum(keep).astype(total.n.dtype),
        )

    zero, square = jnp.zeros((), mean.dtype), jnp.zeros((d, d), mean.dtype)
    values = jnp.zeros(-(-most // rows) * rows * images, mean.dtype)
    count = jnp.zeros((), int)
    nothing = Expectations(zero, values, jnp.zeros_like(mean), square, square, zero, count)
    _, total = jax.lax.while_loop(lambda c: c[0] < chunks, add, (count, nothing))
    n = jnp.maximum(total.n, 1)
    stein = total.stein / n + (jnp.eye(d) if oracle.control_variate else 0)
    curvature = total.curvature / n if hessians else stein
    square = total.square / n
    return Expectations(
        total.energy / n, total.values, total.gradient / n, curvature, stein, square, total.n
    )


def _chunk(
    energy: Callable[[Vector], Scalar], u: Points, keep: Float[Array, "rows 1"], hessians: bool
) -> tuple[Float[Array, " rows"], Points, Float[Array, "d d"] | None]:
    """Values, gradients and, if asked for, the summed Hessian at points; 0 where not kept."""

    def shifted(s: Vector) -> tuple[Vector, tuple[Float[Array, " rows"], Points]]:
        values, gradients = jax.vmap(jax.value_and_grad(energy))(u + s)
        values = jnp.where(keep[:, 0] > 0, values, 0)
        gradients = jnp.where(keep > 0, gradients, 0)
        return jnp.sum(gradients, axis=0), (values, gradients)

    origin = jnp.zeros(u.shape[1], u.dtype)
    if not hessians:
        _, (values, gradients) = shifted(origin)
        return values, gradients, None
    _, product, (values, gradients) = jax.linearize(shifted, origin, has_aux=True)
    bent = in_blocks(product, jnp.eye(len(origin), dtype=u.dtype), COLUMNS)
    return values, gradients, (bent + bent.T) / 2
