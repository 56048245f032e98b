"""Coordinates phi with z = c + L phi in which a fit takes its steps."""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.target import Target
from infer.core.types import PRNGKey, Vector
from infer.gaussian.newton import Path, begin, follow


class AbstractFrame(eqx.Module):
    """The coordinates of a fit: its steps are those of the method for the density of phi.

    Attributes:
        moving: True if the frame is that of the current q, renewed at every step.
        searching: True if the first Gaussian is looked for on a Newton path; otherwise it is
            N(x, scale^2 I) at the start x, as in the papers.
    """

    moving: eqx.AbstractClassVar[bool]
    searching: eqx.AbstractClassVar[bool]

    def path(self, key: PRNGKey, target: Target, x: Vector, scale: Array) -> Path:
        """How to get from x to the first Gaussian."""
        return follow(key, target, x, scale) if self.searching else begin(target, x, scale)

    @abstractmethod
    def factor(self, path: Path) -> Float[Array, "d d"]:
        """The matrix L, given a Newton path from the start."""


class MovingFrame(AbstractFrame):
    """The frame of the current q = N(m, C C^T): c = m, L = C, renewed at every step.

    There q is N(0, I) whatever the scales of the target, so every method is affine-equivariant,
    and its step is a scalar function of the eigenvalues of one matrix.
    """

    moving: ClassVar[bool] = True
    searching: ClassVar[bool] = True

    def factor(self, path: Path) -> Float[Array, "d d"]:
        """The identity: nothing is mapped."""
        return jnp.eye(path.x.shape[0], dtype=path.x.dtype)


class IdentityFrame(AbstractFrame):
    """The coordinates of the target as they are: the methods of the papers."""

    moving: ClassVar[bool] = False
    searching: ClassVar[bool] = False

    def factor(self, path: Path) -> Float[Array, "d d"]:
        """The identity."""
        return jnp.eye(path.x.shape[0], dtype=path.x.dtype)


class LaplaceFrame(AbstractFrame):
    """The inverse root of the Hessian where the Newton path ends, eigenvalues made positive."""

    moving: ClassVar[bool] = False
    searching: ClassVar[bool] = True

    def factor(self, path: Path) -> Float[Array, "d d"]:
        """The path's last frame."""
        return path.frame


class DiagonalFrame(AbstractFrame):
    """The standard deviations of the Laplace approximation where the Newton path ends."""

    moving: ClassVar[bool] = False
    searching: ClassVar[bool] = True

    def factor(self, path: Path) -> Float[Array, "d d"]:
        """Row norms of the path's last frame."""
        return jnp.diag(jnp.linalg.norm(path.frame, axis=1))


class FixedFrame(AbstractFrame):
    """A factor of your own, for example that of another fit: `FixedFrame(other.posterior.factor)`.

    Args:
        matrix: L, (d, d), not singular.
    """

    matrix: Float[Array, "d d"]
    moving: ClassVar[bool] = False
    searching: ClassVar[bool] = True

    def factor(self, path: Path) -> Float[Array, "d d"]:
        """The matrix given."""
        d = path.x.shape[0]
        if self.matrix.shape != (d, d):
            raise ValueError(
                f"FixedFrame has a matrix of shape {self.matrix.shape}, the target has {d} "
                f"coordinates; give one of shape {(d, d)}."
            )
        return self.matrix.astype(path.x.dtype)
