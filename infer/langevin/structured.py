"""Structured stochastic-gradient MCMC: groups of parameters, independent of one another."""

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import check_count
from infer.core.groups import Groups, partition
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.langevin.schedules import Schedule, at_step, check_step_size, schedule_or_number
from infer.langevin.sgld import limit
from infer.langevin.stochastic import (
    StochasticState,
    begin,
    careful,
    covariance,
    look,
    looked,
    moved,
    shown,
)
from infer.references.citation import cites
from infer.references.minibatches import ALEXOS_2022


def _groups(value: Any) -> Groups | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or any(
        isinstance(g, str) or not isinstance(g, Sequence) or not g for g in value
    ):
        raise ValueError(
            f"StructuredSGMCMC needs groups= as a list of lists of site names or of coordinates, "
            f'got {value!r}; write groups=[["w"], ["b", "s"]] or groups=[[0, 1], [2, 3, 4]].'
        )
    return tuple(tuple(g) for g in value)


class StructuredState(eqx.Module):
    """The state of `SGLD`, and the last positions, of which the newest is number `count` - 1."""

    at: StochasticState
    past: Float[Array, "K d"]
    count: Count


@cites(ALEXOS_2022)
class StructuredSGMCMC(AbstractSampler):
    """Langevin dynamics on minibatches for groups of parameters that see only each other's past.

        z_i <- z_i + e M g_i + sqrt(2 e) L noise,     g_i = d/dz_i log p(z_i, others),   M = L L^T
        others: for every group but i its value at a time of its own, from the last K steps

    for every group i at once. Averaged over the past of the others g_i is the gradient of
    E[log p(z_i, others)], so the draws are those of the product q_1(z_1) q_2(z_2) ... nearest to
    the posterior in reverse Kullback-Leibler divergence: mean field between groups, of any shape
    within them. **Correlations between groups are lost**, and spreads along them: on a Gaussian
    with precision P the mean is right and q_i has the covariance (P_ii)^-1, that of z_i when all
    others are known. Nothing in the agreement of chains shows it. One group is `SGLD`.

    A draw is the value of every group at another time, K / (number of groups) steps apart, so that
    what is recorded is the product, without the minibatches that groups have in common.

    Args:
        groups: lists of site names, or of coordinates of z, each in exactly one of them; None for
            every site by itself.
        memory: K, steps, >= 2; it should hold many independent values. K d numbers per chain.
        step_size: e, in (0, 2), in units of M, or a schedule, as in `SGLD`.
        covariance: M, as in `SGLD`.

    Cost per step: as many gradients on the minibatch as there are groups, one density, and in
    `infer.fit` a copy of the past, O(K d).

    Limits: biased by e as `SGLD` is, with the spread of the others' past as further noise of the
    score. It forgets its start, and settles, over K / (1 - r) steps, r the largest correlation
    between combinations of two groups: a warm-up shorter than K is of no use, and with r = 0.95 the
    default run was not enough (the verdict said so).

    Source: Alexos, Boyd and Mandt, Structured stochastic gradient MCMC, ICML 2022, in the form
    without dropout. There the prior is taken at the present of all groups, here in g_i like the
    rest of log p; the same where groups are independent in the prior, and else the one whose
    optimum is that of the divergence.
    """

    groups: Groups | None = eqx.field(static=True, converter=_groups, default=None)
    memory: int = eqx.field(static=True, default=2000)
    step_size: Scalar | Schedule = eqx.field(
        converter=schedule_or_number("step_size", 0.1), default=0.1
    )
    covariance: Array | None = eqx.field(converter=covariance, default=None)
    exact_target: ClassVar[bool] = False
    adjusted: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 4000
    default_steps: ClassVar[int] = 20_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("StructuredSGMCMC", "memory", self.memory, 2000, least=2)
        check_step_size("StructuredSGMCMC", self.step_size, 2.0, 0.1)

    def check(self, target: Target) -> None:
        """Refuse groups that are no partition."""
        membership(target, self.groups)

    def init(self, key: PRNGKey, target: Target) -> StructuredState:
        """The state at `target.initial(key)`, whose past is that point."""
        at = begin(target, target.initial(key), self.covariance)
        past = jnp.tile(at.position, (self.memory, 1))
        return StructuredState(at, past, jnp.ones((), jnp.int32))

    def _go(
        self, key: PRNGKey, target: Target, state: StructuredState, e: Scalar
    ) -> tuple[StructuredState, Vector]:
        """The next position, remembered; and the score of every group among the others' past."""
        z, scale = state.at.position, state.at.terrain.scale
        group, each = membership(target, self.groups), jnp.arange(len(z))
        n = group.max() + 1
        key_past, key_noise = jax.random.split(key)
        when = jax.random.randint(key_past, (n, n), 0, jnp.minimum(state.count, self.memory))
        others = state.past[when[:, group], each]  # (n, d): a line for every group
        lines = jnp.where(jnp.arange(n)[:, None] == group, z, others)
        score = jax.vmap(lambda line: target.value_and_score(line)[1])(lines)[group, each]
        noise = jax.random.normal(key_noise, z.shape, z.dtype)
        z = z + e * scale.apply(score) + jnp.sqrt(2 * e) * scale.color(noise)
        past = state.past.at[state.count % self.memory].set(z)
        at = eqx.tree_at(lambda s: s.position, state.at, z)
        return StructuredState(at, past, state.count + 1), score

    def _draw(self, target: Target, state: StructuredState) -> Vector:
        group = membership(target, self.groups)
        apart = group * self.memory // (group.max() + 1)
        when = jnp.maximum(state.count - 1 - apart, 0) % self.memory
        return state.past[when, jnp.arange(len(group))]

    def _shown(self, state: StructuredState, e: Scalar, gradients: int) -> Info:
        excess = 0.5 * e * jnp.max(state.at.terrain.whitened_noise())
        return shown(state.at, e, limit(state.at.terrain.steepest), excess, gradients)

    def step(
        self, key: PRNGKey, target: Target, state: StructuredState
    ) -> tuple[StructuredState, Info]:
        """One transition of every group."""
        e = at_step(self.step_size, state.at.i, state.at.position)
        state, score = self._go(key, target, state, e)
        draw, z = self._draw(target, state), state.at.position
        value = target.log_prob(draw)
        at = StochasticState(z, value, score, state.at.terrain, draw, value, state.at.i + 1)
        state = StructuredState(at, state.past, state.count)
        return state, self._shown(state, e, int(membership(target, self.groups).max()) + 1)

    def adapt(
        self, key: PRNGKey, target: Target, state: StructuredState, i: Count, n: Count
    ) -> tuple[StructuredState, Info]:
        """One transition, after a look around at the present of all groups."""
        key_look, key_move = jax.random.split(key)
        at = look(key_look, target, state.at, self.covariance, i)
        state = StructuredState(at, state.past, state.count)
        e = careful(at_step(self.step_size, at.i, at.position), limit, at)
        after, _ = self._go(key_move, target, state, e)
        at = moved(target, at, after.at.position, None)
        state = looked(i, StructuredState(at, after.past, after.count), state)
        return state, self._shown(state, e, int(membership(target, self.groups).max()) + 7)

    def position(self, state: StructuredState) -> Vector:
        """A draw of the product: every group at another time."""
        return state.at.draw


def membership(target: Target, groups: Groups | None) -> Int[np.ndarray, " d"]:
    """The number of the group of every coordinate; refuses what is no partition."""
    each = tuple((site.name,) for site in target.sites)
    write = f"groups={[list(names) for names in each]}"
    return partition("StructuredSGMCMC", target, each if groups is None else groups, write)
