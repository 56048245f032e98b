"""Objectives as functions of the log weights log w_k = log p(x_k) - log q(x_k)."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.posterior import AbstractDistribution, Draws
from infer.core.types import PRNGKey, Scalar

Weights = Float[Array, " K"]


class AbstractObjective(eqx.Module):
    """A number F(log w, mass) to be made large, computed from the log weights of K draws of q.

    Only `value` has to be written. With g_k = dF/dlog w_k and z_1 ... z_K independent draws,

        v_k = (F - g_k) - (F - g_k  where log w_k is the mean of the others)
        a_k = dv_k/dlog w_k = g_k - d^2 F/dlog w_k^2
        grad E F = E sum_k v_k (grad log q)(z_k) = E sum_k a_k (grad_z log w_k) dz_k/dphi

    The first is the score gradient, with what draw k alone does not decide as its baseline:
    leave-one-out, and VIMCO for the importance weighted bound, but also without noise where q is
    the posterior. The second is its reparametrization: sticking the landing and DReG.

    Attributes:
        linear: is F a sum over draws of mass_k log w_k? Then draws need not be independent.
        derivative: is the gradient that of E F, so that autodiff of F gives it too?
        uses_mass: is F the same for a draw of mass m as for it twice with m/2? Then all points of a
            discrete q with their probabilities give its exact value.
        from_score: does `score_weights` say what the gradient is? Else `path_weights` alone does.
        bounded_path: is a_k at most a constant times g_k, so that it vanishes where g_k does?
        own_draws: does it bring draws of its own, however q makes its draws?
        least_samples: draws below which the gradient says nothing, >= 1.
    """

    linear: ClassVar[bool] = False
    derivative: ClassVar[bool] = True
    uses_mass: ClassVar[bool] = False
    from_score: ClassVar[bool] = True
    bounded_path: ClassVar[bool] = False
    own_draws: ClassVar[bool] = False
    least_samples: ClassVar[int] = 1

    @abstractmethod
    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F, for draws of these masses (summing to one): what is reported, never a surrogate."""

    def samples_refusal(self, n_samples: int) -> str | None:
        """What this number of draws lacks, as the end of "needs ..."; None if nothing."""
        if n_samples < self.least_samples:
            return f"n_samples >= {self.least_samples}, got {n_samples}; write n_samples=8"
        return None

    def check(self, dim: int) -> None:
        """Refuse a target of this dimension; called before anything is compiled."""

    def draw(self, key: PRNGKey, q: AbstractDistribution, n: int, moving: bool) -> Draws:
        """The draws that log weights are taken of: n of q, unless the objective has others.

        `moving` asks for draws that are differentiable in the parameters of q.
        """
        return q.sample_score(key, n)

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The score weights v. Cost O(K) evaluations of F and its gradient, and K x K numbers."""
        both = jax.value_and_grad(self.value)
        value, g = both(log_w, mass)
        k = jnp.arange(log_w.shape[0])

        def baseline(i: Array) -> Scalar:
            others = jnp.sum(jnp.where(k == i, 0, log_w)) / (log_w.shape[0] - 1)
            without, g_without = both(jnp.where(k == i, others, log_w), mass)
            return without - g_without[i]

        return value - g - jax.vmap(baseline)(k)

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The path weights a. Cost O(K) directional derivatives of the gradient of F."""
        gradient = jax.grad(self.value)

        def curvature(direction: Weights, i: Array) -> Scalar:
            return jax.jvp(lambda u: gradient(u, mass)[i], (log_w,), (direction,))[1]

        k = jnp.arange(log_w.shape[0])
        return gradient(log_w, mass) - jax.vmap(curvature)(jnp.eye(k.size, dtype=log_w.dtype), k)


class Objective(AbstractObjective):
    """An objective of your own: any differentiable function of the log weights, to be made large.

        F = function(log w_1, ..., log w_K)

        infer.Objective(lambda log_w: jax.nn.logsumexp(log_w) - jnp.log(log_w.size))

    Its gradients follow from the function, see `AbstractObjective`; the draws are independent and
    of equal mass.

    Args:
        function: F of an array of K log weights, to a scalar; part of the program.
    """

    function: Callable[[Weights], Scalar] = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse what gives no number."""
        if not callable(self.function):
            raise TypeError(
                f"Objective needs a function of log weights, got {self.function!r}; write "
                "infer.Objective(lambda log_w: jnp.mean(log_w))."
            )
        weights = jax.ShapeDtypeStruct((3,), jnp.zeros(()).dtype)
        shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(self.function, weights))]
        if shapes != [()]:
            raise ValueError(
                f"Objective needs a function from 3 log weights to one number, got {shapes}; write "
                "infer.Objective(lambda log_w: jnp.mean(log_w))."
            )

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        return self.function(log_w)
