"""The compiled part of a run: some steps of every chain, recorded in a buffer."""

import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from infer.core.algorithm import (
    AbstractAmortizer,
    AbstractSampler,
    AbstractTunedSampler,
    Algorithm,
    Info,
)
from infer.core.keys import Use, address
from infer.core.problem import AbstractProblem
from infer.core.types import Count, Flag, PRNGKey, State


class Carry(eqx.Module):
    """All that a run must remember between steps; every leaf has a leading `chains` axis.

    Attributes:
        states: the algorithm's states.
        info: what the last accepted step showed, NaN before the first; None in a loaded bare trail.
        alive: False for a chain that met a non-finite value under the policy "stop".
        nonfinite: refused steps per chain.
        first: global step of the first refused step per chain, -1 if none.
    """

    states: State
    info: Info | None
    alive: Bool[Array, " chains"]
    nonfinite: Int[Array, " chains"]
    first: Int[Array, " chains"]


class Schedule(eqx.Module):
    """Which steps to take, as numbers, so that none of them compiles anything.

    Attributes:
        start: steps already taken in this phase; step i of a phase uses `fold_in(key, offset + i)`.
        count: steps to take now, a multiple of `thin` unless warming up.
        thin: the last of every `thin` steps is recorded.
        offset: global number of the first step of the phase.
        warmup: length of the warm-up phase.
        warming: is this the warm-up phase?
        skip: refuse a non-finite step and go on, instead of halting that chain.
    """

    start: Count
    count: Count
    thin: Count
    offset: Count
    warmup: Count
    warming: Flag
    skip: Flag


class Phase(enum.Enum):
    """What a program can do: one of the phases of a run, or either, as its schedule says."""

    WARMUP = "warmup"
    SAMPLING = "sampling"
    EITHER = "either"


def phase_of(algorithm: Algorithm, warming: bool) -> Phase:
    """The program for this phase; the same one for both where warm-up is a step and tuning."""
    if isinstance(algorithm, AbstractTunedSampler):
        return Phase.EITHER
    return Phase.WARMUP if warming else Phase.SAMPLING


def record_of(algorithm: Algorithm, state: State, info: Info) -> dict[str, Array]:
    """What is kept of one step: loss, statistics, and a sampler's position."""
    record = {"loss": info.loss} | {f"stats/{name}": v for name, v in info.stats.items()}
    if isinstance(algorithm, AbstractSampler):
        record["position"] = algorithm.position(state)
    return record


def record_shapes(algorithm: Algorithm, carry: Carry) -> dict[str, jax.ShapeDtypeStruct]:
    """What is kept of one step of all chains, as shapes."""
    record = jax.vmap(lambda state, info: record_of(algorithm, state, info))
    return eqx.filter_eval_shape(record, carry.states, carry.info)


