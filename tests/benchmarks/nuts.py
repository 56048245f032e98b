"""The sampling phase of NUTS through `infer.fit` beside a hand-written BlackJAX scan."""

import statistics
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import nuts
from blackjax.mcmc.hmc import HMCState

import infer

CHAINS, WARMUP, DRAWS, REPEATS = 4, 500, 1000, 9


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


@eqx.filter_jit
def by_hand(target: infer.Target, keys: jax.Array, states: Any, draws: int) -> Any:
    """One scan per chain, chains vmapped, keeping position, divergence and steps per draw."""
    kernel = nuts.build_kernel()

    def chain(key: jax.Array, start: HMCState, step_size: jax.Array, mass: jax.Array) -> Any:
        def body(state: HMCState, key: jax.Array) -> Any:
            state, info = kernel(key, state, target.log_prob, step_size, mass, 10)
            kept = (state.position, state.logdensity, info.is_divergent, info.energy)
            return state, (*kept, info.acceptance_rate, info.num_integration_steps)

        return jax.lax.scan(body, start, jax.random.split(key, draws))[1]

    tuning = states.tuning
    return jax.vmap(chain)(keys, states.inner, tuning.step_size, tuning.scale.covariance)


def run() -> list[dict[str, Any]]:
    """Medians of interleaved repeats; the same tuned states start both."""
    rows = []
    for name, target in targets().items():
        first = infer.fit(target, infer.NUTS(), key=0, steps=DRAWS, warmup=WARMUP, progress=False)
        ours, hand = [], []
        for repeat in range(REPEATS + 1):
            more = first.extend(steps=DRAWS, progress=False)
            spent = more.gradients - first.gradients
            ours.append((more.timings.run - first.timings.run, spent))
            keys = jax.random.split(jax.random.key(repeat), CHAINS)
            states = jax.block_until_ready(first.trail.carry.states)
            clock = time.perf_counter()
            drawn = jax.device_get(by_hand(target, keys, states, DRAWS))
            hand.append((time.perf_counter() - clock, int(np.sum(drawn[-1]))))
        for label, taken in (("infer.fit", ours), ("BlackJAX scan by hand", hand)):
            seconds = statistics.median(s for s, _ in taken[1:])
            per_gradient = statistics.median(s / g for s, g in taken[1:])
            rows.append(
                {
                    "case": f"NUTS {name}, {CHAINS} x {DRAWS}",
                    "what": label,
                    "seconds": seconds,
                    "us per gradient": per_gradient * 1e6,
                }
            )
        rows[-2]["ratio"] = rows[-2]["seconds"] / rows[-1]["seconds"]
        rows[-2]["ratio per gradient"] = rows[-2]["us per gradient"] / rows[-1]["us per gradient"]
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
