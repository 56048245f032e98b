"""Variational inference with any family, objective, estimator and optimizer."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.stopping import LossSettled
from infer.core.target import Target
from infer.core.types import Count, PRNGKey
from infer.families.gaussian import FullRank, MeanField
from infer.objectives.engine import estimate
from infer.objectives.estimator import AbstractEstimator, Reparam
from infer.objectives.objective import AbstractObjective, ReverseKL
from infer.optimizers.averaging import average
from infer.optimizers.optimizer import Optimizer, check_optimizer, optimizer


class _State(eqx.Module):
    q: AbstractDistribution
    average: AbstractDistribution
    optimizer: optax.OptState
    t: Count


class VI(AbstractApproximator):
    """Fits a family of distributions q_phi by stochastic gradient ascent on an objective.

        phi_t = phi_{t-1} + optimizer(gradient of F at phi_{t-1} from n_samples draws of q)
        average_t = average_{t-1} + (9 / (t + 8)) (phi_t - average_{t-1})

    The posterior is the average of the parameters, weighted towards the end of the run
    (polynomial-decay averaging, Shamir and Zhang, ICML 2013), so that a constant step size leaves
    no noise to speak of. Cost per step: `n_samples` gradients of the target.

    A Gaussian family cannot follow skewed, heavy-tailed, funnel-shaped or multimodal posteriors;
    the verdict of the result says so where it happens.

    Args:
        family: shape of q: `FullRank()`, `MeanField()`, `LowRank()`, `RealNVP()`, `SplineFlow()`,
            `LogisticMixtureFlow()`.
        objective: what is maximized: `ReverseKL()`.
        estimator: how its gradient is estimated. `Reparam()` has the exact entropy of a Gaussian
            and is steady from far starts; `Path()` loses all noise at a Gaussian posterior, but
            with a full covariance in tens of dimensions it needs a small learning rate.
        optimizer: any optax transformation. `infer.optimizer(optax.adam, learning_rate=0.02)`
            keeps the learning rate out of the compiled program.
        n_samples: draws of q per step, >= 1.
        stopping: a `LossSettled` rule, or None to take every step.

    Source: Kucukelbir et al., Automatic differentiation variational inference, JMLR 18 (2017).
    """

    family: AbstractFamily = eqx.field(default_factory=FullRank)
    objective: AbstractObjective = eqx.field(default_factory=ReverseKL)
    estimator: AbstractEstimator = eqx.field(default_factory=Reparam)
    optimizer: Optimizer | optax.GradientTransformation = eqx.field(
        default_factory=lambda: optimizer(optax.adam, learning_rate=0.02)
    )
    n_samples: int = eqx.field(static=True, default=8)
    stopping: LossSettled | None = eqx.field(static=True, default=LossSettled())
    exact_target: ClassVar[bool] = False
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 20_000
    source: ClassVar[str] = (
        "Kucukelbir, Tran, Ranganath, Gelman, Blei. Automatic differentiation variational "
        "inference. JMLR 18(14), 2017."
    )

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        if not isinstance(self.family, AbstractFamily):
            raise TypeError(f"VI needs family=infer.FullRank() or the like, got {self.family!r}.")
        if not isinstance(self.objective, AbstractObjective):
            raise TypeError(f"VI needs objective=infer.ReverseKL(), got {self.objective!r}.")
        if not isinstance(self.estimator, AbstractEstimator):
            raise TypeError(
                f"VI needs estimator=infer.Reparam() or infer.Path(), got {self.estimator!r}."
            )
        check_optimizer(self.optimizer, "VI")
        check_count("VI", "n_samples", self.n_samples, 8)

    def init(self, key: PRNGKey, target: Target) -> _State:
        """The family's first member at `target.initial(key)`."""
        key_start, key_family = jax.random.split(key)
        q: Any = self.family.init(key_family, target.initial(key_start))
        return _State(q, q, self.optimizer.init(q), jnp.zeros((), int))

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """One step of the optimizer."""
        value, ascent = estimate(
            key, target, state.q, self.objective, self.estimator, self.n_samples
        )
        descent = jax.tree.map(jnp.negative, ascent)
        before: Any = state.q
        updates, opt_state = self.optimizer.update(descent, state.optimizer, before)
        q = jax.tree.map(jnp.add, before, updates)
        info = Info(-value, jnp.asarray(self.n_samples), {})
        return _State(q, average(state.average, q, state.t), opt_state, state.t + 1), info

    def posterior(self, state: _State) -> AbstractDistribution:
        """The averaged member of the family."""
        return state.average


def ADVI(full_rank: bool = False, **settings: Any) -> VI:
    """Automatic differentiation variational inference as Stan has it: a preset of `VI`.

    Args:
        full_rank: full covariance instead of a diagonal one.
        settings: any argument of `VI`.
    """
    return VI(family=FullRank() if full_rank else MeanField(), **settings)
