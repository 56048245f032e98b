"""Modes of a density: the climb to them, and how the mass is divided between them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.target import Target
from infer.diagnostics.pareto import pareto_khat
from infer.judgement import log_density

CLIMB, NEWTON = 200, 5  # gradients of BFGS, and steps of Newton's method after it
GAIN, REACH, ARMIJO = 1e-3, 10.0, 1e-4  # nats still to gain, longest step, part of it to be gained
AT_ONCE = 16  # climbs in one batch, each with a d x d matrix
DEGREES = 5.0  # of the Student t at each mode
FEWEST, LEAST_EACH = 4000, 100  # draws for the masses: in all, and of each mode


@dataclasses.dataclass(frozen=True)
class Mode:
    """A mode, and a triangular root F, with F F^T the inverse of the negative Hessian there."""

    z: np.ndarray
    factor: np.ndarray

    def distance(self, z: np.ndarray) -> np.ndarray:
        """Distance of points (n, d) from the mode, in local standard deviations."""
        return np.linalg.norm(np.linalg.solve(self.factor, (z - self.z).T), axis=0)

    def log_t(self, z: np.ndarray) -> np.ndarray:
        """Log density of a Student t around the mode at points (n, d), up to one constant."""
        d = len(self.z)
        tail = -(DEGREES + d) / 2 * np.log1p(self.distance(z) ** 2 / DEGREES)
        return tail - np.log(np.diag(self.factor)).sum()

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws (n, d) of this Student t."""
        noise = rng.standard_normal((n, len(self.z)))
        scale = np.sqrt(DEGREES / rng.chisquare(DEGREES, (n, 1)))
        return self.z + noise * scale @ self.factor.T


@dataclasses.dataclass(frozen=True)
class Masses:
    """How the mass is divided between modes.

    Attributes:
        share: the share of each mode (modes,); they sum to one.
        error: its standard error.
        khat: Pareto k-hat of the importance weights; above 0.7 the shares are not to be trusted.
    """

    share: np.ndarray
    error: np.ndarray
    khat: float


class _Climb(eqx.Module):
    """Where a climb is, its estimate of the inverse Hessian, and how far the next step goes."""

    x: Array
    value: Array
    score: Array
    inverse: Array
    length: Array
    spent: Array


def climb(
    target: Target, points: np.ndarray, center: np.ndarray, factor: np.ndarray
) -> tuple[list[Mode], int]:
    """The distinct modes above points (n, d), and the gradients spent; what climbs to none is out.

    BFGS in the coordinates x of z = center + factor x, then Newton's method, which has to end
    within 0.01 nats of a strict maximum. A Hessian counts as d gradients.
    """
    dtype = jnp.zeros(()).dtype
    given = (jnp.asarray(a, dtype) for a in (points, center, factor))
    tops, spent = (np.asarray(a) for a in _ascend(target, *given))
    tops = tops.astype(np.float64)
    whitened = np.linalg.solve(factor, (tops - center).T).T
    gradients, modes, seen = int(spent.sum()), [], np.empty((0, len(center)))
    for top, place in zip(tops, whitened, strict=True):
        if not np.isfinite(place).all() or np.any(np.linalg.norm(seen - place, axis=1) < 1e-2):
            continue
        seen = np.concatenate([seen, place[None]])
        if any(mode.distance(top[None])[0] < 0.1 for mode in modes):
            continue
        mode = _settle(target, top)
        gradients += (NEWTON + 1) * (len(top) + 1)
        if mode is not None and not any(_same(mode, other) for other in modes):
            modes.append(mode)
    return modes, gradients


def _same(one: Mode, other: Mode) -> bool:
    return bool(min(one.distance(other.z[None])[0], other.distance(one.z[None])[0]) < 0.5)


