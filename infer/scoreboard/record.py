"""The record of one fit: what it took, what it says of itself, and how far off it really is."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infer.core.evidence import Evidence
from infer.scoreboard.errors import Errors

VERDICTS = ("ok", "suspect", "failed")
ERROR = "error"  # in the place of a verdict: the fit raised, died or took too long
UNSUITED = "unsuited"  # in the place of a verdict: the method does not apply
UNJUDGED = "unjudged"  # in the place of a verdict: the answer of another library
PEER = "peer"  # in the place of a kind: another library

Pair = tuple[str, str]  # names of a posterior and a method


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all fits of one scoreboard have in common.

    Attributes:
        budget: seconds of warm-up and steps per fit, compilation apart, > 0.
        key: the integer key of every fit.
        examine: is `Result.examine` run as well?
    """

    budget: float
    key: int
    examine: bool


@dataclasses.dataclass(frozen=True)
class Record:
    """One fit, as kept in a line of JSON.

    Attributes:
        case: name of the posterior.
        group: where it comes from.
        tags: what is hard about it.
        method: name of the method.
        kind: kind of method, or "peer" for another library.
        settings: budget, key, and whether the fit was examined.
        verdict: "ok", "suspect", "failed"; or "error", "unsuited", "unjudged".
        label: the truth: "right", "gray" or "wrong"; empty where there were no draws.
        message: why there is no verdict; empty if there is one.
        errors: the true errors behind the label; None where there were no draws.
        evidence: all evidence of the verdict.
        scores: the score regression on the draws that were labeled, by name: `lo`, `hi`, `tail`,
            and `positive` (1 or 0).
        examined: status after `examine`; empty where it was not run.
        examined_evidence: what `examine` found.
        ending: how the run ended; "callback" where the budget was spent.
        dim: number of unconstrained coordinates.
        chains, draws: of the answer, as labeled.
        warmup, steps: iterations taken.
        gradients: spent on the fit, all chains together.
        compile_seconds, warmup_seconds, run_seconds, verdict_seconds, examine_seconds: time.
        dtype: of the draws.
        made: date, versions and platform.
    """

    case: str
    group: str
    tags: tuple[str, ...]
    method: str
    kind: str
    settings: Settings
    verdict: str
    label: str = ""
    message: str = ""
    errors: Errors | None = None
    evidence: tuple[Evidence, ...] = ()
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    examined: str = ""
    examined_evidence: tuple[Evidence, ...] = ()
    ending: str = ""
    dim: int = 0
    chains: int = 0
    draws: int = 0
    warmup: int = 0
    steps: int = 0
    gradients: int = 0
    compile_seconds: float = 0.0
    warmup_seconds: float = 0.0
    run_seconds: float = 0.0
    verdict_seconds: float = 0.0
    examine_seconds: float = 0.0
    dtype: str = ""
    made: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def pair(self) -> Pair:
        """Posterior and method."""
        return self.case, self.method

    @property
    def judged(self) -> bool:
        """Is there a verdict to be compared with the truth?"""
        return self.verdict in VERDICTS

    @property
    def seconds(self) -> float:
        """Warm-up and steps, without compilation and verdict."""
        return self.warmup_seconds + self.run_seconds

    @property
    def units(self) -> float:
        """The worst true error in label units, above 1 where the fit is wrong; NaN if unknown."""
        return math.nan if self.errors is None else self.errors.units

    @property
    def over_floor(self) -> float:
        """Sliced Wasserstein distance to the reference over that of ideal draws; NaN if unknown."""
        return math.nan if self.errors is None else self.errors.distance / self.errors.floor


def to_line(record: Record) -> str:
    """The record as one line of JSON, in which numbers that are not finite are words."""
    return json.dumps(_plain(dataclasses.asdict(record)), allow_nan=False)


def from_line(line: str) -> Record:
    """The inverse of `to_line`."""
    fields = json.loads(line)
    errors = fields["errors"] and Errors(**_floats(fields["errors"]))
    numbers = {"errors": errors, "scores": _floats(fields["scores"])}
    evidence = {
        name: tuple(Evidence(**e | {"value": float(e["value"])}) for e in fields[name])
        for name in ("evidence", "examined_evidence")
    }
    rest = {"tags": tuple(fields["tags"]), "settings": Settings(**fields["settings"])}
    return Record(**fields | numbers | evidence | rest)


def append(path: Path, record: Record) -> None:
    """Add a line to the file, on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_line(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """All records of a file, in their order; none if there is no file.

    What follows the last line break was torn off in the middle and is left out.

    Raises:
        ValueError: if another line cannot be read.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text("utf-8").split("\n")[:-1], start=1):
        try:
            records.append(from_line(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of {path} is no record ({error}); remove that line, or write "
                "another --out."
            ) from error
    return records


def mend(path: Path) -> None:
    """Cut off a last line that was torn in the middle, so that the next one stands alone."""
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


def check_settings(records: Iterable[Record], settings: Settings) -> None:
    """Refuse to mix fits of different budgets, keys or examinations in one scoreboard."""
    for record in records:
        if record.settings != settings:
            raise ValueError(
                f"the records are of {record.settings}, and these would be of {settings}; write "
                "another --out, or the same --budget, --key and --examine."
            )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _floats(numbers: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}
