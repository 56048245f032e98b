"""Metropolis-adjusted Langevin trajectories."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from infer.core.algorithm import AbstractTunedSampler, Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.scale import AbstractPreconditioner, Diagonal, check_preconditioner
from infer.geometry.warmup import tuned
from infer.langevin.obabo import obabo
from infer.langevin.underdamped import DIVERGED, UnderdampedState, begin
from infer.references.citation import cites
from infer.references.langevin import RIOU_DURAND_2022


def _count(n: int | Array) -> Array:
    if not isinstance(n, Tracer) and not jnp.all(jnp.asarray(n) >= 1):
        raise ValueError(f"MALT needs n_steps >= 1, got {n}; write n_steps=16.")
    return jnp.asarray(n, jnp.int32)


@cites(RIOU_DURAND_2022)
class MALT(AbstractTunedSampler):
    """A trajectory of `OBABO` from a fresh velocity, accepted or refused as a whole.

        v ~ N(0, I);  (z', v') <- n_steps steps of OBABO;  D = the sum of their energy errors
        accept z' with probability min(1, exp(-D))

    Leaves the posterior invariant; the friction adds no energy error of its own. Its noise keeps a
    trajectory of a fixed length from closing on itself, for which `HMC` draws the length. Warm-up
    tunes the step size to an acceptance of `acceptance` and M to the covariance of the draws. To an
    error of 0.01 in second moments it took 0.5 to 1.2 times the gradients of `NUTS` on a Gaussian,
    a random walk and a logistic regression.

    Cost per step: n_steps gradients.

    Args:
        n_steps: steps of OBABO per trajectory, >= 1.
        step_size: the first step size h, > 0, in units of M; kept if there is no warm-up.
        friction: > 0; 1 over the time for which a velocity is remembered.
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        acceptance: mean acceptance aimed at, in (0, 1).

    Limits: the length of its trajectories, n_steps h, is yours to choose. Gets stuck in funnels;
    does not cross between separated modes; needs all rows at every step.

    Source: Riou-Durand and Vogrinc, arXiv:2202.13230, 2022.
    """

    n_steps: Array = eqx.field(converter=_count, default=16)
    step_size: Scalar = eqx.field(converter=positive("step_size", 0.5), default=0.5)
    friction: Scalar = eqx.field(converter=positive("friction", 0.3), default=0.3)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.65), default=0.65)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 1000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_preconditioner(self.preconditioner, "MALT")

    def init(self, key: PRNGKey, target: Target) -> UnderdampedState:
        """The state at `target.initial(key)`, with a velocity."""
        return begin(key, target, self.preconditioner, self.step_size, self.friction)

    def step(
        self, key: PRNGKey, target: Target, state: UnderdampedState
    ) -> tuple[UnderdampedState, Info]:
        """One trajectory."""
        key_velocity, key_move, key_accept = jax.random.split(key, 3)
        fresh = jax.random.normal(key_velocity, state.velocity.shape, state.velocity.dtype)
        begun = eqx.tree_at(lambda s: s.velocity, state, fresh)

        def body(i: Count, loop: tuple[UnderdampedState, Scalar]):
            moving, total = loop
            moving, error = obabo(jax.random.fold_in(key_move, i), target, moving)
            return moving, total + error

        zero = jnp.zeros((), fresh.dtype)
        end, error = jax.lax.fori_loop(0, self.n_steps, body, (begun, zero))
        usable = jnp.isfinite(error) & jnp.isfinite(end.log_prob)
        usable &= jnp.all(jnp.isfinite(end.score))
        rate = jnp.where(usable, jnp.exp(jnp.minimum(-error, 0)), 0)
        accept = jax.random.uniform(key_accept, dtype=rate.dtype) < rate
        state = jax.tree.map(lambda a, b: jnp.where(accept, a, b), end, state)
        stats = {
            "acceptance_rate": rate,
            "diverging": ~(error <= DIVERGED),
            "energy_error": error,
            "step_size": state.tuning.step_size,
            "n_steps": self.n_steps,
        }
        return state, Info(-state.log_prob, self.n_steps, stats)

    def tune(self, state: UnderdampedState, info: Info, i: Count, n: Count) -> UnderdampedState:
        """Step size and preconditioner, from the acceptance."""
        rate = info.stats["acceptance_rate"]
        return tuned(state, self.preconditioner, rate, self.acceptance, i, n)

    def position(self, state: UnderdampedState) -> Vector:
        """Where the chain is."""
        return state.position
