"""Worker processes for the fits: each has a JAX of its own, and none can stop the others."""

import dataclasses
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from infer.scoreboard import peer, record
from infer.scoreboard.case import Group
from infer.scoreboard.record import ERROR, Pair, Record, Settings
from infer.scoreboard.work import Bench, Catalog

FITS_PER_WORKER = 40  # then a new process, so that nothing that is never freed adds up
START_SECONDS = 600  # to import and to name the cases
LOG_SHOWN = 400  # characters of a dead worker's log

# One thread per worker: several workers would otherwise wait for one another's threads.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "NPROC": "1",  # the pool that XLA runs programs on
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def pairs(catalog: Catalog, cases: Sequence[str], methods: Sequence[str]) -> list[Pair]:
    """All pairs in the order of running: real posteriors first, then method by method.

    NumPyro's NUTS comes first, on the cases that are NumPyro models. So a run that is cut short
    has some methods on all posteriors rather than all methods on some.
    """
    ordered = []
    for group in Group:
        members = [name for name in cases if catalog.cases[name].group is group]
        peers = [name for name in members if catalog.cases[name].program is not None]
        ordered += [(name, peer.NAME) for name in peers]
        ordered += [(name, method) for method in methods for name in members]
    return ordered


def run(
    wanted: Iterable[Pair],
    make: Callable[[], Catalog],
    settings: Settings,
    out: Path,
    *,
    workers: int,
    limit: float,
    tell: Callable[[Record], None],
) -> None:
    """Fit all pairs, and add the record of each to `out/records.jsonl` as soon as it is there.

    A worker that dies, or takes longer than `limit` seconds for a pair, leaves a record that says
    so, and is replaced; one that cannot even start is an error. Whatever ends this function ends
    the workers.

    Args:
        wanted: posteriors and methods by name.
        make: the catalog; called in each worker, so it must be a function of a module.
        settings: of all fits.
        out: a folder.
        workers: processes, >= 1.
        limit: seconds for a pair, compilation and all else included, > 0.
        tell: called with each record, after it was written.

    Raises:
        RuntimeError: if a worker does not start.
    """
    path = out / "records.jsonl"
    waiting, catalog = deque(wanted), make()
    crew = [_Worker(make, settings, out / f"worker-{i}.log", limit) for i in range(workers)]
    try:
        while True:
            for worker in crew:
                if worker.pair is None and waiting:
                    worker.give(waiting.popleft())
            busy = [worker for worker in crew if worker.pair is not None]
            if not busy:
                return
            for worker in _finished(busy):
                pair, found = worker.take()
                if isinstance(found, str):
                    blank = catalog.blank(pair, settings)
                    found = dataclasses.replace(blank, verdict=ERROR, message=found)
                record.append(path, found)
                tell(found)
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process that fits pairs one by one; started when there is one, replaced when it is gone."""

    def __init__(
        self, make: Callable[[], Catalog], settings: Settings, log: Path, limit: float
    ) -> None:
        self.pair: Pair | None = None
        self.deadline = 0.0
        self._arguments = make, settings, log
        self._log = log
        self._limit = limit
        self._fits = 0
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The end of the pipe that the answer comes out of."""
        assert self._connection is not None
        return self._connection

    def give(self, pair: Pair) -> None:
        """Start on a pair, in a new process if there is none."""
        if self._process is not None and (
            self._fits >= FITS_PER_WORKER or not self._process.is_alive()
        ):
            self.end()
        if self._process is None:
            self._start()
        self.connection.send(pair)
        self.pair, self.deadline = pair, time.monotonic() + self._limit

    def take(self) -> tuple[Pair, Record | str]:
        """The pair at hand, and its record or why there is none."""
        pair, self.pair = self.pair, None
        assert pair is not None
        if not self.connection.poll():
            self.end()
            return pair, f"took longer than {self._limit:.0f} seconds and was ended"
        try:
            found = self.connection.recv()
        except (EOFError, OSError):
            return pair, self._death()
        self._fits += 1
        return pair, found

    def end(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.connection.close()
        self._process, self._connection, self._fits = None, None, 0

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        # Ctrl-C is for us: the new process inherits that it is ignored, and what is set here.
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        flags = f"{ONE_THREAD['XLA_FLAGS']} {os.environ.get('XLA_FLAGS', '')}".strip()
        os.environ.update(ONE_THREAD | {"XLA_FLAGS": flags})
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
        theirs.close()
        self._process = process
        try:
            ready = self._connection.poll(START_SECONDS) and self._connection.recv()
        except (EOFError, OSError):
            ready = False
        if not ready:
            self.end()
            raise RuntimeError(f"a worker did not start; its log ends with: {self._said()}")

    def _death(self) -> str:
        assert self._process is not None
        self._process.join(10)
        code = self._process.exitcode
        self.end()
        return f"the worker process ended with exit code {code}; its log ends with: {self._said()}"

    def _said(self) -> str:
        if not self._log.exists():
            return "(no log)"
        return self._log.read_text("utf-8", errors="replace")[-LOG_SHOWN:].strip()


def _finished(busy: Sequence[_Worker]) -> list[_Worker]:
    """Wait until a worker has an answer, is gone, or is past its deadline."""
    while True:
        first = min(worker.deadline for worker in busy)
        ready = wait([w.connection for w in busy], max(0.0, first - time.monotonic()))
        now = time.monotonic()
        found = [w for w in busy if w.connection in ready or now >= w.deadline]
        if found:
            return found


def _work(
    connection: Connection, make: Callable[[], Catalog], settings: Settings, log: Path
) -> None:
    """The life of a worker: after a sign that it is ready, a pair comes in, its record goes out."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    bench = Bench(make(), settings)
    connection.send(True)
    while True:
        try:
            pair = connection.recv()
        except EOFError:
            return
        connection.send(bench.record(pair))
