"""Estimators of the gradient of an objective: with which weights path and density enter."""

from abc import abstractmethod

import equinox as eqx
import jax
from jaxtyping import Array, Float

from infer.objectives.objective import AbstractObjective

Weights = Float[Array, " K"]


class AbstractEstimator(eqx.Module):
    """Weights (a, b) of an unbiased gradient from K draws x_k of q:

        grad F = E sum_k  a_k (grad log p - score)(x_k) dx_k/dphi  +  b_k (d log q_k/dphi - score dx_k/dphi)
    """  # noqa: D415, D205, E501

    @abstractmethod
    def coefficients(
        self, objective: AbstractObjective, log_w: Weights
    ) -> tuple[Weights, Weights]:
        """The weights a and b; constants of the gradient."""


class Reparam(AbstractEstimator):
    """The reparametrization gradient: autodiff of F through draws and density, a = g, b = -g.

    Keeps the mean-zero term -g d log q/dphi, so it is noisy even where q equals the posterior.
    Source: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014.
    """

    def coefficients(
        self, objective: AbstractObjective, log_w: Weights
    ) -> tuple[Weights, Weights]:
        """(g, -g) with g = dF/dlog w."""
        g = jax.grad(objective.value)(log_w)
        return g, -g


class Path(AbstractEstimator):
    """The path gradient, also known as sticking the landing: b = 0.

    Drops the mean-zero density term: the gradient is exactly zero, draw by draw, where q equals
    the posterior. Source: Roeder, Wu and Duvenaud, Sticking the landing, NeurIPS 2017.
    """

    def coefficients(
        self, objective: AbstractObjective, log_w: Weights
    ) -> tuple[Weights, Weights]:
        """(a, 0) with a the objective's path weights."""
        a = objective.path_weights(log_w)
        return a, 0 * a
