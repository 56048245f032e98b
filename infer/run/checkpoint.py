"""A trail as named arrays and numbers, and back."""

import datetime
import hashlib
import importlib.metadata
import inspect
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from infer.core.algorithm import Algorithm
from infer.core.data import Data
from infer.core.layout import Layout
from infer.core.target import Target
from infer.run.chunk import Carry, begin
from infer.run.loop import Plan, Progress, Trail
from infer.run.moments import pack_moments, unpack_moments
from infer.run.store import write

SHARE = 0.1  # of the time, that may go into keeping a checkpoint


@eqx.filter_jit
def _densities(target: Target) -> Array:
    wave = jnp.sin(jnp.arange(1.0, target.dim + 1))
    return jnp.stack([target.log_prob(0.1 * wave), target.log_prob(-0.5 * wave)])


def fingerprint(problem: Target | Data) -> dict[str, Any]:
    """What tells one problem from another.

    Of a posterior its sites, data, and the log density at two points; of rows what they are.
    """
    if isinstance(problem, Data):
        return _fingerprint_of_rows(problem)
    target = problem
    arrays = [np.asarray(x) for x in jax.tree.leaves(target.model) if eqx.is_array(x)]
    return {
        "sites": [[s.name, list(s.shape), s.support] for s in target.sites],
        "data": _digest([a.tobytes() for a in arrays]),
        "batch_size": target.batch_size,
        "log_prob": [float(v) for v in _densities(target.full())],
        "control": _digest([np.asarray(x).tobytes() for x in jax.tree.leaves(target.control)]),
    }


def _fingerprint_of_rows(data: Data) -> dict[str, Any]:
    parts = {"x": data.rows.x, "mask": data.rows.mask, "condition": data.rows.condition}
    there = {name: np.asarray(part) for name, part in parts.items() if part is not None}
    return {
        "sites": [[name, list(array.shape), str(array.dtype)] for name, array in there.items()]
        + _parts("x", data.layout)
        + _parts("condition", data.condition_layout),
        "data": _digest([a.tobytes() for a in there.values()] + [_content(data.transform, 4)]),
        "batch_size": data.batch_size,
        "log_prob": [],
        "control": "",
    }


def _parts(name: str, layout: Layout | None) -> list[list[Any]]:
    """What tells rows of several parts from others that are the same vectors."""
    if layout is None:
        return []
    each = zip(layout.names, layout.shapes, layout.dtypes, strict=True)
    return [[f"{name} of {part}", list(shape), str(dtype)] for part, shape, dtype in each]


def describe(algorithm: Algorithm) -> str:
    """The algorithm with all its settings, as text; its end is a digest of what text leaves out.

    Arrays count with their bytes and functions with their closures, so that `optax.adam(0.01)`
    and `optax.adam(0.02)` differ.
    """
    leaves = [_content(leaf, 4) for leaf in jax.tree.leaves(algorithm)]
    return f"{eqx.tree_pformat(algorithm, short_arrays=False)} #{_digest(leaves)}"


def _digest(parts: list[bytes]) -> str:
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]


def _content(thing: Any, depth: int) -> bytes:
    """Bytes that tell one setting from another, functions being followed into their closures."""
    if eqx.is_array_like(thing):
        return np.asarray(thing).tobytes()
    if inspect.isfunction(thing) and depth > 0:
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        inside = [_content(x, depth - 1) for cell in cells for x in jax.tree.leaves(cell)]
        return _digest([thing.__qualname__.encode(), *inside]).encode()
    return str(type(thing)).encode()


def identify(
    name: str, settings: str, target: dict[str, Any], key: list[Any], chains: int, plan: Plan
) -> dict[str, Any]:
    """What makes a run the run it is, as JSON: all that two files of one run have in common."""
    return {
        "algorithm": name,
        "settings": settings,
        "target": target,
        "key": key,
        "chains": chains,
        "warmup": plan.warmup,
        "thin": plan.thin,
        "steps": plan.steps,
        "skip_nonfinite": plan.skip_nonfinite,
        "moments": plan.moments,
    }


def same_target(there: dict[str, Any], here: dict[str, Any]) -> bool:
    """Are these fingerprints of one posterior? Rounding of the density is forgiven."""
    exact = ("sites", "data", "batch_size")
    return all(there[name] == here[name] for name in exact) and np.allclose(
        there["log_prob"], here["log_prob"], rtol=1e-4, equal_nan=True
    )


