"""The sampling phase of BlackJAX's kernels through `infer.fit` beside scans written by hand."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import blackjax.mcmc.adjusted_mclmc_dynamic as mams
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import ghmc, hmc, mclmc, nuts
from blackjax.mcmc.dynamic_hmc import DynamicHMCState
from blackjax.mcmc.integrators import IntegratorState

import infer
from infer.external.mclmc import MCLMCState

CHAINS, WARMUP, REPEATS = 4, 500, 5
NOTE = (
    "Both sides start from the same tuned states and keep position, density and the statistics "
    "that `infer` records; the scan by hand draws other random numbers, so trajectories of random "
    "length are compared per gradient. Medians of interleaved repeats, compilation apart; "
    "`infer.fit` with the chunks that it chooses."
)


def gaussian(params: jax.Array, data: jax.Array) -> jax.Array:
    return -0.5 * params @ data @ params


def logistic(params: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    X, y = data
    logits = X @ params
    return jnp.sum(y * logits - jax.nn.softplus(logits)) - 0.5 * params @ params


def targets() -> dict[str, infer.Target]:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((20, 20)) / 5 + np.eye(20)
    X = rng.standard_normal((500, 25))
    y = rng.uniform(size=500) < 1 / (1 + np.exp(-X @ rng.standard_normal(25)))
    rows = (jnp.asarray(X, jnp.float32), jnp.asarray(y, jnp.float32))
    return {
        "Gaussian d=20": infer.from_log_density(
            gaussian, jnp.zeros(20), data=jnp.asarray(factor @ factor.T, jnp.float32)
        ),
        "logistic d=25 N=500": infer.from_log_density(logistic, jnp.zeros(25), data=rows),
    }


# Each: the state of the kernel at a tuned state of ours, and one transition with its gradients.


def nuts_move(key: Any, state: Any, log_prob: Any, tuned: Any) -> Any:
    covariance = tuned.tuning.scale.covariance
    kernel: Any = nuts.build_kernel()
    state, info = kernel(key, state, log_prob, tuned.tuning.step_size, covariance, 10)
    kept = (info.is_divergent, info.energy, info.acceptance_rate, info.num_trajectory_expansions)
    return state, kept, info.num_integration_steps


def hmc_move(key: Any, state: Any, log_prob: Any, tuned: Any) -> Any:
    key_length, key = jax.random.split(key)
    length = jax.random.randint(key_length, (), 1, 17)
    covariance = tuned.tuning.scale.covariance
    kernel: Any = hmc.build_kernel()
    state, info = kernel(key, state, log_prob, tuned.tuning.step_size, covariance, length)
    return state, (info.is_divergent, info.energy, info.acceptance_rate), length


def mclmc_move(key: Any, state: Any, log_prob: Any, tuned: Any) -> Any:
    covariance, step = tuned.tuning.scale.covariance, tuned.tuning.step_size
    kernel: Any = mclmc.build_kernel()
    state, info = kernel(key, state, log_prob, covariance, tuned.length, step)
    return state, (info.energy_change, info.nonans), jnp.asarray(2)


def mams_move(key: Any, state: Any, log_prob: Any, tuned: Any) -> Any:
    key_length, key = jax.random.split(key)
    step, d = tuned.tuning.step_size, state.position.shape[0]
    length = jnp.clip(2 * jnp.sqrt(d) / step, 1, 1000)
    kernel: Any = mams.build_kernel(mams.make_random_trajectory_length_fn(True))
    state, info = kernel(
        key,
        DynamicHMCState(*state[:3], random_generator_arg=key_length),
        log_prob,
        step,
        inverse_mass_matrix=tuned.tuning.scale.covariance,
        integration_steps_params=(length,),
    )
    state = hmc.HMCState(*state[:3])
    kept = (info.is_divergent, info.energy, info.acceptance_rate)
    return state, kept, 2 * info.num_integration_steps


def ghmc_move(key: Any, state: Any, log_prob: Any, tuned: Any) -> Any:
    step, factor = tuned.tuning.step_size, tuned.tuning.scale.factor
    alpha = -jnp.expm1(-step)
    kernel: Any = ghmc.build_kernel()
    state, info = kernel(key, state, log_prob, step, factor, alpha, alpha / 2)
    return state, (info.is_divergent, info.energy, info.acceptance_rate), jnp.asarray(1)


METHODS: dict[str, tuple[Any, int, Callable]] = {
    "NUTS": (infer.NUTS(), 1000, nuts_move),
    "HMC": (infer.HMC(), 1000, hmc_move),
    "MCLMC": (infer.MCLMC(), 10_000, mclmc_move),
    "AdjustedMCLMC": (infer.AdjustedMCLMC(), 1000, mams_move),
    "GHMC": (infer.GHMC(), 20_000, ghmc_move),
}


@eqx.filter_jit
def by_hand(move: Callable, target: infer.Target, keys: jax.Array, states: Any, draws: int) -> Any:
    """One scan per chain, chains vmapped, keeping what `infer` keeps per draw."""

    def chain(key: jax.Array, tuned: Any) -> Any:
        inner = tuned.kernel if isinstance(tuned, MCLMCState) else tuned.inner

        def body(state: Any, key: jax.Array) -> Any:
            state, kept, gradients = move(key, state, target.log_prob, tuned)
            return state, (state.position, state.logdensity, kept, gradients)

        assert isinstance(inner, hmc.HMCState | IntegratorState | ghmc.GHMCState)
        return jax.lax.scan(body, inner, jax.random.split(key, draws))[1]

    return jax.vmap(chain)(keys, states)


def run() -> list[dict[str, Any]]:
    """Medians of interleaved repeats; the same tuned states start both."""
    rows = []
    for name, target in targets().items():
        for method, (algorithm, draws, move) in METHODS.items():
            first = infer.fit(target, algorithm, key=0, steps=draws, warmup=WARMUP, progress=False)
            ours, hand = [], []
            for repeat in range(REPEATS + 1):
                more = first.extend(steps=draws, progress=False)
                spent = more.gradients - first.gradients
                ours.append((more.timings.run - first.timings.run, spent))
                keys = jax.random.split(jax.random.key(repeat), CHAINS)
                states = jax.block_until_ready(first.trail.carry.states)
                clock = time.perf_counter()
                drawn = jax.device_get(by_hand(move, target, keys, states, draws))
                hand.append((time.perf_counter() - clock, int(np.sum(drawn[-1]))))
            for label, taken in (("infer.fit", ours), ("BlackJAX scan by hand", hand)):
                seconds = statistics.median(s for s, _ in taken[1:])
                per_gradient = statistics.median(s / g for s, g in taken[1:])
                rows.append(
                    {
                        "case": f"{method} {name}, {CHAINS} x {draws}",
                        "what": label,
                        "seconds": seconds,
                        "us per gradient": per_gradient * 1e6,
                    }
                )
            ours_row, hand_row = rows[-2:]
            ours_row["ratio"] = ours_row["seconds"] / hand_row["seconds"]
            ours_row["ratio per gradient"] = (
                ours_row["us per gradient"] / hand_row["us per gradient"]
            )
            print(ours_row, flush=True)
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
