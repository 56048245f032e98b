"""A trail as named arrays and numbers, and back."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from infer.core.algorithm import Algorithm
from infer.core.target import Target
from infer.run.chunk import Carry, begin
from infer.run.loop import Progress, Trail
from infer.run.store import write


@eqx.filter_jit
def _densities(target: Target) -> Array:
    wave = jnp.sin(jnp.arange(1.0, target.dim + 1))
    return jnp.stack([target.log_prob(0.1 * wave), target.log_prob(-0.5 * wave)])


def fingerprint(target: Target) -> dict[str, Any]:
    """What tells one posterior from another: its sites, and its log density at two points."""
    return {
        "sites": [[s.name, list(s.shape), s.support] for s in target.sites],
        "log_prob": [float(v) for v in _densities(target.full())],
    }


def describe(algorithm: Algorithm) -> str:
    """The algorithm with all its settings, as text."""
    return eqx.tree_pformat(algorithm, short_arrays=False)


def pack(trail: Trail) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A trail as arrays and a JSON record."""
    leaves = jax.tree.leaves(trail.carry)
    arrays = {f"carry/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    arrays |= {f"record/{k}": v for k, v in trail.record().items()}
    names = ("warmed", "taken", "gradients", "seconds", "warmup_seconds", "compile_seconds")
    return arrays, {name: getattr(trail, name) for name in names}


def unpack(
    arrays: dict[str, np.ndarray],
    numbers: dict[str, Any],
    algorithm: Algorithm,
    target: Target,
    keys: Key[Array, " chains"],
) -> Trail:
    """The trail of a file; the shapes of its states come from the algorithm and the target."""
    starts = jax.ShapeDtypeStruct((keys.shape[0], target.dim), jnp.zeros(()).dtype)
    template = eqx.filter_eval_shape(begin, algorithm, target, keys, starts)
    leaves, structure = jax.tree.flatten(template)
    stored = [arrays.get(f"carry/{i}") for i in range(len(leaves))]
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
    found = [None if a is None else (a.shape, a.dtype) for a in stored]
    if found != shapes or f"carry/{len(leaves)}" in arrays:
        raise ValueError(
            "the stored states do not have the shapes of this algorithm on this target; resume "
            "with the same number of chains, the same settings and the same precision."
        )
    carry: Carry = jax.tree.unflatten(structure, [jnp.asarray(a) for a in stored])
    record = {k.removeprefix("record/"): v for k, v in arrays.items() if k.startswith("record/")}
    return Trail(carry, chunks=[record] if record else [], **numbers)


class Checkpointer:
    """A callback that keeps a file up to date, spending at most a tenth of the time on it."""

    def __init__(self, path: Any, meta: dict[str, Any]) -> None:
        self.path = path
        self.meta = meta
        self.cost = 0.0
        self.due = 0.0

    def __call__(self, progress: Progress) -> None:
        """Save after this chunk, unless the last save was too expensive to repeat yet."""
        if time.perf_counter() >= self.due:
            self.save(progress.trail)

    def save(self, trail: Trail) -> None:
        """Save now."""
        clock = time.perf_counter()
        arrays, numbers = pack(trail)
        write(self.path, arrays, self.meta | {"trail": numbers})
        self.due = time.perf_counter() + 9 * (time.perf_counter() - clock)
