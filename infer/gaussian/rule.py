"""What tells one method from another: how a Gaussian moves, given what the oracle saw."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import Scalar, Vector
from infer.gaussian.oracle import Expectations

Go = Callable[[Scalar], tuple[Vector, Float[Array, "d d"]]]


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


def in_moving_frame(
    rule: Rule, mean: Vector, factor: Array, frame: Array, found: Expectations
) -> tuple[Scalar, Go]:
    """The largest curvature in the frame of q, and the move for a step size."""
    curvature = (found.curvature + found.curvature.T) / 2
    lam, vectors = jnp.linalg.eigh(_finite(curvature))

    def go(eta: Scalar) -> tuple[Vector, Array]:
        a, b = rule.multipliers(lam, eta)
        shift = factor @ (vectors @ (b * (vectors.T @ found.gradient)))
        return mean - shift, factor @ ((vectors * a) @ vectors.T)

    return jnp.max(jnp.abs(lam)), go


def in_fixed_frame(
    rule: Rule, mean: Vector, factor: Array, frame: Array, found: Expectations
) -> tuple[Scalar, Go]:
    """The same in the frame z = c + frame phi, where q has the factor K = frame^-1 factor."""
    update = rule.update
    assert update is not None
    inverse = jnp.linalg.solve(factor, frame)  # of K
    there = inverse.T @ ((found.curvature + found.curvature.T) / 2) @ inverse
    lam = jnp.linalg.eigvalsh(_finite((there + there.T) / 2))

    def go(eta: Scalar) -> tuple[Vector, Array]:
        inner = update(jnp.linalg.solve(frame, factor), inverse.T @ found.curvature, eta)
        return mean - eta * (frame @ (inverse.T @ found.gradient)), frame @ inner

    return jnp.max(jnp.abs(lam)), go


def _finite(matrix: Array) -> Array:
    """The identity in place of a matrix that is not finite, which a factorization must not see."""
    return jnp.where(jnp.all(jnp.isfinite(matrix)), matrix, jnp.eye(len(matrix)))
