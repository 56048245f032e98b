"""Results as files."""

import dataclasses
import os
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from infer.amortized_judgement import conclude_amortized
from infer.amortized_result import AmortizedResult
from infer.core.algorithm import AbstractAmortizer, AbstractApproximator, AbstractSampler, Algorithm
from infer.core.data import Data
from infer.core.evidence import Evidence, Verdict
from infer.core.outcome import Ending, Outcome
from infer.core.target import Labels, Target
from infer.core.types import PRNGKey
from infer.fit import DEFAULT_DRAWS
from infer.judgement import conclude
from infer.result import Result, Timings
from infer.run.checkpoint import (
    check_run,
    check_target,
    describe,
    fingerprint,
    identify,
    pack,
    trail_of,
    under,
    unpack,
)
from infer.run.chunk import Carry
from infer.run.loop import Plan, Trail
from infer.run.store import read, write


def save(result: Result, path: str | os.PathLike[str]) -> None:
    """Write a result to one file: draws, history, verdict and the states of the run.

    The file is written atomically, carries a checksum, and is also a checkpoint: `infer.fit(...,
    resume=path)` carries the run on. Data and model are not in it.
    """
    arrays, numbers = pack(result.trail)
    answer = {"z": result.z, "log_prob": result.log_prob, "log_q": result.log_q}
    arrays |= {f"answer/{name}": x for name, x in answer.items() if x is not None}
    arrays |= {f"named/{name}": x for name, x in result.draws().items()}
    arrays |= {f"coords/{name}": _plain(x) for name, x in result.labels.coords.items()}
    names = {"coordinate_names": result.coordinate_names, "dims": result.labels.dims}
    meta, report = _told(result)
    write(path, arrays, meta | {"trail": numbers, "result": report | names})


def save_amortized(result: AmortizedResult, path: str | os.PathLike[str]) -> None:
    """Write the result of a fit to rows to one file: history, verdict, and the states of the run.

    Like `save` it is atomic, checksummed and a checkpoint; the rows are not in it.
    """
    arrays, numbers = pack(result.trail)
    meta, report = _told(result)
    write(path, arrays, meta | {"trail": numbers, "result": report})


def _told(result: Result | AmortizedResult) -> tuple[dict[str, Any], dict[str, Any]]:
    """What makes the run the run it is, and what became of it."""
    words = [np.asarray(jax.random.key_data(key)).tolist() for key in result.keys]
    meta = identify(
        result.algorithm_name,
        result.settings,
        identity_of(result),
        words if len(words) > 1 else words[0],
        len(result.trail.carry.alive),
        result.plan,
    )
    report = {
        "keys": words,
        "key_type": str(jax.random.key_impl(result.key)),
        "chunk": result.plan.chunk,
        "max_seconds": result.plan.max_seconds,
        "outcome": dataclasses.asdict(result.outcome) | {"ending": result.outcome.ending.name},
        "verdict": dataclasses.asdict(result.verdict),
        "timings": dataclasses.asdict(result.timings),
        "made": result.made,
    }
    return meta, report


@overload
def load(
    path: str | os.PathLike[str], target: Data, algorithm: AbstractAmortizer | None = None
) -> AmortizedResult: ...


@overload
def load(
    path: str | os.PathLike[str],
    target: Target | None = None,
    algorithm: AbstractSampler | AbstractApproximator | None = None,
) -> Result: ...


