"""From a finished run to a result: draw, evaluate, judge."""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer import verdict as rule
from infer.core.algorithm import AbstractApproximator, AbstractSampler, Algorithm
from infer.core.evidence import Evidence, Verdict
from infer.core.outcome import Outcome
from infer.core.posterior import AbstractDistribution, Particles, Posterior
from infer.core.target import Target
from infer.core.types import PRNGKey
from infer.families.gaussian import DiagonalGaussian
from infer.result import Result, Timings, best_restart
from infer.run.checkpoint import describe
from infer.run.loop import Plan, Trail

SCORED_DRAWS = 4000  # chains are judged on at most so many draws, evenly spaced
BLOCK = 256  # draws evaluated at once
MORE_DRAWS = (4000, 16_000)  # a distribution that is neither right nor wrong is drawn again


@eqx.filter_jit
def _draw(posteriors: AbstractDistribution, keys: Array, n: int) -> tuple[Array, Array]:
    """Fresh draws (chains, n, d) of stacked distributions and their log densities."""

    def one(q: AbstractDistribution, key: Array) -> tuple[Array, Array]:
        draws = q.sample_score(key, n)
        return draws.x, draws.log_q

    return jax.vmap(one)(posteriors, keys)


@eqx.filter_jit
def _evaluate(target: Target, z: Array) -> tuple[Array, Array]:
    return jax.vmap(target.value_and_score)(z)


@eqx.filter_jit
def _posteriors(algorithm: AbstractApproximator, states: object) -> Posterior:
    return jax.vmap(algorithm.posterior)(states)


