"""What the scripts beside this one share: a record of their experiments, and pages to write to."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Found = dict[str, Any]  # by experiment, what JSON can hold


def write(page: Path, marker: str, text: str) -> None:
    """Put text between <!-- marker:begin --> and <!-- marker:end --> of a page."""
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    old = page.read_text()
    page.write_text(old.split(begin)[0] + begin + "\n\n" + text + "\n\n" + end + old.split(end)[1])


def run(
    about: str,
    experiments: Mapping[str, Callable[[], Any]],
    tables: Callable[[Found], str],
    record: Path,
    page: Path,
    marker: str,
) -> tuple[Found, list[str]]:
    """Run the experiments that were asked for, print their tables, and write all into the page.

    What was found stays in `record`, so that experiments can be repeated one by one. Returns all
    that was found, and the names of those that ran.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", nargs="+", choices=experiments, default=list(experiments))
    parser.add_argument("--only-print", action="store_true")
    given = parser.parse_args()
    found = json.loads(record.read_text()) if record.is_file() else {}
    for name in given.only:
        found[name] = experiments[name]()
        print(tables({name: found[name]}), flush=True)
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps(found))
    found = {name: found[name] for name in experiments if name in found}
    if not given.only_print:
        write(page, marker, tables(found))
    return found, given.only
