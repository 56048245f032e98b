"""Bounds of the log evidence."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from infer.core.types import Scalar
from infer.objectives.objective import AbstractObjective, Weights
from infer.references.citation import cites
from infer.references.variational import BURDA_2016, JORDAN_1999, LI_2016_RENYI, TUCKER_2019


def _renyi_order(alpha: ArrayLike) -> Array:
    if not isinstance(alpha, Tracer):
        if np.any(np.asarray(alpha) == 1):
            raise ValueError("Renyi of order alpha=1 is the limit ReverseKL(); write that.")
        if not np.all(np.asarray(alpha) >= 0):
            raise ValueError(
                f"Renyi needs alpha >= 0, got {alpha}: below 0 the bound is an upper one, to be "
                "made small; write infer.CUBO(order=2.0), which is alpha = -1."
            )
    return jnp.asarray(alpha, jnp.zeros(()).dtype)


@cites(JORDAN_1999)
class ReverseKL(AbstractObjective):
    """The evidence lower bound  F = sum_k mass_k log w_k  <=  log Z.

    Its maximum is the member of the family with the smallest KL(q || p).

    Source: Jordan et al., An introduction to variational methods for graphical models, Machine
    Learning 37 (1999).
    """

    linear: ClassVar[bool] = True
    bounded_path: ClassVar[bool] = True
    uses_mass: ClassVar[bool] = True

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """The mean log weight."""
        return jnp.sum(mass * log_w)

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """(log w_k - mean of the others) / K: leave-one-out, also known as VarGrad."""
        return (log_w - jnp.mean(log_w)) / (log_w.shape[0] - 1)

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The masses, 1/K each where they are equal: sticking the landing."""
        return mass


@cites(LI_2016_RENYI, TUCKER_2019)
class Renyi(AbstractObjective):
    """The variational Renyi bound  F = (1/n) log sum_k mass_k w_k^n  with n = 1 - alpha.

    For infinitely many draws it is log Z - D_alpha(q || p), falling in alpha: the evidence itself
    at alpha = 0, below the evidence lower bound beyond alpha = 1. With K draws, alpha = 0 is the
    importance weighted bound, see `IWAE`. The smaller alpha, the more q covers; the weights of few
    draws then decide each gradient. The path weights are, with W = softmax(n log w),

        a_k = (1 - n) W_k + n W_k^2

    Args:
        alpha: order, >= 0 and not 1, which is `ReverseKL()`.

    Source: Li and Turner, Renyi divergence variational inference, NeurIPS 2016; Tucker et al.,
    Doubly reparameterized gradient estimators, ICLR 2019.
    """

    alpha: Scalar = eqx.field(converter=_renyi_order)
    bounded_path: ClassVar[bool] = True
    uses_mass: ClassVar[bool] = True

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        n = 1 - self.alpha
        return jax.nn.logsumexp(n * log_w, b=mass) / n

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The path weights a."""
        n = 1 - self.alpha
        share = jax.nn.softmax(n * log_w + jnp.log(mass))
        return (1 - n) * share + n * share**2


@cites(BURDA_2016)
def IWAE() -> Renyi:
    """The importance weighted bound  F = log (1/K) sum_k w_k  <=  log Z, a preset of `Renyi`.

    Tighter with every draw. Its members cover more than the lower bound's; the ordinary gradient
    gets noisier as K grows, the one by `Path()` does not.

    Returns:
        A `Renyi` of order 0.

    Source: Burda, Grosse and Salakhutdinov, Importance weighted autoencoders, ICLR 2016.
    """
    return Renyi(0.0)