def load(
    path: str | os.PathLike[str],
    target: Target | Data | None = None,
    algorithm: Algorithm | None = None,
) -> Result | AmortizedResult:
    """Read a result that `Result.save` wrote.

    `load(path)` alone gives draws, history, summary and verdict. The target makes the pointwise
    log likelihood and predictions possible; target and algorithm together the posterior and
    `extend`, and let the file be a checkpoint of an unfinished run, which is then judged. Of a fit
    to rows, `load(path, data, algorithm)` gives an `AmortizedResult`, whose parameters need both.

    Args:
        path: the file.
        target: what was fitted, rows for a `VAE`; refused if it is another.
        algorithm: what it was fitted with; refused if it has other settings.

    Returns:
        A `Result`; an `AmortizedResult` where the file is that of a fit to rows.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is foreign, damaged, or of another run; saying which.
        TypeError: an algorithm for rows without the rows.
    """
    if algorithm is not None and target is None:
        raise ValueError("the algorithm is of no use alone; write infer.load(path, target, ...).")
    arrays, meta = read(path)
    report = meta.get("result")
    if report is None and algorithm is None:
        raise ValueError(
            f"{path} is a checkpoint of a run, not a saved result. To look at it write "
            "infer.load(path, target, algorithm); to carry it on, infer.fit(target, algorithm, "
            "key=..., resume=path)."
        )
    keys = _keys(meta, report)
    if isinstance(algorithm, AbstractAmortizer):
        if not isinstance(target, Data):
            raise TypeError(f"{path} needs its rows; write infer.load(path, infer.Data(x), ...).")
        algorithm = algorithm.ready(target)
    if target is not None:
        check_target(path, meta["target"], fingerprint(target))
    if target is not None and algorithm is not None:
        here = meta | {"algorithm": type(algorithm).__name__, "settings": describe(algorithm)}
        check_run(path, meta, here, ("settings",))
        chains = jax.random.split(keys[0], meta["chains"])
        trail = unpack(arrays, meta["trail"], algorithm, target, chains)
    else:
        trail = _bare(arrays, meta["trail"])
    plan = Plan(
        meta["warmup"],
        meta["steps"],
        meta["thin"],
        None,
        meta["skip_nonfinite"],
        moments=meta["moments"],
    )
    if report is None:
        assert target is not None and algorithm is not None
        return _judge_checkpoint(target, algorithm, keys[0], plan, trail)
    outcome = report["outcome"]
    verdict = report["verdict"]
    common: dict[str, Any] = {
        "key": keys[0],
        "plan": dataclasses.replace(plan, chunk=report["chunk"], max_seconds=report["max_seconds"]),
        "trail": trail,
        "outcome": Outcome(
            Ending[outcome["ending"]],
            outcome["steps"],
            tuple(outcome["nonfinite"]),
            tuple(outcome["first_nonfinite"]),
        ),
        "verdict": Verdict(
            tuple(Evidence(**e) for e in verdict["evidence"]), verdict["not_looked_for"]
        ),
        "timings": Timings(**report["timings"]),
        "algorithm_name": meta["algorithm"],
        "settings": meta["settings"],
        "identity": meta["target"],
        "made": report["made"],
    }
    if "answer/z" not in arrays:
        assert not isinstance(target, Target)
        assert algorithm is None or isinstance(algorithm, AbstractAmortizer)
        return AmortizedResult(data=target, algorithm=algorithm, **common)
    assert not isinstance(target, Data) and not isinstance(algorithm, AbstractAmortizer)
    return Result(
        target=target,
        algorithm=algorithm,
        z=arrays["answer/z"],
        log_prob=arrays["answer/log_prob"],
        log_q=arrays.get("answer/log_q"),
        named=under("named/", arrays),
        names=report["coordinate_names"],
        labels=Labels(
            {name: tuple(dims) for name, dims in report["dims"].items()}, under("coords/", arrays)
        ),
        keys=keys,
        **common,
    )


def _judge_checkpoint(
    target: Target | Data, algorithm: Algorithm, key: PRNGKey, plan: Plan, trail: Trail
) -> Result | AmortizedResult:
    """The result of a run that ended with this checkpoint."""
    carry = trail.carry
    nonfinite, first = (tuple(map(int, np.asarray(x))) for x in (carry.nonfinite, carry.first))
    ending = Ending.FINISHED if trail.taken >= plan.steps else Ending.INTERRUPTED
    outcome = Outcome(ending, trail.taken, nonfinite, first)
    if isinstance(algorithm, AbstractAmortizer):
        assert isinstance(target, Data)
        return conclude_amortized(target, algorithm, key, plan, trail, outcome)
    assert isinstance(target, Target)
    return conclude(target, algorithm, key, plan, trail, outcome, DEFAULT_DRAWS)


def _bare(arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> Trail:
    """The trail of a file without the structure of its states, which are a list of arrays."""
    carry = under("carry/", arrays)
    leaves = [carry[str(i)] for i in range(len(carry))]
    bare = Carry(leaves[:-3], None, *map(jnp.asarray, leaves[-3:]))
    return trail_of(bare, arrays, numbers)


def _keys(meta: dict[str, Any], report: dict[str, Any] | None) -> tuple[PRNGKey, ...]:
    words = [meta["key"]] if report is None else report["keys"]
    implementation = None if report is None else report["key_type"]
    return tuple(
        jax.random.wrap_key_data(jnp.asarray(w, jnp.uint32), impl=implementation) for w in words
    )


def identity_of(result: Result | AmortizedResult) -> dict[str, Any]:
    """The fingerprint of what was fitted, computed once."""
    if result.identity is None:
        assert result.problem is not None
        result.identity = fingerprint(result.problem)
    return result.identity


def _plain(values: np.ndarray) -> np.ndarray:
    """Coordinates in a type that needs no pickle."""
    values = np.asarray(values)
    return values.astype(str) if values.dtype.kind == "O" else values
