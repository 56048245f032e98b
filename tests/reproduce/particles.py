"""Published experiments with particles; writes their tables into docs/particles.md.

    python tests/reproduce/particles.py [--only NAME ...] [--only-print]

dirichlet, quadratic   50 particles on a simplex of 20 entries, 500 steps, 5 seeds, float64
square                 500 particles, uniform on [-1, 1]^2
selective              a truncated Gaussian on the orthant
toy                    kernel Stein discrepancy on a 2-d Gaussian: coin against a grid of step sizes
ica                    independent component analysis: coin against the best step size
networks               Bayesian neural networks: coin with three alphas against a grid of steps
"""

import argparse
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_diabetes, make_friedman1

import infer
from infer.kernels import stein_force
from infer.optimizers import Optimizer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "particles.md"
RECORD = ROOT / "build" / "particles.json"
BEGIN, END = "<!-- experiments:begin -->", "<!-- experiments:end -->"
SEEDS = 5
ENTRIES = 20
KERNEL = infer.IMQ(bandwidth=infer.Median(per_log=False))


@eqx.filter_jit
def particles_after(
    algorithm: Any, target: infer.Target, state: Any, key: jax.Array, steps: int
) -> Any:
    """The state after some steps."""

    def body(state: Any, i: jax.Array) -> tuple[Any, None]:
        return algorithm.step(jax.random.fold_in(key, i), target, state)[0], None

    return jax.lax.scan(body, state, jnp.arange(steps))[0]


def rmsprop(rate: float) -> Optimizer:
    """The rule of Keras: squares averaged at 0.9, from 0, 1e-7 outside the root."""
    return infer.optimizer(
        optax.rmsprop, learning_rate=rate, decay=0.9, eps=1e-7, eps_in_sqrt=False
    )


def on_simplex(target: infer.Target, algorithm: Callable[..., Any], u: Any, steps: int) -> Any:
    """The first 19 entries of the particles after `steps`, from dual particles u."""
    made = algorithm(n_particles=len(u), start=u, kernel=KERNEL)
    key = jax.random.key(0)
    state = particles_after(made, target, made.init(key, target), key, steps)
    return np.asarray(jax.vmap(target.constrain)(state.particles)["x"])[:, :-1]


def project(x: jax.Array) -> jax.Array:
    """The nearest point of {x >= 0, sum x <= 1} when its last entry is left out."""
    whole = jnp.append(x, 1 - jnp.sum(x))
    ordered = jnp.sort(whole)[::-1]
    excess = (jnp.cumsum(ordered) - 1) / jnp.arange(1, len(whole) + 1)
    count = jnp.sum(ordered > excess)
    return jnp.maximum(whole - excess[count - 1], 0)[:-1]


@eqx.filter_jit
def projected(score: Callable, x: jax.Array, rate: float, steps: int) -> jax.Array:
    """SVGD on the simplex itself, projected back onto it after every step."""
    tool = rmsprop(rate)

    def body(carry: Any, _: Any) -> tuple[Any, None]:
        x, state = carry
        phi = stein_force(x, jax.vmap(score)(x), KERNEL)
        update, state = tool.update(-phi, state, x)
        return (jax.vmap(project)(x + update), state), None

    return jax.lax.scan(body, (x, tool.init(x)), None, steps)[0][0]


