"""When an optimization has settled, judged through the noise of its loss."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class LossSettled:
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

    def looks_at(self, thin: int) -> int:
        """Steps between checks of a run recorded every `thin` steps: `every`, rounded up."""
        return -(-self.every // thin) * thin

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
        fall, se = self.change(losses)
        return abs(fall) + 2 * se < self.tolerance
