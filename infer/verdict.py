"""The default verdict: can this fit be trusted?

The rule and its limits were measured on 798 fits of 18 posteriors; `docs/verdict.md` tells how.
A label unit is an error that makes a fit wrong: a mean off by 0.3 posterior standard deviations
or a standard deviation off by a factor 1.3.
"""

import dataclasses
import hashlib
import math

import numpy as np

from infer.core.evidence import Evidence, Status
from infer.core.outcome import Ending, Outcome
from infer.diagnostics.coordinates import (
    CoordinateRegression,
    bonferroni,
    coordinate_regression,
)
from infer.diagnostics.groups import widest_gap
from infer.diagnostics.ksd import ksd, ksd_floor, ksd_squared
from infer.diagnostics.pareto import KHAT, kl_gap, pareto_khat
from infer.diagnostics.score import SD_UNIT, ScoreRegression, score_regression, whiten
from infer.diagnostics.weighted import WeightedMoments, weighted_moments
from infer.streaming import Stream

LARGE = 512
"""Above so many coordinates the scores are regressed coordinate by coordinate, in bounded memory.

At d = 512 the full regression, O(n d^2 + d^3) with n = 10 d, takes seconds; at 2000 two minutes.
"""

LEAST_LARGE = 100  # draws there; below it d + 3
MOST_PAIRED = 1000  # particles of which all pairs are looked at: a tenth of a second at d = 512
UNMEASURED = 0.02  # nats: an error of sqrt(2 gap) = 0.2 sd of one mean
ROOM = 0.045  # nats: a Gaussian whose mean is off by one label unit, 0.3 sd
STEIN_LIMIT = 1.5  # right fits by SVGD have at most 0.9, exact draws up to about 1.5
AGAINST = ("suspect", "failed")
OTHER_MODES = "other modes (result.examine() searches for them)"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draws to be judged, with all that is known about them.

    Attributes:
        z: draws on the unconstrained scale (chains, draws, d).
        log_prob: log density of the target at the draws (chains, draws).
        score: its gradient (chains, draws, d).
        log_q: log density of the fit at the draws, or None where it has none.
        names: a name per coordinate.
        independent: are they independent draws, or particles, that all count?
        hint: what usually goes wrong with the method that made the draws, as a sentence.
    """

    z: np.ndarray
    log_prob: np.ndarray
    score: np.ndarray
    log_q: np.ndarray | None
    names: list[str]
    independent: bool
    hint: str


def judge(sample: Sample) -> tuple[Evidence, ...]:
    """The evidence of the default rule for one set of draws."""
    broken = _broken(sample)
    if broken:
        return broken
    if sample.z.shape[-1] > LARGE:
        by_coordinate = coordinate_regression(
            sample.z, sample.score, independent=sample.independent
        )
        evidence = [_coordinates(by_coordinate, sample.names, sample.hint), _tail(by_coordinate)]
    else:
        regression = score_regression(sample.z, sample.score, independent=sample.independent)
        evidence = [_scores(regression, sample), _tail(regression)]
        if sample.log_q is not None:
            far = f"{regression.divergence:.2g}, 0 where the posterior is this Gaussian"
            meaning = f"mean squared difference of the whitened scores of fit and posterior: {far}"
            evidence += [Evidence("score divergence", regression.divergence, "", "info", meaning)]
    if sample.log_q is not None:
        log_w, d = sample.log_prob - sample.log_q, sample.z.shape[-1]
        evidence += by_weights(log_w, d)
        if d <= LARGE:
            evidence.append(_moments(weighted_moments(sample.z.reshape(-1, d), log_w), sample))
    return tuple(evidence)


def judge_discrete(log_prob: np.ndarray, log_q: np.ndarray, d: int) -> tuple[Evidence, ...]:
    """The evidence on draws of finitely many points, which have no scores: their weights alone."""
    log_w = log_prob - log_q
    lost = int((~np.isfinite(log_w)).sum())
    if lost:
        return (_not_finite(lost, log_w.size),)
    return tuple(by_weights(log_w, d))


def judge_stream(stream: Stream, names: list[str], hint: str) -> tuple[Evidence, ...]:
    """The evidence on fresh draws of a distribution that were not kept; for many coordinates."""
    if stream.lost:
        return (_not_finite(stream.lost, stream.n),)
    constant = stream.constant()
    if len(constant):
        which = ", ".join(names[i] for i in constant[:4])
        meaning = f"{len(constant)} coordinates never moved: {which}. {hint}".strip()
        value = float(len(constant))
        return (Evidence("constant coordinates", value, "0", "failed", meaning),)
    regression = stream.regression()
    log_w = stream.every("log_prob") - stream.every("log_q")
    return (
        _coordinates(regression, names, hint),
        _tail(regression),
        *by_weights(log_w, len(names)),
    )


def undecided(evidence: tuple[Evidence, ...]) -> bool:
    """Would more draws help: is an upper bound too large while the lower one is not?

    By weights they do where the gap leaves room for an error of one coordinate, and nothing else
    speaks against the fit yet.
    """
    by_name = {e.name: e for e in evidence}
    if "score regression" not in by_name:
        return False
    tail = by_name["score tail"].value
    if by_name["score regression"].status == "suspect" and not tail > 0.5:
        return True
    if "weighted moments" not in by_name or any(e.status in AGAINST for e in evidence):
        return False
    return by_name["KL gap"].value > ROOM and by_name["weighted moments"].value > 0.5


def account(outcome: Outcome, alive: int, steps: int) -> Evidence:
    """Why the run ended; chains that met non-finite values speak against the fit."""
    chains, refused = len(outcome.nonfinite), sum(outcome.nonfinite)
    status: Status = "info"
    meaning = f"the run {outcome.ending.value}"
    if alive < chains or refused > 0.01 * max(steps, 1) * chains:
        status = "failed" if alive == 0 else "suspect"
        first = [step for step in outcome.first_nonfinite if step >= 0]
        meaning = (
            f"the log density or its gradient was not finite in {max(len(first), 1)} of "
            f"{chains} chains ({refused} steps"
            + (f", the first at step {min(first)}" if first else ", at the very start")
            + "): the density has a hole (nan, inf or log of a negative number) where the fit has "
            "mass, or the step size is so large that the run flew off. Find a hole with "
            "infer.check(target, key=0), or give the parameter its support"
        )
    elif refused:
        meaning += f"; {refused} steps that were not finite were refused"
    elif outcome.ending not in (Ending.FINISHED, Ending.CONVERGED, Ending.GAVE_UP):
        meaning = outcome.ending.value
    return Evidence("outcome", float(outcome.steps), "", status, meaning)


def skipped(count: int, steps: int) -> Evidence:
    """Steps that the optimizer refused, because a gradient was not finite or far too long."""
    many = count > 0.01 * steps
    meaning = f"{count} of {steps} steps had a gradient that was not finite or far too long"
    if many:
        meaning += (
            ": take a smaller learning rate or more draws per step, and look for a hole in the "
            "density with infer.check(target, key=0)"
        )
    return Evidence("skipped steps", float(count), "<= 1 %", "suspect" if many else "info", meaning)


def judge_particles(
    sample: Sample, is_settled: bool, weighs_modes: bool = False
) -> tuple[Evidence, ...]:
    """The default rule for a set of particles (1, n, d), and what only particles are asked."""
    evidence = judge(sample)
    measured = any(e.name == "score regression" for e in evidence)
    _, n, d = sample.z.shape
    evidence += _particles(n, d, is_settled)
    if measured:
        evidence += (_groups(sample.z[0], weighed=weighs_modes),)
    if measured and d <= LARGE:
        evidence += (_stein(sample),)
    return evidence


def _particles(n: int, d: int, is_settled: bool) -> tuple[Evidence, ...]:
    """Are there enough particles, and have they come to rest?

    Both are asked because particles can satisfy the score identities with their tails missing: on
    a Student t with 5 degrees in d = 4, 50 of them had 0.71 of the true sd and passed all else.
    """
    few, unsettled = n < 20 * d, not is_settled
    counted = f"{n} particles in {d} dimensions" + (
        f": too few to trust their spread, take at least {20 * d}" if few else ""
    )
    rest = "the particles are still moving: take more steps" if unsettled else "they are at rest"
    return (
        Evidence("number of particles", float(n), ">= 20 d", "suspect" if few else "ok", counted),
        Evidence(
            "particles at rest", float(is_settled), "1", "suspect" if unsettled else "ok", rest
        ),
    )


def judge_generated(sample: Sample) -> tuple[Evidence, ...]:
    """The default rule for independent draws (1, n, d) of a fit that has no density.

    Its shape is judged by the kernel Stein discrepancy, in place of importance weights.
    """
    evidence = judge(sample)
    measured = any(e.name == "score regression" for e in evidence)
    n = sample.z.shape[1]
    meaning = f"{n} independent draws of a fit without a density: no weights, no lower bound"
    evidence += (Evidence("no density", float(n), "", "info", meaning),)
    if measured:
        evidence += (_groups(sample.z[0], "draws"),)
    if measured and sample.z.shape[-1] <= LARGE:
        evidence += (_stein_of_draws(sample),)
    return evidence


def _groups(z: np.ndarray, what: str = "particles", weighed: bool = False) -> Evidence:
    """Do the points sit in modes so far apart that none can have crossed from one to another?"""
    gap = widest_gap(z)
    apart, limit = gap.width > gap.limit, f"<= {gap.limit:.2g}"
    if not apart:
        meaning = f"the {what} are one group"
    else:
        more, fewer = gap.shares
        meaning = f"the {what} form separate groups, {more:.0%} and {fewer:.0%} of them"
        meaning += (
            ", by their weights: another key, or chains=4, shows how sure these shares are"
            if weighed
            else ": these shares come from the start, not from the posterior. Believe what is said "
            "of each group, not means and probabilities over all of them"
        )
    status: Status = "info" if weighed else "suspect" if apart else "ok"
    return Evidence("separate groups", gap.width, limit, status, meaning)


def _stein(sample: Sample) -> Evidence:
    """Kernel Stein discrepancy, whitened, over its value for as many draws of a Gaussian."""
    _, n, d = sample.z.shape
    few = np.arange(0, n, -(-n // MOST_PAIRED))
    factor, z = whiten(np.asarray(sample.z[0], np.float64))
    score = np.asarray(sample.score[0], np.float64) @ factor
    ratio = ksd(z[few], score[few]) / ksd_floor(np.eye(d), len(few))
    meaning = f"the kernel Stein discrepancy is {ratio:.2g} times that of independent draws"
    far = not ratio <= STEIN_LIMIT
    if far:
        meaning += (
            ": the particles are not yet where the posterior is, or too few for its shape. Take "
            "more steps, or more particles"
        )
    status: Status = "suspect" if far else "ok"
    return Evidence("kernel Stein discrepancy", ratio, f"<= {STEIN_LIMIT}", status, meaning)


def _stein_of_draws(sample: Sample) -> Evidence:
    """Kernel Stein discrepancy, whitened, over what draws of the posterior would show by chance.

    For these only the pairs of a draw with itself count on average, whatever the posterior.
    """
    n = sample.z.shape[1]
    few = np.arange(0, n, -(-n // MOST_PAIRED))
    factor, z = whiten(np.asarray(sample.z[0], np.float64))
    z, score = z[few], (np.asarray(sample.score[0], np.float64) @ factor)[few]
    squared, m = ksd_squared(z, score), len(few)
    own = m * squared - (m - 1) * ksd_squared(z, score, unbiased=True)
    ratio = math.sqrt(max(squared, 0.0) * m / own)
    meaning = f"the kernel Stein discrepancy is {ratio:.2g} times that of draws of the posterior"
    far = not ratio <= STEIN_LIMIT
    if far:
        meaning += f": the shape of the fit is not the posterior's. {sample.hint}".rstrip()
    status: Status = "suspect" if far else "ok"
    return Evidence("kernel Stein discrepancy", ratio, f"<= {STEIN_LIMIT}", status, meaning)


def restarts(means: np.ndarray, sds: np.ndarray, names: list[str]) -> Evidence:
    """Spread of the means of independent restarts (restarts, d), in pooled standard deviations."""
    name = "spread between restarts"
    if len(means) < 2:
        return Evidence(name, math.nan, "", "info", "not measured: one restart (chains=1)")
    pooled = np.sqrt(np.mean(sds**2, axis=0))
    spread = np.ptp(means, axis=0) / np.where(pooled > 0, pooled, np.nan)
    worst = int(np.nanargmax(spread)) if np.isfinite(spread).any() else 0
    value = float(spread[worst])
    meaning = f"{len(means)} restarts put the mean of {names[worst]} {value:.2g} sd apart"
    if not value <= 0.3:
        meaning += (
            "; they found different answers, result.posterior is the one of best objective. Take "
            "more steps; if they still differ there are several modes: result.examine(key=0)"
        )
        return Evidence(name, value, "<= 0.3", "suspect", meaning)
    return Evidence(name, value, "<= 0.3", "info", meaning)


def components(weights: np.ndarray, distinct: np.ndarray) -> Evidence:
    """The weights of a mixture, and how many of its components draws can be told apart by."""
    shown = ", ".join(f"{weight:.2g}" for weight in weights)
    meaning = (
        f"the components of the mixture have weights {shown} and count as {distinct:.3g} of "
        f"{len(weights)} by what tells them apart; modes that none of them reached are not seen"
    )
    return Evidence("distinct components", float(distinct), "", "info", meaning)


def rare_parts(sd: np.ndarray, z: np.ndarray, names: list[str]) -> Evidence:
    """Standard deviations by the formula of a fit, beside those of its draws z (n, d).

    A component of small weight far out rules a variance that no draws of the usual number show.
    """
    off = np.abs(np.log(sd / np.maximum(z.std(axis=0), np.finfo(float).tiny))) / SD_UNIT
    worst, chance = int(np.argmax(off)), 4.5 / math.sqrt(2 * len(z)) / SD_UNIT
    rare = not off[worst] <= max(0.5, chance)
    ratio = float(sd[worst] / z[:, worst].std()) if rare else 1.0
    meaning = f"{len(z)} draws show the standard deviations of the fit"
    if rare:
        meaning = (
            f"the sd of {names[worst]} is {ratio:.2g} times that of {len(z)} draws: rare and far "
            "parts of the fit rule it. Fewer components, or believe quantiles alone"
        )
    status: Status = "suspect" if rare else "info"
    return Evidence("rare parts", float(off[worst]), "<= 0.5 label units", status, meaning)


def _broken(sample: Sample) -> tuple[Evidence, ...]:
    """Faults after which nothing else can be measured."""
    chains, draws, d = sample.z.shape
    z = sample.z.reshape(-1, d)
    finite = np.isfinite(z).all(1) & np.isfinite(sample.log_prob.ravel())
    finite &= np.isfinite(sample.score.reshape(-1, d)).all(1)
    lost = int((~finite).sum())
    if lost:
        return (_not_finite(lost, len(z)),)
    least, enough = d + 3, 10 * d
    if d > LARGE:
        least, enough = LEAST_LARGE, 10 * LEAST_LARGE
    if len(z) < least:
        shown = "covariance" if d <= LARGE else "spread"
        meaning = (
            f"too few: {len(z)} draws cannot show the {shown} of {d} coordinates; "
            f"take at least {enough}"
        )
        return (Evidence("number of draws", float(len(z)), f">= {least}", "suspect", meaning),)
    constant = [sample.names[i] for i in np.flatnonzero(np.ptp(z, axis=0) == 0)]
    distinct = len(np.unique(z, axis=0)) if d <= LARGE else _distinct(z)
    if constant or distinct < least:
        meaning = (
            f"only {distinct} distinct draws"
            + (f"; {', '.join(constant[:4])} never moved" if constant else "")
            + ". "
            + sample.hint
        )
        return (Evidence("distinct draws", float(distinct), f">= {least}", "failed", meaning),)
    return ()


def _not_finite(lost: int, n: int) -> Evidence:
    meaning = (
        f"the log density or its gradient is not finite at {lost} of {n} draws of the "
        "fit: the fit has mass where the posterior has none or is not defined. Give the parameter "
        "its support, or find the hole with infer.check(target, key=0)"
    )
    return Evidence("finite draws", float(lost), "0", "failed", meaning)


def _distinct(z: np.ndarray) -> int:
    """How many rows differ, by a digest each: no sort, and no second copy of the draws."""
    return len({hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in z})


def _coordinates(r: CoordinateRegression, names: list[str], hint: str) -> Evidence:
    """The same limits as for the full regression, on errors coordinate by coordinate.

    Not seen: see `docs/verdict.md`. "Failed" asks for an error that is beyond chance among d of
    them; a dependence that the fit misses is "suspect", because another shape looks the same.
    """
    name, threshold = "score regression", "hi <= 0.5 ok, lo > 1 failed (label units)"
    index, kind = r.worst
    which = names[index]
    if kind != "dependence":
        error = _error(r, which)
    else:
        error = (
            f"{r.unexplained[index]:.2g} of the score of {which} has nothing to do with {which} "
            "itself: its dependence on other coordinates, or its shape, is not the posterior's"
        )
    if r.lo > 1 and not r.tail > 0.5:
        beyond = f"beyond the chance of {len(names)} coordinates ({bonferroni(len(names)):.1f} se)"
        meaning = f"by the scores at the draws, {error}; {beyond}. {hint}".strip()
        return Evidence(name, r.hi, threshold, "failed", meaning)
    if not r.positive:
        meaning = (
            "cannot tell: the draws lie where the log density is not curved like a posterior "
            f"(smallest curvature {r.smallest:.2g} of 1). {hint}"
        )
        return Evidence(name, r.hi, threshold, "suspect", meaning.strip())
    if not r.hi <= 0.5:
        meaning = f"cannot rule out an error: by the scores, {error}. {hint}".strip()
        return Evidence(name, r.hi, threshold, "suspect", meaning)
    meaning = (
        f"the scores show no error of mean or scale above {r.hi:.2g} of a wrong fit's, coordinate "
        "by coordinate"
    )
    return Evidence(name, r.hi, threshold, "ok", meaning)


def _scores(r: ScoreRegression, sample: Sample) -> Evidence:
    name, threshold = "score regression", "hi <= 0.5 ok, lo > 1 failed (label units)"
    error = _error(r, sample.names[r.worst[0]])
    if r.lo > 1 and not r.tail > 0.5 and r.n >= 10 * sample.z.shape[-1]:
        meaning = f"by the scores at the draws, {error}. {sample.hint}".strip()
        return Evidence(name, r.hi, threshold, "failed", meaning)
    if not r.positive:
        meaning = (
            "cannot tell: the draws lie where the log density is not curved like a posterior "
            f"(smallest eigenvalue {r.smallest_eigenvalue:.2g} of 1). {sample.hint}"
        )
        return Evidence(name, r.hi, threshold, "suspect", meaning)
    if not r.hi <= 0.5:
        few = ""
        if r.n < 10 * sample.z.shape[-1]:
            few = f"too few draws ({r.n} in {sample.z.shape[-1]} dimensions): "
        meaning = f"{few}cannot rule out an error: by the scores, {error}. {sample.hint}".strip()
        return Evidence(name, r.hi, threshold, "suspect", meaning)
    meaning = f"the scores show no error of mean or scale above {r.hi:.2g} of a wrong fit's"
    return Evidence(name, r.hi, threshold, "ok", meaning)


def _error(r: ScoreRegression | CoordinateRegression | WeightedMoments, which: str) -> str:
    """The worst error of a mean or a standard deviation, in words."""
    index, kind = r.worst
    if kind == "mean":
        error = f"the mean of {which} is off by {abs(r.shift[index]):.2g} posterior sd"
        return error + _margin("+/- {:.1g}", 2 * r.shift_error[index], above=0.005)
    error = f"the sd of {which} is {_exp(-r.log_sd[index]):.2g} times the posterior's"
    return error + _margin("give or take a factor {:.2g}", _exp(2 * r.log_sd_error[index]), 1.05)


def _moments(r: WeightedMoments, sample: Sample) -> Evidence:
    """The value is the upper bound, which decides nothing but whether more draws are taken."""
    name, threshold = "weighted moments", "lo > 0.5 suspect (label units)"
    error = _error(r, sample.names[r.worst[0]])
    if r.lo > 0.5:
        meaning = (
            f"by importance weights, {error}: the shape of the fit is not the posterior's in that "
            "direction, if nowhere else. infer.NUTS() assumes no shape"
        )
        return Evidence(name, r.hi, threshold, "suspect", meaning)
    meaning = f"the weights show no error of mean or scale beyond chance above {r.lo:.2g}"
    return Evidence(name, r.hi, threshold, "ok", f"{meaning} of a wrong fit's")


def _exp(x: float) -> float:
    """exp(x), infinite where that overflows."""
    return math.exp(x) if x < 700 else math.inf


def _margin(text: str, size: float, above: float) -> str:
    """An error bar in brackets, where it is worth a reader's time."""
    return f" ({text.format(size)})" if size > above else ""