def simplex_rows(name: str, log_density: Callable, keep: float, truth: Any, rate: float) -> list:
    """Energy distance to 1000 draws at the end, five seeds."""
    target = infer.from_log_density(
        log_density, jnp.ones(ENTRIES) / ENTRIES, supports=infer.EntropicSimplex()
    )
    methods = {
        "SVMD": lambda **k: infer.SVMD(keep=keep, optimizer=rmsprop(0.1), **k),
        "MSVGD": lambda **k: infer.MSVGD(optimizer=rmsprop(0.1), **k),
        "MSVGD, coin": lambda **k: infer.MSVGD(optimizer=infer.coin(), **k),
    }

    def inside(x: jax.Array) -> jax.Array:
        tiny = 1e-32  # where entries have been projected to zero
        last = jnp.maximum(1 - jnp.sum(x), tiny)
        return log_density(jnp.append(jnp.maximum(x, tiny), last))

    found: dict[str, list[float]] = {label: [] for label in [*methods, "SVGD, projected", "draws"]}
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        start = rng.dirichlet(np.full(ENTRIES, 5.0), 50)
        exact = truth(rng, 1000)
        u = jnp.asarray(np.log(start[:, :-1]) - np.log(start[:, -1:]))
        for label, make in methods.items():
            x = on_simplex(target, make, u, 500)
            found[label].append(infer.energy_distance(x, exact))
        x = projected(jax.grad(inside), jnp.asarray(start[:, :-1]), rate, 500)
        found["SVGD, projected"].append(infer.energy_distance(np.asarray(x), exact))
        found["draws"].append(infer.energy_distance(truth(rng, 50), exact))
    return [{"target": name, "method": label, **summary(v)} for label, v in found.items()]


def dirichlet() -> list:
    """Energy distance to a sparse Dirichlet: concentrations 90.1, 5.1, 5.1 and 17 times 0.1."""
    concentration = np.full(ENTRIES, 0.1)
    concentration[:3] += [90, 5, 5]

    def log_density(x: jax.Array) -> jax.Array:
        return jnp.sum((concentration - 1) * jnp.log(x))

    def truth(rng: Any, n: int) -> np.ndarray:
        return rng.dirichlet(concentration, n)[:, :-1]

    return simplex_rows("sparse Dirichlet", log_density, 0.998, truth, 1e-4)


def quadratic() -> list:
    """Energy distance to a narrow quadratic density on the simplex, draws by NUTS."""
    root = np.random.RandomState(123).uniform(-1, 1, (ENTRIES - 1, ENTRIES - 1))
    matrix = root @ root.T
    matrix /= np.abs(matrix).max()

    def log_density(x: jax.Array) -> jax.Array:
        return -0.5e4 * x[:-1] @ matrix @ x[:-1]

    target = infer.from_log_density(
        log_density, jnp.ones(ENTRIES) / ENTRIES, supports=infer.EntropicSimplex()
    )
    draws = infer.fit(
        target, infer.NUTS(), key=1, chains=10, warmup=1000, steps=2000, progress=False
    )
    pool = draws["x"].reshape(-1, ENTRIES)[:, :-1]

    def truth(rng: Any, n: int) -> np.ndarray:
        return pool[rng.choice(len(pool), n, replace=False)]

    return simplex_rows("quadratic", log_density, 0.98, truth, 1e-4)


def square() -> list:
    """Energy distance to the uniform distribution on [-1, 1]^2, 500 particles, three seeds."""
    target = infer.from_log_density(
        lambda x: 0.0 * jnp.sum(x), jnp.zeros(2), supports=infer.interval(-1.0, 1.0)
    )
    rows = []
    for label, steps, make in (
        ("MSVGD", 2000, lambda **k: infer.MSVGD(**k)),
        ("SVMD", 400, lambda **k: infer.SVMD(keep=0.998, **k)),
    ):
        found = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            start = rng.uniform(-0.5, 0.5, (500, 2))
            u = jnp.asarray(np.log1p(start) - np.log1p(-start))
            made = make(
                n_particles=500,
                start=u,
                kernel=infer.IMQ(bandwidth=0.1),
                optimizer=rmsprop(0.01),
            )
            key = jax.random.key(0)
            state = particles_after(made, target, made.init(key, target), key, steps)
            x = np.asarray(jax.vmap(target.constrain)(state.particles)["x"])
            found.append(infer.energy_distance(x, rng.uniform(-1, 1, (1000, 2))))
        rows.append({"target": "square", "method": f"{label}, {steps} steps", **summary(found)})
    ideal = [
        infer.energy_distance(rng.uniform(-1, 1, (500, 2)), rng.uniform(-1, 1, (1000, 2)))
        for rng in map(np.random.default_rng, range(20))
    ]
    rows.append({"target": "square", "method": "draws", **summary(ideal)})
    return rows


