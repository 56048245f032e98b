"""Published experiments with particles; writes their tables into docs/particles.md.

    python tests/reproduce/particles.py [--only NAME ...] [--only-print]

Figures of what is kept in build/particles.json are drawn into docs/images.

dirichlet, quadratic   50 particles on a simplex of 20 entries, 500 steps, 5 seeds, float64
square                 500 particles, uniform on [-1, 1]^2
selective              a truncated Gaussian on the orthant
toy                    kernel Stein discrepancy on a 2-d Gaussian: coin against a grid of step sizes
ica                    independent component analysis: coin against the best step size
networks               Bayesian neural networks: coin with four alphas against a grid of steps
descent                what becomes of one of them on the way
covtype                logistic regression with 55 coefficients: natural gradients step by step
beginning              the same question on 3 coefficients, from far and from near
betting                KSDD and LAWGD: coin, line searches, grids of steps
"""

import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import optax
from experiments import run
from sklearn.datasets import load_diabetes, make_friedman1

import infer
from infer.kernels import stein_force
from infer.optimizers import Optimizer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "particles.md"
RECORD = ROOT / "build" / "particles.json"
IMAGES = ROOT / "docs" / "images"
CURVE = "curve"  # a column for a figure, not for a table
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
                    CURVE: sorted(values),
                }
            )
    return rows


HIDDEN, BATCH = 50, 100