def _finite(algorithm: Algorithm, state: State) -> Flag:
    """Is the answer that a state holds finite: a position, or the parameters of a posterior?

    Nothing else is looked at: an optimizer may well keep an infinity of its own.
    """
    if isinstance(algorithm, AbstractSampler):
        answer: Any = algorithm.position(state)
    elif isinstance(algorithm, AbstractAmortizer):
        answer = algorithm.model(state)
    else:
        answer = algorithm.posterior(state)
    leaves = [leaf for leaf in jax.tree.leaves(answer) if eqx.is_inexact_array(leaf)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def every(f: Callable[..., Any], alone: bool) -> Callable[..., Any]:
    """`f` over the leading axis of its arguments; without `vmap` where that axis has one element.

    The products of one chain then stay plain matrix products and its conditions stay branches, of
    which one is taken: under `vmap` both are.
    """
    if not alone:
        return jax.vmap(f)

    def only(*arguments: Any) -> Any:
        answer = f(*jax.tree.map(lambda leaf: leaf[0], arguments))
        return jax.tree.map(lambda leaf: leaf[None], answer)

    return only


def _blank(shape: jax.ShapeDtypeStruct) -> Array:
    missing = jnp.nan if jnp.issubdtype(shape.dtype, jnp.inexact) else 0
    return jnp.full(shape.shape, missing, shape.dtype)


@eqx.filter_jit
def begin(
    algorithm: Algorithm, problem: AbstractProblem, keys: Key[Array, " chains"], starts: Any
) -> Carry:
    """The first carry: `init` of every chain at its own start."""

    def first(key: PRNGKey, start: Any) -> State:
        placed: Any = problem.at(start)
        return algorithm.init(address(key, Use.INIT), placed)

    states = every(first, keys.shape[0] == 1)(keys, starts)
    return _fresh(algorithm, problem, keys, states)


@eqx.filter_jit
def carry_on(
    algorithm: Algorithm, problem: AbstractProblem, keys: Key[Array, " chains"], states: State
) -> Carry:
    """A carry that starts from the states of an earlier run, with nothing held against them."""
    return _fresh(algorithm, problem, keys, states)


def _fresh(
    algorithm: Algorithm, problem: AbstractProblem, keys: Key[Array, " chains"], states: State
) -> Carry:
    sample: Any = problem

    def shown(key: PRNGKey, state: State) -> Info:
        return algorithm.step(key, sample, state)[1]

    shapes = jax.eval_shape(jax.vmap(shown), keys, states)
    return Carry(
        states,
        jax.tree.map(_blank, shapes),
        jax.vmap(lambda state: _finite(algorithm, state))(states),
        jnp.zeros(keys.shape[0], jnp.int32),
        jnp.full(keys.shape[0], -1, jnp.int32),
    )


@eqx.filter_jit
def advance(
    algorithm: Algorithm,
    problem: AbstractProblem,
    keys: Key[Array, " chains"],
    carry: Carry,
    schedule: Schedule,
    rows: int,
    phase: Phase,
) -> tuple[Carry, dict[str, Array], Int[Array, " chains"]]:
    """Take `schedule.count` steps of every chain and record them in a buffer of `rows` rows.

    A `fori_loop` with a dynamic trip count: any number of steps runs the same compiled program,
    so neither chunk size nor the total changes a bit of the result. Returns the carry, the
    buffer (rows, chains, ...), and the gradients spent per chain. Of the warm-up nothing is kept:
    its program has no buffer, that of either phase leaves in it what is not to be read. A refused
    step leaves state and record as the last accepted one made them.
    """

    def one_chain(key: Array, state: State, i: Array) -> tuple[State, Info]:
        step_key = jax.random.fold_in(key, schedule.offset + i)
        move_key = step_key
        sample: Any = problem
        if not problem.exact:
            rows_key, move_key = jax.random.split(step_key)
            sample = problem.subsample(rows_key)
        if phase is Phase.WARMUP:
            assert isinstance(algorithm, AbstractSampler)
            return algorithm.adapt(move_key, sample, state, i, schedule.warmup)
        state, info = algorithm.step(move_key, sample, state)
        if phase is Phase.EITHER:
            assert isinstance(algorithm, AbstractTunedSampler)
            tune = algorithm.tune
            state = jax.lax.cond(
                schedule.warming,
                lambda: tune(state, info, i, schedule.warmup),
                lambda: state,
            )
        return state, info

    def body(j: Array, loop: tuple[Carry, dict[str, Array], Array]):
        carry, buffer, gradients = loop
        i = schedule.start + j
        move = every(lambda key, state: one_chain(key, state, i), alone)
        states, info = move(keys, carry.states)
        spent = jnp.where(carry.alive, info.gradients, 0)  # a halted chain spends none
        ok = jnp.isfinite(info.loss) & every(lambda s: _finite(algorithm, s), alone)(states)
        take = ok & carry.alive
        refused = ~ok & carry.alive

        def select(new: Array, old: Array, where: Array) -> Array:
            return jnp.where(where.reshape(where.shape + (1,) * (new.ndim - 1)), new, old)

        states = jax.tree.map(lambda new, old: select(new, old, take), states, carry.states)
        if phase is Phase.WARMUP:
            info = carry.info
        else:
            keep = take & ~schedule.warming
            info = jax.tree.map(lambda new, old: select(new, old, keep), info, carry.info)
        step = (schedule.offset + i).astype(jnp.int32)
        carry = Carry(
            states,
            info,
            take | (carry.alive & schedule.skip),
            carry.nonfinite + refused.astype(jnp.int32),
            jnp.where(refused & (carry.first < 0), step, carry.first),
        )
        if phase is not Phase.WARMUP:
            slot = jax.lax.div(i, schedule.thin) - jax.lax.div(schedule.start, schedule.thin)
            record = every(lambda s, f: record_of(algorithm, s, f), alone)(states, info)
            buffer = jax.tree.map(lambda b, v: b.at[slot].set(v), buffer, record)
        return carry, buffer, gradients + spent.astype(gradients.dtype)

    def blank() -> dict[str, Array]:
        shapes = record_shapes(algorithm, carry)
        return {k: jnp.zeros((rows, *s.shape), s.dtype) for k, s in shapes.items()}

    alone = keys.shape[0] == 1
    gradients = jnp.zeros(keys.shape[0], jnp.int32)
    buffer = {} if phase is Phase.WARMUP else blank()
    return jax.lax.fori_loop(0, schedule.count, body, (carry, buffer, gradients))


def ahead(*arguments: Any) -> jax.stages.Compiled:
    """The program that `advance` runs at such arguments, compiled and kept for that call."""
    lowered: Any = advance
    return lowered.lower(*arguments).compile().compiled
