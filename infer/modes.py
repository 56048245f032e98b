"""A search for modes that a fit has missed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.evidence import Evidence, Status
from infer.core.target import Target
from infer.external.walkers import Walkers
from infer.judgement import scored

PER_LEVEL, LANDING = 20, 60  # steps per temperature, and at temperature 1 in the end
LADDERS = ((0.4, 0.15, 0.06, 0.15, 0.4), (0.3, 0.1, 0.03, 0.01, 0.03, 0.1, 0.3))
NEWTON = 50


def mode_search(
    target: Target,
    key: Array,
    begin: np.ndarray,
    center: np.ndarray,
    factor: np.ndarray,
    z: np.ndarray,
) -> Evidence:
    """Heat, cool, land; climb from where no draw is; compare the masses of the modes."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    seen = z[rng.choice(len(z), min(len(z), 1000), replace=False)]
    whitened = np.linalg.solve(factor, (seen - center).T).T
    floor = np.quantile(scored(target, seen[None])[0], 0.01) - 10
    weigh = jax.random.fold_in(key, len(LADDERS))  # the same noise for every mode's mass
    known = [_Mode(target, point, weigh) for point in begin]
    known = _distinct([m for m in known if m.found])
    for number, ladder in enumerate(LADDERS):
        walkers = Walkers(target, jax.random.fold_in(key, number), begin, center, factor)
        for inverse_temperature in ladder:
            walkers.go(PER_LEVEL, inverse_temperature)
        ends = walkers.go(LANDING)[:, -1]
        outside = _nearest(ends, whitened) > np.quantile(_nearest(whitened, whitened), 0.99)
        points = walkers.unwhiten(ends[outside])
        if not len(points):
            continue
        high = scored(target, points[None])[0][0] > floor
        climbed = [_Mode(target, point, weigh) for point in points[high]]
        fresh = _distinct([m for m in climbed if m.found], known)
        if fresh:
            log_known = np.logaddexp.reduce([m.log_mass for m in known]) if known else -np.inf
            log_fresh = np.logaddexp.reduce([m.log_mass for m in fresh])
            share = float(1 / (1 + np.exp(log_known - log_fresh)))
            if share > 0.02:
                return _missed(share, fresh, target)
    meaning = (
        f"a tempered walk of {len(begin)} walkers found no other mode of more than 2 % of the mass"
    )
    return Evidence("mode search", 0.0, "mass missed <= 2 %", "ok", meaning)


def _missed(share: float, fresh: list["_Mode"], target: Target) -> Evidence:
    best = max(fresh, key=lambda m: m.log_mass)
    names = target.coordinate_names()
    where = ", ".join(f"{n} = {v:.3g}" for n, v in zip(names[:4], best.z[:4], strict=False))
    meaning = f"mode missed: about {share:.0%} of the mass lies in {len(fresh)} other mode(s), "
    meaning += f"one near {where} (unconstrained); start there with init=, or use chains=4"
    status: Status = "failed" if share > 0.1 else "suspect"
    return Evidence("mode search", share, "mass missed <= 2 %", status, meaning)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance from each point to the nearest other one (itself excluded)."""
    squares = (points**2).sum(1)[:, None] + (others**2).sum(1) - 2 * points @ others.T
    if points is others:
        np.fill_diagonal(squares, np.inf)
    return np.sqrt(np.maximum(squares.min(axis=1), 0))


@eqx.filter_jit
def _climb(target: Target, z: Array) -> tuple[Array, Array, Array]:
    """Damped Newton ascent; returns the end, its gradient and the negative Hessian there."""
    score = jax.grad(target.log_prob)
    dtype = z.dtype

    def body(_: Array, loop: tuple[Array, Array]) -> tuple[Array, Array]:
        z, damping = loop
        values, vectors = jnp.linalg.eigh(-jax.hessian(target.log_prob)(z))
        lifted = jnp.maximum(jnp.abs(values), 1e-6) + damping
        step = vectors @ ((vectors.T @ score(z)) / lifted)
        better = target.log_prob(z + step) >= target.log_prob(z)
        damping = jnp.where(better, damping / 3, 4 * damping + 1e-3)
        return jnp.where(better, z + step, z), damping.astype(dtype)

    end, _ = jax.lax.fori_loop(0, NEWTON, body, (z, jnp.asarray(1e-3, dtype)))
    return end, score(end), -jax.hessian(target.log_prob)(end)


@eqx.filter_jit
def _importance(target: Target, mode: Array, factor: Array, key: Array) -> Array:
    """Log of the mass of a mode by importance sampling from a Student t with 5 degrees."""
    d, nu, n = mode.shape[0], 5.0, 400
    key_normal, key_chi = jax.random.split(key)
    noise = jax.random.normal(key_normal, (n, d), mode.dtype)
    scale = jnp.sqrt(nu / (2 * jax.random.gamma(key_chi, nu / 2, (n, 1), mode.dtype)))
    t = noise * scale
    log_q = -(nu + d) / 2 * jnp.log1p(jnp.sum(t**2, axis=1) / nu)
    log_q += jax.scipy.special.gammaln((nu + d) / 2) - jax.scipy.special.gammaln(nu / 2)
    log_q -= d / 2 * jnp.log(nu * jnp.pi) + jnp.sum(jnp.log(jnp.diagonal(factor)))
    log_p = jax.vmap(target.log_prob)(mode + t @ factor.T)
    log_w = jnp.where(jnp.isfinite(log_p), log_p - log_q, -jnp.inf)
    return jax.scipy.special.logsumexp(log_w) - jnp.log(n)


class _Mode:
    """The mode above a point, with its local scale and its mass."""

    def __init__(self, target: Target, point: np.ndarray, key: Array) -> None:
        end, score, precision = _climb(target, jnp.asarray(point, jnp.zeros(()).dtype))
        self.z = np.asarray(end, np.float64)
        self.precision = np.asarray(precision, np.float64)
        values = np.linalg.eigvalsh(self.precision) if np.isfinite(self.precision).all() else [-1.0]
        # a Newton decrement below 0.01 nats: close enough to call it the mode
        self.found = (
            bool(min(values) > 0) and float(score @ np.linalg.solve(self.precision, score)) < 0.02
        )
        if self.found:
            factor = np.linalg.cholesky(np.linalg.inv(self.precision))
            mass = _importance(target, end, jnp.asarray(factor, end.dtype), key)
            self.log_mass = float(mass)
            self.found = np.isfinite(self.log_mass)

    def near(self, other: "_Mode") -> bool:
        """Is the other mode within a tenth of a local standard deviation or so?"""
        step = other.z - self.z
        return bool(step @ self.precision @ step < 0.25)


def _distinct(modes: list[_Mode], known: list[_Mode] | None = None) -> list[_Mode]:
    """One of each mode, without those already known."""
    kept: list[_Mode] = []
    for mode in modes:
        if not any(mode.near(other) for other in [*kept, *(known or [])]):
            kept.append(mode)
    return kept
