"""The report of a scoreboard, in Markdown and as a table of all fits."""

import csv
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from infer.scoreboard.ablation import ablated, halves
from infer.scoreboard.case import Group
from infer.scoreboard.counts import (
    Stratum,
    grouped,
    is_false_alarm,
    is_miss,
    row,
    share,
    stratum,
)
from infer.scoreboard.errors import LETTERS, Label
from infer.scoreboard.methods import Kind
from infer.scoreboard.record import ERROR, PEER, UNSUITED, Record

NOT_CHAINS = (Kind.VI, Kind.PARTICLES)
_COUNTED = ("wrong", "o / s / f", "right", "o / s / f", "gray", "o / s / f")
_MARKS = {"ok": "ok", "suspect": "sus", "failed": "fail", ERROR: "error", UNSUITED: ""}
_FLAT = (
    "case group method kind dim verdict label units over_floor chains draws warmup steps gradients "
    "compile_seconds warmup_seconds run_seconds seconds verdict_seconds examined examine_seconds "
    "ending dtype message"
).split()


def markdown(records: Sequence[Record]) -> str:
    """The whole report."""
    if not records:
        return "# Scoreboard\n\nNo fits yet.\n"
    parts = [
        _head(records),
        _by_stratum(records),
        _bounds(records),
        _misses(records),
        _false_alarms(records),
        _worth(records),
        *([_examined(records)] if any(r.examined for r in records) else []),
        _per("Method", records, lambda r: r.method),
        _per("Posterior", records, lambda r: r.case),
        _matrix(records),
        _against_peer(records),
        _failures(records),
    ]
    return "\n\n".join(parts) + "\n"


def write_csv(records: Iterable[Record], path: Path) -> None:
    """One line per fit; of the evidence each value, in a column of its name."""
    records = list(records)
    names = list(dict.fromkeys(e.name for r in records for e in r.evidence))
    true = ("mean", "log_sd", "quantile", "distance", "floor")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        regression = ("lo", "hi", "tail", "positive")
        head = [*_FLAT, "tags", "budget", "key"]
        head += [f"error {name}" for name in true] + [f"scores {name}" for name in regression]
        table.writerow(head + [f"evidence {name}" for name in names])
        for r in records:
            values = {e.name: e.value for e in r.evidence}
            cells = [getattr(r, name) for name in _FLAT]
            cells += ["; ".join(r.tags), r.settings.budget, r.settings.key]
            cells += [getattr(r.errors, name) if r.errors else "" for name in true]
            cells += [r.scores.get(name, "") for name in regression]
            table.writerow(cells + [values.get(name, "") for name in names])


def _head(records: Sequence[Record]) -> str:
    settings, made = records[0].settings, next((r.made for r in records if r.made), {})
    judged = sum(r.judged for r in records)
    counts = Counter(r.verdict for r in records)
    own = [r for r in records if r.kind != PEER]
    days = sorted({r.made["at"][:10] for r in records if r.made})
    span = " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))
    versions = ", ".join(f"{name} {value}" for name, value in made.items() if name != "at")
    examined = "Each was examined as well. " if settings.examine else ""
    return (
        f"# Scoreboard\n\n{judged} fits with a verdict, of {len({r.case for r in own})} posteriors "
        f"by {len({r.method for r in own})} methods under default settings, at most "
        f"{settings.budget:g} s of warm-up and steps each, key {settings.key}. {examined}"
        f"{counts[ERROR]} ended with an error, {counts[UNSUITED]} pairs do not go together. "
        f"Precision: {', '.join(sorted({r.dtype for r in records if r.draws})) or 'unknown'}. "
        f"{span}; {versions}.\n\n"
        "A fit is *wrong* where some coordinate has a mean off by more than 0.3 posterior sd or an "
        "sd off by more than a factor 1.3, *right* where all are below 0.1 and 1.1, *gray* between."
    )


def _worth(records: Sequence[Record]) -> str:
    lone = ("wrong", "nothing else objects", "right", "nothing else objects")
    half = (
        "evidence",
        "half that sets it",
        "limit",
        "in use",
        "other half: wrong pass",
        "right pass",
    )
    return (
        "## What each kind of evidence is worth\n\nPosteriors of one mode: fits that it objects "
        "to, and those that would be ok without it.\n\n"
        + _table(("evidence", *lone), ablated(records))
        + "\n\nThe largest limit (of some multiples of the one in use) that lets no wrong fit of "
        "every other posterior pass, and what it does on the rest.\n\n"
        + _table(half, halves(records))
    )


def _by_stratum(records: Sequence[Record]) -> str:
    lines = []
    for group in Group:
        for each in Stratum:
            few = [r for r in records if r.group == group and stratum(r) is each and r.judged]
            if few:
                cases = len({r.case for r in few})
                lines.append([str(group), str(each), str(cases), *row(few)])
    lines.append(["all", "", str(len({r.case for r in records if r.judged})), *row(records)])
    return "## Truth and verdict\n\n" + _table(("group", "shape", "posteriors", *_COUNTED), lines)


def _bounds(records: Sequence[Record]) -> str:
    lines = []
    for each in Stratum:
        here = [r for r in records if stratum(r) is each]
        questions = {
            "wrong fits called ok": (lambda r: r.label == Label.WRONG, is_miss),
            "ok fits that are wrong": (lambda r: r.verdict == "ok", is_miss),
            "right fits not called ok": (lambda r: r.label == Label.RIGHT, is_false_alarm),
        }
        for question, (asked, has) in questions.items():
            lines.append([question, str(each), *str(share(here, asked, has)).split(" | ")])
    return (
        "## How sure this is\n\nShares with their lower and upper Clopper-Pearson bounds, each at "
        "95 % by itself. Fits of one posterior are not independent: only the count by posteriors, "
        "of which one has the property where one of its fits has, bears on posteriors that are not "
        "here.\n\n" + _table(("what", "shape", "by fits", "by posteriors"), lines)
    )