def summary(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}


def selective() -> list:
    """Means and sds on the orthant against quadrature; 50 particles, 1000 steps, 10 sets."""
    a = np.array([[2.39859464, -1.90815867], [0, 1.18099191]])
    b, sigma = np.array([2.39751093, -1.46103937]), 0.24888362
    first = np.array([0.30883085, 1.4801243])

    def log_density(x: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum((a @ x + b) ** 2) / sigma**2

    axis = (np.arange(4000) + 0.5) * 1e-3
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    weight = -0.5 * np.sum((grid @ a.T + b) ** 2, axis=1) / sigma**2
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    mean = weight @ grid
    sd = np.sqrt(weight @ (grid - mean) ** 2)
    target = infer.from_log_density(log_density, jnp.ones(2), supports=infer.positive)
    rows = []
    for label, make in (
        ("MSVGD", lambda **k: infer.MSVGD(**k)),
        ("SVMD", lambda **k: infer.SVMD(keep=0.99, **k)),
    ):
        for optimizer, word in ((rmsprop(0.01), "RMSprop 0.01"), (infer.coin(), "coin")):
            sets = []
            for seed in range(10):
                rng = np.random.default_rng(seed)
                u = jnp.asarray(np.log(first) + rng.standard_normal((50, 2)))
                made = make(
                    n_particles=50,
                    start=u,
                    kernel=infer.IMQ(bandwidth=0.01),
                    optimizer=optimizer,
                )
                key = jax.random.key(0)
                state = particles_after(made, target, made.init(key, target), key, 1000)
                sets.append(np.asarray(jax.vmap(target.constrain)(state.particles)["x"]))
            x = np.concatenate(sets)
            rows.append(
                {
                    "target": "selective",
                    "method": f"{label}, {word}",
                    "mean error, sd": float(np.abs(x.mean(axis=0) - mean).max() / sd.min()),
                    "sd / right": [round(float(v), 3) for v in x.std(axis=0) / sd],
                }
            )
    return rows


def toy() -> list:
    """KSD of SVGD after 1000 steps: coin against the best of a grid of step sizes."""
    mean = np.array([-1.0, 1.0])
    precision = np.array([[3.0, -0.5], [-0.5, 1.0]])
    target = infer.from_log_density(
        lambda x: -0.5 * (x - mean) @ precision @ (x - mean), jnp.zeros(2)
    )
    rows = []
    for n in (20, 100):
        coins, best = [], []
        for seed in range(5):
            start = jnp.asarray(0.1 * np.random.default_rng(seed).standard_normal((n, 2)))

            def score(optimizer: Any, start: Any = start, n: int = n) -> float:
                made = infer.SVGD(
                    n_particles=n, start=start, kernel=infer.RBF(), optimizer=optimizer
                )
                key = jax.random.key(0)
                state = particles_after(made, target, made.init(key, target), key, 1000)
                x = np.asarray(state.particles)
                return infer.ksd(x, -(x - mean) @ precision)

            coins.append(score(infer.coin()))
            rates = np.logspace(-5, 1, 30)[12:29:2] if seed else np.logspace(-5, 1, 30)
            best.append(min(score(rmsprop(float(rate))) for rate in rates))
        rows.append({"target": f"Gaussian, n = {n}", "method": "SVGD, coin", **summary(coins)})
        rows.append({"target": f"Gaussian, n = {n}", "method": "SVGD, best step", **summary(best)})
    return rows


def ica() -> list:
    """Amari distance of unmixing matrices, against those of random ones."""
    rows = []
    for p in (2, 4):
        found: dict[str, list[float]] = {"SVGD, coin": [], "SVGD, best step": [], "random": []}
        runs: dict[float, list[float]] = {}
        for seed in range(20):
            rng = np.random.default_rng(seed)
            mixing = np.linalg.inv(rng.standard_normal((p, p)))
            data = jnp.asarray(mixing @ rng.laplace(size=(p, 1000)))

            def log_density(w: jax.Array, data: jax.Array) -> jax.Array:
                fit = -jnp.sum(jnp.log(jnp.cosh(w @ data))) / data.shape[1]
                return fit + jnp.linalg.slogdet(w)[1] - 0.5 * jnp.sum(w**2)

            target = infer.from_log_density(log_density, jnp.eye(p), data=data)
            start = jnp.asarray(rng.standard_normal((10, p * p)))

            def distances(
                optimizer: Any,
                target: Any = target,
                start: Any = start,
                mixing: Any = mixing,
                p: int = p,
            ) -> list[float]:
                made = infer.SVGD(
                    n_particles=10, start=start, kernel=infer.RBF(), optimizer=optimizer
                )
                key = jax.random.key(0)
                state = particles_after(made, target, made.init(key, target), key, 1000)
                return [amari(w.reshape(p, p) @ mixing) for w in np.asarray(state.particles)]

            found["SVGD, coin"] += distances(infer.coin())
            found["random"] += [amari(w.reshape(p, p) @ mixing) for w in np.asarray(start)]
            for rate in np.logspace(-5, 0, 6):
                tool = infer.optimizer(optax.sgd, learning_rate=float(rate))
                runs.setdefault(float(rate), []).extend(distances(tool))
        found["SVGD, best step"] = min(runs.values(), key=np.median)
        for label, values in found.items():
            rows.append(
                {
                    "target": f"ICA, p = {p}",
                    "method": label,
                    "median": float(np.median(values)),
                    "quartiles": [round(float(q), 3) for q in np.quantile(values, (0.25, 0.75))],
                }
            )
    return rows


HIDDEN, BATCH = 50, 100


def regressions() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two data sets of some hundred rows and ten columns."""
    friedman = make_friedman1(n_samples=500, n_features=10, noise=1.0, random_state=0)
    return {"diabetes": load_diabetes(return_X_y=True), "Friedman 1": friedman}


def network_prior(params: dict[str, jax.Array]) -> jax.Array:
    """Gamma(1, 0.1) on both precisions, weights N(0, 1 / decay), at their logarithms."""
    weights, total = params["weights"], 0.0
    for name in ("precision", "decay"):
        total += params[name] - 0.1 * jnp.exp(params[name])
    decay = params["decay"]
    return total + 0.5 * len(weights) * decay - 0.5 * jnp.exp(decay) * jnp.sum(weights**2)


def network(weights: jax.Array, x: jax.Array) -> jax.Array:
    """One hidden layer of rectified linear units."""
    p = x.shape[-1]
    first, rest = weights[: p * HIDDEN].reshape(p, HIDDEN), weights[p * HIDDEN :]
    hidden = jax.nn.relu(x @ first + rest[:HIDDEN])
    return hidden @ rest[HIDDEN : 2 * HIDDEN] + rest[-1]


def network_likelihood(params: dict[str, jax.Array], rows: tuple[jax.Array, ...]) -> jax.Array:
    x, y = rows
    precision = params["precision"]
    error = y - network(params["weights"], x)
    return 0.5 * (precision - jnp.log(2 * jnp.pi)) - 0.5 * jnp.exp(precision) * error**2


@eqx.filter_jit
def trained(algorithm: Any, target: infer.Target, key: jax.Array, steps: int) -> Any:
    """The particles after so many minibatches."""

    def body(state: Any, i: jax.Array) -> tuple[Any, None]:
        at, rows = jax.random.split(jax.random.fold_in(key, i))
        return algorithm.step(at, target.subsample(rows), state)[0], None

    state, _ = jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))
    return jax.vmap(target.constrain)(state.particles)


def network_start(rng: Any, p: int, n: int) -> dict[str, np.ndarray]:
    """Weights of the usual size for their layer, precisions around one."""
    size = [p * HIDDEN, HIDDEN, HIDDEN, 1]
    sd = np.repeat([1 / np.sqrt(p + 1), 0, 1 / np.sqrt(HIDDEN + 1), 0], size)
    return {
        "decay": np.log(rng.gamma(1.0, 1.0, n)),
        "precision": np.log(rng.gamma(1.0, 1.0, n)),
        "weights": sd * rng.standard_normal((n, len(sd))),
    }


def networks() -> list:
    """Bayesian neural networks, 20 particles, 2000 steps: test RMSE / log density, 3 splits."""
    optimizers = {f"coin, alpha {a:g}": infer.coin(alpha=a) for a in (0.0, 100.0, 1e3, 1e4)}
    for rate in (1e-4, 1e-3, 1e-2, 1e-1):
        optimizers[f"step {rate:g}"] = infer.optimizer(
            optax.rmsprop, learning_rate=rate, decay=0.9, eps=1e-6, eps_in_sqrt=False
        )
    rows: list[dict[str, Any]] = []
    for name, (x, y) in regressions().items():
        row: dict[str, Any] = {"data": name}
        for label, tool in optimizers.items():
            errors, densities = [], []
            for split in range(3):
                rng = np.random.default_rng(split)
                order = rng.permutation(len(x))
                test, train = order[: len(x) // 10], order[len(x) // 10 :]
                shift, scale = x[train].mean(axis=0), x[train].std(axis=0)
                inputs = (x - shift) / scale
                middle, unit = y[train].mean(), y[train].std()
                data = (jnp.asarray(inputs[train]), jnp.asarray((y[train] - middle) / unit))
                start = network_start(rng, x.shape[1], 20)
                target = infer.from_log_density(
                    example=jax.tree.map(lambda a: a[0], start),
                    log_prior=network_prior,
                    log_likelihood=network_likelihood,
                    data=data,
                    batch_size=BATCH,
                )
                z = jax.vmap(target.unconstrain)(jax.tree.map(jnp.asarray, start))
                method = infer.SVGD(n_particles=20, start=z, kernel=infer.RBF(), optimizer=tool)
                found = trained(method, target, jax.random.key(split), 2000)
                predicted = jax.vmap(network, (0, None))(found["weights"], inputs[test])
                predicted = middle + unit * np.asarray(predicted)
                sd = unit * np.exp(-0.5 * np.asarray(found["precision"]))[:, None]
                density = -0.5 * ((y[test] - predicted) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
                errors.append(np.sqrt(np.mean((y[test] - predicted.mean(axis=0)) ** 2)))
                densities.append(np.mean(np.logaddexp.reduce(density, axis=0) - np.log(20)))
            row[label] = f"{np.mean(errors):.3g} / {np.mean(densities):.3g}"
        rows.append(row)
    return rows


def amari(product: np.ndarray) -> float:
    """0 where the product is a permutation with scales, as it should be."""

    def excess(m: np.ndarray) -> float:
        square = m**2
        return float(np.sum(square.sum(axis=1) / square.max(axis=1) - 1))

    if not np.isfinite(product).all():
        return np.inf  # a particle that went too far
    return (excess(product) + excess(product.T)) / (2 * len(product))


EXPERIMENTS = {f.__name__: f for f in (dirichlet, quadratic, square, selective, toy, ica, networks)}


def tables(found: dict[str, list]) -> str:
    parts = []
    for name, rows in found.items():
        columns = list(rows[0])
        doc = (EXPERIMENTS[name].__doc__ or name).splitlines()[0]
        parts += [f"**{doc}**", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for row in rows:
            cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join([*parts, f"{datetime.date.today()}."])


def main() -> None:
    parser = argparse.ArgumentParser(description="Published experiments with particles.")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--only-print", action="store_true")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    for name in given.only:
        found[name] = EXPERIMENTS[name]()
        print(tables({name: found[name]}), flush=True)
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(found))
    found = {name: found[name] for name in EXPERIMENTS if name in found}
    if not given.only_print:
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(before + BEGIN + "\n\n" + tables(found) + "\n\n" + END + after)


if __name__ == "__main__":
    main()
