"""Coupling layers: one half of the coordinates decides how the other half moves."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.checks import check_positive
from infer.flows.layer import AbstractLayer
from infer.flows.perceptron import Perceptron, perceptron

Settings = Float[Array, "d n"]
Head = Float[Array, " head"]  # the first half of the coordinates
Tail = Float[Array, " tail"]


class AbstractTransform(eqx.Module):
    """Increasing maps of the real line, one per coordinate; at settings of zero the identity."""

    @property
    @abstractmethod
    def settings(self) -> int:
        """How many numbers say which map it is, per coordinate."""

    @abstractmethod
    def forward(self, t: Vector, h: Settings) -> tuple[Vector, Vector]:
        """tau(t; h) and log d tau / dt, coordinate by coordinate."""

    @abstractmethod
    def inverse(self, y: Vector, h: Settings) -> tuple[Vector, Vector]:
        """The t with tau(t; h) = y and log dt/dy, coordinate by coordinate."""


class SoftAffine(AbstractTransform):
    """tau(t; a, m) = exp(c tanh(a / c)) t + m: no slope leaves [exp(-c), exp(c)], c = `clamp`."""

    clamp: float = eqx.field(static=True, default=2.0)

    def __check_init__(self) -> None:
        """Refuse what bounds nothing."""
        check_positive("SoftAffine", "clamp", self.clamp, 2.0)

    @property
    def settings(self) -> int:
        """Log slope and shift."""
        return 2

    def forward(self, t: Vector, h: Settings) -> tuple[Vector, Vector]:
        """Scaled and shifted."""
        log_slope = self._log_slope(h)
        return t * jnp.exp(log_slope) + h[:, 1], log_slope

    def inverse(self, y: Vector, h: Settings) -> tuple[Vector, Vector]:
        """Shifted and scaled back."""
        log_slope = self._log_slope(h)
        return (y - h[:, 1]) * jnp.exp(-log_slope), -log_slope

    def _log_slope(self, h: Settings) -> Vector:
        return self.clamp * jnp.tanh(h[:, 0] / self.clamp)


class Coupling(AbstractLayer):
    """y_c = x_c,  y_t = tau(x_t; h(x_c)): the first half of x decides how the rest moves.

    With ld = sum log tau' the score is carried by one pass back through the conditioner h, which
    is evaluated once; tau is not inverted:

        s_t' = (s_t - d ld/d x_t) / tau'
        s_c' = s_c - (d y_t/d x_c)^T s_t' - d ld/d x_c

    The halves are of floor(d / 2) and ceil(d / 2) coordinates. Cost per draw: the conditioner
    forward, and for the score once back.

    Attributes:
        conditioner: h times the root of the width of its last hidden layer.
        transform: tau.
    """

    conditioner: Perceptron
    transform: AbstractTransform

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """The image y, and ld."""
        c, t = _halves(x)
        y, log_slope = self.transform.forward(t, self._settings(c))
        return jnp.concatenate([c, y]), jnp.sum(log_slope)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """x, with the conditioner forward as in `forward`, and minus ld."""
        c, t = _halves(y)
        x, log_slope = self.transform.inverse(t, self._settings(c))
        return jnp.concatenate([c, x]), jnp.sum(log_slope)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """The image y, ld and s'."""
        y, log_det = self.forward(x)
        # What is written twice here is computed once: the compiler merges equal operations.
        fixed, x, score = jax.lax.stop_gradient((self, x, score))
        (c, t), (s_c, s_t) = _halves(x), _halves(score)
        h, through_conditioner = jax.vjp(fixed._settings, c)
        (_, log_slope), through_transform = jax.vjp(fixed.transform.forward, t, h)
        one = jnp.ones_like(t)
        s_t = (s_t - through_transform((jnp.zeros_like(t), one))[0]) * jnp.exp(-log_slope)
        (pulled,) = through_conditioner(through_transform((-s_t, -one))[1])
        return y, log_det, jnp.concatenate([s_c + pulled, s_t])

    def _settings(self, c: Head) -> Float[Array, "tail n"]:
        # Over the root of the width m: a step of Adam moves a setting as far as m^(1/2) parameters.
        width = self.conditioner.layers[-1].weight.shape[1]
        return self.conditioner(c).reshape(-1, self.transform.settings) / width**0.5


def _halves(x: Vector) -> tuple[Head, Tail]:
    half = x.shape[0] // 2
    return x[:half], x[half:]


def coupling(
    key: PRNGKey, like: Vector, transform: AbstractTransform, width: int, depth: int
) -> Coupling:
    """The coupling that is the identity, for vectors like this one; hidden layers at random."""
    c, t = _halves(like)
    network = perceptron(key, len(c), len(t) * transform.settings, width, depth)
    return Coupling(jax.tree.map(lambda leaf: leaf.astype(like.dtype), network), transform)
