"""The user's entry: fit a problem with an algorithm, and judge the answer."""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack, overload

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key
from rich.console import Console

from infer.amortized_judgement import conclude_amortized
from infer.amortized_result import AmortizedResult
from infer.core.algorithm import (
    AbstractAmortizer,
    AbstractApproximator,
    AbstractSampler,
    Algorithm,
)
from infer.core.composite import check_composite
from infer.core.data import Data
from infer.core.keys import Use, address, as_key
from infer.core.outcome import Outcome
from infer.core.problem import AbstractProblem
from infer.core.target import Target
from infer.core.types import PRNGKey
from infer.judgement import conclude
from infer.planning import at_least_one, check_addresses, check_thin, plan_run
from infer.result import Result
from infer.run.checkpoint import (
    Checkpointer,
    check_run,
    describe,
    fingerprint,
    identify,
    same_target,
    unpack,
)
from infer.run.chunk import carry_on
from infer.run.interrupt import CtrlC
from infer.run.layout import lay_out
from infer.run.loop import Callback, Plan, Trail, run, start
from infer.run.progress import ProgressBar
from infer.run.store import check_writable, read
from infer.starts import fold_in_chains, starting_points

DEFAULT_DRAWS = 1000


class Options(TypedDict, total=False):
    """What `fit` takes beside problem, algorithm and key."""

    steps: int | None
    warmup: int | None
    draws: int | None
    thin: int
    chains: int | None
    init: Any
    chunk: int | None
    mesh: Mesh | None
    progress: bool
    callbacks: Sequence[Callback]
    checkpoint: str | os.PathLike[str] | None
    resume: str | os.PathLike[str] | None
    on_nonfinite: str
    max_seconds: float | int | None
    moments: bool


@overload
def fit(
    problem: Data,
    algorithm: AbstractAmortizer,
    *,
    key: int | PRNGKey,
    **options: Unpack[Options],
) -> AmortizedResult: ...


@overload
def fit(
    problem: AbstractProblem,
    algorithm: AbstractSampler | AbstractApproximator,
    *,
    key: int | PRNGKey,
    **options: Unpack[Options],
) -> Result: ...


def fit(
    problem: AbstractProblem,
    algorithm: Algorithm,
    *,
    key: int | PRNGKey,
    steps: int | None = None,
    warmup: int | None = None,
    draws: int | None = None,
    thin: int = 1,
    chains: int | None = None,
    init: Any = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    on_nonfinite: str = "stop",
    max_seconds: float | int | None = None,
    moments: bool = False,
) -> Result | AmortizedResult:
    """Fit a problem with an algorithm and return draws, history and a verdict.

    Ctrl-C ends a run after its chunk with the result of the steps until then; a second one raises.
    Step i of chain c uses the key `fold_in(fold_in(key, c), i)`, so neither chunk size, progress,
    total steps nor resuming changes a bit of the answer.

    Args:
        problem: a target, from `infer.from_numpyro` or `infer.from_log_density`; for a `VAE`
            rows, `infer.Data(x)`.
        algorithm: any method, e.g. `infer.NUTS()`, `infer.VI()`, `infer.SVGD()`, `infer.VAE(...)`.
        key: a PRNG key, or an integer from which one is made.
        steps: recorded iterations, >= 1; the algorithm's default if None.
        warmup: iterations of adaptation before them, >= 0 (samplers only).
        draws: draws per chain of the answer. For a sampler the same as `steps=draws * thin`; for
            a fitted distribution, how many draws of it are taken (default 1000).
        thin: keep every thin-th iteration, >= 1; `steps` must be a multiple of it.
        chains: independent chains (samplers, default 4) or restarts (others, default 1).
        init: where to start: parameters by name (on their supports, the same for all chains or
            with a leading chain axis; those left out start as without it), or an earlier result: a
            warmed-up one of the same target and algorithm is carried on without warming up, of
            another one the draws are the starts, by name. Beside `resume` it only settles
            whether there is a warm-up.
        chunk: kept iterations between looks at the run; chosen by time and memory if None.
        mesh: devices to lay the run out on, with one axis: "chains", "particles", "data", or
            "samples" for the draws that each step of `VI` takes.
        progress: show a bar where standard error is a terminal. Never changes the answer.
        callbacks: called with a `Progress` after every chunk; one that returns something true
            ends the run.
        checkpoint: file to keep up to date while running, in at most a tenth of the time.
        resume: file of an earlier run of the same target, algorithm and key, to carry on.
        on_nonfinite: "stop" halts a chain at its first step that is not finite, keeping its last
            finite state; "skip" refuses such steps and goes on. Both are counted in the outcome.
        max_seconds: stop this long after the first step was asked for, compilation included,
            keeping what there is.
        moments: take in every step of a sampler, kept or not, in the means and standard deviations
            that `result.moments()` then gives. With `steps=1_000_000, thin=1000` the answer has
            1000 draws per chain and moments of a million.

    Returns:
        A `Result`, or of a `VAE` an `AmortizedResult`; it prints its verdict here unless that is
            "ok".

    Raises:
        TypeError, ValueError: for wrong use, before anything is compiled, with what to write.
        OSError: where `checkpoint` cannot be written, before anything is compiled; one that
            cannot be written later is warned of, and the run goes on.
        MemoryError: where the run cannot fit into memory, before its first step, with what to set.
    """
    run_key = as_key(key)
    _check_kind(problem, algorithm)
    assert isinstance(problem, Target | Data)
    if isinstance(algorithm, AbstractAmortizer):
        assert isinstance(problem, Data)
        algorithm = algorithm.ready(problem)
    source = init if isinstance(init, Result | AmortizedResult) else None
    carried = source is not None and _carries_on(source, problem, algorithm)
    plan = plan_run(
        algorithm, steps, warmup, draws, thin, chunk, on_nonfinite, max_seconds, carried, moments
    )
    if carried and chains is None:
        assert source is not None
        chains = len(source.trail.carry.alive)
    n_chains = at_least_one("chains", algorithm.default_chains if chains is None else chains)
    particles = isinstance(algorithm, AbstractApproximator) and algorithm.particles
    if isinstance(problem, Target) and not particles:
        _warn_if_tiny_on_gpu(problem, n_chains)
    if checkpoint is not None:
        check_writable(checkpoint)
    keys = fold_in_chains(address(run_key, Use.RUN), n_chains)
    meta = _meta(problem, algorithm, run_key, n_chains, plan)
    if resume is not None:
        trail = _resumed(resume, meta, problem, algorithm, keys)
    elif carried:
        assert source is not None
        if len(source.trail.carry.alive) != n_chains:
            have = len(source.trail.carry.alive)
            raise ValueError(f"the result in init= has {have} chains; leave out chains=.")
        _check_new_key(source, run_key)
        trail = Trail(carry_on(algorithm, problem, keys, source.trail.carry.states))
    else:
        starts = None
        if isinstance(problem, Target):
            starts = starting_points(problem, address(run_key, Use.START), n_chains, init)
        elif init is not None:
            raise ValueError(
                f"{type(algorithm).__name__} starts from its networks, or from an earlier result "
                "of the same rows and settings; leave out init=."
            )
        trail = start(algorithm, problem, keys, starts)
    if mesh is not None:
        trail.carry, problem = lay_out(mesh, algorithm, trail.carry, problem)
    if checkpoint is not None:
        callbacks = [*callbacks, Checkpointer(checkpoint, meta)]
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        return _go(problem, algorithm, run_key, keys, trail, plan, draws, progress, callbacks)


