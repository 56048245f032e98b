"""Supports of matrix-valued parameters: Cholesky factors."""

import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.support import AbstractSupport, Shape, clipped_exp
from infer.core.types import Flag, Scalar


def _square(name: str, shape: Shape, least: int) -> int:
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < least:
        raise ValueError(
            f"{name} needs two equal last axes of at least {least}, the parameter has shape "
            f"{tuple(shape)}"
        )
    return shape[-1]


def _fill(entries: Array, n: int) -> Array:
    """A strictly lower triangular matrix, row by row."""
    rows, columns = np.tril_indices(n, -1)
    zeros = jnp.zeros((*entries.shape[:-1], n, n), entries.dtype)
    return zeros.at[..., rows, columns].set(entries)


def _read(matrix: Array) -> Array:
    """The strictly lower triangle, row by row."""
    rows, columns = np.tril_indices(matrix.shape[-1], -1)
    return matrix[..., rows, columns]


def _diagonal(matrix: Array) -> Array:
    return jnp.diagonal(matrix, axis1=-2, axis2=-1)


def _is_lower(matrix: Array) -> Flag:
    return jnp.all(jnp.triu(matrix, 1) == 0) & jnp.all(_diagonal(matrix) > 0)


class LowerCholesky(AbstractSupport):
    """Lower triangular with positive diagonal: below it free, on it exp(u).

    u holds the strictly lower triangle row by row, then the n logarithms of the diagonal.
    """

    label: ClassVar[str] = "lower_cholesky"

    def free_shape(self, shape: Shape) -> Shape:
        """One vector of n (n + 1) / 2 entries for each matrix."""
        n = _square(self.label, shape, 1)
        return (*shape[:-2], n * (n + 1) // 2)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        n = (math.isqrt(1 + 8 * u.shape[-1]) - 1) // 2
        below, log_diagonal = u[..., :-n], u[..., -n:]
        diagonal = clipped_exp(log_diagonal)[..., None] * jnp.eye(n, dtype=u.dtype)
        return _fill(below, n) + diagonal, jnp.sum(log_diagonal)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        return jnp.concatenate([_read(x), jnp.log(_diagonal(x))], axis=-1)

    def contains(self, x: Array) -> Flag:
        """Is x finite, lower triangular, with a positive diagonal?"""
        return _is_lower(x) & jnp.all(jnp.isfinite(x))


class CorrCholesky(AbstractSupport):
    """Cholesky factors of correlation matrices: lower triangular, rows of unit length.

    Row by row a signed stick is broken: x_ij = tanh(u_ij) prod_{k<j} sech(u_ik). The Jacobian is
    that of the strictly lower triangle.
    """

    label: ClassVar[str] = "corr_cholesky"

    def free_shape(self, shape: Shape) -> Shape:
        """One vector of n (n - 1) / 2 entries for each matrix."""
        n = _square(self.label, shape, 2)
        return (*shape[:-2], n * (n - 1) // 2)

    def constrain(self, u: Array) -> tuple[Array, Scalar]:
        """The class's formula, clipped into the support, and its log Jacobian."""
        n = (math.isqrt(1 + 8 * u.shape[-1]) + 1) // 2
        size = jnp.abs(u)
        log_sech = math.log(2.0) - size - jnp.log1p(jnp.exp(-2 * size))
        left = jnp.cumsum(_fill(log_sech, n), axis=-1)  # log length of the stick after column j
        before = jnp.concatenate([jnp.zeros_like(left[..., :1]), left[..., :-1]], axis=-1)
        x = _fill(jnp.tanh(u), n) * jnp.exp(before)
        diagonal = jnp.maximum(jnp.exp(_diagonal(before)), jnp.finfo(u.dtype).tiny)
        x = x + diagonal[..., None] * jnp.eye(n, dtype=u.dtype)
        return x, jnp.sum(_read(before)) + 2 * jnp.sum(log_sech)

    def unconstrain(self, x: Array) -> Array:
        """The inverse of `constrain`."""
        squares = jnp.flip(jnp.cumsum(jnp.flip(x * x, axis=-1), axis=-1), axis=-1)
        after = jnp.concatenate([squares[..., 1:], jnp.zeros_like(x[..., :1])], axis=-1)
        stick = jnp.sqrt(jnp.maximum(_read(after), jnp.finfo(x.dtype).tiny))
        return jnp.arcsinh(_read(x) / stick)

    def contains(self, x: Array) -> Flag:
        """Is x lower triangular, with a positive diagonal and rows of length 1?"""
        tolerance = max(1e-6, 10 * x.shape[-1] * float(jnp.finfo(x.dtype).eps))
        lengths = jnp.sum(x * x, axis=-1)
        return _is_lower(x) & jnp.all(jnp.abs(lengths - 1) < tolerance)


lower_cholesky = LowerCholesky()
corr_cholesky = CorrCholesky()
