"""How the default verdict does on posteriors with known moments; writes a table into the docs.

    python tests/reproduce/verdict.py

Every fit is labeled by its true error: wrong where some coordinate has a mean off by more than 0.3
posterior sd or an sd off by more than a factor 1.3, right where all are below 0.1 and 1.1.
"""

import contextlib
import datetime
import io
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from experiments import write
from jax.scipy.special import digamma, polygamma

import infer

PAGE = Path(__file__).parent.parent.parent / "docs" / "verdict.md"
KEYS = range(4)


def gaussian(z: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    mean, precision = data
    return -0.5 * (z - mean) @ precision @ (z - mean)


def banana(z: jax.Array) -> jax.Array:
    return -0.5 * z[0] ** 2 / 4 - 0.5 * (z[1] - 0.5 * z[0] ** 2) ** 2 / 0.25


def student(z: jax.Array) -> jax.Array:
    return -0.5 * (5 + 4) * jnp.log1p(jnp.sum(z**2) / 5)


def gamma(p: dict[str, jax.Array]) -> jax.Array:
    return 4 * jnp.log(p["s"]) - 2 * p["s"] - 0.5 * jnp.sum((p["x"] - 1) ** 2)


def posteriors() -> Iterator[tuple[str, infer.Target, np.ndarray, np.ndarray]]:
    """Name, target, and the exact means and sds of its unconstrained coordinates."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    factors = {
        "correlated Gaussian, d = 5": rng.standard_normal((5, 5)),
        "Gaussian of condition 10,000, d = 10": turn * np.logspace(-2, 0, 10),
    }
    for name, factor in factors.items():
        covariance = factor @ factor.T
        mean = rng.standard_normal(len(covariance))
        data = (jnp.asarray(mean), jnp.asarray(np.linalg.inv(covariance)))
        target = infer.from_log_density(gaussian, jnp.zeros(len(mean)), data=data)
        yield name, target, mean, np.sqrt(np.diag(covariance))
    target = infer.from_log_density(
        gamma, {"s": jnp.ones(()), "x": jnp.zeros(2)}, supports={"s": infer.positive}
    )
    log_s = float(digamma(5.0)) - np.log(2), float(jnp.sqrt(polygamma(1, 5.0)))
    yield (
        "log gamma and normals, d = 3",
        target,
        np.array([log_s[0], 1, 1]),
        np.array([log_s[1], 1, 1]),
    )
    target = infer.from_log_density(banana, jnp.zeros(2))
    yield "banana, d = 2", target, np.array([0, 2.0]), np.array([2, np.sqrt(8.25)])
    target = infer.from_log_density(student, jnp.zeros(4))
    yield "Student t with 5 degrees, d = 4", target, np.zeros(4), np.full(4, np.sqrt(5 / 3))


def methods() -> dict[str, list[tuple[Any, dict[str, Any]]]]:
    """Settings of each method, good ones and bad ones."""
    slow = infer.optimizer(optax.adam, learning_rate=1e-3)
    return {
        "full-rank VI": [
            (infer.VI(), {}),
            (infer.VI(), {"steps": 300}),
            (infer.VI(optimizer=slow), {"steps": 1000}),
        ],
        "mean-field VI": [(infer.ADVI(), {}), (infer.ADVI(), {"steps": 300})],
        "SVGD": [
            (infer.SVGD(n_particles=50), {}),
            (infer.SVGD(n_particles=200), {}),
            (infer.SVGD(n_particles=200), {"steps": 20}),
        ],
        "ULA": [(infer.ULA(step_size=e), {}) for e in (0.05, 0.4, 1.0)],
        "MALA": [
            (infer.MALA(), {}),
            (infer.MALA(), {"warmup": 20, "steps": 200}),
            (infer.MALA(step_size=1e-4), {"warmup": 0, "steps": 1000}),
        ],
        "NUTS": [(infer.NUTS(), {}), (infer.NUTS(), {"warmup": 10, "steps": 30})],
    }


def label(result: infer.Result, mean: np.ndarray, sd: np.ndarray) -> str:
    """What the fit really is."""
    z = result.z if result.is_chains else result.z[result.best][None]
    z = z.reshape(-1, z.shape[-1]).astype(np.float64)
    if not np.isfinite(z).all() or np.any(z.std(axis=0) == 0):
        return "wrong"
    shift = np.max(np.abs(z.mean(axis=0) - mean) / sd)
    ratio = np.max(np.abs(np.log(z.std(axis=0) / sd)))
    if shift > 0.3 or ratio > np.log(1.3):
        return "wrong"
    return "right" if shift < 0.1 and ratio < np.log(1.1) else "gray"


def main() -> None:
    clock = time.perf_counter()
    counts: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in methods()}
    passed = []
    for posterior, target, mean, sd in posteriors():
        for name, settings in methods().items():
            for number, (algorithm, options) in enumerate(settings):
                for key in KEYS:
                    with contextlib.redirect_stderr(io.StringIO()):
                        result = infer.fit(target, algorithm, key=key, progress=False, **options)
                    what, status = label(result, mean, sd), result.verdict.status
                    counts[name][what, status] += 1
                    if (what, status) == ("wrong", "ok"):
                        passed.append(f"{name}, setting {number}, on the {posterior}, key {key}")
        print(posterior, f"{time.perf_counter() - clock:.0f} s", flush=True)
    total = sum(counts.values(), Counter())
    lines = [
        "| method | wrong fits | ok / suspect / failed | right fits | ok / suspect / failed "
        "| gray fits, ok |",
        "|---|---|---|---|---|---|",
    ]
    for name, count in [*counts.items(), ("all", total)]:
        cells = [name]
        for what in ("wrong", "right"):
            found = [count[what, status] for status in ("ok", "suspect", "failed")]
            cells += [str(sum(found)), " / ".join(map(str, found))]
        gray = [count["gray", status] for status in ("ok", "suspect", "failed")]
        cells.append(f"{gray[0]} of {sum(gray)}")
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    lines.append(
        f"{sum(total.values())} fits in float32, {datetime.date.today()}. Wrong fits called ok: "
        + ("; ".join(passed) if passed else "none")
        + "."
    )
    write(PAGE, "measured", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
