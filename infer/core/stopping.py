"""When a run has done its work: rules that read what it recorded."""

import dataclasses
import math
from abc import ABC, abstractmethod

import numpy as np

from infer.core.evidence import Evidence
from infer.core.outcome import Ending

Record = dict[str, np.ndarray]  # of one chain: "loss" and "stats/..." by name, each (rows, ...)


class AbstractStopping(ABC):
    """A rule that ends a run before its last step, and says afterwards what became of it.

    It reads one chain's record and nothing else, at fixed step numbers, so neither chunk size nor
    progress can move it. Rules are compared and hashed by their settings: frozen dataclasses.

    Attributes:
        every: steps between looks, >= 1.
    """

    every: int

    def looks_at(self, thin: int) -> int:
        """Steps between looks at a run recorded every `thin` steps: `every`, rounded up."""
        return -(-self.every // thin) * thin

    @abstractmethod
    def look(self, record: Record, thin: int) -> Ending | None:
        """How this chain has ended, or None if it has to go on."""

    @abstractmethod
    def evidence(self, record: Record) -> Evidence:
        """What the end of the record says for or against the fit."""

    @abstractmethod
    def hint(self, record: Record) -> str:
        """What to do about a fit of this record that turned out wrong; may be empty."""


@dataclasses.dataclass(frozen=True)
class LossSettled(AbstractStopping):
    """Stop when the loss can no longer be falling by more than `tolerance` nats.

    At every multiple of `every` steps, from `minimum` on, the mean loss `a` of the third quarter
    of the run so far is compared with the mean `b` of its last quarter:

        stop  if  |a - b| + 2 se(a - b) < tolerance,

    `se` from the means of 10 blocks per quarter, so that slow noise counts too. The windows grow
    with the run, hence a noisy loss is not mistaken for a settled one: where the noise is larger
    than the tolerance the run goes on to its last step, and the verdict says that it did not
    settle. The checks fall on fixed step numbers, so chunk size and progress cannot move them.

    Attributes:
        tolerance: nats, > 0. A KL divergence that falls by less moves no mean by much.
        minimum: no check before this step, >= 40.
        every: steps between checks, >= 1.
    """

    tolerance: float = 0.05
    minimum: int = 1000
    every: int = 250

    def __post_init__(self) -> None:
        """Refuse a rule that could never fire or never be evaluated."""
        if not self.tolerance > 0 or self.minimum < 40 or self.every < 1:
            raise ValueError(
                f"LossSettled needs tolerance > 0, minimum >= 40 and every >= 1, got {self}. "
                "To take every step write `stopping=None`."
            )

    def look(self, record: Record, thin: int) -> Ending | None:
        """Converged, once the loss has settled."""
        return Ending.CONVERGED if self.settled(record["loss"], thin) else None

    def change(self, losses: np.ndarray) -> tuple[float, float]:
        """Fall of the mean loss from third to last quarter of a run, and its standard error."""
        quarter = len(losses) // 4
        blocks = np.asarray(losses[-2 * quarter :], np.float64)
        blocks = blocks[: 20 * (len(blocks) // 20)].reshape(20, -1).mean(axis=1)
        first, last = blocks[:10], blocks[10:]
        with np.errstate(invalid="ignore"):  # refused steps have infinite losses
            se = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / 10)
            return float(first.mean() - last.mean()), float(se)

    def settled(self, losses: np.ndarray, thin: int = 1) -> bool:
        """Has a run settled whose loss was recorded every `thin` steps? NaN never settles."""
        if len(losses) * thin < self.minimum or len(losses) < 40:
            return False
        return self._at_rest(*self.change(losses))

    def evidence(self, record: Record) -> Evidence:
        """Whether the loss had settled; reported, since a settled loss proves no right fit."""
        fall, se = self._change_at_the_end(record)
        if not math.isfinite(fall):
            meaning = "not measured: too few losses were recorded"
        elif self._at_rest(fall, se):
            meaning = "the loss has settled"
        elif self._falling(fall, se):
            meaning = self.hint(record)
        else:
            meaning = (
                "the loss is too noisy to tell whether it has settled (change "
                f"{fall:.2g} +/- {se:.2g} nats): more samples per step or more steps would show"
            )
        threshold = f"< {self.tolerance:g} nats with its error"
        return Evidence("loss settled", fall, threshold, "info", meaning)

    def hint(self, record: Record) -> str:
        """More steps, where the loss was still falling."""
        fall, se = self._change_at_the_end(record)
        if not self._falling(fall, se):
            return ""
        return (
            f"The loss was still falling, by {fall:.3g} nats over the last quarter of the run: "
            "take more steps (result.extend(steps=...)) or, if there is one, a larger step size"
        )

    def came_to_rest(self, record: Record) -> bool:
        """Was the loss at rest at the end, however short the run?"""
        return self._at_rest(*self._change_at_the_end(record))

    def _change_at_the_end(self, record: Record) -> tuple[float, float]:
        losses = record.get("loss", np.zeros(0))
        return self.change(losses) if len(losses) >= 80 else (math.nan, math.nan)

    def _at_rest(self, fall: float, se: float) -> bool:
        return abs(fall) + 2 * se < self.tolerance

    def _falling(self, fall: float, se: float) -> bool:
        return fall > max(2 * se, self.tolerance)
