"""The fit without a step size: fixed points, the frame of q, and a certificate on fresh points.

One step is one evaluation of the oracle, at a proposed Gaussian or, to check, at the best one on
points that the fit has not seen. What a step proposes is a scalar function of the eigenvalues of
the curvature in the frame of q (see `oracle.py`), curvature = Q diag(lam) Q^T:

    m' = m - C Q diag(b) Q^T gradient,   C' = C Q diag(a) Q^T,   (a, b) = multipliers(lam, eta).

The distance from the best Gaussian is measured by the affine-invariant residual

    R(q) = |gradient|^2 + |curvature - I|_F^2 / 2,   KL gap in nats ~ R / 2 near the optimum.
"""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt

from infer.core.algorithm import Info
from infer.core.linalg import LOG_2PI
from infer.core.target import Target
from infer.core.types import Count, Flag, PRNGKey, Scalar, Vector
from infer.gaussian.frame import AbstractFrame
from infer.gaussian.oracle import AbstractOracle, Expectations
from infer.gaussian.rule import (
    Rule,
    largest_in_frame,
    step_in_fixed_frame,
    step_in_moving_frame,
)

Tree = TypeVar("Tree")

INNER = 200  # evaluations on one set of points
HALVINGS = 15
PATIENCE = 4  # steps that oscillate in a row, after which the largest step is halved
SMALLEST = 1 / 64  # that it is halved to
SLOW, SLOW_STEPS = 0.8, 3  # a residual that falls by less for so long calls for longer steps
LONGEST = 64.0  # times the step that was slow
FAILURES = 3
MANY, STRICTER = 10, 4  # after so many steps R / 2 understates the gap: so much less is asked for
FIRST, MOVE, CHECK, CHECK_AGAIN, DONE = range(5)
RUNNING, CONVERGED, LINE_SEARCH, SLOWLY, TOO_FEW_POINTS, NO_DENSITY, MINIBATCH = range(7)


class Point(eqx.Module):
    """A Gaussian N(m, C C^T) and what the oracle says of it; `free_energy` is -ELBO.

    `lam` and `vectors` are of the curvature in the frame of q, `largest` is the largest |curvature|
    in the frame of the steps.
    """

    mean: Vector
    factor: Float[Array, "d d"]
    log_det: Scalar
    free_energy: Scalar
    values: Float[Array, " most"]
    gradient: Vector
    lam: Vector
    vectors: Float[Array, "d d"]
    largest: Scalar
    residual: Scalar


class State(eqx.Module):
    """Where the fit stands.

    Attributes:
        frame: L of a fixed frame; the identity where the frame moves.
        now: the last accepted Gaussian.
        base: the one that a row of longer and longer steps starts from, with its step size.
        best: the one of smallest residual on the present points.
        eta, longest: the step size to try, and the largest one allowed.
        stretch: how many times longer than eta the next step is; 0 for a plain step.
        tries, stale, slow, inner, failures: counters, see the constants.
        hard: has it taken many steps on one set of points?
        level: how many times the points were doubled.
        phase, reason: what the next step does; how the fit ended.
        checked: gradient, curvature and curvature from gradients on the first fresh points.
        fresh, gap, kink: residual on fresh points (the larger of two); unbiased estimate of R / 2;
            the part of the curvature that the gradients do not confirm.
        unpaid: gradients spent before the first step.
        key: of the points, as numbers.
    """

    frame: Float[Array, "d d"]
    now: Point
    base: Point
    base_eta: Scalar
    best: Point
    eta: Scalar
    longest: Scalar
    stretch: Scalar
    tries: Count
    stale: Count
    slow: Count
    inner: Count
    failures: Count
    hard: Flag
    level: Count
    phase: Count
    reason: Count
    checked: tuple[Vector, Float[Array, "d d"], Float[Array, "d d"]]
    fresh: Scalar
    gap: Scalar
    kink: Scalar
    unpaid: Count
    key: UInt[Array, " words"]


