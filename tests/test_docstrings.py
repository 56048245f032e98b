"""Docstrings in the form of the house, for every public name.

An algorithm says in one sentence what it is, then shows its formula, its arguments with their
ranges, what a step costs, what it cannot do and where it comes from. A part has a formula; a
function says what it takes, gives and refuses. The rules are applied to fabricated classes first.
"""

import ast
import dataclasses
import enum
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import get_args

import equinox as eqx
import pytest

import infer
from infer.core.algorithm import AbstractAmortizer, AbstractApproximator, AbstractSampler
from infer.core.nonsmooth import AbstractNonsmooth
from infer.core.posterior import AbstractFamily
from infer.core.types import Scalar
from infer.kernels.radial import AbstractRadialKernel
from infer.likelihoods.likelihood import AbstractLikelihood
from infer.objectives.estimator import AbstractEstimator
from infer.objectives.objective import AbstractObjective
from infer.regularizers.regularizer import AbstractRegularizer

ALGORITHMS = (AbstractSampler, AbstractApproximator, AbstractAmortizer)
PARTS = (
    AbstractEstimator,
    AbstractFamily,
    AbstractRadialKernel,
    AbstractLikelihood,
    AbstractNonsmooth,
    AbstractObjective,
    AbstractRegularizer,
)
PARAGRAPHS = (r"Cost per [\w ]+", "Limits", "Source")
HEADS = ("Args", "Attributes", "Returns", "Raises")
EQUATION = re.compile(r"[\w)\]}'] (=|<=|>=|~|<-|->) [\w(\[{|-]")
RANGE = re.compile(r"[<>]|\bas in\b|\bin [(\[]|\bdivisor\b|\bNone\b|\bschedule\b")
NUMBERS = (Scalar, int, float)


@dataclasses.dataclass(frozen=True)
class Doc:
    """A docstring taken apart: its first sentence, its text, and its sections."""

    first: str
    text: str
    sections: dict[str, str]

    @classmethod
    def of(cls, thing):
        parts = re.split(rf"^({'|'.join(HEADS)}):$", inspect.getdoc(thing) or "", flags=re.M)
        sections = {}
        text = parts[0]
        for head, body in zip(parts[1::2], parts[2::2], strict=True):
            inside = re.match(r"(?:\n*    .*|\n)*", body)
            assert inside is not None
            sections[head] = textwrap.dedent(inside[0])
            text += body[inside.end() :]
        return cls(parts[0].split("\n")[0], text, sections)

    def named(self, *heads):
        """What these sections explain, by name."""
        found = {}
        for head in heads:
            body = self.sections.get(head, "")
            entries = re.findall(r"^(\S.*?):((?: .*|\n(?=    ))*(?:\n    .*)*)", body, re.M)
            for names, words in entries:
                found |= {name.strip(" *"): " ".join(words.split()) for name in names.split(",")}
        return found

    def paragraph(self, head):
        """A paragraph that begins with this word and a colon."""
        return re.search(rf"(?:^|\n\n){head}: \S", self.text)

    @property
    def formula(self):
        """An indented equation that is no line of code, or one within the text."""
        text = re.sub(r"^ +.*infer\..*$", "", self.text, flags=re.M)
        return re.search(r"^    .*[=~<>]", text, re.M) or EQUATION.search(text)


def order(doc):
    """A first line that ends with its sentence, and paragraphs for limits and source."""
    if not re.fullmatch(r"\S.*[.:]", doc.first):
        return [f"first line: {doc.first!r} is no sentence that ends on its line"]
    inside = re.findall(r"(?<!\n\n)(Limits|Source): ", doc.text)
    return [f"{head}: begins no paragraph of its own" for head in inside]


def explains(doc, names):
    said = doc.named("Args", "Attributes")
    found = [f"does not explain {name}" for name in names if not said.get(name)]
    return found + [f"explains {n}, which is none" for n in said if n not in names]


def fields_of(cls):
    """Public fields with their annotations: of the constructor, or set by it."""
    if dataclasses.is_dataclass(cls) and cls.__init__.__module__ != cls.__module__:
        found = {f.name: f.type for f in dataclasses.fields(cls) if f.init}
    else:
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        found = {p.name: p.annotation for p in parameters}
    return {name: kind for name, kind in found.items() if not name.startswith("_")}


def check_algorithm(cls):
    doc = Doc.of(cls)
    fields = fields_of(cls)
    said = doc.named("Args")
    found = order(doc) + explains(doc, fields)
    found += [] if doc.formula else ["shows no formula"]
    found += [f"has no paragraph {h}:" for h in PARAGRAPHS if not doc.paragraph(h)]
    for name, kind in fields.items():
        number = any(one in NUMBERS for one in get_args(kind) or (kind,))
        if number and name in said and not RANGE.search(said[name]):
            found.append(f"gives no range of {name}")
    return found


def check_part(cls):
    doc = Doc.of(cls)
    return check_class(cls) + ([] if doc.formula else ["shows no formula"])


