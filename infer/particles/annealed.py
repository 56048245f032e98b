"""Annealed SVGD: the particles spread before the posterior collects them."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jax.core import Tracer

from infer.core.checks import check_count, positive
from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Count, Points, PRNGKey, Scalar
from infer.kernels.pairwise import stein_force
from infer.particles.method import AbstractParticleMethod, Direction, Swarm, settled_kernel
from infer.references.citation import cites
from infer.references.particles import D_ANGELO_2021

Annealing = Callable[[Count], Scalar]


class _Tanh(eqx.Module):
    steps: Scalar = eqx.field(converter=positive("steps", 1000.0))
    power: Scalar = eqx.field(converter=positive("power", 5.0))

    def __call__(self, step: Count) -> Scalar:
        part = step / self.steps
        return jnp.where(part >= 1, 1.0, jnp.tanh((1.3 * part) ** self.power))


class _Cyclic(eqx.Module):
    steps: Scalar = eqx.field(converter=positive("steps", 1000.0))
    cycles: Scalar = eqx.field(converter=positive("cycles", 4.0))
    power: Scalar = eqx.field(converter=positive("power", 5.0))

    def __call__(self, step: Count) -> Scalar:
        cycle = step * self.cycles / self.steps
        rising = (cycle - jnp.floor(cycle)) ** self.power
        return jnp.where(cycle >= self.cycles - 1, 1.0, rising)


def tanh_annealing(steps: int, power: float | int = 5.0) -> Annealing:
    """A weight of the density that rises once from 0 to 1: tanh((1.3 t / steps)^power).

    Args:
        steps: t from which on the weight is 1, >= 1.
        power: how late and how steeply it rises, > 0.

    Returns:
        A function of the step.
    """
    check_count("tanh_annealing", "steps", steps, 1000)
    return _Tanh(steps, power)


def cyclic_annealing(steps: int, cycles: int = 4, power: float | int = 5.0) -> Annealing:
    """A weight of the density that rises from 0 to 1 again and again, and is 1 in the last cycle.

    In cycle c = 0, ..., cycles - 2 it is (t cycles / steps - c)^power.

    Args:
        steps: length of all cycles together, the last included, >= cycles.
        cycles: how many, >= 2.
        power: how late and how steeply it rises, > 0.

    Returns:
        A function of the step.
    """
    check_count("cyclic_annealing", "cycles", cycles, 4, least=2)
    check_count("cyclic_annealing", "steps", steps, 1000, least=cycles)
    return _Cyclic(steps, cycles, power)


@cites(D_ANGELO_2021)
class AnnealedSVGD(AbstractParticleMethod):
    """SVGD whose pull towards the density is switched on slowly, so that particles find more modes.

        phi_i = (1/n) sum_j [ g(t) k(x_j, x_i) grad log p(x_j) + grad_{x_j} k(x_j, x_i) ]
        x <- x + optimizer(phi)

    With g = 0 the particles only push one another apart; with g = 1 this is `SVGD`. In between they
    follow the density to the power g, which is wider.

    Cost per step: that of `SVGD`.

    Args:
        annealing: g, a function of the step t = 0, 1, ... with values in [0, 1] that is 1 at the
            end: `infer.tanh_annealing(steps)`, `infer.cyclic_annealing(steps, cycles)`, or your
            own in `jax.numpy`. The record shows it as "annealing".
        stopping: None to take every step, or a `LossSettled` rule that looks at steps with g = 1
            only: its `minimum` has to be at least twice the length of the annealing.
        n_particles, kernel, optimizer, init_scale, start: as in `infer.SVGD`.

    Limits: those of `SVGD`, whose fixed points these are. Modes are found, but their shares stay
    wrong. On 2/3 N((4, 0), I) + 1/3 N((-4, 0), I) with 100 particles started in one mode, `SVGD`
    leaves all of them there; with `tanh_annealing(1000)` 0.52 to 0.59 of them ended in the heavier
    mode, with `cyclic_annealing(2000, 5)` 0.51 to 0.63. Started at (-12, 3), far from both, the
    first found both modes (0.46), the other only the nearer one, and both with
    `infer.optimizer(optax.adagrad, learning_rate=0.5)`. A run that ends before the annealing does
    leaves the particles too far apart. While they spread they come to places where the density may
    not be finite, and where it is not the run can take no further step.

    Source: D'Angelo and Fortuin, Annealed Stein variational gradient descent, AABI 2021.
    """

    annealing: Annealing = eqx.field(default_factory=lambda: tanh_annealing(1000))
    stopping: AbstractStopping | None = eqx.field(static=True, default=None)
    exact_target: ClassVar[bool] = False

    def __check_init__(self) -> None:
        """Refuse a rule that may stop the run before the density has its full weight."""
        if not callable(self.annealing):
            raise TypeError(
                "AnnealedSVGD needs a function of the step, annealing=infer.tanh_annealing(1000), "
                f"got {self.annealing!r}."
            )
        if isinstance(self.stopping, LossSettled):
            half = self.stopping.minimum // 2  # a look compares quarters of the later half
            weight = self.annealing(jnp.asarray(half))
            if not isinstance(weight, Tracer) and not weight >= 1:
                raise ValueError(
                    f"AnnealedSVGD with stopping={self.stopping} might stop while the density has "
                    f"not its full weight: at step {half} it has {float(weight):.2g}. Write "
                    "stopping=None, or LossSettled(minimum=...) with twice the steps of annealing."
                )

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """The Stein force with weighted scores."""
        kernel, stats = settled_kernel(self.kernel, x)
        weight = jnp.asarray(self.annealing(swarm.i), x.dtype)
        return Direction(stein_force(x, weight * score, kernel), stats | {"annealing": weight})
