"""Monotone rational-quadratic splines."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import check_count
from infer.core.types import Vector
from infer.flows.checks import check_positive
from infer.flows.coupling import AbstractTransform, Settings
from infer.references.citation import cites
from infer.references.flows import DURKAN_2019

FLOOR = 1e-3  # least slope at a knot; least width and height of a bin, as shares of the box


@cites(DURKAN_2019)
class RationalQuadratic(AbstractTransform):
    """A monotone rational-quadratic spline on the box (-B, B), the identity outside.

    In the bin of width w and height h with slopes a and b at its ends, where u = (t - left) / w
    runs from 0 to 1 and v = h / w,

        tau  = bottom + h (v u^2 + a u (1 - u)) / (v + (a + b - 2 v) u (1 - u))
        tau' = v^2 (b u^2 + 2 v u (1 - u) + a (1 - u)^2) / (v + (a + b - 2 v) u (1 - u))^2

    The slope at both edges of the box is one, so the density of a flow is continuous in its
    parameters and its path gradient unbiased; with free slopes there it would not be. The score
    jumps at the knots. Source: Durkan, Bekasov, Murray and Papamakarios, Neural spline flows,
    NeurIPS 2019.

    Attributes:
        bins: K; 3 K - 1 settings per coordinate are widths, heights and slopes inside.
        bound: B.
    """

    bins: int = eqx.field(static=True, default=8)
    bound: float = eqx.field(static=True, default=5.0)

    def __check_init__(self) -> None:
        """Refuse what is no box of bins."""
        check_count("RationalQuadratic", "bins", self.bins, 8, least=2)
        check_positive("RationalQuadratic", "bound", self.bound, 5.0)
        if self.bins * FLOOR > 0.5:
            raise ValueError(
                f"RationalQuadratic needs bins <= {int(0.5 / FLOOR)}, since none is narrower than "
                f"{FLOOR} of the box, got {self.bins}; write bins=8."
            )

    @property
    def settings(self) -> int:
        """Widths, heights, slopes at the K - 1 knots inside."""
        return 3 * self.bins - 1

    def forward(self, t: Vector, h: Settings) -> tuple[Vector, Vector]:
        """The spline and log tau'; t and 0 outside the box."""
        lefts, bottoms, slopes = self._knots(h)
        inside = jnp.abs(t) < self.bound
        # Points outside go through the formulas as zero, so that no infinity meets a gradient.
        t_in = jnp.where(inside, t, 0)
        left, width, bottom, height, a, b = _bin(t_in, lefts, lefts, bottoms, slopes)
        u, v = (t_in - left) / width, height / width
        y = bottom + height * (v * u**2 + a * u * (1 - u)) / (v + (a + b - 2 * v) * u * (1 - u))
        log_slope = _log_slope(u, v, a, b)
        return jnp.where(inside, y, t), jnp.where(inside, log_slope, 0)

    def inverse(self, y: Vector, h: Settings) -> tuple[Vector, Vector]:
        """By the root in [0, 1] of a quadratic in u; y and 0 outside the box."""
        lefts, bottoms, slopes = self._knots(h)
        inside = jnp.abs(y) < self.bound
        y_in = jnp.where(inside, y, 0)
        left, width, bottom, height, a, b = _bin(y_in, bottoms, lefts, bottoms, slopes)
        v, rise = height / width, y_in - bottom
        bent = rise * (a + b - 2 * v)
        # (height (v - a) + bent) u^2 + (height a - bent) u - v rise = 0
        second, first = height * (v - a) + bent, height * a - bent
        root = jnp.sqrt(jnp.maximum(first**2 + 4 * second * v * rise, jnp.finfo(y.dtype).tiny))
        u = 2 * v * rise / (first + root)
        log_slope = _log_slope(u, v, a, b)
        return jnp.where(inside, left + width * u, y), jnp.where(inside, -log_slope, 0)

    def _knots(self, h: Settings) -> tuple[Float[Array, "d k"], ...]:
        """Places and heights of the K + 1 knots, and the slopes there."""
        k = self.bins
        ends = ((0, 0), (1, 1))
        slopes = FLOOR + jax.nn.softplus(h[:, 2 * k :] + jnp.log(jnp.expm1(1 - FLOOR)))
        return (
            self._places(h[:, :k]),
            self._places(h[:, k : 2 * k]),
            jnp.pad(slopes, ends, constant_values=1),
        )

    def _places(self, shares: Float[Array, "d bins"]) -> Float[Array, "d knots"]:
        share = FLOOR + (1 - self.bins * FLOOR) * jax.nn.softmax(shares, axis=1)
        inner = 2 * jnp.cumsum(share[:, :-1], axis=1) - 1
        # The ends are not sums: rounding would move them.
        return self.bound * jnp.concatenate(
            [-jnp.ones_like(inner[:, :1]), inner, jnp.ones_like(inner[:, :1])], axis=1
        )


def _bin(
    t: Vector,
    along: Float[Array, "d k"],
    lefts: Float[Array, "d k"],
    bottoms: Float[Array, "d k"],
    slopes: Float[Array, "d k"],
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector]:
    """Left end, width, bottom, height and both slopes of the bin that t falls into."""
    place = jnp.sum(t[:, None] >= along[:, 1:-1], axis=1)
    chosen = jax.nn.one_hot(place, along.shape[1] - 1, dtype=t.dtype)

    def pick(values: Array) -> Vector:
        return jnp.sum(chosen * values, axis=1)

    left, bottom = pick(lefts[:, :-1]), pick(bottoms[:, :-1])
    width, height = pick(jnp.diff(lefts)), pick(jnp.diff(bottoms))
    return left, width, bottom, height, pick(slopes[:, :-1]), pick(slopes[:, 1:])


def _log_slope(u: Vector, v: Vector, a: Vector, b: Vector) -> Vector:
    above = b * u**2 + 2 * v * u * (1 - u) + a * (1 - u) ** 2
    return 2 * jnp.log(v) + jnp.log(above) - 2 * jnp.log(v + (a + b - 2 * v) * u * (1 - u))
