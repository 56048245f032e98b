"""The expensive verdict: a NUTS cross-check, a search for other modes, restarts.

Each check and its limits are told in `docs/verdict.md`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.algorithm import AbstractApproximator
from infer.core.evidence import Evidence, Status, Verdict
from infer.core.keys import Use, address, as_key
from infer.core.outcome import Ending
from infer.core.posterior import Particles
from infer.core.target import Target
from infer.diagnostics.chains import rhat
from infer.diagnostics.score import MEAN_UNIT, SD_UNIT
from infer.external.adapter import require_blackjax
from infer.external.walkers import Walkers
from infer.judgement import settled_draws
from infer.mode_search import mode_search
from infer.result import Result
from infer.run.loop import run, start

WALKERS = 16
TUNING, KEPT = 20, 40  # steps of the cross-check


def examine(result: Result, *, key: Any) -> Verdict:
    """The verdict of the checks that cost more than a look at the draws.

    1. Cross-check: 16 draws of the fit are moved by NUTS, with the fit's covariance as mass
       matrix; a right fit does not drift.
    2. Mode search: 64 draws are heated by bounded steps and cooled again, and climb to their modes;
       the mass around each is estimated. Mass around modes without draws has been missed.
    3. Mode weights: the shares of the draws around each mode are compared with the masses.
    4. Restarts, for a fitted distribution: two more fits from starts 3 and 10 spreads away.

    Cost: some 45,000 gradients for d = 3 and 130,000 for d = 30, and two more fits. Evidence that
    the default verdict found "suspect" is lifted where the cross-check shows no drift; nothing
    lifts a "failed".

    Args:
        result: a result with its target.
        key: a PRNG key or an integer.

    Raises:
        ImportError: if BlackJAX is missing.
        ValueError: if the result has no target, or no finite draws.

    Source: the rule of `docs/verdict.md`.
    """
    require_blackjax("examine")
    if result.target is None or result.algorithm is None:
        raise ValueError("examine needs infer.load(path, target, algorithm).")
    keys = jax.random.split(address(as_key(key), Use.EXAMINE), 4)
    target = result.target.full()
    chains = result.is_chains
    kept = result.z if chains else result.z[result.best : result.best + 1]
    z = kept.reshape(-1, target.dim)
    if len(z) < WALKERS or not np.isfinite(z).all() or np.any(np.ptp(z, axis=0) == 0):
        raise ValueError(f"examine needs at least {WALKERS} finite, moving draws; got {len(z)}.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(keys[0])))
    begin = z[rng.choice(len(z), WALKERS, replace=False)]
    center, factor = z.mean(axis=0), _factor(z)
    crossed = _cross_check(target, keys[1], begin, center, factor, result, chains)
    modes, _ = mode_search(target, keys[2], kept, chains)
    again = _restarts(result, keys[3], center, factor)
    before = result.verdict.evidence
    if crossed.status == "ok":
        before = tuple(_lift(e) for e in before)
    return Verdict((*before, crossed, *modes, *again), "modes that a tempered walk cannot reach")


def _factor(z: np.ndarray) -> np.ndarray:
    covariance = np.cov(z, rowvar=False).reshape(z.shape[1], -1)
    sd = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(sd, sd))
    root = vectors * np.sqrt(np.maximum(values, 1e-6))
    return np.linalg.cholesky(np.outer(sd, sd) * (root @ root.T))


def _lift(evidence: Evidence) -> Evidence:
    liftable = ("score regression", "KL gap", "score tail")
    if evidence.status != "suspect" or evidence.name not in liftable:
        return evidence
    meaning = f"{evidence.meaning}; lifted: NUTS started from the draws does not drift"
    return Evidence(evidence.name, evidence.value, evidence.threshold, "info", meaning)


def _cross_check(
    target: Target,
    key: Array,
    begin: np.ndarray,
    center: np.ndarray,
    factor: np.ndarray,
    result: Result,
    chains: bool,
) -> Evidence:
    walkers = Walkers(target, key, begin, center, factor)
    walkers.go(TUNING)
    trace = walkers.unwhiten(walkers.go(KEPT, adapting=False))
    sd = np.sqrt(np.sum(factor**2, axis=1))
    means = trace.mean(axis=1)  # one per walker
    shift = (means.mean(axis=0) - center) / sd
    shift_se = means.std(axis=0, ddof=1) / sd / np.sqrt(WALKERS)
    squares = ((trace - trace.mean(axis=(0, 1))) ** 2).mean(axis=1)
    variance = squares.mean(axis=0)
    log_sd = 0.5 * np.log(variance / sd**2)
    log_sd_se = 0.5 * squares.std(axis=0, ddof=1) / variance / np.sqrt(WALKERS)
    size = np.concatenate([np.abs(shift) / MEAN_UNIT, np.abs(log_sd) / SD_UNIT])
    se = np.concatenate([shift_se / MEAN_UNIT, log_sd_se / SD_UNIT])
    value, lo = float(size.max()), float((size - 2 * se).max())
    tail = next((e.value for e in result.verdict.evidence if e.name == "score tail"), np.nan)
    positive = np.isfinite(
        next((e.value for e in result.verdict.evidence if e.name == "score regression"), np.inf)
    )
    trusted = not chains or (
        bool(np.all(rhat(result.z) < 1.01)) and not np.any(result.history.get("diverging", 0))
    )
    which = target.coordinate_names()[int(size.argmax()) % target.dim]
    status: Status = "info"
    if lo > 1 and tail <= 0.5 and positive:
        status = "failed"
    elif value < 0.7 and lo < 0.5 and tail <= 0.5 and not walkers.diverged.any() and trusted:
        status = "ok"
    meaning = (
        f"16 draws moved by NUTS drift by {value:.2g} label units in {which} (lower bound "
        f"{lo:.2g}; 1 is an error that makes a fit wrong)"
    )
    if status == "failed":
        meaning += ": the draws were not where the posterior is. Use infer.NUTS() itself"
    limits = "< 0.7 lifts a suspicion, lower bound > 1 fails"
    return Evidence("NUTS cross-check", value, limits, status, meaning)


def _restarts(
    result: Result, key: Array, center: np.ndarray, factor: np.ndarray
) -> tuple[Evidence, ...]:
    """Two more fits of a distribution, from starts 3 and 10 spreads from the first."""
    algorithm, target = result.algorithm, result.target
    if not isinstance(algorithm, AbstractApproximator) or isinstance(result.posterior, Particles):
        return ()
    assert target is not None
    way_key, run_key, draw_key = jax.random.split(key, 3)
    direction = np.asarray(jax.random.normal(way_key, (2, len(center))), np.float64)
    direction *= np.array([[3.0], [10.0]]) / np.linalg.norm(direction, axis=1, keepdims=True)
    starts = jnp.asarray(center + direction @ factor.T, jnp.zeros(()).dtype)
    keys = jax.random.split(run_key, 2)
    trail = start(algorithm, target, keys, starts)
    plan = dataclasses.replace(result.plan, max_seconds=None)
    outcome = run(algorithm, target, keys, trail, plan)
    if outcome.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    if outcome.ending is Ending.OUT_OF_MEMORY:
        raise MemoryError(outcome.ending.value)
    z = settled_draws(algorithm, trail, draw_key)
    sd = np.sqrt(np.sum(factor**2, axis=1))
    both = np.sqrt((z.var(axis=1) + sd**2) / 2)
    moved = np.abs(z.mean(axis=1) - center) / both / MEAN_UNIT
    scaled = np.abs(np.log(z.std(axis=1) / sd)) / SD_UNIT
    size = np.maximum(moved, scaled)[np.asarray(outcome.nonfinite) == 0]
    if not len(size):
        meaning = "not measured: the density is not finite at starts far from the fit"
        return (Evidence("restarts", np.nan, "<= 1", "info", meaning),)
    value = float(size.max())
    which = target.coordinate_names()[int(size.max(axis=0).argmax())]
    status: Status = "ok" if value <= 1 else "suspect"
    meaning = f"fits from far starts differ by {value:.2g} label units in {which}"
    if status == "suspect":
        meaning += ": several modes, or not converged. Take more steps, or compare chains=4"
    return (Evidence("restarts", value, "<= 1", status, meaning),)
