"""What a layer of a flow is, and layers made of layers."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.types import Scalar, Vector
from infer.references.citation import cites
from infer.references.variational import VAITL_2024


@cites(VAITL_2024)
class AbstractLayer(eqx.Module):
    """An invertible map y = T(x) of R^d whose array leaves are its parameters; one point a call.

    `push` carries draws together with the score of their density. If x has density q, then y has
    log density log q(x) - log |det J| with J = dT/dx, and its gradient in y is

        s' = J^-T (s - grad_x log |det J|),   s = grad log q(x)

    Layer after layer, from the noise on, this gives the score of a flow where it is drawn, without
    inverting the flow and without differentiating through all of it. Source: Vaitl, Winkler,
    Richter and Kessel, Fast and unified path gradient estimators for normalizing flows, ICLR 2024.
    """

    @abstractmethod
    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """T(x) and log |det dT/dx|."""

    @abstractmethod
    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """The x with T(x) = y and log |det dx/dy|, minus what `forward` says at x."""

    @abstractmethod
    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """T(x), log |det dT/dx| and, given the score at x, the score at T(x), detached."""


class Chain(AbstractLayer):
    """Layers one after another, the first one first."""

    layers: tuple[AbstractLayer, ...]

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """Through all layers; log determinants add up."""
        total = jnp.zeros((), x.dtype)
        for layer in self.layers:
            x, log_det = layer.forward(x)
            total += log_det
        return x, total

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """Back through all layers, the last one first."""
        total = jnp.zeros((), y.dtype)
        for layer in reversed(self.layers):
            y, log_det = layer.inverse(y)
            total += log_det
        return y, total

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """Through all layers, the score with the point."""
        total = jnp.zeros((), x.dtype)
        for layer in self.layers:
            x, log_det, score = layer.push(x, score)
            total += log_det
        return x, total, score


class Stack(AbstractLayer):
    """Equal layers one after another, compiled once.

    Attributes:
        layer: the layers, every array leaf with one more leading axis, as `equinox.filter_vmap` of
            a function that makes one layer returns them.
    """

    layer: AbstractLayer

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """Through all layers."""

        def through(carry: tuple[Vector, Scalar], layer: AbstractLayer):
            y, log_det = layer.forward(carry[0])
            return (y, carry[1] + log_det), None

        return jax.lax.scan(through, (x, jnp.zeros((), x.dtype)), self.layer)[0]

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """Back through all layers, the last one first."""

        def back(carry: tuple[Vector, Scalar], layer: AbstractLayer):
            x, log_det = layer.inverse(carry[0])
            return (x, carry[1] + log_det), None

        return jax.lax.scan(back, (y, jnp.zeros((), y.dtype)), self.layer, reverse=True)[0]

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """Through all layers, the score with the point."""

        def through(carry: tuple[Vector, Scalar, Vector], layer: AbstractLayer):
            y, log_det, score = layer.push(carry[0], carry[2])
            return (y, carry[1] + log_det, score), None

        return jax.lax.scan(through, (x, jnp.zeros((), x.dtype), score), self.layer)[0]