def _listed(title: str, records: Sequence[Record], none: str) -> str:
    if not records:
        return f"## {title}\n\n{none}"
    lines = []
    for r in sorted(records, key=lambda r: -r.units):
        e = r.errors
        numbers = [e.mean, e.log_sd, e.quantile, r.over_floor] if e else [math.nan] * 4
        blamed = [x.name for x in r.evidence if x.status in ("suspect", "failed")]
        lines.append(
            [r.case, str(stratum(r)), r.method, r.verdict, *map(_short, numbers)]
            + [_short(r.scores.get("hi", math.nan)), ", ".join(blamed) or "-"]
        )
    head = ("posterior", "shape", "method", "verdict", "mean error (sd)", "log sd ratio")
    head += ("5/95 % (sd)", "Wasserstein / floor", "hi", "evidence against")
    return f"## {title}\n\n" + _table(head, lines)


def _misses(records: Sequence[Record]) -> str:
    missed = [r for r in records if is_miss(r)]
    return _listed("Misses: wrong, and called ok", missed, "None.")


def _false_alarms(records: Sequence[Record]) -> str:
    found = [r for r in records if r.judged and is_false_alarm(r)]
    return _listed("Right, and not called ok", found, "None.")


def _examined(records: Sequence[Record]) -> str:
    counts = Counter((r.label, r.verdict, r.examined) for r in records if r.judged and r.examined)
    lines = [[*map(str, what), str(n)] for what, n in sorted(counts.items(), reverse=True)]
    return "## After examine()\n\n" + _table(("truth", "verdict", "examined", "fits"), lines)


def _per(title: str, records: Sequence[Record], by: Callable[[Record], str]) -> str:
    lines = []
    for name, few in grouped([r for r in records if r.kind != PEER], by).items():
        judged = [r for r in few if r.judged]
        if judged:
            errors = sum(r.verdict == ERROR for r in few)
            lines.append(
                [str(name), *row(judged), str(sum(map(is_miss, judged))), str(errors)]
                + [_middle(r.over_floor for r in judged), _middle(r.seconds for r in judged)]
                + [_middle(r.compile_seconds for r in judged)]
            )
    head = (title.lower(), *_COUNTED, "misses", "errors", "Wasserstein / floor", "s", "compile s")
    note = "Distances and seconds are medians; seconds are of warm-up and steps."
    return f"## By {title.lower()}\n\n{note}\n\n" + _table(head, lines)


def _matrix(records: Sequence[Record]) -> str:
    cells = {r.pair: r for r in records if r.kind != PEER}
    cases, methods = (list(dict.fromkeys(pair[i] for pair in cells)) for i in (0, 1))
    lines = []
    for case in cases:
        found = [cells.get((case, method)) for method in methods]
        lines.append([case, *("" if r is None else _cell(r) for r in found)])
    note = (
        "Truth (R right, g gray, W wrong) and verdict; empty where a method does not apply or "
        "has not run."
    )
    return f"## Every fit\n\n{note}\n\n" + _table(("posterior", *methods), lines)


def _cell(r: Record) -> str:
    text = f"{LETTERS.get(r.label, '')} {_MARKS[r.verdict]}".strip()
    return f"**{text}**" if is_miss(r) else text


def _against_peer(records: Sequence[Record]) -> str:
    title = "## Seconds, beside NumPyro's NUTS\n\n"
    peers = [r for r in records if r.kind == PEER and r.group == Group.POSTERIORDB]
    timed = {r.case: r for r in peers if r.verdict != ERROR}
    if not timed:
        return title + "Not measured: no posterior of posteriordb was run by it."
    lines, wins = [], 0
    for case, theirs in timed.items():
        good = [r for r in records if r.case == case and r.verdict == "ok"]
        good = [r for r in good if r.label == Label.RIGHT]
        quick = min((r for r in good if r.kind in NOT_CHAINS), key=_seconds, default=None)
        first = min(good, key=_seconds, default=None)
        wins += quick is not None and quick.seconds < theirs.seconds
        lines.append(
            [case, f"{_short(theirs.seconds)} ({theirs.label})", *_named(quick), *_named(first)]
        )
    return (
        title + f"On {wins} of {len(timed)} posteriors of posteriordb some method that runs no "
        "Markov chain (variational or particles) is right, called ok, and faster than NumPyro's "
        "NUTS with 4 chains of 1000 + 1000 steps in the same run. Seconds are of warm-up and "
        "steps, without compilation and without the verdict; NumPyro's are the median of up to "
        "three runs, all others of one.\n\n"
        + _table(
            ("posterior", "NumPyro's NUTS, s (truth)", "fastest without chains", "s")
            + ("fastest of all", "s"),
            lines,
        )
    )


def _named(record: Record | None) -> list[str]:
    return ["none", ""] if record is None else [record.method, _short(record.seconds)]


def _seconds(record: Record) -> float:
    return record.seconds


def _failures(records: Sequence[Record]) -> str:
    lines = [
        [r.case, r.method, " ".join(r.message.split())[:300].replace("|", "\\|")]
        for r in records
        if r.verdict == ERROR
    ]
    title = "## Errors\n\n"
    return title + (_table(("posterior", "method", "message"), lines) if lines else "None.")


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    def written() -> Iterator[str]:
        yield _row(head)
        yield _row(["---"] * len(head))
        yield from map(_row, lines)

    return "\n".join(written())


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _middle(values: Iterable[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    return _short(statistics.median(known)) if known else "-"


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}" if value < 100 else f"{value:.0f}"
