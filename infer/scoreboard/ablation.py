"""What each kind of evidence is worth, and what limits one half of the posteriors would set."""

import math
from collections.abc import Iterable, Sequence

from infer.core.evidence import Evidence
from infer.scoreboard.counts import Stratum, stratum
from infer.scoreboard.errors import Label
from infer.scoreboard.record import Record
from infer.verdict import AGAINST

SCORES, GAP = "score regression", "KL gap"
MULTIPLES = (0.6, 0.8, 1.0, 1.2, 1.6, 2.0)  # of the limit in use
PRESENT = {SCORES: 0.5, GAP: 0.1}


def objects(record: Record, without: str = "") -> bool:
    """Does some evidence speak against a fit, that of one name left out?"""
    return any(e.status in AGAINST and e.name != without for e in record.evidence)


def ablated(records: Iterable[Record]) -> list[list[str]]:
    """Per kind of evidence, of fits on posteriors of one mode: objections, and what hangs on it.

    Cells: name; wrong fits that it objects to, and those to which nothing else does; the same of
    right fits.
    """
    fits = [r for r in records if r.judged and stratum(r) is not Stratum.MODES]
    names = dict.fromkeys(e.name for r in fits for e in r.evidence if e.status in AGAINST)
    rows = []
    for name in names:
        row = [name]
        for label in (Label.WRONG, Label.RIGHT):
            seen = [r for r in fits if r.label == label and _by_name(r, name) in AGAINST]
            alone = [r for r in seen if not objects(r, without=name)]
            row += [str(len(seen)), str(len(alone))]
        rows.append(row)
    return sorted(rows, key=lambda row: -int(row[2]))


def halves(records: Iterable[Record]) -> list[list[str]]:
    """Limits set on every other posterior of one mode, and what they do on the rest.

    For the score regression and the KL gap the largest multiple of the present limit that lets no
    wrong fit of the first half pass, all other evidence as it is; then the counts of the second
    half: wrong fits that pass, right ones that do.
    """
    fits = [r for r in records if r.judged and stratum(r) is not Stratum.MODES]
    cases = list(dict.fromkeys(r.case for r in fits))
    first = set(cases[::2])
    rows = []
    for name in PRESENT:
        for chosen, told in ((first, "first"), (set(cases) - first, "second")):
            on = [r for r in fits if r.case in chosen]
            off = [r for r in fits if r.case not in chosen]
            safe = [m for m in MULTIPLES if not _passed(on, Label.WRONG, name, m)]
            multiple = max(safe, default=math.nan)
            row = [name, told, f"{multiple * PRESENT[name]:.2g}", f"{PRESENT[name]:g}"]
            for label in (Label.WRONG, Label.RIGHT):
                of = sum(r.label == label for r in off)
                row.append(f"{len(_passed(off, label, name, multiple))} of {of}")
            rows.append(row)
    return rows


def _passed(records: Sequence[Record], label: Label, name: str, multiple: float) -> list[Record]:
    """Fits of this label that nothing objects to when one limit is multiplied."""
    return [
        r
        for r in records
        if r.label == label
        and not objects(r, without=name)
        and not any(_objects_at(e, multiple) for e in r.evidence if e.name == name)
    ]


def _objects_at(e: Evidence, multiple: float) -> bool:
    """Would this evidence object, had its limit been `multiple` times what it is?"""
    limit = PRESENT[SCORES] if e.name == SCORES else _limit(e.threshold)
    return e.status == "failed" or not e.value <= multiple * limit


def _limit(threshold: str) -> float:
    """The first number of "<= 0.2 ok, > 2 failed", which grows with the dimension."""
    return float(threshold.split()[1])


def _by_name(record: Record, name: str) -> str:
    return next((e.status for e in record.evidence if e.name == name), "")
