"""Targets whose minibatches have less noise."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.control_variate import ControlVariate
from infer.core.target import Target
from infer.core.types import Scalar, Vector
from infer.references.citation import cites
from infer.references.minibatches import BAKER_2019, JOHNSON_2013
from infer.result import Result
from infer.starts import starts_at


@eqx.filter_jit
def _value_and_score(target: Target, z: Vector) -> tuple[Scalar, Vector]:
    return target.value_and_score(z)


@cites(BAKER_2019, JOHNSON_2013)
def control_variates(target: Target, center: Any) -> Target:
    """The same target with minibatch scores that are exact at a center, for every minibatch method.

        mode = infer.fit(target.full(), infer.Laplace(), key=0)
        quiet = infer.control_variates(target, mode)
        result = infer.fit(quiet, infer.SGLD(), key=1)

    With c the center, whose score on all rows is computed here, once, and B the rows of a step:

        score(z) = score(c) + [score_B(z) - score_B(c)],

    the gradient of log p_B(z) + log p(c) - log p_B(c) + (z - c) . (score(c) - score_B(c)). Both are
    unbiased. The variance of the score falls like |z - c|^2 instead of being that of the rows: on
    linear regression with d standard normal covariates and N rows, at posterior draws with c at
    the mode, by a factor N / (d + 1). It is zero for the location of a Gaussian, and larger than
    before where c is far from the posterior. Cost: two gradients on each minibatch instead of one.

    To refresh the center on the way (SVRG), fit in rounds. The states go on as they are, and the
    new center, an array, compiles nothing:

        result = infer.fit(infer.control_variates(target, result), algorithm, key=2, init=result)

    The center does not move within a run, because it would have to be a state of the target: the
    same for all chains, and refreshed at steps that look at all rows.

    Args:
        target: a target that takes minibatches.
        center: parameters by name on their supports, as for `init` of `infer.fit`; or a `Result`
            of a target with the same sites, whose draws are averaged on the unconstrained scale.

    Returns:
        The target, with the center in it.

    Raises:
        ValueError: for a target without minibatches, or a center at which the log density or its
            gradient is not finite.

    Source: Baker, Fearnhead, Fox, Nemeth. Control variates for stochastic gradient MCMC. Statistics
    and Computing 29, 2019; Johnson, Zhang, NeurIPS 2013 (SVRG).
    """
    if target.exact:
        raise ValueError(
            "control_variates needs a target that takes minibatches, and this one uses all rows at "
            "every evaluation: it has no noise to reduce. Give it batch_size=."
        )
    full = dataclasses.replace(target.full(), control=None)
    z = _center(full, center)
    value, score = _value_and_score(full, z)
    if not (jnp.isfinite(value) & jnp.all(jnp.isfinite(score))):
        raise ValueError(
            "control_variates needs a center at which the log density and its gradient are finite, "
            f"here log p = {float(value)}; give a mode or a posterior mean."
        )
    return dataclasses.replace(target, control=ControlVariate(z, value, score))


def _center(full: Target, center: Any) -> Array:
    if not isinstance(center, Result):
        return starts_at(full, center, 1, "center")[0]
    sites = None if center.target is None else center.target.sites
    if sites != full.sites:
        raise ValueError(
            "the result in center= is of a target with other sites, or was loaded without its "
            "target; write center={name: value}."
        )
    mean = np.asarray(center.z, np.float64).reshape(-1, full.dim).mean(axis=0)
    return jnp.asarray(mean, jnp.zeros(()).dtype)
