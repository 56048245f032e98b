"""The only run loop: the host's side of it, between compiled chunks."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from infer.core.algorithm import AbstractSampler, Algorithm
from infer.core.outcome import Ending, Outcome
from infer.core.problem import AbstractProblem
from infer.core.stopping import AbstractStopping
from infer.run.chunk import Carry, Phase, Schedule, advance, ahead, begin, phase_of
from infer.run.memory import HELPS, Need, check_memory, program_bytes, ran_out, row_bytes, tell
from infer.run.moments import Streamed, stream

BUFFER_BYTES = 64 * 2**20  # one chunk's records on the device
BUFFER_ROWS = 512  # of positions
BUFFER_SCALARS = 2048  # rows that hold no positions
SECONDS_PER_CHUNK = 0.5  # what the loop aims at when `chunk` is left to it


@dataclasses.dataclass
class Trail:
    """A run so far: everything needed to look at it, to go on with it, or to save it.

    Attributes:
        carry: states of all chains.
        warmed: warm-up iterations done.
        taken: recorded iterations done, before thinning.
        chunks: what was recorded, by name, each (rows, chains, ...).
        gradients: gradients of the log density spent, all chains together.
        seconds: time spent running compiled steps.
        compile_seconds: time spent compiling them.
        moments: of every step, kept or not, where the plan asks for them.
    """

    carry: Carry
    warmed: int = 0
    taken: int = 0
    chunks: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    gradients: int = 0
    seconds: float = 0.0
    warmup_seconds: float = 0.0
    compile_seconds: float = 0.0
    moments: Streamed | None = None

    def record(self) -> dict[str, np.ndarray]:
        """All records so far, by name, each (rows, chains, ...); joined once and kept so."""
        if len(self.chunks) > 1:
            joined = {k: np.concatenate([c[k] for c in self.chunks]) for k in self.chunks[0]}
            self.chunks = [joined]
        return self.chunks[0] if self.chunks else {}

    def record_of(self, chain: int) -> dict[str, np.ndarray]:
        """All records so far of one chain, by name, each (rows, ...)."""
        return {name: values[:, chain] for name, values in self.record().items()}

    def losses(self) -> np.ndarray:
        """Recorded losses (rows, chains)."""
        return self.record().get("loss", np.zeros((0, len(self.carry.alive))))


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a run is to go; see `infer.fit` for the meaning of each entry."""

    warmup: int
    steps: int
    thin: int = 1
    chunk: int | None = None
    skip_nonfinite: bool = False
    max_seconds: float | int | None = None
    moments: bool = False  # of every step, taken on the host, where thinning then happens too
    early: bool = True  # may the algorithm's own rule end the run?


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a callback sees after every chunk.

    Attributes:
        phase: "warmup" or "steps".
        step: iterations done in this phase.
        total: iterations planned for this phase.
        loss: last recorded loss per chain; empty during warm-up and where nothing was kept.
        trail: the whole run so far, to be read and not changed.
    """

    phase: str
    step: int
    total: int
    loss: np.ndarray
    trail: Trail


Callback = Callable[[Progress], Any]


def start(
    algorithm: Algorithm, problem: AbstractProblem, keys: Key[Array, " chains"], starts: Any
) -> Trail:
    """A run of no steps yet."""
    clock = time.perf_counter()
    carry = jax.block_until_ready(begin(algorithm, problem, keys, starts))
    return Trail(carry, compile_seconds=time.perf_counter() - clock)


def run(
    algorithm: Algorithm,
    problem: AbstractProblem,
    keys: Key[Array, " chains"],
    trail: Trail,
    plan: Plan,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Carry a trail on until its plan is done, its rule fires, or something stops it.

    The trail is changed in place, chunk by chunk, so that whatever stops the run, all that was
    done until then is kept. A callback stops the run by returning True; Ctrl-C by being pressed.
    """
    deadline = None if plan.max_seconds is None else time.perf_counter() + plan.max_seconds
    ending = Ending.FINISHED
    try:
        _prepare(algorithm, problem, keys, trail, plan)
        for warming in (True, False):
            ending = _phase(algorithm, problem, keys, trail, plan, callbacks, deadline, warming)
            if ending is not Ending.FINISHED:
                break
    except KeyboardInterrupt:
        ending = Ending.INTERRUPTED
    nonfinite, first = np.asarray(trail.carry.nonfinite), np.asarray(trail.carry.first)
    if ending is Ending.NONFINITE:
        _cut(trail, max(0, int(first.max()) - plan.warmup), plan.thin)
    return Outcome(ending, trail.taken, tuple(map(int, nonfinite)), tuple(map(int, first)))


def _prepare(
    algorithm: Algorithm,
    problem: AbstractProblem,
    keys: Key[Array, " chains"],
    trail: Trail,
    plan: Plan,
) -> None:
    """Compile what is to run, and refuse what cannot fit into memory before its first step."""
    clock = time.perf_counter()
    rows = _rows(algorithm, trail, plan)
    left = {True: plan.warmup - trail.warmed, False: plan.steps - trail.taken}
    schedule, program = _schedule(0, 0, 1, plan, False), 0
    for phase in dict.fromkeys(phase_of(algorithm, w) for w in left if left[w] > 0):
        arguments = (algorithm, problem, keys, trail.carry, schedule, rows, phase)
        program = max(program, program_bytes(ahead(*arguments)))
    store = row_bytes(algorithm, trail.carry) * (left[False] + plan.steps) // plan.thin
    devices = list(trail.carry.alive.sharding.device_set)
    check_memory(Need(program, store), devices, algorithm, rows)
    trail.compile_seconds += time.perf_counter() - clock