def check_target(path: Any, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuse a file of another model, or of the same model on other data."""
    if there["sites"] != here["sites"]:
        raise ValueError(
            f"{path} is a run on another model: its sites (name, shape, support) are "
            f"{there['sites']}, those of this target are {here['sites']}."
        )
    if not same_target(there, here):
        raise ValueError(
            f"{path} is a run on another posterior: the sites agree, but not the data, the log "
            f"density or the batch size ({_brief(there)} there, {_brief(here)} here). Start afresh "
            "with init=infer.load(path) to use its draws as starts."
        )


def _brief(identity: dict[str, Any]) -> str:
    names = ("log_prob", "data", "batch_size")
    return ", ".join(f"{name} {identity[name]}" for name in names)


def check_run(
    path: Any, stored: dict[str, Any], here: dict[str, Any], fields: Iterable[str]
) -> None:
    """Refuse a file of another algorithm, another target, or with other `fields`."""
    if stored["algorithm"] != here["algorithm"]:
        raise ValueError(
            f"{path} is a run of {stored['algorithm']}, not of {here['algorithm']}; resume it with "
            f"infer.{stored['algorithm']}(...)."
        )
    check_target(path, stored["target"], here["target"])
    if stored["target"].get("control", here["target"]["control"]) != here["target"]["control"]:
        raise ValueError(
            f"{path} was run with other control variates; give them the same center, or start from "
            "its draws with init=infer.load(path)."
        )
    for name in fields:
        if stored[name] != here[name]:
            raise ValueError(
                f"{path} was run with {name} = {stored[name]}, now it is {here[name]}; a resumed "
                "run must be the same run. To start from its draws write init=infer.load(path)."
            )


def origin() -> dict[str, str]:
    """Time, versions and platform, for a report."""
    try:
        version = importlib.metadata.version("infer-jax")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(),
        "infer": version,
        "jax": jax.__version__,
        "platform": jax.default_backend(),
    }


def pack(trail: Trail) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A trail as arrays and a JSON record."""
    leaves = jax.tree.leaves(trail.carry)
    arrays = {f"carry/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    arrays |= {f"record/{k}": v for k, v in trail.record().items()}
    names = ("warmed", "taken", "gradients", "seconds", "warmup_seconds", "compile_seconds")
    moments, numbers = pack_moments(trail.moments)
    return arrays | moments, {name: getattr(trail, name) for name in names} | {"moments": numbers}


def unpack(
    arrays: dict[str, np.ndarray],
    numbers: dict[str, Any],
    algorithm: Algorithm,
    problem: Target | Data,
    keys: Key[Array, " chains"],
) -> Trail:
    """The trail of a file; the shapes of its states come from the algorithm and the problem."""
    starts = None
    if isinstance(problem, Target):
        starts = jax.ShapeDtypeStruct((keys.shape[0], problem.dim), jnp.zeros(()).dtype)
    template = eqx.filter_eval_shape(begin, algorithm, problem, keys, starts)
    leaves, structure = jax.tree.flatten(template)
    stored = [arrays.get(f"carry/{i}") for i in range(len(leaves))]
    shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
    found = [None if a is None else (a.shape, a.dtype) for a in stored]
    if found != shapes or f"carry/{len(leaves)}" in arrays:
        raise ValueError(
            "the stored states do not have the shapes of this algorithm on this problem; resume "
            "with the same number of chains, the same settings and the same precision."
        )
    carry: Carry = jax.tree.unflatten(structure, [jnp.asarray(a) for a in stored])
    return trail_of(carry, arrays, numbers)


def trail_of(carry: Carry, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> Trail:
    """A carry with all else that `pack` wrote."""
    record = under("record/", arrays)
    moments = unpack_moments(arrays, numbers["moments"])
    rest = {name: number for name, number in numbers.items() if name != "moments"}
    return Trail(carry, chunks=[record] if record else [], moments=moments, **rest)


def under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin like this, by what follows."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


class Checkpointer:
    """A callback that keeps a file up to date, spending at most `SHARE` of the time on it.

    A file that cannot be written does not end a run: it is said, the run goes on, and the file
    stays as it was last written. Where another run writes to the same file, that is said too.
    """

    def __init__(self, path: Any, meta: dict[str, Any]) -> None:
        self.path = Path(path)
        self.meta = meta
        self.due = 0.0
        self.saved: int | None = None  # iterations in the file, warm-up included
        self.ours: tuple[int, int] | None = None  # the file that we wrote
        self.failing = self.shared = False  # was it said already?

    def __call__(self, progress: Progress) -> None:
        """Save after this chunk, unless the last save was too expensive to repeat yet."""
        if time.perf_counter() >= self.due:
            self.save(progress.trail)

    def save(self, trail: Trail) -> None:
        """Save now what there is; a run of no steps leaves an older file alone."""
        done = trail.warmed + trail.taken
        if done == 0:
            return
        clock = time.perf_counter()
        arrays, numbers = pack(trail)
        try:
            self._look()
            write(self.path, arrays, self.meta | {"trail": numbers})
            self.saved, self.ours, self.failing = done, self._there(), False
        except OSError as error:
            told, self.failing = self.failing, True
            if not told:
                warnings.warn(
                    f"the checkpoint cannot be written: {error.strerror}, {self.path}. The run "
                    f"goes on; {self.kept()} Free some space, or keep the result elsewhere: "
                    "result.save(path).",
                    RuntimeWarning,
                    stacklevel=2,
                )
        self.due = time.perf_counter() + (1 / SHARE - 1) * (time.perf_counter() - clock)

    def kept(self) -> str:
        """What can be carried on, as a sentence."""
        if self.saved is None:
            return f"nothing was written to {str(self.path)!r}."
        return f"its first {self.saved} iterations are kept: resume={str(self.path)!r}."

    def _there(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_ino, status.st_mtime_ns

    def _look(self) -> None:
        """Is the file still the one that we wrote?"""
        if self.shared or not self.path.exists() or self.ours in (None, self._there()):
            return
        self.shared = True
        warnings.warn(
            f"another run writes to the checkpoint {self.path} as well. The file is always whole, "
            "but it is that of the run which saved last; give each a file of its own.",
            RuntimeWarning,
            stacklevel=3,
        )
