"""Importance resampling of a fit that is near its target but not right."""

import dataclasses
import math
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer import verdict as rule
from infer.core.evidence import Evidence, Status, Verdict
from infer.core.keys import Use, address, as_key
from infer.core.posterior import AbstractDistribution
from infer.core.target import Target
from infer.diagnostics.pareto import psis
from infer.judgement import FEWEST, MOST, scored
from infer.planning import at_least_one
from infer.references.citation import cites
from infer.references.judging import OWEN_2000, VEHTARI_2024
from infer.result import Result

GROWTH = (4, 16, 64)  # candidates per resampled draw: more where weights are uneven
MOST_NUMBERS = 50_000_000  # coordinates of candidates held at once, beyond the first 4 per draw
CLIPPED = 0.01  # weight beyond 1 / n that resampling without replacement may lose unsaid
LEAST_ESS = 100
BLOCK = 1024  # draws evaluated at once
REMEDY = (
    "importance resampling cannot repair this fit: take a better one, or sample with infer.NUTS()"
)


@cites(VEHTARI_2024, OWEN_2000)
def improve(result: Result, *, draws: int | None = None, replace: bool = False, key: Any) -> Result:
    """Resample a fit with importance weights, so that its draws follow the target more closely.

        z_i ~ q = (1 / m) sum_k q_k,   w_i = p(z_i) / q(z_i),   smoothed by PSIS;
        z_i is taken with probability min(1, c w_i), the sum of which is the number of draws

    With restarts (`chains=`) q is the mixture of all m that are finite. Every candidate is weighed
    against the whole mixture and not against the q_k that it came from, as multi-path Pathfinder
    does: a mode that several restarts found is then counted once, and a restart that missed
    everything takes its candidates only. This pools the paths of `Pathfinder`, the starts of `VI`.

    No candidate is taken twice: one with a huge weight appears once, instead of filling the answer
    with copies. The weight which that loses is reported; to lose little, up to 64 candidates per
    draw are drawn where the weights are uneven.

    Cost: 4 to 64 values of the log density per draw (at least 1000 draws, and up to d = 512 ten per
    coordinate, are resampled to be judged) and m times as many of log q; one gradient for each of
    these draws.

    It repairs what q covers: skew, a wrong scale, weights of modes. Where q has lighter tails than
    the target k-hat is large and the verdict says that the fit is not repaired; modes that no
    restart found stay missing, and nothing here can see that.

    Args:
        result: a fitted distribution with its target: of `infer.VI`, `infer.Pathfinder`, ...
        draws: draws of the answer, >= 1; as many as a restart of `result` has if None.
        replace: systematic resampling with replacement: no weight is lost, draws may repeat.
        key: a PRNG key or an integer.

    Returns:
        A `Result` with one chain of draws of equal weight and without `log_q`; its history and
            states are those of the fit, its verdict is of the new draws.

    Raises:
        ValueError: for chains, particles, flows along maps and results improved before, which have
            no density; for a result loaded without its target.

    Source: Vehtari et al., Pareto smoothed importance sampling, JMLR 25 (2024); Owen and Zhou,
    Safe and effective importance sampling, JASA 95 (2000).
    """
    clock = time.perf_counter()
    target, parts = _mixture_of(result)
    wanted = at_least_one("draws", result.z.shape[1] if draws is None else draws)
    judged = 10 * target.dim if target.dim <= rule.LARGE else FEWEST
    n = max(wanted, min(max(FEWEST, judged), MOST))
    candidate_key, take_key = jax.random.split(address(address(as_key(key), Use.DRAW), Use.DRAW))
    z, log_p, log_w, khat = _candidates(target, parts, candidate_key, n)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(take_key)))
    weights, limit = np.exp(log_w), khat_limit(len(z))
    if np.isfinite(weights).all():
        taken, lost = (systematic(weights, n, rng), 0.0) if replace else apart(weights, n, rng)
        evidence = _judge(target, z[taken], replace)
        evidence += _weights(weights, khat, limit, taken, lost)
    else:
        meaning = f"the log density is finite at no draw of the fit; {REMEDY}"
        taken = np.arange(wanted) % len(z)
        evidence = (Evidence("finite draws", 0.0, ">= 1", "failed", meaning),)
    evidence += tuple(e for e in result.verdict.evidence if e.name == "outcome")
    kept = taken[np.sort(rng.choice(len(taken), min(wanted, len(taken)), replace=False))]
    seconds = result.timings.verdict + time.perf_counter() - clock
    return Result(
        target=target,
        algorithm=result.algorithm,
        key=result.key,
        plan=result.plan,
        trail=result.trail,
        outcome=result.outcome,
        verdict=Verdict(evidence, rule.OTHER_MODES),
        z=z[None, kept],
        log_prob=log_p[None, kept],
        log_q=None,
        timings=dataclasses.replace(result.timings, verdict=seconds),
        algorithm_name=result.algorithm_name,
        settings=result.settings,
        names=result.coordinate_names,
        labels=result.labels,
        identity=result.identity,
        keys=result.keys,
    )


