"""Evidence on chains alone: mixing, energies, and what the step of an unadjusted sampler does."""

import dataclasses
import math

import numpy as np

from infer.core.evidence import Evidence, Status
from infer.diagnostics.chains import ebfmi, ess_bulk, rhat
from infer.diagnostics.coordinates import COLUMNS, bonferroni
from infer.diagnostics.equipartition import equipartition
from infer.verdict import Sample

LONGER = "Run longer, result.extend(steps=...)"


def mixing(z: np.ndarray, names: list[str], blind: bool = False) -> tuple[Evidence, ...]:
    """R-hat and bulk ESS of the worst coordinate of chains (chains, draws, d).

    `blind` says that the chains have a bias that these two ignore.
    """
    columns = [z[..., i : i + COLUMNS] for i in range(0, z.shape[-1], COLUMNS)]
    r = np.concatenate([rhat(few) for few in columns])
    ess = np.concatenate([ess_bulk(few) for few in columns])
    worst_r, worst_e = int(np.argmax(np.nan_to_num(r, nan=np.inf))), int(np.argmin(ess))
    value, size = float(r[worst_r]), float(ess[worst_e])
    if math.isnan(value):
        between: Status = "suspect"
        text = f"R-hat of {names[worst_r]} was not measured: too few draws, or it never moved"
    else:
        between = "failed" if value > 1.3 else "suspect" if value > 1.05 else "ok"
        text = f"R-hat of {names[worst_r]} is {value:.3f}"
        text += "" if between == "ok" else f": the chains do not agree. {LONGER}, or look for modes"
        text += " (halves of one chain)" if len(z) == 1 else ""
    enough: Status = "ok" if size >= 100 else "suspect"
    draws = f"{size:.0f} effective draws of {names[worst_e]}"
    draws += "" if enough == "ok" else f": too few. {LONGER}"
    if blind:
        text += " (ignores the bias of the step size)"
        draws += " (ignores the bias of the step size)"
    return (
        Evidence("R-hat", value, "<= 1.05 ok, > 1.3 failed", between, text),
        Evidence("bulk ESS", size, ">= 100", enough, draws),
    )


def or_jumps(evidence: Evidence) -> Evidence:
    """The same of a method without gradients, whose density may have jumps.

    Scores that do not fit the draws then say that one of the two is wrong, not which.
    """
    if evidence.name != "score regression" or evidence.status != "failed":
        return evidence
    meaning = evidence.meaning.rstrip(".") + (
        ". Unless the density jumps or has kinks, which its gradient does not show: then the "
        "scores say nothing of the draws"
    )
    return dataclasses.replace(evidence, status="suspect", meaning=meaning)


def divergences(count: int, draws: int) -> Evidence:
    """Divergent transitions; reported."""
    meaning = f"{count} of {draws} transitions diverged"
    if count:
        meaning += ": a region of high curvature is cut off; reparametrize or lower the step size"
    return Evidence("divergences", float(count), "", "info", meaning)


def energy(trace: np.ndarray) -> Evidence:
    """E-BFMI of the worst chain from energies (chains, draws); reported."""
    value = float(np.min(ebfmi(trace)))
    meaning = f"E-BFMI is {value:.2f}" + (
        ": momentum resampling explores the energies slowly (heavy tails)" if value < 0.3 else ""
    )
    return Evidence("E-BFMI", value, ">= 0.3 is usual", "info", meaning)


def unadjusted(
    sample: Sample,
    evidence: tuple[Evidence, ...],
    stats: dict[str, np.ndarray],
    can_be_halved: bool,
) -> tuple[Evidence, ...]:
    """What only chains without an acceptance test are asked: the bias of their step size.

    `stats` holds what was recorded of all draws: energy errors and refused steps, where there are.
    `can_be_halved` says that `infer.half_step_bias` serves the method.
    """
    found = (
        [_equipartition(sample, evidence, can_be_halved)]
        if evidence[0].name == "score regression"
        else []
    )
    if "energy_error" in stats and "diverging" in stats:
        taken, d = ~stats["diverging"].astype(bool), sample.z.shape[-1]
        error = stats["energy_error"].astype(np.float64)[taken]
        value = float(np.mean(error**2) / d) if error.size else math.nan
        meaning = f"the energy error of a step has a mean square of {value:.2g} per dimension"
        found.append(Evidence("energy error", value, "", "info", meaning))
    meaning = "R-hat and ESS do not see the bias of an unadjusted sampler; the scores do"
    return (*found, Evidence("adjusted", 0.0, "", "info", meaning))