def extend(
    result: Result | AmortizedResult,
    *,
    steps: int,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    chunk: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    max_seconds: float | int | None = None,
) -> Result | AmortizedResult:
    """Carry a result on by `steps` recorded iterations, all of them; see `Result.extend`."""
    if result.problem is None or result.algorithm is None:
        raise ValueError("extend needs infer.load(path, target, algorithm).")
    at_least_one("steps", steps)
    if checkpoint is not None:
        check_writable(checkpoint)
    total = result.trail.taken + steps
    check_addresses(result.plan.warmup, total)
    plan = dataclasses.replace(
        result.plan, steps=total, chunk=chunk, max_seconds=max_seconds, early=False
    )
    check_thin(steps, plan.thin)
    trail = dataclasses.replace(result.trail)
    n_chains = len(trail.carry.alive)
    keys = fold_in_chains(address(result.key, Use.RUN), n_chains)
    if checkpoint is not None:
        meta = _meta(result.problem, result.algorithm, result.key, n_chains, plan)
        callbacks = [*callbacks, Checkpointer(checkpoint, meta)]
    draws = None
    if isinstance(result, Result) and not isinstance(result.algorithm, AbstractSampler):
        draws = result.z.shape[1]
    return _go(
        result.problem, result.algorithm, result.key, keys, trail, plan, draws, progress, callbacks
    )


def _go(
    problem: Target | Data,
    algorithm: Algorithm,
    key: PRNGKey,
    keys: Key[Array, " chains"],
    trail: Trail,
    plan: Plan,
    draws: int | None,
    progress: bool,
    callbacks: Sequence[Callback],
) -> Result | AmortizedResult:
    savers = [callback for callback in callbacks if isinstance(callback, Checkpointer)]
    with CtrlC() as ctrl_c:
        try:
            try:
                with ProgressBar(type(algorithm).__name__, progress) as bar:
                    outcome = run(algorithm, problem, keys, trail, plan, [bar, *callbacks, ctrl_c])
            finally:
                for saver in savers:
                    saver.save(trail)
            if ctrl_c.insisted:
                raise KeyboardInterrupt
            result = _concluded(problem, algorithm, key, plan, trail, outcome, draws)
        except Exception as error:
            for saver in savers:
                error.add_note(f"The run failed; {saver.kept()}")
            raise
        if result.verdict.status != "ok":
            console = Console(stderr=True, soft_wrap=True)
            told = f"{type(algorithm).__name__} {result.verdict}"
            console.print(told, markup=False, highlight=False)
        return result


