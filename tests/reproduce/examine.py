"""How often examine() exposes fits of one mode among several, and reports modes that are not there.

    python tests/reproduce/examine.py [--only NAME ...]

Posteriors of posteriordb are in it where INFER_POSTERIORDB names its folder.
"""

import contextlib
import datetime
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from experiments import run

import infer
from infer.mode_search import mode_search

sys.path.append(str(Path(__file__).parent.parent))
import posteriors

PAGE = Path(__file__).parent.parent.parent / "docs" / "verdict.md"
RECORD = PAGE.parent.parent / "build" / "examine.json"
KEYS = range(4)
METHODS = {"NUTS": infer.NUTS(max_doublings=6), "full-rank VI": infer.VI()}


def mixture(d: int, share: float, shift: float, scale: float) -> infer.Target:
    """A standard normal, and a share of another `shift` away with this scale."""

    def log_density(x, data):
        share, shift, scale = data
        far = -0.5 * jnp.sum((x - shift / d**0.5) ** 2) / scale**2 - d * jnp.log(scale)
        return jnp.logaddexp(jnp.log1p(-share) - 0.5 * jnp.sum(x**2), jnp.log(share) + far)

    return infer.from_log_density(log_density, jnp.zeros(d), data=(share, shift, scale))


def many_well(x):
    """256 modes: x_i near +1.7 or -1.7, the first three times as likely in each coordinate."""
    return jnp.sum(-(x**4) + 6 * x**2 + 0.5 * x * 0.64)


def unordered(y):
    """Two components without an order: two modes, of equal mass."""
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    parts = dist.Normal(mu, sigma).log_prob(y[:, None]) + jnp.log(jnp.stack([theta, 1 - theta]))
    numpyro.factor("y", jnp.sum(jax.scipy.special.logsumexp(parts, axis=1)))


def gaussian(d: int) -> infer.Target:
    covariance = 0.8 * np.ones((d, d)) + 0.2 * np.eye(d)
    precision = jnp.asarray(np.linalg.inv(covariance))
    return infer.from_log_density(lambda x, p: -0.5 * x @ p @ x, jnp.zeros(d), data=precision)


def banana(x):
    return -0.5 * x[0] ** 2 / 4 - 0.5 * (x[1] - 0.5 * x[0] ** 2) ** 2 / 0.25


def student(x):
    return -0.5 * (5 + 5) * jnp.log1p(jnp.sum(x**2) / 5)


def funnel(x):
    return -0.5 * (x[0] / 3) ** 2 - 0.5 * jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) - 4.5 * x[0]


def ring(x):
    return -0.5 * ((jnp.linalg.norm(x) - 5) / 0.5) ** 2


def real(name: str) -> infer.Target:
    return posteriors.load(Path(os.environ["INFER_POSTERIORDB"]), name)


def several() -> dict[str, tuple[Callable[[], infer.Target], dict[str, Any], float]]:
    """Target, where its fits start, and the share of the mass they miss, by name."""
    zero = lambda d: {"x": np.zeros(d)}  # noqa: E731
    made = {
        "weights 0.7 and 0.3, 10 sd apart, d = 3": (lambda: mixture(3, 0.3, 10, 1), zero(3), 0.3),
        "the same, d = 10": (lambda: mixture(10, 0.3, 10, 1), zero(10), 0.3),
        "the same, d = 30": (lambda: mixture(30, 0.3, 10, 1), zero(30), 0.3),
        "scales 1 and 0.3, weights 0.8 and 0.2, 8 sd apart, d = 2": (
            lambda: mixture(2, 0.2, 8, 0.3), zero(2), 0.2),
        "the same, d = 3": (lambda: mixture(3, 0.2, 8, 0.3), zero(3), 0.2),
        "the same, d = 5": (lambda: mixture(5, 0.2, 8, 0.3), zero(5), 0.2),
        "256 modes, d = 8": (
            lambda: infer.from_log_density(many_well, jnp.zeros(8)), {"x": np.full(8, 1.7)}, 0.9),
    }  # fmt: skip
    if "INFER_POSTERIORDB" in os.environ:
        name = "low_dim_gauss_mix-low_dim_gauss_mix"
        (y,) = posteriors.arguments(Path(os.environ["INFER_POSTERIORDB"]), name)
        start = {"mu": np.array([-2.75, 2.75]), "sigma": np.ones(2), "theta": 0.4}
        made["two components without an order, 1000 rows, d = 5"] = (
            lambda: infer.from_numpyro(unordered, y), start, 0.5)  # fmt: skip
    return made


