"""Elliptical slice sampling, by BlackJAX's kernel."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from infer.core.algorithm import AbstractTunedSampler, Info
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.external.adapter import require_blackjax
from infer.geometry.scale import AbstractPreconditioner, Dense, Fixed, as_covariance
from infer.geometry.warmup import Tuning, tune_scale, untuned, window
from infer.references.citation import cites
from infer.references.mcmc import MURRAY_2010
from infer.references.software import BLACKJAX


def _as_mean(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, Tracer) and not np.isfinite(np.asarray(value)).all():
        raise ValueError(f"mean must be finite, got {value}; write mean=0.0.")
    return jnp.asarray(value, jnp.zeros(()).dtype)


def _as_covariance(value: Any) -> Any:
    return None if value is None else as_covariance(value)


class EllipticalState(eqx.Module):
    """Position and density; the Gaussian."""

    position: Vector
    log_prob: Scalar
    mean: Vector
    tuning: Tuning


@cites(MURRAY_2010, BLACKJAX)
class EllipticalSlice(AbstractTunedSampler):
    """Slice sampling on ellipses around a Gaussian N(m, M): no gradients, no step size, exact.

        z <- m + (z - m) cos t + v sin t,   v ~ N(0, M),   t uniform where
        log w >= log w(z) + log U,          w = p / N(m, M),  U uniform on (0, 1)

    Made for posteriors with a Gaussian prior, which N(m, M) then is, and w the likelihood: with
    latent Gaussian processes it mixes as the likelihood allows, whatever the dimension. Without
    one, warm-up takes mean and covariance of the draws.

    Cost per step: some evaluations of the density (recorded as `n_evaluations`) and O(d^2); no
    gradient.

    Args:
        mean: m, a number or (d,), on the unconstrained scale in the order of `result.z`; None is 0
            where a covariance is given.
        covariance: M, a number, variances (d,) or a matrix (d, d); None to learn m and M.

    Limits: exact for any Gaussian, but where the posterior has heavier tails than N(m, M) a chain
    that is there stays long. Far from a Gaussian use `NUTS`.

    Source: Murray, Adams and MacKay, AISTATS 2010; the kernel is BlackJAX's.
    """

    mean: Float[Array, "..."] | None = eqx.field(converter=_as_mean, default=None)
    covariance: Float[Array, "..."] | None = eqx.field(converter=_as_covariance, default=None)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    uses_gradient: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 2000

    def __check_init__(self) -> None:
        """Say what to install; refuse half a Gaussian."""
        require_blackjax("EllipticalSlice")
        if self.mean is not None and self.covariance is None:
            raise ValueError(
                "EllipticalSlice got a mean without a covariance; write covariance= too, or "
                "neither, to have both learned."
            )

    @property
    def preconditioner(self) -> AbstractPreconditioner:
        """M as it is learned, or given."""
        return Dense() if self.covariance is None else Fixed(self.covariance)

    def check(self, target: Target) -> None:
        """Refuse a mean and a covariance of another size."""
        if self.mean is not None and self.mean.shape not in ((), (target.dim,)):
            raise ValueError(
                f"EllipticalSlice got a mean of shape {self.mean.shape}, the target has "
                f"{target.dim} unconstrained coordinates; write mean=0.0 or give ({target.dim},)."
            )
        self.preconditioner.identity(jnp.zeros(target.dim))

    def init(self, key: PRNGKey, target: Target) -> EllipticalState:
        """The state at `target.initial(key)`; there is the center if none was given."""
        z = target.initial(key)
        mean = z if self.covariance is None else jnp.zeros_like(z)
        if self.mean is not None:
            mean = jnp.broadcast_to(self.mean.astype(z.dtype), z.shape)
        tuning = untuned(self.preconditioner, jnp.ones(()), z)
        return EllipticalState(z, target.log_prob(z), mean, tuning)

    def step(
        self, key: PRNGKey, target: Target, state: EllipticalState
    ) -> tuple[EllipticalState, Info]:
        """One ellipse, in the coordinates y = L^-1 (z - m)."""
        from blackjax.mcmc import elliptical_slice

        scale, y = state.tuning.scale, state.tuning.scale.whiten(state.position - state.mean)

        def log_weight(y: Vector) -> Scalar:
            value = target.log_prob(state.mean + scale.color(y)) + 0.5 * jnp.sum(y**2)
            return jnp.where(jnp.isnan(value), -jnp.inf, value)

        # A little below the weight at y: where the level rounds to it, no point is above the level.
        weight = log_weight(y)
        weight -= 8 * jnp.finfo(y.dtype).eps * (1 + jnp.abs(weight))
        kernel: Any = elliptical_slice.build_kernel(jnp.ones_like(y), jnp.zeros_like(y))
        after, info = kernel(key, elliptical_slice.EllipSliceState(y, weight), log_weight)
        z = state.mean + scale.color(after.position)
        log_prob = after.logdensity - 0.5 * jnp.sum(after.position**2)
        stats = {"n_evaluations": 1 + jnp.asarray(info.subiter, jnp.int32)}
        new = EllipticalState(z, log_prob, state.mean, state.tuning)
        return new, Info(-log_prob, jnp.asarray(0), stats)

    def tune(self, state: EllipticalState, info: Info, i: Count, n: Count) -> EllipticalState:
        """The center m and M, learned at the end of a window."""
        z, mean = state.position, state.mean
        tuning = tune_scale(state.tuning, self.preconditioner, z, i, n)
        if self.covariance is None:
            # From afar no ellipse around a fixed center leads there: at first it moves along.
            learned = jnp.where(window(i, n)[1], state.tuning.moments.add(z).mean, mean)
            mean = jnp.where(2 * i < n, z, learned)
        return EllipticalState(z, state.log_prob, mean, tuning)

    def position(self, state: EllipticalState) -> Vector:
        """Where the chain is."""
        return state.position

    def moved(
        self, key: PRNGKey, target: Target, state: EllipticalState, z: Vector
    ) -> EllipticalState:
        """The state at z, with m and M as they are."""
        return EllipticalState(z, target.log_prob(z), state.mean, state.tuning)
