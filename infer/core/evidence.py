"""What is known for and against a fit."""

import dataclasses
from typing import Literal

Status = Literal["ok", "suspect", "failed", "info"]
_RANK = {"info": 0, "ok": 0, "suspect": 1, "failed": 2}


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One measured fact about a fit.

    Attributes:
        name: what was measured.
        value: the number, NaN where it could not be measured.
        threshold: the limit that the status was read from, as text; empty for plain information.
        status: "ok", "suspect" or "failed"; "info" never changes a verdict.
        meaning: one sentence for the reader of the report.
    """

    name: str
    value: float
    threshold: str
    status: Status
    meaning: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a fit can be trusted, and why.

    `status` is the worst status among the evidence. An "ok" means that none of the listed checks
    found fault; `not_looked_for` says what they cannot see.

    Attributes:
        evidence: what was measured, in the order of the report.
        not_looked_for: what the checks cannot see, as text.
    """

    evidence: tuple[Evidence, ...]
    not_looked_for: str = ""

    @property
    def status(self) -> Literal["ok", "suspect", "failed"]:
        """`"ok"`, `"suspect"` or `"failed"`."""
        worst = max((_RANK[e.status] for e in self.evidence), default=1)
        return ("ok", "suspect", "failed")[worst]

    @property
    def reasons(self) -> tuple[Evidence, ...]:
        """All evidence against the fit, the worst first; empty for an "ok"."""
        against = [e for e in self.evidence if _RANK[e.status] > 0]
        return tuple(sorted(against, key=lambda e: -_RANK[e.status]))

    def __getitem__(self, name: str) -> Evidence:
        """The evidence of this name."""
        for evidence in self.evidence:
            if evidence.name == name:
                return evidence
        raise KeyError(f"no evidence named {name!r}; there is {[e.name for e in self.evidence]}")

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows

    def __str__(self) -> str:
        """The status, and a line for each reason: its status, its name, what it means."""
        lines = [f"verdict: {self.status}"]
        lines += [f"  {e.status}, {e.name}: {e.meaning}" for e in self.reasons]
        if self.not_looked_for:
            lines.append(f"  not looked for: {self.not_looked_for}")
        return "\n".join(lines)
