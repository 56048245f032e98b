"""Bias of the stochastic-gradient samplers; writes two tables into the documentation.

    python tests/reproduce/stochastic_gradient.py [--only NAME ...] [--only-print]

sgld      variances against the formula, with and without control variates
velocity  the same of SGHMC and SGNHT

The target is the location of a Gaussian in d = 2 with batches of 2 of 40 rows, M its covariance.
"""

import datetime
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from experiments import run

import infer

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "stochastic_gradient.md"
RECORD = ROOT / "build" / "stochastic_gradient.json"
CHAINS, WARMUP = 512, 2000
N, B = 40, 2
RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(N, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]]) + [1.0, -2.0]
LIKELIHOOD = np.linalg.inv([[1.0, 0.4], [0.4, 0.7]])  # precision of a row
PRECISION = N * LIKELIHOOD + np.eye(2) / 9
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ LIKELIHOOD @ ROWS.sum(axis=0)
FACTOR = np.linalg.cholesky(COVARIANCE)
SCORES = N**2 / B * LIKELIHOOD @ np.cov(ROWS.T, ddof=0) @ LIKELIHOOD  # of minibatches: covariance
NOISE = FACTOR.T @ SCORES @ FACTOR  # the same in units of the posterior, C
SEEN = np.diag(SCORES) @ FACTOR**2  # what warm-up measures of its diagonal: no correlations


def log_prior(x: jax.Array) -> jax.Array:
    """N(0, 9)."""
    return -jnp.sum(x**2) / 18


def log_likelihood(x: jax.Array, rows: jax.Array) -> jax.Array:
    """Of every row."""
    return -0.5 * jnp.einsum("ni,ij,nj->n", rows - x, jnp.asarray(LIKELIHOOD, x.dtype), rows - x)


TARGET = infer.from_log_density(
    example=jnp.zeros(2),
    log_prior=log_prior,
    log_likelihood=log_likelihood,
    data=jnp.asarray(ROWS, float),
    batch_size=B,
)


@eqx.filter_jit
def squares(algorithm: Any, target: Any, key: Any, burn: int, steps: int) -> Any:
    """Mean squares of L^-1 (z - mean) of chains that start at the posterior, (chains, 2)."""
    whiten, mean = jnp.asarray(np.linalg.inv(FACTOR), float), jnp.asarray(MEAN, float)

    def chain(key: Any, start: Any) -> Any:
        key_warm, key_run = jax.random.split(key)

        def warm(i: Any, state: Any) -> Any:
            rows, move = jax.random.split(jax.random.fold_in(key_warm, i))
            return algorithm.adapt(move, target.subsample(rows), state, i, WARMUP)[0]

        def body(i: Any, loop: Any) -> Any:
            state, total = loop
            rows, move = jax.random.split(jax.random.fold_in(key_run, i))
            state, _ = algorithm.step(move, target.subsample(rows), state)
            square = (whiten @ (algorithm.position(state) - mean)) ** 2
            return state, total + jnp.where(i >= burn, square, 0) / steps

        state = algorithm.init(key, target.at(start))
        state = jax.lax.fori_loop(0, WARMUP, warm, state)
        return jax.lax.fori_loop(0, burn + steps, body, (state, jnp.zeros(2)))[1]

    noise = jax.random.normal(jax.random.fold_in(key, 1), (CHAINS, 2))
    starts = mean + noise @ jnp.asarray(FACTOR.T, float)
    return jax.vmap(chain)(jax.random.split(key, CHAINS), starts)


def measured(algorithm: Any, target: Any, seed: int, burn: int, steps: int) -> list[float]:
    """Mean over coordinates of variance / posterior variance, and its standard error."""
    each = np.asarray(squares(algorithm, target, jax.random.key(seed), burn, steps)).mean(axis=1)
    return [float(each.mean()), float(each.std(ddof=1) / np.sqrt(CHAINS))]


