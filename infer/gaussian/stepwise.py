"""Steps with new points every time: a step size, a frame, and an average against the noise.

The step size never exceeds 1 / lambda_max of the curvature in the frame: beyond it forward-backward
steps do not blow up, they converge to a wrong covariance.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.algorithm import Info
from infer.core.linalg import LOG_2PI
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.gaussian.certified import CONVERGED, MINIBATCH, RUNNING
from infer.gaussian.frame import AbstractFrame
from infer.gaussian.oracle import AbstractOracle, Expectations
from infer.gaussian.rule import Rule, in_fixed_frame, in_moving_frame
from infer.optimizers.averaging import average

MEMORY = 0.95  # of running means of the largest curvature and of the residual
DECAY = 30.0  # steps until the step size has halved, where none is given
SHORTEST = 50  # steps before the running mean of the residual is believed


class State(eqx.Module):
    """q = N(mean, factor factor^T), its average, and running means of what was seen.

    Attributes:
        frame: L of the frame; the identity where it moves.
        mean, factor: the present q.
        mean_average, factor_average: the answer.
        largest: running mean of the largest curvature in the frame.
        gap, gap_square: running means of an unbiased estimate of R / 2, and of its square.
        loss: the last one.
        reason, unpaid: as in the fits with fixed points.
        t: steps taken.
    """

    frame: Float[Array, "d d"]
    mean: Vector
    factor: Float[Array, "d d"]
    mean_average: Vector
    factor_average: Float[Array, "d d"]
    largest: Scalar
    gap: Scalar
    gap_square: Scalar
    loss: Scalar
    reason: Count
    unpaid: Count
    t: Count


def start(key: PRNGKey, target: Target, frame: AbstractFrame, scale: Array) -> State:
    """The best Gaussian of the path that the frame takes from the target's start."""
    start_key, path_key = jax.random.split(key)
    x = target.initial(start_key)
    path = frame.path(path_key, target, x, scale)
    none, zero = jnp.zeros((), x.dtype), jnp.zeros((), int)
    return State(
        frame.factor(path),
        path.mean,
        path.factor,
        path.mean,
        path.factor,
        none,
        none,
        none,
        path.value,
        zero,
        path.i * (x.shape[0] + 1),
        zero,
    )


def step(
    key: PRNGKey,
    target: Target,
    state: State,
    oracle: AbstractOracle,
    rule: Rule,
    moving: bool,
    step_size: Array | None,
    tolerance: Array,
) -> tuple[State, Info]:
    """One step from expectations under the present q; none once the residual is small enough."""
    d = state.mean.shape[0]
    done = state.reason == CONVERGED
    found, cross = _observe(key, target, state, oracle, jnp.where(done, -1, 0))
    move = in_moving_frame if moving else in_fixed_frame
    largest, go = move(rule, state.mean, state.factor, state.frame, found)
    first = state.t == 0
    seen = jnp.where(first, largest, MEMORY * state.largest + (1 - MEMORY) * largest)
    rate = 0.5 / (1 + state.t / DECAY) / seen if step_size is None else step_size
    eta = jnp.minimum(rate, 1 / seen).astype(largest.dtype)
    mean, factor = go(eta)
    answer = (state.mean_average, state.factor_average)

    memory = jnp.where(first, 0.0, MEMORY)
    gap = memory * state.gap + (1 - memory) * cross / 2
    gap_square = memory * state.gap_square + (1 - memory) * cross**2 / 4
    spread = jnp.sqrt(jnp.maximum(gap_square - gap**2, 0.0) * (1 - MEMORY) / (1 + MEMORY))
    small = (gap + 2 * spread < tolerance) & (state.t >= SHORTEST)
    reason = jnp.where(small, CONVERGED, RUNNING) if target.exact else jnp.asarray(MINIBATCH)
    log_det = jnp.linalg.slogdet(state.factor)[1]
    loss = found.energy - 0.5 * found.square - log_det - 0.5 * d * LOG_2PI
    new = State(
        state.frame,
        mean,
        factor,
        *average(answer, (mean, factor), state.t),
        seen,
        gap,
        gap_square,
        loss,
        reason,
        jnp.zeros_like(state.unpaid),
        state.t + 1,
    )
    new = jax.tree.map(lambda a, old: jnp.where(done, old, a.astype(old.dtype)), new, state)
    stats = {
        "residual": jnp.where(done, 2 * new.gap, cross),
        "gap": new.gap,
        "step_size": eta,
        "largest_curvature": new.largest,
        "points": found.n,
        "reason": new.reason,
    }
    spent = found.n * oracle.cost(d) + state.unpaid
    return new, Info(new.loss, jnp.where(done, 0, spent), stats)


def _observe(
    key: PRNGKey, target: Target, state: State, oracle: AbstractOracle, level: Count
) -> tuple[Expectations, Scalar]:
    """Expectations under q and the residual R; unbiased where the points can be halved."""
    half = oracle.halved()
    if half is None:
        found = oracle.expect(key, target, state.mean, state.factor, level)
        return found, _product(found, found)
    first, second = (
        half.expect(k, target, state.mean, state.factor, level) for k in jax.random.split(key)
    )
    together = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    together = eqx.tree_at(lambda e: e.n, together, first.n + second.n)
    return together, _product(first, second)


def _product(one: Expectations, two: Expectations) -> Scalar:
    eye = jnp.eye(len(one.gradient))
    ones, twos = ((e.curvature + e.curvature.T) / 2 - eye for e in (one, two))
    return one.gradient @ two.gradient + 0.5 * jnp.sum(ones * twos)
