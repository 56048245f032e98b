"""One registry: every algorithm that is exported is in the guide, the reference and the tests."""

import inspect
import re
from pathlib import Path

import test_conformance

import infer

ROOT = Path(__file__).resolve().parents[1]
ALGORITHMS = infer.algorithms()
COLUMNS = ["method", "asks of the target", "cost per step", "memory", "for", "cannot"]
COUNTS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
}
MORE = re.compile(r"\[(\w+) more\]\(([\w./]+)\)")


def named(text):
    """Algorithms that a text names in code, called or not."""
    found = set(re.findall(r"`(?:infer\.)?([A-Za-z]\w*)(?:\([^`]*\))?`", text))
    return found & ALGORITHMS.keys()


def tables(text):
    """Every table of a page, as rows of cells; the first row is the head."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in block.splitlines()]
        yield [row for row in rows if set("".join(row)) - set("-|: ")]


def methods(text):
    """Algorithms in the columns of tables that are headed `method` or `methods`."""
    cells = [
        row[i]
        for table in tables(text)
        for i, head in enumerate(table[0])
        if head.strip("| ") in ("method", "methods")
        for row in table
    ]
    return named("\n".join(cells))


def test_the_readers_read():
    page = (
        "| method | for |\n|---|---|\n| `NUTS()`, `infer.VI(infer.LowRank())` | `ULA` |\n\n`MALA`\n"
    )
    assert methods(page) == {"NUTS", "VI"} and named(page) == {"NUTS", "VI", "ULA", "MALA"}
    assert next(tables(page)) == [
        ["method", "for"],
        ["`NUTS()`, `infer.VI(infer.LowRank())`", "`ULA`"],
    ]
    assert methods(page.replace("method", "family")) == set()
    assert methods(page.replace("for", "methods")) == {"NUTS", "VI", "ULA"}


def test_the_guide_says_of_every_algorithm_what_it_asks_costs_keeps_and_cannot_do():
    page = (ROOT / "docs" / "choosing.md").read_text("utf-8")
    assert ALGORITHMS.keys() - methods(page) == set()
    heads = [table[0] for table in tables(page) if table[0][0] == "method"]
    assert len(heads) == 4
    for head in heads:
        missing = [c for c in COLUMNS if not any(cell.startswith(c) for cell in head)]
        assert not missing, (head, missing)
    for table in tables(page):
        assert all(len(row) == len(table[0]) and all(row[1:]) for row in table), table[0]


def test_the_guide_has_the_default_run_of_every_sampler():
    page = (ROOT / "docs" / "choosing.md").read_text("utf-8")
    table = next(t for t in tables(page) if "default run" in t[0])
    column = table[0].index("default run")
    runs = {name: row[column].replace(",", "") for row in table for name in named(row[0])}
    for name, cls in ALGORITHMS.items():
        if cls.default_warmup:
            assert runs[name] == f"{cls.default_warmup} warm-up {cls.default_steps} draws", name
        elif name in runs:
            assert str(cls.default_steps) in runs[name].split(), name
    assert {n for n, cls in ALGORITHMS.items() if cls.default_warmup} <= runs.keys()


def test_the_reference_has_every_algorithm():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert ALGORITHMS.keys() - set(re.findall(r"^::: infer\.(\w+)$", page, re.MULTILINE)) == set()


def test_the_reference_shows_no_module_in_the_place_of_its_function():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    shown = re.findall(r"^::: infer\.(\w+)$", page, re.MULTILINE)
    assert len(shown) > 200
    modules = [name for name in shown if (ROOT / "infer" / f"{name}.py").is_file()]
    assert not modules, "write ::: infer.name.name, with the heading infer.name"


def test_the_readme_names_every_algorithm_or_the_page_that_does():
    page = (ROOT / "README.md").read_text("utf-8")
    rest = ALGORITHMS.keys() - methods(page)
    for count, link in MORE.findall(page):
        there = methods((ROOT / link).read_text("utf-8")) & rest
        assert not there or len(there) == COUNTS[count], (link, sorted(there))
        rest -= there
    assert rest == set()


def test_the_conformance_suite_runs_every_algorithm():
    assert test_conformance.ALGORITHMS == ALGORITHMS
    assert {
        parameter.values[-1] for parameter in test_conformance.leading(None)
    } == ALGORITHMS.keys()
    swept = [
        mark.args[1]
        for test in vars(test_conformance).values()
        if inspect.isfunction(test)
        for mark in vars(test).get("pytestmark", [])
        if mark.name == "parametrize" and mark.args[0] == "name"
    ]
    assert any(set(values) == ALGORITHMS.keys() for values in swept)
