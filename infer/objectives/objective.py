"""Objectives as functions of the log weights log w_k = log p(x_k) - log q(x_k)."""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import Scalar


class AbstractObjective(eqx.Module):
    """A number F to be made large, computed from the log weights of K draws of q."""

    @abstractmethod
    def value(self, log_w: Float[Array, " K"]) -> Scalar:
        """F(log w): what is reported, never a surrogate."""

    @abstractmethod
    def path_weights(self, log_w: Float[Array, " K"]) -> Float[Array, " K"]:
        """Weights a_k with  grad F = E sum_k a_k (grad_x log w_k) (dx_k / dphi).

        The derivative of the score weight of draw k in its own log weight: the doubly
        reparametrized gradient (Tucker et al. 2019).
        """


class ReverseKL(AbstractObjective):
    """The evidence lower bound  F = (1/K) sum_k log w_k  <=  log Z.

    Its maximum is the member of the family with the smallest KL(q || p). Source: Jordan et al.,
    An introduction to variational methods for graphical models, Machine Learning 37 (1999).
    """

    def value(self, log_w: Float[Array, " K"]) -> Scalar:
        """The mean log weight."""
        return jnp.mean(log_w)

    def path_weights(self, log_w: Float[Array, " K"]) -> Float[Array, " K"]:
        """1/K each: sticking the landing."""
        return jnp.full_like(log_w, 1 / log_w.shape[0])