def regressions() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two data sets of some hundred rows and ten columns."""
    friedman = make_friedman1(n_samples=500, n_features=10, noise=1.0, random_state=0)
    diabetes: Any = load_diabetes(return_X_y=True)
    return {"diabetes": diabetes, "Friedman 1": friedman}


def precision_prior(params: dict[str, jax.Array]) -> jax.Array:
    """Gamma(1, 0.1) on the precisions of noise and weights, given as logarithms."""
    logs = jnp.stack([params["precision"], params["decay"]])
    return jnp.sum(logs - 0.1 * jnp.exp(logs))


def published_prior(params: dict[str, jax.Array]) -> jax.Array:
    """The weights are the parameters, N(0, 1 / exp(decay))."""
    weights, decay = params["weights"], params["decay"]
    normal = 0.5 * len(weights) * decay - 0.5 * jnp.exp(decay) * jnp.sum(weights**2)
    return precision_prior(params) + normal


def published_weights(params: dict[str, jax.Array]) -> jax.Array:
    return params["weights"]


def scaled_prior(params: dict[str, jax.Array]) -> jax.Array:
    """The parameters are the weights in units of their prior sd, N(0, 1): the same model."""
    return precision_prior(params) - 0.5 * jnp.sum(params["weights"] ** 2)


def scaled_weights(params: dict[str, jax.Array]) -> jax.Array:
    return params["weights"] * jnp.exp(-0.5 * params["decay"])


def network(weights: jax.Array, x: jax.Array) -> jax.Array:
    """One hidden layer of rectified linear units."""
    p = x.shape[-1]
    first, rest = weights[: p * HIDDEN].reshape(p, HIDDEN), weights[p * HIDDEN :]
    hidden = jax.nn.relu(x @ first + rest[:HIDDEN])
    return hidden @ rest[HIDDEN : 2 * HIDDEN] + rest[-1]


def network_likelihood(weights_of: Callable) -> Callable:
    def log_likelihood(params: dict[str, jax.Array], rows: tuple[jax.Array, ...]) -> jax.Array:
        x, y = rows
        precision, error = params["precision"], y - network(weights_of(params), x)
        return 0.5 * (precision - jnp.log(2 * jnp.pi)) - 0.5 * jnp.exp(precision) * error**2

    return log_likelihood


PUBLISHED, SCALED = "as published", "in units of their sd"
FORMS = {
    PUBLISHED: (published_prior, network_likelihood(published_weights), published_weights),
    SCALED: (scaled_prior, network_likelihood(scaled_weights), scaled_weights),
}


@eqx.filter_jit
def trained(
    algorithm: Any, target: infer.Target, state: Any, key: jax.Array, first: jax.Array, steps: int
) -> Any:
    """The state after so many more minibatches, of which the next is number `first`."""

    def body(state: Any, i: jax.Array) -> tuple[Any, None]:
        at, rows = jax.random.split(jax.random.fold_in(key, i))
        return algorithm.step(at, target.subsample(rows), state)[0], None

    return jax.lax.scan(body, state, first + jnp.arange(steps))[0]


def along(algorithm: Any, target: infer.Target, key: jax.Array, stops: tuple[int, ...]) -> Any:
    """The particles after each of these numbers of minibatches."""
    state, done = algorithm.init(key, target), 0
    for stop in stops:
        state = trained(algorithm, target, state, key, jnp.asarray(done), stop - done)
        done = stop
        yield state.particles


def network_start(rng: Any, p: int, n: int) -> dict[str, np.ndarray]:
    """Weights of the usual size for their layer, precisions around one."""
    size = [p * HIDDEN, HIDDEN, HIDDEN, 1]
    sd = np.repeat([1 / np.sqrt(p + 1), 0, 1 / np.sqrt(HIDDEN + 1), 0], size)
    return {
        "decay": np.log(rng.gamma(1.0, 1.0, n)),
        "precision": np.log(rng.gamma(1.0, 1.0, n)),
        "weights": sd * rng.standard_normal((n, len(sd))),
    }


@dataclasses.dataclass
class Fold:
    """Nine tenths of a data set as a target, the rest for testing, and where particles start."""

    inputs: np.ndarray
    response: np.ndarray
    train: np.ndarray
    test: np.ndarray
    form: str
    target: infer.Target
    start: jax.Array

    @classmethod
    def make(cls, name: str, split: int, form: str) -> "Fold":
        x, y = regressions()[name]
        rng = np.random.default_rng(split)
        order = rng.permutation(len(x))
        test, train = order[: len(x) // 10], order[len(x) // 10 :]
        inputs = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
        start = network_start(rng, x.shape[1], 20)
        if form == SCALED:
            start["weights"] *= np.exp(0.5 * start["decay"])[:, None]
        prior, likelihood, _ = FORMS[form]
        scaled = (y[train] - y[train].mean()) / y[train].std()
        target = infer.from_log_density(
            example=jax.tree.map(lambda a: a[0], start),
            log_prior=prior,
            log_likelihood=likelihood,
            data=(jnp.asarray(inputs[train]), jnp.asarray(scaled)),
            batch_size=BATCH,
        )
        z = jax.vmap(target.unconstrain)(jax.tree.map(jnp.asarray, start))
        return cls(inputs, y, train, test, form, target, z)

    def judged(self, z: jax.Array) -> dict[str, float]:
        """Errors and test log density of these particles, all particles together."""
        found = jax.vmap(self.target.constrain)(z)
        weights = jax.vmap(FORMS[self.form][2])(found)
        middle, unit = self.response[self.train].mean(), self.response[self.train].std()
        predicted = np.asarray(jax.vmap(network, (0, None))(weights, jnp.asarray(self.inputs)))
        error = self.response - middle - unit * predicted
        sd = unit * np.exp(-0.5 * np.asarray(found["precision"]))[:, None]
        density = -0.5 * (error[:, self.test] / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
        mean = error.mean(axis=0)
        return {
            "train": float(np.sqrt(np.mean(mean[self.train] ** 2))),
            "test": float(np.sqrt(np.mean(mean[self.test] ** 2))),
            "density": float(np.mean(np.logaddexp.reduce(density, axis=0) - np.log(len(z)))),
            "decay": float(np.mean(np.exp(found["decay"]))),
        }

    def no_fit(self) -> float:
        """The error of the mean of the training rows."""
        error = self.response[self.test] - self.response[self.train].mean()
        return float(np.sqrt(np.mean(error**2)))

    def method(self, optimizer: Optimizer) -> infer.SVGD:
        return infer.SVGD(n_particles=20, start=self.start, kernel=infer.RBF(), optimizer=optimizer)


ALPHAS, STEPS = (0.0, 100.0, 1e3, 1e4), (1e-4, 1e-3, 1e-2, 1e-1)


def stepped(rate: float) -> Optimizer:
    return infer.optimizer(
        optax.rmsprop, learning_rate=rate, decay=0.9, eps=1e-6, eps_in_sqrt=False
    )


def networks() -> list:
    """Bayesian neural networks, 20 particles, 2000 steps: test RMSE / log density, 3 splits."""
    optimizers = {f"coin, alpha {a:g}": infer.coin(alpha=a) for a in ALPHAS}
    optimizers |= {f"step {rate:g}": stepped(rate) for rate in STEPS}
    rows: list[dict[str, Any]] = []
    for name in regressions():
        for form in FORMS:
            folds = [Fold.make(name, split, form) for split in range(3)]
            row: dict[str, Any] = {"data": name, "weights": form}
            for label, tool in optimizers.items():
                found = []
                for split, fold in enumerate(folds):
                    key = jax.random.key(split)
                    (z,) = along(fold.method(tool), fold.target, key, (2000,))
                    found.append(fold.judged(z))
                row[label] = [float(np.mean([f[k] for f in found])) for k in ("test", "density")]
            row["no fit"] = float(np.mean([fold.no_fit() for fold in folds]))
            rows.append(row)
    return rows


def descent() -> list:
    """The network on the diabetes data, first split: on the way, and draws of the posterior."""
    fold = Fold.make("diabetes", 0, PUBLISHED)
    rows = []

    def add(method: str, steps: int, z: jax.Array) -> None:
        found = fold.judged(z)
        height = jnp.mean(jax.vmap(fold.target.full().log_prob)(z))
        rows.append(
            {
                "method": method,
                "steps": steps,
                "train RMSE": found["train"],
                "test RMSE": found["test"],
                "precision of the weights": found["decay"],
                "log density": f"{float(height):.0f}",
            }
        )

    for label, tool, stops in (
        ("coin, alpha 1000", infer.coin(alpha=1e3), (100, 500, 2000)),
        ("step 0.001", stepped(1e-3), (100, 500, 2000, 5000, 20000)),
    ):
        key = jax.random.key(0)
        for stop, z in zip(stops, along(fold.method(tool), fold.target, key, stops), strict=True):
            add(label, stop, z)
    exact = fold.target.full().at(fold.start[0])
    draws = infer.fit(exact, infer.NUTS(), key=0, chains=2, warmup=500, steps=1000, progress=False)
    values = {name: jnp.asarray(draws[name]) for name in ("decay", "precision", "weights")}
    pooled = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:])[::20], values)
    add("NUTS", 2000, jax.vmap(exact.unconstrain)(pooled))
    return rows


ROWS, HELD_OUT, COEFFICIENTS, SUBSAMPLE = 60_000, 10_000, 55, 500
RATES = (0.01, 0.05, 0.1, 0.5, 1.0)
STOPS = (100, 200, 500, 1000, 3000)


def logistic(eta: jax.Array, y: jax.Array) -> jax.Array:
    return y * eta - jax.nn.softplus(eta)


def land_cover() -> tuple[np.ndarray, np.ndarray]:
    """Ten correlated quantities, one of 4 areas, one of 40 soils of unequal frequency, a one."""
    rng = np.random.default_rng(0)
    m = ROWS + 2 * HELD_OUT
    area = rng.choice(4, m, p=[0.45, 0.05, 0.44, 0.06])
    frequency = 1 / np.arange(1, 41) ** 1.5
    soil = rng.choice(40, m, p=frequency / frequency.sum())
    common = rng.standard_normal((m, 3)) @ rng.standard_normal((3, 10))
    quantities = common + rng.standard_normal((m, 10)) + 0.7 * rng.standard_normal((4, 10))[area]
    quantities = (quantities - quantities.mean(axis=0)) / quantities.std(axis=0)
    x = np.concatenate([quantities, np.eye(4)[area], np.eye(40)[soil], np.ones((m, 1))], axis=1)
    beta = np.concatenate([0.5 * rng.standard_normal(10), rng.standard_normal(45)])
    return x, (rng.uniform(size=m) < 1 / (1 + np.exp(-x @ beta))).astype(float)


@jax.jit
def predictive(z: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean log of the probability of y, averaged over particles."""
    each = jax.vmap(lambda eta: logistic(eta, y))(z @ x.T)
    return jnp.mean(jax.nn.logsumexp(each, axis=0)) - jnp.log(len(z))