def single() -> dict[str, Callable[[], infer.Target]]:
    made = {
        "correlated Gaussian, d = 5": lambda: gaussian(5),
        "correlated Gaussian, d = 50": lambda: gaussian(50),
        "banana, d = 2": lambda: infer.from_log_density(banana, jnp.zeros(2)),
        "Student t with 5 degrees, d = 5": lambda: infer.from_log_density(student, jnp.zeros(5)),
        "funnel, d = 10": lambda: infer.from_log_density(funnel, jnp.zeros(10)),
        "ring, d = 2": lambda: infer.from_log_density(ring, jnp.ones(2)),
    }
    if "INFER_POSTERIORDB" in os.environ:
        for name in (
            "kidiq-kidscore_momiq",
            "arK-arK",
            "garch-garch11",
            "eight_schools-eight_schools_noncentered",
            "eight_schools-eight_schools_centered",
            "low_dim_gauss_mix-low_dim_gauss_mix",
        ):
            made[name.split("-")[1].replace("_", " ")] = lambda name=name: real(name)
    return made


def searched(target: infer.Target, init: Any) -> list[dict[str, Any]]:
    """Searches from fits by NUTS and by full-rank VI, some keys of each."""
    rows = []
    for name, algorithm in METHODS.items():
        for key in KEYS:
            with contextlib.redirect_stderr(io.StringIO()):
                fit = infer.fit(target, algorithm, key=key, progress=False, init=init)
            z = fit.z if fit.is_chains else fit.z[fit.best : fit.best + 1]
            evidence, gradients = mode_search(target, jax.random.key(key), z, fit.is_chains)
            rows.append(
                {"fit": name, "status": [e.status for e in evidence], "gradients": gradients}
                | {"value": [e.value for e in evidence], "said": [e.meaning for e in evidence]}
            )
            print(rows[-1], flush=True)
    return rows


def tables(found: dict[str, Any]) -> str:
    exposed = [
        "| several modes, fits in one | mass missed | exposed | mass found missing | gradients |",
        "|---|---|---|---|---|",
    ]
    calm = [
        "| one mode | mode reported | cannot tell | weights doubted | gradients |",
        "|---|---|---|---|---|",
    ]
    truth = {name: missed for name, (_, _, missed) in several().items()}
    for name, rows in found.items():
        missed, weights = zip(*(row["status"] for row in rows), strict=True)
        spent = f"{np.mean([row['gradients'] for row in rows]):,.0f}"
        values = [row["value"][0] for row in rows if row["status"][0] == "failed"]
        if name in truth:
            span = f"{min(values):.2f} to {max(values):.2f}" if values else ""
            seen = f"{missed.count('failed') + missed.count('suspect')} of {len(rows)}"
            exposed.append(f"| {name} | {truth[name]:.3g} | {seen} | {span} | {spent} |")
        else:
            told = sum(np.isfinite(row["value"][0]) and row["status"][0] != "ok" for row in rows)
            unsure = sum("cannot tell" in row["said"][0] for row in rows)
            doubted = sum(status in ("suspect", "failed") for status in weights)
            calm.append(
                f"| {name} | {told} of {len(rows)} | {unsure} of {len(rows)} "
                f"| {doubted} of {len(rows)} | {spent} |"
            )
    return "\n".join([*exposed, "", *calm, "", f"float32, {datetime.date.today()}."])


def main() -> None:
    made = {n: lambda t=t, i=i: searched(t(), i) for n, (t, i, _) in several().items()}
    made |= {name: lambda t=t: searched(t(), None) for name, t in single().items()}
    run(str(__doc__), made, tables, RECORD, PAGE, "examined")


if __name__ == "__main__":
    main()