def start(
    key: PRNGKey, target: Target, oracle: AbstractOracle, frame: AbstractFrame, scale: Array
) -> State:
    """The best Gaussian on a Newton path from the target's start."""
    start_key, path_key, points_key = jax.random.split(key, 3)
    x = target.initial(start_key)
    d = x.shape[0]
    path = frame.path(path_key, target, x, scale)
    shapes = eqx.filter_eval_shape(oracle.expect, key, target, x, path.factor, path.i)
    values = jnp.zeros(shapes.values.shape, x.dtype)
    eye, far = jnp.eye(d, dtype=x.dtype), jnp.full((), jnp.inf, x.dtype)
    one = jnp.ones((), x.dtype)
    log_det = jnp.linalg.slogdet(path.factor)[1]
    found = jnp.isfinite(path.score)
    value = jnp.where(found, path.score - 0.5 * d * (1 + LOG_2PI), path.value)
    first = Point(
        path.mean,
        path.factor,
        log_det,
        value,
        values,
        jnp.zeros_like(x),
        jnp.ones_like(x),
        eye,
        one,
        far,
    )
    zero = jnp.zeros((), int)
    unpaid = path.i * (d + 1)
    return State(
        frame=frame.factor(path),
        now=first,
        base=first,
        base_eta=one,
        best=first,
        eta=one,
        longest=one,
        stretch=0 * one,
        tries=zero,
        stale=zero,
        slow=zero,
        inner=zero,
        failures=zero,
        hard=zero > 0,
        level=zero,
        phase=zero + FIRST,
        reason=zero + RUNNING,
        checked=(jnp.zeros_like(x), eye, eye),
        fresh=far,
        gap=far,
        kink=0 * one,
        unpaid=unpaid,
        key=jax.random.key_data(points_key),
    )


def step(
    key: PRNGKey,
    target: Target,
    state: State,
    oracle: AbstractOracle,
    rule: Rule,
    moving_frame: bool,
    step_size: Array,
    tolerance: Array,
) -> tuple[State, Info]:
    """One evaluation of the oracle, and what follows from it. Once done, nothing is evaluated."""
    checking = (state.phase == CHECK) | (state.phase == CHECK_AGAIN)
    moving = state.phase == MOVE
    done = state.phase == DONE
    proposed = (_propose if moving_frame else _propose_fixed)(state, rule)
    mean, factor, log_det = jax.tree.map(
        lambda new, old: jnp.where(moving, new, old),
        proposed,
        (state.best.mean, state.best.factor, state.best.log_det),
    )
    words = jnp.where(checking, jax.random.key_data(key), state.key)
    level = jnp.where(done, -1, state.level)
    points_key = jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))
    found = oracle.expect(points_key, target, mean, factor, level)
    frame = None if moving_frame else state.frame
    trial = _point(mean, factor, log_det, found, frame)

    new = _moved(state, trial, found, frame, step_size, tolerance)
    if oracle.points is None:  # without points nothing is fresh: what is at rest is the answer
        new = _settled(new)
    new = _select(moving, new, _first(state, trial, frame, step_size))
    new = _select(checking, _checked(state, trial, found, oracle, tolerance), new)
    new = _select(done, state, new)
    spent = found.n * oracle.cost(mean.shape[0]) + state.unpaid
    shown = new.now
    stats = {
        "residual": shown.residual,
        "fresh_residual": new.fresh,
        "gap": new.gap,
        "kink": new.kink,
        "step_size": jnp.where(moving, state.eta, 0.0),
        "largest_curvature": shown.largest,
        "points": jnp.where(done, 0, found.n),
        "reason": jnp.where(new.phase == DONE, new.reason, RUNNING),
    }
    new = eqx.tree_at(lambda s: s.unpaid, new, jnp.zeros_like(state.unpaid))
    new = jax.tree.map(lambda a, old: a.astype(old.dtype), new, state)
    return new, Info(shown.free_energy, jnp.where(done, 0, spent), stats)