def highest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The mode of the posterior, by Newton steps."""
    beta = np.zeros(x.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-x @ beta))
        hessian = x.T @ ((p * (1 - p))[:, None] * x) + np.eye(len(beta))
        beta += np.linalg.solve(hessian, x.T @ (y - p) - beta)
    return beta


def covtype() -> list:
    """Logistic regression, 60,000 rows and 55 coefficients: test log density, 5 starts, float32."""
    x, y = land_cover()
    last = slice(ROWS + HELD_OUT, None)
    mode = predictive(jnp.asarray(highest(x[:ROWS], y[:ROWS]))[None], x[last], y[last])
    rows = [natural_row(cls) for cls in (infer.SVGD, infer.MatrixSVGD, infer.SVNG)]
    best = {f"step {stop}": f"{float(mode):.4f}" for stop in STOPS}
    return [*rows, {"method": "the mode", "rate": "", **best}]


def natural_path(cls: Any, rate: float, seed: int, stops: tuple[int, ...]) -> list:
    """Log densities of the validation and of the test rows, after so many steps."""
    with jax.enable_x64(False):
        x, y = (jnp.asarray(a, jnp.float32) for a in land_cover())
        target = infer.from_glm(x[:ROWS], y[:ROWS], logistic, batch_size=256)
        few = infer.from_glm(
            x[:SUBSAMPLE], y[:SUBSAMPLE], logistic, prior_scale=(0.01 * SUBSAMPLE) ** -0.5
        )
        # SUBSAMPLE times the information of one row, plus 0.01: the rate makes up for the factor.
        options: dict[str, Any] = {"metric": infer.fisher_metric(few)}
        factor = SUBSAMPLE
        if cls is infer.SVGD:
            options, factor = {}, 1
        bound = np.sqrt(6 / (COEFFICIENTS + 1))
        method = cls(
            n_particles=20,
            start=np.random.default_rng(seed).uniform(-bound, bound, (20, COEFFICIENTS)),
            kernel=infer.RBF(bandwidth=infer.Median(per_log=False)),
            optimizer=infer.optimizer(optax.sgd, learning_rate=rate * factor / ROWS),
            **options,
        )
        parts = slice(ROWS, ROWS + HELD_OUT), slice(ROWS + HELD_OUT, None)
        return [
            [float(predictive(z, x[part], y[part])) for part in parts]
            for z in along(method, target, jax.random.key(seed), stops)
        ]


def natural_row(cls: Any) -> dict[str, Any]:
    """One method of `covtype`, at the rate that the validation rows choose after 1000 steps."""
    # For SVGD 1 was the best of the published rates, so it gets larger ones, too.
    rates = (*RATES, 2.0, 5.0) if cls is infer.SVGD else RATES
    scores = {rate: natural_path(cls, rate, 0, (1000,))[0][0] for rate in rates}
    rate = max((r for r in rates if np.isfinite(scores[r])), key=scores.__getitem__)
    found = [[test for _, test in natural_path(cls, rate, s, STOPS)] for s in range(SEEDS)]
    means = np.mean(found, axis=0)
    columns = {f"step {stop}": f"{v:.4f}" for stop, v in zip(STOPS, means, strict=True)}
    return {"method": cls.__name__, "rate": rate, **columns}


@eqx.filter_jit
def moments(algorithm: Any, target: infer.Target, key: jax.Array, steps: int) -> Any:
    """Mean and sd of the particles after every step."""

    def body(state: Any, i: jax.Array) -> tuple[Any, Any]:
        state = algorithm.step(jax.random.fold_in(key, i), target, state)[0]
        return state, (state.particles.mean(axis=0), state.particles.std(axis=0))

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))[1]


class Everywhere(eqx.Module):
    """A metric that is the same everywhere."""

    matrix: jax.Array

    def __call__(self, z: jax.Array) -> jax.Array:
        return self.matrix + 0 * z[0]


def beginning() -> list:
    """Steps until means and sds stay within 10 % of an sd; logistic regression, 3 coefficients."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3)) * [0, 3, 0.3] + [1, 0, 0]
    y = (rng.uniform(size=60) < 1 / (1 + np.exp(-x @ [0.5, 0.8, -1.0]))).astype(float)
    target = infer.from_glm(x, y, logistic, prior_scale=3.0)
    fisher = infer.fisher_metric(target)
    exact = infer.fit(target, infer.NUTS(), key=0, steps=4000, progress=False)
    draws = np.asarray(exact["beta"]).reshape(-1, 3)
    mean, sd = draws.mean(axis=0), draws.std(axis=0)
    rows = []
    for spread in (1.0, 0.1):
        for label, make in (
            ("SVGD", infer.SVGD),
            ("SVNG", infer.SVNG),
            ("SVNG, keep 0.9999", lambda **k: infer.SVNG(keep=0.9999, **k)),
            (
                "SVNG, metric of the mean",
                lambda **k: infer.SVNG(metric=Everywhere(fisher(jnp.asarray(mean))), **k),
            ),
            ("MatrixSVGD", lambda **k: infer.MatrixSVGD(optimizer=infer.coin(), **k)),
        ):
            steps, off = [], []
            for seed in range(SEEDS):
                start = spread * np.random.default_rng(seed).standard_normal((30, 3))
                method = make(n_particles=30, start=start, kernel=infer.IMQ())
                centers, widths = map(np.asarray, moments(method, target, jax.random.key(0), 3000))
                moved = np.abs(centers - centers[-1]) / sd > 0.1
                wide = np.abs(widths / widths[-1] - 1) > 0.1
                steps.append(int(np.flatnonzero((moved | wide).any(axis=1)).max(initial=-1)) + 2)
                off.append(float(np.max(np.abs(centers[-1] - mean) / sd)))
            rows.append(
                {
                    "start": f"N(0, {spread:g}²)",
                    "method": f"{label}",
                    "steps, median": int(np.median(steps)),
                    "least": min(steps),
                    "most": max(steps),
                    "error of the mean at the end, sd": max(off),
                }
            )
    return rows


