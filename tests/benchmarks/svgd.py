"""One step of SVGD beside BlackJAX, NumPyro and the bare matrix products.

    python tests/benchmarks/svgd.py                      the tables, several minutes
    python tests/benchmarks/svgd.py --memory 50000 20    the peak memory of so many, in this process

Target: a Gaussian on R^d with all correlations 0.5, its log density written with a dense precision
matrix and its score by autodiff, for everybody. RBF kernel and Adagrad everywhere (ours also with
IMQ, the default); bandwidth by the median of all pairs (BlackJAX, NumPyro) or of a subsample
(ours); the bare step has a fixed bandwidth and plain ascent. Everything is jitted, warmed up,
and timed in turns within one process; medians. Float32.
"""

import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import infer

SIZES = [(n, d) for n in (100, 1000, 4000) for d in (10, 100)] + [(4000, 50), (400, 200)]
MANY = [(50_000, 20), (100_000, 10)]
GROWTH_N = [(n, 20) for n in (500, 1000, 2000, 4000, 8000)]
GROWTH_D = [(1000, d) for d in (5, 20, 50, 100, 200)]
ROUNDS = 9
WARM_UPS = 3  # BlackJAX's second call compiles again: its first state is weakly typed
SLOW = 1.5  # seconds: what takes longer is timed only in the first SLOW_ROUNDS rounds
SLOW_ROUNDS = 3
MOST_PAIRS = 16_000_000  # BlackJAX and NumPyro are left out beyond: they hold several n x n arrays
RATE = 0.1
BANDWIDTH = 10.0

Step = Callable[[], Any]


def precision(d: int) -> jax.Array:
    """Inverse of the matrix with 1 on the diagonal and 1/2 off it."""
    return jnp.asarray(np.linalg.inv(0.5 * np.eye(d) + 0.5), jnp.float32)


def log_density(z: jax.Array, data: jax.Array) -> jax.Array:
    """The Gaussian of this precision, up to a constant."""
    return -0.5 * z @ data @ z


def directions(n: int) -> dict[str, Any]:
    """Every direction, its kernel and all else as they come, with Adagrad where it can be."""
    step = {"n_particles": n, "optimizer": infer.optimizer(optax.adagrad, learning_rate=RATE)}
    return {
        "SVGD": infer.SVGD(**step),
        "SVGD, RBF": infer.SVGD(kernel=infer.RBF(), **step),
        "MSVGD": infer.MSVGD(**step),
        "AnnealedSVGD": infer.AnnealedSVGD(**step),
        "RandomBatchSVGD, groups of 10": infer.RandomBatchSVGD(**step),
        "GraphicalSVGD": infer.GraphicalSVGD(**step),
        "SlicedSVGD": infer.SlicedSVGD(**step),
        "GrassmannSVGD": infer.GrassmannSVGD(**step),
        "GFSD": infer.GFSD(**step),
        "GFSF": infer.GFSF(**step),
        "Blob": infer.Blob(**step),
        "MIED": infer.MIED(**step),
        "KSDD, Adagrad": infer.KSDD(**step),
        "MatrixSVGD": infer.MatrixSVGD(**step),
        "MixtureSVGD": infer.MixtureSVGD(**step),
        "SVN": infer.SVN(**step),
        "NoisySVGD": infer.NoisySVGD(n_particles=n),
        "SVMD": infer.SVMD(**step),
        "SVNG": infer.SVNG(**step),
    }


def direction_rows(n: int = 1000, d: int = 20) -> list[dict[str, Any]]:
    """Milliseconds per step of every direction, timed in turns with the bare step."""
    steps = {"bare": bare(n, d)} | {k: moved(n, d, a) for k, a in directions(n).items()}
    times = timed(steps)
    floor = statistics.median(times["bare"])
    return [
        {"n": n, "d": d, "what": name, "ms": 1e3 * (each := statistics.median(times[name]))}
        | {"of the bare step": each / floor}
        for name in steps
    ]


def ours(n: int, d: int, kernel: Any) -> Step:
    """A step of SVGD."""
    adagrad = infer.optimizer(optax.adagrad, learning_rate=RATE)
    return moved(n, d, infer.SVGD(n_particles=n, kernel=kernel, optimizer=adagrad))


def moved(n: int, d: int, algorithm: Any) -> Step:
    """Our step, on the state of its own last step."""
    target = infer.from_log_density(log_density, jnp.zeros(d), data=precision(d))
    key = jax.random.key(0)
    state = jax.jit(lambda: algorithm.init(key, target.at(jnp.zeros(d))))()
    arrays, rest = eqx.partition((algorithm, target), eqx.is_array)

    @jax.jit
    def step(arrays: Any, state: Any) -> Any:
        algorithm, target = eqx.combine(arrays, rest)
        return algorithm.step(key, target, state)

    def once() -> Any:
        nonlocal state
        state, info = step(arrays, state)
        return state, info

    return once