def _equipartition(sample: Sample, evidence: tuple[Evidence, ...], can_be_halved: bool) -> Evidence:
    """The mean of -x d log p, 1 at the posterior, with its Monte Carlo error.

    Less than 0.3 off in a coordinate is a standard deviation off by less than half a label unit,
    where the posterior is Gaussian. Never "failed": the score regression decides that.
    """
    e = equipartition(sample.z, sample.score, independent=sample.independent)
    tail = next((x.value for x in evidence if x.name == "score tail"), math.inf)
    chance = bonferroni(len(e.values))
    off = np.abs(e.values - 1)
    least = off - chance * e.errors
    worst = int(np.nanargmax(off / np.maximum(e.errors, 1e-12)))
    meaning = (
        f"E[-x d log p] is {e.mean:.3f} +/- {2 * e.mean_error:.1g} on average and "
        f"{e.values[worst]:.3f} +/- {2 * e.errors[worst]:.1g} for {sample.names[worst]}; 1 at the "
        "posterior"
    )
    if least.max() > 0 or abs(e.mean - 1) > 3 * e.mean_error:
        meaning += (
            f": a bias beyond chance, variances about {e.mean:.3g} times the posterior's if it is "
            "Gaussian. A smaller step size lowers it"
        )
        if can_be_halved:
            meaning += "; infer.half_step_bias(result, key=1) tells by how much"
    status: Status = "suspect" if least.max() > 0.3 and tail <= 0.5 else "info"
    return Evidence("equipartition", e.mean, "all within 1 +/- 0.3", status, meaning)


def refused(count: int, draws: int) -> Evidence:
    """Steps of an unadjusted sampler that were refused for their energy error."""
    share = count / max(draws, 1)
    meaning = f"{count} of {draws} steps had an energy error out of proportion and were refused"
    if count:
        meaning += (
            ": the step size is beyond stability in a part of the posterior. Lower energy_error or "
            "step_size, or use a sampler with an acceptance test, infer.NUTS()"
        )
    status: Status = "suspect" if share > 0.01 else "info"
    return Evidence("divergences", float(count), "<= 1 % of the steps", status, meaning)


def minibatch_steps(stats: dict[str, np.ndarray]) -> tuple[Evidence, ...]:
    """Of a stochastic-gradient sampler: is its step stable, and what does minibatch noise add?

    Both by what warm-up measured of the density, and right for a Gaussian posterior.
    """
    size, limit = stats["step_size"].astype(np.float64), stats["step_limit"].astype(np.float64)
    at = np.unravel_index(int(np.argmax(size / limit)), size.shape)
    ratio, step, bound = float(size[at] / limit[at]), float(size[at]), float(limit[at])
    status: Status = "failed" if ratio >= 1 else "info"
    text = (
        f"the step size {step:.3g} is below {bound:.3g}, above which a Gaussian like this diverges"
    )
    if ratio >= 1:
        text = (
            f"the step size {step:.3g} is too large: along the steepest direction that warm-up "
            f"found, steps above {bound:.3g} diverge. Write step_size={0.2 * bound:.2g} or less"
        )
    if not math.isfinite(bound):
        text = "the largest stable step size was not measured: no warm-up"
    excess = float(np.mean(stats["gradient_noise"]))
    noise = f"by the noise of minibatches alone, variances are up to {excess:.1%} too large"
    return (
        Evidence("step size", ratio, "< 1 of the largest stable one", status, text),
        Evidence("gradient noise", excess, "", "info", noise),
    )
