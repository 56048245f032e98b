"""Ctrl-C: the first one waits for the end of a chunk, the second one does not."""

import signal
import threading
from types import FrameType, TracebackType

from infer.run.loop import Progress


class CtrlC:
    """A callback that ends a run between two chunks after Ctrl-C, when nothing is half done.

    A `KeyboardInterrupt` arrives in the middle of any line, also of those that take the results
    of a chunk or write a file. So the first Ctrl-C is only noted; the second raises at once, as it
    does without us. Where somebody else handles SIGINT, or outside the main thread, which alone
    may handle signals, everything is left as it is.
    """

    def __init__(self) -> None:
        self.presses = 0
        self.ours = False

    def __enter__(self) -> "CtrlC":
        main = threading.current_thread() is threading.main_thread()
        self.ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.presses += 1
        if self.insisted:
            raise KeyboardInterrupt

    @property
    def insisted(self) -> bool:
        """Was it pressed twice?"""
        return self.presses > 1

    def __call__(self, progress: Progress) -> None:
        """Stop here if it was pressed."""
        if self.presses:
            raise KeyboardInterrupt