def khat_limit(n: int) -> float:
    """The k-hat up to which n weights can be averaged: min(1 - 1 / log10(n), 0.7)."""
    return min(1 - 1 / math.log10(n), 0.7)


def apart(weights: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Indices of at most n different draws, and the weight that they cannot stand for.

    Systematic sampling with inclusion probabilities pi_i = min(1, c w_i), c such that they sum to
    n: exact as long as no n w_i is above 1. Fewer than n only if fewer have any weight.
    """
    weights = weights / weights.sum()
    places = np.flatnonzero(weights > 0)
    n = min(n, len(places))
    lost = float(np.maximum(weights - 1 / n, 0).sum())
    order = places[np.argsort(-weights[places], kind="stable")]
    w = weights[order]
    # With the k largest certain, the others share n - k: the first k where none exceeds 1.
    rest = np.cumsum(w[::-1])[::-1]
    certain = int(np.argmax(w * (n - np.arange(len(w))) <= rest * (1 + 1e-12)))
    probability = np.ones(len(w))
    if certain < n:
        share = (n - certain) / rest[certain]
        probability[certain:] = np.minimum(w[certain:] * share, 1)
    others = rng.permutation(np.arange(certain, len(w)))
    picked = others[_ladder(probability[others], n - certain, rng)]
    return np.unique(order[np.concatenate([np.arange(certain), picked])]), lost


def systematic(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of n draws, each taken floor(n w_i) or ceil(n w_i) times."""
    return _ladder(n * weights / weights.sum(), n, rng)


def _ladder(expected: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Systematic sampling: n rungs at distance 1, at which the cumulated numbers are read off."""
    if n == 0:
        return np.zeros(0, int)
    total = np.cumsum(expected)
    rungs = (np.arange(n) + rng.uniform()) * (total[-1] / n)
    return np.minimum(np.searchsorted(total, rungs, side="right"), len(expected) - 1)


def _mixture_of(result: Result) -> tuple[Target, AbstractDistribution]:
    """The target, and the finite restarts of a fit, stacked."""
    if not isinstance(result, Result):
        raise TypeError(f"improve needs a result of infer.fit, got {result!r}.")
    if result.is_chains:
        raise ValueError(
            f"the draws of {result.algorithm_name} are Markov chains, which have no density to "
            "weigh them by; run them longer with result.extend(steps=...)."
        )
    if result.log_q is None:
        raise ValueError(
            f"these draws of {result.algorithm_name} have no density to weigh them by: they are "
            "particles, come through maps, or were improved before. Improve a fitted distribution, "
            "infer.improve(infer.fit(target, infer.VI(), key=0), key=1); for more draws of an "
            "improved one write draws=... there."
        )
    if result.target is None or result.algorithm is None:
        raise ValueError("improve needs infer.load(path, target, algorithm).")
    good = []
    for q in result.posteriors:
        leaves = [x for x in jax.tree.leaves(q) if eqx.is_inexact_array(x)]
        if isinstance(q, AbstractDistribution) and all(np.isfinite(x).all() for x in leaves):
            good.append(q)
    if not good:
        raise ValueError("no restart of this result has finite parameters; fit it anew.")
    return result.target, jax.tree.map(lambda *leaves: jnp.stack(leaves), *good)


def _candidates(
    target: Target, parts: AbstractDistribution, key: Array, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Candidates, their log density, smoothed log weights and k-hat; more while too few."""
    m = len(jax.tree.leaves(parts)[0])
    z, log_p, log_q = np.zeros((0, target.dim)), np.zeros(0), np.zeros(0)
    log_w, khat = np.zeros(0), math.nan
    for i, growth in enumerate(GROWTH):
        each = -(-(growth * n - len(z)) // m)
        fresh = _draw(parts, jax.random.split(jax.random.fold_in(key, i), m), each)
        fresh = np.asarray(fresh).reshape(-1, target.dim)
        p, q = _densities(target.full(), parts, fresh)
        z = np.concatenate([z, fresh]) if len(z) else fresh
        log_p, log_q = np.concatenate([log_p, p]), np.concatenate([log_q, q])
        raw = np.where(np.isfinite(log_p), log_p - log_q, -np.inf)
        log_w, khat = psis(raw)
        beyond = np.maximum(np.exp(log_w) - 1 / n, 0).sum()
        too_many = GROWTH[min(i + 1, len(GROWTH) - 1)] * n * target.dim > MOST_NUMBERS
        if not khat < khat_limit(len(z)) or beyond <= CLIPPED or too_many:
            break
    return z, log_p.astype(z.dtype), log_w, khat


@eqx.filter_jit
def _draw(parts: AbstractDistribution, keys: Array, n: int) -> Array:
    return jax.vmap(lambda q, key: q.sample(key, n))(parts, keys)


@eqx.filter_jit
def _evaluate(target: Target, parts: AbstractDistribution, z: Array) -> tuple[Array, Array]:
    """Log density of the target and of the mixture at a block of points."""
    log_q = jax.vmap(lambda q: jax.vmap(q.log_prob)(z))(parts)
    mixture = jax.nn.logsumexp(log_q, axis=0) - jnp.log(log_q.shape[0])
    return jax.vmap(target.log_prob)(z), mixture


def _densities(
    target: Target, parts: AbstractDistribution, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log densities (n,) in float64 at points (n, d), in blocks of one size."""
    filled = np.concatenate([z, np.repeat(z[:1], -len(z) % BLOCK, axis=0)])
    both = [
        jax.device_get(_evaluate(target, parts, jnp.asarray(filled[i : i + BLOCK])))
        for i in range(0, len(filled), BLOCK)
    ]
    log_p, log_q = (np.concatenate(part)[: len(z)] for part in zip(*both, strict=True))
    return log_p.astype(np.float64), log_q.astype(np.float64)


def _judge(target: Target, z: np.ndarray, replace: bool) -> tuple[Evidence, ...]:
    """The default rule on the resampled draws; copies lie side by side and count as one chain."""
    log_prob, score = scored(target, z[None])
    sample = rule.Sample(
        z[None],
        log_prob,
        score,
        None,
        target.coordinate_names(),
        independent=not replace,
        hint=REMEDY[0].upper() + REMEDY[1:],
    )
    return rule.judge(sample)


def _weights(
    weights: np.ndarray, khat: float, limit: float, taken: np.ndarray, lost: float
) -> tuple[Evidence, ...]:
    """What the weights say for or against the resampled draws."""
    count, distinct = len(taken), len(np.unique(taken))
    size = float(weights.sum() ** 2 / np.sum(weights**2))
    status: Status = "ok" if khat < limit else "suspect" if khat < 1 else "failed"
    meaning = f"Pareto k-hat of {len(weights)} weights is {khat:.2f}"
    meaning += "" if status == "ok" else f": too heavy a tail to be averaged; {REMEDY}"
    enough = size >= LEAST_ESS
    worth = f"{len(weights)} candidates are worth {size:.0f} draws of the posterior"
    worth += "" if enough else f": too few; {REMEDY}"
    small = lost <= 10 * CLIPPED
    clipped = f"{100 * lost:.2g} % of the weight was beyond one draw of {count} and is lost"
    clipped += "" if small else ": fewer draws, or replace=True, would lose less"
    return (
        Evidence("k-hat", khat, f"< {limit:.2f} ok, >= 1 failed", status, meaning),
        Evidence("importance ESS", size, ">= 100", "ok" if enough else "suspect", worth),
        Evidence("clipped weight", lost, "<= 0.1", "ok" if small else "suspect", clipped),
        Evidence(
            "resampled draws",
            float(distinct),
            "",
            "info",
            f"{distinct} of {count} resampled draws are distinct",
        ),
    )
