"""A few NUTS walkers for the expensive checks: short walks at some temperature."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from infer.core.target import Target

LONGEST = 60  # steps of one walk


@eqx.filter_jit
def _walk(
    target: Target,
    keys: Key[Array, " walkers"],
    start: Array,
    center: Array,
    factor: Array,
    inverse_temperature: Array,
    steps: Array,
    step_size: Array,
    adapting: Array,
    buffer: int,
) -> tuple[Array, ...]:
    """NUTS walkers in the fit's whitened coordinates, at some temperature.

    Returns positions (walkers, buffer, d) and log densities (walkers, buffer) after every step,
    the step sizes, the divergences and the gradients. The step size follows the acceptance by a
    stochastic approximation while `adapting`.
    """
    from blackjax.mcmc import nuts
    from blackjax.mcmc.hmc import HMCState

    def log_prob(x: Array) -> Array:
        value = inverse_temperature * target.log_prob(center + factor @ x)
        return jnp.where(jnp.isnan(value), -jnp.inf, value)

    kernel: Any = nuts.build_kernel()
    mass = jnp.ones(start.shape[1], start.dtype)

    def one(key: Array, x: Array, log_step: Array) -> tuple[Array, ...]:
        value, score = jax.value_and_grad(log_prob)(x)

        def body(i: Array, loop: tuple[HMCState, Array, Array, Array, Array, Array]):
            state, trace, values, log_step, diverged, spent = loop
            step_key = jax.random.fold_in(key, i)
            state, info = kernel(step_key, state, log_prob, jnp.exp(log_step), mass, 6)
            rate = jnp.where(jnp.isfinite(info.acceptance_rate), info.acceptance_rate, 0.0)
            gain = jnp.where(adapting, 1.0 / jnp.sqrt(1.0 + i), 0.0).astype(log_step.dtype)
            log_step = log_step + gain * (rate - 0.8).astype(log_step.dtype)
            trace = trace.at[i].set(state.position)
            values = values.at[i].set(state.logdensity / inverse_temperature)
            spent = spent + info.num_integration_steps
            return state, trace, values, log_step, diverged | info.is_divergent, spent

        trace, values = jnp.zeros((buffer, x.shape[0]), x.dtype), jnp.zeros(buffer, x.dtype)
        state = HMCState(x, value, score)
        first = (state, trace, values, log_step, jnp.asarray(False), jnp.asarray(1))
        return jax.lax.fori_loop(0, steps, body, first)[1:]

    return jax.vmap(one)(keys, start, jnp.log(step_size))


class Walkers:
    """NUTS walkers and where they are, in whitened coordinates.

    After a walk `log_prob` has the log density at its positions (walkers, steps), `diverged` tells
    which walkers diverged in it, and `gradients` what all walks have cost.
    """

    def __init__(
        self, target: Target, key: Array, z: np.ndarray, center: np.ndarray, factor: np.ndarray
    ) -> None:
        dtype = jnp.zeros(()).dtype
        self.target, self.key, self.count = target, key, 0
        self.center, self.factor = jnp.asarray(center, dtype), jnp.asarray(factor, dtype)
        self.x = jax.scipy.linalg.solve_triangular(
            self.factor, (jnp.asarray(z, dtype) - self.center).T, lower=True
        ).T
        self.step_size = jnp.full(len(z), 0.5, dtype)
        self.log_prob = np.zeros((len(z), 0))
        self.diverged = np.zeros(len(z), bool)
        self.gradients = 0

    def go(self, steps: int, inverse_temperature: float = 1.0, adapting: bool = True) -> np.ndarray:
        """Take steps; returns their positions (walkers, steps, d), whitened."""
        self.count += 1
        keys = jax.random.split(jax.random.fold_in(self.key, self.count), len(self.x))
        beta = jnp.asarray(inverse_temperature, self.x.dtype)
        trace, values, log_step, diverged, spent = _walk(
            self.target,
            keys,
            self.x,
            self.center,
            self.factor,
            beta,
            jnp.asarray(steps),
            self.step_size,
            jnp.asarray(adapting),
            LONGEST,
        )
        self.x, self.step_size = trace[:, steps - 1], jnp.exp(log_step)
        self.log_prob = np.asarray(values[:, :steps], np.float64)
        self.diverged = np.asarray(diverged)
        self.gradients += int(spent.sum())
        return np.asarray(trace[:, :steps], np.float64)

    def unwhiten(self, x: np.ndarray) -> np.ndarray:
        """Positions in the coordinates of the target."""
        return np.asarray(self.center) + x @ np.asarray(self.factor).T
