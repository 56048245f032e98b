"""What to cite: the works that a fit, an algorithm or a part stands on, as BibTeX."""

import dataclasses
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import optax

from infer.amortized_result import AmortizedResult
from infer.improve import improve
from infer.optimizers.optimizer import Optimizer
from infer.references.citation import Citation, cited, works_of
from infer.references.software import JAX, OPTAX, PACKAGES, this_library
from infer.result import Result
from infer.run.checkpoint import origin

OWN = "infer"  # the package whose parts need no note where they have no source


@dataclasses.dataclass(frozen=True)
class Bibliography:
    """Works, each once, with what each is cited for; prints as BibTeX.

        print(infer.cite(result))          # paste into a .bib file
        print(infer.cite(result).text)     # paste into a section on methods

    Attributes:
        uses: pairs of what was used ("NUTS", "preconditioner Diagonal") and its works.
        missing: what was used and has no entry, with the line that gives it one.
    """

    uses: tuple[tuple[str, tuple[Citation, ...]], ...]
    missing: tuple[str, ...] = ()

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Every work once, in order of use."""
        return tuple(dict.fromkeys(work for _, works in self.uses for work in works))

    @property
    def keys(self) -> tuple[str, ...]:
        r"""Keys of the entries: \cite{...} takes them, joined by commas."""
        return tuple(work.key for work in self.citations)

    @property
    def text(self) -> str:
        """One sentence: what was used, each with authors and years."""
        named = [f"{use}: {', '.join(w.short for w in works)}" for use, works in self.uses]
        return "; ".join(named) + "."

    @property
    def bibtex(self) -> str:
        """The entries, each below a comment that says what it is for, and what is missing."""
        entries = []
        for work in self.citations:
            uses = [use for use, works in self.uses if work in works]
            entries.append(f"% {', '.join(uses)}\n{work.bibtex}")
        return "\n\n".join([*entries, *(f"% without an entry: {line}" for line in self.missing)])

    def __str__(self) -> str:
        return self.bibtex


def cite(*things: Any) -> Bibliography:
    """The works to cite for results, algorithms, parts, functions, or exports by name.

        infer.cite(result)    infer.cite(infer.VI(infer.RealNVP()))    infer.cite("NUTS", "improve")

    An object is cited with all it consists of (family, objective, estimator, optimizer,
    preconditioner, kernel, mirror map, BlackJAX's kernel), a result with its algorithm and its
    target (model language, mirror maps, control variates); a class, a function or a name for itself
    alone, since what it will be called with is not known. JAX and this library are always added.

    Args:
        things: any number of them.

    Returns:
        A `Bibliography`. What is used and has no entry, such as a kernel of your own, is in its
            `missing`; so are the parts of a result that was loaded without algorithm and target.

    Raises:
        TypeError: for an object that is no part of a fit and has no works.
        ValueError: for a name that is no export.
    """
    uses: dict[str, tuple[Citation, ...]] = {}
    missing: list[str] = []
    versions: dict[str, None] = {}  # a set that keeps its order
    for thing in things:
        if isinstance(thing, Result | AmortizedResult):
            versions[thing.made["infer"]] = None
            pairs, lost = _of_result(thing)
            missing += lost
        else:
            pairs = _asked(thing)
        for use, part in pairs:
            works, lack = _works(part)
            if works:
                uses[use] = tuple(dict.fromkeys((*uses.get(use, ()), *works)))
            missing += [f"{use}; {lack}"] if lack else []
    uses |= {
        "arrays and gradients": (JAX,),
        "inference": (this_library(", ".join(versions or [origin()["infer"]])),),
    }
    return Bibliography(tuple(uses.items()), tuple(dict.fromkeys(missing)))


def _of_result(result: Result | AmortizedResult) -> tuple[list[tuple[str, Any]], list[str]]:
    """What a result was made with, and what its file did not keep."""
    pairs: list[tuple[str, Any]] = []
    lost = []
    for role, part in (("algorithm", result.algorithm), ("target", result.problem)):
        if part is None:
            lost.append(
                f"the {role} and its parts, which a file does not hold; write "
                "infer.load(path, target, algorithm).cite()"
            )
        else:
            pairs += _parts(part, "")
    if result.algorithm is None:
        exported = vars(sys.modules[OWN]).get(result.algorithm_name)
        pairs += [] if exported is None else [(result.algorithm_name, exported)]
    if isinstance(result, Result) and result.resampled:
        pairs.append(("improve", improve))
    return pairs, lost


def _asked(thing: Any) -> list[tuple[str, Any]]:
    """What the user asked for, by name or as it is."""
    exports = vars(sys.modules[OWN])
    if isinstance(thing, str):
        if thing.startswith("_") or thing not in exports:
            raise ValueError(
                f"infer exports no {thing!r}; write infer.cite('NUTS'), or one of "
                f"{', '.join(_citable(exports))}."
            )
        return [(thing, exports[thing])]
    if inspect.isclass(thing) or inspect.isroutine(thing):
        pairs = [(_name(thing), thing)]
    else:
        pairs = list(_parts(thing, ""))
    found = [_works(part) for _, part in pairs]
    if not pairs or all(lack and not works for works, lack in found):
        raise TypeError(
            f"cite needs a result, an algorithm, a part or the name of an export, got {thing!r}; "
            "write infer.cite(result), infer.cite(infer.NUTS()), or @infer.cites(infer.Citation("
            "authors, title, venue, year)) above a class of your own."
        )
    return pairs


def _citable(exports: Mapping[str, Any]) -> list[str]:
    """Exports that have works of their own."""
    noted = cited()
    return [name for name, thing in sorted(exports.items()) if callable(thing) and thing in noted]


def _parts(thing: Any, role: str) -> Iterator[tuple[str, Any]]:
    """An object and, one after the other, all records and functions that it holds.

    `role` is the field that holds it.
    """
    if isinstance(thing, functools.partial):
        yield from _parts(thing.func, role)
    elif isinstance(thing, Optimizer):
        yield from _parts(thing.factory, role)
    elif isinstance(thing, optax.GradientTransformation):
        yield role or "optimizer", thing
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield f"{role} {_name(type(thing))}".strip(), type(thing)
        for field in dataclasses.fields(thing):
            yield from _parts(getattr(thing, field.name), field.name)
    elif isinstance(thing, Mapping):
        for item in thing.values():
            yield from _parts(item, role)
    elif isinstance(thing, tuple | list):
        for item in thing:
            yield from _parts(item, role)
    elif inspect.isroutine(thing) and works_of(thing) is not None:
        yield f"{role} {_name(thing)}".strip(), thing


def _works(part: Any) -> tuple[tuple[Citation, ...], str | None]:
    """The works of a class or function; and the line to write where there should be more."""
    noted = works_of(part)
    if isinstance(part, optax.GradientTransformation):
        lack = "it forgot its name when it was made; write infer.optimizer(optax.adam, ...)"
        return ((OPTAX,), lack) if noted is None else (noted, None)
    package = part.__module__.split(".")[0]
    if noted is None and package not in (OWN, *PACKAGES):
        return (), "decorate its class with infer.cites(infer.Citation(...))"
    return (noted or ()) + ((PACKAGES[package],) if package in PACKAGES else ()), None


def _name(thing: Any) -> str:
    return thing.__name__.strip("_")
