"""Simulation-based calibration: does a method give the right posterior, on average over data?"""

import contextlib
import dataclasses
import io
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from rich.table import Table

from infer.bridges.simulator import Simulator
from infer.core.algorithm import AbstractApproximator, AbstractSampler
from infer.core.evidence import Evidence, Status, Verdict
from infer.core.keys import Use, address, as_key
from infer.core.target import Target, check_named
from infer.core.types import PRNGKey, Values
from infer.diagnostics.chains import ess_bulk
from infer.diagnostics.ranks import Envelope, chi2_p, ecdf_p, rank_envelope
from infer.fit import fit
from infer.references.citation import cites
from infer.references.judging import MODRAK_2025, TALTS_2018
from infer.result import Result
from infer.summary import render, scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG_PROB = "log posterior"
_FIXED = ("checkpoint", "resume", "progress", "callbacks")


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Ranks of true parameters among posterior draws; printing it shows the table and the verdict.

    Attributes:
        names: the scalars that were ranked; the last is the log posterior density.
        ranks: rank of the truth among `n_draws` draws, (simulations, scalars), from 0 to n_draws.
        n_draws: posterior draws of each fit that it was ranked among.
        chi2_p: p-value of uniformity by chi^2 on bins, (scalars,).
        ecdf_p: the same by the whole empirical distribution, (scalars,).
        ess: smallest bulk effective sample size of the scalars in each fit, (simulations,).
        statuses: status of the verdict of each fit.
        gradients: gradients of all fits together.
        envelope: where the empirical distribution of uniform ranks stays, with 95 % probability.
        verdict: whether the ranks are uniform.
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    n_draws: int
    chi2_p: np.ndarray
    ecdf_p: np.ndarray
    ess: np.ndarray
    statuses: tuple[str, ...]
    gradients: int
    envelope: Envelope
    verdict: Verdict

    def plot(self, max_scalars: int = 12) -> "Figure":
        """Empirical distribution of the ranks minus the uniform one, with the 95 % envelope.

        A panel per scalar, `max_scalars` at most, those of smallest p-value.
        """
        from infer.bridges.figures import rank_differences

        if max_scalars < 1:
            raise ValueError(f"max_scalars must be >= 1, got {max_scalars}.")
        shown = sorted(np.argsort(self.ecdf_p, kind="stable")[:max_scalars])
        counts = [np.bincount(self.ranks[:, i], minlength=self.n_draws + 1) for i in shown]
        below = {
            self.names[i]: np.cumsum(count)[:-1] / len(self.ranks)
            for i, count in zip(shown, counts, strict=True)
        }
        at, lower, upper, _ = self.envelope
        return rank_differences(at, lower, upper, below)

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows

    def __str__(self) -> str:
        table = Table(
            title=f"{len(self.ranks)} simulations, ranks among {self.n_draws} draws",
            title_justify="left",
        )
        for column in ("", "mean rank", "sd / uniform", "p by chi^2", "p by ECDF"):
            table.add_column(column, justify="right" if column else "left")
        for i, name in enumerate(self.names):
            mean, spread = _moments(self.ranks[:, i], self.n_draws)
            numbers = (mean, spread, self.chi2_p[i], self.ecdf_p[i])
            table.add_row(name, *(f"{x:.3f}" for x in numbers))
        return render(table, 100) + str(self.verdict)