def _propose(state: State, rule: Rule) -> tuple[Vector, Array, Scalar]:
    """The next Gaussian: a plain step from `now`, or a longer one from `base`."""
    plain = state.stretch == 0
    here = _select(plain, state.now, state.base)
    eta = jnp.where(plain, state.eta, state.base_eta)
    times = jnp.where(plain, 1.0, state.stretch)
    a, b = rule.multipliers(here.lam, eta)
    log_a = jnp.log(jnp.maximum(a, jnp.finfo(a.dtype).tiny))
    log_a = jnp.where(plain, log_a, jnp.clip(times * log_a, -1.0, 1.0))
    mean, factor = step_in_moving_frame(
        here.mean, here.factor, here.gradient, here.vectors, jnp.exp(log_a), times * b
    )
    return mean, factor, here.log_det + jnp.sum(log_a)


def _propose_fixed(state: State, rule: Rule) -> tuple[Vector, Array, Scalar]:
    """A plain step in a frame that stays where it is."""
    now = state.now
    curvature = (now.vectors * now.lam) @ now.vectors.T
    mean, factor = step_in_fixed_frame(
        rule, now.mean, now.factor, state.frame, now.gradient, curvature, state.eta
    )
    return mean, factor, jnp.linalg.slogdet(factor)[1]


def _point(
    mean: Vector, factor: Array, log_det: Scalar, found: Expectations, frame: Array | None
) -> Point:
    d = mean.shape[0]
    curvature = (found.curvature + found.curvature.T) / 2
    usable = jnp.all(jnp.isfinite(curvature)) & jnp.all(jnp.isfinite(found.gradient))
    lam, vectors = jnp.linalg.eigh(jnp.where(usable, curvature, jnp.eye(d)))
    residual = jnp.sum(found.gradient**2) + 0.5 * jnp.sum((lam - 1) ** 2)
    free_energy = found.energy - log_det - 0.5 * d * (1 + LOG_2PI)
    bad = ~usable | ~jnp.isfinite(free_energy)
    residual = jnp.where(bad, jnp.inf, residual)
    largest = jnp.max(jnp.abs(lam))
    if frame is not None:
        largest = largest_in_frame(factor, frame, (vectors * lam) @ vectors.T)
    return Point(
        mean,
        factor,
        log_det,
        free_energy,
        found.values,
        found.gradient,
        lam,
        vectors,
        largest,
        residual,
    )


