"""Every method on every posterior, under default settings: `python -m infer.scoreboard`."""

import argparse
import fnmatch
import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from infer.bridges.figures import require_pyplot
from infer.scoreboard import record, runner
from infer.scoreboard.case import Case, Group
from infer.scoreboard.figures import calibration, heat_map
from infer.scoreboard.record import Record, Settings
from infer.scoreboard.report import markdown, write_csv
from infer.scoreboard.work import catalog

SLACK = 5, 300  # a pair may take so many budgets and seconds, compilation and all else included


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m infer.scoreboard", description=__doc__)
    p.add_argument("--posteriordb", type=Path, metavar="PATH", help="folder of posteriordb")
    p.add_argument("--methods", nargs="+", default=["*"], metavar="NAME", help="names or patterns")
    p.add_argument("--posteriors", nargs="+", default=["*"], metavar="NAME", help="the same")
    p.add_argument("--group", choices=[*map(str, Group), "all"], default="all")
    p.add_argument("--budget", type=float, default=20.0, help="seconds per fit (20)")
    p.add_argument("--workers", type=int, default=1, help="processes (1)")
    p.add_argument("--out", type=Path, default=Path("scoreboard"), help="folder (scoreboard)")
    p.add_argument("--key", type=int, default=0, help="key of every fit (0)")
    p.add_argument("--examine", action="store_true", help="run result.examine as well")
    p.add_argument("--list", action="store_true", help="name posteriors and methods, and stop")
    p.add_argument("--report-only", action="store_true", help="of what is in --out, and stop")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    p = parser()
    asked = p.parse_args(arguments)
    try:
        require_pyplot("The scoreboard")
        if asked.report_only:
            return _report_only(asked.out)
        return _run(asked)
    except (ValueError, FileNotFoundError, ImportError) as error:
        p.error(str(error))


def write_report(records: Sequence[Record], out: Path) -> None:
    """Write `report.md`, `fits.csv`, `heat_map.png` and `calibration.png`."""
    (out / "report.md").write_text(markdown(records), encoding="utf-8")
    write_csv(records, out / "fits.csv")
    for name, draw in {"heat_map": heat_map, "calibration": calibration}.items():
        figure = draw(records)
        figure.savefig(out / f"{name}.png", dpi=150)


def selected(patterns: Iterable[str], names: Iterable[str], what: str) -> list[str]:
    """The names that some pattern matches, in the order of the patterns.

    Raises:
        ValueError: for a pattern that matches none.
    """
    names, found = list(names), []
    for pattern in patterns:
        matched = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            raise ValueError(
                f"--{what} {pattern!r} matches none of: {'; '.join(names)}. Write --{what} with "
                "some of these, or with patterns such as 'eight*'."
            )
        found += matched
    return list(dict.fromkeys(found))


def _run(asked: argparse.Namespace) -> int:
    if not asked.budget > 0 or asked.workers < 1 or not 0 <= asked.key < 2**31:
        raise ValueError(
            "the scoreboard needs --budget > 0, --workers >= 1 and --key from 0 to 2**31 - 1, got "
            f"{asked.budget}, {asked.workers} and {asked.key}; write --budget 20 --workers 2 "
            "--key 0."
        )
    if asked.posteriordb is None and asked.group in ("all", str(Group.POSTERIORDB)):
        raise ValueError(
            f"--group {asked.group} needs the database; write --posteriordb "
            "PATH/posterior_database, or --group synthetic."
        )
    make = functools.partial(catalog, asked.posteriordb)
    known = make()
    if asked.list:
        _name(known.cases, known.methods)
        return 0
    cases_asked = selected(asked.posteriors, _members(known.cases, asked.group), "posteriors")
    methods_asked = selected(asked.methods, known.methods, "methods")
    settings = Settings(asked.budget, asked.key, asked.examine)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "records.jsonl"
    record.mend(path)
    done = record.read(path)
    record.check_settings(done, settings)
    finished = {r.pair for r in done}
    every = runner.pairs(known, cases_asked, methods_asked)
    wanted = [pair for pair in every if pair not in finished]
    print(f"{len(every)} fits, {len(every) - len(wanted)} of them done before", flush=True)
    told = 0

    def tell(r: Record) -> None:
        nonlocal told
        told += 1
        why = f"  {' '.join(r.message.split())[:100]}" if r.message else ""
        line = f"[{told}/{len(wanted)}] {r.case}  {r.method}  {r.label or '-'}  {r.verdict}"
        print(f"{line}  {r.seconds:.1f} s{why}", flush=True)

    limit = SLACK[0] * asked.budget + SLACK[1]
    status = 0
    try:
        runner.run(wanted, make, settings, asked.out, workers=asked.workers, limit=limit, tell=tell)
    except KeyboardInterrupt:
        print(f"interrupted; {len(wanted) - told} fits are left for the same command", flush=True)
        status = 130
    write_report(record.read(path), asked.out)
    print(f"written: {asked.out / 'report.md'}, fits.csv, heat_map.png, calibration.png")
    return status


def _report_only(out: Path) -> int:
    path = out / "records.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; leave out --report-only, or write its --out.")
    write_report(record.read(path), out)
    return 0


def _members(known: Mapping[str, Case], group: str) -> list[str]:
    return [name for name, case in known.items() if group in ("all", str(case.group))]


def _name(known: Mapping[str, Case], by: Mapping[str, object]) -> None:
    print("posteriors:", *(f"  {case.name}  ({case.group})" for case in known.values()), sep="\n")
    print("methods:", *(f"  {name}" for name in by), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
