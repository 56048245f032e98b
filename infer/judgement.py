"""From a finished run to a result: draw, evaluate, judge."""

import time
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer import chain_evidence
from infer import verdict as rule
from infer.core.algorithm import AbstractApproximator, AbstractSampler
from infer.core.evidence import Evidence, Verdict
from infer.core.keys import Use, address
from infer.core.outcome import Ending, Outcome
from infer.core.posterior import AbstractDistribution, AbstractGenerator, Particles, Posterior
from infer.core.stopping import AbstractStopping, LossSettled, Record
from infer.core.target import Target
from infer.core.types import PRNGKey
from infer.families.gaussian import DiagonalGaussian
from infer.families.mixture import MixtureDistribution
from infer.flows.flow import Flow
from infer.result import Result, Timings, best_restart
from infer.run.checkpoint import describe
from infer.run.loop import Plan, Trail
from infer.streaming import Stream, rows_of

SCORED_DRAWS = 4000  # the scores of chains are taken at about so many draws, evenly spaced
LEAST_SEEN = 100  # draws per chain
FEWEST, MOST = 1000, 16_000  # fresh draws on which a distribution is judged at first, at most
BLOCK = 256  # draws evaluated at once
MORE_DRAWS = (4000, 16_000)  # a distribution that is neither right nor wrong is drawn again
MOST_SCORED = 2**26  # numbers in the scored draws of chains, in many dimensions
MOST_SEEN = 2**29  # numbers drawn for a verdict, in many dimensions

NO_DRAW = "stopped before the first draw: allow more max_seconds, or less warmup"

Fitted = AbstractDistribution | AbstractGenerator  # what independent draws can be taken of


@eqx.filter_jit
def _draw(posteriors: Fitted, keys: Array, n: int) -> tuple[Array, Array | None]:
    """Fresh draws (chains, n, d) of stacked posteriors, and log densities if they have any."""

    def one(q: Fitted, key: Array) -> tuple[Array, Array | None]:
        if isinstance(q, AbstractGenerator):
            return q.sample(key, n), None
        draws = q.equal_draws(key, n)
        return draws.x, draws.log_q

    return jax.vmap(one)(posteriors, keys)


@eqx.filter_jit
def _told_apart(one: MixtureDistribution, key: PRNGKey) -> tuple[Array, Array]:
    """The weights of a stacked mixture, and how many of its components are distinct."""
    q = jax.tree.map(lambda leaf: leaf[0], one)
    return q.weights, q.distinct(key, FEWEST)


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
    log_prob, score = None, None
    for i, (value, gradient) in _blocks(full, flat):
        if log_prob is None or score is None:
            log_prob, score = np.empty(len(flat), value.dtype), np.empty_like(flat, gradient.dtype)
        log_prob[i : i + len(value)] = value
        score[i : i + len(value)] = np.asarray(gradient)[: len(value)]
    assert log_prob is not None and score is not None
    return log_prob.reshape(z.shape[:2]), score.reshape(z.shape)


def log_density(target: Target, z: np.ndarray) -> np.ndarray:
    """Log density (chains, n) on all rows at draws (chains, n, d); `scored` without the scores."""
    flat = z.reshape(-1, z.shape[-1])
    values = [value for _, (value, _) in _blocks(target.full(), flat)]
    return np.concatenate(values).reshape(z.shape[:2])


def _blocks(target: Target, flat: np.ndarray) -> Iterator[tuple[int, tuple[np.ndarray, Array]]]:
    """Place, log density and score of each block of draws; the last score may be filled up."""
    rows = BLOCK if target.dim <= rule.LARGE else rows_of(target, BLOCK)
    for i in range(0, len(flat), rows):
        block = flat[i : i + rows]
        n = len(block)
        if n < rows:
            block = np.concatenate([block, np.repeat(flat[:1], rows - n, axis=0)])
        value, score = _evaluate(target, jnp.asarray(block))
        yield i, (np.asarray(value)[:n], score)