def _moved(
    state: State,
    trial: Point,
    found: Expectations,
    frame: Array | None,
    step_size: Array,
    tolerance: Array,
) -> State:
    """After a proposal: accept it or shorten the step; go to the check when at rest."""
    now = state.now
    change = trial.free_energy - now.free_energy
    error = _paired_error(trial.values - now.values, found.n)
    slack = 8 * jnp.finfo(change.dtype).eps * jnp.maximum(1.0, jnp.abs(now.free_energy))
    stretching = state.stretch > 0
    limit = jnp.where(stretching, 0.0, 2 * error + slack)
    taken = jnp.isfinite(trial.residual) & (change <= limit) & (~stretching | (change < 0))

    # To first order a step of size eta lowers the free energy by eta R. One that does is no sign of
    # oscillation, however long the residual takes to fall.
    better = taken & (trial.residual < state.best.residual)
    plain = taken & ~stretching
    works = plain & (change < -0.5 * state.eta * now.residual)
    stale = jnp.where(better | works, 0, state.stale + taken)
    tired = stale >= PATIENCE
    longest = jnp.where(tired, jnp.maximum(state.longest / 2, SMALLEST), state.longest)
    slow = jnp.where(trial.residual > SLOW * now.residual, state.slow + 1, 0)
    slow = jnp.where(plain, slow, jnp.where(stretching, 0, state.slow))
    calls = plain & (slow >= SLOW_STEPS) & (frame is None)
    longer = jnp.where(calls, 2.0, 0.0)
    longer = jnp.where(stretching & taken & (state.stretch < LONGEST), 2 * state.stretch, longer)

    known, felt = jnp.sum(found.curvature**2), jnp.sum(found.stein**2)
    kink = jnp.where(known < 0.1 * felt, felt / 2, 0.0)  # Hessians that show next to nothing
    tries = jnp.where(taken | stretching, 0, state.tries + 1)
    inner = state.inner + 1
    hard = state.hard | (inner >= MANY)
    wanted = jnp.where(hard, tolerance / STRICTER, tolerance)
    at_rest = taken & (trial.residual < 0.2 * wanted)
    stuck, slowly = tries >= HALVINGS, inner >= INNER
    reason = jnp.where(stuck, LINE_SEARCH, jnp.where(slowly, SLOWLY, RUNNING))
    reason = jnp.where(at_rest, RUNNING, reason)
    following = _select(taken, trial, now)
    eta = jnp.where(tries > 0, state.eta / 2, _cap(following, longest, frame, step_size))
    return eqx.tree_at(
        lambda s: (
            s.now,
            s.base,
            s.base_eta,
            s.best,
            s.eta,
            s.longest,
            s.stretch,
            s.tries,
            s.stale,
            s.slow,
            s.inner,
            s.hard,
            s.phase,
            s.reason,
            s.kink,
        ),
        state,
        (
            following,
            _select(plain, now, state.base),
            jnp.where(plain, state.eta, state.base_eta),
            _select(better, trial, state.best),
            eta,
            longest,
            longer,
            tries,
            jnp.where(tired, 0, stale),
            slow,
            inner,
            hard,
            jnp.where(at_rest | stuck | slowly, CHECK, MOVE),
            reason,
            jnp.maximum(state.kink, jnp.where(taken, kink, 0.0)),
        ),
    )


def _first(state: State, trial: Point, frame: Array | None, step_size: Array) -> State:
    """After the first look at a new set of points: it is all there is to compare with.

    Where a point falls on a place without a density, the Gaussian is narrowed until none does.
    """
    one, zero = jnp.ones_like(state.eta), jnp.zeros_like(state.tries)
    usable, d = jnp.isfinite(trial.residual), trial.mean.shape[0]
    narrow = eqx.tree_at(
        lambda p: (p.factor, p.log_det),
        state.best,
        (state.best.factor / 2, state.best.log_det - d * jnp.log(2.0)),
    )
    tries = jnp.where(usable, 0, state.tries + 1)
    lost = tries >= HALVINGS
    phase = jnp.where(usable, MOVE, jnp.where(lost, DONE, FIRST))
    return eqx.tree_at(
        lambda s: (
            s.now,
            s.best,
            s.eta,
            s.longest,
            s.stretch,
            s.tries,
            s.stale,
            s.slow,
            s.inner,
            s.phase,
            s.reason,
        ),
        state,
        (
            _select(usable, trial, state.now),
            _select(usable, trial, narrow),
            _cap(trial, one, frame, step_size),
            one,
            0 * one,
            tries,
            zero,
            zero,
            zero,
            phase,
            jnp.where(lost, NO_DENSITY, state.reason),
        ),
    )


