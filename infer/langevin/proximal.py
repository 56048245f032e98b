"""What the proximal Langevin samplers share: moves, and what is known of smoothing beforehand."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from infer.core.composite import blunted, check_real, prox, pull, smoothing_gap, terms_of
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.geometry.scale import Diagonal
from infer.langevin.transition import LangevinState, adjusted_step, begin

NATS = 1.0  # of smoothing in one coordinate, above which a warning is due


def start(
    target: Target, z: Vector, preconditioner: Diagonal, step_size: Scalar, name: str
) -> LangevinState:
    """The state at a point: density with g, score without."""
    check_real(target, name)
    return begin(blunted(target), z, preconditioner, step_size)


def widths(state: LangevinState, lam: Scalar) -> Vector:
    """Lam M: the width of the envelope in every coordinate."""
    return lam.astype(state.position.dtype) * state.tuning.scale.covariance


def myula_move(
    key: PRNGKey, target: Target, state: LangevinState, e: Scalar, lam: Scalar
) -> LangevinState:
    """Z + e M s_f + (e / lam) (prox(z) - z) + sqrt(2 e) L noise, with the prox in M^-1."""
    z, scale, e = state.position, state.tuning.scale, e.astype(state.position.dtype)
    drift = state.score + pull(target, z, widths(state, lam))
    noise = jax.random.normal(key, z.shape, z.dtype)
    return at(target, state, z + e * scale.apply(drift) + jnp.sqrt(2 * e) * scale.color(noise))


def at(target: Target, state: LangevinState, z: Vector) -> LangevinState:
    """The state moved to z."""
    return LangevinState(z, *blunted(target).value_and_score(z), state.tuning)


def forward_backward(
    key: PRNGKey, target: Target, state: LangevinState, e: Scalar, noise_last: bool
) -> LangevinState:
    """A gradient step on f, the proximal map of e g, and noise after it or before."""
    z, scale, e = state.position, state.tuning.scale, e.astype(state.position.dtype)
    noise = jnp.sqrt(2 * e) * scale.color(jax.random.normal(key, z.shape, z.dtype))
    moved = z + e * scale.apply(state.score)
    if noise_last:
        return at(target, state, prox(target, moved, widths(state, e)) + noise)
    return at(target, state, prox(target, moved + noise, widths(state, e)))


def exact_step(
    key: PRNGKey, target: Target, state: LangevinState, lam: Scalar
) -> tuple[LangevinState, Scalar]:
    """The move of MYULA with an acceptance test on f + g."""
    t = widths(state, lam)
    return adjusted_step(key, blunted(target), state, lambda z: pull(target, z, t))


def gap(target: Target, state: LangevinState, lam: Scalar) -> Scalar:
    """How many nats smoothing adds to the log density where the chain is."""
    return smoothing_gap(target, state.position, widths(state, lam))


def check_diagonal(preconditioner: object, name: str) -> None:
    """Refuse a metric in which proximal maps have no closed form."""
    if not isinstance(preconditioner, Diagonal):
        raise TypeError(
            f"{name} needs preconditioner=infer.Diagonal(), got {preconditioner!r}: in a dense "
            "metric proximal maps have no closed form."
        )


def check_ratio(step_size: Scalar, smoothing: Scalar, name: str) -> None:
    """Refuse a step that overshoots the envelope whatever f is: e < 2 lam."""
    if isinstance(step_size, Tracer) or isinstance(smoothing, Tracer):
        return
    if not np.all(np.asarray(step_size) < 2 * np.asarray(smoothing)):
        raise ValueError(
            f"{name} is unstable unless step_size < 2 smoothing / (1 + smoothing L), L the largest "
            f"curvature of f in units of the preconditioner; got step_size = {step_size} and "
            f"smoothing = {smoothing}. Write step_size={float(np.min(smoothing)) / 2:.3g}."
        )


def warn_of_smoothing(name: str, target: Target, t: Vector) -> None:
    """Warn where g less its envelope can reach more than a nat in one coordinate: t G^2 / 2."""
    for site_name, term in terms_of(target).items():
        width = target.unravel(t)[site_name]
        slope = term.lipschitz(jnp.ones_like(width))
        if slope is None:
            continue
        nats = np.asarray(width * slope**2 / 2)
        if nats.max() > NATS:
            warnings.warn(
                f"{name} smooths {site_name!r} by up to {nats.max():.3g} nats in one coordinate "
                f"(width of the envelope x slope^2 / 2; {int((nats > NATS).sum())} of {nats.size} "
                "above one nat), so its draws follow another density. Take a smaller smoothing= or "
                "infer.MYMALA(), which is exact.",
                stacklevel=4,
            )
