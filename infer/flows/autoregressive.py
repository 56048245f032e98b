"""Autoregressive layers: what comes before a coordinate decides how it moves."""

import jax
import jax.numpy as jnp

from infer.core.types import Count, Flag, PRNGKey, Scalar, Vector
from infer.flows.coupling import AbstractTransform
from infer.flows.layer import AbstractLayer
from infer.flows.made import MaskedPerceptron, masked_perceptron
from infer.references.citation import cites
from infer.references.flows import KINGMA_2016


@cites(KINGMA_2016)
class Autoregressive(AbstractLayer):
    """y_i = tau(x_i; h_i(x_0, ..., x_{i-1})): all coordinates at once, the inverse one by one.

    The Jacobian J is lower triangular with diagonal tau', so ld = sum log tau'. The score solves
    J^T s' = s - grad ld by the sweeps of Jacobi

        s' <- s' + (s - J^T s' - grad ld) / tau',

    one pass back through the network each, which was evaluated once. What is off the diagonal is
    nilpotent, so d sweeps are exact; they stop when the residual is rounding. Cost per draw: the
    network forward, and for the score 1 + (number of sweeps) times back; the inverse is the
    network d times. With `Inverse` around it, density is cheap and drawing is not.

    Source: Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, Improving variational
    inference with inverse autoregressive flow, NeurIPS 2016.

    Attributes:
        conditioner: h.
        transform: tau.
    """

    conditioner: MaskedPerceptron
    transform: AbstractTransform

    def forward(self, x: Vector) -> tuple[Vector, Scalar]:
        """The image y, and ld."""
        y, log_slope = self._image(x)
        return y, jnp.sum(log_slope)

    def inverse(self, y: Vector) -> tuple[Vector, Scalar]:
        """By d passes, each of which makes one more coordinate of x right; and minus ld."""

        def settle(found: tuple[Vector, Vector], _: None) -> tuple[tuple[Vector, Vector], None]:
            return self.transform.inverse(y, self.conditioner(found[0])), None

        (x, log_slope), _ = jax.lax.scan(settle, (y, jnp.zeros_like(y)), length=len(y))
        return x, jnp.sum(log_slope)

    def push(self, x: Vector, score: Vector) -> tuple[Vector, Scalar, Vector]:
        """The image y, ld and s'."""
        y, log_det = self.forward(x)
        return y, log_det, self.solve(*jax.lax.stop_gradient((x, score)))[0]

    def solve(self, x: Vector, score: Vector) -> tuple[Vector, Count]:
        """The score s', detached, and the number of sweeps."""
        fixed = jax.lax.stop_gradient(self)
        # What `forward` computed as well is computed once: the compiler merges equal operations.
        (_, log_slope), pull = jax.vjp(fixed._image, x)
        slope, rounding = jnp.exp(log_slope), (8 + len(x)) * jnp.finfo(x.dtype).eps

        def residual(s: Vector) -> Vector:
            return score - pull((s, jnp.ones_like(s)))[0]

        def going(carry: tuple) -> Flag:
            s, left, sweeps = carry
            size = 1 + jnp.max(jnp.abs(score)) + jnp.max(jnp.abs(s * slope))
            return (jnp.max(jnp.abs(left)) > rounding * size) & (sweeps < len(x))

        def sweep(carry: tuple) -> tuple:
            s, left, sweeps = carry
            s += left / slope
            return s, residual(s), sweeps + 1

        first = score / slope
        s, _, sweeps = jax.lax.while_loop(going, sweep, (first, residual(first), jnp.asarray(0)))
        return s, sweeps

    def _image(self, x: Vector) -> tuple[Vector, Vector]:
        return self.transform.forward(x, self.conditioner(x))


def autoregressive(
    key: PRNGKey, like: Vector, transform: AbstractTransform, width: int, depth: int
) -> Autoregressive:
    """The autoregressive layer that is the identity; hidden layers of its network at random."""
    network = masked_perceptron(key, like, transform.settings, width, depth)
    return Autoregressive(network, transform)