def small_targets() -> dict[str, tuple[infer.Target, Callable]]:
    """Two Gaussians and a mixture of two, with their draws."""
    mean, precision = np.array([-1.0, 1.0]), np.array([[3.0, -0.5], [-0.5, 1.0]])
    away = np.array([-2.0, 2.0])

    def mixture(x: jax.Array) -> jax.Array:
        return jnp.logaddexp(-jnp.sum((x - away) ** 2), -jnp.sum((x + away) ** 2))

    def mixed(rng: Any, n: int) -> np.ndarray:
        side = rng.choice([-1, 1], (n, 1))
        return side * away + np.sqrt(0.5) * rng.standard_normal((n, 2))

    root = np.linalg.cholesky(np.linalg.inv(precision))
    densities = {
        "Gaussian, d = 1": (lambda x: -2 * jnp.sum((x - 1) ** 2), 1),
        "Gaussian, d = 2": (lambda x: -0.5 * (x - mean) @ precision @ (x - mean), 2),
        "two modes": (mixture, 2),
    }
    draws = (
        lambda rng, n: 1 + 0.5 * rng.standard_normal((n, 1)),
        lambda rng, n: mean + rng.standard_normal((n, 2)) @ root.T,
        mixed,
    )
    return {
        name: (infer.from_log_density(log_density, jnp.zeros(d)), truth)
        for (name, (log_density, d)), truth in zip(densities.items(), draws, strict=True)
    }


