"""Pathfinder: Gaussians along the way of L-BFGS to the mode, of which the best is kept."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count
from infer.core.control import when
from infer.core.evidence import Evidence
from infer.core.outcome import Ending
from infer.core.stopping import AbstractStopping, Record
from infer.core.target import Target
from infer.core.types import Count, Flag, Points, PRNGKey, Scalar, Vector
from infer.families.bent import BentGaussian
from infer.references.citation import cites
from infer.references.gaussian import ZHANG_2022

ARMIJO, CURVATURE = 1e-4, 0.1  # decrease and slope that a line search asks for
TRIALS = 30  # gradients a line search takes at most
OUTSIDE = 1e5  # nats that a draw costs where the density is not finite
UNKNOWN = 1e30  # loss before anything was measured
STEEPEST = 1e12  # a pair with more curvature than this is rounding

Pairs = Float[Array, "J d"]


@dataclasses.dataclass(frozen=True)
class PathEnded(AbstractStopping):
    """Stop when the optimizer of `Pathfinder` can no longer make its objective fall.

    Attributes:
        every: steps between looks, >= 1; after the end of a path a step costs next to nothing.
    """

    every: int = 10

    def __post_init__(self) -> None:
        """Refuse a rule that never looks."""
        check_count("PathEnded", "every", self.every, 10)

    def look(self, record: Record, thin: int) -> Ending | None:
        """Converged, once the path has ended."""
        return Ending.CONVERGED if self._ended(record) else None

    def evidence(self, record: Record) -> Evidence:
        """Whether the path had ended; reported, since the best Gaussian may lie before its end."""
        ended = self._ended(record)
        meaning = "the optimizer came to rest" if ended else self.hint(record)
        return Evidence("path ended", float(ended), "1", "info", meaning)

    def hint(self, record: Record) -> str:
        """More steps, where the optimizer was still moving."""
        if self._ended(record):
            return ""
        return "The optimizer had not come to rest: take more steps (result.extend(steps=...))"

    def _ended(self, record: Record) -> bool:
        ended = record.get("stats/ended", ())
        return len(ended) > 0 and bool(ended[-1])


def inverse_hessian(mean: Vector, diagonal: Vector, s: Pairs, y: Pairs) -> BentGaussian:
    """N(mean, H) where H is the BFGS inverse Hessian of pairs of steps s and gradient changes y.

        H = E + B G B^T,   B = [E Y, S],   R = triu(S^T Y),
        G = [[0, -R^-1], [-R^-T, R^-T (diag(R) + Y^T E Y) R^-1]]

    `diagonal` is E; pairs are in the order of time, scaled to s^T y = 1 (H does not depend on the
    length of a pair), and rows of zeros stand for no pair. With the thin QR decomposition of
    E^-1/2 B = Q U the core L is the Cholesky factor of I + U G U^T. Cost O(d J^2 + J^3).
    """
    scale, n = jnp.sqrt(diagonal), s.shape[0]
    r = jnp.eye(n, dtype=s.dtype) + jnp.triu(s @ y.T, 1)
    inverse = jax.scipy.linalg.solve_triangular(r, jnp.eye(n, dtype=s.dtype))
    bent = y * scale
    corner = inverse.T @ (jnp.eye(n, dtype=s.dtype) + bent @ bent.T) @ inverse
    middle = jnp.block([[jnp.zeros_like(r), -inverse], [-inverse.T, corner]])
    basis, upper = jnp.linalg.qr(jnp.concatenate([bent, s / scale]).T)
    inner = upper @ middle @ upper.T
    core = jnp.linalg.cholesky(jnp.eye(len(inner), dtype=s.dtype) + (inner + inner.T) / 2)
    return BentGaussian(mean, scale, basis, core)


class _Search(eqx.Module):
    """A line search under way: a bracket, the next trial, and the best point so far."""

    low: Scalar
    low_slope: Scalar
    high: Scalar
    trial: Scalar
    x: Vector
    value: Scalar
    gradient: Vector
    gradients: Count
    done: Flag


def line_search(
    target: Target, x: Vector, value: Scalar, gradient: Vector, direction: Vector
) -> _Search:
    """A point on the ray from x along `direction` where -log p is lower and nearly flat.

    Trials are the secant zeros of the slope, kept inside a bracket, so that a parabola takes two of
    them: the line search is nearly exact, because pairs of an exact one learn the covariance of
    a Gaussian. Points that are not finite count as too far. One gradient per trial; the zoom
    search of optax would take two of each, since `vmap` runs both branches of a condition.
    """
    slope = gradient @ direction
    slack = 4 * jnp.finfo(x.dtype).eps * jnp.abs(value)

    def trial(c: _Search) -> _Search:
        t, new = c.trial, x + c.trial * direction
        log_prob, score = target.value_and_score(new)
        m = -score @ direction
        finite = jnp.isfinite(log_prob) & jnp.all(jnp.isfinite(score))
        falls = finite & (-log_prob <= value + ARMIJO * t * slope + slack)
        flat = falls & (jnp.abs(m) <= CURVATURE * jnp.abs(slope))
        better = falls & (flat | (-log_prob < c.value))
        too_far = ~falls | (m >= 0)
        low, high = jnp.where(too_far, c.low, t), jnp.where(too_far, t, c.high)
        secant = c.low + (t - c.low) * c.low_slope / (c.low_slope - m)
        middle = jnp.where(jnp.isinf(high), 4 * t, (low + high) / 2)
        width = jnp.where(jnp.isinf(high), 10 * t, high - low)
        usable = jnp.isfinite(secant) & finite & (falls | (m > 0))
        next_trial = jnp.where(usable, secant, middle)
        next_trial = jnp.clip(next_trial, low + 0.05 * width, low + 0.95 * width)
        return _Search(
            low,
            jnp.where(too_far, c.low_slope, m),
            high,
            next_trial,
            jnp.where(better, new, c.x),
            jnp.where(better, -log_prob, c.value),
            jnp.where(better, -score, c.gradient),
            c.gradients + 1,
            flat,
        )

    zero = jnp.zeros_like(value)
    first = _Search(
        zero,
        slope,
        zero + jnp.inf,
        zero + 1,
        x,
        value,
        gradient,
        jnp.asarray(0),
        ~(slope < 0),
    )
    return jax.lax.while_loop(lambda c: ~c.done & (c.gradients < TRIALS), trial, first)


class _State(eqx.Module):
    x: Vector
    value: Scalar
    gradient: Vector
    direction: Vector
    diagonal: Vector
    s: Pairs
    y: Pairs
    noise: Float[Array, "K d"]
    best: BentGaussian
    best_loss: Scalar
    elbo: Scalar
    ended: Flag


@cites(ZHANG_2022)
class Pathfinder(AbstractApproximator):
    """Follows L-BFGS to the mode of -log p and keeps the best Gaussian on the way.

        x_l = x_{l-1} - t H_{l-1} g_{l-1},   q_l = N(x_l - H_l g_l, H_l),
        ELBO_l = mean over n_samples draws of log p(z) - log q_l(z),   the largest one wins

    where g is the gradient of -log p and H the inverse Hessian that L-BFGS keeps anyway
    (`inverse_hessian`), from the last `history` pairs of steps and gradient changes and a diagonal
    that is updated with every pair. Draws at all points of a path come from the same noise, so
    that it is not luck that wins. Needs no step size and no more than gradients.

    Several paths are several chains, and pooling them is another step:

        result = infer.fit(target, infer.Pathfinder(), key=0, chains=20)
        pooled = infer.improve(result, key=1)

    `improve` is multi-path Pathfinder. It weighs a draw by p over the mixture of the Gaussians of
    all paths, where the paper divides by that of its own path: a mode that three paths found is
    then counted once, not three times.

    Cost per step: one or two gradients as a rule (30 at most), `n_samples` values of log p, and
    O(d (history^2 + n_samples)); memory O(d (history + n_samples)). When the path has ended a step
    costs nothing.

    Args:
        history: pairs that bend the covariance, >= 1. With one per coordinate that of a Gaussian
            in up to about 20 dimensions is found; in 50, condition number 100, it was 3.6 nats off
            in float32. (The paper has 6, with which a Gaussian in 10 dimensions, condition number
            100, was 0.9 nats off; with 12 it was 0.002.)
        n_samples: draws for each ELBO, >= 1.
        stopping: a `PathEnded` rule, or None to take every step.

    Limits: a Gaussian at one mode: it cannot follow funnels, skew or heavy tails, and beyond
    `history` directions its covariance is diagonal. In many dimensions the mode is found before the
    covariance is. The verdict says so; `improve` repairs what is near.

    Source: Zhang, Carpenter, Gelman, Vehtari, Pathfinder: parallel quasi-Newton variational
    inference, JMLR 23 (2022).
    """

    history: int = eqx.field(static=True, default=20)
    n_samples: int = eqx.field(static=True, default=25)
    stopping: PathEnded | None = eqx.field(static=True, default=PathEnded())
    exact_target: ClassVar[bool] = True
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 200

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("Pathfinder", "history", self.history, 20)
        check_count("Pathfinder", "n_samples", self.n_samples, 25)

    def init(self, key: PRNGKey, target: Target) -> _State:
        """N(x, I) at `target.initial(key)`, with the steepest descent as direction."""
        key_start, key_noise = jax.random.split(key)
        x = target.initial(key_start)
        log_prob, score = target.value_and_score(x)
        ones, none = jnp.ones_like(x), jnp.zeros((self.history, x.shape[0]), x.dtype)
        noise = jax.random.normal(key_noise, (self.n_samples, x.shape[0]), x.dtype)
        rank = min(x.shape[0], 2 * self.history)
        best = BentGaussian(
            x, ones, jnp.eye(x.shape[0], rank, dtype=x.dtype), jnp.eye(rank, dtype=x.dtype)
        )
        unknown = jnp.asarray(UNKNOWN, x.dtype)
        return _State(
            x,
            -log_prob,
            -score,
            _descent(-score),
            ones,
            none,
            none,
            noise,
            best,
            unknown,
            -unknown,
            jnp.asarray(False),
        )

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """One iteration of L-BFGS and one candidate; nothing once the path has ended."""
        state, gradients = when(
            ~state.ended, lambda c: self._move(target, c[0]), (state, jnp.asarray(0))
        )
        stats = {
            "elbo": state.elbo,
            "objective": state.value,
            "pairs": jnp.sum(jnp.any(state.s != 0, axis=1).astype(jnp.int32)),
            "ended": state.ended,
        }
        return state, Info(state.best_loss, gradients, stats)

    def _move(self, target: Target, state: _State) -> tuple[_State, Count]:
        found = line_search(target, state.x, state.value, state.gradient, state.direction)
        moved = jnp.any(found.x != state.x)
        diagonal, s, y = _remember(state, found.x - state.x, found.gradient - state.gradient)
        # A step that fails with a history is tried again without; without one the path has ended.
        had_pairs = jnp.any(state.s != 0)
        diagonal = jnp.where(moved, diagonal, 1)
        s, y = jnp.where(moved, s, 0), jnp.where(moved, y, 0)

        q = inverse_hessian(found.x, diagonal, s, y)
        direction = -q.covariance_times(found.gradient)
        usable = jnp.all(jnp.isfinite(direction)) & (direction @ found.gradient < 0)
        usable = usable & jnp.any(s != 0)
        # The end: the objective fell, or is expected to fall, by no more than its rounding.
        least = 10 * jnp.finfo(s.dtype).eps * jnp.maximum(jnp.abs(found.value), 1)
        falls = (state.value - found.value > least) & ~(-(direction @ found.gradient) / 2 <= least)
        ended = jnp.where(moved, ~falls, ~had_pairs)
        q = eqx.tree_at(lambda q: q.mean, q, found.x + direction)
        elbo = _elbo(target, q, state.noise, -found.value)
        better = moved & usable & (-elbo < state.best_loss)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), q, state.best)
        new = _State(
            found.x,
            found.value,
            found.gradient,
            jnp.where(usable, direction, _descent(found.gradient)),
            diagonal,
            s,
            y,
            state.noise,
            best,
            jnp.where(better, -elbo, state.best_loss),
            jnp.where(jnp.isfinite(elbo), elbo, -state.best_loss),
            ended,
        )
        return new, found.gradients

    def posterior(self, state: _State) -> BentGaussian:
        """The Gaussian with the largest ELBO so far."""
        return state.best


def _descent(gradient: Vector) -> Vector:
    """The direction of steepest descent, of length 1 at most."""
    return -gradient / jnp.maximum(jnp.linalg.norm(gradient), 1)


def _remember(state: _State, s: Vector, y: Vector) -> tuple[Vector, Pairs, Pairs]:
    """Diagonal and pairs with a new pair, if its curvature is positive and more than rounding.

    1 / E_i' = a / E_i + y_i^2 - a (s_i / E_i)^2 / (s^T E^-1 s) with a = y^T E y and s^T y = 1.
    """
    b = s @ y
    eps = jnp.finfo(s.dtype).eps
    lengths = jnp.linalg.norm(s) * jnp.linalg.norm(y)
    good = (b > eps * lengths) & (y @ y <= STEEPEST * b)
    unit = jnp.sqrt(jnp.where(good, b, 1))
    s, y = s / unit, y / unit
    e = state.diagonal
    a = y @ (e * y)
    precision = a / e + y**2 - a * (s / e) ** 2 / jnp.where(good, s @ (s / e), 1)
    sane = jnp.isfinite(1 / precision) & (precision > 0) & jnp.isfinite(precision)
    diagonal = jnp.where(good & sane, 1 / precision, e)
    pairs = [
        jnp.where(good, jnp.concatenate([old[1:], new[None]]), old)
        for old, new in ((state.s, s), (state.y, y))
    ]
    return diagonal, pairs[0], pairs[1]


def _elbo(target: Target, q: BentGaussian, noise: Points, here: Scalar) -> Scalar:
    """The bound from draws made of `noise`; one where the density is not finite costs dearly.

    So a path along the edge of a hole prefers Gaussians with less of their mass in it.
    """
    log_p = jax.vmap(target.log_prob)(q.place(noise))
    log_p = jnp.where(jnp.isfinite(log_p), log_p, here - OUTSIDE)
    return jnp.mean(log_p - q.log_density(noise))
