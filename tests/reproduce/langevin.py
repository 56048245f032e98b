"""Published experiments with mirror and proximal Langevin; writes tables into the documentation.

    python tests/reproduce/langevin.py [--only NAME ...] [--only-print]

laplace    anisotropic Laplace, d = 100: the published settings, with preconditioned controls
box        uniform on a product of intervals of half width 1 to 100
logistic   sparse logistic regression, d = 100, in posterior sds against a long exact run
dirichlet  bias of four schemes on a Dirichlet against step size; draws the figure
"""

import datetime
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from experiments import run

import infer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "mirror_langevin.md"
RECORD = ROOT / "build" / "langevin.json"
IMAGES = ROOT / "docs" / "images"
D = 100
INDEX = jnp.arange(1.0, D + 1)
SCALE = 2 * jnp.sqrt(101 - INDEX)  # of the published hyperbolic mirror
SEEDS = 10
# Printed for one run each by an independent program in NumPy: median variance ratio and W1 x rate.
ONCE = {
    "MYULA": (7.20, 0.706),
    "Bregman, psi = energy": (1.57, 0.156),
    "Bregman, psi = hyperbolic": (1.655, 0.241),
    "MYULA, M = 2 sqrt(101 - i)": (1.569, 0.153),
    "MYULA, M = 1 / i^2, lam 0.1, e 0.05": (1.027, 0.046),
    "PGLA, M = 1 / i^2, noise first": (0.977, 0.053),
}


@eqx.filter_jit
def trace(algorithm: Any, target: Any, z: Any, key: Any, steps: int) -> Any:
    """Values (steps, d) of one chain from z, nothing discarded."""

    def body(state: Any, i: Any) -> Any:
        state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
        return state, target.constrain(algorithm.position(state))["x"]

    first = algorithm.init(key, target.at(z))
    return jax.lax.scan(body, first, jnp.arange(steps))[1]


def flat(x: jax.Array) -> jax.Array:
    """No smooth part."""
    return 0.0 * jnp.sum(x)


def hyperbolic(target: Any, scale: Any) -> Any:
    """The target in the coordinates of the hyperbolic mirror."""
    return infer.mirrored(target, {"x": infer.HyperbolicEntropy(scale)})