def betting() -> list:
    """Energy distance of 20 particles to 1000 draws, 1000 steps (L-BFGS 200), three seeds."""
    tools = {"coin": [infer.coin()], "L-BFGS": [infer.optimizer(optax.lbfgs)]}
    for label, factory, rates in (
        ("best Adam", optax.adam, (0.003, 0.01, 0.03, 0.1, 0.3)),
        ("best SGD", optax.sgd, (0.001, 0.01, 0.03, 0.1, 0.3)),
    ):
        tools[label] = [infer.optimizer(factory, learning_rate=rate) for rate in rates]
    rows = []
    for name, (target, truth) in small_targets().items():
        drawn = []
        for method in (infer.KSDD, infer.LAWGD):
            for label, grid in tools.items():
                runs = []
                for tool in grid:
                    found = []
                    for seed in range(3):
                        rng = np.random.default_rng(seed)
                        exact = truth(rng, 1000)
                        start = rng.standard_normal((20, target.dim))
                        made = method(n_particles=20, start=start, optimizer=tool)
                        key = jax.random.key(0)
                        state = made.init(key, target)
                        steps = 200 if label == "L-BFGS" else 1000
                        state = particles_after(made, target, state, key, steps)
                        x = np.asarray(state.particles)
                        good = np.isfinite(x).all()
                        found.append(infer.energy_distance(x, exact) if good else np.inf)
                        drawn.append(infer.energy_distance(truth(rng, 20), exact))
                    runs.append(found)
                best = min(runs, key=np.mean)
                rows.append(
                    {"target": name, "method": f"{method.__name__}, {label}", **summary(best)}
                )
        rows.append({"target": name, "method": "draws", **summary(drawn)})
    return rows


