"""Moments of every step of a run, whose draws need not be kept."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from infer.core.problem import AbstractProblem
from infer.core.target import Target
from infer.core.types import Values

MOST = 64  # batches that are told apart


@eqx.filter_jit
def constrain(target: Target, z: Array) -> Values:
    """Named values on their supports for flat draws (n, d), 256 at a time."""
    return jax.lax.map(target.constrain, z, batch_size=256)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of a variable over all steps of all chains.

    Attributes:
        mean, sd: in the shape of the variable.
        mcse: Monte Carlo standard error of the mean, by batch means; it ignores the bias of a
            sampler without an acceptance test.
        steps: of each chain.
    """

    mean: np.ndarray
    sd: np.ndarray
    mcse: np.ndarray
    steps: int


@dataclasses.dataclass(frozen=True)
class Streamed:
    """What is kept of a stream of vectors per chain, in float64 on the host.

    At most 2 `MOST` batches of consecutive steps are told apart: when there are so many, neighbors
    are joined, so that a batch is always between 1 / MOST and 1 / (2 MOST) of the run.

    Attributes:
        shapes: of the variables, in the order in which their entries stand in a vector.
        count: steps taken in.
        mean, scatter: of each chain, (chains, entries).
        batch: steps in a batch.
        sums: of the full batches, (batches, chains, entries).
        rest: sum of the steps after them, (chains, entries).
    """

    shapes: dict[str, tuple[int, ...]]
    count: int
    mean: np.ndarray
    scatter: np.ndarray
    batch: int
    sums: np.ndarray
    rest: np.ndarray

    def add(self, values: np.ndarray) -> "Streamed":
        """Take in some steps, (steps, chains, entries)."""
        n = len(values)
        mean, total = values.mean(axis=0), self.count + n
        gap = mean - self.mean
        scatter = ((values - mean) ** 2).sum(axis=0) + gap**2 * (self.count * n / total)
        batch, sums, rest = self.batch, list(self.sums), self.rest
        held, at = self.count - batch * len(sums), 0
        while at < n:
            take = min(batch - held, n - at)
            rest, held, at = rest + values[at : at + take].sum(axis=0), held + take, at + take
            if held == batch:
                sums, rest, held = [*sums, rest], np.zeros_like(rest), 0
            if len(sums) == 2 * MOST:
                sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=True)]
                batch *= 2
        stacked = np.stack(sums) if sums else self.sums[:0]
        return dataclasses.replace(
            self,
            count=total,
            mean=self.mean + gap * (n / total),
            scatter=self.scatter + scatter,
            batch=batch,
            sums=stacked,
            rest=rest,
        )

    def moments(self) -> dict[str, Moments]:
        """By variable, over all chains."""
        chains = len(self.mean)
        mean = self.mean.mean(axis=0)
        between = self.count * ((self.mean - mean) ** 2).sum(axis=0)
        sd = np.sqrt((self.scatter.sum(axis=0) + between) / max(chains * self.count - 1, 1))
        n = len(self.sums) * chains
        means = self.sums / self.batch - mean
        mcse = np.sqrt((means**2).sum(axis=(0, 1)) / max(n - 1, 1) / max(n, 1))
        mcse = np.where(len(self.sums) >= MOST // 2, mcse, math.nan)
        found, offset = {}, 0
        for name, shape in self.shapes.items():
            part = slice(offset, offset + math.prod(shape))
            offset += math.prod(shape)
            parts = (x[part].reshape(shape) for x in (mean, sd, mcse))
            found[name] = Moments(*parts, steps=self.count)
        return found


def stream(problem: AbstractProblem, before: Streamed | None, z: Array, count: int) -> Streamed:
    """The moments after the first `count` rows of z (rows, chains, d), on the supports by name.

    All rows are mapped to the supports, so that any count runs the same compiled program.
    """
    rows, chains, d = z.shape
    assert isinstance(problem, Target)
    named = constrain(problem.full(), z.reshape(-1, d))
    values = [np.asarray(v, np.float64).reshape(rows, chains, -1) for v in named.values()]
    joined = np.concatenate(values, axis=-1)[:count]
    if before is None:
        shapes = {name: tuple(map(int, v.shape[1:])) for name, v in named.items()}
        none = np.zeros(joined.shape[1:])
        before = Streamed(shapes, 0, none, none, 1, np.zeros((0, *none.shape)), none)
    return before.add(joined)


def pack_moments(streamed: Streamed | None) -> tuple[dict[str, np.ndarray], Any]:
    """As arrays and JSON."""
    if streamed is None:
        return {}, None
    names = ("mean", "scatter", "sums", "rest")
    numbers = {"count": streamed.count, "batch": streamed.batch}
    shapes = {name: list(shape) for name, shape in streamed.shapes.items()}
    return {f"moments/{n}": getattr(streamed, n) for n in names}, numbers | {"shapes": shapes}


def unpack_moments(arrays: dict[str, np.ndarray], numbers: Any) -> Streamed | None:
    """The inverse of `pack_moments`."""
    if numbers is None:
        return None
    parts = {n: arrays[f"moments/{n}"] for n in ("mean", "scatter", "sums", "rest")}
    shapes = {name: tuple(shape) for name, shape in numbers["shapes"].items()}
    return Streamed(shapes=shapes, count=numbers["count"], batch=numbers["batch"], **parts)


def join_moments(parts: list[Streamed | None]) -> Streamed | None:
    """Of runs of one length side by side; None where none of them has any."""
    have = [part for part in parts if part is not None]
    if not have:
        return None
    sides = {
        n: np.concatenate([getattr(p, n) for p in have], axis=1 if n == "sums" else 0)
        for n in ("mean", "scatter", "sums", "rest")
    }
    return dataclasses.replace(have[0], **sides)
