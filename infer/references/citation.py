"""A work to cite, as BibTeX and in words, and the note of who cites it.

Bibliographic facts are written once, here and in the modules beside this one. An algorithm or a
part names its works by `@cites(...)` above its definition; nothing else has to be told.
"""

import re
import unicodedata
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

Thing = TypeVar("Thing", bound=Hashable)

ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030c": "v",
    "\u0327": "c",
}
LETTERS = {"ø": r"{\o}", "Ø": r"{\O}", "ł": r"{\l}", "χ": r"$\chi$", "²": "$^2$", "&": r"\&"}
SKIPPED = {"a", "an", "on", "the"}  # first words of titles that keys leave out


class EntryType(Enum):
    """What a work is to BibTeX: the type of its entry, and the field that names its venue."""

    ARTICLE = ("article", "journal")
    PROCEEDINGS = ("inproceedings", "booktitle")
    CHAPTER = ("incollection", "booktitle")
    BOOK = ("book", "publisher")
    THESIS = ("phdthesis", "school")
    MISC = ("misc", "howpublished")


@dataclass(frozen=True)
class Citation:
    """A work: who wrote it, what it is called, where and when it came out.

        infer.Citation(
            "Liu, Qiang and Wang, Dilin",
            "Stein variational gradient descent: a general purpose Bayesian inference algorithm",
            "Advances in Neural Information Processing Systems",
            2016,
            infer.EntryType.PROCEEDINGS,
        )

    Args:
        authors: as BibTeX has them: family name, a comma, given names, joined by "and".
        title: in the case of a sentence; capitals in it are kept by every BibTeX style.
        venue: journal, proceedings, publisher or school; of a preprint "arXiv:2503.01707".
        year: of publication.
        kind: what it is.
        volume: of a journal, as text, or "".
        number: within the volume, as text, or "".
        url: where software lives, or "".
        name: the key, if it is to be another than author, year and first word of the title.

    Raises:
        ValueError: for an author without a comma, no title, or braces that do not match.
    """

    authors: str
    title: str
    venue: str
    year: int
    kind: EntryType = EntryType.ARTICLE
    volume: str = ""
    number: str = ""
    url: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse what BibTeX would misread."""
        for author in self.authors.split(" and "):
            if "," not in author and author != "others" and not author.startswith("{"):
                raise ValueError(
                    f"a citation needs authors as 'Family, Given and Family, Given', got "
                    f"{self.authors!r}; write 'Liu, Qiang and Wang, Dilin', and an institution as "
                    "'{DeepMind}'."
                )
        if not re.search("[a-z0-9]", _ascii(self.title)):
            raise ValueError(f"a citation needs a title, got {self.title!r}; write it in words.")
        for text in (self.authors, self.title, self.venue):
            if text.count("{") != text.count("}"):
                raise ValueError(f"the braces do not match in {text!r}; write one to close each.")

    @property
    def families(self) -> tuple[str, ...]:
        """Family names of the authors, "others" for those left out."""
        return tuple(a.split(",")[0].strip("{}") for a in self.authors.split(" and "))

    @property
    def key(self) -> str:
        """The key of the entry, for instance hoffman2014no: the same in every document."""
        words = [w for w in re.findall(r"[a-z0-9]+", _ascii(self.title)) if w not in SKIPPED]
        family = re.sub(r"[^a-z]", "", _ascii(self.families[0]))
        return self.name or f"{family}{self.year}{''.join(words[:1])}"

    @property
    def short(self) -> str:
        """Authors and year as in running text: Liu and Wang (2016)."""
        first, *rest = self.families
        several = len(rest) > 1 or rest == ["others"]
        more = " et al." if several else "".join(f" and {family}" for family in rest)
        return f"{first}{more} ({self.year})"

    @property
    def text(self) -> str:
        """The reference in words, on one line."""
        people = " and ".join(a.strip("{}") for a in self.authors.split(" and "))
        issue = f"({self.number})" if self.number else ""
        volume = f" {self.volume}{issue}" if self.volume else ""
        return f"{people}. {self.title}. {self.venue}{volume}, {self.year}."

    @property
    def bibtex(self) -> str:
        """The entry, in letters that every version of BibTeX reads."""
        entry, place = self.kind.value
        fields = {
            "author": _latex(self.authors),
            "title": _latex(_kept(self.title)),
            place: _latex(self.venue),
            "year": str(self.year),
            "volume": self.volume,
            "number": self.number,
            "url": self.url,
        }
        lines = [f"  {field} = {{{value}}}," for field, value in fields.items() if value]
        return "\n".join([f"@{entry}{{{self.key},", *lines, "}"])


_cited: dict[Hashable, tuple[Citation, ...]] = {}


def cites(*works: Any) -> Callable[[Thing], Thing]:
    """Note that a class or function stands on these works: a decorator that changes nothing.

        @infer.cites(infer.Citation("Doe, Jane", "A sampler", "arXiv:2601.00001", 2026))
        class Mine(infer.AbstractSampler): ...

    Args:
        works: what `infer.cite` names for it, the main work first; none if there is none to name.

    Returns:
        A decorator, which returns what it is given.

    Raises:
        TypeError: for anything but citations.
    """
    for work in works:
        if not isinstance(work, Citation):
            raise TypeError(
                f"cites needs citations, got {work!r}; write @infer.cites(infer.Citation(authors, "
                "title, venue, year)) above the class."
            )

    def note(thing: Thing) -> Thing:
        _cited[thing] = works
        return thing

    return note


def works_of(thing: Hashable) -> tuple[Citation, ...] | None:
    """What a class or function cites; None if it was never noted."""
    return _cited.get(thing)


def cited() -> dict[Hashable, tuple[Citation, ...]]:
    """Everything that cites, with its works."""
    return dict(_cited)


def _kept(title: str) -> str:
    """A title with braces around the words whose capitals are to stay; its first letter stays."""
    words = re.split(r"([\s:.!?,'\"-]+)", title)
    plain = [word.lower() if i else word[:1] + word[1:].lower() for i, word in enumerate(words)]
    kept = [w if w == p else f"{{{w}}}" for w, p in zip(words, plain, strict=True)]
    return "".join(kept)


def _latex(text: str) -> str:
    """Letters with accents as LaTeX commands, which every version of BibTeX sorts and prints."""
    found = []
    for letter in text:
        base, *marks = unicodedata.normalize("NFD", letter)
        if marks:
            letter = f"{{\\{ACCENTS[marks[0]]}{{{base}}}}}"
        found.append(LETTERS.get(letter, letter))
    return "".join(found)


def _ascii(text: str) -> str:
    """Lower case without accents."""
    plain = text.replace("ø", "o").replace("ł", "l").replace("χ", "chi")
    return unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().lower()
