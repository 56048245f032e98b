"""How often a mode search exposes fits of one mode among several, and reports modes in vain.

    python tests/reproduce/examine.py [--only NAME ...] [--only-print]

The draws are exact ones, of one of the modes where there are several: what a perfect fit of that
mode would have. Posteriors of posteriordb are in it where INFER_POSTERIORDB names its folder.
"""

import dataclasses
import datetime
import os
from collections.abc import Callable
from functools import partial
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
from infer.scoreboard import models as posteriors

PAGE = Path(__file__).parent.parent.parent / "docs" / "verdict.md"
RECORD = PAGE.parent.parent / "build" / "examine.json"
KEYS = range(8)
N = 1000
D = 5

Draws = Callable[[np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
    """A target, exact draws (N, d) of one of its modes, and the share of the mass elsewhere."""

    target: Callable[[], infer.Target]
    draws: Draws
    missed: float = 0.0


# Densities in d = 5, chosen by an index among the data, so that one program serves them all ------


def gaussian(x):
    """Correlations of 0.8."""
    return -0.5 * (jnp.sum(x**2) - 0.8 / (0.2 + 0.8 * x.size) * jnp.sum(x) ** 2) / 0.2


def student(x):
    return -0.5 * (5 + x.size) * jnp.log1p(jnp.sum(x**2) / 5)


def banana(x):
    bent = x[1] - 0.5 * x[0] ** 2
    return -0.5 * (x[0] ** 2 / 4 + bent**2 / 0.25 + jnp.sum(x[2:] ** 2))


def ring(x):
    around = (jnp.sqrt(x[0] ** 2 + x[1] ** 2 + 1e-12) - 5) / 0.5
    return -0.5 * (around**2 + jnp.sum(x[2:] ** 2))


def funnel(x):
    free = x.size - 1
    return -0.5 * ((x[0] / 3) ** 2 + jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) + free * x[0])


def pair(x, share, distance, scale):
    """A standard normal, and a share of the mass in a normal of this scale at this distance."""
    d = x.size
    far = -0.5 * jnp.sum((x - distance / d**0.5) ** 2) / scale**2 - d * jnp.log(scale)
    return jnp.logaddexp(jnp.log1p(-share) - 0.5 * jnp.sum(x**2), jnp.log(share) + far)


FIVE = (
    gaussian,
    student,
    banana,
    ring,
    funnel,
    partial(pair, share=0.3, distance=10.0, scale=1.0),
    partial(pair, share=0.2, distance=8.0, scale=0.3),
    partial(pair, share=0.2, distance=8.0, scale=0.6),
)


def chosen(x, index):
    return jax.lax.switch(index, FIVE, x)


def five(index: int) -> infer.Target:
    return infer.from_log_density(chosen, jnp.zeros(D), data=jnp.asarray(index))


def gaussian_draws(rng: np.random.Generator, d: int = D) -> np.ndarray:
    return 0.2**0.5 * rng.standard_normal((N, d)) + 0.8**0.5 * rng.standard_normal((N, 1))


def student_draws(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((N, D)) * np.sqrt(5 / rng.chisquare(5, (N, 1)))


def banana_draws(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((N, D)) * [2, 0.5, 1, 1, 1]
    x[:, 1] += 0.5 * x[:, 0] ** 2
    return x


def ring_draws(rng: np.random.Generator) -> np.ndarray:
    """The density of the radius has a factor r."""
    x = rng.standard_normal((N, D))
    grid = np.linspace(1, 9, 4001)
    radius = rng.choice(grid, N, p=(p := grid * np.exp(-2 * (grid - 5) ** 2)) / p.sum())
    angle = rng.uniform(0, 2 * np.pi, N)
    x[:, :2] = (radius * [np.cos(angle), np.sin(angle)]).T
    return x


def funnel_draws(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((N, D))
    x[:, 0] *= 3
    x[:, 1:] *= np.exp(x[:, :1] / 2)
    return x


def normal_draws(rng: np.random.Generator, d: int = D) -> np.ndarray:
    return rng.standard_normal((N, d))


# Others ------------------------------------------------------------------------------------------


def wells(x):
    """A mode for every pattern of signs; the positive side has 0.75 of the mass of each x_i."""
    return jnp.sum(-(x**4) + 6 * x**2 + 0.32 * x)


def wells_draws(rng: np.random.Generator) -> np.ndarray:
    grid = np.linspace(0, 4, 4001)
    p = np.exp(-(grid**4) + 6 * grid**2 + 0.32 * grid - 9)
    return rng.choice(grid, (N, 8), p=p / p.sum())


def unordered(y):
    """Two components without an order: two modes, of equal mass."""
    mu = numpyro.sample("mu", dist.Normal(0, 2).expand([2]))
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    weights = jnp.log(jnp.stack([theta, 1 - theta]))
    terms = dist.Normal(mu, sigma).log_prob(y[:, None]) + weights
    numpyro.factor("y", jnp.sum(jax.scipy.special.logsumexp(terms, axis=1)))


def real(name: str) -> Case:
    """A posterior of posteriordb, and its reference draws."""
    folder = Path(os.environ["INFER_POSTERIORDB"])
    return Case(partial(posteriors.load, folder, name), partial(stored, folder, name))


def stored(folder: Path, name: str, rng: np.random.Generator) -> np.ndarray:
    z = posteriors.unconstrained(
        posteriors.load(folder, name), name, posteriors.reference(folder, name)
    )
    return z[rng.choice(len(z), N, replace=False)]


def mixture() -> Case:
    """The reference draws have an order: they are those of one mode."""
    folder, name = Path(os.environ["INFER_POSTERIORDB"]), "low_dim_gauss_mix-low_dim_gauss_mix"
    target = infer.from_numpyro(unordered, *posteriors.arguments(folder, name))

    def draws(rng: np.random.Generator) -> np.ndarray:
        values = posteriors.sites(name, posteriors.reference(folder, name))
        kept = rng.choice(len(values["theta"]), N, replace=False)
        latent = {site.name: values[site.name][kept] for site in target.sites}
        return np.asarray(jax.jit(jax.vmap(target.unconstrain))(latent))

    return Case(lambda: target, draws, 0.5)


def wide(d: int) -> infer.Target:
    return infer.from_log_density(partial(pair, share=0.3, distance=10.0, scale=1.0), jnp.zeros(d))


def cases() -> dict[str, Case]:
    made = {
        "correlated Gaussian": Case(partial(five, 0), gaussian_draws),
        "Student t with 5 degrees": Case(partial(five, 1), student_draws),
        "banana": Case(partial(five, 2), banana_draws),
        "ring": Case(partial(five, 3), ring_draws),
        "funnel": Case(partial(five, 4), funnel_draws),
        "0.7 and 0.3, 10 sd apart": Case(partial(five, 5), normal_draws, 0.3),
        "0.8 and 0.2, of scales 1 and 0.3, 8 apart": Case(partial(five, 6), normal_draws, 0.2),
        "0.8 and 0.2, of scales 1 and 0.6, 8 apart": Case(partial(five, 7), normal_draws, 0.2),
    }
    known = "INFER_POSTERIORDB" in os.environ
    if known:
        made["two components without an order, 1000 rows"] = mixture()
        made["eight schools, centered, d = 10"] = real("eight_schools-eight_schools_centered")
    made["256 modes, d = 8"] = Case(
        lambda: infer.from_log_density(wells, jnp.zeros(8)), wells_draws, 1 - 0.75**8
    )
    if known:
        made["garch11, d = 4"] = real("garch-garch11")
        made["kidscore, d = 3"] = real("kidiq-kidscore_momiq")
        made["arK, d = 7"] = real("arK-arK")
        made["eight schools, d = 10"] = real("eight_schools-eight_schools_noncentered")
    made["0.7 and 0.3, 10 sd apart, d = 30"] = Case(
        partial(wide, 30), partial(normal_draws, d=30), 0.3
    )
    made["correlated Gaussian, d = 50"] = Case(
        lambda: infer.from_log_density(gaussian, jnp.zeros(50)), partial(gaussian_draws, d=50)
    )
    return made


def searched(case: Case) -> list[dict[str, Any]]:
    target, rows = case.target(), []
    for key in KEYS:
        z = case.draws(np.random.default_rng(key))[None]
        evidence, gradients = mode_search(target, jax.random.key(key), z, chains=False)
        rows.append(
            {"status": [e.status for e in evidence], "value": [e.value for e in evidence]}
            | {"said": [e.meaning for e in evidence], "gradients": gradients}
        )
    return rows


def tables(found: dict[str, Any]) -> str:
    exposed = ["| several modes | share missed | exposed | said to be | gradients |"]
    calm = ["| one mode | mode reported | cannot tell | weights doubted | gradients |"]
    exposed.append("|---|---|---|---|---|")
    calm.append("|---|---|---|---|---|")
    missed = {name: case.missed for name, case in cases().items()}
    for name, rows in found.items():
        search, weights = zip(*(row["status"] for row in rows), strict=True)
        spent = f"{np.mean([row['gradients'] for row in rows]):,.0f}"
        against = [row for row in rows if row["status"][0] in ("suspect", "failed")]
        values = [row["value"][0] for row in against if np.isfinite(row["value"][0])]
        if missed[name]:
            span = f"{min(values):.2f} to {max(values):.2f}" if values else "-"
            seen = f"{len(against)} of {len(rows)}"
            exposed.append(f"| {name} | {missed[name]:.2g} | {seen} | {span} | {spent} |")
        else:
            doubted = sum(status in ("suspect", "failed") for status in weights)
            calm.append(
                f"| {name} | {len(values)} of {len(rows)} | {len(against) - len(values)} of "
                f"{len(rows)} | {doubted} of {len(rows)} | {spent} |"
            )
    made = f"d = 5 unless told; {N} exact draws, {len(KEYS)} keys each. {datetime.date.today()}."
    return "\n".join([*exposed, "", *calm, "", made])


def main() -> None:
    made = {name: partial(searched, case) for name, case in cases().items()}
    run(str(__doc__), made, tables, RECORD, PAGE, "examined")


if __name__ == "__main__":
    main()
