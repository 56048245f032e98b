"""Non-reversible parallel tempering between a reference and the posterior."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import check_count, fraction, positive
from infer.core.posterior import AbstractDistribution
from infer.core.target import Target
from infer.core.types import Count, Flag, PRNGKey, Scalar, Vector
from infer.families.reference import check_reference, check_reference_fits, reference_of
from infer.geometry.scale import Diagonal
from infer.geometry.warmup import Tuning, long_window, tune, untuned
from infer.langevin.tempering import (
    Gaps,
    Levels,
    Replica,
    by_curvature,
    chosen,
    drawn,
    equal_shares,
    inside,
    look,
    no_bridge,
    swap_rates,
    swapped,
    trajectory,
)
from infer.langevin.underdamped import DIVERGED
from infer.references.citation import cites
from infer.references.mcmc import SYED_2022

FIRST_POWER = 4  # the first schedule is dense near b = 0, where the path is steepest


def _count(n: int | Array) -> Array:
    if not isinstance(n, Tracer) and not jnp.all(jnp.asarray(n) >= 1):
        raise ValueError(f"ParallelTempering needs n_steps >= 1, got {n}; write n_steps=4.")
    return jnp.asarray(n, jnp.int32)


class TemperingState(eqx.Module):
    """One replica per temperature, b from 0 to 1, and what is known of the way between them.

    Attributes:
        replicas: by temperature; leading axis K.
        rising: has the replica been at b = 0 since it was at b = 1?
        odd: which pairs are next.
        round_trips: how often a replica came from b = 0 to b = 1, after warm-up.
        bridge: log sums of exp((b' - b) V / 2) at b and of exp(-(b' - b) V / 2) at b', after
            warm-up.
        schedule: the b of each temperature.
        rejections: sums of swap rejections in this window of warm-up.
        tuning: of all temperatures but the first; leading axis K - 1.
    """

    replicas: Replica
    rising: Bool[Array, " K"]
    odd: Flag
    round_trips: Count
    bridge: Float[Array, "2 pairs"]
    schedule: Levels
    rejections: Gaps
    tuning: Tuning


@cites(SYED_2022)
class ParallelTempering(AbstractSampler):
    """Replicas at many temperatures that trade places: crosses between separated modes.

        log p_b(z) = (1 - b) log q0(z) + b log p(z),      0 = b_0 < ... < b_{K-1} = 1
        each replica: a fresh draw at b = 0, else one trajectory as in `MALT`, at its b
        then neighbors, even pairs and odd pairs in turn, swap with probability
            min(1, exp((b' - b) (V(z) - V(z')))),         V = log p - log q0

    Leaves the product of all p_b invariant; the draw is the replica at b = 1. Even and odd pairs in
    turn, not at random, carry replicas on in one direction until a swap is refused. Warm-up tunes
    the step size and the diagonal preconditioner of each temperature, the latter to the inverse of
    the mean curvature, which far modes do not change; and it spaces b so that all swaps are refused
    equally often.

    Recorded: `acceptance_rate`, `step_size` and `diverging` of the trajectory at b = 1;
    `swap_acceptance`, the mean over all pairs; `barrier`, the sum of their rejections, whose mean L
    asks for about 2 L + 1 temperatures; `round_trips`, how many replicas have come from b = 0 to
    b = 1 so far; `log_evidence`, the log of the integral of p by bridge sampling between neighbors,
    from all steps so far: its last value is an estimate, those of several chains show its error.

    Limits: a mode where q0 has no mass, or that no replica meets while b is small, is missed; the
    weights of modes are known no better than from as many draws as there were round trips.

    Cost per step: (n_temperatures - 1) n_steps + 1 gradients, and as many densities and scores of
    q0.

    Args:
        n_temperatures: K, >= 2.
        n_steps: leapfrog steps per trajectory, >= 1.
        reference: q0, a distribution on the unconstrained scale that reaches wherever the posterior
            does, as the posterior of a variational fit; None for N(0, scale^2 I).
        scale: > 0, of that one.
        step_size: the first step size, > 0; kept if there is no warm-up.
        acceptance: mean acceptance of trajectories aimed at, in (0, 1).

    Source: Syed, Bouchard-Cote, Deligiannidis and Doucet, JRSS B 84(2), 2022.
    """

    n_temperatures: int = eqx.field(static=True, default=10)
    n_steps: Array = eqx.field(converter=_count, default=4)
    reference: AbstractDistribution | None = None
    scale: Scalar = eqx.field(converter=positive("scale", 3.0), default=3.0)
    step_size: Scalar = eqx.field(converter=positive("step_size", 0.5), default=0.5)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.7), default=0.7)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("ParallelTempering", "n_temperatures", self.n_temperatures, 10, least=2)
        check_reference("ParallelTempering", self.reference)

    def check(self, target: Target) -> None:
        """Refuse a reference of another dimension."""
        check_reference_fits("ParallelTempering", self.reference, target)

    def init(self, key: PRNGKey, target: Target) -> TemperingState:
        """The last replica at `target.initial(key)`, the others at draws of the reference.

        Where the density is not finite at such a draw, also at `target.initial(key)`.
        """
        key_start, key_draw = jax.random.split(key)
        start, k = target.initial(key_start), self.n_temperatures
        q0 = reference_of(self.reference, self.scale, start)
        points = jnp.concatenate([q0.sample(key_draw, k - 1).astype(start.dtype), start[None]])
        replicas = jax.vmap(lambda z: look(target, q0, z))(points)
        last = jax.tree.map(lambda x: x[-1:], replicas)
        replicas = chosen(inside(replicas), replicas, last)
        gaps = jnp.zeros(k - 1, start.dtype)
        return TemperingState(
            replicas,
            rising=jnp.zeros(k, bool),
            odd=jnp.asarray(False),
            round_trips=jnp.zeros((), jnp.int32),
            bridge=no_bridge(gaps),
            schedule=jnp.linspace(0, 1, k, dtype=start.dtype) ** FIRST_POWER,
            rejections=gaps,
            tuning=jax.vmap(lambda z: untuned(Diagonal(), self.step_size, z))(points[1:]),
        )

    def step(
        self, key: PRNGKey, target: Target, state: TemperingState
    ) -> tuple[TemperingState, Info]:
        """A trajectory at every temperature, then swaps."""
        state, _, _, info = self._step(key, target, state)
        return state, info

    def _step(
        self, key: PRNGKey, target: Target, state: TemperingState
    ) -> tuple[TemperingState, Gaps, Gaps, Info]:
        """One step, with the acceptance of all trajectories and all swaps."""
        key_draw, key_move, key_accept = jax.random.split(key, 3)
        b, before = state.schedule, jax.tree.map(lambda x: x[1:], state.replicas)
        q0 = reference_of(self.reference, self.scale, before.position[0])
        chance = jax.random.uniform(key_accept, (2, len(b) - 1), b.dtype)

        moved, error = jax.vmap(
            lambda k, b, t, r: trajectory(k, target, q0, self.n_steps, b, t, r)
        )(jax.random.split(key_move, len(b) - 1), b[1:], state.tuning, before)
        accepted = jnp.exp(jnp.minimum(-error, 0))
        moved = chosen(chance[0] < accepted, moved, before)
        fresh = drawn(key_draw, target, q0)
        replicas = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), fresh, moved)

        log_ratio = replicas.log_p - replicas.log_q
        rates = swap_rates(b, log_ratio)
        order = swapped(chance[1] < rates, state.odd)
        replicas = jax.tree.map(lambda x: x[order], replicas)
        rising = state.rising.at[0].set(True)[order]
        half = jnp.diff(b) / 2
        terms = jnp.stack([half * log_ratio[:-1], -half * log_ratio[1:]])
        state = eqx.tree_at(
            lambda s: (s.replicas, s.rising, s.odd, s.round_trips, s.bridge),
            state,
            (
                replicas,
                rising.at[-1].set(False),
                ~state.odd,
                state.round_trips + rising[-1],
                jnp.logaddexp(state.bridge, terms),
            ),
        )
        stats = {
            "acceptance_rate": accepted[-1],
            "step_size": state.tuning.step_size[-1],
            "diverging": ~(error[-1] <= DIVERGED),
            "swap_acceptance": jnp.mean(rates),
            "barrier": jnp.sum(1 - rates),
            "round_trips": state.round_trips,
            "log_evidence": jnp.sum(state.bridge[0] - state.bridge[1]),
        }
        gradients = (len(b) - 1) * self.n_steps + 1
        return state, accepted, rates, Info(-replicas.log_p[-1], gradients, stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: TemperingState, i: Count, n: Count
    ) -> tuple[TemperingState, Info]:
        """One step, after which step sizes, preconditioners and schedule are tuned."""
        state, accepted, rates, info = self._step(key, target, state)
        collecting, ending = long_window(i, n)
        rejections = state.rejections + jnp.where(collecting, 1 - rates, 0)
        schedule = jnp.where(ending, equal_shares(state.schedule, rejections), state.schedule)
        aim = self.acceptance.astype(rates.dtype)
        scores = jax.vmap(Replica.score)(state.replicas, state.schedule)[1:]
        tuning = jax.vmap(
            lambda t, s, a: tune(t, Diagonal(), s, a, aim, i, n, long_window, by_curvature)
        )(state.tuning, scores, accepted)
        done = i + 1 == n
        state = eqx.tree_at(
            lambda s: (s.round_trips, s.bridge, s.schedule, s.rejections, s.tuning),
            state,
            (
                jnp.where(done, 0, state.round_trips),
                jnp.where(done, no_bridge(rejections), state.bridge),
                schedule,
                jnp.where(ending, 0, rejections),
                tuning,
            ),
        )
        return state, info

    def position(self, state: TemperingState) -> Vector:
        """The replica at b = 1."""
        return state.replicas.position[-1]

    def moved(
        self, key: PRNGKey, target: Target, state: TemperingState, z: Vector
    ) -> TemperingState:
        """The state with the replica at b = 1 put at z, the others where they are."""
        new = look(target, reference_of(self.reference, self.scale, z), z)
        replicas = jax.tree.map(lambda x, y: x.at[-1].set(y), state.replicas, new)
        return eqx.tree_at(lambda s: s.replicas, state, replicas)
