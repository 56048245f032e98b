"""The stopping rule of the fits that check themselves, and what it tells the verdict."""

import dataclasses

import numpy as np

from infer.core.checks import check_count
from infer.core.evidence import Evidence, Status
from infer.core.outcome import Ending
from infer.core.stopping import AbstractStopping, Record
from infer.gaussian.certified import (
    CONVERGED,
    LINE_SEARCH,
    MINIBATCH,
    NO_DENSITY,
    RUNNING,
    SLOWLY,
    TOO_FEW_POINTS,
)

WHY = {
    RUNNING: "it was stopped too early, take more steps (result.extend(steps=...))",
    LINE_SEARCH: (
        "no step lowers the objective any more (improper posterior, rough density). Give every "
        "parameter a proper prior, or use infer.NUTS()"
    ),
    SLOWLY: (
        "the residual stopped falling (a funnel, heavy tails, or an improper posterior). Write "
        "the model differently, or use infer.NUTS()"
    ),
    TOO_FEW_POINTS: "fresh points do not confirm the fit, however many there are: use infer.NUTS()",
    NO_DENSITY: (
        "no Gaussian around the start has a finite log density everywhere. Give parameters their "
        "supports, or a start, init="
    ),
}
KINKS = (
    "The Hessians do not agree with the gradients: the log density has kinks, or bends so sharply "
    "that few points see it. Use oracle=infer.Stein(), which needs gradients alone"
)


@dataclasses.dataclass(frozen=True)
class Certified(AbstractStopping):
    """Stop when the fit has been confirmed on fresh points, or has given up.

    It reads `reason` from the record, which the algorithm sets: 0 while it goes on, 1 converged, 2
    no step lowers the objective, 3 too many steps on one set of points, 4 fresh points disagree
    however many there are, 5 no finite density, 6 minibatches, which cannot be certified.

    Attributes:
        every: steps between looks, >= 1. Steps after the end cost nothing.
    """

    every: int = 5

    def __post_init__(self) -> None:
        """Refuse a rule that never looks."""
        check_count("Certified", "every", self.every, 5)

    def look(self, record: Record, thin: int) -> Ending | None:
        """The end that the algorithm recorded."""
        reason = int(record["stats/reason"][-1])
        if reason in (RUNNING, MINIBATCH):
            return None
        return Ending.CONVERGED if reason == CONVERGED else Ending.GAVE_UP

    def evidence(self, record: Record) -> Evidence:
        """The gap to the best Gaussian, confirmed or not."""
        name, threshold = "converged", "confirmed on fresh points"
        if "stats/reason" not in record:
            meaning = "not converged: stopped before the first step"
            return Evidence(name, np.nan, threshold, "failed", meaning)
        reason, gap = int(record["stats/reason"][-1]), float(record["stats/gap"][-1])
        residual = float(record["stats/residual"][-1])
        if reason == CONVERGED:
            meaning = f"converged: about {max(gap, 0):.1g} nats from the best Gaussian"
            return Evidence(name, gap, threshold, "ok", meaning)
        if reason == MINIBATCH:
            meaning = "not measured: the noise of minibatches hides the gap to the best Gaussian"
            return Evidence(name, np.nan, threshold, "info", meaning)
        shown = gap if np.isfinite(gap) else residual / 2
        # Where the iteration itself broke down there may be no best Gaussian to be near to.
        near = shown < 0.1 and reason in (RUNNING, TOO_FEW_POINTS)
        status: Status = "suspect" if near else "failed"
        meaning = f"not converged: {WHY[reason]}"
        meaning += f"; about {shown:.2g} nats from the best Gaussian" if near else ""
        meaning += f". {KINKS}" if _kinks(record) else ""
        return Evidence(name, shown, threshold, status, meaning)

    def hint(self, record: Record) -> str:
        """A density with kinks, which Hessians cannot see."""
        converged = "stats/reason" in record and record["stats/reason"][-1] == CONVERGED
        return KINKS if converged and _kinks(record) else ""


def _kinks(record: Record) -> bool:
    return "stats/kink" in record and bool(record["stats/kink"][-1] > 0.05)
