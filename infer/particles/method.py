"""What all particle methods share: the start, the optimizer, the answer."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, positive
from infer.core.posterior import Particles
from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Count, Points, PRNGKey, Scalar
from infer.kernels.radial import IMQ, AbstractRadialKernel
from infer.optimizers.coin import coin
from infer.optimizers.optimizer import (
    Optimizer,
    advance,
    check_optimizer,
    first_state,
    searched,
)


class Swarm(eqx.Module):
    """A set of particles on its way.

    Attributes:
        particles: where they are, unconstrained.
        optimizer: the state of the optimizer.
        i: steps taken.
        memory: arrays that the direction hands on from one step to the next, or None.
    """

    particles: Points
    optimizer: optax.OptState
    i: Count
    memory: Any = None


class Direction(NamedTuple):
    """Where the particles are to go: uphill, before the optimizer chooses how far.

    Attributes:
        phi: one vector per particle.
        stats: scalars to be recorded.
        gradients: gradients of the log density taken besides one per particle, as their cost goes.
        line: where -phi is the gradient of an energy, its `value`, `grad` and `value_fn`, for
            optimizers that search along a line.
        memory: what `remember` made, as it is to be at the next step.
    """

    phi: Points
    stats: dict[str, Array]
    gradients: int = 0
    line: dict[str, Any] | None = None
    memory: Any = None


def _as_points(value: Any) -> Array | None:
    return None if value is None else jnp.asarray(value, jnp.zeros(()).dtype)


class AbstractParticleMethod(AbstractApproximator):
    """A direction for a set of particles, times any optimizer.

        x <- x + optimizer(phi(x))

    A method is a `direction`; everything else is here. Scores are those of the rows of a
    minibatch, the same rows for all particles, where the target has them.

    Attributes:
        n_particles: how many, >= 1.
        kernel: a radial kernel, by default with the median rule for its bandwidth.
        optimizer: any optax transformation; `infer.optimizer(...)` keeps its numbers out of the
            compiled program.
        init_scale: standard deviation of the starting particles around `target.initial`, > 0, on
            the unconstrained scale; particles that start at one point never separate.
        start: particles to start from instead, (n_particles, dim), unconstrained.
        stopping: a rule that reads the record, `LossSettled()` on the mean of -log p, or None to
            take every step.
    """

    n_particles: int = eqx.field(static=True, default=100)
    kernel: AbstractRadialKernel = eqx.field(default_factory=IMQ)
    optimizer: Optimizer | optax.GradientTransformation = eqx.field(default_factory=coin)
    init_scale: Scalar = eqx.field(converter=positive("init_scale", 1.0), default=1.0)
    start: Points | None = eqx.field(converter=_as_points, default=None)
    stopping: AbstractStopping | None = eqx.field(static=True, default=LossSettled())
    particles: ClassVar[bool] = True
    default_steps: ClassVar[int] = 5_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        _check(self)

    @abstractmethod
    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """Where the particles are to go, from their scores; refuses targets it cannot serve."""

    def init(self, key: PRNGKey, target: Target) -> Swarm:
        """`start`, or Normal particles around `target.initial(key)`."""
        key_start, key_spread = jax.random.split(key)
        if self.start is None:
            center = target.initial(key_start)
            shape = (self.n_particles, center.shape[0])
            noise = jax.random.normal(key_spread, shape, center.dtype)
            x = center + self.init_scale.astype(center.dtype) * noise
        else:
            x = self.start
            _check_start(x, target, type(self).__name__)
        memory = self.remember(key_start, target, x)
        return Swarm(x, first_state(self.optimizer, x), jnp.zeros((), jnp.int32), memory)

    def remember(self, key: PRNGKey, target: Target, x: Points) -> Any:
        """What the direction carries from step to step besides the particles: arrays, or None."""
        return None

    def step(self, key: PRNGKey, target: Target, state: Swarm) -> tuple[Swarm, Info]:
        """One step of the optimizer along the direction."""
        x = state.particles
        log_prob, score = jax.vmap(target.value_and_score)(x)
        found = self.direction(key, target, x, score, state)
        line = found.line or {}
        updates, optimizer = advance(self.optimizer, -found.phi, state.optimizer, x, line)
        bad = ~jnp.isfinite(log_prob) | ~jnp.all(jnp.isfinite(score), axis=1)
        stats = {"force": jnp.sqrt(jnp.mean(found.phi**2)), "nonfinite_particles": jnp.sum(bad)}
        info = Info(
            -jnp.mean(log_prob),
            (x.shape[0] + found.gradients) * (1 + searched(optimizer)),
            stats | found.stats,
        )
        moved = x + jnp.asarray(updates)
        return Swarm(moved, optimizer, state.i + 1, found.memory), info

    def posterior(self, state: Swarm) -> Particles:
        """The particles, equally weighted."""
        return Particles(state.particles)


def _check(method: AbstractParticleMethod) -> None:
    name = type(method).__name__
    check_count(name, "n_particles", method.n_particles, 100)
    if not isinstance(method.kernel, AbstractRadialKernel):
        raise TypeError(f"{name} needs kernel=infer.RBF() or the like, got {method.kernel!r}.")
    check_optimizer(method.optimizer, name)
    start = method.start
    if start is None:
        return
    if np.ndim(start) != 2 or len(start) != method.n_particles:
        raise ValueError(
            f"{name}(n_particles={method.n_particles}) needs start= as an array "
            f"({method.n_particles}, dim) of unconstrained particles, got shape {np.shape(start)}. "
            f"Write `{name}(n_particles=len(start), start=start)`."
        )
    if not isinstance(start, Tracer):
        if not np.isfinite(start).all():
            raise ValueError(f"{name} got a start= with values that are not finite.")
        if len(start) > 1 and np.ptp(start, axis=0).max() == 0:
            raise ValueError(
                f"{name} got start= with {len(start)} identical particles, which would move as one "
                "for ever: add noise to them, `start + 0.1 * jax.random.normal(key, start.shape)`."
            )


def _check_start(start: Points, target: Target, name: str) -> None:
    """Refuse starting particles of another dimension."""
    if start.shape[1] != target.dim:
        raise ValueError(
            f"{name} got start= of shape {start.shape}, and the target has {target.dim} "
            "unconstrained coordinates. Write `jax.vmap(target.unconstrain)(values)` with named "
            "values on their supports."
        )


def settled_kernel(kernel: AbstractRadialKernel, x: Points) -> tuple[AbstractRadialKernel, dict]:
    """The kernel with its bandwidth settled at x, and what to record of it."""
    kernel = kernel.at(x)
    return kernel, {"bandwidth": kernel.h}
