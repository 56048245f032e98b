"""Time until the best Gaussian of a logistic regression, beside stochastic-gradient peers.

    python tests/benchmarks/gaussian.py            the tables, about 13 minutes
    python tests/benchmarks/gaussian.py --full     60 s for the longest schedules, half an hour

With BENCH_FULL=1 in the environment `make bench` runs it in full.

y ~ Bernoulli(sigmoid(X beta)), beta ~ N(0, I), columns of X standard normal, logits of standard
deviation 2. Everything is float32; every gap is measured afterwards, in float64, by the exact
formula: the ELBO of N(m, L L^T) is a sum of one-dimensional integrals, one per row.

    time      until the gap to the best Gaussian is below 0.01 nats and stays there, compilation
              apart. Ours: the whole fit, Newton path and check on fresh points included.
    peers     the update of the peer in a compiled loop, Adam with cosine decay, 5 learning rates
              times 4 lengths of the schedule; the best of the 20. 40 snapshots per run stay on the
              device until it is over.
    floor     the derivatives that a step needs and one eigendecomposition, by themselves.
    growth    one process per row, its peak memory, and seconds of the second of two fits.
"""

# ruff: noqa: E402
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read once, when NumPy and SciPy are imported

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from svgd import peak_bytes, show

import infer

SIZES = [(10, 200), (100, 1000), (300, 1500)]
WITHIN = 0.01  # nats
REPEATS = 3
DRAWS = 10  # per step of a peer
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
LENGTHS = (1 / 64, 1 / 16, 1 / 4, 1)  # of a schedule, in units of the cap
SNAPSHOTS = 40
FULL = "--full" in sys.argv or bool(os.environ.get("BENCH_FULL"))
CAPS = {10: 4.0, 100: 10.0, 300: 30.0}  # seconds of the longest schedule
FULL_CAPS = {10: 4.0, 100: 60.0, 300: 60.0}
FLOOR_REPEATS = 9
GROWTH = [("FBGVI, Stein", d) for d in (100, 300, 1000)]
GROWTH += [(f"VI, {name}", d) for name in ("LowRank", "MeanField") for d in (10**3, 10**4, 10**5)]
GROWTH_STEPS = {"FBGVI, Stein": 5, "VI, LowRank": 50, "VI, MeanField": 50}
GROWTH_LIMIT = 180  # seconds per process
NOTE = (
    "Seconds until within 0.01 nats of the best Gaussian, compilation apart; `gap` is at the end, "
    "exact. Ours: the median of 3 whole fits, Newton path (`start`) and check included. Peers: the "
    "best of 5 learning rates, 0.0003 to 0.03, times 4 lengths of a cosine schedule, one run each, "
    "the longest of the seconds in `cap`, the search itself not counted; `gap at FBGVI() time` is "
    "the smallest of any run by then. The floor is the step's derivatives and one "
    "eigendecomposition, by themselves. Growth: a process per row, the second of two fits. LAPACK "
    "has one thread (OPENBLAS_NUM_THREADS=1), for everybody: its threads wait for each other in "
    "busy loops, and with other work on the cores an eigendecomposition of 20 ms takes 2 s."
)


# The model, and the exact gap.