def _checked(
    state: State, trial: Point, found: Expectations, oracle: AbstractOracle, tolerance: Array
) -> State:
    """After a look at fresh points: the second one decides, or asks for as many as it takes.

    Two independent scrambles make the product of their residuals unbiased; its noise is that of
    a scalar product of two vectors of D independent entries. Errors that share k eigenvectors
    have k (k + 3) / 2 of them: 2 where all is in one direction, as in the neck of a funnel.
    """
    again = state.phase == CHECK_AGAIN
    eye = jnp.eye(trial.mean.shape[0])
    gradient, curvature, stein = state.checked
    symmetric = (found.curvature + found.curvature.T) / 2
    seen = (found.gradient, symmetric, (found.stein + found.stein.T) / 2)
    cross = gradient @ found.gradient + 0.5 * jnp.sum((curvature - eye) * (symmetric - eye))
    first = jnp.sum(gradient**2) + 0.5 * jnp.sum((curvature - eye) ** 2)
    k = _directions(trial.lam - 1)
    noise = jnp.sqrt(first * trial.residual / (k * (k + 3) / 2))
    one, two = curvature - stein, seen[1] - seen[2]
    product, norms = jnp.sum(one * two), jnp.linalg.norm(one) * jnp.linalg.norm(two)
    kink = jnp.where(product > 0.5 * norms, product / 2, 0.0)

    bound = cross + 2 * noise
    wanted = jnp.where(state.hard, tolerance / STRICTER, tolerance)
    most = state.level >= oracle.doublings()
    small = bound < 2 * jnp.where(most, tolerance, wanted)
    short = jnp.where(jnp.isfinite(bound), bound / (2 * wanted), 2.0)
    jump = jnp.ceil(jnp.log2(jnp.clip(short, 2.0, 2.0**8))).astype(state.level.dtype)
    jump = jnp.where(state.reason == RUNNING, jump, 1)  # more points do not help a slow iteration
    level = jnp.minimum(state.level + jump, oracle.doublings())
    good = small & (state.reason == RUNNING)
    failures = state.failures + (state.reason != RUNNING)
    last = most | (failures >= FAILURES)
    ended = jnp.where(state.reason == RUNNING, TOO_FEW_POINTS, state.reason)
    phase = jnp.where(good | last, DONE, FIRST)
    reason = jnp.where(good, CONVERGED, jnp.where(last, ended, RUNNING))
    return eqx.tree_at(
        lambda s: (s.checked, s.phase, s.reason, s.failures, s.level, s.fresh, s.gap, s.kink),
        state,
        (
            seen,
            jnp.where(again, phase, CHECK_AGAIN),
            jnp.where(again, reason, state.reason),
            jnp.where(again, failures, state.failures),
            jnp.where(again & ~good & ~last, level, state.level),
            jnp.where(again, jnp.maximum(first, trial.residual), state.fresh),
            jnp.where(again, cross / 2, state.gap),
            jnp.where(again & good, kink, state.kink),
        ),
    )


def _settled(state: State) -> State:
    """After a proposal, with exact expectations."""
    rests = (state.phase == CHECK) & (state.reason == RUNNING)
    residual = state.best.residual
    return eqx.tree_at(
        lambda s: (s.phase, s.reason, s.fresh, s.gap),
        state,
        (
            jnp.where(rests, DONE, state.phase),
            jnp.where(rests, CONVERGED, state.reason),
            jnp.where(rests, residual, state.fresh),
            jnp.where(rests, residual / 2, state.gap),
        ),
    )


def _cap(point: Point, longest: Scalar, frame: Array | None, step_size: Array) -> Scalar:
    """The step size: at most the inverse of the largest curvature, and 1 in the frame of q."""
    cap = 1 / jnp.maximum(point.largest, jnp.finfo(point.largest.dtype).tiny)
    cap = jnp.minimum(longest, cap) if frame is None else longest * cap
    return jnp.minimum(step_size, cap)


def _directions(lam: Vector) -> Scalar:
    """How many eigenvectors an error with these eigenvalues is spread over.

    2 (sum lam^2)^2 / sum lam^4 - 1 is 1 for a matrix of rank one, and d for independent entries,
    whose eigenvalues follow a semicircle.
    """
    d = lam.shape[0]
    share = lam**2 / jnp.maximum(jnp.sum(lam**2), jnp.finfo(lam.dtype).tiny)
    return jnp.clip(2 / jnp.maximum(jnp.sum(share**2), 1 / d) - 1, 1.0, d)


def _paired_error(difference: Array, n: Count) -> Scalar:
    """Standard error of the mean of n differences, of which the rest are zero."""
    n = jnp.maximum(n, 1)
    mean = jnp.sum(difference) / n
    return jnp.sqrt(jnp.maximum(jnp.sum(difference**2) / n - mean**2, 0.0) / n)


def _select(flag: Flag, yes: Tree, no: Tree) -> Tree:
    """One of two trees of arrays."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)
