"""Results as files."""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infer.core.algorithm import Algorithm
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
    words = [np.asarray(jax.random.key_data(key)).tolist() for key in result.keys]
    meta = identify(
        result.algorithm_name,
        result.settings,
        identity_of(result),
        words if len(words) > 1 else words[0],
        len(result.trail.carry.alive),
        result.plan,
    )
    outcome = dataclasses.asdict(result.outcome) | {"ending": result.outcome.ending.name}
    report = {
        "keys": words,
        "key_type": str(jax.random.key_impl(result.key)),
        "chunk": result.plan.chunk,
        "max_seconds": result.plan.max_seconds,
        "outcome": outcome,
        "verdict": dataclasses.asdict(result.verdict),
        "timings": dataclasses.asdict(result.timings),
        "coordinate_names": result.coordinate_names,
        "dims": result.labels.dims,
        "made": result.made,
    }
    write(path, arrays, meta | {"trail": numbers, "result": report})


def load(
    path: str | os.PathLike[str],
    target: Target | None = None,
    algorithm: Algorithm | None = None,
) -> Result:
    """Read a result that `Result.save` wrote.

    `load(path)` alone gives draws, history, summary and verdict. The target makes the pointwise
    log likelihood and predictions possible; target and algorithm together the posterior and
    `extend`, and let the file be a checkpoint of an unfinished run, which is then judged.

    Args:
        path: the file.
        target: what was fitted; refused if it is another posterior.
        algorithm: what it was fitted with; refused if it has other settings.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is foreign, damaged, or of another run; saying which.
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
    return Result(
        target=target,
        algorithm=algorithm,
        key=keys[0],
        plan=dataclasses.replace(plan, chunk=report["chunk"], max_seconds=report["max_seconds"]),
        trail=trail,
        outcome=Outcome(
            Ending[outcome["ending"]],
            outcome["steps"],
            tuple(outcome["nonfinite"]),
            tuple(outcome["first_nonfinite"]),
        ),
        verdict=Verdict(
            tuple(Evidence(**e) for e in verdict["evidence"]), verdict["not_looked_for"]
        ),
        z=arrays["answer/z"],
        log_prob=arrays["answer/log_prob"],
        log_q=arrays.get("answer/log_q"),
        timings=Timings(**report["timings"]),
        algorithm_name=meta["algorithm"],
        settings=meta["settings"],
        named=under("named/", arrays),
        names=report["coordinate_names"],
        labels=Labels(
            {name: tuple(dims) for name, dims in report["dims"].items()}, under("coords/", arrays)
        ),
        identity=meta["target"],
        keys=keys,
        made=report["made"],
    )


def _judge_checkpoint(
    target: Target, algorithm: Algorithm, key: PRNGKey, plan: Plan, trail: Trail
) -> Result:
    """The result of a run that ended with this checkpoint."""
    carry = trail.carry
    nonfinite, first = (tuple(map(int, np.asarray(x))) for x in (carry.nonfinite, carry.first))
    ending = Ending.FINISHED if trail.taken >= plan.steps else Ending.INTERRUPTED
    outcome = Outcome(ending, trail.taken, nonfinite, first)
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


def identity_of(result: Result) -> dict[str, Any]:
    """The fingerprint of what was fitted, computed once."""
    if result.identity is None:
        assert result.target is not None
        result.identity = fingerprint(result.target)
    return result.identity


def _plain(values: np.ndarray) -> np.ndarray:
    """Coordinates in a type that needs no pickle."""
    values = np.asarray(values)
    return values.astype(str) if values.dtype.kind == "O" else values
