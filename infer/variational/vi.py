"""Variational inference with any family, objective, estimator and optimizer."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.stopping import LossSettled
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar
from infer.families.gaussian import FullRank, MeanField
from infer.families.product import Product
from infer.objectives.bounds import ReverseKL
from infer.objectives.by_site import BySite
from infer.objectives.engine import estimate, log_weights
from infer.objectives.estimator import AbstractEstimator, Reparam, check_pair
from infer.objectives.objective import AbstractObjective
from infer.optimizers.averaging import average
from infer.optimizers.clipping import MedianClip
from infer.optimizers.optimizer import Optimizer, check_optimizer, optimizer
from infer.references.citation import cites
from infer.references.variational import KUCUKELBIR_2017, SHAMIR_2013
from infer.variational.best import Contest


class _State(eqx.Module):
    q: AbstractDistribution
    average: AbstractDistribution
    optimizer: optax.OptState
    t: Count
    norms: Float[Array, " window"] | None
    skipped: Count
    loss: Scalar
    contest: Contest | None


@cites(KUCUKELBIR_2017, SHAMIR_2013)
class VI(AbstractApproximator):
    """Fits a family of distributions q_phi by stochastic gradient ascent on an objective.

        phi_t = phi_{t-1} + optimizer(gradient of F at phi_{t-1} from n_samples draws of q)
        average_t = average_{t-1} + (9 / (t + 8)) (phi_t - average_{t-1})

    The posterior is the average of the parameters, weighted towards the end of the run (polynomial-
    decay averaging), so that a constant step size leaves no noise to speak of.

    Cost per step: `n_samples` gradients of the target and as many draws and densities of q: O(d) of
    mean field, O(d^2) of a full covariance, O(d r) of rank r.

    Args:
        family: shape of q: `FullRank()`, `MeanField()`, `LowRank()`, `StudentT()`, `Mixture()`,
            `Product({...})`, `RejectionSampled(...)`; the flows `RealNVP()`, `SplineFlow()`,
            `LogisticMixtureFlow()`, `AutoregressiveFlow()`, `StackedFlow()`.
        objective: what is maximized: `ReverseKL()`, `IWAE()`, `Renyi(alpha)`, `CUBO()`,
            `ForwardKL()`, `ChiSquare()`, `FDivergence(f)`, `LogVariance()`, `TailAdaptive()`,
            `MaximumLikelihood(draws)`, or `Objective(function)` of your own.
        estimator: how its gradient is estimated. `Reparam()` has the exact entropy of a Gaussian
            and is steady from far starts; `Path()` loses all noise at the posterior, but with a
            full covariance in tens of dimensions it needs a small learning rate; `Annealed()` goes
            from the one to the other; `Score()` does without gradients of the target;
            `BySite({...})` has one for each factor of a `Product`. Pairs of objective and
            estimator that would be biased are refused.
        optimizer: any optax transformation. `infer.optimizer(optax.adam, learning_rate=0.02)`
            keeps the learning rate out of the compiled program.
        n_samples: draws of q per step, >= 1.
        at_once: draws held in memory at a time, a divisor of `n_samples`; all of them if None.
            Blocks cost one more draw and density per draw, see `infer.objectives.estimate`.
        clip: `MedianClip()` shortens gradients that are unusually long and refuses to step along
            those that are not finite; None takes them as they are.
        keep_best: the posterior is the best of the averages seen every `keep_best` steps, >= 10,
            each judged by the mean objective on fresh draws over the next `keep_best` steps: for
            objectives and rates that let a good fit go again. Costs `n_samples` densities more per
            step. None: the last average.
        stopping: a `LossSettled` rule, or None to take every step.

    Limits: a Gaussian family cannot follow skewed, heavy-tailed, funnel-shaped or multimodal
    posteriors; the verdict of the result says so where it happens.

    Source: Kucukelbir et al., Automatic differentiation variational inference, JMLR 18 (2017); the
    average: Shamir and Zhang, ICML 2013.
    """

    family: AbstractFamily = eqx.field(default_factory=FullRank)
    objective: AbstractObjective = eqx.field(default_factory=ReverseKL)
    estimator: AbstractEstimator | BySite = eqx.field(default_factory=Reparam)
    optimizer: Optimizer | optax.GradientTransformation = eqx.field(
        default_factory=lambda: optimizer(optax.adam, learning_rate=0.02)
    )
    n_samples: int = eqx.field(static=True, default=8)
    at_once: int | None = eqx.field(static=True, default=None)
    clip: MedianClip | None = None
    keep_best: int | None = eqx.field(static=True, default=None)
    stopping: LossSettled | None = eqx.field(static=True, default=LossSettled())
    exact_target: ClassVar[bool] = False
    particles: ClassVar[bool] = False
    spreads_samples: ClassVar[bool] = True
    default_steps: ClassVar[int] = 20_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        if not isinstance(self.family, AbstractFamily):
            raise TypeError(f"VI needs family=infer.FullRank() or the like, got {self.family!r}.")
        if not isinstance(self.objective, AbstractObjective):
            raise TypeError(
                f"VI needs objective=infer.ReverseKL() or the like, got {self.objective!r}; for a "
                "function of your own write objective=infer.Objective(function)."
            )
        if not isinstance(self.estimator, AbstractEstimator | BySite):
            raise TypeError(
                f"VI needs estimator=infer.Reparam() or infer.Path(), got {self.estimator!r}."
            )
        if isinstance(self.estimator, BySite) and not isinstance(self.family, Product):
            raise TypeError(
                f"VI with estimator=BySite needs a Product, got {type(self.family).__name__}; "
                'write family=infer.Product({"mu": infer.FullRank(), ...}), or one estimator.'
            )
        check_optimizer(self.optimizer, "VI")
        check_count("VI", "n_samples", self.n_samples, 8)
        check_count("VI", "at_once", self.at_once, 1000, optional=True)
        if self.at_once is not None and self.n_samples % self.at_once:
            raise ValueError(
                f"VI needs at_once to divide n_samples={self.n_samples}, got {self.at_once}; write "
                f"n_samples={self.at_once * max(1, self.n_samples // self.at_once)}."
            )
        for family, estimator in self._pairs():
            of_draws = (family.sampling, self.n_samples, family.fixed_noise)
            check_pair("VI", self.objective, estimator, *of_draws)
        if self.clip is not None and not isinstance(self.clip, MedianClip):
            raise TypeError(f"VI needs clip=infer.MedianClip() or None, got {self.clip!r}.")
        check_count("VI", "keep_best", self.keep_best, 500, least=10, optional=True)

    def init(self, key: PRNGKey, target: Target) -> _State:
        """The family's first member at `target.initial(key)`."""
        self.objective.check(target.dim)
        key_start, key_family = jax.random.split(key)
        start = target.initial(key_start)
        q: Any = self.family.on(target).init(key_family, start)
        zero = jnp.zeros((), int)
        return _State(
            q,
            q,
            self.optimizer.init(q),
            zero,
            None if self.clip is None else self.clip.init(start.dtype),
            zero,
            jnp.full((), jnp.inf, start.dtype),
            None if self.keep_best is None else Contest.among(q, start.dtype),
        )

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """One step of the optimizer."""
        value, ascent = estimate(
            key,
            target,
            state.q,
            self.objective,
            self._aligned().at(state.t),
            self.n_samples,
            self.at_once,
        )
        loss, descent = -value, jax.tree.map(jnp.negative, ascent)
        norms, skipped, stats = state.norms, state.skipped, {}
        keep = None
        if self.clip is not None:
            assert norms is not None
            descent, keep, norms = self.clip.apply(norms, descent, state.t)
            keep &= jnp.isfinite(loss)
            skipped += ~keep
            stats = {"gradient_norm": norms[state.t % self.clip.window], "skipped_steps": skipped}
        before: Any = state.q
        updates, opt_state = self.optimizer.update(descent, state.optimizer, before)
        q = jax.tree.map(jnp.add, before, updates)
        if keep is not None:
            # A refused step leaves all as it was, and repeats the loss of the last one taken.
            q, opt_state, loss = jax.tree.map(
                lambda new, old: jnp.where(keep, new, old),
                (q, opt_state, loss),
                (before, state.optimizer, state.loss),
            )
        mean = average(state.average, q, state.t)
        contest = state.contest
        if contest is not None:
            assert self.keep_best is not None
            held_out = self.objective.value(
                *log_weights(
                    jax.random.fold_in(key, 1),
                    target,
                    contest.candidate,
                    self.objective,
                    self.n_samples,
                    self.at_once,
                )
            )
            contest = contest.judged(held_out, mean, state.t, self.keep_best)
        info = Info(loss, jnp.asarray(self.n_samples), stats)
        return (
            _State(q, mean, opt_state, state.t + 1, norms, skipped, loss, contest),
            info,
        )

    def posterior(self, state: _State) -> AbstractDistribution:
        """The averaged member of the family, or the best of those that were kept."""
        if state.contest is None:
            return state.average
        return state.contest.winner(state.average)

    def _aligned(self) -> AbstractEstimator | BySite:
        """The estimator; those by site in the order of the factors."""
        if isinstance(self.estimator, BySite) and isinstance(self.family, Product):
            return self.estimator.of(self.family.groups)
        return self.estimator

    def _pairs(self) -> list[tuple[AbstractFamily, AbstractEstimator]]:
        """What draws, and by which estimator it is fitted."""
        estimator = self._aligned()
        if isinstance(estimator, BySite) and isinstance(self.family, Product):
            return list(zip(self.family.families, estimator.estimators, strict=True))
        assert isinstance(estimator, AbstractEstimator)
        return [(self.family, estimator)]


@cites(KUCUKELBIR_2017)
def ADVI(full_rank: bool = False, **settings: Any) -> VI:
    """Automatic differentiation variational inference as Stan has it: a preset of `VI`.

    Args:
        full_rank: full covariance instead of a diagonal one.
        settings: any argument of `VI`.

    Returns:
        A `VI`.

    Source: Kucukelbir et al., Automatic differentiation variational inference, JMLR 18 (2017).
    """
    return VI(family=FullRank() if full_rank else MeanField(), **settings)
