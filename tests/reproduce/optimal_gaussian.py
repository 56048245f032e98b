"""The best full-rank Gaussian of each posterior of posteriordb: the truth for Gaussian methods.

    python tests/reproduce/optimal_gaussian.py --database PATH

At the best Gaussian the mean of the score is zero and the mean of minus the Hessian is the
precision. Both are solved for in float64 on fixed quasi-random points by the natural-gradient
iteration, with no code of the methods that are measured against the result.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri
from scipy.stats import qmc

import infer
from infer.diagnostics import pareto_khat
from infer.scoreboard import models

BUILD = Path(__file__).parent.parent.parent / "build"
FIRST, LAST = 2**12, 2**16  # points, doubled until fresh ones agree
SOLVED, AGREED = 1e-10, 1e-6
ITERATIONS = 400
BATCH = 2**10


class Optimum(NamedTuple):
    """The best Gaussian, and its residual on points that it was not fitted to."""

    mean: np.ndarray
    covariance: np.ndarray
    residual: float


class Moments(NamedTuple):
    """Means over the points, in the coordinates u of x = mean + factor u; V = -log p."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray

    @property
    def residual(self) -> float:
        """|E grad V|^2 + |E hess V - I|^2 / 2: twice the gap, near the optimum."""
        off = self.hessian - np.eye(len(self.gradient))
        return float(self.gradient @ self.gradient + 0.5 * np.sum(off**2))