def stationary(a: np.ndarray, q: np.ndarray) -> np.ndarray:
    """S = A S A' + Q."""
    n = len(a)
    return np.linalg.solve(np.eye(n * n) - np.kron(a, a), q.ravel()).reshape(n, n)


def sgld_formula(e: float, noise: np.ndarray) -> float:
    """(1 + e c / 2) / (1 - e / 2), the mean over coordinates."""
    s = stationary((1 - e) * np.eye(2), 2 * e * np.eye(2) + e**2 * noise)
    return float(np.trace(s) / 2)


def sghmc_formula(h: float, known: np.ndarray, friction: float = 1.0) -> float:
    """The same from the recursion of (z, v), with `known` of the variances of the noise."""
    eye = np.eye(2)
    v = np.hstack([-h * eye, (1 - friction * h) * eye])
    z = np.hstack([eye, 0 * eye]) + h * v
    drawn = np.diag(np.maximum(2 * friction * h - h**2 * known, 0)) + h**2 * NOISE
    to_z = np.vstack([h * eye, eye])
    return float(np.trace(stationary(np.vstack([z, v]), to_z @ drawn @ to_z.T)[:2, :2]) / 2)


def sgld() -> list:
    """`SGLD`"""
    quiet, rows = infer.control_variates(TARGET, MEAN), []
    for i, e in enumerate((0.005, 0.02, 0.1)):
        algorithm = infer.SGLD(step_size=e, covariance=COVARIANCE)
        burn, steps = int(5 / e), int(max(60 / e, 3000))
        rows.append(
            {
                "`SGLD`, e": e,
                "formula": sgld_formula(e, NOISE),
                "measured": measured(algorithm, TARGET, i, burn, steps),
                "with control variates: formula": sgld_formula(e, 0 * NOISE),
                "measured ": measured(algorithm, quiet, 10 + i, burn, steps),
            }
        )
        print(rows[-1], flush=True)
    return rows


def velocity() -> list:
    """`SGHMC` and `SGNHT`"""
    rows = []
    for i, h in enumerate((0.05, 0.1, 0.2)):
        deaf = infer.SGHMC(step_size=h, noise=0, covariance=COVARIANCE)
        measuring = infer.SGHMC(step_size=h, covariance=COVARIANCE)
        thermostat = infer.SGNHT(step_size=h, covariance=COVARIANCE)
        rows.append(
            {
                "h, f = 1": h,
                "`SGHMC(noise=0)`: formula": sghmc_formula(h, np.zeros(2)),
                "measured": measured(deaf, TARGET, 20 + i, 1000, 4000),
                "`SGHMC()`: formula": sghmc_formula(h, SEEN),
                "measured ": measured(measuring, TARGET, 30 + i, 1000, 4000),
                "`SGNHT()`, right is 1": measured(thermostat, TARGET, 40 + i, 2000, 10_000),
            }
        )
        print(rows[-1], flush=True)
    return rows


EXPERIMENTS = {f.__name__: f for f in (sgld, velocity)}


def cell(value: Any, first: bool) -> str:
    if isinstance(value, list):
        return f"{value[0]:.3f} ± {value[1]:.3f}"
    return str(value) if first else f"{value:.3f}"


def tables(found: dict[str, list]) -> str:
    parts = []
    for rows in found.values():
        columns = [name.strip() for name in rows[0]]
        parts += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for row in rows:
            cells = [cell(value, i == 0) for i, value in enumerate(row.values())]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    axes = np.sort(np.linalg.eigvalsh(NOISE))[::-1]
    spread = "C is {:.0f} and {:.0f} in the two coordinates, {:.0f} and {:.0f} along its axes"
    parts.append("(± one standard error; " + spread.format(*np.diag(NOISE), *axes) + ".)")
    return "\n".join([*parts, "", f"{datetime.date.today()}."])


if __name__ == "__main__":
    about = "Bias of the stochastic-gradient samplers."
    run(about, EXPERIMENTS, tables, RECORD, PAGE, "measured")
