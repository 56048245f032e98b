"""Curvature at the particles: metrics of users, Fisher information, absolute Hessians."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.control import in_blocks
from infer.core.linear import LinearPredictor
from infer.core.target import Target
from infer.core.types import Count, Points, Vector
from infer.kernels.pairwise import dot

Matrix = Float[Array, "d d"]
MetricFunction = Callable[[Vector], Matrix]
AT_ONCE = 32  # particles whose metric is computed at once
ENTRIES = 2**22  # numbers in as many weighted copies of a design


class FisherMetric(eqx.Module):
    """The metric that `fisher_metric` makes; its arrays are leaves, new data compile nothing.

    Attributes:
        model: the generalized linear model.
    """

    model: LinearPredictor

    def __call__(self, z: Vector) -> Matrix:
        """X^T diag(|l''|) X + P at z."""
        model = self.model
        eta = dot(model.design, z) + model.offset
        curvature = jnp.abs(model.along(eta[:, None])[2])
        return dot(model.design.T, curvature * model.design) + jnp.diag(model.prior_precision)


class NegativeHessian(eqx.Module):
    """The negative Hessian of a log density, which may be indefinite."""

    target: Target

    def __call__(self, z: Vector) -> Matrix:
        """By Hessian-vector products, one per coordinate."""
        return -jax.jacfwd(jax.grad(self.target.log_prob))(z)


class Root(eqx.Module):
    """A positive definite matrix V diag(lam) V^T, and coordinates y in which it is the identity.

    Attributes:
        vectors: V.
        root: the square roots of lam.
    """

    vectors: Matrix
    root: Vector

    def matrix(self) -> Matrix:
        """The matrix."""
        return dot(self.vectors * self.root**2, self.vectors.T)

    def inverse(self) -> Matrix:
        """Its inverse."""
        return dot(self.vectors / self.root**2, self.vectors.T)

    def whiten(self, x: Points) -> Points:
        """Points as y, around zero, so that a common offset costs no accuracy."""
        return dot(x - x.mean(axis=0), self.vectors * self.root)

    def whiten_score(self, score: Points) -> Points:
        """Gradients with respect to y."""
        return dot(score, self.vectors / self.root)

    def color(self, y: Points) -> Points:
        """Steps in y as steps of the points; the transpose of `whiten_score`."""
        return dot(y, (self.vectors / self.root).T)


def fisher_metric(target: Target) -> FisherMetric:
    """The Fisher information of a declared generalized linear model, with that of its prior.

        G(z) = X^T diag(|l''(x_i . z + o_i, y_i)|) X + P

    as a function of z, for `infer.SVNG(metric=...)`. With a canonical link (logistic, log-linear
    Poisson) l'' does not depend on y and this is the expected information; otherwise it is the
    observed one, made positive row by row. Always on all rows: N d^2 flops per particle.

    Args:
        target: made by `infer.from_glm`.

    Returns:
        A function of z that gives a (dim, dim) array; its data are leaves.

    Raises:
        ValueError: for any other target.
    """
    if target.linear is None:
        raise ValueError(
            "fisher_metric needs a generalized linear model, declared as infer.from_glm(X, y, "
            "log_likelihood, prior_scale=1.0); this target is not one. Write a function of z that "
            "returns a positive definite (dim, dim) array and pass it as metric=."
        )
    return FisherMetric(target.linear)


def metric_of(metric: MetricFunction | None, target: Target) -> MetricFunction:
    """The user's metric, else the Fisher information of a declared GLM, else the Hessian."""
    if metric is not None:
        return metric
    return NegativeHessian(target) if target.linear is None else FisherMetric(target.linear)


def check_metric(metric: MetricFunction | None, x: Points, name: str) -> None:
    """Refuse what is no function from a point to a (d, d) matrix."""
    if metric is None:
        return
    d = x.shape[1]
    if not callable(metric):
        raise TypeError(
            f"{name} needs metric= as a function of z that returns a ({d}, {d}) array, got "
            f"{metric!r}. Write `metric=lambda z: matrix`, or leave it out."
        )
    found = jax.eval_shape(metric, x[0])
    if not isinstance(found, jax.ShapeDtypeStruct) or found.shape != (d, d):
        raise ValueError(
            f"{name} needs a metric that returns a ({d}, {d}) array, one row and column per "
            f"unconstrained coordinate; metric(z) returns {found}."
        )


def at_once(metric: MetricFunction) -> int:
    """For how many particles to compute the metric at once."""
    if isinstance(metric, FisherMetric):
        return max(1, ENTRIES // metric.model.design.size)
    return AT_ONCE


def curvatures(metric: MetricFunction, x: Points) -> Float[Array, "n d d"]:
    """The metric at every particle, with the absolute values of its eigenvalues."""
    return jax.vmap(lambda m: absolute(m).matrix())(in_blocks(metric, x, at_once(metric)))


def absolute(matrix: Matrix) -> Root:
    """The matrix with the absolute values of its eigenvalues, none below what rounding allows.

    The identity for a matrix of zeros: nothing is known of the scale.
    """
    lam, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    lam = jnp.abs(lam)
    largest = jnp.max(lam)
    floor = lam.shape[0] * jnp.finfo(lam.dtype).eps * largest
    return Root(vectors, jnp.sqrt(jnp.where(largest > 0, jnp.maximum(lam, floor), 1)))


def second_derivatives(metric: MetricFunction, x: Points) -> int:
    """Gradients that computing the metric at every particle costs."""
    return x.size if isinstance(metric, NegativeHessian) else 0


def divergence(metric: MetricFunction, z: Vector, inverse: Matrix) -> Vector:
    """c_i = sum_j d_j (G^-1)_ij = -[ G^-1 sum_j (d_j G) G^-1 e_j ]_i, one direction at a time.

    Never d^3 numbers at once. For a linear predictor d_j G_ab does not depend on the order of j, a
    and b, so that a single gradient does.
    """
    if isinstance(metric, FisherMetric):
        return -dot(inverse, jax.grad(lambda z: jnp.sum(inverse * metric(z)))(z))

    def add(b: Count, total: Vector) -> Vector:
        return total + jax.jvp(metric, (z,), (inverse[b],))[1][:, b]

    return -dot(inverse, jax.lax.fori_loop(0, z.shape[0], add, jnp.zeros_like(z)))
