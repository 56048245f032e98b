"""Every Python block of the README and of the documentation runs.

The blocks of one page share a namespace and run in order, in an empty folder. A block that is not
meant to run has another language than `python`. One that is titled `raises` has to raise what the
text block after it begins with.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = {
    "docs/coming_from.md",
    "docs/first_fit.md",
    "docs/flows.md",
    "docs/gaussian.md",
    "docs/langevin.md",
    "docs/machines.md",
    "docs/mcmc.md",
    "docs/mirror_langevin.md",
    "docs/particles.md",
    "docs/stochastic_gradient.md",
    "docs/suspect.md",
    "docs/transport.md",
    "docs/vae.md",
    "docs/variational.md",
    "docs/verdict.md",
}  # only `make reproduce` runs them
# Indented where it stands in a tab.
BLOCK = re.compile(
    r'^( *)```(?:python[^\n]*|(py title="raises"))\n(.*?)^\1```(?:\s*```text\n(.*?)^ *```)?',
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A block of a page: its first line, its code, and how the error begins that it raises."""

    line: int
    code: str
    error: str | None


def blocks(page: Path) -> list[Block]:
    """Every block that is run."""
    text, found = page.read_text(), []
    for match in BLOCK.finditer(text):
        _, raises, code, after = match.groups()
        line = text[: match.start(3)].count("\n")
        found.append(Block(line, textwrap.dedent(code), after if raises else None))
    return found


def parameters() -> list:
    found = []
    for page in PAGES:
        if blocks(page):
            name = str(page.relative_to(ROOT))
            marks = [pytest.mark.slow] if name in SLOW else []
            found.append(pytest.param(page, id=name, marks=marks))
    return found


def test_blocks_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n\n```python\nx = 1\n```\n\n```text\nno\n```\n\n```python\ny = 2\n```\n")
    assert blocks(page) == [(3, "x = 1\n", None), (11, "y = 2\n", None)]
    page.write_text('=== "tab"\n\n    ```python\n    if x:\n        y\n    ```\n')
    assert blocks(page) == [(3, "if x:\n    y\n", None)]
    page.write_text('```py title="raises"\n1 / 0\n```\n\n```text\ndivision\n```\n')
    assert blocks(page) == [(1, "1 / 0\n", "division\n")]
    assert "README.md" in {p.id for p in parameters()}


@pytest.mark.parametrize("page", parameters())
def test_runs(page, tmp_path, monkeypatch, unchecked):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "page"}
    for line, text, error in blocks(page):
        # Blank lines in front, so that a traceback names the line of the page.
        code = compile("\n" * line + text, str(page), "exec")
        if error is None:
            exec(code, namespace)
            continue
        with pytest.raises(Exception) as caught:
            exec(code, namespace)
        said = " ".join(str(caught.value.args[0]).split())
        assert said.startswith(" ".join(error.split())), f"line {line}: {said}"
    if pyplot := namespace.get("plt"):
        pyplot.close("all")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_the_readme_and_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_every_public_name_is_in_the_reference():
    import infer

    text = (ROOT / "docs" / "api.md").read_text()
    names = {
        name
        for name, thing in vars(infer).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert sorted(names - set(re.findall(r"\binfer\.(\w+)", text))) == []


def assigned(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """What the names of a function are assigned, `a = x` or `a, b = x, y`."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            left, right = node.targets[0], node.value
            both = isinstance(left, ast.Tuple) and isinstance(right, ast.Tuple)
            pairs = zip(left.elts, right.elts, strict=True) if both else [(left, right)]
            found |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
    return found


def names_of_evidence() -> set[str]:
    """The first argument of every `Evidence(...)`, written there or assigned in the function."""
    found = set()
    for file in (ROOT / "infer").rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            values = assigned(function)
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) == "Evidence"
                    and node.args
                ):
                    first = node.args[0]
                    first = values[first.id] if isinstance(first, ast.Name) else first
                    found |= {first.value} if isinstance(first, ast.Constant) else set()
    return found


def test_every_kind_of_evidence_is_explained():
    names = names_of_evidence()
    assert {"score regression", "KL gap", "mode search", "clipped weight"} <= names
    text = (ROOT / "docs" / "suspect.md").read_text()
    table = text[text.index("## Every kind of evidence") :]
    assert sorted(name for name in names if f"`{name}`" not in table) == []