def _tail(r: ScoreRegression | CoordinateRegression) -> Evidence:
    heavy = r.tail > 0.5
    if math.isnan(r.tail):
        meaning = f"too few draws ({r.n}) to see the tail of the scores: take more"
        return Evidence("score tail", r.tail, "<= 0.5", "suspect", meaning)
    meaning = (
        "cannot tell: the scores have too heavy a tail to be averaged (a funnel or a boundary). "
        "Write the model differently, such as a hierarchy non-centered, or ask "
        "result.examine(key=0)"
        if heavy
        else "the scores can be averaged"
    )
    return Evidence("score tail", r.tail, "<= 0.5", "suspect" if heavy else "ok", meaning)


def by_weights(log_w: np.ndarray, d: int) -> list[Evidence]:
    """What n log weights log p/q at draws of q say of a fit of d coordinates."""
    unit = max(1.0, d / 10)
    gap, khat = kl_gap(log_w.ravel()), pareto_khat(log_w.ravel())
    status: Status = "failed" if not gap <= unit else "suspect" if gap > 0.1 * unit else "ok"
    meaning = f"the fit is at least {gap:.2g} nats (KL) from the posterior"
    limits = f"<= {0.1 * unit:.2g} ok, > {unit:.2g} failed"
    if status == "ok" and gap > UNMEASURED * unit and khat > KHAT:
        # The largest weights, which the mean needs, are not among the draws: the gap is larger.
        status, limits = "suspect", f"<= {UNMEASURED * unit:.2g} ok where k-hat > {KHAT}"
        meaning += (
            f", and its weights cannot tell how much more (k-hat {khat:.2f}): the posterior has "
            "heavier tails than the fit. infer.NUTS() assumes no shape"
        )
    elif status != "ok":
        meaning += (
            ": its shape is not the posterior's (skew, tails, a funnel, or not converged). "
            "infer.NUTS() assumes no shape"
        )
    elbo, error = float(np.mean(log_w)), float(np.std(log_w) / math.sqrt(log_w.size))
    bound = f"the evidence lower bound is {elbo:.6g} +/- {error:.1g} nats"
    shape = f"Pareto k-hat of the weights: {khat:.2f}"
    if khat > 0.5:
        shape += "; above 0.5 they have no variance: chi^2 is infinite, errors of averages unknown"
    return [
        Evidence("ELBO", elbo, "", "info", bound),
        Evidence("KL gap", gap, limits, status, meaning),
        Evidence("k-hat", khat, f"< {KHAT} is usual", "info", shape),
    ]
