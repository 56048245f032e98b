"""The log evidence of latent-variable models row by row, by annealing from both ends."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from numpy.typing import NDArray

from infer.core.checks import check_count, fraction
from infer.core.keys import as_key
from infer.core.types import PRNGKey
from infer.diagnostics.annealing import (
    AbstractTransition,
    Setting,
    draw_starts,
    make_setting,
    run,
    sigmoid_levels,
    step_sizes_of,
)
from infer.diagnostics.rows import LogJoint, Proposal, Rows, log_mean_exp
from infer.references.citation import cites
from infer.references.judging import WU_2017
from infer.references.mcmc import GROSSE_2016, NEAL_2001


@dataclass(frozen=True, eq=False)
class AnnealedEvidence:
    """Annealed weights of B rows and C chains each; made by `annealed_evidence`.

    Attributes:
        log_weights: log w, shape `(B, C)`. The mean of w is p(x) of the row, whatever the number
            of steps and their size.
        acceptance: mean acceptance of the moves between levels, shape `(B, n_steps - 1)`.
        step_sizes: those used, same shape.
    """

    log_weights: NDArray[np.float64]
    acceptance: NDArray[np.float64]
    step_sizes: NDArray[np.float64]

    @property
    def bound(self) -> NDArray[np.float64]:
        """The mean of log w over chains, at most log p(x) on average, shape `(B,)`."""
        return self.log_weights.mean(axis=1)

    @property
    @np.errstate(invalid="ignore")
    def bound_error(self) -> NDArray[np.float64]:
        """Standard error of `bound`; NaN for one chain."""
        n = self.log_weights.shape[1]
        return self.log_weights.std(axis=1) / math.sqrt(n - 1) if n > 1 else self.bound * math.nan

    @property
    def log_evidence(self) -> NDArray[np.float64]:
        """The log of the mean weight, a higher bound on log p(x) than `bound`, shape `(B,)`."""
        return log_mean_exp(self.log_weights)

    @property
    @np.errstate(invalid="ignore")
    def ess(self) -> NDArray[np.float64]:
        """Effective number of chains, (sum w)^2 / sum w^2, between 1 and C."""
        n = self.log_weights.shape[1]
        return n * np.exp(2 * log_mean_exp(self.log_weights) - log_mean_exp(2 * self.log_weights))

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard error of `log_evidence` by the delta method; too small where `ess` is."""
        return np.sqrt(np.maximum(1 / self.ess - 1 / self.log_weights.shape[1], 0))


@dataclass(frozen=True, eq=False)
class Sandwich:
    """Bounds on log p(x) of B rows from below and above; made by `sandwich`.

    Attributes:
        forward: the weights of chains from q, whose mean is p(x).
        backward: the weights of chains from the true z, whose mean is 1 / p(x).
    """

    forward: AnnealedEvidence
    backward: AnnealedEvidence

    @property
    def lower(self) -> NDArray[np.float64]:
        """The log of the mean weight of forward chains, shape `(B,)`: too low on average."""
        return self.forward.log_evidence

    @property
    def upper(self) -> NDArray[np.float64]:
        """Minus that of backward chains, shape `(B,)`: too high on average."""
        return -self.backward.log_evidence

    @property
    def gap(self) -> float:
        """The mean of upper - lower over rows, in nats.

        On average it is no less than the distance of either side from log p(x).
        """
        return float((self.upper - self.lower).mean())

    @property
    def gap_error(self) -> float:
        """Its standard error over rows; NaN for one row."""
        gaps = self.upper - self.lower
        return float(gaps.std() / math.sqrt(len(gaps) - 1)) if len(gaps) > 1 else math.nan


@cites(NEAL_2001, WU_2017)
def annealed_evidence(
    key: PRNGKey | int,
    log_joint: LogJoint,
    q0: Proposal,
    rows: Rows,
    n_steps: int = 1000,
    n_chains: int = 16,
    *,
    transition: AbstractTransition | None = None,
    schedule: Callable[[int], Float[Array, " levels"]] = sigmoid_levels,
    step_sizes: ArrayLike | None = None,
    acceptance: float | Array = 0.7,
    chunk: int = 1024,
) -> AnnealedEvidence:
    """Bounds log p(x) of every row from below by annealed importance sampling.

        log f_b(z) = (1 - b) log q0(z) + b log p(x, z),      0 = b_0 < b_1 < ... < b_T = 1
        z_0 ~ q0;   z_t <- move(z_{t-1}) in place of f_{b_t},   t = 1, ..., T - 1
        log w = sum_t (b_t - b_{t-1}) (log p(x, z_{t-1}) - log q0(z_{t-1})),   t = 1, ..., T

    E w = p(x) and hence E log w <= log p(x), for any moves that leave f_{b_t} in place: poor ones
    make the bound loose, never wrong. With T = 1 this is importance sampling. Step sizes follow
    the acceptance in a pilot run of as many chains, which is thrown away, and are then fixed for
    each row and level.

    Args:
        key: for all randomness; rows and chains have keys of their own.
        log_joint: log p(x, z) of z, shape `(d,)`, and one row, as in `importance_evidence`.
        q0: where chains start: `Shared(prior)`, or one encoder's distribution per row, all arrays
            with a leading axis B.
        rows: the observations, an array or pytree of arrays with a leading axis B.
        n_steps: T, >= 1.
        n_chains: C, independent chains per row, >= 1.
        transition: how chains move; None for `Hamiltonian()`.
        schedule: the levels b_0, ..., b_T as a function of T.
        step_sizes: None for a pilot; or those to use, a number or shape `(B, T - 1)`, such as the
            ones of a result for the same rows and T.
        acceptance: what the pilot aims at, in (0, 1).
        chunk: chains, of all rows together, that run at once, >= 1; the chains of one row always
            do.

    Returns:
        An `AnnealedEvidence`. A row with a density that is NaN at a draw of q0 has NaN.

    Raises:
        TypeError, ValueError: as `importance_evidence`, and for levels or step sizes of the wrong
            shape or value.

    Cost: B C T moves, twice as many with the pilot; O(B (T + C)) numbers are kept. Limits: chains
    that never cross to a mode give too low a bound without a sign; `sandwich` shows it.

    Source: Neal, Annealed importance sampling, Statistics and Computing 11, 2001; Wu, Burda,
    Salakhutdinov and Grosse, On the quantitative analysis of decoder-based generative models,
    ICLR 2017.
    """
    owner = "annealed_evidence"
    check_count(owner, "chunk", chunk, 1024)
    setting = make_setting(owner, log_joint, q0, rows, n_steps, n_chains, transition, schedule)
    aim = fraction("acceptance", 0.7)(acceptance)
    key_pilot, key_start, key_run = jax.random.split(as_key(key), 3)
    steps = step_sizes_of(owner, key_pilot, setting, step_sizes, aim, chunk)
    return _annealed(key_run, setting, draw_starts(key_start, setting), steps, chunk)


