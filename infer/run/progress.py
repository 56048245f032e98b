"""A progress bar on a terminal; silence elsewhere."""

import sys
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from infer.run.loop import Progress


class ProgressBar:
    """A callback that draws a bar while standard error is a terminal.

    It only listens: what is computed is the same with and without it.
    """

    def __init__(self, name: str, shown: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        quiet = not shown or not sys.stderr.isatty()
        self.name = name
        self.bar = Bar(*columns, console=Console(stderr=True), transient=True, disable=quiet)
        self.tasks: dict[str, object] = {}

    def __enter__(self) -> "ProgressBar":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far the run is, and its mean loss."""
        loss = f"loss {np.mean(progress.loss, dtype=np.float64):.4g}" if progress.loss.size else ""
        if progress.phase not in self.tasks:
            label = f"{self.name} {progress.phase}"
            self.tasks[progress.phase] = self.bar.add_task(label, total=progress.total, loss="")
        self.bar.update(self.tasks[progress.phase], completed=progress.step, loss=loss)  # type: ignore[arg-type]
