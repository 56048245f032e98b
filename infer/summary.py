"""A table of a posterior, with the verdict under it."""

import dataclasses
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from infer.bridges.tables import dataframe
from infer.core.evidence import Verdict
from infer.diagnostics.chains import ess_bulk, rhat

if TYPE_CHECKING:
    import pandas

    from infer.result import Result

MOST_ROWS = 60


@dataclasses.dataclass(frozen=True)
class Summary:
    """Rows of statistics, one per scalar variable; printing it shows the table and the verdict."""

    title: str
    rows: dict[str, dict[str, float]]
    verdict: Verdict
    notes: tuple[str, ...]

    def to_dataframe(self) -> "pandas.DataFrame":
        """The table as a pandas DataFrame."""
        return dataframe(self.rows)

    def __getitem__(self, name: str) -> dict[str, float]:
        """Statistics of one scalar variable."""
        return self.rows[name]

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows

    def __str__(self) -> str:
        table = Table(title=self.title, title_justify="left")
        columns = list(next(iter(self.rows.values()), {}))
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        for name, row in list(self.rows.items())[:MOST_ROWS]:
            table.add_row(name, *(_number(column, row[column]) for column in columns))
        notes = list(self.notes)
        if len(self.rows) > MOST_ROWS:
            notes.append(
                f"{len(self.rows) - MOST_ROWS} more rows: summary().to_dataframe(), or variables="
            )
        shown = render(table) if self.rows else f"{self.title}\n"
        return shown + "\n".join([*notes, str(self.verdict)])


def render(thing: Any, width: int = 110) -> str:
    """A rich renderable as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(thing)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def scalars(draws: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every scalar component of named draws, (chain, draw) by name: `mu`, `theta[3]`."""
    flat = {}
    for name, values in draws.items():
        for index in np.ndindex(*values.shape[2:]):
            label = name + ("[" + ",".join(map(str, index)) + "]" if index else "")
            flat[label] = values[(slice(None), slice(None), *index)]
    return flat


def summarize(result: "Result", variables: Iterable[str] | None = None) -> Summary:
    """Mean, sd and 5/50/95 % quantiles; R-hat and bulk ESS where the draws are chains."""
    chains = result.is_chains
    rows = {}
    draws = result.draws()
    if isinstance(variables, str):
        raise TypeError(f'summary needs a list of names, got {variables!r}; write ["{variables}"].')
    if variables is not None:
        wanted = list(variables)
        if missing := [name for name in wanted if name not in draws]:
            raise ValueError(f"there are no variables {missing}; there are {sorted(draws)}.")
        draws = {name: draws[name] for name in wanted}
    for name, x in scalars(draws).items() if result.z.shape[1] else ():
        if not chains:
            x = x[result.best : result.best + 1]
        low, middle, high = np.quantile(x, (0.05, 0.5, 0.95))
        row = {"mean": x.mean(), "sd": x.std(), "5%": low, "50%": middle, "95%": high}
        if chains:
            row |= {"R-hat": float(rhat(x)), "bulk ESS": float(ess_bulk(x))}
        rows[name] = {k: float(v) for k, v in row.items()}
    c, n, _ = result.z.shape
    t = result.timings
    notes: tuple[str, ...] = (
        f"{result.outcome}; {result.gradients} gradients; seconds: compile {t.compile:.2f}, "
        f"warmup {t.warmup:.2f}, run {t.run:.2f}, verdict {t.verdict:.2f}",
    )
    if any(e.name == "adjusted" for e in result.verdict.evidence):
        notes += ("R-hat and ESS ignore the bias of the step size of this unadjusted sampler.",)
    return Summary(f"{result.algorithm_name}: {c} x {n} draws", rows, result.verdict, notes)


def _number(column: str, value: float) -> str:
    if column == "bulk ESS":
        return f"{value:.0f}"
    return f"{value:.3f}" if column == "R-hat" else f"{value:.4g}"
