"""A prior fitted to the codes of a model, after the model itself."""

import contextlib
import io
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from infer.amortized import queries
from infer.amortized.model import AmortizedModel
from infer.bridges.density import from_log_density
from infer.core.data import Rows
from infer.core.keys import Use, address
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import PRNGKey
from infer.families.gaussian import FullRank
from infer.families.mixture import Mixture
from infer.objectives.divergences import MaximumLikelihood
from infer.objectives.estimator import Score
from infer.optimizers.clipping import MedianClip
from infer.variational.vi import VI


def prior_of(
    model: AmortizedModel, rows: Rows, family: AbstractFamily | None, key: PRNGKey, steps: int
) -> AbstractDistribution:
    """The member of a family, by default a mixture, with the largest likelihood of the codes."""
    from infer.fit import fit

    if model.head.discrete:
        raise TypeError(
            "ex_post fits a density to codes, and these are of a finite set; write "
            "result.with_prior(infer.Empirical(result.encode()))."
        )
    codes = queries.codes(model, rows, address(key, Use.DRAW))
    vi = VI(
        family=Mixture(FullRank(scale=1.0), 10, spread=1.0) if family is None else family,
        objective=MaximumLikelihood(codes),
        estimator=Score(),
        n_samples=256,
        clip=MedianClip(),
    )
    flat = from_log_density(_nothing, {"z": codes[0]})
    with contextlib.redirect_stderr(io.StringIO()):  # there is no posterior to judge
        fitted: Any = fit(flat, vi, key=key, steps=steps, draws=1, progress=False)
    assert isinstance(fitted.posterior, AbstractDistribution)
    return fitted.posterior


def _nothing(params: dict[str, Array]) -> Array:
    """The log density that is 0 everywhere."""
    return 0.0 * jnp.sum(params["z"])
