"""What stochastic-gradient samplers share: a state, a warm-up that needs no density, a report."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import Info
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import Diagonal, Fixed, Scale, as_covariance, scale_of
from infer.optimizers.averaging import average

LOOKS = 10  # warm-up iterations that look around before the first one that moves


class Terrain(eqx.Module):
    """What warm-up learns of the density from minibatches; none of it is biased by their noise.

    Attributes:
        scale: the preconditioner M = L L^T.
        square: mean square of v (H v), H the Hessian and v random signs: the rows of H, squared.
        noise: variance of the score of a minibatch, per coordinate.
        direction: unit vector near the steepest direction of -L^T H L.
        steepest: its curvature; 0 before it is known.
    """

    scale: Scale
    square: Vector
    noise: Vector
    direction: Vector
    steepest: Scalar

    def whitened_noise(self) -> Vector:
        """Variance of L^T score, per coordinate."""
        factor = self.scale.factor
        return self.noise @ factor**2 if factor.ndim == 2 else self.noise * factor**2


class StochasticState(eqx.Module):
    """A position with the density and score that one minibatch gives there.

    The next step uses them, with the noise of its own: an unbiased score at a position that does
    not depend on its minibatch. `draw` is the last position reached with noise, `i` counts the
    steps after warm-up.
    """

    position: Vector
    log_prob: Scalar
    score: Vector
    terrain: Terrain
    draw: Vector
    draw_log_prob: Scalar
    i: Count


def covariance(value: Any) -> Array | None:
    """A field converter: variances or a matrix as an array, None to have variances learned."""
    return None if value is None else as_covariance(value)


def begin(target: Target, z: Vector, given: Array | None) -> StochasticState:
    """The state at a point: nothing is known but the covariance that was given."""
    log_prob, score = target.value_and_score(z)
    scale = (Diagonal() if given is None else Fixed(given)).identity(z)
    wave = jnp.sin(jnp.arange(1.0, len(z) + 1)).astype(z.dtype)
    zero = jnp.zeros_like(z)
    terrain = Terrain(scale, zero, zero, wave / jnp.linalg.norm(wave), jnp.zeros((), z.dtype))
    return StochasticState(z, log_prob, score, terrain, z, log_prob, jnp.zeros((), jnp.int32))


def moved(
    target: Target, state: StochasticState, z: Vector, temperature: Scalar | None
) -> StochasticState:
    """The state at z, which is a draw if it was reached at a positive temperature.

    None is a step of the warm-up, that does not count.
    """
    log_prob, score = target.value_and_score(z)
    hot = jnp.asarray(True) if temperature is None else temperature > 0
    draw = jnp.where(hot, z, state.draw)
    draw_log_prob = jnp.where(hot, log_prob, state.draw_log_prob)
    i = state.i if temperature is None else state.i + 1
    return StochasticState(z, log_prob, score, state.terrain, draw, draw_log_prob, i)


def look(
    key: PRNGKey, target: Target, state: StochasticState, given: Array | None, i: Count
) -> StochasticState:
    """Learn from a second minibatch at the same position; cost: one gradient, two Hessian products.

    Where no covariance was given, M = diag(1 / r) with r_i^2 the mean of (v_i (H v)_i)^2: 1/r is
    the variance of a Gaussian with independent coordinates, and smaller where they are correlated.
    Averages look back over roughly the last tenth of the warm-up.
    """
    known = state.terrain
    signs = jax.random.rademacher(key, state.position.shape, state.position.dtype)
    score, times = jax.linearize(jax.grad(target.log_prob), state.position)
    steep = known.scale.whiten_score(times(known.scale.color(known.direction)))
    curvature = -jnp.dot(known.direction, steep)
    size = jnp.linalg.norm(steep)
    direction = jnp.where(size > 0, -steep / jnp.where(size > 0, size, 1), known.direction)
    seen = ((signs * times(signs)) ** 2, 0.5 * (score - state.score) ** 2, curvature)
    before = (known.square, known.noise, known.steepest)
    square, noise, steepest = average(before, seen, i)
    scale = known.scale
    if given is None:
        scale = scale_of(jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 1))
    new = Terrain(scale, square, noise, direction, steepest)
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(new)]))
    new = jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, known)
    return eqx.tree_at(lambda s: s.terrain, state, new)


def looked(i: Count, after: Any, before: Any) -> Any:
    """The state after a warm-up step, from the iteration on in which the first one is taken."""
    return jax.tree.map(lambda a, b: jnp.where(i >= LOOKS, a, b), after, before)


def careful(step_size: Scalar, limit: Callable[[Scalar], Scalar], state: StochasticState) -> Scalar:
    """A step size for warm-up: at most half of the largest stable one."""
    return jnp.minimum(step_size, 0.5 * limit(state.terrain.steepest))


def shown(
    state: StochasticState, step_size: Scalar, limit: Scalar, excess: Scalar, gradients: int
) -> Info:
    """What a step tells: its size, the largest stable one, and the variance added by minibatches.

    The loss is that of the draw, NaN where the position that follows it is not finite.
    """
    fine = jnp.isfinite(state.log_prob) & jnp.all(jnp.isfinite(state.score))
    loss = jnp.where(fine, -state.draw_log_prob, jnp.nan)
    stats = {"step_size": step_size, "step_limit": limit, "gradient_noise": excess}
    return Info(loss, jnp.asarray(gradients), stats)
