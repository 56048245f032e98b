"""Preconditioners: a positive definite matrix M = L L^T, diagonal or dense."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import positive
from infer.core.linalg import Moments, empty_moments
from infer.core.types import Vector


class Scale(eqx.Module):
    """M and its factor L; vectors of the diagonal or full matrices, told apart by their rank."""

    covariance: Float[Array, "..."]
    factor: Float[Array, "..."]

    def apply(self, v: Vector) -> Vector:
        """M v."""
        return self.covariance @ v if self.covariance.ndim == 2 else self.covariance * v

    def color(self, noise: Vector) -> Vector:
        """L v: standard noise becomes noise with covariance M."""
        return self.factor @ noise if self.factor.ndim == 2 else self.factor * noise

    def whiten_score(self, score: Vector) -> Vector:
        """L^T v: a gradient in the coordinates L^-1 z."""
        return score @ self.factor if self.factor.ndim == 2 else self.factor * score


def scale_of(covariance: Float[Array, "..."]) -> Scale:
    """The scale with this covariance matrix, or this diagonal of one."""
    dense = covariance.ndim == 2
    return Scale(covariance, jnp.linalg.cholesky(covariance) if dense else jnp.sqrt(covariance))


class AbstractPreconditioner(eqx.Module):
    """A shape of scale to be learned during warm-up, starting from the identity."""

    @abstractmethod
    def blank(self, like: Vector) -> Moments:
        """Empty moments of the right shape for vectors like this one."""

    @abstractmethod
    def identity(self, like: Vector) -> Scale:
        """The scale before anything is known."""


def _as_variances(value: Any) -> Array | None:
    return None if value is None else positive("variances", 1.0)(value)


class Diagonal(AbstractPreconditioner):
    """One variance per coordinate: O(d) per step.

    Args:
        variances: those to begin with, > 0, as many as coordinates, or None for ones; kept if
            there is no warm-up.
    """

    variances: Vector | None = eqx.field(converter=_as_variances, default=None)

    def blank(self, like: Vector) -> Moments:
        """Empty moments with a diagonal scatter."""
        return empty_moments(like, dense=False)

    def identity(self, like: Vector) -> Scale:
        """`variances`, or ones."""
        if self.variances is None:
            return Scale(jnp.ones_like(like), jnp.ones_like(like))
        if self.variances.shape != like.shape:
            raise ValueError(
                f"Diagonal got variances of shape {self.variances.shape}, the target has "
                f"{like.shape[0]} unconstrained coordinates; write infer.Diagonal() for ones."
            )
        return scale_of(self.variances.astype(like.dtype))


class Dense(AbstractPreconditioner):
    """A full covariance: O(d^2) per step, O(d^3) per warm-up window; for correlated posteriors."""

    def blank(self, like: Vector) -> Moments:
        """Empty moments with a full scatter."""
        return empty_moments(like, dense=True)

    def identity(self, like: Vector) -> Scale:
        """The identity matrix."""
        eye = jnp.eye(like.shape[0], dtype=like.dtype)
        return Scale(eye, eye)


def check_preconditioner(given: object, method: str) -> None:
    """Refuse what is no preconditioner."""
    if not isinstance(given, AbstractPreconditioner):
        raise TypeError(
            f"{method} needs preconditioner=infer.Diagonal() or infer.Dense(), got {given!r}."
        )
