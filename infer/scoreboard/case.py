"""A posterior whose draws are known."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from infer.core.target import Target
from infer.scoreboard.errors import Errors, Scale, measure


class Group(StrEnum):
    """Where a case comes from."""

    POSTERIORDB = "posteriordb"
    SYNTHETIC = "synthetic"


class Tag(StrEnum):
    """What makes a case harder than others.

    HARD_GEOMETRY: curved, heavy-tailed, funnel-shaped or badly scaled; right fits may be suspect.
    MODES: several modes, of which local evidence sees one.
    """

    HARD_GEOMETRY = "hard geometry"
    MODES = "modes"


@dataclass(frozen=True)
class Case:
    """A posterior, and draws of it that are exact or stored as a reference.

    Attributes:
        name: what tables call it.
        group: where it comes from.
        make: the target, in the precision that is switched on.
        reference: draws of it, (m, d), on the unconstrained scale of the target, in float64.
        tags: what makes it hard.
        scale: how errors are measured.
        program: a NumPyro model and its arguments, or None where it is no such model.
    """

    name: str
    group: Group
    make: Callable[[], Target]
    reference: Callable[[], np.ndarray]
    tags: frozenset[Tag] = frozenset()
    scale: Scale = Scale.MOMENTS
    program: Callable[[], tuple[Callable[..., Any], tuple]] | None = None

    def measure(self, z: ArrayLike) -> Errors:
        """Errors of draws z, (n, d) or (chains, n, d), against the reference."""
        return measure(z, self.reference(), self.scale)


def exact(
    name: str,
    make: Callable[[], Target],
    draw: Callable[[np.random.Generator], Mapping[str, np.ndarray]],
    tags: Iterable[Tag] = (),
    scale: Scale = Scale.MOMENTS,
) -> Case:
    """A synthetic case: its name is the seed of its draws, which are the same on every machine.

    Args:
        name: what tables call it.
        make: the target.
        draw: independent draws by site, on the supports, with a leading axis of draws.
        tags: what makes it hard.
        scale: how errors are measured.
    """

    @functools.cache
    def reference() -> np.ndarray:
        values = draw(np.random.default_rng(list(name.encode())))
        with jax.enable_x64(True):
            return np.asarray(jax.jit(jax.vmap(make().unconstrain))(dict(values)))

    return Case(name, Group.SYNTHETIC, make, reference, frozenset(tags), scale)
