"""Increasing maps by mixtures of logistic distribution functions."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import Vector
from infer.flows.coupling import AbstractTransform, Settings
from infer.references.citation import cites
from infer.references.flows import HO_2019

Components = Float[Array, "d k"]
FLOOR = 1e-3  # least slope, as of splines
MOST = 100  # trips of the search for a root; bisection alone halves an interval of float64 60 times


@cites(HO_2019)
class LogisticMixture(AbstractTransform):
    """The logit of a mixture of K logistic distribution functions: smooth, without a box.

        tau(t)  = f t + (1 - f) logit sum_k w_k sigmoid(u_k),   u_k = (t - mu_k) / s_k
        tau'(t) = f + (1 - f) sum_k r_k q_k / (w_k s_k)

    from R onto R, with derivatives of every order; r_k and q_k are the shares of component k in
    sum_k w_k sigmoid(u_k) and in sum_k w_k sigmoid(-u_k), and f = 1/1000 is the least slope. No
    slope exceeds exp(c). All is computed in logarithms, so that no sigmoid is rounded to one.

    No formula inverts tau. Where every component alone would give less than y, so does the mixture:
    so `inverse` searches between the least and the greatest of their K roots, by Newton steps that
    fall back on bisection. Its derivative is that of the implicit function,
    dt = (dy - d_h tau dh) / tau'.

    At settings of zero all components are equal and tau is the identity. Equal components have
    equal gradients and would stay equal, so component k = 1, ..., K takes its center and its log
    scale at 2 k / (K + 1) times the settings. Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++:
    improving flow-based generative models with variational dequantization and architecture
    design, ICML 2019.

    Attributes:
        components: K; 3 K settings per coordinate are log weights, centers and log scales.
        clamp: c, the most by which a log scale differs from zero.
    """

    components: int = eqx.field(static=True, default=8)
    clamp: float = eqx.field(static=True, default=3.0)

    @property
    def settings(self) -> int:
        """Weights, centers, scales."""
        return 3 * self.components

    def forward(self, t: Vector, h: Settings) -> tuple[Vector, Vector]:
        """The logit of the mixture and log tau'."""
        return _mixture(t, *self._components(h))

    def inverse(self, y: Vector, h: Settings) -> tuple[Vector, Vector]:
        """By a search, to a few units of the last digit of t times the condition 1 / tau'."""
        components = self._components(h)
        t = _root(y, *components)
        return t, -_mixture(t, *components)[1]

    def _components(self, h: Settings) -> tuple[Components, Components, Components]:
        """Log weights, centers and log scales."""
        k = self.components
        rate = 2 * jnp.arange(1, k + 1, dtype=h.dtype) / (k + 1)
        log_scale = self.clamp * jnp.tanh(rate * h[:, 2 * k :] / self.clamp)
        return jax.nn.log_softmax(h[:, :k]), rate * h[:, k : 2 * k], log_scale


def _mixture(
    t: Vector, log_w: Components, center: Components, log_scale: Components
) -> tuple[Vector, Vector]:
    u = (t[:, None] - center) * jnp.exp(-log_scale)
    below, above = log_w + jax.nn.log_sigmoid(u), log_w + jax.nn.log_sigmoid(-u)
    logit = jax.nn.logsumexp(below, axis=1) - jax.nn.logsumexp(above, axis=1)
    # Far out both sums are as large as t in logarithms; shares are made of differences first.
    shares = jax.nn.log_softmax(below) + jax.nn.log_softmax(above)
    log_slope = jax.nn.logsumexp(shares - log_w - log_scale, axis=1)
    return (
        FLOOR * t + (1 - FLOOR) * logit,
        jnp.logaddexp(math.log(FLOOR), math.log1p(-FLOOR) + log_slope),
    )


@jax.custom_jvp
def _root(y: Vector, log_w: Components, center: Components, log_scale: Components) -> Vector:
    """The t with tau(t) = y."""
    rate = (1 - FLOOR) * jnp.exp(-log_scale)
    alone = (y[:, None] + rate * center) / (FLOOR + rate)
    low, high = jnp.min(alone, axis=1), jnp.max(alone, axis=1)
    eps = jnp.finfo(y.dtype).eps

    def searching(carry: tuple[Vector, Vector, Vector, Vector, Array, Array]) -> Array:
        *_, found, i = carry
        return ~jnp.all(found) & (i < MOST)

    def improve(carry: tuple[Vector, Vector, Vector, Vector, Array, Array]):
        t, step, low, high, found, i = carry
        value, log_slope = _mixture(t, log_w, center, log_scale)
        low, high = jnp.where(value < y, t, low), jnp.where(value < y, high, t)
        newton = t - (value - y) * jnp.exp(-log_slope)
        # Newton where it stays between the bounds and at least halves the step.
        good = (newton >= low) & (newton <= high) & (2 * jnp.abs(newton - t) <= jnp.abs(step))
        new = jnp.where(found, t, jnp.where(good, newton, (low + high) / 2))
        # A step of Newton's leaves about its square. What is not finite is not searched for.
        least = jnp.where(good, jnp.sqrt(eps) / 4, 2 * eps) * jnp.maximum(1, jnp.abs(t))
        found |= ~(jnp.abs(new - t) > least)
        return new, jnp.where(found, step, new - t), low, high, found, i + 1

    found = ~(high - low > 0)
    first = ((low + high) / 2, high - low, low, high, found, jnp.asarray(0))
    return jax.lax.while_loop(searching, improve, first)[0]


@_root.defjvp
def _root_jvp(primals: tuple, tangents: tuple) -> tuple[Vector, Vector]:
    t = _root(*primals)
    _, *components = primals
    dy, *moved = tangents
    (_, log_slope), (shift, _) = jax.jvp(
        lambda *components: _mixture(t, *components), tuple(components), tuple(moved)
    )
    return t, (dy - shift) * jnp.exp(-log_slope)
