"""How noisy the gradient of an objective is, by each estimator that is valid for it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key
from rich.table import Table

from infer.core.keys import as_key
from infer.core.posterior import AbstractDistribution, sampling_of
from infer.core.target import Target
from infer.objectives.bounds import ReverseKL
from infer.objectives.engine import estimate
from infer.objectives.estimator import AbstractEstimator, check_pair, valid_estimators
from infer.objectives.objective import AbstractObjective
from infer.planning import at_least_one
from infer.summary import render

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

BLOCK = 50  # gradients computed side by side


@dataclasses.dataclass(frozen=True)
class GradientReport:
    """Mean and spread of gradients; printing it shows the table.

    Attributes:
        rows: per estimator and number of draws: `norm`, the length of the mean gradient;
            `noise`, the square root of the summed variances of its entries; `snr`, the first over
            the second; `variance_ratio`, the variance over that of the first estimator with as many
            draws; `z`, the largest difference from the mean of the first one in standard errors.
        mean: mean gradient by the same keys, one entry per parameter.
        sd: standard deviation of each entry.
        objective: name of the objective.
        repeats: gradients behind every row.
    """

    rows: dict[tuple[str, int], dict[str, float]]
    mean: dict[tuple[str, int], np.ndarray]
    sd: dict[tuple[str, int], np.ndarray]
    objective: str
    repeats: int

    def to_dataframe(self) -> "pandas.DataFrame":
        """A row per estimator and number of draws."""
        from infer.bridges.tables import dataframe

        return dataframe({f"{name}, {n} draws": dict(row) for (name, n), row in self.rows.items()})

    def plot(self) -> "Figure":
        """Signal over noise against the number of draws, a line per estimator, both logarithmic.

        Raises:
            ImportError: where matplotlib is missing.
        """
        from infer.bridges.figures import lines

        series: dict[str, list[tuple[float, float]]] = {}
        for (name, n), row in self.rows.items():
            series.setdefault(name, []).append((float(n), row["snr"]))
        return lines(
            series, f"gradient of {self.objective}", "draws per gradient", "signal / noise"
        )

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows

    def __str__(self) -> str:
        table = Table(
            title=f"gradient of {self.objective}, {self.repeats} of each", title_justify="left"
        )
        for column in ("estimator", "draws", "|mean|", "noise", "signal / noise", "variance", "z"):
            table.add_column(column, justify="left" if column == "estimator" else "right")
        for (name, n), row in self.rows.items():
            cells = (row["norm"], row["noise"], row["snr"], row["variance_ratio"], row["z"])
            table.add_row(name, str(n), *(f"{value:.3g}" for value in cells))
        return render(table)


def gradient_report(
    target: Target,
    q: Any,
    *,
    objective: AbstractObjective | None = None,
    estimators: Sequence[AbstractEstimator] | None = None,
    n_samples: int | Sequence[int] = (2, 8, 32),
    repeats: int = 1000,
    key: Any,
) -> GradientReport:
    """Compare estimators of the gradient of an objective at one member of a family.

    Takes `repeats` independent gradients with every estimator at q and reports the length of their
    mean, their noise and its ratio to the signal. Where estimators are unbiased their means agree:
    z, the largest of the standardized differences over all parameters, is then about (2 log P)^1/2
    for P parameters. Parameters are those that the family fits, in their own coordinates.

        result = infer.fit(target, infer.VI(), key=0)
        print(infer.gradient_report(target, result.posterior, key=1))

    Cost: `repeats` gradients of n draws, of each estimator and n.

    Args:
        target: what is to be approximated.
        q: a distribution with parameters, `result.posterior` or the first member of a family.
        objective: `ReverseKL()` if None.
        estimators: those to compare; all that are valid if None.
        n_samples: draws per gradient, >= 1, or several such numbers.
        repeats: gradients behind every row, >= 10, rounded up to a multiple of 50.
        key: a PRNG key or an integer.

    Returns:
        A `GradientReport`, which prints as a table.

    Raises:
        TypeError, ValueError: for what is no distribution, or a biased pair.
    """
    objective = ReverseKL() if objective is None else objective
    if not isinstance(q, AbstractDistribution):
        raise TypeError(
            f"gradient_report needs a distribution with parameters, got {type(q).__name__}; write "
            "infer.gradient_report(target, infer.fit(target, infer.VI(), key=0).posterior, key=1)."
        )
    if repeats < 10:
        raise ValueError(f"gradient_report needs repeats >= 10, got {repeats}.")
    counts = [n_samples] if isinstance(n_samples, int) else list(n_samples)
    draws = jax.eval_shape(lambda k: q.sample_score(k, max(counts)), jax.random.key(0))
    sampling, fixed_noise = sampling_of(draws.independent), draws.log_noise is None
    found: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    rows: dict[tuple[str, int], dict[str, float]] = {}
    blocks = -(-repeats // BLOCK)
    for n in counts:
        at_least_one("n_samples", n)
        valid = valid_estimators(objective, sampling, n, fixed_noise)
        chosen = valid if estimators is None else estimators
        for i, estimator in enumerate(chosen):
            check_pair("gradient_report", objective, estimator, sampling, n, fixed_noise)
            keys = jax.random.split(jax.random.fold_in(as_key(key), i), (blocks, BLOCK))
            moments = _moments(target.full(), q, objective, estimator, n, keys)
            mean, sd = (np.asarray(part, np.float64) for part in moments)
            name = (type(estimator).__name__, n)
            found[name] = mean, sd
            first = found[type(chosen[0]).__name__, n]
            rows[name] = _row((mean, sd), first, blocks * BLOCK)
    return GradientReport(
        rows,
        {name: mean for name, (mean, _) in found.items()},
        {name: sd for name, (_, sd) in found.items()},
        type(objective).__name__,
        blocks * BLOCK,
    )


def _row(
    own: tuple[np.ndarray, np.ndarray], first: tuple[np.ndarray, np.ndarray], repeats: int
) -> dict[str, float]:
    (mean, sd), (first_mean, first_sd) = own, first
    norm, noise = float(np.linalg.norm(mean)), float(np.linalg.norm(sd))
    base = float(np.linalg.norm(first_sd))
    error = np.hypot(sd, first_sd) / math.sqrt(repeats)
    gap = np.abs(mean - first_mean)[error > 0] / error[error > 0]
    return {
        "norm": norm,
        "noise": noise,
        "snr": norm / noise if noise > 0 else math.inf,
        "variance_ratio": (noise / base) ** 2 if base > 0 else math.nan,
        "z": float(np.max(gap, initial=0.0)),
    }


@eqx.filter_jit
def _moments(
    target: Target,
    q: AbstractDistribution,
    objective: AbstractObjective,
    estimator: AbstractEstimator,
    n: int,
    keys: Key[Array, "blocks n_keys"],
) -> tuple[Float[Array, " parameters"], Float[Array, " parameters"]]:
    """Mean and standard deviation of every entry; only one block of gradients is held."""

    def one(key: Array) -> Array:
        return ravel_pytree(estimate(key, target, q, objective, estimator, n)[1])[0]

    shift = one(keys[0, 0])  # near the mean, so that no digits are lost

    def add(sums: tuple[Array, Array], block: Array) -> tuple[tuple[Array, Array], None]:
        rest = jax.vmap(one)(block) - shift
        return (sums[0] + rest.sum(axis=0), sums[1] + (rest**2).sum(axis=0)), None

    zero, count = jnp.zeros_like(shift), keys.size
    (total, squares), _ = jax.lax.scan(add, (zero, zero), keys)
    mean = total / count
    return shift + mean, jnp.sqrt(jnp.maximum(squares - count * mean**2, 0) / (count - 1))