def _schedule(start: int, count: int, thin: int, plan: Plan, warming: bool) -> Schedule:
    offset = 0 if warming else plan.warmup
    numbers: Any = jnp.asarray([start, count, thin, offset, plan.warmup], jnp.int32)
    flags: Any = jnp.asarray(warming), jnp.asarray(plan.skip_nonfinite)
    return Schedule(*numbers, *flags)


def _cut(trail: Trail, taken: int, thin: int) -> None:
    """Forget what was recorded after the last chain had halted, whatever the chunk size."""
    trail.chunks = [{name: values[: taken // thin] for name, values in trail.record().items()}]
    if not trail.losses().size:
        trail.chunks = []
    trail.taken = taken


def _phase(
    algorithm: Algorithm,
    problem: AbstractProblem,
    keys: Key[Array, " chains"],
    trail: Trail,
    plan: Plan,
    callbacks: Sequence[Callback],
    deadline: float | None,
    warming: bool,
) -> Ending:
    total = plan.warmup if warming else plan.steps
    thin = 1 if warming or plan.moments else plan.thin
    rows = _rows(algorithm, trail, plan)
    rule = None if isinstance(algorithm, AbstractSampler) else algorithm.stopping
    rule = rule if plan.early else None
    done = trail.warmed if warming else trail.taken
    if done >= total:
        return Ending.FINISHED
    size = rows if plan.chunk is not None else min(rows, 16)
    phase = phase_of(algorithm, warming)

    def go(count: int) -> float:
        schedule = _schedule(done, count, thin, plan, warming)
        clock = time.perf_counter()
        carry, buffer, gradients = jax.block_until_ready(
            advance(algorithm, problem, keys, trail.carry, schedule, rows, phase)
        )
        seconds = time.perf_counter() - clock
        if count == 0:
            return seconds
        changes: dict[str, Any] = {
            "carry": carry,
            "gradients": trail.gradients + int(np.sum(gradients)),
        }
        if warming:
            changes |= {"warmed": done + count, "warmup_seconds": trail.warmup_seconds + seconds}
        else:
            kept = {k: np.asarray(v)[: count // thin] for k, v in buffer.items()}
            if plan.moments:
                changes["moments"] = stream(problem, trail.moments, buffer["position"], count)
                first = plan.thin - 1 - done % plan.thin
                kept = {k: v[first :: plan.thin] for k, v in kept.items()}
            changes |= {"taken": done + count, "seconds": trail.seconds + seconds}
            changes["chunks"] = [*trail.chunks, kept]
        vars(trail).update(changes)  # in one go: Ctrl-C finds a trail before or after, not between
        return seconds

    new = True  # has the program not run yet?
    while done < total:
        limit = total
        if rule is not None:
            limit = min(limit, (done // rule.looks_at(thin) + 1) * rule.looks_at(thin))
        count = min(size * thin, limit - done)
        try:
            if new:
                trail.compile_seconds += go(0)  # zero steps of the real program
            seconds = go(count)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not ran_out(error):
                raise
            buffered = phase is not Phase.WARMUP
            if not buffered or rows == 1 or rows * row_bytes(algorithm, trail.carry) < HELPS:
                tell(algorithm, rows, done, error)
                return Ending.OUT_OF_MEMORY
            rows, new = rows // 2, True  # another program, the same steps
            size = min(size, rows)
            continue
        new = False
        done += count
        if plan.chunk is None:
            wanted = int(SECONDS_PER_CHUNK / max(seconds / count, 1e-9)) // thin
            size = max(1, min(rows, wanted, 8 * size))
        ending = _look(trail, plan, callbacks, deadline, rule, warming, done, total)
        if ending is not None:
            return ending
    return Ending.FINISHED


def _look(
    trail: Trail,
    plan: Plan,
    callbacks: Sequence[Callback],
    deadline: float | None,
    rule: AbstractStopping | None,
    warming: bool,
    done: int,
    total: int,
) -> Ending | None:
    """Between chunks: tell the callbacks, then see whether anything ends the run here."""
    kept = [] if warming else trail.chunks[-1]["loss"]
    loss = kept[-1] if len(kept) else np.zeros(0)
    progress = Progress("warmup" if warming else "steps", done, total, loss, trail)
    if any([bool(callback(progress)) for callback in callbacks]):
        return Ending.CALLBACK
    if not np.any(np.asarray(trail.carry.alive)):
        return Ending.NONFINITE
    if rule is not None and done % rule.looks_at(plan.thin) == 0:
        chains = np.flatnonzero(np.asarray(trail.carry.alive))
        endings = [rule.look(trail.record_of(int(c)), plan.thin) for c in chains]
        if None not in endings:
            gave_up = Ending.GAVE_UP in endings
            return Ending.GAVE_UP if gave_up else Ending.CONVERGED
    if deadline is not None and time.perf_counter() > deadline:
        return Ending.OUT_OF_BUDGET
    return None


def _rows(algorithm: Algorithm, trail: Trail, plan: Plan) -> int:
    """Rows of a chunk's buffer: from shapes alone, so that the program is the same every time."""
    if plan.chunk is not None:
        return plan.chunk
    if not isinstance(algorithm, AbstractSampler):
        return BUFFER_SCALARS
    position = jax.eval_shape(jax.vmap(algorithm.position), trail.carry.states)
    return max(1, min(BUFFER_ROWS, BUFFER_BYTES // (position.size * position.dtype.itemsize)))
