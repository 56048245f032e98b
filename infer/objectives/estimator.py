"""Estimators of the gradient of an objective: with which weights path and density enter."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.checks import check_count
from infer.core.posterior import Sampling
from infer.core.types import Count, Scalar
from infer.objectives.objective import AbstractObjective, Weights
from infer.references.citation import cites
from infer.references.variational import (
    KINGMA_2014,
    MNIH_2016,
    ROEDER_2017,
    TUCKER_2019,
    WILLIAMS_1992,
)

MOVING = "and noise that depends on the parameters, as that of this family does,"
TIED = "and the draws of this family depend on one another (parts, pairs, an even spread)"
FIXED = "its draws are points that do not move with the parameters"


class Coefficients(NamedTuple):
    """Constant weights per draw of the parts of a gradient; None for a part that is absent.

        grad F = E sum_k  <path_k s_k + score_k (grad log q)(x_k), dx_k/dphi>
                          + density_k dlog q_k/dphi + mass_k dmass_k/dphi

    with s_k = grad log p(x_k); what is None is not computed.
    """

    path: Weights | None
    score: Weights | None
    density: Weights | None
    mass: Weights | None


class AbstractEstimator(eqx.Module):
    """Says with which weights path, score, density and mass of the draws enter a gradient.

    Attributes:
        uses_gradient: is the gradient of the target asked for, or its value alone?
    """

    uses_gradient: ClassVar[bool] = True

    @abstractmethod
    def refusal(
        self, objective: AbstractObjective, sampling: Sampling, n_samples: int
    ) -> str | None:
        """Why this pair gives no unbiased gradient, as the end of a sentence; None if it does."""

    @abstractmethod
    def coefficients(
        self,
        objective: AbstractObjective,
        log_w: Weights,
        mass: Weights,
        beta: Scalar | None = None,
    ) -> Coefficients:
        """The weights of an unbiased gradient; constants, not differentiated.

        With `beta` the log weights are log p - beta log q. Score and path weights fall with the
        slope g = dF/dlog w once by how log w_k depends on log q(x_k), now beta times:

            v + (1 - beta) g,   (1 - beta) g + beta a

        which holds for beta = 0, where q has no part in the weights, too.
        """

    def at(self, t: Count) -> "AbstractEstimator":
        """The estimator at step t of a run; itself, unless it changes on the way."""
        return self


@cites(KINGMA_2014)
class Reparam(AbstractEstimator):
    """The reparametrization gradient: autodiff of F through draws and density.

        path = g,  score = 0,  density = -g,   g = dF/dlog w

    For a Gaussian the density term is the exact gradient of the entropy; the noise that remains
    does not vanish where q equals the posterior.

    Source: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014.
    """

    def refusal(
        self, objective: AbstractObjective, sampling: Sampling, n_samples: int
    ) -> str | None:
        """Refused where draws do not move, and where the gradient is no derivative of the value."""
        if sampling in (Sampling.DISCRETE, Sampling.EXHAUSTIVE):
            return FIXED
        if sampling is Sampling.RELAXED and not objective.linear:
            return (
                "it is not linear in the log weights, and relaxed draws have no density of their "
                "own, only the entropy of the distribution that they relax"
            )
        if not objective.derivative:
            return "its gradient holds the draws fixed, so it is not the derivative of its value"
        return None

    def coefficients(
        self,
        objective: AbstractObjective,
        log_w: Weights,
        mass: Weights,
        beta: Scalar | None = None,
    ) -> Coefficients:
        """(g, absent, -g, dF/dmass)."""
        g, by_mass = jax.grad(objective.value, argnums=(0, 1))(log_w, mass)
        return Coefficients(g, None, -g if beta is None else -beta * g, by_mass)


@cites(ROEDER_2017, TUCKER_2019)
class Path(AbstractEstimator):
    """The path gradient: sticking the landing, and the doubly reparametrized gradient.

        path = a,  score = -a,  density = 0,   a = path weights of the objective

    Drops the mean-zero density term: the gradient is exactly zero, draw by draw, where q equals the
    posterior. For a bound that is not linear in the log weights the weights a are not dF/dlog w,
    and draws have to be independent.

    Source: Roeder, Wu and Duvenaud, Sticking the landing, NeurIPS 2017; Tucker et al., Doubly
    reparameterized gradient estimators, ICLR 2019.
    """

    def refusal(
        self, objective: AbstractObjective, sampling: Sampling, n_samples: int
    ) -> str | None:
        """Refused where draws do not move, and if dependent for a nonlinear objective."""
        if sampling in (Sampling.DISCRETE, Sampling.EXHAUSTIVE):
            return FIXED
        if sampling is Sampling.RELAXED:
            return "relaxed draws have no density, whose path gradient it needs"
        if sampling in (Sampling.DEPENDENT, Sampling.QUADRATURE) and not objective.linear:
            return f"it is not linear in the log weights, which needs independent draws, {TIED}"
        return None

    def coefficients(
        self,
        objective: AbstractObjective,
        log_w: Weights,
        mass: Weights,
        beta: Scalar | None = None,
    ) -> Coefficients:
        """(a, -a, absent, dF/dmass)."""
        a = objective.path_weights(log_w, mass)
        g, by_mass = jax.grad(objective.value, argnums=(0, 1))(log_w, mass)
        if beta is None:
            return Coefficients(a, -a, None, by_mass)
        a = (1 - beta) * g + beta * a
        return Coefficients(a, -beta * a, None, by_mass)


StickTheLanding = Path


@cites(WILLIAMS_1992, MNIH_2016)
class Score(AbstractEstimator):
    """The score gradient, draws held fixed: no gradient of the target is asked for.

        density = v,  score = -v,  path = 0,   v = score weights of the objective

    v contains a leave-one-out baseline (REINFORCE with it for the lower bound, VIMCO for the
    importance weighted one), without which it would be useless; with it the noise vanishes where q
    equals the posterior. Elsewhere it is larger than that of `Path` and grows with the dimension:
    for targets that have no gradient, and for gradients to compare with. At least 2 independent
    draws.

    Source: Williams, Simple statistical gradient-following algorithms, Machine Learning 8 (1992);
    Mnih and Rezende, Variational inference for Monte Carlo objectives, ICML 2016.
    """

    uses_gradient: ClassVar[bool] = False

    def refusal(
        self, objective: AbstractObjective, sampling: Sampling, n_samples: int
    ) -> str | None:
        """Refused for a single draw, for dependent ones, and where no score weights are known."""
        if not objective.from_score:
            return "its score weights are not known"
        if sampling is Sampling.EXHAUSTIVE:
            return "its draws are all points that there are, of which no expectation is estimated"
        if sampling is Sampling.RELAXED:
            return "relaxed draws have no density"
        if sampling in (Sampling.DEPENDENT, Sampling.QUADRATURE):
            return f"a baseline from the other draws needs independent ones, {TIED}"
        if n_samples < 2:
            return "a baseline from the other draws needs n_samples >= 2"
        return None

    def coefficients(
        self,
        objective: AbstractObjective,
        log_w: Weights,
        mass: Weights,
        beta: Scalar | None = None,
    ) -> Coefficients:
        """(absent, -v, v, absent)."""
        v = objective.score_weights(log_w, mass)
        if beta is not None:
            v += (1 - beta) * jax.grad(objective.value)(log_w, mass)
        return Coefficients(None, -v, v, None)


class Enumerate(AbstractEstimator):
    """The exact gradient where draws are all points of a discrete q, with q as their masses.

        density = -g,  mass = dF/dmass,  path = score = 0,   g = dF/dlog w

    Nothing is estimated, so it has no noise, and `n_samples` has no part in it. Cost: the model at
    every point. The importance weighted bound is then the evidence itself, whatever q, so that its
    gradient in q is zero: write objective=(infer.ReverseKL(), infer.IWAE()) to fit the model by it
    and q by the lower bound.
    """

    uses_gradient: ClassVar[bool] = False

    def refusal(
        self, objective: AbstractObjective, sampling: Sampling, n_samples: int
    ) -> str | None:
        """Refused where draws are not all points, or an objective does not count them by mass."""
        if sampling is not Sampling.EXHAUSTIVE:
            return "its draws are not all points that there are"
        if not objective.uses_mass:
            return (
                "it is not known to be exact for all points that there are, counted by their masses"
            )
        if n_samples != 1:
            return f"there is nothing to take n_samples={n_samples} of, all points are looked at"
        return None

    def coefficients(
        self,
        objective: AbstractObjective,
        log_w: Weights,
        mass: Weights,
        beta: Scalar | None = None,
    ) -> Coefficients:
        """(absent, absent, -g, dF/dmass)."""
        g, by_mass = jax.grad(objective.value, argnums=(0, 1))(log_w, mass)
        return Coefficients(None, None, -g if beta is None else -beta * g, by_mass)


class Annealed(AbstractEstimator):
    """From the reparametrization gradient to the path gradient, over the first steps of a run.

        (1 - b) Reparam() + b Path(),   b = min(t / steps, 1)

    `Reparam()` is steady far from the posterior and `Path()` quiet near it; every mixture of the
    two is unbiased.

    Args:
        steps: t at which the path gradient stands alone, >= 1; part of the program.
    """

    steps: int = eqx.field(static=True, default=1000)

    def __check_init__(self) -> None:
        """Refuse what is no number of steps."""
        check_count("Annealed", "steps", self.steps, 1000)

    def refusal(
        self, objective: AbstractObjective, sampling: Sampling, n_samples: int
    ) -> str | None:
        """Refused where either of the two is."""
        return Reparam().refusal(objective, sampling, n_samples) or Path().refusal(
            objective, sampling, n_samples
        )

    def coefficients(
        self,
        objective: AbstractObjective,
        log_w: Weights,
        mass: Weights,
        beta: Scalar | None = None,
    ) -> Coefficients:
        """Those of `Reparam`, with which it begins."""
        return self.at(jnp.zeros((), int)).coefficients(objective, log_w, mass, beta)

    def at(self, t: Count) -> AbstractEstimator:
        """The mixture of step t."""
        return _Mixture(jnp.minimum(t / self.steps, 1))


class _Mixture(AbstractEstimator):
    """(1 - b) Reparam() + b Path()."""

    b: Scalar

    def refusal(
        self, objective: AbstractObjective, sampling: Sampling, n_samples: int
    ) -> str | None:
        return None

    def coefficients(
        self,
        objective: AbstractObjective,
        log_w: Weights,
        mass: Weights,
        beta: Scalar | None = None,
    ) -> Coefficients:
        total = Reparam().coefficients(objective, log_w, mass, beta)
        path = Path().coefficients(objective, log_w, mass, beta)
        b = self.b.astype(log_w.dtype)
        assert total.path is not None and path.path is not None
        assert total.density is not None and path.score is not None
        along = (1 - b) * total.path + b * path.path
        return Coefficients(along, b * path.score, (1 - b) * total.density, total.mass)


ESTIMATORS: tuple[AbstractEstimator, ...] = (Reparam(), Path(), Score(), Enumerate())


def valid_estimators(
    objective: AbstractObjective, sampling: Sampling, n_samples: int, fixed_noise: bool = True
) -> tuple[AbstractEstimator, ...]:
    """Those that are unbiased for an objective, given how draws are made and how many."""
    given = (sampling, n_samples, fixed_noise)
    return tuple(e for e in ESTIMATORS if _refusal(e, objective, *given) is None)


def _refusal(
    estimator: AbstractEstimator,
    objective: AbstractObjective,
    sampling: Sampling,
    n_samples: int,
    fixed_noise: bool,
) -> str | None:
    """Why the pair is refused, by itself or for noise that moves where draws do."""
    reason = estimator.refusal(objective, sampling, n_samples)
    if reason is None and not fixed_noise and estimator.uses_gradient:
        if not objective.linear:
            reason = f"it is not linear in the log weights, {MOVING} needs an objective that is"
        elif n_samples < 2:
            reason = f"a single draw has no baseline, {MOVING} needs n_samples >= 2"
    return reason


def check_pair(
    owner: str,
    objective: AbstractObjective,
    estimator: AbstractEstimator,
    sampling: Sampling,
    n_samples: int,
    fixed_noise: bool = True,
) -> None:
    """Refuse an estimator that would be biased, naming those that are not."""
    name = type(objective).__name__
    if objective.own_draws:
        sampling = Sampling.INDEPENDENT
    if sampling is Sampling.QUADRATURE and not objective.linear:
        raise ValueError(
            f"{owner} cannot have objective={name} with draws that are not random, since it is not "
            "linear in the log weights; write "
            "objective=infer.ReverseKL(), or infer.Antithetic() for infer.SigmaPoints()."
        )
    lacking = None if sampling is Sampling.EXHAUSTIVE else objective.samples_refusal(n_samples)
    if lacking is not None:
        raise ValueError(f"{owner} with objective={name} needs {lacking}.")
    reason = _refusal(estimator, objective, sampling, n_samples, fixed_noise)
    if reason is not None:
        raise ValueError(
            f"{owner} cannot have objective={name} with estimator={type(estimator).__name__}: "
            f"{reason}; write {_instead(objective, sampling, n_samples, fixed_noise)}."
        )


def _instead(
    objective: AbstractObjective, sampling: Sampling, n_samples: int, fixed_noise: bool
) -> str:
    """What is valid, with another number of draws if need be, or another objective."""
    for n in (n_samples, 1 if sampling is Sampling.EXHAUSTIVE else 8):
        valid = valid_estimators(objective, sampling, n, fixed_noise)
        if valid:
            names = " or ".join(f"infer.{type(e).__name__}()" for e in valid)
            return f"estimator={names}" + (f", n_samples={n}" if n != n_samples else "")
    return "objective=infer.ReverseKL()"
