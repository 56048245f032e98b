"""What `infer.compare` returns, and how it prints."""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table

from infer.summary import render

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 20  # scalars shown in print; the data frame has all


class Distance(NamedTuple):
    """A distance between two samples, and what sampling noise alone gives for their sizes."""

    value: float
    floor: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Results side by side; printing it shows the tables.

    Attributes:
        fits: per result its algorithm, verdict, main reason, gradients, seconds and draws.
        estimates: per scalar variable and result its mean and standard deviation.
        distances: per pair of results the sliced Wasserstein distance of their draws, in standard
            deviations, with its floor: the distance of two ideal samples of the same sizes, where
            a chain counts as many draws as its effective sample size.
        notes: what was left out, and what was compared.
    """

    fits: dict[str, dict[str, Any]]
    estimates: dict[str, dict[str, tuple[float, float]]]
    distances: dict[tuple[str, str], Distance]
    notes: tuple[str, ...]

    def to_dataframe(self) -> "pandas.DataFrame":
        """One row per result: how it was fitted, then mean and sd of every scalar variable."""
        from infer.bridges.tables import dataframe

        rows = {name: dict(row) for name, row in self.fits.items()}
        for scalar, cells in self.estimates.items():
            for name, (mean, sd) in cells.items():
                rows[name] |= {f"{scalar} mean": mean, f"{scalar} sd": sd}
        return dataframe(rows)

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows

    def __str__(self) -> str:
        fits = Table(title="fits", title_justify="left")
        fits.add_column("")
        for column in next(iter(self.fits.values())):
            fits.add_column(column, justify="left" if column in _TEXT else "right")
        for name, row in self.fits.items():
            fits.add_row(
                name, *(f"{x:.2f}" if isinstance(x, float) else str(x) for x in row.values())
            )
        shown = Table(title="mean ± sd", title_justify="left")
        shown.add_column("")
        for name in self.fits:
            shown.add_column(name, justify="right")
        for scalar, cells in list(self.estimates.items())[:MOST_ROWS]:
            shown.add_row(scalar, *(f"{mean:.4g} ± {sd:.3g}" for mean, sd in cells.values()))
        tables, notes = [fits, shown], list(self.notes)
        if len(self.estimates) > MOST_ROWS:
            more = len(self.estimates) - MOST_ROWS
            notes.append(f"{more} more scalars: to_dataframe(), or choose them with variables=")
        if self.distances:
            apart = Table(title="sliced Wasserstein distance, in sd", title_justify="left")
            for column in ("", "distance", "floor"):
                apart.add_column(column, justify="right" if column else "left")
            for (a, b), distance in self.distances.items():
                apart.add_row(f"{a} - {b}", f"{distance.value:.3f}", f"{distance.floor:.3f}")
            tables.append(apart)
        width = max(120, 24 * (len(self.fits) + 1))
        return "".join(render(table, width) for table in tables) + "\n".join(notes)


_TEXT = ("algorithm", "verdict", "main reason")
