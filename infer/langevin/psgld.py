"""Stochastic-gradient Langevin dynamics with the preconditioner of RMSprop."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import fraction, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.langevin.schedules import Schedule, at_step, schedule_or_number
from infer.langevin.stochastic import StochasticState, begin, moved
from infer.references.citation import cites
from infer.references.minibatches import LI_2016

PRODUCTS = 8  # Hessian products for the size of a row of the Hessian


class PSGLDState(eqx.Module):
    """The state of the position, and the mean square of the scores."""

    at: StochasticState
    square: Vector


@cites(LI_2016)
class PSGLD(AbstractSampler):
    """`SGLD` that goes on learning its preconditioner, from the sizes of the scores.

        V <- a V + (1 - a) g^2,      G = 1 / (floor + sqrt(V))
        z <- z + e G g + sqrt(2 e T G) noise,        g the score of a minibatch

    V is the mean square before this step's g is added: a G that knew g would correlate with it and
    bias the drift. G depends on the path, and so on z, which calls for one more drift term,
    div G; it is neglected. What that costs depends on how the memory 1 / (1 - a) compares with the
    time that the chain takes to cross the posterior, so smaller steps do not help. On all rows of a
    Gaussian in d = 2, variances beyond those of `SGLD` with M = G were +4 and +20 % for a = 0.9, at
    e = 0.05 and 0.02; -2, +2 and +11 % for a = 0.99, at e = 0.05, 0.02 and 0.005; -3, 0 and 0 % for
    a = 0.999. On minibatches of 8 of 40 rows they were +1 and +7 %; -2, 0 and +4 %; -2, -1 and
    -1 %. V starts at g^2 + |H|, with |H| the norms of the rows of the Hessian: at a start near the
    mode, where g is 0, nothing else keeps G from exploding.

    Args:
        step_size: e > 0, or a schedule, as in `SGLD`. It has the units of z, because G has those of
            1 / score: at the posterior e G is the e M of `SGLD` with M = G, so the step is stable
            below 2 (floor + sqrt(V)) over the curvature. Nothing makes it the same for all models.
        decay: a in (0, 1): V looks back over 1 / (1 - a) steps. The paper takes 0.99.
        floor: > 0: the least that a score counts.
        temperature: as in `SGLD`.

    Cost per step: one gradient on the minibatch, O(d). Warm-up takes the same steps.

    Limits: minibatch noise makes G smaller, and its effect on the variance is that of `SGLD`, e G
    Var(g) / 2. `SGLD` with its warm-up has no path-dependent M, and is in units of the posterior:
    prefer it.

    Source: Li, Chen, Carlson and Carin, AAAI 2016.
    """

    step_size: Scalar | Schedule = eqx.field(
        converter=schedule_or_number("step_size", 0.02), default=0.02
    )
    decay: Scalar = eqx.field(converter=fraction("decay", 0.999), default=0.999)
    floor: Scalar = eqx.field(converter=positive("floor", 1e-5), default=1e-5)
    temperature: Scalar | Schedule = eqx.field(
        converter=schedule_or_number("temperature", 1.0), default=1.0
    )
    exact_target: ClassVar[bool] = False
    adjusted: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 4000
    default_steps: ClassVar[int] = 20_000

    def init(self, key: PRNGKey, target: Target) -> PSGLDState:
        """The state at `target.initial(key)`, with V = g^2 and what scores are at a posterior."""
        key_start, key_signs = jax.random.split(key)
        at = begin(target, target.initial(key_start), None)
        z = at.position
        times = jax.linearize(jax.grad(target.log_prob), z)[1]
        signs = jax.random.rademacher(key_signs, (PRODUCTS, len(z)), z.dtype)
        rows = jnp.sqrt(jnp.mean(jax.lax.map(times, signs) ** 2, axis=0))
        return PSGLDState(at, at.score**2 + jnp.where(jnp.isfinite(rows), rows, 0))

    def _go(
        self, key: PRNGKey, target: Target, state: PSGLDState, heat: Scalar | None
    ) -> tuple[PSGLDState, Info]:
        at, z = state.at, state.at.position
        e, a = at_step(self.step_size, at.i, z), self.decay.astype(z.dtype)
        g = 1 / (self.floor.astype(z.dtype) + jnp.sqrt(state.square))
        noise = jax.random.normal(key, z.shape, z.dtype)
        variance = 2 * e if heat is None else 2 * e * heat
        new = moved(target, at, z + e * g * at.score + jnp.sqrt(variance * g) * noise, heat)
        fine = jnp.isfinite(new.log_prob) & jnp.all(jnp.isfinite(new.score))
        loss = jnp.where(fine, -new.draw_log_prob, jnp.nan)
        square = a * state.square + (1 - a) * at.score**2
        return PSGLDState(new, square), Info(loss, jnp.asarray(1), {"step_size": e})

    def step(self, key: PRNGKey, target: Target, state: PSGLDState) -> tuple[PSGLDState, Info]:
        """One transition."""
        heat = at_step(self.temperature, state.at.i, state.square)
        return self._go(key, target, state, heat)

    def adapt(
        self, key: PRNGKey, target: Target, state: PSGLDState, i: Count, n: Count
    ) -> tuple[PSGLDState, Info]:
        """One transition with noise, at the first step size."""
        return self._go(key, target, state, None)

    def position(self, state: PSGLDState) -> Vector:
        """The last position that noise has reached."""
        return state.at.draw