def amari(product: np.ndarray) -> float:
    """0 where the product is a permutation with scales, as it should be."""

    def excess(m: np.ndarray) -> float:
        square = m**2
        return float(np.sum(square.sum(axis=1) / square.max(axis=1) - 1))

    if not np.isfinite(product).all():
        return np.inf  # a particle that went too far
    return (excess(product) + excess(product.T)) / (2 * len(product))


EXPERIMENTS = {
    f.__name__: f
    for f in (
        dirichlet,
        quadratic,
        square,
        selective,
        toy,
        ica,
        networks,
        descent,
        covtype,
        beginning,
        betting,
    )
}


def cell(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(map(cell, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tables(found: dict[str, list]) -> str:
    parts = []
    for name, rows in found.items():
        columns = [column for column in rows[0] if column != CURVE]
        doc = (EXPERIMENTS[name].__doc__ or name).splitlines()[0]
        parts += [f"**{doc}**", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        parts += ["| " + " | ".join(cell(row[c]) for c in columns) + " |" for row in rows]
        parts.append("")
    return "\n".join([*parts, f"{datetime.date.today()}."])


RED, BLUE, GRAY = "#D55E00", "#0072B2", "0.35"
DASHED = (0, (5, 2))


def draw_ica(rows: list) -> Any:
    """Sorted distances: the lower the curve, the better."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    looks = {"SVGD, coin": (BLUE, "-"), "SVGD, best step": (RED, DASHED), "random": (GRAY, ":")}
    for axis, name in zip(axes, ("ICA, p = 2", "ICA, p = 4"), strict=True):
        for row in rows:
            if row["target"] == name:
                color, line = looks[row["method"]]
                share = (np.arange(len(row[CURVE])) + 0.5) / len(row[CURVE])
                axis.plot(share, row[CURVE], color=color, ls=line, lw=2, label=row["method"])
        axis.set(title=name, xlabel="share of the particles", xlim=(0, 1))
        axis.set_ylim(0, None)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("Amari distance, sorted")
    axes[0].legend(frameon=False)
    return figure


def draw_networks(rows: list) -> Any:
    """Test error over the grids: coin betting stands where its first step is as long."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4))
    reach = [1 / a if a else 0.5 for a in ALPHAS]
    for axis, name in zip(axes, regressions(), strict=True):
        for row in (row for row in rows if row["data"] == name):
            color = RED if row["weights"] == PUBLISHED else BLUE
            steps = [row[f"step {rate:g}"][0] for rate in STEPS]
            coins = [row[f"coin, alpha {a:g}"][0] for a in ALPHAS]
            label = f"weights {row['weights']}"
            axis.plot(STEPS, steps, "o-", color=color, lw=1.5, label=f"{label}, RMSprop")
            order = np.argsort(reach)
            axis.plot(
                np.array(reach)[order],
                np.array(coins)[order],
                "s",
                ls=DASHED,
                color=color,
                mfc="white",
                label=f"{label}, coin",
            )
            axis.axhline(row["no fit"], color=GRAY, ls=":", lw=1)
        axis.text(1e-4, row["no fit"], "no fit", color=GRAY, va="bottom", fontsize=9)
        axis.set(title=name, xscale="log", xlabel="step, or 1 / alpha (0.5 stands for alpha = 0)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test RMSE")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    return figure


FIGURES = {"ica": draw_ica, "networks": draw_networks}


def draw(name: str, rows: list) -> None:
    figure = FIGURES[name](rows)
    if name == "ica":
        figure.tight_layout()
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"particle_{name}.png", dpi=150)
    plt.close(figure)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    about = "Published experiments with particles."
    found, ran = run(about, EXPERIMENTS, tables, RECORD, PAGE, "experiments")
    for name in FIGURES.keys() & set(ran):
        draw(name, found[name])


if __name__ == "__main__":
    main()
