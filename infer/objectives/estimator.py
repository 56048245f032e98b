"""Estimators of the gradient of an objective: with which weights path and density enter."""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Float

from infer.objectives.objective import AbstractObjective

Weights = Float[Array, " K"]


class Coefficients(NamedTuple):
    """Constant weights per draw of the three parts of a gradient; None for a part that is absent.

        grad F = E sum_k  <path_k s_k + score_k (grad log q)(x_k), dx_k/dphi>
                          + density_k dlog q_k/dphi

    with s_k = grad log p(x_k); what is None is not computed.
    """

    path: Weights
    score: Weights | None
    density: Weights | None


class AbstractEstimator(eqx.Module):
    """Says with which weights path, score and density of the draws enter a gradient."""

    @abstractmethod
    def coefficients(self, objective: AbstractObjective, log_w: Weights) -> Coefficients:
        """The weights of an unbiased gradient; constants, not differentiated."""


class Reparam(AbstractEstimator):
    """The reparametrization gradient: autodiff of F through draws and density.

        path = g,  score = 0,  density = -g,   g = dF/dlog w

    For a Gaussian the density term is the exact gradient of the entropy; the noise that remains
    does not vanish where q equals the posterior. Source: Kingma and Welling, Auto-encoding
    variational Bayes, ICLR 2014.
    """

    def coefficients(self, objective: AbstractObjective, log_w: Weights) -> Coefficients:
        """(g, absent, -g)."""
        g = jax.grad(objective.value)(log_w)
        return Coefficients(g, None, -g)


class Path(AbstractEstimator):
    """The path gradient, also known as sticking the landing.

        path = a,  score = -a,  density = 0,   a = path weights of the objective

    Drops the mean-zero density term: the gradient is exactly zero, draw by draw, where q equals
    the posterior. Source: Roeder, Wu and Duvenaud, Sticking the landing, NeurIPS 2017.
    """

    def coefficients(self, objective: AbstractObjective, log_w: Weights) -> Coefficients:
        """(a, -a, absent)."""
        a = objective.path_weights(log_w)
        return Coefficients(a, -a, None)


StickTheLanding = Path
