"""Warm-up in windows: a step size by dual averaging, a preconditioner from the draws.

One engine for every sampler; the schedule, its constants and the regularization are Stan's.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.linalg import Moments
from infer.core.types import Count, Flag, Scalar, State, Vector
from infer.geometry.scale import AbstractPreconditioner, Scale

GAMMA, T0, KAPPA = 0.05, 10.0, 0.75
Schedule = Callable[[Count, Count], tuple[Flag, Flag]]
Learn = Callable[[Moments, Scale], Scale]
CALM = 0.65568  # E[1 / (1 + x^2)] of a standard normal x


class DualAveraging(eqx.Module):
    """Nesterov's dual averaging of log step sizes (Hoffman and Gelman, JMLR 15, 2014)."""

    mu: Scalar
    error: Scalar
    log_average: Scalar
    t: Count

    def update(self, shortfall: Scalar) -> tuple["DualAveraging", Scalar]:
        """Take in (target - observed) acceptance; returns the next log step size to try."""
        t = self.t + 1
        when = t.astype(self.mu.dtype)
        error = self.error + (shortfall - self.error) / (when + T0)
        log_step = self.mu - jnp.sqrt(when) / GAMMA * error
        weight = when**-KAPPA
        average = weight * log_step + (1 - weight) * self.log_average
        return DualAveraging(self.mu, error, average, t), log_step


def restart(step_size: Scalar) -> DualAveraging:
    """Dual averaging around ten times this step size."""
    log_step = jnp.log(step_size)
    zero = jnp.zeros_like(log_step)
    return DualAveraging(
        log_step + jnp.log(10.0).astype(log_step.dtype), zero, log_step, jnp.zeros((), int)
    )


class Tuning(eqx.Module):
    """What warm-up learns, and what it needs to go on learning."""

    step_size: Scalar
    scale: Scale
    averaging: DualAveraging
    moments: Moments


def untuned(preconditioner: AbstractPreconditioner, step_size: Scalar, like: Vector) -> Tuning:
    """The tuning of a run that has not warmed up: this step size and the identity."""
    step_size = step_size.astype(like.dtype)
    blank, scale = preconditioner.blank(like), preconditioner.identity(like)
    return Tuning(step_size, scale, restart(step_size), blank)


def window(i: Count, n: Count) -> tuple[Flag, Flag]:
    """Is warm-up iteration i of n in a window that collects draws, and does it end one?

    Stan's schedule: 75 iterations for the step size alone, windows of 25, 50, 100, ... of which
    the last is stretched to leave 50 iterations for the final step size; 15 % and 10 % instead of
    75 and 50 where n < 150; step size alone where n < 20.
    """
    short = n < 150
    first = jnp.where(short, (15 * n) // 100, 75)
    last = n - jnp.where(short, n // 10, 50)
    base = jnp.where(short, last - first, 25)
    doubling = 2 ** jnp.arange(24)
    ends = first + base * (2 * doubling - 1)  # of windows of base, 2 base, 4 base, ...
    regular = ends + 2 * base * doubling <= last  # else it is stretched to `last`
    ending = jnp.any((i + 1 == ends) & regular) | (i + 1 == last)
    collecting = (i >= first) & (i < last) & (n >= 20)
    return collecting, ending & collecting


def shares(*percent: int) -> Schedule:
    """The same for methods of few gradients per iteration, whose neighboring draws are alike.

    Few windows, which end at these shares of the warm-up, after 5 % for the step size alone; step
    size alone where n < 100.
    """

    def schedule(i: Count, n: Count) -> tuple[Flag, Flag]:
        ends = (n * jnp.asarray(percent)) // 100
        collecting = (i >= n // 20) & (i < ends[-1]) & (n >= 100)
        return collecting, jnp.any(i + 1 == ends) & collecting

    return schedule


long_window = shares(10, 20, 40, 90)


def by_scores_first(
    preconditioner: AbstractPreconditioner, scores: Moments, i: Count, n: Count
) -> Learn:
    """M guessed from draws and scores in the first half of warm-up, learned from draws later."""

    def learn(moments: Moments, before: Scale) -> Scale:
        early = preconditioner.guess(moments, scores, before)
        late = preconditioner.learn(moments, before)
        return jax.tree.map(lambda a, b: jnp.where(2 * i < n, a, b), early, late)

    return learn


def tune(
    tuning: Tuning,
    preconditioner: AbstractPreconditioner,
    position: Vector,
    acceptance: Scalar,
    aim: Scalar,
    i: Count,
    n: Count,
    schedule: Schedule = window,
    learn: Learn | None = None,
) -> Tuning:
    """The tuning after warm-up iteration i of n, which left the chain at `position`.

    At the end of each window M becomes what `learn`, or else the preconditioner, learns from the
    window's draws, and the step size starts afresh; after the last iteration it is the averaged
    one.
    """
    averaging, log_step = tuning.averaging.update(aim - acceptance)
    collecting, ending = schedule(i, n)
    grown = tuning.moments.add(position)
    moments = jax.tree.map(lambda a, b: jnp.where(collecting, a, b), grown, tuning.moments)

    def refresh(_: None) -> tuple[Scale, DualAveraging, Array, Moments]:
        scale = (learn or preconditioner.learn)(moments, tuning.scale)
        fresh = restart(jnp.exp(averaging.log_average))
        return scale, fresh, fresh.log_average, preconditioner.blank(position)

    def keep(_: None) -> tuple[Scale, DualAveraging, Array, Moments]:
        return tuning.scale, averaging, log_step, moments

    scale, averaging, log_step, moments = jax.lax.cond(ending, refresh, keep, None)
    log_step = jnp.where(i + 1 == n, averaging.log_average, log_step)
    return Tuning(jnp.exp(log_step), scale, averaging, moments)


def tune_scale(
    tuning: Tuning, preconditioner: AbstractPreconditioner, position: Vector, i: Count, n: Count
) -> Tuning:
    """`tune` of a method without a step size to tune: M alone is learned."""
    level = jnp.ones((), position.dtype)
    after = tune(tuning, preconditioner, position, level, level, i, n)
    return eqx.tree_at(lambda t: t.step_size, after, tuning.step_size)


def tuned(
    state: State,
    preconditioner: AbstractPreconditioner,
    rate: Scalar,
    acceptance: Scalar,
    i: Count,
    n: Count,
) -> State:
    """The state of an adjusted method after warm-up iteration i of n, accepted at this rate.

    Any state with a `position` and a `tuning`; `acceptance` is what the rate aims at.
    """
    aim = acceptance.astype(state.position.dtype)
    tuning = tune(state.tuning, preconditioner, state.position, rate, aim, i, n)
    return eqx.tree_at(lambda s: s.tuning, state, tuning)


def calmness(energy_change: Scalar, dim: int, energy_error: Scalar) -> Scalar:
    """1 / (1 + D^2 / (d v)) for a change D of the energy: in (0, 1), like an acceptance.

    Tuned to a mean of `CALM`, D has variance v per dimension where it is normal. Bounded, so that
    no single bad step decides; zero where D is not finite.
    """
    ratio = energy_change**2 / (dim * energy_error.astype(energy_change.dtype))
    return jnp.where(jnp.isfinite(ratio), 1 / (1 + ratio), 0)


def settled(tuning: Tuning, step_size: Scalar | None, i: Count, n: Count) -> Tuning:
    """The tuning with the step size that the user fixed, if any, once warm-up is over."""
    if step_size is None:
        return tuning
    last = jnp.where(i + 1 == n, step_size.astype(tuning.step_size.dtype), tuning.step_size)
    return eqx.tree_at(lambda t: t.step_size, tuning, last)