def check_class(cls):
    doc = Doc.of(cls)
    if inspect.isabstract(cls):
        fields = [n for n in vars(cls).get("__annotations__", {}) if not n.startswith("_")]
        return order(doc) + explains(doc, fields)
    if issubclass(cls, enum.Enum):
        return order(doc)
    if dataclasses.is_dataclass(cls):
        return order(doc) + explains(doc, fields_of(cls))
    return order(doc) + explains(doc, assigned(cls))


def assigned(cls):
    """Public attributes that a constructor sets."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls.__init__)))
    stores = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    stores = [n for n in stores if isinstance(n.ctx, ast.Store) and ast.unparse(n.value) == "self"]
    return [n.attr for n in stores if not n.attr.startswith("_")]


def raised(function):
    """Exceptions that a function raises in its own body."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    thrown = [n.exc for n in ast.walk(tree) if isinstance(n, ast.Raise) and n.exc is not None]
    return {ast.unparse(e.func if isinstance(e, ast.Call) else e) for e in thrown}


def check_function(function):
    doc = Doc.of(function)
    signature = inspect.signature(function)
    found = order(doc) + explains(doc, list(signature.parameters))
    returns = doc.sections.get("Returns", "").strip("\n").split("\n")
    found += [] if returns[0] else ["has no Returns:"]
    found += [f"Returns: {line!r} reads as a second item" for line in returns[1:] if line[0] != " "]
    told = doc.named("Raises")
    return found + [f"does not tell of {e}" for e in sorted(raised(function)) if e not in told]


def kind_of(thing) -> Callable | None:
    if inspect.isfunction(thing):
        return check_function
    if not inspect.isclass(thing):
        return check_class if isinstance(thing, eqx.Module) else None
    if inspect.isabstract(thing):
        return check_class
    if issubclass(thing, ALGORITHMS):
        return check_algorithm
    return check_part if issubclass(thing, PARTS) else check_class


def public():
    places = {"": infer, "likelihoods.": infer.likelihoods, "regularizers.": infer.regularizers}
    for prefix, place in places.items():
        for name, thing in sorted(vars(place).items()):
            check = kind_of(thing)
            if not name.startswith("_") and check is not None:
                cls = type(thing) if isinstance(thing, eqx.Module) else thing
                yield pytest.param(check, cls, id=prefix + name)


@pytest.mark.parametrize(("check", "thing"), list(public()))
def test_is_in_the_form_of_the_house(check, thing):
    found = check(thing)
    assert not found, "\n".join([f"{thing.__module__}.{thing.__qualname__}:", *found])


class Good(eqx.Module):
    """A step of length h along g.

        z' = z + h g

    Cost per step: one gradient.

    Limits: small steps.

    Args:
        h: step size, > 0.
        name: what it is called,
            in two lines.

    Source: nobody, 2026.
    """

    h: Scalar = 1.0
    name: str = ""


def good(x, *rest):
    """The square of x.

    Args:
        x: a number.
        rest: not looked at.

    Returns:
        A number,
            never negative.

    Raises:
        ValueError: for a negative one.
    """
    if x < 0:
        raise ValueError("x")
    return x * x


def test_the_checkers_accept_what_is_in_order():
    assert check_algorithm(Good) == check_part(Good) == check_class(Good) == []
    assert check_function(good) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("\n\n    Limits", "\n    Limits", "no paragraph of its own"),
        ("A step of length h along g.", "A step of length h\n    along g.", "no sentence"),
        ("    z' = z + h g", "", "formula"),
        ("    z' = z + h g", "    q = infer.fit(z)", "formula"),
        ("Cost per step: one", "It costs one", "Cost"),
        ("Limits: small", "For small", "Limits:"),
        ("Source: nobody", "By nobody", "Source:"),
        ("h: step size, > 0.", "", "does not explain h"),
        (", > 0", "", "range of h"),
        ("name: what", "nome: what", "explains nome"),
        ("name: what", "nome: what", "does not explain name"),
    ],
)
def test_they_notice_what_is_missing_of_an_algorithm(old, new, complaint):
    assert old in Good.__doc__
    bad = dataclasses.make_dataclass("Bad", [("h", Scalar), ("name", str)], frozen=True)
    bad.__doc__ = Good.__doc__
    bad.__init__.__module__ = "dataclasses"
    assert check_algorithm(bad) == []
    bad.__doc__ = Good.__doc__.replace(old, new)
    assert any(complaint in line for line in check_algorithm(bad))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("x: a number.", "", "does not explain x"),
        ("rest: not", "others: not", "does not explain rest"),
        ("    Returns:\n        A number,\n            never negative.\n", "", "Returns:"),
        ("            never", "        never", "second item"),
        ("ValueError", "TypeError", "does not tell of ValueError"),
    ],
)
def test_they_notice_what_is_missing_of_a_function(old, new, complaint, monkeypatch):
    assert old in good.__doc__
    monkeypatch.setattr(good, "__doc__", good.__doc__.replace(old, new))
    assert any(complaint in line for line in check_function(good))