@eqx.filter_jit
def _ascend(target: Target, points: Array, center: Array, factor: Array) -> tuple[Array, Array]:
    """The tops above points, and the gradients spent on each.

    One gradient a turn, whether the step is taken or shortened, so that the program holds one copy
    of the target.
    """

    def evaluate(x: Array) -> tuple[Array, Array]:
        value, score = jax.value_and_grad(lambda x: target.log_prob(center + factor @ x))(x)
        return jnp.where(jnp.isfinite(value) & jnp.isfinite(score).all(), value, -jnp.inf), score

    def one(z: Array) -> tuple[Array, Array]:
        x = jax.scipy.linalg.solve_triangular(factor, z - center, lower=True)
        eye = jnp.eye(len(x), dtype=x.dtype)

        def body(climb: _Climb) -> _Climb:
            way = climb.inverse @ climb.score
            step = climb.length * way * jnp.minimum(1, REACH / jnp.linalg.norm(way))
            value, score = evaluate(climb.x + step)
            taken = value >= climb.value + ARMIJO * step @ climb.score
            change = climb.score - score
            curvature = step @ change
            turn = eye - jnp.outer(step, change) / curvature
            inverse = turn @ climb.inverse @ turn.T + jnp.outer(step, step) / curvature
            learned = taken & (curvature > 0)
            return _Climb(
                jnp.where(taken, climb.x + step, climb.x),
                jnp.where(taken, value, climb.value),
                jnp.where(taken, score, climb.score),
                jnp.where(learned, inverse, climb.inverse),
                jnp.where(taken, 1.0, climb.length / 4).astype(x.dtype),
                climb.spent + 1,
            )

        def going(climb: _Climb) -> Array:
            gain = climb.score @ climb.inverse @ climb.score
            return (gain > GAIN) & (climb.length > 1e-6) & (climb.spent < CLIMB)

        value, score = evaluate(x)
        first = _Climb(x, value, score, eye, jnp.ones((), x.dtype), jnp.asarray(1))
        top = jax.lax.while_loop(going, body, first)
        return center + factor @ top.x, top.spent

    return jax.lax.map(one, points, batch_size=AT_ONCE)


def _settle(target: Target, z: np.ndarray) -> Mode | None:
    """The mode next to z, or None where the top is no strict maximum."""
    end, score, precision = (
        np.asarray(a, np.float64) for a in _newton(target, jnp.asarray(z, jnp.zeros(()).dtype))
    )
    if not (np.isfinite(end).all() and np.isfinite(precision).all()):
        return None
    values = np.linalg.eigvalsh(precision)
    # Along a ridge, such as a ring, the curvature is zero but for rounding.
    if values[0] <= len(end) * float(jnp.finfo(jnp.zeros(()).dtype).eps) * values[-1]:
        return None
    if score @ np.linalg.solve(precision, score) > 0.02:
        return None
    return Mode(end, np.linalg.inv(np.linalg.cholesky(precision)).T)


@eqx.filter_jit
def _newton(target: Target, z: Array) -> tuple[Array, Array, Array]:
    """Damped Newton ascent; returns the end, its gradient and the negative Hessian there."""

    def evaluate(z: Array) -> tuple[Array, Array, Array]:
        value, score = target.value_and_score(z)
        return value, score, -jax.hessian(target.log_prob)(z)

    def body(i: Array, loop: tuple[Array, ...]) -> tuple[Array, ...]:
        z, value, score, precision, damping = loop
        values, vectors = jnp.linalg.eigh(precision)
        lifted = jnp.maximum(jnp.abs(values), 1e-6) + damping
        step = jnp.where(i > 0, vectors @ ((vectors.T @ score) / lifted), 0)
        new = (z + step, *evaluate(z + step))
        better = new[1] >= value
        damping = jnp.where(better, damping / 3, 4 * damping + 1e-3)
        pairs = zip(new, loop[:4], strict=True)
        return (*(jnp.where(better, a, b) for a, b in pairs), damping.astype(z.dtype))

    d, low = len(z), jnp.full((), -jnp.inf, z.dtype)  # the first turn evaluates where it stands
    first = (z, low, jnp.zeros_like(z), jnp.eye(d, dtype=z.dtype), jnp.full((), 1e-3, z.dtype))
    end, _, score, precision, _ = jax.lax.fori_loop(0, NEWTON + 1, body, first)
    return end, score, precision


def nearest(modes: list[Mode], z: np.ndarray) -> np.ndarray:
    """The mode that each point (n, d) belongs to: the one whose Student t is highest there.

    Any division of space is right for comparing masses with shares of draws; this one keeps a
    narrow mode apart from the tail of a wide one.
    """
    return np.argmax([mode.log_t(z) for mode in modes], axis=0)


def weigh(target: Target, modes: list[Mode], rng: np.random.Generator) -> Masses:
    """The mass around each mode, by importance sampling from q = mean of the modes' Student t.

    With equally many draws x of each t and w = p(x) / q(x), mode k has the share
    S_k = sum of w over the x nearest to it / sum of w.
    """
    each = max(LEAST_EACH, FEWEST // len(modes))
    z = np.concatenate([mode.sample(rng, each) for mode in modes])
    z = z.astype(jnp.zeros(()).dtype).astype(np.float64)
    log_t = np.stack([mode.log_t(z) for mode in modes])
    log_w = log_density(target, z[None])[0].astype(np.float64) - np.logaddexp.reduce(log_t)
    log_w = np.where(np.isfinite(log_w), log_w, -np.inf)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    inside = np.argmax(log_t, axis=0) == np.arange(len(modes))[:, None]
    share = inside @ w
    error = np.sqrt(((inside - share[:, None]) ** 2) @ w**2)
    return Masses(share, error, pareto_khat(log_w))
