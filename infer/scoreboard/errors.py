"""How far draws are from a reference, and what that makes of a fit: right, gray or wrong."""

import math
from dataclasses import dataclass
from enum import Enum, StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infer.diagnostics.distances import sliced_wasserstein, sliced_wasserstein_floor

Array = NDArray[np.float64]

RIGHT_MEAN, RIGHT_LOG_SD = 0.1, math.log(1.1)
WRONG_MEAN, WRONG_LOG_SD = 0.3, math.log(1.3)
ROWS = 4000  # of each sample in the distance, whose cost grows with them
SIDES = (0.05, 0.95)


class Label(StrEnum):
    """What a fit is, whatever its verdict says."""

    RIGHT = "right"
    GRAY = "gray"
    WRONG = "wrong"


LETTERS: dict[str, str] = {Label.RIGHT: "R", Label.GRAY: "g", Label.WRONG: "W"}  # in tables


class Scale(Enum):
    """Center and width of a coordinate: mean and sd, or median and half of the 16-84 % range.

    The second is for targets whose moments are not finite, or are ruled by rare draws.
    """

    MOMENTS = "mean and sd"
    QUANTILES = "median and 16-84 % width"

    def of(self, x: Array) -> tuple[Array, Array]:
        """Center and width per column of x, (n, d)."""
        if self is Scale.MOMENTS:
            return x.mean(axis=0), x.std(axis=0)
        low, middle, high = np.quantile(x, [0.16, 0.5, 0.84], axis=0)
        return middle, (high - low) / 2


@dataclass(frozen=True)
class Errors:
    """The worst errors over the coordinates of the unconstrained scale.

    Attributes:
        mean: |center - reference center| / reference width.
        log_sd: |log(width / reference width)|.
        quantile: of the 5 and 95 % quantiles, |difference| / reference width.
        distance: the sliced Wasserstein distance to the reference, in pooled sd.
        floor: what that distance is between two ideal samples of the same sizes.
    """

    mean: float
    log_sd: float
    quantile: float
    distance: float
    floor: float

    @property
    def label(self) -> Label:
        """Right below 0.1 sd and log 1.1, wrong above 0.3 sd or log 1.3 or where not finite."""
        if not self.units <= 1.0:
            return Label.WRONG
        right = self.mean < RIGHT_MEAN and self.log_sd < RIGHT_LOG_SD
        return Label.RIGHT if right else Label.GRAY

    @property
    def units(self) -> float:
        """The worse of `mean` and `log_sd` in units of the limit of wrong; 1 is that limit."""
        return max(self.mean / WRONG_MEAN, self.log_sd / WRONG_LOG_SD)


LOST = Errors(math.inf, math.inf, math.inf, math.inf, math.nan)


def measure(
    z: ArrayLike,
    reference: ArrayLike,
    scale: Scale = Scale.MOMENTS,
    known: tuple[Array, Array] | None = None,
) -> Errors:
    """Errors of draws against reference draws, coordinate by coordinate.

    Draws that are not finite, or constant in a coordinate, have infinite errors. Cost
    O((n + m) d) and a distance between at most 4000 rows of each.

    Args:
        z: draws on the unconstrained scale, (n, d) or (chains, n, d).
        reference: reference draws, (m, d).
        scale: what center and width are.
        known: mean and sd per coordinate, of a fit whose parameters tell them: those of draws may
            hang on a few far ones.

    Raises:
        ValueError: shapes that do not fit, or no draws.
    """
    x, y = np.asarray(z, np.float64), np.asarray(reference, np.float64)
    if x.ndim not in (2, 3) or y.ndim != 2 or x.shape[-1] != y.shape[-1] or not (x.size and y.size):
        raise ValueError(
            f"draws {x.shape} and reference {y.shape} do not fit: they need shapes (n, d) or "
            "(chains, n, d), and (m, d)."
        )
    x = x.reshape(-1, x.shape[-1])
    if not np.isfinite(x).all() or np.any(np.ptp(x, axis=0) == 0):
        return LOST
    (center, width), (true_center, true_width) = scale.of(x), scale.of(y)
    if known is not None and scale is Scale.MOMENTS:
        center, width = known
    sides = np.abs(np.quantile(x, SIDES, axis=0) - np.quantile(y, SIDES, axis=0))
    with np.errstate(divide="ignore"):
        log_sd = np.abs(np.log(width / true_width))
    few, ideal = thinned(x), thinned(y)
    return Errors(
        mean=float(np.max(np.abs(center - true_center) / true_width)),
        log_sd=float(np.max(log_sd)),
        quantile=float(np.max(sides / true_width)),
        distance=sliced_wasserstein(few, ideal),
        floor=sliced_wasserstein_floor(y, len(few), len(ideal)),
    )


def thinned(x: Array) -> Array:
    """At most 4000 rows, evenly spaced."""
    return x[np.linspace(0, len(x) - 1, min(len(x), ROWS)).round().astype(int)]