def scored(target: Target, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log density (chains, n) and score (chains, n, d) on all rows at draws (chains, n, d).

    Blocks of one size, the last one filled up, so that any number of draws compiles once.
    """
    full, flat = target.full(), z.reshape(-1, z.shape[-1])
    fill = np.zeros((-len(flat) % BLOCK, flat.shape[1]), flat.dtype)
    blocks = np.concatenate([flat, fill + flat[:1]]).reshape(-1, BLOCK, flat.shape[1])
    parts = [jax.device_get(_evaluate(full, jnp.asarray(block))) for block in blocks]
    log_prob = np.concatenate([part[0] for part in parts])[: len(flat)]
    score = np.concatenate([part[1] for part in parts])[: len(flat)]
    return log_prob.reshape(z.shape[:2]), score.reshape(z.shape)


def conclude(
    target: Target,
    algorithm: Algorithm,
    key: PRNGKey,
    draw_key: PRNGKey,
    plan: Plan,
    trail: Trail,
    outcome: Outcome,
    draws: int,
) -> Result:
    """The result of a run: its draws, and the verdict on them."""
    clock = time.perf_counter()
    if isinstance(algorithm, AbstractSampler):
        z, log_prob, log_q, evidence = _judge_chains(target, algorithm, trail)
    else:
        z, log_prob, log_q, evidence = _judge_states(target, algorithm, trail, draw_key, draws)
    evidence += (rule.account(outcome, len(outcome.nonfinite)),)
    return Result(
        target=target,
        algorithm=algorithm,
        key=key,
        plan=plan,
        trail=trail,
        outcome=outcome,
        verdict=Verdict(evidence, rule.OTHER_MODES),
        z=z,
        log_prob=log_prob,
        log_q=log_q,
        timings=Timings(
            trail.compile_seconds, trail.warmup_seconds, trail.seconds, time.perf_counter() - clock
        ),
        algorithm_name=type(algorithm).__name__,
        settings=describe(algorithm),
    )


Judged = tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[Evidence, ...]]


def _judge_chains(target: Target, algorithm: AbstractSampler, trail: Trail) -> Judged:
    record = trail.record()
    chains = len(trail.carry.alive)
    if not record:
        none = Evidence("number of draws", 0.0, ">= 1", "failed", "stopped before the first draw")
        return np.zeros((chains, 0, target.dim)), np.zeros((chains, 0)), None, (none,)
    z = np.swapaxes(record["position"], 0, 1)
    log_prob = -np.swapaxes(record["loss"], 0, 1)
    stride = -(-z.shape[0] * z.shape[1] // SCORED_DRAWS)
    seen = z[:, ::stride]
    lp, score = scored(target, seen)
    if not target.exact:
        log_prob = lp if stride == 1 else scored(target, z)[0]
    stats = {k.removeprefix("stats/"): v for k, v in record.items() if k.startswith("stats/")}
    hint = _chain_hint(algorithm, stats)
    sample = rule.Sample(seen, lp, score, None, target.coordinate_names(), "chains", hint)
    evidence = rule.judge(sample)
    if "diverging" in stats:
        count = int(np.sum(stats["diverging"]))
        evidence += (rule.divergences(count, stats["diverging"].size),)
    if "energy" in stats and len(stats["energy"]) > 3:
        evidence += (rule.energy(np.swapaxes(stats["energy"], 0, 1)),)
    if not algorithm.adjusted:
        meaning = "R-hat and ESS do not see the bias of an unadjusted sampler; the scores do"
        evidence += (Evidence("adjusted", 0.0, "", "info", meaning),)
    return z, log_prob, None, evidence


def _chain_hint(algorithm: AbstractSampler, stats: dict[str, np.ndarray]) -> str:
    """The usual cause when these chains are wrong."""
    if not algorithm.adjusted:
        return (
            "This sampler has no acceptance test, so its error grows with its step size: lower it, "
            "or use infer.MALA()"
        )
    if "diverging" in stats and np.any(stats["diverging"]):
        return f"{int(np.sum(stats['diverging']))} transitions diverged: reparametrize the model"
    rate = float(np.mean(stats["acceptance_rate"])) if "acceptance_rate" in stats else 1.0
    if rate < 0.1:
        return f"Almost every proposal was refused (acceptance {rate:.2g}): a smaller step size"
    return "Run longer, with more warm-up"


def _judge_states(
    target: Target, algorithm: AbstractApproximator, trail: Trail, key: PRNGKey, draws: int
) -> Judged:
    stacked = _posteriors(algorithm, trail.carry.states)
    best = best_restart(trail)
    losses = trail.losses()
    change, done = (np.nan, np.nan), False
    tolerance = algorithm.stopping.tolerance if algorithm.stopping is not None else 0.05
    if len(losses) >= 80 and algorithm.stopping is not None:
        change = algorithm.stopping.change(losses[:, best])
        done = abs(change[0]) + 2 * change[1] < tolerance
    hint = _state_hint(stacked, change, tolerance, target.dim)
    if isinstance(stacked, Particles):
        z, log_q = np.asarray(stacked.x), None
        kind = "particles"
    else:
        z, log_q = _fresh(stacked, key, len(losses.T), draws)
        kind = "distribution"
    log_prob, score = scored(target, z)

    def judged(z: np.ndarray, lp: np.ndarray, score: np.ndarray, lq: np.ndarray | None):
        names = target.coordinate_names()
        return rule.judge(rule.Sample(z, lp, score, lq, names, kind, hint))

    one = slice(best, best + 1)
    evidence = judged(z[one], log_prob[one], score[one], None if log_q is None else log_q[one])
    if kind == "distribution":
        for n in MORE_DRAWS:
            if n <= draws or not rule.undecided(evidence):
                continue
            more, lq = _fresh(stacked, jax.random.fold_in(key, n), len(losses.T), n)
            lp, s = scored(target, more[one])
            evidence = judged(more[one], lp, s, lq[one])
    evidence += (
        rule.settled(change, tolerance, done),
        rule.restarts(z.mean(axis=1), z.std(axis=1), target.coordinate_names()),
    )
    return z, log_prob, log_q, evidence


def settled_draws(algorithm: AbstractApproximator, trail: Trail, key: PRNGKey) -> np.ndarray:
    """1000 fresh draws (restarts, 1000, d) of the distributions that a run arrived at."""
    return _fresh(_posteriors(algorithm, trail.carry.states), key, len(trail.carry.alive), 1000)[0]


def _fresh(stacked: Posterior, key: PRNGKey, chains: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(stacked, AbstractDistribution)
    x, log_q = _draw(stacked, jax.random.split(key, chains), n)
    return np.asarray(x), np.asarray(log_q)


def _state_hint(stacked: Posterior, change: tuple[float, float], tolerance: float, d: int) -> str:
    """The usual cause when an approximation of this kind is wrong."""
    if change[0] > max(2 * change[1], tolerance):
        return (
            f"The loss was still falling, by {change[0]:.3g} nats over the last quarter of the "
            "run: take more steps (result.extend(steps=...)) or a larger step size"
        )
    if isinstance(stacked, DiagonalGaussian):
        return "A mean-field family ignores correlation between coordinates: try infer.FullRank()"
    if isinstance(stacked, Particles):
        n = stacked.x.shape[-2]
        return (
            f"The spread of {n} interacting particles in {d} dimensions shrinks when they are few: "
            "take more particles, or more steps if the force has not died away"
        )
    return ""
