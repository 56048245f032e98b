"""The Laplace approximation."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, positive
from infer.core.evidence import Evidence
from infer.core.outcome import Ending
from infer.core.stopping import AbstractStopping, Record
from infer.core.target import Target
from infer.core.types import PRNGKey
from infer.families.gaussian import DenseGaussian
from infer.gaussian import newton
from infer.references.citation import cites
from infer.references.gaussian import TIERNEY_1986


@dataclasses.dataclass(frozen=True)
class ModeFound(AbstractStopping):
    """Stop at a mode, or where the search for one ends without it.

    Attributes:
        every: steps between looks, >= 1. Steps after the end change nothing.
    """

    every: int = 5

    def __post_init__(self) -> None:
        """Refuse a rule that never looks."""
        check_count("ModeFound", "every", self.every, 5)

    def look(self, record: Record, thin: int) -> Ending | None:
        """The end that the algorithm recorded."""
        status = int(record["stats/status"][-1])
        if status == newton.RUNNING:
            return None
        return Ending.CONVERGED if status == newton.MODE else Ending.GAVE_UP

    def evidence(self, record: Record) -> Evidence:
        """Whether there is a mode to expand around."""
        name, threshold = "mode", "Hessian positive definite, small Newton decrement"
        status = int(record["stats/status"][-1]) if "stats/status" in record else newton.RUNNING
        smallest = float(record["stats/smallest_curvature"][-1]) if record else np.nan
        if status == newton.MODE:
            meaning = "a mode was found, with a positive definite Hessian"
            return Evidence(name, smallest, threshold, "ok", meaning)
        if smallest <= 0:
            meaning = (
                "no mode where the search ended: the Hessian is not positive definite (smallest "
                f"eigenvalue {smallest:.2g} of 1), so there is no Laplace approximation; absolute "
                "values were taken instead. Use infer.FBGVI(), which needs no mode"
            )
        else:
            meaning = (
                "no mode was reached: the density cannot be climbed any further (a hole, a kink), "
                "or the steps ran out. Take more steps, or infer.FBGVI(), which needs no mode"
            )
        return Evidence(name, smallest, threshold, "failed", meaning)

    def hint(self, record: Record) -> str:
        """What a Gaussian at a mode cannot do."""
        return "A Laplace approximation knows the mode only: try infer.FBGVI()"


@cites(TIERNEY_1986)
class Laplace(AbstractApproximator):
    """The Gaussian with the mode and the curvature of the density: N(m, H^-1), H = -hess log p(m).

    The mode is sought by saddle-free Newton steps, each in the frame of the last:

        L^T H L = Q diag(lam) Q^T,   a = max(|lam|, floor),   L <- L Q a^-1/2 Q^T,
        x <- x - t L L^T grad(-log p)(x),   t = 1, 1/2, ...

    so no step size is needed and no scale is too bad. Mode and curvature are those on the
    unconstrained scale, log Jacobian included.

    Cost per step: d Hessian-vector products and O(d^3); 5 to 20 steps.

    Args:
        tolerance: nats, > 0: a mode is reached when the Newton decrement g^T H^-1 g is below it.
        stopping: `infer.ModeFound()`, or None to take every step.

    Limits: where the Hessian is not positive definite there is no such Gaussian, and the verdict
    says `failed`. Mean and spread are those near the mode; `FBGVI` costs little more and finds the
    best Gaussian.

    Source: Tierney, Kadane. Accurate approximations for posterior moments and marginal densities.
    JASA 81, 1986.
    """

    tolerance: Array = eqx.field(converter=positive("tolerance", 1e-5), default=1e-5)
    stopping: AbstractStopping | None = eqx.field(static=True, default=ModeFound())
    exact_target: ClassVar[bool] = True
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = newton.MOST

    def init(self, key: PRNGKey, target: Target) -> newton.Path:
        """The path of no steps."""
        if not newton.twice_differentiable(target):
            raise TypeError(
                "Laplace needs Hessian-vector products, which JAX cannot form for this log "
                "density. Write infer.FBGVI(oracle=infer.Stein()), which needs gradients alone."
            )
        path = newton.begin(target, target.initial(key), 1.0)
        return eqx.tree_at(lambda p: p.score, path, jnp.zeros_like(path.score))  # none is kept

    def step(self, key: PRNGKey, target: Target, state: newton.Path) -> tuple[newton.Path, Info]:
        """One Newton step; none after the end."""
        done = state.status != newton.RUNNING
        new = newton.step(target, state, self.tolerance, None)
        new = jax.tree.map(lambda a, old: jnp.where(done, old, a).astype(old.dtype), new, state)
        stats = {
            "decrement": new.decrement,
            "smallest_curvature": new.smallest,
            "status": new.status,
        }
        spent = jnp.where(done, 0, target.dim + 1)
        return new, Info(new.value, spent, stats)

    def posterior(self, state: newton.Path) -> DenseGaussian:
        """N(x, L L^T)."""
        return DenseGaussian(state.x, state.frame)