def data(d: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([d, n, seed])
    X = rng.standard_normal((n, d))
    logits = X @ (2 * rng.standard_normal(d) / np.sqrt(d))
    y = rng.uniform(size=n) < 1 / (1 + np.exp(-logits))
    return X.astype(np.float32), y.astype(np.float32)


def of_row(eta: jax.Array, y: jax.Array) -> jax.Array:
    return y * eta - jax.nn.softplus(eta)


def log_density(beta: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    X, y = data
    return jnp.sum(of_row(X @ beta, y)) - 0.5 * beta @ beta


def plain(X: np.ndarray, y: np.ndarray) -> infer.Target:
    rows = (jnp.asarray(X), jnp.asarray(y))
    return infer.from_log_density(log_density, jnp.zeros(X.shape[1]), data=rows)


def declared(X: np.ndarray, y: np.ndarray) -> infer.Target:
    return infer.from_glm(X, y, of_row)


def rule(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of averages over N(0, 1)."""
    t, w = np.polynomial.hermite_e.hermegauss(nodes)
    return t, w / w.sum()


def free_energy(X: np.ndarray, y: np.ndarray, mean: Any, factor: Any, nodes: int = 32) -> float:
    """-ELBO of N(mean, factor factor^T), in float64."""
    X, m, c = np.float64(X), np.asarray(mean, float), np.asarray(factor, float)
    t, w = rule(nodes)
    eta = (X @ m)[:, None] + np.linalg.norm(X @ c, axis=1)[:, None] * t
    value = np.sum((y[:, None] * eta - np.logaddexp(0, eta)) @ w)
    prior = 0.5 * (m @ m + np.sum(c**2) - len(m))
    return float(prior - value - np.linalg.slogdet(c)[1])


def newton(X: np.ndarray, y: np.ndarray, nodes: int = 80) -> float:
    """The smallest free energy, by m <- m - P^-1 g, P <- E_q Hessian, in NumPy."""
    X = np.float64(X)
    n, d = X.shape
    t, w = rule(nodes)
    mean, precision, change = np.zeros(d), X.T @ X / 4 + np.eye(d), np.inf
    for _ in range(500):
        spread = np.sqrt(np.sum(X * np.linalg.solve(precision, X.T).T, axis=1))
        p = 1 / (1 + np.exp(-((X @ mean)[:, None] + spread[:, None] * t)))
        gradient = X.T @ (p @ w - y) + mean
        new = X.T @ (((p * (1 - p)) @ w)[:, None] * X) + np.eye(d)
        step = np.linalg.solve(new, gradient)
        change = step @ gradient + np.linalg.norm(new - precision) / np.linalg.norm(new)
        mean, precision = mean - step, new
        if change < 1e-12:
            break
    factor = np.linalg.cholesky(np.linalg.inv(precision))
    return free_energy(X, y, mean, factor, nodes)


def best(X: np.ndarray, y: np.ndarray) -> float:
    """The smallest free energy, by two roads."""
    with jax.enable_x64(True):
        target = declared(np.float64(X), np.float64(y))
        oracle = infer.GaussHermite()
        algorithm = infer.NaturalGradientVI(oracle=oracle, tolerance=1e-10)
        q = infer.fit(target, algorithm, key=0, draws=100, progress=False).posterior
        one = free_energy(X, y, q.mean, q.factor)
    two = newton(X, y)
    if abs(one - two) > 1e-6:
        raise RuntimeError(f"the two optima differ: {one} and {two}")
    return min(one, two)


# Ours.


def ours() -> dict[str, tuple[Callable[..., infer.Target], Any]]:
    return {
        "infer FBGVI(oracle=GaussHermite()), from_glm": (
            declared,
            infer.FBGVI(oracle=infer.GaussHermite()),
        ),
        "infer FBGVI()": (plain, infer.FBGVI()),
        "infer NaturalGradientVI()": (plain, infer.NaturalGradientVI()),
    }


def our_rows(d: int, n: int, X: np.ndarray, y: np.ndarray, optimum: float) -> list[dict[str, Any]]:
    """Medians of interleaved fits, after one of other data that compiles."""
    entries = ours()
    for make, algorithm in entries.values():
        infer.fit(make(*data(d, n, 1)), algorithm, key=0, draws=100, progress=False)
    found: dict[str, list[infer.Result]] = {name: [] for name in entries}
    for key in range(REPEATS):
        for name, (make, algorithm) in entries.items():
            result = infer.fit(make(X, y), algorithm, key=key, draws=100, progress=False)
            found[name].append(result)
    rows = []
    for name, results in found.items():
        gaps = [free_energy(X, y, r.posterior.mean, r.posterior.factor) - optimum for r in results]
        points = results[0].trail.record()["stats/points"][:, 0]
        seconds = statistics.median(r.timings.compile + r.timings.run for r in results)
        reached = max(gaps) <= WITHIN
        rows.append(
            {
                "what": name,
                "seconds": seconds if reached else f"not in {seconds:.3g}",
                "of that start": statistics.median(r.timings.compile for r in results),
                "gap": max(gaps),
                "steps": int(np.sum(points > 0)),
                "points": int(np.max(points)) if make is plain else "exact",
                "time": seconds,
            }
        )
    return rows


# Peers.


class NumPyro:
    """`SVI` with `AutoMultivariateNormal`; the model is the same density."""

    label = f"NumPyro SVI, AutoMultivariateNormal, {DRAWS} draws per step"

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        import numpyro
        import numpyro.distributions as dist
        from numpyro.infer import SVI, Trace_ELBO
        from numpyro.infer.autoguide import AutoMultivariateNormal

        def model(X: Any, y: Any) -> None:
            beta = numpyro.sample("beta", dist.Normal(jnp.zeros(X.shape[1]), 1.0).to_event(1))
            with numpyro.plate("row", X.shape[0]):
                numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)

        rows, guide = (jnp.asarray(X), jnp.asarray(y)), AutoMultivariateNormal(model)

        def svi(rate: Any, total: Any) -> Any:
            return SVI(model, guide, adam(rate, total), Trace_ELBO(num_particles=DRAWS))

        first = svi(1.0, 1.0)
        self.start = first.init(jax.random.key(0), *rows)

        @jax.jit
        def advance(state: Any, begin: Any, count: Any, rate: Any, total: Any, rows: Any) -> Any:
            algorithm = svi(rate, total)
            algorithm.constrain_fn = first.constrain_fn

            def body(i: Any, state: Any) -> Any:
                return algorithm.update(state, *rows)[0]

            return jax.lax.fori_loop(begin, begin + count, body, state)

        self.advance = lambda *arguments: advance(*arguments, rows)
        self.seen = lambda state: state.optim_state
        self.params = jax.jit(lambda optim: first.constrain_fn(first.optim.get_params(optim)))

    def gaussian(self, seen: Any) -> tuple[np.ndarray, np.ndarray]:
        params = self.params(seen)
        return np.asarray(params["auto_loc"]), np.asarray(params["auto_scale_tril"])


class BlackJAX:
    """`fullrank_vi`, which keeps the logarithms of the diagonal before the rows below it."""

    label = f"BlackJAX fullrank_vi, {DRAWS} draws per step"

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        import blackjax

        rows, d = (jnp.asarray(X), jnp.asarray(y)), X.shape[1]

        def algorithm(rate: Any, total: Any, rows: Any) -> Any:
            return blackjax.fullrank_vi(
                lambda beta: log_density(beta, rows), adam(rate, total), num_samples=DRAWS
            )

        self.start = algorithm(1.0, 1.0, rows).init(jnp.zeros(d))

        @jax.jit
        def advance(state: Any, begin: Any, count: Any, rate: Any, total: Any, rows: Any) -> Any:
            step, key = algorithm(rate, total, rows).step, jax.random.key(0)

            def body(i: Any, state: Any) -> Any:
                return step(jax.random.fold_in(key, i), state)[0]

            return jax.lax.fori_loop(begin, begin + count, body, state)

        self.advance = lambda *arguments: advance(*arguments, rows)
        self.seen = lambda state: (state.mu, state.chol_params)

    def gaussian(self, seen: Any) -> tuple[np.ndarray, np.ndarray]:
        mean, flat = map(np.asarray, seen)
        d = len(mean)
        factor = np.diag(np.exp(flat[:d]))
        factor[np.tril_indices(d, -1)] = flat[d:]
        return mean, factor


def adam(rate: Any, total: Any) -> optax.GradientTransformation:
    """Adam with cosine decay; both numbers may be traced, so no schedule compiles anything."""
    return optax.adam(lambda i: rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(i / total, 1.0))))


def pace(peer: Any) -> float:
    """Steps per second."""
    count = 8
    jax.block_until_ready(peer.advance(peer.start, 0, count, 1e-3, 1e6))
    while True:
        clock = time.perf_counter()
        jax.block_until_ready(peer.advance(peer.start, 0, count, 1e-3, 1e6))
        seconds = time.perf_counter() - clock
        if seconds > 0.4:
            return count / seconds
        count *= 2


def race(peer: Any, rate: float, steps: int) -> tuple[list[float], list[Any]]:
    """Seconds at each snapshot, and the snapshots; ends where nothing is finite any more."""
    edges = np.unique(np.linspace(0, steps, SNAPSHOTS + 1).astype(int))
    state, times, seen, spent = peer.start, [], [], 0.0
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        clock = time.perf_counter()
        state = jax.block_until_ready(peer.advance(state, begin, end - begin, rate, 1.0 * steps))
        spent += time.perf_counter() - clock
        times.append(spent)
        seen.append(peer.seen(state))
        if not np.isfinite(jax.tree.leaves(seen[-1])[-1]).all():
            break
    return times, seen


def peer_row(peer: Any, label: str, cap: float, score: Any, our_time: float) -> dict[str, Any]:
    """The best of all learning rates and schedules."""
    speed = pace(peer)
    runs, equal, longest = [], np.inf, 0.0
    for length in LENGTHS:
        for rate in RATES:
            steps = max(int(speed * cap * length), 1)
            times, seen = race(peer, rate, steps)
            gaps = np.asarray([score(*peer.gaussian(s)) for s in seen])
            longest = max(longest, times[-1])
            outside = np.flatnonzero(gaps > WITHIN)
            first = 0 if not len(outside) else outside[-1] + 1
            arrival = times[first] if first < len(gaps) else np.inf
            equal = min(equal, *gaps[np.asarray(times) <= our_time], np.inf)
            runs.append((arrival, gaps[-1], rate, steps))
    arrival, gap, rate, steps = min(runs)
    return {
        "what": label,
        "seconds": arrival if np.isfinite(arrival) else f"not in {longest:.3g}",
        "gap": float(gap),
        "steps": steps,
        "gap at FBGVI() time": float(equal) if np.isfinite(equal) else "no step by then",
        "rate": rate,
        "cap": cap,
        "ratio": arrival / our_time if np.isfinite(arrival) else f"> {longest / our_time:.3g}",
    }


def time_rows(d: int, n: int) -> list[dict[str, Any]]:
    """One size, everybody; `ratio` is the time over that of `FBGVI()`."""
    X, y = data(d, n, 0)
    optimum = best(X, y)
    rows = our_rows(d, n, X, y, optimum)
    our_time = next(row["time"] for row in rows if row["what"] == "infer FBGVI()")
    for row in rows:
        row["ratio"] = row.pop("time") / our_time

    def score(mean: np.ndarray, factor: np.ndarray) -> float:
        if not (np.isfinite(mean).all() and np.isfinite(factor).all()):
            return np.inf
        return free_energy(X, y, mean, factor) - optimum

    for kind in (NumPyro, BlackJAX):
        cap = (FULL_CAPS if FULL else CAPS)[d]
        rows.append(peer_row(kind(X, y), kind.label, cap, score, our_time))
    return [{"table": "time", "d": d, "n": n} | row for row in rows]


# One step beside its floor.


def our_step(target: infer.Target, algorithm: Any) -> tuple[Callable[[], Any], int]:
    """Our third step, again and again, and its number of points."""
    arrays, rest = eqx.partition((algorithm, target), eqx.is_array)
    key = jax.random.key(0)

    @jax.jit
    def begin(arrays: Any) -> Any:
        algorithm, target = eqx.combine(arrays, rest)
        return algorithm.init(key, target.at(jnp.zeros(target.dim)))

    @jax.jit
    def step(arrays: Any, state: Any) -> Any:
        algorithm, target = eqx.combine(arrays, rest)
        return algorithm.step(key, target, state)

    state = begin(arrays)
    state, _ = step(arrays, state)
    state, info = step(arrays, state)
    return lambda: step(arrays, state), int(info.stats["points"])


def floor(X: np.ndarray, y: np.ndarray, kind: str, points: int) -> tuple[Any, Any]:
    """The derivatives of one step, and one eigendecomposition."""
    d, rows = X.shape[1], (jnp.asarray(X), jnp.asarray(y))
    z = 0.1 * jax.random.normal(jax.random.key(0), (points, d))
    gradients = jax.vmap(jax.grad(log_density), (0, None))

    @jax.jit
    def products(factor: jax.Array, rows: Any) -> Any:
        XC = rows[0] @ factor
        return XC.T @ XC

    @jax.jit
    def hessian(z: jax.Array, rows: Any) -> Any:
        """The sum of the Hessians, by one product per point and column."""

        def product(v: jax.Array) -> jax.Array:
            tangent = jnp.broadcast_to(v, z.shape)
            return jnp.sum(jax.jvp(lambda z: gradients(z, rows), (z,), (tangent,))[1], axis=0)

        return gradients(z, rows), jax.vmap(product)(jnp.eye(d))

    matrix = jnp.asarray(X.T @ X / len(X))
    derivatives = {
        "GaussHermite": lambda: products(matrix, rows),
        "Price": lambda: hessian(z, rows),
        "Stein": lambda: fast(z, rows),
    }[kind]
    fast, eigh = jax.jit(gradients), jax.jit(jnp.linalg.eigh)
    return derivatives, lambda: eigh(matrix)


def floor_rows(d: int, n: int) -> list[dict[str, Any]]:
    """Medians, in turns."""
    X, y = data(d, n, 0)
    exact = infer.FBGVI(oracle=infer.GaussHermite())
    cases = [("GaussHermite", declared(X, y), exact)]
    cases += [("Price" if d <= 32 else "Stein", plain(X, y), infer.FBGVI())]
    rows = []
    for kind, target, algorithm in cases:
        step, points = our_step(target, algorithm)
        parts = {"step": step}
        parts["derivatives"], parts["eigh"] = floor(X, y, kind, points)
        times: dict[str, list[float]] = {name: [] for name in parts}
        for turn in range(FLOOR_REPEATS + 2):
            for name, part in parts.items():
                clock = time.perf_counter()
                jax.block_until_ready(part())
                if turn >= 2:
                    times[name].append(time.perf_counter() - clock)
        ms = {f"{name} ms": 1e3 * statistics.median(times[name]) for name in parts}
        row = {"table": "one step of FBGVI", "d": d, "n": n, "oracle": kind}
        row |= {"points": "exact" if kind == "GaussHermite" else points} | ms
        row["step / floor"] = ms["step ms"] / (ms["derivatives ms"] + ms["eigh ms"])
        rows.append(row)
    return rows


# Growth.


def diagonal(z: jax.Array, precision: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(precision * z**2)


def grown(what: str, d: int) -> dict[str, Any]:
    """A second fit in this process, and its peak memory."""
    before = peak_bytes()
    if what == "FBGVI, Stein":
        target = plain(*data(d, 2 * d, 0))
        algorithm: Any = infer.FBGVI(oracle=infer.Stein(), stopping=None)
    else:
        precision = jnp.logspace(0, 2, d)
        target = infer.from_log_density(diagonal, jnp.zeros(d), data=precision)
        family = infer.LowRank(rank=10) if what == "VI, LowRank" else infer.MeanField()
        algorithm = infer.VI(family=family, stopping=None)
    steps = GROWTH_STEPS[what]
    for key in range(2):
        result = infer.fit(target, algorithm, key=key, steps=steps, draws=100, progress=False)
    return {
        "what": what,
        "d": d,
        "steps": steps,
        "seconds per step": result.timings.run / steps,
        "start s": result.timings.compile,
        "verdict s": result.timings.verdict,
        "peak GB": peak_bytes() / 1e9,
        "of that before GB": before / 1e9,
    }


def grow(what: str, d: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--growth", what, str(d)]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GROWTH_LIMIT
        )
        return json.loads(child.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"what": what, "d": d, "seconds per step": f"not done in {GROWTH_LIMIT} s"}


def run() -> list[dict[str, Any]]:
    """All rows: a size at a time, then the children."""
    rows = [row for size in SIZES for row in time_rows(*size)]
    rows += [row for size in SIZES for row in floor_rows(*size)]
    return rows + [{"table": "growth"} | grow(what, d) for what, d in GROWTH]


if __name__ == "__main__":
    if "--growth" in sys.argv:
        print(json.dumps(grown(sys.argv[2], int(sys.argv[3]))))
    else:
        for line in map(show, run()):
            print(line)
