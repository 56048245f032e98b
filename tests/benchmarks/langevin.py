"""Langevin samplers: time beside a scan by hand; gradients to a given error beside the peers."""

import statistics
import time
from typing import Any

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import mclmc
from blackjax.mcmc.integrators import isokinetic_mclachlan

import infer
from infer.core.algorithm import AbstractSampler
from infer.run.loop import Plan, start
from infer.run.loop import run as run_loop

NOTE = (
    "Second table: gradients of the sampling phase after which the squared error of the mean of "
    "z^2, over the variance of z^2, stays below 0.01 (an effective sample size of 100), for its "
    "mean and its maximum over coordinates; the median of 32 chains, each warmed up by itself: "
    "NUTS with 1000 transitions, MALA with 4000, BAOAB with its default of 2000 gradients, MCLMC "
    "with its tuner on 2000 steps, 4000 gradients (of which 40, 30 and 30 % for step size, mass "
    "matrix and length). `> n` was not reached in n gradients. The friction and energy error that "
    "BAOAB has by default were chosen with these three posteriors in sight."
)
CHAINS, LOW, REPEATS = 32, 0.01, 5
SIZES = (  # dimension, chains, steps, every how many is kept
    (10, 1, 20_000, 1),
    (10, 1000, 512, 1),
    (1000, 1, 4096, 1),
    (1000, 1000, 64, 8),
    (10_000, 1, 1024, 4),
    (10_000, 1000, 12, 4),
)


# Time of a step ---------------------------------------------------------------------------------


