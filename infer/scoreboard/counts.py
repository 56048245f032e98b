"""Counts of verdicts by truth, and what so many fits can and cannot show."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import StrEnum

from scipy.stats import beta

from infer.scoreboard.case import Tag
from infer.scoreboard.errors import Label
from infer.scoreboard.record import VERDICTS, Record


class Stratum(StrEnum):
    """What is counted apart, since the verdict promises different things there."""

    PLAIN = "one mode, plain geometry"
    HARD = "one mode, hard geometry"
    MODES = "several modes"


def stratum(record: Record) -> Stratum:
    """Where a fit is counted."""
    if Tag.MODES in record.tags:
        return Stratum.MODES
    return Stratum.HARD if Tag.HARD_GEOMETRY in record.tags else Stratum.PLAIN


def is_miss(record: Record) -> bool:
    """Was a wrong fit called ok?"""
    return record.label == Label.WRONG and record.verdict == "ok"


def is_false_alarm(record: Record) -> bool:
    """Was a right fit called anything but ok?"""
    return record.label == Label.RIGHT and record.verdict != "ok"


def tally(records: Iterable[Record]) -> Counter[tuple[str, str]]:
    """How many fits have each label and verdict; only those that were judged."""
    return Counter((r.label, r.verdict) for r in records if r.judged)


def row(records: Sequence[Record]) -> list[str]:
    """Cells of a table: per label how many fits, and how many of them per verdict."""
    counts, cells = tally(records), []
    for label in (Label.WRONG, Label.RIGHT, Label.GRAY):
        each = [counts[label, verdict] for verdict in VERDICTS]
        cells += [str(sum(each)), " / ".join(map(str, each)) if any(each) else "-"]
    return cells


def bounds(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    r"""Lower and upper Clopper-Pearson bounds of a probability, each of them at `level` by itself.

    With $k$ of $n$, the upper bound $p$ has $P(X \le k \mid p) = 1 - $ `level`, the lower one
    $P(X \ge k \mid p) = 1 - $ `level`; with $k = 0$ the upper one is
    $1 - (1 - \mathrm{level})^{1/n}$. Without trials they are 0 and 1.

    Args:
        k: successes, 0 <= k <= n.
        n: independent trials.
        level: of each bound, in (0, 1).

    Source: Clopper and Pearson (1934), Biometrika 26.
    """
    if not 0 <= k <= n or not 0 < level < 1:
        raise ValueError(f"bounds needs 0 <= k <= n and 0 < level < 1, got {k}, {n} and {level}.")
    lower = float(beta.ppf(1 - level, k, n - k + 1)) if k else 0.0
    upper = float(beta.ppf(level, k + 1, n - k)) if k < n else 1.0
    return lower, upper


@dataclasses.dataclass(frozen=True)
class Share:
    """How many of the fits that are asked about have a property, and of their posteriors.

    A posterior has it where one of its fits has. Fits of one posterior are not independent, so
    only the second count bears on posteriors that were not seen.
    """

    fits: tuple[int, int]
    cases: tuple[int, int]

    def __str__(self) -> str:
        """Both counts with their bounds."""
        return f"{_counted(*self.fits)} | {_counted(*self.cases)}"


def share(
    records: Iterable[Record], asked: Callable[[Record], bool], has: Callable[[Record], bool]
) -> Share:
    """Of the judged fits that `asked` selects, how many `has` holds of."""
    selected = [r for r in records if r.judged and asked(r)]
    found = [r for r in selected if has(r)]
    return Share(
        (len(found), len(selected)),
        (len({r.case for r in found}), len({r.case for r in selected})),
    )


def _counted(k: int, n: int) -> str:
    lower, upper = bounds(k, n)
    return f"{k} of {n} ({lower:.1%} to {upper:.1%})" if n else "none"


def grouped(
    records: Iterable[Record], by: Callable[[Record], Hashable]
) -> dict[Hashable, list[Record]]:
    """Records by a property, in the order in which its values first appear."""
    groups: dict[Hashable, list[Record]] = {}
    for record in records:
        groups.setdefault(by(record), []).append(record)
    return groups