def _concluded(
    problem: Target | Data,
    algorithm: Algorithm,
    key: PRNGKey,
    plan: Plan,
    trail: Trail,
    outcome: Outcome,
    draws: int | None,
) -> Result | AmortizedResult:
    if isinstance(algorithm, AbstractAmortizer):
        assert isinstance(problem, Data)
        return conclude_amortized(problem, algorithm, key, plan, trail, outcome)
    assert isinstance(problem, Target)
    draws = DEFAULT_DRAWS if draws is None else draws
    return conclude(problem, algorithm, key, plan, trail, outcome, draws)


def _check_kind(problem: Any, algorithm: Any) -> None:
    if isinstance(algorithm, type):
        raise TypeError(
            f"the algorithm must be an object, got the class; write infer.{algorithm.__name__}()."
        )
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"fit needs an algorithm such as infer.NUTS(), got {algorithm!r}.")
    if isinstance(algorithm, AbstractAmortizer):
        if not isinstance(problem, Data):
            raise TypeError(
                f"{type(algorithm).__name__} fits rows, got {type(problem).__name__}; write "
                "infer.Data(x, batch_size=64), or for the posterior of one target infer.VI()."
            )
        return
    if isinstance(problem, Data):
        raise TypeError(
            f"{type(algorithm).__name__} fits a posterior density, got rows; write infer.VAE(...) "
            "for a model of the rows, or infer.from_numpyro(model, ...) for the posterior of one."
        )
    if not isinstance(problem, Target):
        raise TypeError(
            f"{type(algorithm).__name__} fits a target, got {type(problem).__name__}; write "
            "infer.from_numpyro(model, ...) or infer.from_log_density(log_density, example)."
        )
    if algorithm.exact_target and not problem.exact:
        raise ValueError(
            f"{type(algorithm).__name__} needs the density on all rows, but this target takes "
            f"minibatches (batch_size={problem.batch_size}). Write infer.fit(target.full(), ...), "
            "or use a method that allows minibatches: infer.VI(), infer.SGLD(), infer.SVGD()."
        )
    sampler = isinstance(algorithm, AbstractSampler)
    check_composite(problem, algorithm, sampler and (algorithm.adjusted or algorithm.proximal))
    if sampler:
        algorithm.check(problem)


def _warn_if_tiny_on_gpu(target: Target, chains: int) -> None:
    data = sum(leaf.size for leaf in jax.tree.leaves(target.model) if eqx.is_array(leaf))
    if jax.default_backend() == "gpu" and target.dim * chains < 4000 and data < 100_000:
        warnings.warn(
            f"a model of {target.dim} coordinates and little data is usually slower on a GPU than "
            'on a CPU; to use the CPU write jax.config.update("jax_platforms", "cpu") before '
            "anything else.",
            stacklevel=3,
        )


def _carries_on(
    result: Result | AmortizedResult, problem: Target | Data, algorithm: Algorithm
) -> bool:
    """Is this the same kind of run, so that its states can go on as they are?"""
    if result.problem is None or result.algorithm is None:
        return False
    if result.trail.warmed < result.plan.warmup or describe(algorithm) != result.settings:
        return False
    return same_target(fingerprint(result.problem), fingerprint(problem))


def _check_new_key(result: Result | AmortizedResult, key: PRNGKey) -> None:
    """A run carried on with the key it had would see the same noise again."""
    words = jax.random.key_data(key).tolist()
    if words in [jax.random.key_data(old).tolist() for old in result.keys]:
        raise ValueError(
            "the result in init= was run with this very key, so its noise would repeat; write "
            "another key, or result.extend(steps=...) for one longer run."
        )


def _meta(
    problem: Target | Data, algorithm: Algorithm, key: PRNGKey, chains: int, plan: Plan
) -> dict[str, Any]:
    name, settings = type(algorithm).__name__, describe(algorithm)
    words = np.asarray(jax.random.key_data(key)).tolist()
    return identify(name, settings, fingerprint(problem), words, chains, plan)


def _resumed(
    path: str | os.PathLike[str],
    meta: dict[str, Any],
    problem: Target | Data,
    algorithm: Algorithm,
    keys: Key[Array, " chains"],
) -> Trail:
    """The trail of a file, after making sure that it belongs to this very run."""
    arrays, stored = read(path)
    fields = ("settings", "key", "chains", "warmup", "thin", "skip_nonfinite", "moments")
    check_run(path, stored, meta, fields)
    return unpack(arrays, stored["trail"], algorithm, problem, keys)
