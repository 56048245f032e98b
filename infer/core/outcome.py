"""How a run ended."""

import dataclasses
import enum


class Ending(enum.Enum):
    """Why a run stopped; the value is the sentence a user reads."""

    FINISHED = "took all its steps"
    CONVERGED = "stopped by its own rule: it has converged"
    GAVE_UP = "stopped by its own rule without having converged"
    NONFINITE = "a value that is not finite appeared; the last finite state was kept"
    INTERRUPTED = "interrupted; what was done until then was kept"
    OUT_OF_BUDGET = "reached max_seconds; what was done until then was kept"
    OUT_OF_MEMORY = "ran out of memory; what was done until then was kept"
    CALLBACK = "stopped by a callback; what was done until then was kept"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        ending: why it stopped.
        steps: recorded iterations taken (before thinning).
        nonfinite: per chain, how many steps were refused because they were not finite.
        first_nonfinite: per chain, the step of the first of them, or -1.
    """

    ending: Ending
    steps: int
    nonfinite: tuple[int, ...]
    first_nonfinite: tuple[int, ...]

    def __str__(self) -> str:
        """One sentence."""
        text = f"{self.ending.value} (step {self.steps})"
        if any(self.nonfinite):
            first = min(s for s in self.first_nonfinite if s >= 0)
            text += (
                f"; {sum(self.nonfinite)} steps in {sum(map(bool, self.nonfinite))} of "
                f"{len(self.nonfinite)} chains were not finite, the first at step {first}"
            )
        return text