@cites(TALTS_2018, MODRAK_2025)
def simulation_based_calibration(
    simulator: Simulator,
    algorithm: AbstractSampler | AbstractApproximator,
    *,
    key: int | PRNGKey,
    n_simulations: int = 100,
    n_draws: int = 99,
    **options: Any,
) -> Calibration:
    r"""Fit simulated data sets, and rank the parameters that made them among the draws.

    With $\theta \sim p(\theta)$, $y \sim p(y \mid \theta)$ and draws
    $\theta_1, \dots, \theta_L$ of the posterior given $y$, the rank
    $r = \sum_l [f(\theta_l) < f(\theta)]$ is uniform on $0, \dots, L$ for every function f. It is
    looked at for every scalar parameter and for the log posterior density, which depends on the
    data and so shows what the parameters alone cannot (a fit that returns the prior).

    Chains are thinned evenly to `n_draws` draws; those with fewer effective draws are counted in
    the verdict. Data sets share their compiled programs. Cost: `n_simulations` fits.

    Args:
        simulator: where parameters and data come from: `infer.numpyro_simulator`, or
            `infer.Simulator` of functions.
        algorithm: the method to be looked at.
        key: a PRNG key or an integer.
        n_simulations: data sets, >= 20. A mean off by half a posterior sd moves the mean rank by 3
            of its standard errors with 50, one off by a tenth with 1000.
        n_draws: draws of each fit to rank among, >= 9.
        **options: for every fit, as `infer.fit` takes them, such as `steps`, `warmup`, `chains`.

    Returns:
        A `Calibration`, which prints as a table and has a verdict.

    Raises:
        TypeError, ValueError: for wrong use, and where a fit has fewer than `n_draws` draws.

    Source: Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv:1804.06788; the log density
    as a test quantity: Modrák et al. (2025), Bayesian Analysis 20(2).
    """
    _check(simulator, algorithm, n_simulations, n_draws, options)
    base = address(as_key(key), Use.CALIBRATE)
    ranks, ess, statuses, gradients, names = [], [], [], 0, ()
    for i in range(n_simulations):  # addressed, so that more of them begin with the same ones
        prior_key, data_key, fit_key, tie_key = jax.random.split(jax.random.fold_in(base, i), 4)
        truth = simulator.prior(prior_key)
        target = simulator.target(simulator.simulate(data_key, truth))
        _check_truth(target, truth)
        with contextlib.redirect_stderr(io.StringIO()):  # the verdicts, which are counted below
            result = fit(target, algorithm, key=fit_key, progress=False, **options)
        true, drawn = _scalars(result, truth)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(tie_key)))
        ranks.append([_rank(true[name], drawn[name], n_draws, rng) for name in drawn])
        ess.append(_effective(result, drawn))
        statuses.append(result.verdict.status)
        gradients += int(result.gradients)
        names = tuple(drawn)
    return _conclude(names, np.array(ranks), n_draws, np.array(ess), tuple(statuses), gradients)


def _check(simulator: Any, algorithm: Any, n_simulations: int, n_draws: int, options: Any) -> None:
    if not isinstance(simulator, Simulator):
        raise TypeError(
            f"needed is a simulator, got {type(simulator).__name__}; write "
            "infer.numpyro_simulator(model, x, None, observed=['y']) or "
            "infer.Simulator(prior, simulate, target)."
        )
    if not isinstance(algorithm, AbstractSampler | AbstractApproximator):
        raise TypeError(f"needed is an algorithm such as infer.NUTS(), got {algorithm!r}.")
    if n_simulations < 20:
        raise ValueError(f"n_simulations must be >= 20, got {n_simulations}; write 100.")
    if n_draws < 9:
        raise ValueError(f"n_draws must be >= 9, got {n_draws}; write 99.")
    if wrong := [name for name in options if name in _FIXED]:
        raise TypeError(f"{wrong} are for one fit, not for {n_simulations}; leave them out.")


def _check_truth(target: Target, truth: Values) -> None:
    check_named(target.sites, truth)
    for site in target.sites:
        if np.shape(truth[site.name]) != site.shape:
            raise ValueError(
                f"prior(key) draws {site.name!r} of shape {np.shape(truth[site.name])}; the target "
                f"has {site.shape}."
            )


