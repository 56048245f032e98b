"""Generalized linear models, declared as such."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.bridges.density import from_log_density
from infer.bridges.leaves import as_leaves
from infer.core.linear import LinearPredictor
from infer.core.target import Target
from infer.core.types import Scalar, Vector


class _Prior(eqx.Module):
    mean: Vector
    precision: Vector

    def __call__(self, params: dict[str, Array]) -> Scalar:
        (beta,) = params.values()
        return -0.5 * jnp.sum(self.precision * (beta - self.mean) ** 2)


class _Likelihood(eqx.Module):
    of_row: Callable = eqx.field(static=True)

    def __call__(self, params: dict[str, Array], rows: dict[str, Any]) -> Float[Array, " n"]:
        (beta,) = params.values()
        return jax.vmap(self.of_row)(rows["X"] @ beta + rows["offset"], rows["y"])


def from_glm(
    X: Any,
    y: Any,
    log_likelihood: Callable[[Scalar, Any], Scalar],
    *,
    prior_scale: Any = 1.0,
    prior_mean: Any = 0.0,
    offset: Any = None,
    name: str = "beta",
    batch_size: int | None = None,
) -> Target:
    """A generalized linear model as a target that knows what it is.

        log p(beta | y) = sum_i l(x_i . beta + o_i, y_i) + log N(beta; prior_mean, prior_scale^2)

    up to a constant. Any method fits it; `FBGVI(oracle=infer.GaussHermite())` and its relatives
    compute their expectations exactly.

    Args:
        X: design, (n, d), floats.
        y: responses, (n,) or a pytree with a leading axis of n.
        log_likelihood: l(eta, y_i), a scalar function of one linear predictor and one response,
            twice differentiable in eta: for logistic regression
            `lambda eta, y: y * eta - jax.nn.softplus(eta)`.
        prior_scale: standard deviations of the coefficients, a number or (d,), > 0; `jnp.inf` is
            flat.
        prior_mean: their means, a number or (d,).
        offset: o, (n,), or None.
        name: of the vector of coefficients.
        batch_size: rows per step for methods that take minibatches; None uses all.

    Returns:
        A target whose one site is `name`, with pointwise log likelihood and minibatches.

    Raises:
        TypeError, ValueError: before anything is compiled.
    """
    X = np.asarray(X)
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise ValueError(f"X must be an array of numbers (n, d), got shape {X.shape} of {X.dtype}.")
    n, d = X.shape
    dtype = jnp.zeros(()).dtype
    offset = np.zeros(n) if offset is None else np.asarray(offset)
    if offset.shape != (n,):
        raise ValueError(f"offset must have shape {(n,)}, one per row of X, got {offset.shape}.")
    scale, mean = (_vector(v, d, k) for v, k in ((prior_scale, "scale"), (prior_mean, "mean")))
    if not (scale > 0).all():
        raise ValueError(f"prior_scale must be > 0, got {prior_scale}; write prior_scale=1.0.")
    data = {
        "X": jnp.asarray(X, dtype),
        "offset": jnp.asarray(offset, dtype),
        "y": as_leaves(y, "y"),
    }
    prior = _Prior(jnp.asarray(mean, dtype), jnp.asarray(1 / scale**2, dtype))
    target = from_log_density(
        example={name: jnp.zeros(d)},
        log_prior=prior,
        log_likelihood=_Likelihood(log_likelihood),
        data=data,
        batch_size=batch_size,
    )
    linear = LinearPredictor(
        data["X"], data["offset"], data["y"], log_likelihood, prior.mean, prior.precision
    )
    return dataclasses.replace(target, linear=linear)


def _vector(value: Any, d: int, what: str) -> np.ndarray:
    array = np.asarray(value, float)
    if array.shape not in ((), (d,)):
        raise ValueError(f"prior_{what} must be a number or have shape {(d,)}, got {array.shape}.")
    return np.broadcast_to(array, (d,))
