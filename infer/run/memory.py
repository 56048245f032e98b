"""Does a run fit into memory: asked before it starts, and answered when it did not."""

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from infer.core.algorithm import AbstractSampler, Algorithm
from infer.run.chunk import Carry, record_shapes

HELPS = 2**20  # bytes of a chunk's buffer below which a smaller one would not help
SIZES = ("n_samples", "at_once", "n_particles", "n_temperatures")  # settings that take memory
CURRENT = ("memory.max", "memory.current", "inactive_file")  # of control groups, version 2
LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that a run takes beside what is there already.

    Attributes:
        program: temporaries and results of a compiled chunk, on each device.
        store: what it keeps of its steps on the host, and that once more while it is joined.
    """

    program: int
    store: int


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes on each device of temporaries and results; 0 where the compiler does not tell."""
    told = compiled.memory_analysis()
    if told is None:
        return 0
    return told.temp_size_in_bytes + told.output_size_in_bytes - told.alias_size_in_bytes


def row_bytes(algorithm: Algorithm, carry: Carry) -> int:
    """Bytes that are kept of one step of all chains."""
    shapes = record_shapes(algorithm, carry).values()
    return sum(shape.size * shape.dtype.itemsize for shape in shapes)


def check_memory(need: Need, devices: list[Any], algorithm: Algorithm, chunk: int) -> None:
    """Raise `MemoryError` where a run cannot fit, with what to set; silent where nobody knows."""
    cpu = devices[0].platform == "cpu"
    on_host = need.store + (need.program * len(devices) if cpu else 0)
    free = free_on_host()
    if free is not None and on_host > free:
        _refuse(need, "main memory", on_host, free, algorithm, chunk)
    for device in [] if cpu else devices:
        left = free_on(device)
        if left is not None and need.program > left:
            _refuse(need, f"memory of {device}", need.program, left, algorithm, chunk)


def _refuse(
    need: Need, where: str, wanted: int, free: int, algorithm: Algorithm, chunk: int
) -> None:
    store = f"{_size(need.store)} to keep its steps and {_size(need.program)} to compute a chunk"
    raise MemoryError(
        f"{type(algorithm).__name__} needs {_size(wanted)} of {where}, of which {_size(free)} are "
        f"free ({store}). Set {remedies(algorithm, chunk)}."
    )


def remedies(algorithm: Algorithm, chunk: int) -> str:
    """What a user can set so that a run of this algorithm takes less memory."""
    fields = {field.name for field in dataclasses.fields(algorithm)}
    smaller = [f"a smaller {name}=" for name in SIZES if name in fields]
    smaller += ["fewer chains=", f"a smaller chunk= (now {chunk})"]
    if isinstance(algorithm, AbstractSampler):
        smaller += ["fewer steps=, or a greater thin= (with moments=True every step counts)"]
    return ", ".join(smaller)


def tell(algorithm: Algorithm, chunk: int, done: int, error: Exception) -> None:
    """Warn that memory ran out on the way."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    warnings.warn(
        f"{type(algorithm).__name__} ran out of memory after {done} steps, which are kept "
        f"({reason}). To go on, set {remedies(algorithm, chunk)}.",
        RuntimeWarning,
        stacklevel=2,
    )


def ran_out(error: Exception) -> bool:
    """Is this what JAX or Python raise when there is no more memory?"""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def free_on(device: Any) -> int | None:
    """Free bytes of an accelerator; None where it does not tell."""
    told = device.memory_stats() or {}
    if "bytes_limit" not in told or "bytes_in_use" not in told:
        return None
    return told["bytes_limit"] - told["bytes_in_use"]


def free_on_host(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take of Linux and its control groups; else None."""
    table = dict(line.split(":", 1) for line in _lines(root / "proc/meminfo"))
    if "MemAvailable" not in table:
        return None
    free = sum(1024 * int(table.get(n, "0").split()[0]) for n in ("MemAvailable", "SwapFree"))
    return max(0, min([free, *_left_by_groups(root)]))


def _left_by_groups(root: Path) -> Iterator[int]:
    """What the groups of this process leave it, from its own up to the root of the tree."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        most, used, idle = LEGACY if controllers else CURRENT
        inside = top / place.lstrip("/")
        for group in (inside, *inside.parents):
            if not group.is_relative_to(top):
                break
            limit = "".join(_lines(group / most))
            if limit.isdigit():
                stat = dict(entry.split() for entry in _lines(group / "memory.stat"))
                taken = int("".join(_lines(group / used))) - int(stat.get(idle, 0))
                yield int(limit) - taken


def _lines(path: Path) -> list[str]:
    """Lines of a file; none where there is no such file, as on other systems than Linux."""
    return path.read_text().splitlines() if path.is_file() else []


def _size(n: float | int) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"
