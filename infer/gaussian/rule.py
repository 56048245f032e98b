"""What tells one method from another: how a Gaussian moves, given what the oracle saw."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import Scalar, Vector
from infer.gaussian.oracle import Expectations

Gaussian = tuple[Vector, Float[Array, "d d"]]
Go = Callable[[Scalar], Gaussian]


class Rule(NamedTuple):
    """A method, in the frame of q and in any other.

    Attributes:
        multipliers: (lam, eta) -> (a, b). In the frame of q, with the curvature Q diag(lam) Q^T,
            m' = m - C Q diag(b) Q^T gradient and C' = C Q diag(a) Q^T.
        update: (K, G, eta) -> K' for the factor K of q in a fixed frame and the gradient
            G = S K of the mean energy with respect to it; the mean moves by -eta times its
            gradient. None for a method that is the same in every frame.
    """

    multipliers: Callable[[Vector, Scalar], tuple[Vector, Vector]]
    update: Callable[[Array, Array, Scalar], Array] | None


def step_in_moving_frame(
    mean: Vector, factor: Array, gradient: Vector, vectors: Array, a: Vector, b: Vector
) -> Gaussian:
    """The move by the multipliers (a, b) along the eigenvectors of the curvature."""
    shift = factor @ (vectors @ (b * (vectors.T @ gradient)))
    return mean - shift, factor @ ((vectors * a) @ vectors.T)


def step_in_fixed_frame(
    rule: Rule,
    mean: Vector,
    factor: Array,
    frame: Array,
    gradient: Vector,
    curvature: Array,
    eta: Scalar,
) -> Gaussian:
    """The move in z = c + frame phi, where q has the factor K = frame^-1 factor."""
    assert rule.update is not None
    inverse = jnp.linalg.solve(factor, frame)  # of K
    inner = rule.update(jnp.linalg.solve(frame, factor), inverse.T @ curvature, eta)
    return mean - eta * (frame @ (inverse.T @ gradient)), frame @ inner


def largest_in_frame(factor: Array, frame: Array, curvature: Array) -> Scalar:
    """The largest |eigenvalue| in a fixed frame of a curvature given in the frame of q."""
    inverse = jnp.linalg.solve(factor, frame)
    there = inverse.T @ curvature @ inverse
    return jnp.max(jnp.abs(jnp.linalg.eigvalsh(_finite((there + there.T) / 2))))


def in_moving_frame(
    rule: Rule, mean: Vector, factor: Array, frame: Array, found: Expectations
) -> tuple[Scalar, Go]:
    """The largest curvature in the frame of q, and the move for a step size."""
    lam, vectors = jnp.linalg.eigh(_finite((found.curvature + found.curvature.T) / 2))

    def go(eta: Scalar) -> Gaussian:
        multipliers = rule.multipliers(lam, eta)
        return step_in_moving_frame(mean, factor, found.gradient, vectors, *multipliers)

    return jnp.max(jnp.abs(lam)), go


def in_fixed_frame(
    rule: Rule, mean: Vector, factor: Array, frame: Array, found: Expectations
) -> tuple[Scalar, Go]:
    """The same in a frame that stays; an unsymmetric estimate of the curvature moves q as it is."""

    def go(eta: Scalar) -> Gaussian:
        gradients = found.gradient, found.curvature
        return step_in_fixed_frame(rule, mean, factor, frame, *gradients, eta)

    curvature = (found.curvature + found.curvature.T) / 2
    return largest_in_frame(factor, frame, curvature), go


def _finite(matrix: Array) -> Array:
    """The identity in place of a matrix that is not finite, which a factorization must not see."""
    return jnp.where(jnp.all(jnp.isfinite(matrix)), matrix, jnp.eye(len(matrix)))
