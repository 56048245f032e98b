"""Every Python block of the README and of the documentation runs.

The blocks of one page share a namespace and run in order, in an empty folder. A block that is not
meant to run has another language than `python`.
"""

import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = {
    "docs/flows.md",
    "docs/gaussian.md",
    "docs/langevin.md",
    "docs/mcmc.md",
    "docs/mirror_langevin.md",
    "docs/particles.md",
    "docs/stochastic_gradient.md",
    "docs/transport.md",
    "docs/vae.md",
    "docs/variational.md",
    "docs/verdict.md",
}  # only `make reproduce` runs them
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line number and text of every Python block."""
    text = page.read_text()
    return [(text[: found.start(1)].count("\n"), found.group(1)) for found in BLOCK.finditer(text)]


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
    assert blocks(page) == [(3, "x = 1\n"), (11, "y = 2\n")]
    assert "README.md" in {p.id for p in parameters()}


@pytest.mark.parametrize("page", parameters())
def test_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "page"}
    for line, text in blocks(page):
        # Blank lines in front, so that a traceback names the line of the page.
        exec(compile("\n" * line + text, str(page), "exec"), namespace)
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
