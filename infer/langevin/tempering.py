"""The parts of parallel tempering: replicas, their trajectories, swaps, and the schedule."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from infer.core.linalg import Moments
from infer.core.posterior import AbstractDistribution
from infer.core.target import Target
from infer.core.types import Count, Flag, PRNGKey, Scalar, Vector
from infer.geometry.scale import Scale, learned, scale_of
from infer.geometry.warmup import Tuning

FRICTION = 0.3  # per unit of trajectory time; without it trajectories can close on themselves

Levels = Float[Array, " K"]
Gaps = Float[Array, " pairs"]


class Replica(eqx.Module):
    """A point with what target and reference say of it, so that another b costs nothing.

    Attributes:
        position: z.
        log_p: log p(z), and `score_p` its gradient.
        log_q: log q0(z), and `score_q` its gradient.
    """

    position: Float[Array, "*K d"]
    log_p: Float[Array, "*K"]
    score_p: Float[Array, "*K d"]
    log_q: Float[Array, "*K"]
    score_q: Float[Array, "*K d"]

    def log_prob(self, b: Scalar) -> Scalar:
        """(1 - b) log q0 + b log p."""
        return (1 - b) * self.log_q + b * self.log_p

    def score(self, b: Scalar) -> Vector:
        """Its gradient."""
        return (1 - b) * self.score_q + b * self.score_p


def look(target: Target, reference: AbstractDistribution, z: Vector) -> Replica:
    """The replica at z: one gradient."""
    log_p, score_p = target.value_and_score(z)
    log_q, score_q = jax.value_and_grad(reference.log_prob)(z)
    return Replica(z, log_p, score_p, log_q, score_q)


def inside(replica: Replica) -> Bool[Array, "*K"]:
    """Are the density and its gradient finite there?"""
    return jnp.isfinite(replica.log_p) & jnp.all(jnp.isfinite(replica.score_p), axis=-1)


def drawn(key: PRNGKey, target: Target, reference: AbstractDistribution) -> Replica:
    """A draw of the reference. A density that is not finite there is as good as zero: no swap."""
    new = look(target, reference, reference.sample(key, 1)[0])
    least = jnp.finfo(new.log_p.dtype).min / 1e6
    log_p = jnp.where(inside(new), new.log_p, least)
    score_p = jnp.where(inside(new), new.score_p, 0)
    return eqx.tree_at(lambda r: (r.log_p, r.score_p), new, (log_p, score_p))


def trajectory(
    key: PRNGKey,
    target: Target,
    reference: AbstractDistribution,
    n_steps: Count,
    b: Scalar,
    tuning: Tuning,
    replica: Replica,
) -> tuple[Replica, Scalar]:
    """Where a Langevin trajectory at b ends, and its energy error; infinite if it left the domain.

    Friction and noise, then a leapfrog step. The first velocity is all noise.
    """
    h, scale = tuning.step_size, tuning.scale
    friction = jnp.exp(-FRICTION * h)

    def body(i: Count, loop: tuple[Replica, Vector, Scalar]):
        at, v, error = loop
        kept = jnp.where(i == 0, 0, friction)
        noise = jax.random.normal(jax.random.fold_in(key, i), v.shape, v.dtype)
        first = kept * v + jnp.sqrt(1 - kept**2) * noise
        middle = first + 0.5 * h * scale.whiten_score(at.score(b))
        new = look(target, reference, at.position + h * scale.color(middle))
        last = middle + 0.5 * h * scale.whiten_score(new.score(b))
        error += at.log_prob(b) - new.log_prob(b) + jnp.sum(last**2 - first**2) / 2
        return new, last, error

    still = jnp.zeros_like(replica.position)
    begun = replica, still, jnp.zeros((), still.dtype)
    end, _, error = jax.lax.fori_loop(0, n_steps, body, begun)
    return end, jnp.where(jnp.isfinite(error) & inside(end), error, jnp.inf)


def swap_rates(schedule: Levels, log_ratio: Levels) -> Gaps:
    """min(1, exp((b' - b) (V - V'))) of all neighbors, V = log p - log q0 by temperature."""
    gain = jnp.diff(schedule) * -jnp.diff(log_ratio)
    return jnp.exp(jnp.minimum(gain, 0))


def swapped(accept: Bool[Array, " pairs"], odd: Flag) -> Int[Array, " K"]:
    """Who comes to each temperature: of pairs (0, 1), (2, 3), ..., or (1, 2), ... if odd."""
    accept &= jnp.arange(len(accept)) % 2 == odd
    up, down = jnp.pad(accept, (0, 1)), jnp.pad(accept, (1, 0))
    return jnp.arange(len(accept) + 1) + up - down


def chosen(take: Bool[Array, "*K"], a: Replica, b: Replica) -> Replica:
    """Replica by replica a where `take`, else b."""
    return jax.tree.map(lambda x, y: jnp.where(take.reshape(-1, *[1] * (x.ndim - 1)), x, y), a, b)


def equal_shares(schedule: Levels, rejections: Gaps) -> Levels:
    """The schedule whose gaps have equal shares of the rejections, linear within each gap."""
    floor = 1e-3 * jnp.mean(rejections) + jnp.finfo(rejections.dtype).tiny
    barrier = jnp.pad(jnp.cumsum(rejections + floor), (1, 0))
    wanted = jnp.linspace(0, 1, len(schedule), dtype=schedule.dtype)
    new = jnp.interp(wanted, barrier / barrier[-1], schedule)
    return new.at[0].set(0).at[-1].set(1)


def by_curvature(scores: Moments, before: Scale) -> Scale:
    """M_i = 1 / E[(d_i log p_b)^2], the inverse of the mean curvature: blind to far modes."""
    curvature = learned(scores, before).covariance
    return scale_of(1 / curvature)


def no_bridge(gaps: Gaps) -> Float[Array, "2 pairs"]:
    """Logs of two empty sums, finite."""
    return jnp.full((2, len(gaps)), jnp.finfo(gaps.dtype).min)