def points(d: int, n: int, seed: int) -> np.ndarray:
    """Scrambled Sobol points as standard normals, n of them, each with its antithesis."""
    with np.errstate(all="ignore"):
        uniform = qmc.Sobol(d, seed=seed).random(n // 2)
    half = ndtri(np.clip(uniform, 1e-15, 1 - 1e-15))
    return np.concatenate([half, -half])


@eqx.filter_jit
def _moments(target: infer.Target, mean: Any, factor: Any, u: Any) -> tuple[Any, Any, Any]:
    columns = jnp.eye(len(mean))

    def one(u: Any) -> tuple[Any, Any, Any]:
        def potential(u: Any) -> Any:
            return -target.log_prob(mean + factor @ u)

        slope = jax.grad(potential)
        hessian = jax.vmap(lambda v: jax.jvp(slope, (u,), (v,))[1])(columns)
        return potential(u), slope(u), hessian

    return jax.tree.map(lambda part: jnp.sum(part, axis=0), jax.vmap(one)(u))


def moments(target: infer.Target, mean: np.ndarray, factor: np.ndarray, u: np.ndarray) -> Moments:
    parts = [_moments(target, mean, factor, u[i : i + BATCH]) for i in range(0, len(u), BATCH)]
    value, gradient, hessian = (np.sum(part, axis=0) / len(u) for part in zip(*parts, strict=True))
    return Moments(float(value), gradient, 0.5 * (hessian + hessian.T))


def solve(
    target: infer.Target, mean: np.ndarray, factor: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, Cholesky factor and residual of the fixed point on these points.

    A step in the coordinates of the present Gaussian, where its precision is I: the precision
    becomes I + D + D^2 / 2 with D = eta (E hess V - I), which is positive definite for any D and
    the natural gradient to first order; then mean -= eta covariance E grad V. eta is halved until
    the residual or the sample bound improves, and doubled again after a success.
    """
    eta, now = 1.0, moments(target, mean, factor, u)
    bound = now.value - np.sum(np.log(np.diag(factor)))
    best = mean, factor, now.residual
    for _ in range(ITERATIONS):
        if now.residual < SOLVED or eta < 1e-6:
            break
        off = eta * (now.hessian - np.eye(len(mean)))
        covariance = np.linalg.inv(np.eye(len(mean)) + off + 0.5 * off @ off)
        trial_mean = mean - eta * factor @ covariance @ now.gradient
        trial_factor = factor @ np.linalg.cholesky(0.5 * (covariance + covariance.T))
        trial = moments(target, trial_mean, trial_factor, u)
        trial_bound = trial.value - np.sum(np.log(np.diag(trial_factor)))
        if trial_bound < bound or trial.residual < now.residual:
            mean, factor, now, bound = trial_mean, trial_factor, trial, trial_bound
            eta = min(1.0, 2 * eta)
            if now.residual < best[2]:
                best = mean, factor, now.residual
        else:
            eta /= 2
    return best


def optimal_gaussian(target: infer.Target, start: np.ndarray) -> Optimum:
    """The best Gaussian, from the moments of draws `start` (n, d); needs float64.

    Points are doubled until the residual on fresh ones is negligible.
    """
    mean, factor = start.mean(axis=0), np.linalg.cholesky(np.cov(start.T))
    n = FIRST
    while True:
        mean, factor, solved = solve(target, mean, factor, points(target.dim, n, seed=1))
        fresh = [moments(target, mean, factor, points(target.dim, n, seed=s)) for s in (2, 3)]
        residual = max(each.residual for each in fresh)
        if residual < AGREED or n == LAST:
            if solved > SOLVED:
                print(f"  on its own points the residual stayed at {solved:.1e}", flush=True)
            return Optimum(mean, factor @ factor.T, residual)
        n *= 4


@eqx.filter_jit
def _log_prob(target: infer.Target, x: Any) -> Any:
    return jax.vmap(target.log_prob)(x)


def log_prob(target: infer.Target, x: np.ndarray) -> np.ndarray:
    parts = [_log_prob(target, x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return np.concatenate(parts)


def gap(
    target: infer.Target,
    mean: np.ndarray,
    covariance: np.ndarray,
    optimal: Optimum,
    n: int = 2**13,
    scrambles: int = 4,
) -> tuple[float, float]:
    """Evidence bound of the best Gaussian minus that of N(mean, covariance), and its error (nats).

    Both means of log p are taken over the same standard normals, placed by Cholesky factors, so
    that most of the error cancels; `scrambles` independent sets of n points tell what is left.
    The gap of what is no Gaussian at all is infinite. `target` is in float64.
    """
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        return np.inf, np.nan
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return np.inf, np.nan
    best = np.linalg.cholesky(optimal.covariance)
    entropy = np.sum(np.log(np.diag(best))) - np.sum(np.log(np.diag(factor)))
    gaps = []
    for seed in range(scrambles):
        u = points(target.dim, n, seed=100 + seed)
        x = np.concatenate([optimal.mean + u @ best.T, mean + u @ factor.T])
        theirs, ours = np.split(log_prob(target, x), 2)
        gaps.append(np.mean(theirs - ours) + entropy)
    if not np.isfinite(gaps).all():
        return np.inf, np.nan
    return float(np.mean(gaps)), float(np.std(gaps, ddof=1) / np.sqrt(scrambles))


def optimum(database: Path, name: str) -> Optimum:
    """The best Gaussian of a posterior, computed once and kept in the build folder."""
    path = BUILD / "optimal_gaussian" / f"{name}.npz"
    if path.is_file():
        stored = np.load(path)
        return Optimum(stored["mean"], stored["covariance"], float(stored["residual"]))
    with jax.enable_x64(True):
        target = models.load(database, name)
        draws = models.unconstrained(target, name, models.reference(database, name))
        found = optimal_gaussian(target, draws)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **found._asdict())
    partial.replace(path)  # so that an interrupted run leaves no half a file
    return found


def khat(target: infer.Target, found: Optimum, repeats: int = 5, n: int = 20_000) -> np.ndarray:
    """Pareto k-hat of the best Gaussian, from independent sets of draws."""
    factor, values = np.linalg.cholesky(found.covariance), []
    for seed in range(repeats):
        u = np.random.default_rng(seed).standard_normal((n, target.dim))
        log_p = log_prob(target, found.mean + u @ factor.T)
        values.append(pareto_khat(log_p + 0.5 * np.sum(u**2, axis=1)))
    return np.array(values)


def database_argument(text: str) -> Path | None:
    """The database to use, or None, said aloud, where there is none."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--database", type=Path, default=os.environ.get("INFER_POSTERIORDB"))
    given = parser.parse_args().database
    return None if given is None else Path(given)


def main() -> None:
    database = database_argument("The best Gaussian of each posterior.")
    if database is None:
        print("nothing to do: neither --database nor INFER_POSTERIORDB names a posteriordb folder")
        return
    print("| posterior | d | kappa | k-hat | its error | fresh residual | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in models.names(database):
        clock = time.perf_counter()
        found = optimum(database, name)
        seconds = time.perf_counter() - clock
        kappa = np.linalg.cond(found.covariance)
        with jax.enable_x64(True):
            tails = khat(models.load(database, name), found)
        error = tails.std(ddof=1) / np.sqrt(len(tails))
        print(
            f"| {name} | {len(found.mean)} | {kappa:.3g} | {tails.mean():.3f} | {error:.3f} "
            f"| {found.residual:.1e} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
