"""The bias of an unadjusted sampler, from a second run at half its step size."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import numpy as np

from infer.core.algorithm import AbstractSampler
from infer.core.keys import Use, address, as_key
from infer.core.outcome import Ending
from infer.diagnostics.chains import ess_mean
from infer.references.citation import cites
from infer.references.langevin import TALAY_1990
from infer.result import Result
from infer.run.chunk import carry_on
from infer.run.loop import Trail, run
from infer.starts import fold_in_chains


@dataclasses.dataclass(frozen=True)
class StepBias:
    """Estimated errors of a run that come from its step size; printing it shows the worst.

    Attributes:
        names: of the coordinates, on the unconstrained scale.
        mean: mean of the draws minus that of the posterior, in standard deviations.
        mean_error: its Monte Carlo error (one standard error).
        log_sd: log of the standard deviation of the draws over the posterior's.
        log_sd_error: its Monte Carlo error.
        order: power of the step size with which the bias is taken to fall.
        gradients: gradients that the second run took.
    """

    names: list[str]
    mean: np.ndarray
    mean_error: np.ndarray
    log_sd: np.ndarray
    log_sd_error: np.ndarray
    order: int
    gradients: int

    def __str__(self) -> str:
        """The coordinates with the largest errors."""
        lines = ["bias of the step size (+/- 2 standard errors)"]
        size = np.maximum(np.abs(self.mean), np.abs(self.log_sd))
        for i in np.argsort(-size)[:5]:
            mean = f"mean {self.mean[i]:+.3f} sd +/- {2 * self.mean_error[i]:.3f}"
            ratio = f"sd times {math.exp(self.log_sd[i]):.3f} +/- {2 * self.log_sd_error[i]:.3f}"
            lines.append(f"  {self.names[i]}: {mean}, {ratio}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


@cites(TALAY_1990)
def half_step_bias(result: Result, *, key: Any) -> StepBias:
    """How far the step size has moved the answer of an unadjusted sampler.

    The chains go on from where they are with half the step size, twice the steps and the same
    preconditioner. If the bias is C h^k then  bias(h) = (m(h) - m(h/2)) / (1 - 2^-k)  for every
    moment m. Cost: twice the gradients of the run. The power k is that of small steps; the answer
    is a first-order estimate, and only as sharp as its Monte Carlo errors.

    Args:
        result: a run of `ULA`, `TamedULA`, `BAOAB`, `OBABO` or `KLMC`, with its target.
        key: a PRNG key or an integer, another one than that of the run.

    Returns:
        A `StepBias`: the errors of means and standard deviations; it prints as a table.

    Raises:
        ValueError: if the result has no target, joins several runs, or has fewer than four draws
            per chain.
        TypeError: if the method has no step size to halve.
        MemoryError: if the memory does not suffice for the chains at half the step.
        KeyboardInterrupt: on Ctrl-C, since half a run says nothing.

    Source: Talay and Tubaro, Stochastic Analysis and Applications 8(4), 1990 (extrapolation).
    """
    target, algorithm = result.target, result.algorithm
    if target is None or algorithm is None:
        raise ValueError("half_step_bias needs infer.load(path, target, algorithm).")
    order = algorithm.bias_order if isinstance(algorithm, AbstractSampler) else None
    if order is None:
        raise TypeError(
            "half_step_bias is for ULA, TamedULA, KLMC, OBABO, BAOAB, got a run of "
            f"{type(algorithm).__name__}, which has no step size that biases it."
        )
    if len(result.keys) > 1:
        raise ValueError(
            f"this result joins {len(result.keys)} runs; write half_step_bias for each of them."
        )
    if result.z.shape[1] < 4:
        raise ValueError(
            f"half_step_bias needs four draws per chain or more, got {result.z.shape[1]}; write "
            "result.extend(steps=1000) first."
        )
    carry = result.trail.carry
    half = eqx.tree_at(
        lambda s: s.tuning.step_size, carry.states, carry.states.tuning.step_size / 2
    )
    keys = fold_in_chains(address(as_key(key), Use.RUN), len(carry.alive))
    trail = Trail(carry_on(algorithm, target, keys, half))
    thin = 2 * result.plan.thin
    plan = dataclasses.replace(
        result.plan, warmup=0, steps=thin * result.z.shape[1], thin=thin, max_seconds=None
    )
    outcome = run(algorithm, target, keys, trail, plan)
    if outcome.ending is Ending.INTERRUPTED:
        raise KeyboardInterrupt
    if outcome.ending is Ending.OUT_OF_MEMORY:
        raise MemoryError(outcome.ending.value)
    coarse = np.asarray(result.z, np.float64)
    fine = np.swapaxes(trail.record()["position"], 0, 1).astype(np.float64)
    (m0, v0, em0, ev0), (m1, v1, em1, ev1) = _moments(coarse), _moments(fine)
    sd, share = np.sqrt(v1), 1 - 0.5**order
    return StepBias(
        names=target.coordinate_names(),
        mean=(m0 - m1) / sd / share,
        mean_error=np.hypot(em0, em1) / sd / share,
        log_sd=0.5 * np.log(v0 / v1) / share,
        log_sd_error=0.5 * np.hypot(ev0 / v0, ev1 / v1) / share,
        order=order,
        gradients=trail.gradients,
    )


def _moments(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means and variances of chains (chains, draws, d), and their standard errors."""
    mean = z.mean(axis=(0, 1))
    square = (z - mean) ** 2
    variance = square.mean(axis=(0, 1))
    errors = [s.std(axis=(0, 1)) / np.sqrt(ess_mean(s)) for s in (z, square)]
    return mean, variance, errors[0], errors[1]