def bare(n: int, d: int) -> Step:
    """Scores, three products, one exponential, plain ascent."""
    precisions = precision(d)

    @jax.jit
    def step(x: jax.Array, precisions: jax.Array) -> jax.Array:
        scores = jax.vmap(jax.grad(log_density), (0, None))(x, precisions)
        square = jnp.sum(x**2, axis=1)
        k = jnp.exp((2 * x @ x.T - square[:, None] - square) / BANDWIDTH)
        repulsion = 2 / BANDWIDTH * (jnp.sum(k, axis=1)[:, None] * x - k @ x)
        return x + RATE / n * (k @ scores + repulsion)

    x = jax.random.normal(jax.random.key(0), (n, d))

    def once() -> Any:
        nonlocal x
        x = step(x, precisions)
        return x

    return once


def blackjaxs(n: int, d: int) -> Step:
    """`blackjax.svgd` with its own median rule."""
    import blackjax

    precisions = precision(d)
    algorithm = blackjax.svgd(jax.grad(lambda z: log_density(z, precisions)), optax.adagrad(RATE))
    state = algorithm.init(jax.random.normal(jax.random.key(0), (n, d)), {"length_scale": 1.0})
    step = jax.jit(algorithm.step)

    def once() -> Any:
        nonlocal state
        state = step(state)
        return state

    return once


def numpyros(n: int, d: int) -> Step:
    """`numpyro.contrib.einstein.SVGD` (an AutoDelta guide) with RBFKernel."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro.contrib.einstein import SVGD, RBFKernel

    def model(data: jax.Array) -> None:
        # It draws from the prior before it starts, hence one that can be drawn from, and back out.
        z = numpyro.sample("z", dist.Normal(jnp.zeros(d), 1.0).to_event(1))
        numpyro.factor("rest", log_density(z, data) + 0.5 * z @ z)

    algorithm = SVGD(model, numpyro.optim.Adagrad(RATE), RBFKernel(), num_stein_particles=n)
    precisions = precision(d)
    state = algorithm.init(jax.random.key(0), precisions)
    step = jax.jit(algorithm.update)

    def once() -> Any:
        nonlocal state
        state, loss = step(state, precisions)
        return state, loss

    return once


def timed(steps: dict[str, Step]) -> dict[str, list[float]]:
    """Seconds of every step, warmed up and taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(WARM_UPS):
            jax.block_until_ready(step())
    for i in range(ROUNDS):
        for name, step in steps.items():
            if i >= SLOW_ROUNDS and times[name][0] > SLOW:
                continue
            clock = time.perf_counter()
            jax.block_until_ready(step())
            times[name].append(time.perf_counter() - clock)
    return times


def race(n: int, d: int, competitors: bool = True) -> dict[str, Any]:
    """Milliseconds per step of everybody at one size."""
    steps = {
        "infer RBF": ours(n, d, infer.RBF()),
        "infer IMQ": ours(n, d, infer.IMQ()),
        "bare": bare(n, d),
    }
    if competitors and n * n <= MOST_PAIRS:
        steps |= {"blackjax": blackjaxs(n, d), "numpyro": numpyros(n, d)}
    times = timed(steps)
    row: dict[str, Any] = {"n": n, "d": d}
    row |= {f"{name} ms": 1e3 * statistics.median(seconds) for name, seconds in times.items()}
    row["repeats"] = {name: len(seconds) for name, seconds in times.items()}
    ours_ms = row["infer RBF ms"]
    row |= {f"{name} / infer": row[f"{name} ms"] / ours_ms for name in steps if name[0] != "i"}
    return row


def peak_bytes() -> int:
    """Peak resident memory of this process.

    `ru_maxrss` of a process that was just started includes the peak of the one that started it, so
    Linux is asked for the high-water mark of this program alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory(n: int, d: int, steps: int = 5) -> dict[str, Any]:
    """Five steps of very many particles in this process."""
    before = peak_bytes()
    step = ours(n, d, infer.RBF())
    jax.block_until_ready(step())
    clock = time.perf_counter()
    for _ in range(steps):
        jax.block_until_ready(step())
    seconds = (time.perf_counter() - clock) / steps
    return {
        "n": n,
        "d": d,
        "seconds per step": seconds,
        "peak GB": peak_bytes() / 1e9,
        "of that before GB": before / 1e9,
    }


def run() -> list[dict[str, Any]]:
    """All rows: the memory of child processes first, then a row per size."""
    rows = []
    for n, d in MANY:
        command = [sys.executable, __file__, "--memory", str(n), str(d)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"table": "memory"} | json.loads(child.stdout.splitlines()[-1]))
    cases = {"size": SIZES, "growth in n, d = 20": GROWTH_N, "growth in d, n = 1000": GROWTH_D}
    done = functools.cache(race)
    for table, sizes in cases.items():
        rows += [{"table": table} | done(n, d) for n, d in sizes]
    return rows + [{"table": "directions"} | row for row in direction_rows()]


def show(row: dict[str, Any]) -> str:
    """One line."""
    cells = [f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()]
    return "  ".join(cells)


if __name__ == "__main__":
    if "--memory" in sys.argv:
        print(json.dumps(memory(*map(int, sys.argv[-2:]))))
    else:
        for line in map(show, run()):
            print(line)
