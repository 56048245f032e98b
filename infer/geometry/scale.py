"""Preconditioners: a positive definite matrix M = L L^T, diagonal, dense or given."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
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

    def whiten(self, z: Vector) -> Vector:
        """L^-1 z: covariance M becomes the identity."""
        if self.factor.ndim == 2:
            return jax.scipy.linalg.solve_triangular(self.factor, z, lower=True)
        return z / self.factor

    def whiten_score(self, score: Vector) -> Vector:
        """L^T v: a gradient in the coordinates L^-1 z."""
        return score @ self.factor if self.factor.ndim == 2 else self.factor * score


def scale_of(covariance: Float[Array, "..."]) -> Scale:
    """The scale with this covariance matrix, or this diagonal of one."""
    dense = covariance.ndim == 2
    return Scale(covariance, jnp.linalg.cholesky(covariance) if dense else jnp.sqrt(covariance))


def learned(moments: Moments, before: Scale) -> Scale:
    """The scale of m draws, (m / (m + 5)) Cov + 1e-3 (5 / (m + 5)) I; the one before if not finite.

    A Cholesky factor under jit is NaN, and no error, where the matrix is not positive definite.
    """
    m = moments.count.astype(before.covariance.dtype)
    covariance = m / (m + 5) * moments.covariance()
    dense = covariance.ndim == 2
    eye = jnp.eye(covariance.shape[0], dtype=covariance.dtype) if dense else 1
    scale = scale_of(covariance + 5e-3 / (m + 5) * eye)
    sane = jnp.all(jnp.isfinite(scale.factor))
    return jax.tree.map(lambda a, b: jnp.where(sane, a, b), scale, before)


def guessed(moments: Moments, scores: Moments) -> Vector:
    """sd(z_i) / sd(d_i log p), 1 where unusable.

    The variances of independent Gaussian coordinates, from few draws that have not spread yet:
    along a stretch of any length the scores change in proportion.
    """
    variance = moments.covariance()
    variance = jnp.diagonal(variance) if variance.ndim == 2 else variance
    ratio = jnp.sqrt(variance) / jnp.sqrt(scores.covariance())
    return jnp.where(jnp.isfinite(ratio) & (ratio > 0), ratio, 1)


class AbstractPreconditioner(eqx.Module):
    """A shape of scale to be learned during warm-up, or one that is given."""

    @abstractmethod
    def blank(self, like: Vector) -> Moments:
        """Empty moments of the right shape for vectors like this one."""

    @abstractmethod
    def identity(self, like: Vector) -> Scale:
        """The scale before anything is known."""

    @abstractmethod
    def learn(self, moments: Moments, before: Scale) -> Scale:
        """The scale after a window of warm-up, from the moments of its draws."""

    @abstractmethod
    def guess(self, moments: Moments, scores: Moments, before: Scale) -> Scale:
        """The same after a window too short for the draws to have spread, from their scores too."""


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

    def learn(self, moments: Moments, before: Scale) -> Scale:
        """The variances of the draws, regularized."""
        return learned(moments, before)

    def guess(self, moments: Moments, scores: Moments, before: Scale) -> Scale:
        """By the ratio of the spreads of draws and scores."""
        return scale_of(guessed(moments, scores))


class Dense(AbstractPreconditioner):
    """A full covariance: O(d^2) per step, O(d^3) per warm-up window; for correlated posteriors."""

    def blank(self, like: Vector) -> Moments:
        """Empty moments with a full scatter."""
        return empty_moments(like, dense=True)

    def identity(self, like: Vector) -> Scale:
        """The identity matrix."""
        eye = jnp.eye(like.shape[0], dtype=like.dtype)
        return Scale(eye, eye)

    def learn(self, moments: Moments, before: Scale) -> Scale:
        """The covariance of the draws, regularized."""
        return learned(moments, before)

    def guess(self, moments: Moments, scores: Moments, before: Scale) -> Scale:
        """Likewise, a diagonal matrix."""
        return scale_of(jnp.diag(guessed(moments, scores)))


def as_covariance(value: Any) -> Array:
    """A positive number, vector of variances or covariance matrix, as an array."""
    if isinstance(value, Tracer):
        return jnp.asarray(value, jnp.zeros(()).dtype)
    given = np.asarray(value, np.float64)
    fine = given.ndim <= 1 and bool(np.all(given > 0)) and bool(np.isfinite(given).all())
    if given.ndim == 2 and given.shape[0] == given.shape[1] and np.isfinite(given).all():
        symmetric = np.allclose(given, given.T, rtol=1e-5, atol=1e-6 * np.abs(given).max())
        fine = symmetric and bool(np.linalg.eigvalsh(given)[0] > 0)
    if not fine:
        raise ValueError(
            "a covariance is a positive number, positive variances (d,), or a symmetric positive "
            f"definite matrix (d, d), got an array of shape {given.shape}; write "
            "np.cov(z, rowvar=False) for draws z (n, d)."
        )
    return jnp.asarray(given, jnp.zeros(()).dtype)


class Fixed(AbstractPreconditioner):
    """A covariance that is known beforehand: warm-up tunes the step size alone.

    Cost per step: O(d) for a number or variances, O(d^2) for a matrix.

    Args:
        covariance: of the posterior on the unconstrained scale, in the order of the coordinates of
            `result.z`: a number, variances (d,), or a positive definite matrix (d, d).
    """

    covariance: Float[Array, "..."] = eqx.field(converter=as_covariance)

    def blank(self, like: Vector) -> Moments:
        """Moments that nobody will read."""
        return empty_moments(like, dense=False)

    def identity(self, like: Vector) -> Scale:
        """The scale that was given."""
        d, shape = like.shape[0], self.covariance.shape
        if shape not in ((), (d,), (d, d)):
            raise ValueError(
                f"the target has {d} unconstrained coordinates, and the covariance is of shape "
                f"{shape}; give it as ({d},) variances or a ({d}, {d}) matrix."
            )
        given = self.covariance.astype(like.dtype)
        return scale_of(given if given.ndim else jnp.full_like(like, given))

    def learn(self, moments: Moments, before: Scale) -> Scale:
        """What was given."""
        return before

    def guess(self, moments: Moments, scores: Moments, before: Scale) -> Scale:
        """What was given."""
        return before


def check_preconditioner(given: object, method: str) -> None:
    """Refuse what is no preconditioner."""
    if not isinstance(given, AbstractPreconditioner):
        raise TypeError(
            f"{method} needs preconditioner=infer.Diagonal(), infer.Dense() or "
            f"infer.Fixed(covariance), got {given!r}."
        )
