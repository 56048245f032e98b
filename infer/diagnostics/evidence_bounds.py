"""The log evidence of latent-variable models row by row, by importance sampling."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int
from numpy.typing import NDArray

from infer.core.checks import check_count, positive
from infer.core.keys import as_key
from infer.core.posterior import AbstractDistribution
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.diagnostics.pareto import pareto_khat
from infer.diagnostics.rows import (
    LogJoint,
    Proposal,
    Rows,
    as_arrays,
    check_model,
    log_mean_exp,
    mapped,
    proposal_of,
    row_batches,
    row_of,
)
from infer.references.citation import cites
from infer.references.variational import BURDA_2016

_ROUNDINGS = 64  # of the log evidence: log weights closer than this are equal


@dataclass(frozen=True, eq=False)
class ImportanceEvidence:
    """Estimates of log p(x) for each of B rows from K draws each; made by `importance_evidence`.

    Attributes:
        log_evidence: L_K = log (1/K) sum_k w_k, shape `(B,)`: log p(x) or less, on average.
        error: its standard error by the delta method, sqrt(1/ess - 1/K); too small where
            `khat` > 0.5.
        elbo: the evidence lower bound of the proposal, the mean of log w, shape `(B,)`.
        elbo_error: its standard error.
        ess: effective number of draws, (sum w)^2 / sum w^2, between 1 and K.
        khat: Pareto shape of the weights, `pareto_khat`. Above 0.7 `log_evidence` is not to be
            relied on, however small `error` is. Minus infinity where the largest weights are equal
            to rounding, NaN with 20 draws or fewer.
        counts: 1, 2, 4, ..., up to K.
        curve: estimates of the expectation of L_k at these counts k, shape `(B, counts)`: means
            over the blocks of k draws among the K, those that fill no block left out. Rises with k;
            where it still does at its end, L_K is too low. The first is `elbo`.
    """

    log_evidence: NDArray[np.float64]
    error: NDArray[np.float64]
    elbo: NDArray[np.float64]
    elbo_error: NDArray[np.float64]
    ess: NDArray[np.float64]
    khat: NDArray[np.float64]
    counts: NDArray[np.int64]
    curve: NDArray[np.float64]


@cites(BURDA_2016)
def importance_evidence(
    key: PRNGKey | int,
    log_joint: LogJoint,
    q: Proposal,
    rows: Rows,
    n_samples: int = 5000,
    chunk: int = 5000,
    inflate: ArrayLike | None = None,
) -> ImportanceEvidence:
    r"""Estimates log p(x) of every row by importance sampling, with what tells how far to trust it.

        log p(x) >= E L_K,    L_K = log (1/K) sum_k w_k,    w_k = p(x, z_k) / q(z_k),    z_k ~ q

    The mean of exp(L_K) is p(x) for every K; L_K itself is too low by about chi^2(p(z|x) || q) / 2K
    where that is finite. It need not be, even for Gaussians: the best diagonal q of a posterior of
    two coordinates with a correlation beyond 1/2 has weights without a variance. `khat` shows it;
    `inflate=1.3`, more draws or `annealed_evidence` help.

    Args:
        key: every draw has a key of its own, so that `chunk` changes nothing but rounding.
        log_joint: log p(x, z) as a function of z, shape `(d,)`, and one row. A module of Equinox,
            whose arrays are arguments, is compiled once for all its values; a plain function is
            compiled anew whenever it is another object.
        q: the distributions to draw from: one per row, all arrays with a leading axis B, as
            `eqx.filter_vmap(encoder)(rows)` gives them; or `Shared(prior)`, one for all.
        rows: the observations, an array or pytree of arrays with a leading axis B.
        n_samples: K, draws per row, >= 1. Fewer than 21 tell no `khat`.
        chunk: draws, of all rows together, that are evaluated at once, >= 1; memory is that many
            evaluations of `log_joint`, and K numbers for each row of a batch.
        inflate: None, or f > 0 to draw from q stretched by f about its mean,
            log q'(m + f (z - m)) = log q(z) - d log f; needs a q that knows its mean. The bounds
            returned are then those of q'.

    Returns:
        An `ImportanceEvidence`. A log weight that is NaN makes its row NaN; one of minus infinity
            is a draw without weight.

    Raises:
        TypeError: where q is no distribution, or `inflate` is given and q knows no mean.
        ValueError: where leading axes differ or `log_joint` is not one number.

    Cost: B K evaluations of `log_joint`, no gradients. Limits: weights cannot show a mode where q
    has never been.

    Source: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, ICLR 2016.
    """
    owner = "importance_evidence"
    check_count(owner, "n_samples", n_samples, 5000)
    check_count(owner, "chunk", chunk, 5000)
    rows = as_arrays(rows)
    n, _ = check_model(owner, log_joint, q, rows)
    if inflate is not None:
        inflate = positive("inflate", 1.3)(inflate)
        _check_center(q)
    key, batches = as_key(key), row_batches(n, chunk // n_samples)
    found = [
        _summary(np.asarray(_log_weights(key, log_joint, q, rows, inflate, i, n_samples, chunk)))
        for i in batches
    ]
    log_evidence, elbo, elbo_error, ess, khat, curve = (
        np.concatenate(a)[:n] for a in zip(*found, strict=True)
    )
    error = np.sqrt(np.maximum(1 / ess - 1 / n_samples, 0))
    counts = 2 ** np.arange(curve.shape[1])
    return ImportanceEvidence(log_evidence, error, elbo, elbo_error, ess, khat, counts, curve)


@eqx.filter_jit
def _log_weights(
    key: PRNGKey,
    log_joint: LogJoint,
    q: Proposal,
    rows: Rows,
    inflate: Scalar | None,
    batch: Int[Array, " R"],
    n_samples: int,
    chunk: int,
) -> Float[Array, "R K"]:
    """The log weights of some rows."""

    def one_row(i: Count) -> Float[Array, " K"]:
        row, proposal, key_row = row_of(rows, i), proposal_of(q, i), jax.random.fold_in(key, i)

        def log_weight(k: Count) -> Scalar:
            z, log_q = _draw(jax.random.fold_in(key_row, k), proposal, inflate)
            return log_joint(z, row) - log_q

        return mapped(log_weight, n_samples, chunk)

    return jax.vmap(one_row)(batch)


def _draw(key: PRNGKey, q: AbstractDistribution, inflate: Scalar | None) -> tuple[Vector, Scalar]:
    """One draw of q, or of q stretched about its mean, with its log density."""
    draws = q.equal_draws(key, 1)
    z, log_q = draws.x[0], draws.log_q[0]
    if inflate is None:
        return z, log_q
    mean = _center(q)
    return mean + inflate * (z - mean), log_q - z.shape[0] * jnp.log(inflate)


@np.errstate(invalid="ignore")  # weights of zero: the mean of log w is -inf, its error NaN
def _summary(log_w: NDArray[np.floating]) -> tuple[NDArray[np.float64], ...]:
    """What is kept of log weights (R, K): L_K, ELBO with its error, ESS, k-hat, the curve."""
    rounding = _ROUNDINGS * float(np.finfo(log_w.dtype).eps)
    log_w = log_w.astype(np.float64)
    n = log_w.shape[1]
    log_evidence = log_mean_exp(log_w)
    ess = np.exp(2 * log_evidence - log_mean_exp(2 * log_w)) * n
    curve, level = [log_w.mean(axis=1)], log_w
    while level.shape[1] > 1:
        even = level.shape[1] // 2 * 2
        level = np.logaddexp(level[:, 0:even:2], level[:, 1:even:2]) - math.log(2)
        curve.append(level.mean(axis=1))
    limits = rounding * np.maximum(1, np.abs(log_evidence))
    khat = [_khat(w, float(limit)) for w, limit in zip(log_w, limits, strict=True)]
    error = log_w.std(axis=1) / math.sqrt(max(n - 1, 1))
    return log_evidence, curve[0], error, ess, np.array(khat), np.stack(curve, axis=1)


def _khat(log_w: NDArray[np.float64], rounding: float) -> float:
    """`pareto_khat`, but no tail where the weights are equal to rounding."""
    equal = len(log_w) > 20 and np.ptp(log_w) <= rounding
    return -math.inf if equal else pareto_khat(log_w)


def _center(q: AbstractDistribution) -> Vector:
    moments = q.moments()
    if moments is None:
        raise TypeError(
            f"inflate needs a q that knows its mean, such as a Gaussian, and {type(q).__name__} "
            "does not; write inflate=None."
        )
    return moments[0]


def _check_center(q: Proposal) -> None:
    eqx.filter_eval_shape(lambda q: _center(proposal_of(q, jnp.zeros((), int))), q)