def _scalars(result: Result, truth: Values) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Every scalar by name, of the truth and of the draws (chains, n) of chains or best restart."""
    target = result.target
    assert target is not None
    given = {site.name: jnp.asarray(truth[site.name]) for site in target.sites}
    which = slice(None) if result.is_chains else slice(result.best, result.best + 1)
    draws = result.draws()
    drawn = scalars({name: draws[name][which] for name in given})
    true = scalars({name: np.asarray(value)[None, None] for name, value in given.items()})
    true[LOG_PROB] = np.asarray(_log_prob(target.full(), given))
    drawn[LOG_PROB] = result.log_prob[which]
    return {name: float(np.squeeze(value)) for name, value in true.items()}, drawn


@eqx.filter_jit
def _log_prob(target: Target, values: Values) -> Array:
    return target.log_prob(target.unconstrain(values))


def _rank(truth: float, draws: np.ndarray, n_draws: int, rng: np.random.Generator) -> int:
    """How many of `n_draws` evenly spaced draws (chains, n) are smaller; ties are broken by lot."""
    flat = draws.ravel()
    if len(flat) < n_draws:
        raise ValueError(
            f"a fit has {len(flat)} draws, fewer than the {n_draws} to rank among; give fewer "
            f"n_draws, or more draws (draws=..., or particles)."
        )
    # The middle of n_draws stretches of equal length, so that every chain gives its share.
    kept = flat[((np.arange(n_draws) + 0.5) * len(flat) / n_draws).astype(int)]
    return int((kept < truth).sum() + rng.integers((kept == truth).sum() + 1))


def _effective(result: Result, drawn: dict[str, np.ndarray]) -> float:
    """Smallest effective sample size among the scalars; of what is no chain, the draws count."""
    if not result.is_chains:
        return float(next(iter(drawn.values())).size)
    return float(np.nan_to_num(np.min(ess_bulk(np.stack(list(drawn.values()), axis=-1)))))


def _conclude(
    names: tuple[str, ...],
    ranks: np.ndarray,
    n_draws: int,
    ess: np.ndarray,
    statuses: tuple[str, ...],
    gradients: int,
) -> Calibration:
    simulated = min(50_000, 1000 * max(10, len(names)))
    envelope = rank_envelope(len(ranks), n_draws + 1, n_simulated=simulated)
    by_ecdf = ecdf_p(ranks, n_draws + 1, envelope)
    evidence = (
        _uniform(names, ranks, n_draws, by_ecdf),
        _enough(ess, n_draws),
        _verdicts(statuses),
    )
    return Calibration(
        names=names,
        ranks=ranks,
        n_draws=n_draws,
        chi2_p=chi2_p(ranks, n_draws + 1),
        ecdf_p=by_ecdf,
        ess=ess,
        statuses=statuses,
        gradients=gradients,
        envelope=envelope,
        verdict=Verdict(evidence, "errors that cancel over the data sets that the prior makes"),
    )


def _moments(ranks: np.ndarray, n_draws: int) -> tuple[float, float]:
    """Mean rank as a fraction, 0.5 if uniform, and the sd over that of uniform ranks."""
    u = (ranks + 0.5) / (n_draws + 1)
    return float(u.mean()), float(u.std() * math.sqrt(12))


def _uniform(names: tuple[str, ...], ranks: np.ndarray, n_draws: int, p: np.ndarray) -> Evidence:
    """The smallest p-value, times the number of scalars."""
    worst = int(np.argmin(p))
    value = min(1.0, float(p[worst]) * len(p))
    status: Status = "failed" if value < 0.01 else "suspect" if value < 0.05 else "ok"
    meaning = f"ranks of {len(names)} scalars over {len(ranks)} simulations: "
    if status == "ok":
        meaning += f"none leaves the envelope of uniform ranks (p = {value:.2g})"
    else:
        meaning += f"those of {names[worst]} are not uniform (p = {value:.2g}): "
        meaning += _shape(ranks[:, worst], n_draws)
    return Evidence("uniform ranks", value, "p >= 0.05 ok, < 0.01 failed", status, meaning)


def _shape(ranks: np.ndarray, n_draws: int) -> str:
    """What the ranks' most significant moment says of the fits."""
    mean, spread = _moments(ranks, n_draws)
    shifted = (mean - 0.5) * math.sqrt(12 * len(ranks))
    scaled = (spread**2 - 1) * math.sqrt(1.25 * len(ranks))  # var of u^2 about 1/2 is 1/180
    if max(abs(shifted), abs(scaled)) < 2:
        return "neither their mean nor their spread, their shape is wrong"
    if abs(shifted) > abs(scaled):
        return f"the fits are too {'low' if shifted > 0 else 'high'} (mean rank {mean:.2f} of 1)"
    too = "narrow, ranks pile up at the ends" if scaled > 0 else "wide, ranks pile up in the middle"
    return f"the fits are too {too}"


def _enough(ess: np.ndarray, n_draws: int) -> Evidence:
    short = float(np.mean(ess < n_draws))
    meaning = f"{short:.0%} of the fits have fewer than {n_draws} effective draws"
    if short > 0.05:
        meaning += "; ranks among dependent draws pile up at the ends: more draws=, fewer n_draws"
    status: Status = "suspect" if short > 0.05 else "ok"
    return Evidence("effective draws", short, "<= 5 %", status, meaning)


def _verdicts(statuses: tuple[str, ...]) -> Evidence:
    count = Counter(statuses)
    meaning = "verdicts of the fits: " + ", ".join(
        f"{count[status]} {status}" for status in ("ok", "suspect", "failed")
    )
    return Evidence("verdicts", count["ok"] / len(statuses), "", "info", meaning)
