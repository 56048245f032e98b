"""Microcanonical Langevin Monte Carlo, by BlackJAX's kernel."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import optional_positive, positive
from infer.core.linalg import Moments, empty_moments
from infer.core.target import Target
from infer.core.types import Count, Flag, PRNGKey, Scalar, Vector
from infer.external.adapter import first_step, require_blackjax
from infer.geometry.scale import AbstractPreconditioner, Diagonal, Fixed, check_preconditioner
from infer.geometry.warmup import (
    CALM,
    Tuning,
    by_scores_first,
    calmness,
    settled,
    shares,
    tune,
    untuned,
)
from infer.references.citation import cites
from infer.references.mcmc import ROBNIK_2023
from infer.references.software import BLACKJAX

WINDOWS = shares(10, 20, 40, 70)
BATCHES = 10  # of steps, in the last 30 % of warm-up, whose means tell the autocorrelation
REMEMBERED = 0.4  # of the autocorrelation time is how long a direction is kept


def check_microcanonical(name: str, target: Target, preconditioner: AbstractPreconditioner) -> None:
    """Refuse one dimension, where there is no direction to turn, and a full matrix."""
    if target.dim < 2:
        raise ValueError(
            f"{name} turns a direction, and the target has {target.dim} unconstrained coordinate; "
            "write infer.NUTS()."
        )
    full = not isinstance(preconditioner, Diagonal | Fixed)
    if full or preconditioner.identity(jnp.zeros(target.dim)).covariance.ndim != 1:
        raise ValueError(
            f"{name} takes one variance per coordinate, got {type(preconditioner).__name__} with a "
            "full matrix; write preconditioner=infer.Diagonal() or infer.Fixed(variances)."
        )


class Batches(eqx.Module):
    """Means of consecutive draws: their variance tells the autocorrelation time of a chain."""

    total: Vector
    count: Count
    means: Moments
    draws: Moments

    def add(self, x: Vector, size: Count) -> "Batches":
        """One more draw, in batches of this size."""
        total, count = self.total + x, self.count + 1
        full = count >= size
        means = jax.tree.map(
            lambda a, b: jnp.where(full, a, b), self.means.add(total / size), self.means
        )
        return Batches(
            jnp.where(full, 0, total), jnp.where(full, 0, count), means, self.draws.add(x)
        )

    def autocorrelation_time(self, size: Count) -> Scalar:
        """Size Var(means) / Var(draws), in steps, on average over coordinates; at least 1."""
        ratio = self.means.covariance() / self.draws.covariance()
        return jnp.maximum(size * jnp.mean(jnp.where(jnp.isfinite(ratio), ratio, 0)), 1)


class MCLMCState(eqx.Module):
    """BlackJAX's state, the decoherence length, what warm-up learned, and by what.

    `scores` and `batches` are only needed while warming up.
    """

    kernel: Any
    length: Scalar
    tuning: Tuning
    scores: Moments
    batches: Batches

    @property
    def position(self) -> Vector:
        """Where the chain is."""
        return self.kernel.position


@cites(ROBNIK_2023, BLACKJAX)
class MCLMC(AbstractSampler):
    """Microcanonical Langevin Monte Carlo: unit speed, a direction that turns, no acceptance test.

        dx = L u dt,   du = (I - u u^T) [L^T grad log p(x) / (d - 1) dt + noise],   |u| = 1

    with M = L L^T; `length` is how far a direction is remembered. Warm-up tunes M, the step size to
    a mean square of the energy error of `energy_error` per dimension, and the length to 0.4 of the
    distance over which draws are correlated.

    Cost per step: two gradients.

    Args:
        step_size: > 0, kept as it is, in units of M; or None to have warm-up tune it (sqrt(d) / 4
            without warm-up).
        length: > 0, in the same units, kept as it is; or None to have warm-up tune it (sqrt(d)
            without warm-up).
        preconditioner: `Diagonal()` or `Fixed(variances)`.
        energy_error: mean square of the energy error per dimension that a tuned step size aims at,
            > 0; smaller is less biased and slower.

    Limits: no acceptance test, hence biased by its step size: R-hat and ESS cannot see it, the
    scores in the verdict can. Needs two dimensions and all rows. Does not cross between separated
    modes.

    Source: Robnik, De Luca, Silverstein and Seljak, JMLR 24, 2023; the kernel is BlackJAX's.
    """

    step_size: Scalar | None = eqx.field(
        converter=optional_positive("step_size", 1.0), default=None
    )
    length: Scalar | None = eqx.field(converter=optional_positive("length", 1.0), default=None)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    energy_error: Scalar = eqx.field(converter=positive("energy_error", 5e-4), default=5e-4)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    bias_order: ClassVar[int | None] = 2
    default_warmup: ClassVar[int] = 2000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Say what to install; refuse what is no preconditioner."""
        require_blackjax("MCLMC")
        check_preconditioner(self.preconditioner, "MCLMC")

    def check(self, target: Target) -> None:
        """Refuse one dimension, and a full matrix."""
        check_microcanonical("MCLMC", target, self.preconditioner)

    def init(self, key: PRNGKey, target: Target) -> MCLMCState:
        """The state at `target.initial(key)` with a direction; sqrt(d) for the length."""
        from blackjax.mcmc import mclmc

        key_start, key_kernel = jax.random.split(key)
        z = target.initial(key_start)
        length = jnp.sqrt(z.shape[0]) if self.length is None else self.length
        blank = empty_moments(z, dense=False)
        return MCLMCState(
            kernel=mclmc.init(z, target.log_prob, key_kernel),
            length=length.astype(z.dtype),
            tuning=untuned(self.preconditioner, first_step(self.step_size, z), z),
            scores=blank,
            batches=Batches(jnp.zeros_like(z), jnp.zeros((), int), blank, blank),
        )

    def step(self, key: PRNGKey, target: Target, state: MCLMCState) -> tuple[MCLMCState, Info]:
        """One step. One without a finite density is refused by the kernel, and counted here."""
        from blackjax.mcmc import mclmc

        e, covariance = state.tuning.step_size, state.tuning.scale.covariance
        kernel: Any = mclmc.build_kernel()
        after, info = kernel(key, state.kernel, target.log_prob, covariance, state.length, e)
        stats: dict[str, Array] = {
            "energy_error": info.energy_change,
            "diverging": ~info.nonans,
            "step_size": e,
            "length": state.length,
        }
        state = eqx.tree_at(lambda s: s.kernel, state, after)
        return state, Info(-after.logdensity, jnp.asarray(2), stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: MCLMCState, i: Count, n: Count
    ) -> tuple[MCLMCState, Info]:
        """One step, after which step size, M and, towards the end, the length are tuned."""
        state, info = self.step(key, target, state)
        z = state.position
        error = jnp.where(info.stats["diverging"], jnp.inf, info.stats["energy_error"])
        collecting, ending = WINDOWS(i, n)
        scores = _when(collecting, state.scores.add(state.kernel.logdensity_grad), state.scores)
        tuning = tune(
            state.tuning,
            self.preconditioner,
            z,
            calmness(error, z.shape[0], self.energy_error),
            jnp.asarray(CALM, z.dtype),
            i,
            n,
            WINDOWS,
            by_scores_first(self.preconditioner, scores, i, n),
        )
        scores = _when(ending, empty_moments(z, dense=False), scores)
        size = jnp.maximum((3 * n) // (10 * BATCHES), 1)
        batches = _when(i >= n - BATCHES * size, state.batches.add(z, size), state.batches)
        length = state.length
        if self.length is None:
            remembered = REMEMBERED * tuning.step_size * batches.autocorrelation_time(size)
            length = jnp.where((i + 1 == n) & (n >= 10 * BATCHES), remembered, length)
        tuning = settled(tuning, self.step_size, i, n)
        return MCLMCState(state.kernel, length, tuning, scores, batches), info

    def position(self, state: MCLMCState) -> Vector:
        """Where the chain is."""
        return state.position


def _when(condition: Flag, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
