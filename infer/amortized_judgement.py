"""From a finished run on rows to a result: is q(z | x) the posterior of this decoder?"""

import time

import jax
import numpy as np

from infer import verdict as rule
from infer.amortized import queries
from infer.amortized.encoded import Joint
from infer.amortized.model import AmortizedModel
from infer.amortized_result import AmortizedResult, fitted
from infer.core.algorithm import AbstractAmortizer
from infer.core.data import Data, Rows
from infer.core.evidence import Evidence, Status, Verdict
from infer.core.keys import Use, address
from infer.core.outcome import Outcome
from infer.core.stopping import LossSettled
from infer.core.types import PRNGKey
from infer.diagnostics.evidence_bounds import ImportanceEvidence, importance_evidence
from infer.result import Timings, best_restart
from infer.run.checkpoint import describe
from infer.run.loop import Plan, Trail

MOST_ROWS = 256  # held-out rows that are looked at
SAMPLES = 1000  # draws for each of them
CHUNK = 8192  # draws evaluated at once
UNSEEN = "whether the decoder is a good model of the data; other modes of q(z | x)"


def conclude_amortized(
    data: Data,
    algorithm: AbstractAmortizer,
    key: PRNGKey,
    plan: Plan,
    trail: Trail,
    outcome: Outcome,
) -> AmortizedResult:
    """The result of a run on rows, and the verdict on its posteriors."""
    clock = time.perf_counter()
    alive = int(np.sum(np.asarray(trail.carry.alive)))
    model = fitted(algorithm, trail)
    record = trail.record_of(best_restart(trail))
    stopping = LossSettled() if algorithm.stopping is None else algorithm.stopping
    evidence = [
        *judge_rows(data, model, address(key, Use.DRAW)),
        stopping.evidence(record),
        rule.account(outcome, alive, trail.taken),
    ]
    if "stats/skipped_steps" in record:
        evidence.append(rule.skipped(int(record["stats/skipped_steps"][-1]), trail.taken))
    return AmortizedResult(
        data=data,
        algorithm=algorithm,
        key=key,
        plan=plan,
        trail=trail,
        outcome=outcome,
        verdict=Verdict(tuple(evidence), UNSEEN),
        timings=Timings(
            trail.compile_seconds, trail.warmup_seconds, trail.seconds, time.perf_counter() - clock
        ),
        algorithm_name=type(algorithm).__name__,
        settings=describe(algorithm),
        known=model,
    )


def judge_rows(data: Data, model: AmortizedModel, key: PRNGKey) -> tuple[Evidence, ...]:
    """The evidence on at most 256 held-out rows, or training rows where none are held out."""
    if not model.head.has_density:
        meaning = (
            "this encoder gives points or codes without a density: nothing is claimed about the "
            "posterior of a row, and nothing was checked"
        )
        return (Evidence("no density", float("nan"), "", "info", meaning),)
    apart = data.held_out is not None
    rows = _some(data.held_out if data.held_out is not None else data, key)
    looked = _look(model, rows, key)
    if not np.isfinite(looked.elbo).all():
        bad = int(np.sum(~np.isfinite(looked.elbo)))
        meaning = (
            f"the log weights of {bad} of {len(looked.elbo)} rows are not finite: look for values "
            "outside the support of the likelihood, or take a smaller learning rate"
        )
        return (Evidence("finite rows", float(bad), "0", "failed", meaning),)
    use = queries.use_of(model, rows, key)
    evidence = [*_bounds(looked, apart), *_rows_off(looked, model.head.dim)]
    if apart:
        evidence.append(_overfit(looked, _look(model, _some(data, key), key)))
    active = float(use.active)
    evidence.append(Evidence("active latents", active, "activity > 0.01", "info", str(use)))
    return tuple(evidence)


def _some(data: Data, key: PRNGKey) -> Rows:
    """At most `MOST_ROWS` rows, chosen by the key."""
    rows, n = data.seen(key), data.total
    if n <= MOST_ROWS:
        return rows
    return rows.take(jax.random.choice(key, n, (MOST_ROWS,), replace=False))


def _look(model: AmortizedModel, rows: Rows, key: PRNGKey) -> ImportanceEvidence:
    return importance_evidence(
        key, Joint(model), queries.posteriors(model, rows), rows, SAMPLES, CHUNK
    )


def _bounds(looked: ImportanceEvidence, apart: bool) -> list[Evidence]:
    n = len(looked.elbo)
    rows = f"{n} held-out rows" if apart else f"{n} rows of the fit (none were held out)"
    elbo, log_p = float(np.mean(looked.elbo)), float(np.mean(looked.log_evidence))
    rising = float(np.mean(looked.curve[:, -1] - looked.curve[:, -2]))
    return [
        Evidence("ELBO", elbo, "", "info", f"evidence lower bound {elbo:.5g} nats per row, {rows}"),
        Evidence(
            "log evidence",
            log_p,
            "",
            "info",
            f"log p(x) is at least {log_p:.5g} nats per row by {SAMPLES} draws for each; the last "
            f"doubling of draws added {rising:.2g}",
        ),
    ]


def _rows_off(looked: ImportanceEvidence, d: int) -> list[Evidence]:
    """How many rows have a q that the verdict on a single posterior would not pass."""
    unit = max(1.0, d / 10)
    gap = looked.log_evidence - looked.elbo
    off, wrong = float(np.mean(gap > 0.1 * unit)), float(np.mean(~(gap <= unit)))
    status: Status = "failed" if wrong > 0.5 else "suspect" if off > 0.1 else "ok"
    middle, most = np.quantile(gap, [0.5, 0.9])
    meaning = (
        f"q(z | x) is at least {middle:.2g} nats (KL) from the posterior of this decoder for half "
        f"of the rows, {most:.2g} for a tenth of them"
    )
    if status != "ok":
        meaning += (
            ": draws of q are not draws of the posterior; a richer posterior= "
            "(infer.FullRank(1.0), infer.RealNVP()), a wider encoder or more steps bring it nearer"
        )
    shares = [float(np.mean(looked.khat > limit)) for limit in (0.7, 0.5)]
    heavy = (
        f"Pareto k-hat of the weights above 0.7 for {shares[0]:.0%} of the rows, above 0.5 (no "
        f"variance) for {shares[1]:.0%}"
    )
    if shares[0] > 0.1:
        heavy += ": log p(x) of those is too low by an unknown amount"
    limits = f"at most 10% of rows above {0.1 * unit:.2g} ok, half above {unit:.2g} failed"
    return [
        Evidence("KL gap", float(middle), limits, status, meaning),
        Evidence("k-hat", shares[0], "share of rows above 0.7", "info", heavy),
    ]


def _overfit(held_out: ImportanceEvidence, fitted: ImportanceEvidence) -> Evidence:
    fall = float(np.mean(fitted.elbo) - np.mean(held_out.elbo))
    error = float(np.hypot(*(np.std(e.elbo) / np.sqrt(len(e.elbo)) for e in (held_out, fitted))))
    meaning = f"the bound is {fall:.3g} +/- {error:.2g} nats lower on held-out rows than on fitted"
    if fall > max(3 * error, 1.0):
        meaning += ": the model has learned rows by heart; fewer steps or smaller networks"
    return Evidence("overfitting", fall, "", "info", meaning)