def conclude(
    target: Target,
    algorithm: AbstractSampler | AbstractApproximator,
    key: PRNGKey,
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
        draw_key = address(key, Use.DRAW)
        z, log_prob, log_q, evidence = _judge_states(target, algorithm, trail, draw_key, draws)
    alive = int(np.sum(np.asarray(trail.carry.alive)))
    evidence += (rule.account(outcome, alive, trail.warmed + trail.taken),)
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


def _evenly(length: int, most: int) -> np.ndarray:
    """At most `most` of `length` places, evenly spaced."""
    return np.arange(0, length, -(-length // min(length, most)))


Judged = tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[Evidence, ...]]


def _judge_chains(target: Target, algorithm: AbstractSampler, trail: Trail) -> Judged:
    record = trail.record()
    chains = len(trail.carry.alive)
    if not record:
        none = Evidence("number of draws", 0.0, ">= 1", "failed", NO_DRAW)
        return np.zeros((chains, 0, target.dim)), np.zeros((chains, 0)), None, (none,)
    z = np.swapaxes(record["position"], 0, 1)
    log_prob = -np.swapaxes(record["loss"], 0, 1)
    most = SCORED_DRAWS
    if target.dim > rule.LARGE:
        most = min(most, max(1, MOST_SCORED // target.dim))
    few = _evenly(z.shape[0], max(4, most // z.shape[1]))
    kept = _evenly(z.shape[1], max(LEAST_SEEN, most // len(few)))
    seen = z[few[:, None], kept]
    lp, score = scored(target, seen)
    if not target.exact:
        log_prob = log_density(target, z)
    stats = {k.removeprefix("stats/"): v for k, v in record.items() if k.startswith("stats/")}
    hint = _chain_hint(algorithm, stats)
    names = target.coordinate_names()
    sample = rule.Sample(seen, lp, score, None, names, independent=False, hint=hint)
    evidence = rule.judge(sample)
    if not algorithm.uses_gradient:
        evidence = tuple(chain_evidence.or_jumps(e) for e in evidence)
    if np.isfinite(z).all():
        evidence += chain_evidence.mixing(z, names, blind=not algorithm.adjusted)
    if "diverging" in stats:
        count = int(np.sum(stats["diverging"]))
        told = chain_evidence.divergences if algorithm.adjusted else chain_evidence.refused
        evidence += (told(count, stats["diverging"].size),)
    if "energy" in stats and len(stats["energy"]) > 3:
        evidence += (chain_evidence.energy(np.swapaxes(stats["energy"], 0, 1)),)
    if "step_limit" in stats:
        evidence += chain_evidence.minibatch_steps(stats)
    if not algorithm.adjusted:
        halved = algorithm.bias_order is not None
        evidence += chain_evidence.unadjusted(sample, evidence, stats, halved)
    return z, log_prob, None, evidence


def _chain_hint(algorithm: AbstractSampler, stats: dict[str, np.ndarray]) -> str:
    """The usual cause when these chains are wrong."""
    if not algorithm.adjusted and not algorithm.exact_target:
        return (
            "Its error grows with the step size, and on minibatches with their noise: lower "
            "step_size, take a larger batch_size, or infer.control_variates(target, center)"
        )
    if not algorithm.adjusted:
        return (
            "This sampler has no acceptance test, so its error grows with its step size: lower it, "
            f"or use infer.{'MYMALA' if algorithm.proximal else 'MALA'}()"
        )
    if "diverging" in stats and np.any(stats["diverging"]):
        count, n = int(np.sum(stats["diverging"])), stats["diverging"].size
        return (
            f"{count} of {n} transitions diverged: reparametrize the model or lower the step size"
        )
    rate = float(np.mean(stats["acceptance_rate"])) if "acceptance_rate" in stats else 1.0
    if rate < 0.1:
        return f"Almost every proposal was refused (acceptance {rate:.2g}): a smaller step size"
    return "Run longer, with more warm-up"


def _judge_states(
    target: Target, algorithm: AbstractApproximator, trail: Trail, key: PRNGKey, draws: int
) -> Judged:
    stacked = _posteriors(algorithm, trail.carry.states)
    restarts = len(trail.carry.alive)
    best = 0 if algorithm.particles else best_restart(trail)
    stopping = LossSettled() if algorithm.stopping is None else algorithm.stopping
    record = trail.record_of(best)
    names = target.coordinate_names()
    hint = stopping.hint(record) or _state_hint(stacked, target)
    if isinstance(stacked, Particles):
        z, log_q = np.asarray(stacked.x), None
        log_prob, score = scored(target, z)
        first = rule.Sample(
            z[:1], log_prob[:1], score[:1], None, names, independent=True, hint=hint
        )
        evidence = rule.judge_particles(first, _at_rest(stopping, record), algorithm.weighs_modes)
    else:
        z, log_q = _fresh(stacked, key, restarts, draws)
        log_prob = log_density(target, z)
        one = jax.tree.map(lambda leaf: leaf[best : best + 1], stacked)
        evidence = _judge_distribution(target, one, key, names, hint)
        if isinstance(one, MixtureDistribution):
            evidence += (rule.components(*map(np.asarray, _told_apart(one, key))),)
            evidence += _rare_parts(one, z[best], names)
    if "stats/skipped_steps" in record:
        count = record["stats/skipped_steps"]
        evidence += (rule.skipped(int(count[-1]), trail.taken),)
    # Of one restart there is nothing to compare, and its draws may be large.
    compared = z if restarts > 1 else np.zeros((1, 1, 1))
    evidence += (
        stopping.evidence(record),
        rule.restarts(compared.mean(axis=1), compared.std(axis=1), names),
    )
    return z, log_prob, log_q, evidence


def _judge_distribution(
    target: Target, one: Posterior, key: PRNGKey, names: list[str], hint: str
) -> tuple[Evidence, ...]:
    """Judged on fresh draws of its own, however many the user keeps; more while undecided."""
    evidence: tuple[Evidence, ...] = ()
    if isinstance(one, AbstractDistribution) and one.discrete:
        z, log_q = _fresh(one, key, 1, FEWEST)
        assert log_q is not None
        return rule.judge_discrete(log_density(target, z), log_q, len(names))
    if len(names) > rule.LARGE and isinstance(one, AbstractDistribution):
        q = jax.tree.map(lambda leaf: leaf[0], one)
        stream = Stream(target, q, key)
        for n in (FEWEST, *MORE_DRAWS):
            if n > FEWEST and n * len(names) > MOST_SEEN:
                break
            stream.until(n)
            evidence = rule.judge_stream(stream, names, hint)
            if not rule.undecided(evidence):
                break
        return evidence
    first = min(max(FEWEST, 10 * len(names)), MOST)
    for n in (first, *(more for more in MORE_DRAWS if more > first)):
        z, log_q = _fresh(one, jax.random.fold_in(key, n), 1, n)
        log_prob, score = scored(target, z)
        sample = rule.Sample(z, log_prob, score, log_q, names, independent=True, hint=hint)
        evidence = rule.judge(sample) if log_q is not None else rule.judge_generated(sample)
        if not rule.undecided(evidence):
            break
    return evidence


def _rare_parts(one: MixtureDistribution, z: np.ndarray, names: list[str]) -> tuple[Evidence, ...]:
    sd = _known_sd(one)
    if sd is None or not np.isfinite(z).all() or len(z) < 2:
        return ()
    return (rule.rare_parts(np.asarray(sd[0], np.float64), z.astype(np.float64), names),)


@eqx.filter_jit
def _known_sd(stacked: MixtureDistribution) -> Array | None:
    def one(q: MixtureDistribution) -> Array | None:
        told = q.moments()
        return None if told is None else told[1].sd()

    return jax.vmap(one)(stacked)


def _at_rest(stopping: AbstractStopping, record: Record) -> bool:
    """Had the loss settled, however short the run, or did another rule end it?"""
    if isinstance(stopping, LossSettled):
        return stopping.came_to_rest(record)
    return bool(record) and stopping.look(record, 1) is Ending.CONVERGED


def settled_draws(algorithm: AbstractApproximator, trail: Trail, key: PRNGKey) -> np.ndarray:
    """1000 fresh draws (restarts, 1000, d) of the distributions that a run arrived at."""
    return _fresh(_posteriors(algorithm, trail.carry.states), key, len(trail.carry.alive), 1000)[0]


def _fresh(
    stacked: Posterior, key: PRNGKey, chains: int, n: int
) -> tuple[np.ndarray, np.ndarray | None]:
    assert isinstance(stacked, Fitted)
    x, log_q = _draw(stacked, jax.random.split(key, chains), n)
    return np.asarray(x), None if log_q is None else np.asarray(log_q)


def _state_hint(stacked: Posterior, target: Target) -> str:
    """The usual cause when an approximation of this kind is wrong."""
    if isinstance(stacked, DiagonalGaussian):
        return "A mean-field family ignores correlation between coordinates: try infer.FullRank()"
    if isinstance(stacked, Flow):
        return (
            "A flow needs many steps, each of many draws and not too long, and a start nearby: "
            "n_samples=64, optimizer=infer.optimizer(optax.adam, learning_rate=0.005) or less, and "
            "infer.RealNVP(base=gaussian.posterior) of a fit by infer.FBGVI() or infer.Laplace()"
        )
    if isinstance(stacked, Particles):
        n = stacked.x.shape[-2]
        return (
            f"The spread of {n} interacting particles in {target.dim} dimensions shrinks when they "
            "are few: take more particles, or more steps if the force has not died away"
        )
    if isinstance(stacked, AbstractGenerator):
        return "Its networks were trained too little or are too small: more steps, a greater width"
    if not target.exact:
        return "Minibatch noise moves the fit: take a smaller step, or a larger batch_size"
    return (
        "Take more steps if it has not converged; if it has, its shape cannot follow this "
        "posterior: try infer.NUTS()"
    )
