"""Annealing of chains from q to the posterior of each row: densities, moves, levels, the run."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key
from numpy.typing import NDArray

from infer.core.checks import check_count, positive
from infer.core.posterior import AbstractDistribution
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.diagnostics.rows import (
    LogJoint,
    Proposal,
    Rows,
    as_arrays,
    check_model,
    proposal_of,
    row_batches,
    row_of,
)

FIRST_STEP = 0.5  # of the pilot
GAIN = 1.0  # of the log step size in the pilot, per unit of acceptance


class Places(eqx.Module):
    """A point for each of C chains with both densities, so that neither is computed twice."""

    z: Float[Array, "C d"]
    log_joint: Float[Array, " C"]
    log_q: Float[Array, " C"]

    @property
    def log_ratio(self) -> Float[Array, " C"]:
        """The log weight between the ends, log p(x, z) - log q(z)."""
        return self.log_joint - self.log_q

    def log_prob(self, b: Scalar) -> Float[Array, " C"]:
        """The log of f_b, not normalized, for 0 < b < 1."""
        return (1 - b) * self.log_q + b * self.log_joint


class Path(eqx.Module):
    """The densities of one row from q to the posterior: log f_b = (1 - b) log q + b log p(x, z).

    Attributes:
        log_joint: log p(x, z) of z and a row.
        q: where the path starts, b = 0.
        row: the observation x.
        scale: standard deviations of q, ones where it does not know them; the unit of steps.
    """

    log_joint: LogJoint
    q: AbstractDistribution
    row: Any
    scale: Vector

    def at(self, z: Float[Array, "C d"]) -> Places:
        """The densities at a point of each chain."""
        log_joint = jax.vmap(lambda z: self.log_joint(z, self.row))
        return Places(z, log_joint(z), jax.vmap(self.q.log_prob)(z))

    def score(self, z: Float[Array, "C d"], b: Scalar) -> Float[Array, "C d"]:
        """The gradient of log f_b at a point of each chain."""
        return jax.grad(lambda z: jnp.sum(self.at(z).log_prob(b)))(z)


class AbstractTransition(eqx.Module):
    """A move that leaves a density f_b of the path in place, and is reversible."""

    @abstractmethod
    def move(
        self, key: PRNGKey, path: Path, places: Places, b: Scalar, step_size: Scalar
    ) -> tuple[Places, Float[Array, " C"]]:
        """The next place of each chain, and the probability to take what was proposed for it."""


class Hamiltonian(AbstractTransition):
    """Hamiltonian Monte Carlo: momentum drawn anew, and a step size drawn for each trajectory.

        h = step_size (1 + U) / 2,   U ~ Uniform(0, 1),   s the standard deviations of q
        z <- z + h/2 s p,   p <- p + h s grad log f_b(z),   z <- z + h/2 s p,   n_leapfrog times

    The end is taken with probability min(1, exp(-energy error)), never where a density is NaN or
    zero. Cost: n_leapfrog gradients and one value of the densities.

    Args:
        n_leapfrog: steps of a trajectory, >= 1.
    """

    n_leapfrog: int = eqx.field(static=True, default=10)

    def __check_init__(self) -> None:
        """Refuse no steps."""
        check_count("Hamiltonian", "n_leapfrog", self.n_leapfrog, 10)

    def move(
        self, key: PRNGKey, path: Path, places: Places, b: Scalar, step_size: Scalar
    ) -> tuple[Places, Float[Array, " C"]]:
        """One trajectory of each chain."""
        n, d = places.z.shape
        noise = jax.random.normal(key, (n * (d + 2),), places.z.dtype).reshape(n, d + 2)
        p, u = noise[:, :d], jax.scipy.special.ndtr(noise[:, d:])
        h = step_size * (1 + u[:, :1]) / 2 * path.scale

        def leapfrog(_: Count, now: tuple[Array, Array]) -> tuple[Array, Array]:
            z, p = now
            z = z + h / 2 * p
            p = p + h * path.score(z, b)
            return z + h / 2 * p, p

        z, end = jax.lax.fori_loop(0, self.n_leapfrog, leapfrog, (places.z, p))
        new = path.at(z)
        log_rate = new.log_prob(b) - places.log_prob(b) + jnp.sum(p**2 - end**2, axis=1) / 2
        rate = jnp.where(jnp.isnan(log_rate), 0, jnp.exp(jnp.minimum(log_rate, 0)))
        taken = u[:, 1] < rate
        z = jnp.where(taken[:, None], new.z, places.z)
        log_joint = jnp.where(taken, new.log_joint, places.log_joint)
        return Places(z, log_joint, jnp.where(taken, new.log_q, places.log_q)), rate


def sigmoid_levels(n_steps: int) -> Float[Array, " levels"]:
    """b_t = (s(t) - s(0)) / (s(T) - s(0)), s(t) = 1 / (1 + exp(4 - 8 t / T)), t = 0, ..., T.

    Dense at both ends, where a path from a wide q to a narrow posterior is steep in b.
    """
    s = jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, n_steps + 1))
    return (s - s[0]) / (s[-1] - s[0])


class Setting(eqx.Module):
    """What all runs share."""

    log_joint: LogJoint
    q: Proposal
    rows: Rows
    levels: Float[Array, " levels"]
    transition: AbstractTransition
    n_rows: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    n_chains: int = eqx.field(static=True)


def make_setting(
    owner: str,
    log_joint: LogJoint,
    q: Proposal,
    rows: Rows,
    n_steps: int,
    n_chains: int,
    transition: AbstractTransition | None,
    schedule: Callable[[int], Float[Array, " levels"]],
) -> Setting:
    """What was given, checked."""
    check_count(owner, "n_steps", n_steps, 1000)
    check_count(owner, "n_chains", n_chains, 16)
    rows = as_arrays(rows)
    n, d = check_model(owner, log_joint, q, rows)
    transition = Hamiltonian() if transition is None else transition
    if not isinstance(transition, AbstractTransition):
        raise TypeError(f"{owner} needs transition=Hamiltonian(), got {transition!r}.")
    levels = jnp.asarray(schedule(n_steps))
    b = np.asarray(levels)
    if b.shape != (n_steps + 1,) or b[0] != 0 or b[-1] != 1 or not (np.diff(b) > 0).all():
        raise ValueError(
            f"{owner} needs a schedule of {n_steps + 1} levels that rise from 0 to 1, got {b}; "
            "write schedule=lambda n: jnp.linspace(0, 1, n + 1)."
        )
    return Setting(log_joint, q, rows, levels, transition, n, d, n_chains)


def step_sizes_of(
    owner: str,
    key: PRNGKey,
    setting: Setting,
    given: ArrayLike | None,
    aim: Scalar,
    chunk: int,
) -> NDArray[np.float64]:
    """Those given, or those of a pilot, (B, T - 1)."""
    shape = (setting.n_rows, setting.levels.shape[0] - 2)
    if given is None and shape[1] > 0:
        first = np.full(shape, FIRST_STEP)
        key_start, key_run = jax.random.split(key)
        return run(key_run, setting, draw_starts(key_start, setting), first, GAIN, aim, chunk)[1]
    sizes = np.asarray(positive("step_sizes", FIRST_STEP)(FIRST_STEP if given is None else given))
    if sizes.shape not in ((), shape):
        raise ValueError(
            f"{owner} needs step_sizes as one number or of shape (rows, n_steps - 1) = {shape}, "
            f"got shape {sizes.shape}; write step_sizes=None for a pilot."
        )
    return np.broadcast_to(sizes, shape).astype(np.float64)


def run(
    key: PRNGKey,
    setting: Setting,
    starts: Float[Array, "B C d"],
    steps: NDArray[np.float64],
    gain: float,
    aim: Scalar,
    chunk: int,
) -> tuple[NDArray[np.float64], ...]:
    """Log weights, step sizes and acceptance of all rows, as many rows at once as `chunk` lets."""
    n, gains = setting.n_rows, jnp.asarray(gain, starts.dtype)
    log_steps = jnp.asarray(np.log(steps), starts.dtype)
    keys = jax.random.split(key, log_steps.shape)
    found = [
        jax.device_get(_anneal(setting, i, keys, starts, log_steps, gains, aim))
        for i in row_batches(n, chunk // setting.n_chains)
    ]
    return tuple(np.concatenate(a)[:n].astype(np.float64) for a in zip(*found, strict=True))


@eqx.filter_jit
def draw_starts(key: PRNGKey, setting: Setting) -> Float[Array, "B C d"]:
    """Draws of q for every row and chain."""

    def one_row(i: Count, key: PRNGKey) -> Float[Array, "C d"]:
        return proposal_of(setting.q, i).sample(key, setting.n_chains)

    n = setting.n_rows
    return jax.vmap(one_row)(jnp.arange(n), jax.random.split(key, n))


@eqx.filter_jit
def _anneal(
    setting: Setting,
    batch: Int[Array, " R"],
    keys: Key[Array, "B inner"],
    starts: Float[Array, "B C d"],
    log_steps: Float[Array, "B inner"],
    gain: Scalar,
    aim: Scalar,
) -> tuple[Array, ...]:
    """One run of the rows in the batch, from `starts`; one program for pilot and both directions.

    With a gain above 0 step sizes follow the acceptance. Returns log weights, step sizes and
    acceptance.
    """
    levels = setting.levels.astype(starts.dtype)
    widths = jnp.diff(levels)

    def one_row(i: Count, keys: Array, start: Array, log_steps: Array) -> tuple[Array, ...]:
        path = _path(setting, i, start)

        def level(carry: Any, now: Any) -> tuple[Any, Any]:
            places, log_w, shift = carry
            key, b, width, log_step = now
            size = jnp.exp(log_step + shift)
            places, rates = setting.transition.move(key, path, places, b, size)
            rate = jnp.mean(rates)
            shift += (gain * (rate - aim)).astype(shift.dtype)
            return (places, log_w + width * places.log_ratio, shift), (size, rate)

        places = path.at(start)
        first = places, widths[0] * places.log_ratio, jnp.zeros((), start.dtype)
        inner = keys, levels[1:-1], widths[1:], log_steps
        (_, log_w, _), (sizes, rates) = jax.lax.scan(level, first, inner)
        return log_w, sizes, rates

    return jax.vmap(one_row)(batch, keys[batch], starts[batch], log_steps[batch])


def _path(setting: Setting, i: Count, like: Float[Array, "C d"]) -> Path:
    q = proposal_of(setting.q, i)
    moments = q.moments()
    scale = jnp.ones_like(like[0]) if moments is None else moments[1].sd()
    return Path(setting.log_joint, q, row_of(setting.rows, i), scale)