def wide(z: jax.Array, scale: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum((z / scale) ** 2)


@eqx.filter_jit
def ula_by_hand(target: infer.Target, keys: Any, z: Any, rows: int, thin: int) -> Any:
    """Scans of Euler steps of size 0.05 with the numbers of `infer.ULA`, every thin-th kept."""

    def chain(key: Any, z: Any) -> Any:
        def body(i: Any, loop: Any) -> Any:
            z, _, score = loop
            noise = jax.random.normal(jax.random.fold_in(key, i), z.shape, z.dtype)
            z = z + 0.05 * score + jnp.sqrt(0.1) * noise
            return (z, *target.value_and_score(z))

        def row(loop: Any, j: Any) -> Any:
            loop = jax.lax.fori_loop(j * thin, (j + 1) * thin, body, loop)
            return loop, loop[:2]

        return jax.lax.scan(row, (z, *target.value_and_score(z)), jnp.arange(rows))[1]

    return jax.vmap(chain, (0, 0), 1)(keys, z)


@eqx.filter_jit
def baoab_by_hand(target: infer.Target, keys: Any, z: Any, v: Any, rows: int, thin: int) -> Any:
    """The same for steps of `infer.BAOAB(step_size=0.5)`."""
    c = jnp.exp(-0.3 * 0.5)

    def chain(key: Any, z: Any, v: Any) -> Any:
        def body(i: Any, loop: Any) -> Any:
            z, v, _, score = loop
            noise = jax.random.normal(jax.random.fold_in(key, i), z.shape, z.dtype)
            v = v + 0.25 * score
            z = z + 0.25 * v
            v = c * v + jnp.sqrt(1 - c**2) * noise
            z = z + 0.25 * v
            log_prob, score = target.value_and_score(z)
            return z, v + 0.25 * score, log_prob, score

        def row(loop: Any, j: Any) -> Any:
            loop = jax.lax.fori_loop(j * thin, (j + 1) * thin, body, loop)
            return loop, (loop[0], loop[2])

        return jax.lax.scan(row, (z, v, *target.value_and_score(z)), jnp.arange(rows))[1]

    return jax.vmap(chain, (0, 0, 0), 1)(keys, z, v)


def steps_beside_a_scan(sizes: tuple = SIZES) -> list[dict[str, Any]]:
    """Medians of interleaved repeats from the same state, and the largest difference of draws."""
    rows = []
    for d, chains, steps, thin in sizes:
        scale = jnp.linspace(1, 2, d)
        target = infer.from_log_density(wide, jnp.zeros(d), data=scale)
        keys = jax.random.split(jax.random.key(0), chains)
        starts = scale * jax.random.normal(jax.random.key(1), (chains, d))
        plan = Plan(0, steps, thin)
        for name, algorithm in (("ULA", infer.ULA()), ("BAOAB", infer.BAOAB(step_size=0.5))):
            ours, hand, gap = [], [], 0.0
            for _ in range(REPEATS + 1):
                trail = start(algorithm, target, keys, starts)
                velocity = trail.carry.states.velocity if name == "BAOAB" else None
                run_loop(algorithm, target, keys, trail, plan)
                ours.append(trail.seconds)
                clock = time.perf_counter()
                if velocity is None:
                    kept = ula_by_hand(target, keys, starts, steps // thin, thin)
                else:
                    kept = baoab_by_hand(target, keys, starts, velocity, steps // thin, thin)
                kept = jax.device_get(kept)
                hand.append(time.perf_counter() - clock)
                gap = float(np.abs(trail.record()["position"] - kept[0]).max())
            both = [statistics.median(seconds[1:]) for seconds in (ours, hand)]
            rows.append(
                {
                    "table": "Steps beside a scan written by hand, the same random numbers",
                    "case": f"{name}, d={d}, {chains} chains, {steps} steps, every {thin}. kept",
                    "infer, us per step": both[0] / steps * 1e6,
                    "by hand": both[1] / steps * 1e6,
                    "ratio": both[0] / both[1],
                    "largest difference": gap,
                }
            )
            print(rows[-1], flush=True)
    return rows


# Gradients to a given error ---------------------------------------------------------------------


def gaussian(z: jax.Array, precision: jax.Array) -> jax.Array:
    return -0.5 * z @ precision @ z


def brownian(z: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    """A random walk seen at 20 of 30 times with noise; both scales unknown: d = 32."""
    seen, y = data
    walk, noise, x = z[0], z[1], z[2:]
    steps = jnp.diff(x, prepend=jnp.zeros(1))
    prior = -0.5 * (walk**2 + noise**2) / 4 - 30 * walk
    prior -= 0.5 * jnp.sum(steps**2) * jnp.exp(-2 * walk)
    return prior - 20 * noise - 0.5 * jnp.sum((y - x[seen]) ** 2) * jnp.exp(-2 * noise)


def logistic(z: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    X, y = data
    logits = X @ z
    return jnp.sum(y * logits - jax.nn.softplus(logits)) - 0.5 * z @ z


def targets() -> dict[str, infer.Target]:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((100, 100)))[0]
    precision = (basis / np.geomspace(1, 1000, 100)) @ basis.T
    seen = np.r_[0:10, 20:30]
    draw = np.random.default_rng(5)  # data that tell both scales: no funnel, no divergences
    y = np.cumsum(0.1 * draw.standard_normal(30))[seen] + 0.15 * draw.standard_normal(20)
    mix = rng.standard_normal((24, 24)) / 6 + np.eye(24)
    X = np.c_[np.ones(1000), rng.standard_normal((1000, 24)) @ mix]
    label = rng.uniform(size=1000) < 1 / (1 + np.exp(-X @ rng.standard_normal(25) * 0.4))
    f = jnp.float32
    return {
        "Gaussian d=100, condition 1000": infer.from_log_density(
            gaussian, jnp.zeros(100), data=jnp.asarray(precision, f)
        ),
        "Brownian motion d=32": infer.from_log_density(
            brownian, jnp.zeros(32), data=(jnp.asarray(seen), jnp.asarray(y, f))
        ),
        "logistic d=25 N=1000": infer.from_log_density(
            logistic, jnp.zeros(25), data=(jnp.asarray(X, f), jnp.asarray(label, f))
        ),
    }


def truth(name: str, target: infer.Target) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of z^2: closed form, or a long run of NUTS."""
    model: Any = target.model
    if name.startswith("Gaussian"):
        variance = np.diag(np.linalg.inv(np.asarray(model.data, np.float64)))
        return variance, 2 * variance**2
    run = infer.fit(target, infer.NUTS(), key=99, chains=8, steps=5000, progress=False)
    square = np.asarray(run.z, np.float64).reshape(-1, target.dim) ** 2
    return square.mean(axis=0), square.var(axis=0)


@eqx.filter_jit
def errors_of(
    move: Any, position: Any, keys: jax.Array, states: Any, steps: int, mean: Any, variance: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients so far, and the median over chains of b^2 of E[z^2], worst and mean coordinate.

    b^2 is the squared error of the running mean over the variance of z^2: 1/ESS for a fair chain.
    """

    def body(loop: Any, i: jax.Array) -> Any:
        states, total, spent = loop
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
        states, gradients = jax.vmap(move)(step_keys, states)
        total = total + (jax.vmap(position)(states) ** 2 - mean)
        spent = spent + jnp.mean(gradients.astype(total.dtype))
        b2 = (total / (i + 1)) ** 2 / variance
        return (states, total, spent), (spent, b2.max(axis=1), b2.mean(axis=1))

    zero = jnp.zeros_like(jax.vmap(position)(states))
    _, (spent, worst, average) = jax.lax.scan(
        body, (states, zero, jnp.zeros(())), jnp.arange(steps)
    )
    return spent, jnp.median(worst, axis=1), jnp.median(average, axis=1)


def first_low(spent: np.ndarray, error: np.ndarray) -> float:
    """Gradients after which the error stays low; infinite where it does not."""
    high = np.flatnonzero(~(error < LOW))
    if len(high) and high[-1] + 1 == len(error):
        return float("inf")
    return float(spent[high[-1] + 1 if len(high) else 0])


def gradients_to_low(
    algorithm: AbstractSampler, target: infer.Target, known: Any, steps: int, warmup: int, seed: int
) -> tuple[dict[str, float], infer.Result]:
    """Gradients of the sampling phase until b^2 stays below 0.01, after a warm-up of its own."""
    result = infer.fit(
        target, algorithm, key=seed, chains=CHAINS, warmup=warmup, steps=1, progress=False
    )

    def move(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        state, info = algorithm.step(key, target, state)
        return state, info.gradients

    keys = jax.random.split(jax.random.key(seed + 1000), CHAINS)
    states = result.trail.carry.states
    spent, worst, average = map(
        np.asarray, errors_of(move, algorithm.position, keys, states, steps, *known)
    )
    row = {"worst coordinate": first_low(spent, worst), "mean": first_low(spent, average)}
    return row | {"spent": float(spent[-1])}, result


def microcanonical(
    target: infer.Target, known: Any, steps: int, warmup: int, seed: int
) -> tuple[dict[str, float], Any]:
    """The same for BlackJAX's unadjusted MCLMC: its own tuner, McLachlan's integrator."""

    def tuned(key: jax.Array) -> Any:
        start, init, tune = jax.random.split(key, 3)
        z = target.initial(start)
        state = mclmc.init(z, target.log_prob, init)
        kernel = mclmc.build_kernel(isokinetic_mclachlan)
        state, params, _ = blackjax.mclmc_find_L_and_step_size(
            kernel,
            warmup,
            state,
            tune,
            target.log_prob,
            frac_tune1=0.4,
            frac_tune2=0.3,
            frac_tune3=0.3,
        )
        return state, params

    kernel = mclmc.build_kernel(isokinetic_mclachlan)

    def move(key: jax.Array, loop: Any) -> tuple[Any, jax.Array]:
        state, params = loop
        state, _ = kernel(
            key, state, target.log_prob, params.inverse_mass_matrix, params.L, params.step_size
        )
        return (state, params), jnp.asarray(2)

    keys = jax.random.split(jax.random.key(seed), CHAINS)
    states = jax.block_until_ready(jax.jit(jax.vmap(tuned))(keys))
    spent, worst, average = map(
        np.asarray, errors_of(move, lambda loop: loop[0].position, keys, states, steps, *known)
    )
    row = {"worst coordinate": first_low(spent, worst), "mean": first_low(spent, average)}
    return row | {"spent": float(spent[-1])}, states[1]


def gradients_beside_the_peers() -> list[dict[str, Any]]:
    """One row per posterior and method."""
    rows = []
    for name, target in targets().items():
        known = tuple(jnp.asarray(x, jnp.float32) for x in truth(name, target))
        methods = {
            "infer BAOAB": (infer.BAOAB(), 40_000, 2000),
            "infer NUTS": (infer.NUTS(), 1200, 1000),
            "infer MALA": (infer.MALA(), 40_000, 4000),
        }
        found = {"BlackJAX MCLMC": microcanonical(target, known, 20_000, 2000, 0)[0]}
        for label, (algorithm, steps, warmup) in methods.items():
            found[label] = gradients_to_low(algorithm, target, known, steps, warmup, 0)[0]
        for label, row in found.items():
            shown = {
                k: f"{row[k]:.0f}" if np.isfinite(row[k]) else f"> {row['spent']:.0f}"
                for k in ("mean", "worst coordinate")
            }
            rows.append(
                {
                    "table": "Gradients to an error of 0.01",
                    "posterior": name,
                    "method": label,
                    "mean over coordinates": shown["mean"],
                    "worst coordinate": shown["worst coordinate"],
                    "mean, over MCLMC": row["mean"] / found["BlackJAX MCLMC"]["mean"],
                }
            )
            print(rows[-1], flush=True)
    return rows


def run() -> list[dict[str, Any]]:
    return steps_beside_a_scan() + gradients_beside_the_peers()


if __name__ == "__main__":
    for line in run():
        print(line)
