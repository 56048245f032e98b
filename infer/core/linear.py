"""What is known of a target whose likelihood sees the parameters through linear predictors only."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.types import Scalar, Vector


class LinearPredictor(eqx.Module):
    """log p(z) = sum_i l(x_i . z + o_i, y_i) - (z - b)^T P (z - b) / 2, up to a constant.

    Under a Gaussian each linear predictor is a Gaussian of one dimension, so expectations over
    R^d are sums of n integrals over the line.

    Attributes:
        design: the rows x_i.
        offset: the offsets o_i.
        response: the rows y_i, a pytree with one leading axis.
        log_likelihood: l(eta, y), a scalar function of one predictor and one row of the response.
        prior_mean: b.
        prior_precision: the diagonal of P; zero where the prior is flat.
    """

    design: Float[Array, "n d"]
    offset: Float[Array, " n"]
    response: Any
    log_likelihood: Callable[[Scalar, Any], Scalar] = eqx.field(static=True)
    prior_mean: Vector
    prior_precision: Vector

    def along(
        self, eta: Float[Array, "n k"]
    ) -> tuple[Float[Array, "n k"], Float[Array, "n k"], Float[Array, "n k"]]:
        """Value, slope and curvature of l at k values of each predictor."""

        def at(eta: Scalar, y: Any) -> tuple[Scalar, Scalar, Scalar]:
            def slope(eta: Scalar) -> tuple[Scalar, Scalar]:
                value, first = jax.value_and_grad(self.log_likelihood)(eta, y)
                return first, value

            (first, value), (second, _) = jax.jvp(slope, (eta,), (jnp.ones_like(eta),))
            return value, first, second

        return jax.vmap(jax.vmap(at, (0, None)))(eta, self.response)