def wasserstein(x: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """W1 per coordinate to a law with these quantiles, at (i + 1/2) / n of n draws."""
    return np.mean(np.abs(np.sort(x, axis=0) - quantiles), axis=0)


def laplace() -> list:
    """Anisotropic Laplace, rates 1 to 100: 100,000 steps from N(0, I), medians; mean ± sd of 10."""
    steps, rate = 100_000, np.asarray(INDEX)
    target = infer.Composite(infer.from_log_density(flat, jnp.zeros(D)), infer.L1(INDEX))
    mirrored = hyperbolic(target, SCALE)
    plain = {"step_size": 5e-6, "smoothing": 1e-5}
    weights, M = infer.Energy(INDEX / 2), infer.Diagonal(1 / INDEX**2)
    methods = {
        "MYULA": (target, infer.MYULA(**plain), 0),
        "Bregman, psi = energy": (
            mirrored,
            infer.BregmanProximalLangevin(**plain, smoother=weights),
            0,
        ),
        "Bregman, psi = hyperbolic": (
            mirrored,
            infer.BregmanProximalLangevin(**plain, smoother=infer.HyperbolicEntropy(101 - INDEX)),
            0,
        ),
        "MYULA, M = 2 sqrt(101 - i)": (
            target,
            infer.MYULA(**plain, preconditioner=infer.Diagonal(SCALE)),
            0,
        ),
        "MYULA, M = 1 / i^2, lam 0.1, e 0.05": (target, infer.MYULA(preconditioner=M), 2000),
        "PGLA, M = 1 / i^2, noise first": (target, infer.PGLA(preconditioner=M), 2000),
        "PGLA, M = 1 / i^2, noise last": (
            target,
            infer.PGLA(preconditioner=M, noise_last=True),
            2000,
        ),
        "MYMALA, M = 1 / i^2, lam 0.1, e 0.05": (
            target,
            infer.MYMALA(step_size=0.05, preconditioner=M),
            2000,
        ),
    }
    rows = []
    for label, (problem, algorithm, burn) in methods.items():
        found = []
        for seed in range(SEEDS):
            start = jax.random.normal(jax.random.key(100 + seed), (D,))
            z = problem.unconstrain({"x": start})
            x = np.asarray(trace(algorithm, problem, z, jax.random.key(seed), steps))[burn:]
            p = (np.arange(len(x)) + 0.5) / len(x)
            q = -np.sign(p - 0.5) * np.log1p(-2 * np.abs(p - 0.5))
            found.append(
                [
                    np.median((x**2).mean(axis=0) * rate**2 / 2),
                    np.median(np.abs(x.mean(axis=0)) * rate / np.sqrt(2)),
                    np.median(wasserstein(x * rate, q[:, None])),
                ]
            )
        found = np.array(found)
        row = {"method": label}
        for name, values in zip(("var / right", "abs mean, sd", "W1 x rate"), found.T, strict=True):
            row[name] = [float(values.mean()), float(values.std(ddof=1)) / 2]
        row["elsewhere"] = "{} and {}".format(*ONCE[label]) if label in ONCE else ""
        rows.append(row)
        print(rows[-1], flush=True)
    return rows


ONCE_BOX = {
    "MYULA": 0.37,
    "Bregman, hyperbolic mirror, psi = energy": 0.122,
    "Bregman, mirror x^2 / (2 M), psi = energy": 0.151,
}


def box() -> list:
    """Uniform on the product of [-i, i], i to 100: 100,000 steps, medians; mean ± sd of 5."""
    half, steps = np.asarray(INDEX), 100_000
    target = infer.Composite(infer.from_log_density(flat, jnp.zeros(D)), infer.Box(-INDEX, INDEX))
    plain = {"step_size": 1e-2, "smoothing": 1.0}
    methods = {
        "MYULA": (target, infer.MYULA(**plain)),
        "Bregman, hyperbolic mirror, psi = energy": (
            hyperbolic(target, SCALE),
            infer.BregmanProximalLangevin(**plain),
        ),
        "MYULA, M = 2 sqrt(101 - i), lam M": (
            target,
            infer.MYULA(**plain, preconditioner=infer.Diagonal(SCALE)),
        ),
        "Bregman, mirror x^2 / (2 M), psi = energy": (
            infer.mirrored(target, {"x": infer.Energy(1 / SCALE)}),
            infer.BregmanProximalLangevin(**plain),
        ),
        "PGLA, M = i^2 / 3, e 0.05": (
            target,
            infer.PGLA(preconditioner=infer.Diagonal(INDEX**2 / 3)),
        ),
    }
    rows = []
    for label, (problem, algorithm) in methods.items():
        found = []
        for seed in range(SEEDS // 2):
            z = problem.unconstrain({"x": jax.random.normal(jax.random.key(100 + seed), (D,))})
            x = np.asarray(trace(algorithm, problem, z, jax.random.key(seed), steps)) / half
            p = (np.arange(steps) + 0.5) / steps
            inside = np.mean(np.abs(x) <= 1, axis=0)
            w = np.median(wasserstein(x, (2 * p - 1)[:, None]))
            found.append([w, inside.mean(), inside[0]])
        mean, sd = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
        row = {"method": label, "W1 / i": [float(mean[0]), float(sd[0]) / 2]}
        row |= {"inside": float(mean[1]), "inside, i = 1": float(mean[2])}
        rows.append(row | {"elsewhere": ONCE_BOX.get(label, "")})
        print(rows[-1], flush=True)
    return rows


def logistic() -> list:
    """Sparse logistic regression, N = 1000: errors after step 1000 of 4000, 30 chains."""
    rng = np.random.default_rng(0)
    truth = jnp.repeat(jnp.arange(10) / 10, 10)
    X = jnp.asarray(rng.standard_normal((1000, D)))
    y = jnp.asarray(rng.uniform(size=1000) < jax.nn.sigmoid(X @ truth), float)
    rate = jnp.repeat(jnp.arange(10.0, 0, -1), 10)

    def smooth(x: Any, data: Any) -> Any:
        logits = data[0] @ x
        fit = jnp.sum(data[1] * logits - jax.nn.softplus(logits))
        return fit - 0.05 * jnp.sum(x**2)

    target = infer.Composite(
        infer.from_log_density(smooth, jnp.zeros(D), data=(X, y)), infer.L1(rate)
    )
    exact = infer.fit(target, infer.NUTS(), key=1, warmup=1000, draws=5000, progress=False)
    other = infer.fit(
        target, infer.MYMALA(), key=2, warmup=4000, draws=40_000, thin=4, progress=False
    )
    print(exact.verdict, other.verdict, flush=True)
    truth_x = exact["x"].reshape(-1, D)
    mean, sd = truth_x.mean(axis=0), truth_x.std(axis=0)

    plain = {"step_size": 5e-4, "smoothing": 1e-2}
    beta = 2 * jnp.repeat(jnp.arange(1.0, 11), 10) ** 0.25
    methods = {
        "MYULA": (target, infer.MYULA(**plain)),
        "Bregman, hyperbolic": (
            hyperbolic(target, beta),
            infer.BregmanProximalLangevin(**plain, smoother=infer.HyperbolicEntropy(rate**2)),
        ),
        "MYULA, M = published scale, lam M": (
            target,
            infer.MYULA(**plain, preconditioner=infer.Diagonal(beta)),
        ),
        "Bregman, mirror x^2 / (2 M), psi = energy": (
            infer.mirrored(target, {"x": infer.Energy(1 / beta)}),
            infer.BregmanProximalLangevin(**plain),
        ),
    }
    rows = []
    for label, (problem, algorithm) in methods.items():
        chains = []
        for chain in range(30):
            z = problem.unconstrain({"x": jax.random.normal(jax.random.key(100 + chain), (D,))})
            chains.append(np.asarray(trace(algorithm, problem, z, jax.random.key(chain), 4000)))
        x = np.stack(chains)  # (30, 4000, d)
        single = np.linalg.norm(x[:, -1] - truth, axis=-1).mean()
        ensemble = np.linalg.norm(x.mean(axis=0)[-1000:] - truth, axis=-1).mean()
        settled = x[:, 1000:].reshape(-1, D)
        error = (settled.mean(axis=0) - mean) / sd
        rows.append(
            {
                "method": label,
                "single chain to truth": float(single),
                "mean of chains to truth": float(ensemble),
                "bias, posterior sd": float(np.sqrt(np.mean(error**2))),
                "worst": float(np.abs(error).max()),
                "sd / right": float(np.mean(settled.std(axis=0) / sd)),
            }
        )
        print(rows[-1], flush=True)
    again = other["x"].reshape(-1, D)
    error = (again.mean(axis=0) - mean) / sd
    rows.append(
        {
            "method": "MYMALA, tuned, 160,000 steps",
            "single chain to truth": float(np.linalg.norm(again[::400] - truth, axis=1).mean()),
            "mean of chains to truth": float(np.linalg.norm(again.mean(axis=0) - truth)),
            "bias, posterior sd": float(np.sqrt(np.mean(error**2))),
            "worst": float(np.abs(error).max()),
            "sd / right": float(np.mean(again.std(axis=0) / sd)),
        }
    )
    return rows


@eqx.filter_jit
def shares(algorithm: Any, target: Any, key: Any, steps: int) -> Any:
    """First and second moments of 64 chains, after as many steps again as burn-in."""

    def chain(key: Any) -> Any:
        def body(i: Any, carry: Any) -> Any:
            state, first, second = carry
            state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
            x = target.constrain(algorithm.position(state))["x"]
            on = (i >= steps) / steps
            return state, first + on * x, second + on * x**2

        state, zero = algorithm.init(key, target), jnp.zeros(3)
        return jax.lax.fori_loop(0, 2 * steps, body, (state, zero, zero))[1:]

    return jax.vmap(chain)(jax.random.split(key, 64))


STEPS = (0.01, 0.02, 0.04, 0.08, 0.16)


def dirichlet() -> list:
    """Dirichlet, concentrations 4, 4, 4: variance over the right one, ± 2 standard errors."""

    def log_density(x: Any) -> Any:
        return 3 * jnp.sum(jnp.log(x))

    def on(support: Any) -> Any:
        return infer.from_log_density(log_density, jnp.ones(3) / 3, supports=support)

    barrier, entropic = on(infer.LogBarrierSimplex()), on(infer.EntropicSimplex())
    methods = {
        "MirrorMALA, log barrier": (barrier, infer.MirrorMALA),
        "MirrorLangevin, log barrier": (barrier, infer.MirrorLangevin),
        "MirrorLangevin, entropic": (entropic, infer.MirrorLangevin),
        "MirroredLangevin, entropic": (entropic, infer.MirroredLangevin),
    }
    rows = []
    for label, (target, method) in methods.items():
        row = {"method": label}
        for h in STEPS:
            steps = int(1000 / h**0.5)
            x, square = shares(method(step_size=h), target, jax.random.key(0), steps)
            ratio = np.mean(np.asarray(square - 2 / 3 * x + 1 / 9) / (2 / 9 / 13), axis=1)
            row[f"h = {h}"] = [float(ratio.mean()), float(ratio.std() / 8)]
        rows.append(row)
        print(row, flush=True)
    return rows


def draw_dirichlet(rows: list) -> None:
    """Bias of the variance against step size."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    looks = ("o-", "s-", "^--", "v-.")
    for row, look, color in zip(rows, looks, ("0.2", "#0072B2", "#D55E00", "#009E73"), strict=True):
        values = np.array([row[f"h = {h}"] for h in STEPS])
        axis.errorbar(
            STEPS, values[:, 0], 2 * values[:, 1], fmt=look, color=color, label=row["method"], ms=5
        )
    axis.axhline(1, color="0.7", lw=1)
    axis.set(xscale="log", yscale="log", xlabel="step size h", ylabel="variance / right")
    axis.set_xticks(STEPS, [str(h) for h in STEPS])
    axis.set_yticks([1, 1.2, 2, 5, 10], ["1", "1.2", "2", "5", "10"])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.tight_layout()
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "mirror_bias.png", dpi=150)
    plt.close(figure)


EXPERIMENTS = {f.__name__: f for f in (laplace, box, logistic, dirichlet)}


def cell(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:.3g} ± {2 * value[1]:.1g}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tables(found: dict[str, list]) -> str:
    parts = []
    for name, rows in found.items():
        doc = (EXPERIMENTS[name].__doc__ or name).splitlines()[0]
        columns = list(rows[0])
        parts += [f"**{doc}**", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        parts += ["| " + " | ".join(cell(row[c]) for c in columns) + " |" for row in rows]
        parts.append("")
    return "\n".join([*parts, f"{datetime.date.today()}."])


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    about = "Published experiments with Langevin methods."
    found, _ = run(about, EXPERIMENTS, tables, RECORD, PAGE, "experiments")
    if "dirichlet" in found:
        draw_dirichlet(found["dirichlet"])


if __name__ == "__main__":
    main()