@cites(GROSSE_2016)
def sandwich(
    key: PRNGKey | int,
    log_joint: LogJoint,
    q0: Proposal,
    rows: Rows,
    latents: Float[ArrayLike, "B d"],
    n_steps: int = 1000,
    n_chains: int = 16,
    *,
    transition: AbstractTransition | None = None,
    schedule: Callable[[int], Float[Array, " levels"]] = sigmoid_levels,
    step_sizes: ArrayLike | None = None,
    acceptance: float | Array = 0.7,
    chunk: int = 1024,
) -> Sandwich:
    """Bounds log p(x) from both sides, on rows that the model itself has made.

    If z ~ p(z) and x ~ p(x | z), then z is one exact draw of p(z | x). Chains from it go the path
    of `annealed_evidence` back to q0, with the same moves, and their weights have E w = 1 / p(x):

        E log (1/C) sum_c w_c (from q0)  <=  log p(x)  <=  -E log (1/C) sum_c w_c (from z)

    A small mean gap certifies `annealed_evidence` with the same settings on data like these. With
    n_steps = 1 and one chain these are the evidence lower and upper bound of q0. Either side holds
    on average over rows; for one row it is wrong by more than a nats with probability exp(-a) at
    most.

    Args:
        key: for all randomness.
        log_joint: log p(x, z) of z, shape `(d,)`, and one row: the model that made the rows.
        q0: the end of the path with a normalized density, as in `annealed_evidence`.
        rows: what was made, an array or pytree of arrays with a leading axis B.
        latents: the z that each row was made from, shape `(B, d)`; not draws of an encoder, nor
            of a chain.
        n_steps: T, >= 1.
        n_chains: chains per row and direction, >= 1; those backward share their start.
        transition: how chains move; None for `Hamiltonian()`. It has to be reversible.
        schedule: the levels as a function of T.
        step_sizes: None for a pilot, or those to use.
        acceptance: what the pilot aims at, in (0, 1).
        chunk: chains that run at once, >= 1.

    Returns:
        A `Sandwich`.

    Raises:
        TypeError, ValueError: as `annealed_evidence`, and for latents of another shape.

    Cost: twice `annealed_evidence`, with one pilot for both.

    Source: Grosse, Ancha and Roy, Measuring the reliability of MCMC inference with bidirectional
    Monte Carlo, NeurIPS 2016.
    """
    owner = "sandwich"
    check_count(owner, "chunk", chunk, 1024)
    setting = make_setting(owner, log_joint, q0, rows, n_steps, n_chains, transition, schedule)
    aim = fraction("acceptance", 0.7)(acceptance)
    key_pilot, key_start, key_run, key_back = jax.random.split(as_key(key), 4)
    n, d = setting.n_rows, setting.dim
    latents = jnp.asarray(latents)
    if latents.shape != (n, d):
        raise ValueError(
            f"{owner} needs the z that each of {n} rows was made from, shape {(n, d)}, got "
            f"{latents.shape}; simulate z ~ p(z), then rows from p(x | z)."
        )
    steps = step_sizes_of(owner, key_pilot, setting, step_sizes, aim, chunk)
    starts = draw_starts(key_start, setting)
    forward = _annealed(key_run, setting, starts, steps, chunk)
    back = eqx.tree_at(lambda s: s.levels, setting, setting.levels[::-1])
    ends = jnp.broadcast_to(latents[:, None], starts.shape).astype(starts.dtype)
    return Sandwich(forward, _annealed(key_back, back, ends, steps[:, ::-1], chunk))


def _annealed(
    key: PRNGKey,
    setting: Setting,
    starts: Float[Array, "B C d"],
    steps: NDArray[np.float64],
    chunk: int,
) -> AnnealedEvidence:
    log_w, steps, rates = run(key, setting, starts, steps, 0.0, jnp.ones(()), chunk)
    return AnnealedEvidence(log_w, rates, steps)
