"""The floors of the package, proved from its syntax trees.

A module imports from its own folder and from lower floors; every other library is imported where
the table says, and the heavy ones are not loaded by `import infer`. Each rule is first shown to
catch a violation, on a small fabricated package.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "infer"

# The layout. "" is the root of the package: its modules are floor 3 and share that floor with
# `bridges`, each may import the other. The scoreboard is a user of the package: it imports its
# exports, and nothing imports it. `infer/__init__.py` stands above all floors.
FLOORS: dict[str, int] = {
    "references": -1,  # facts, which know nothing of the library
    "core": 0,
    "run": 1,
    "geometry": 1,
    "families": 1,
    "flows": 1,
    "kernels": 1,
    "likelihoods": 1,
    "objectives": 1,
    "optimizers": 1,
    "regularizers": 1,
    "diagnostics": 1,
    "gaussian": 2,
    "variational": 2,
    "particles": 2,
    "transport": 2,
    "langevin": 2,
    "diffusion": 2,
    "amortized": 2,
    "external": 2,
    "bridges": 3,
    "": 3,
    "scoreboard": 4,
}
TOP, USERS = 3, 4

# Libraries with a home: the folders, or modules, that may import them. None of them is loaded by
# `import infer`.
HOMES: dict[str, tuple[str, ...]] = {
    "numpyro": ("bridges", "scoreboard"),
    "arviz": ("bridges",),
    "arviz_base": ("bridges",),
    "arviz_stats": ("bridges",),
    "arviz_plots": ("bridges",),
    "xarray": ("bridges",),
    "pandas": ("bridges",),
    "blackjax": ("external",),
    "flowjax": ("bridges",),
    "paramax": ("bridges",),
    "matplotlib": ("bridges", "compare.py", "scoreboard"),
}


@dataclass(frozen=True)
class Import:
    """One import statement: what it names, where, and when it runs.

    `when` is "load" (importing the module runs it), "call" (in a function's body) or "never"
    (under TYPE_CHECKING).
    """

    name: str
    line: int
    when: str


@dataclass(frozen=True)
class Module:
    """One source file with its place in the layout."""

    path: Path
    relative: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        """The folder inside the package, "" for its root."""
        return str(Path(self.relative).parent).replace("\\", "/").removeprefix(".")

    @property
    def is_root_init(self) -> bool:
        return self.relative == "__init__.py"

    @property
    def name(self) -> str:
        parts = [PACKAGE, *Path(self.relative).with_suffix("").parts]
        return ".".join(parts).removesuffix(".__init__")


def sources(package: Path) -> list[Module]:
    """Every Python file of a package, parsed."""
    return [
        Module(path, path.relative_to(package).as_posix(), ast.parse(path.read_text("utf-8")))
        for path in sorted(package.rglob("*.py"))
    ]


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(module: Module) -> Iterator[Import]:
    """Every import of a module, those by `import_module("name")` among them."""

    def visit(node: ast.AST, when: str) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, when)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield Import(f"{node.module}.{alias.name}", node.lineno, when)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rsplit(".", 1)[-1]
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield Import(str(first.value), node.lineno, when)

        # What runs at another time than the node itself.
        other, later = [], when
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            other = node.body if isinstance(node.body, list) else [node.body]
            later = "call" if when == "load" else when
        elif isinstance(node, ast.If) and is_type_checking(node.test):
            other, later = node.body, "never"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, later if child in other else when)

    yield from visit(module.tree, "load")


def folder_of(name: str, modules: dict[str, Module]) -> str | None:
    """The folder an imported name of ours lies in, None for an export of `__init__.py`."""
    parts = name.split(".")[1:]
    if not parts:
        return None
    if parts[0] in FLOORS:
        return parts[0]
    return "" if f"{PACKAGE}.{parts[0]}" in modules else None


def check_layout(package: Path) -> list[str]:
    """Files in a folder that the table does not know."""
    found = []
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package)
        if path.is_dir() or "__pycache__" in relative.parts:
            continue
        folder = relative.parent.as_posix().removeprefix(".")
        if folder not in FLOORS:
            found.append(f"{relative.as_posix()}: the layout has no folder {folder!r}")
    return found


def check_floors(package: Path) -> list[str]:
    """Imports of a higher floor, of another folder on the same floor, or of the exports."""
    modules = {module.name: module for module in sources(package)}
    found = []
    for module in modules.values():
        if module.is_root_init or module.folder not in FLOORS:
            continue
        floor = FLOORS[module.folder]
        for item in imports(module):
            if item.name.split(".")[0] != PACKAGE:
                continue
            where = f"{module.relative}:{item.line}"
            folder = folder_of(item.name, modules)
            if folder is None:
                if floor < USERS:
                    found.append(f"{where}: imports {item.name}: no folder or module of ours")
            elif folder != module.folder and FLOORS[folder] >= floor + (floor == TOP):
                found.append(
                    f"{where}: {module.folder or 'the root'} (floor {floor}) imports "
                    f"{item.name} (floor {FLOORS[folder]})"
                )
    return found


def check_homes(package: Path) -> list[str]:
    """Libraries imported outside their home; an annotation may name them anywhere."""
    return [
        f"{module.relative}:{item.line}: {item.name} belongs in {', '.join(homes)}"
        for module in sources(package)
        for item in imports(module)
        if item.when != "never"
        and (homes := HOMES.get(item.name.split(".")[0])) is not None
        and module.folder not in homes
        and module.relative not in homes
    ]


def check_lazy(package: Path) -> list[str]:
    """Libraries with a home that `import infer` would load."""
    modules = {module.name: module for module in sources(package)}
    seen: set[str] = set()
    waiting = [PACKAGE]
    found = []
    while waiting:
        name = waiting.pop()
        if name in seen or name not in modules:
            continue
        seen.add(name)
        for item in imports(modules[name]):
            parts = item.name.split(".")
            if item.when != "load":
                continue
            if parts[0] in HOMES:
                where = f"{modules[name].relative}:{item.line}"
                found.append(f"{where}: {item.name} is loaded by `import {PACKAGE}`")
            waiting.extend(".".join(parts[: i + 1]) for i in range(len(parts)))
    return found


def check_relative(package: Path) -> list[str]:
    """Relative imports."""
    return [
        f"{module.relative}:{node.lineno}: relative import"
        for module in sources(package)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def check_probing(package: Path) -> list[str]:
    """`hasattr(...)`, and `getattr` of a literal name."""
    found = []
    for module in sources(package):
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            literal = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
            if node.func.id == "hasattr" or (node.func.id == "getattr" and literal):
                found.append(f"{module.relative}:{node.lineno}: {ast.unparse(node)}")
    return found


MUTABLE = {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "deque", "Counter"}
ARRAYS = {"array", "asarray", "zeros", "ones", "full", "empty", "arange", "linspace", "eye"}


def is_mutable(node: ast.expr | None) -> bool:
    """A literal, a comprehension or a call that makes a list, a dict, a set or a NumPy array."""
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        library, _, maker = called.rpartition(".")
        return maker in MUTABLE or (library in ("np", "numpy") and maker in ARRAYS)
    return isinstance(
        node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    )


def check_mutable(package: Path) -> list[str]:
    """Mutable defaults of functions, and of the fields of records."""
    found = []
    for module in sources(package):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                defaults = [*node.args.defaults, *node.args.kw_defaults]
            elif isinstance(node, ast.ClassDef):
                fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
                defaults = [field.value for field in fields if "ClassVar" not in ast.unparse(field)]
            else:
                continue
            found += [
                f"{module.relative}:{value.lineno}: mutable default {ast.unparse(value)}"
                for value in defaults
                if value is not None and is_mutable(value)
            ]
    return found


CHECKS: dict[str, Callable[[Path], list[str]]] = {
    "layout": check_layout,
    "floors": check_floors,
    "homes": check_homes,
    "lazy": check_lazy,
    "relative": check_relative,
    "probing": check_probing,
    "mutable": check_mutable,
}

# A package in order. Each bad line below is added to it alone, and must be all that is found.
CLEAN = {
    "__init__.py": (
        "from infer.bridges.numpyro import from_numpyro as from_numpyro\n"
        "from infer.compare import compare as compare\n"
        "from infer.external.nuts import NUTS as NUTS\n"
        "from infer.particles.svgd import SVGD as SVGD\n"
        "from infer.run.loop import run as run\n"
    ),
    "py.typed": "",
    "core/__init__.py": "",
    "core/target.py": "import jax\nclass Target: ...\n",
    "run/loop.py": (
        "from typing import TYPE_CHECKING\n"
        "from infer.core.target import Target\n"
        "if TYPE_CHECKING:\n    import xarray\n"
        "def run(target: Target) -> 'xarray.DataTree': ...\n"
    ),
    "kernels/rbf.py": "from infer.core import target\nRBF = target\n",
    "particles/svgd.py": "from infer.kernels.rbf import RBF\nclass SVGD: kernel = RBF\n",
    "langevin/mala.py": "from infer.kernels.rbf import RBF\nMALA = RBF\n",
    "external/nuts.py": "class NUTS:\n    def step(self):\n        import blackjax\n",
    "compare.py": (
        "from typing import TYPE_CHECKING\n"
        "from infer.particles.svgd import SVGD\n"
        "if TYPE_CHECKING:\n    from matplotlib.figure import Figure\n"
        "def compare(x=None, names=()):\n"
        "    import matplotlib.pyplot as plt\n"
        "    from infer.bridges.arviz import to_arviz\n"
        "    return getattr(x, names[0]), SVGD, Figure, plt, to_arviz\n"
    ),
    "bridges/numpyro.py": "def from_numpyro():\n    from infer.bridges.inner import sites\n",
    "bridges/inner.py": "import numpyro\nsites = numpyro\n",
    "scoreboard/cases.py": "import infer\nimport numpyro\ncases = infer, numpyro\n",
    "bridges/arviz.py": "def to_arviz():\n    import xarray\n",
}

VIOLATIONS: list[tuple[str, str, str]] = [
    ("layout", "helpers/tools.py", "x = 1\n"),
    ("layout", "core/deep/table.csv", "1,2\n"),
    ("floors", "core/target.py", "from infer.run.loop import run\n"),
    ("floors", "core/target.py", "def f():\n    import infer.particles.svgd\n"),
    ("floors", "run/loop.py", "from infer.kernels.rbf import RBF\n"),
    ("floors", "run/loop.py", "from infer.particles.svgd import SVGD\n"),
    ("floors", "run/loop.py", "if TYPE_CHECKING:\n    from infer.compare import compare\n"),
    ("floors", "particles/svgd.py", "from infer.langevin.mala import MALA\n"),
    ("floors", "particles/svgd.py", "from infer.langevin import mala\n"),
    ("floors", "particles/svgd.py", "from infer import langevin\n"),
    ("floors", "particles/svgd.py", "from infer.compare import compare\n"),
    ("floors", "particles/svgd.py", "from infer.bridges.arviz import to_arviz\n"),
    ("floors", "langevin/mala.py", "import infer\n"),
    ("floors", "bridges/arviz.py", "from infer import SVGD\n"),
    ("floors", "compare.py", "def f():\n    from infer.scoreboard.cases import cases\n"),
    ("homes", "core/target.py", "def f():\n    from numpyro.distributions import Normal\n"),
    ("homes", "diagnostics/rhat.py", "def f():\n    import arviz_stats.base\n"),
    ("homes", "compare.py", "def f():\n    import pandas as pd\n"),
    ("homes", "particles/svgd.py", "def f():\n    import matplotlib.pyplot\n"),
    ("homes", "bridges/arviz.py", "def f():\n    import blackjax\n"),
    ("homes", "run/loop.py", "def f():\n    return importlib.import_module('xarray')\n"),
    ("lazy", "external/nuts.py", "import blackjax\n"),
    ("lazy", "external/nuts.py", "try:\n    import blackjax\nexcept ImportError: ...\n"),
    ("lazy", "external/nuts.py", "class C:\n    import blackjax.mcmc\n"),
    ("lazy", "external/nuts.py", "def f(x=__import__('blackjax')): ...\n"),
    ("lazy", "compare.py", "import matplotlib\n"),
    ("lazy", "bridges/numpyro.py", "from infer.bridges.inner import sites\n"),
    ("lazy", "bridges/__init__.py", "import numpyro\n"),
    ("relative", "particles/svgd.py", "from . import stein\n"),
    ("relative", "particles/svgd.py", "def f():\n    from ..core.target import Target\n"),
    ("probing", "run/loop.py", "def f(x): return hasattr(x, 'adapt')\n"),
    ("probing", "run/loop.py", "def f(x): return getattr(x, 'adapt', None)\n"),
    ("mutable", "run/loop.py", "def f(callbacks=[]): ...\n"),
    ("mutable", "run/loop.py", "def f(*, options={}): ...\n"),
    ("mutable", "run/loop.py", "f = lambda x=set(): x\n"),
    ("mutable", "run/loop.py", "def f(x=np.zeros(3)): ...\n"),
    ("mutable", "run/loop.py", "class R:\n    x: list = [1]\n"),
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The fabricated package, in order."""
    for name, text in CLEAN.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / PACKAGE


@pytest.mark.parametrize("rule", CHECKS)
def test_rule_accepts_a_package_in_order(rule, package):
    assert CHECKS[rule](package) == []


@pytest.mark.parametrize(("rule", "name", "line"), VIOLATIONS)
def test_rule_finds_its_violation(rule, name, line, package):
    path = package / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CLEAN.get(name, "") + line, encoding="utf-8")
    found = CHECKS[rule](package)
    assert found
    # A module loaded too early is reported where the library is imported, not on the way there.
    culprit = "bridges/inner.py" if line.startswith("from infer.bridges.inner") else name
    assert all(message.startswith(culprit) for message in found), found
    others = [message for other in CHECKS if other != rule for message in CHECKS[other](package)]
    assert others == []


@pytest.mark.parametrize("rule", CHECKS)
def test_infer_keeps(rule):
    package = ROOT / PACKAGE
    assert sources(package), "there is no source to check"
    found = CHECKS[rule](package)
    assert not found, "\n".join(found)


def test_import_infer_loads_no_library_with_a_home():
    assert (ROOT / PACKAGE / "__init__.py").is_file()
    script = f"import sys, {PACKAGE}; print(*sorted(set({sorted(HOMES)!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
