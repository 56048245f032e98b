"""How likely rows are under a fitted model: by importance sampling, and by annealing."""

import jax

from infer.amortized import queries
from infer.amortized.encoded import Joint
from infer.amortized.model import AmortizedModel
from infer.core.data import Rows
from infer.core.types import PRNGKey
from infer.diagnostics.annealed_evidence import (
    AnnealedEvidence,
    Sandwich,
    annealed_evidence,
    sandwich,
)
from infer.diagnostics.evidence_bounds import ImportanceEvidence, importance_evidence


def importance(
    model: AmortizedModel,
    rows: Rows,
    key: PRNGKey,
    n_samples: int,
    chunk: int,
    inflate: float | None,
) -> ImportanceEvidence:
    """By draws of q(z | x)."""
    q = queries.posteriors(model, rows)
    if inflate is not None and q.discrete:
        raise ValueError("codes cannot be stretched about a mean; write inflate=None.")
    return importance_evidence(key, Joint(model), q, rows, n_samples, chunk, inflate)


def annealed(
    model: AmortizedModel, rows: Rows, key: PRNGKey, n_steps: int, n_chains: int
) -> AnnealedEvidence:
    """By chains from q(z | x) to the posterior."""
    q = queries.posteriors(model, rows)
    return annealed_evidence(key, Joint(model), q, rows, n_steps, n_chains)


def between(
    model: AmortizedModel, like: Rows, n: int, key: PRNGKey, n_steps: int, n_chains: int
) -> Sandwich:
    """From both sides, of rows that the model makes, `like` those of the fit."""
    if like.condition is not None or like.mask is not None:
        raise ValueError("sandwich makes rows itself, which have no condition and no mask.")
    key_rows, key_run = jax.random.split(key)
    z, x = queries.simulated(model, key_rows, n)
    rows = Rows(x)
    q = queries.posteriors(model, rows)
    return sandwich(key_run, Joint(model), q, rows, z, n_steps, n_chains)
