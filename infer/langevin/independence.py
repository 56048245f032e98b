"""Proposals from a fitted distribution, between the moves of a local sampler."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import check_count, positive
from infer.core.posterior import AbstractDistribution
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, State, Vector
from infer.families.reference import check_reference, check_reference_fits, reference_of
from infer.langevin.mala import MALA
from infer.references.citation import cites
from infer.references.mcmc import GABRIE_2022, TIERNEY_1994


class IndependenceState(eqx.Module):
    """Where the chain is, its log density and log w = log p - log q; and the local sampler's state.

    The last is None where there is no local sampler.
    """

    position: Vector
    log_prob: Scalar
    log_weight: Scalar
    local: State | None


Transition = Callable[[PRNGKey, State, Count], tuple[State, Info]]


@cites(TIERNEY_1994, GABRIE_2022)
class IndependenceSampler(AbstractSampler):
    """Jumps to draws of a fitted distribution q, between moves of a local sampler.

        n_local transitions of `local`
        n_global times:  z' ~ q,  accepted with probability min(1, w(z') / w(z)),   w = p / q

    Leaves the posterior invariant whatever q is: local moves repair where q is wrong, jumps carry
    chains between modes that q covers. Proposals do not depend on the state, so the densities of
    all n_global of a step are evaluated at once. Warm-up is that of `local`, n_local iterations a
    step; without `local` its first half takes every proposal, to leave a start of tiny q behind.
    `IndependenceSampler(scale=1.0)` on `infer.neutra(target, q)` makes the same jumps without an
    inverse, and local moves in the coordinates of the noise.

    Recorded: `global_acceptance`, the mean acceptance of the jumps; and what `local` records, a
    mean over its transitions (a sum of counts; any of flags), but for `energy`.

    Limits: a mode that q misses is missed. Where w is unbounded, q having thinner tails than the
    posterior, a chain that comes far out waits long for its next jump. Acceptance falls
    exponentially with d unless q gains on it. A metric learned by `local` is one for all modes.

    Cost per step: n_local transitions, one gradient, n_global densities of the target and 1 +
    n_global of q, of a flow by its inverse.

    Args:
        reference: q, a distribution on the unconstrained scale, as the posterior of a variational
            fit; None for N(0, scale^2 I).
        scale: > 0, of that one.
        local: an adjusted sampler, as `infer.NUTS()`; None for jumps alone.
        n_local: its transitions per step, >= 1.
        n_global: jumps proposed per step, >= 1.

    Source: Tierney, Annals of Statistics 22(4), 1994; Gabrie, Rotskoff and Vanden-Eijnden, Adaptive
    Monte Carlo augmented with normalizing flows, PNAS 119, 2022.
    """

    reference: AbstractDistribution | None = None
    scale: Scalar = eqx.field(converter=positive("scale", 3.0), default=3.0)
    local: AbstractSampler | None = eqx.field(default_factory=MALA)
    n_local: int = eqx.field(static=True, default=5)
    n_global: int = eqx.field(static=True, default=1)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later, and a local sampler whose bias would stay."""
        check_reference("IndependenceSampler", self.reference)
        check_count("IndependenceSampler", "n_local", self.n_local, 5)
        check_count("IndependenceSampler", "n_global", self.n_global, 1)
        check_local(self.local)

    def check(self, target: Target) -> None:
        """Refuse a reference of another dimension, and what the local sampler refuses."""
        check_reference_fits("IndependenceSampler", self.reference, target)
        if self.local is None:
            return
        self.local.check(target)
        key, z = jax.random.key(0), jax.ShapeDtypeStruct((target.dim,), jnp.zeros(()).dtype)
        state = eqx.filter_eval_shape(self.local.init, key, target)
        try:
            eqx.filter_eval_shape(self.local.moved, key, target, state, z)
        except AttributeError as error:
            name = type(self.local).__name__
            raise TypeError(
                f"IndependenceSampler cannot put the chain of local={name} elsewhere: {error}. "
                f"Write {name}.moved(key, target, state, z), or keep what is learned as `tuning`."
            ) from error

    def init(self, key: PRNGKey, target: Target) -> IndependenceState:
        """The state at `target.initial(key)`."""
        local = None if self.local is None else self.local.init(key, target)
        z = target.initial(key) if self.local is None else self.local.position(local)
        log_prob = target.log_prob(z)
        log_q = reference_of(self.reference, self.scale, z).log_prob(z)
        return IndependenceState(z, log_prob, log_prob - log_q, local)

    def step(
        self, key: PRNGKey, target: Target, state: IndependenceState
    ) -> tuple[IndependenceState, Info]:
        """Local transitions, then jumps."""

        def move(key: PRNGKey, local: State, j: Count) -> tuple[State, Info]:
            assert self.local is not None
            return self.local.step(key, target, local)

        return self._step(key, target, state, move, jnp.asarray(False))

    def adapt(
        self, key: PRNGKey, target: Target, state: IndependenceState, i: Count, n: Count
    ) -> tuple[IndependenceState, Info]:
        """The same, the local sampler being in iterations n_local * i and after of n_local * n."""

        def move(key: PRNGKey, local: State, j: Count) -> tuple[State, Info]:
            assert self.local is not None
            m = self.n_local
            return self.local.adapt(key, target, local, m * i + j, m * n)

        leave = (self.local is None) & (2 * i < n)
        return self._step(key, target, state, move, leave)

    def _step(
        self, key: PRNGKey, target: Target, state: IndependenceState, move: Transition, leave: Array
    ) -> tuple[IndependenceState, Info]:
        key_local, key_draw, key_accept, key_moved = jax.random.split(key, 4)
        q = reference_of(self.reference, self.scale, state.position)
        stats, gradients = {}, jnp.zeros((), jnp.int32)
        if self.local is not None:
            keys = jax.random.split(key_local, self.n_local)
            local, infos = jax.lax.scan(
                lambda local, at: move(at[0], local, at[1]),
                state.local,
                (keys, jnp.arange(self.n_local)),
            )
            z, log_prob = self.local.position(local), -infos.loss[-1]
            state = IndependenceState(z, log_prob, log_prob - q.log_prob(z), local)
            stats = {name: _over(x) for name, x in infos.stats.items() if name != "energy"}
            gradients = jnp.sum(infos.gradients, dtype=jnp.int32) + self.local.uses_gradient

        # Not `sample_score`, whose draws may be stratified, as those of a mixture are.
        x = q.sample(key_draw, self.n_global)
        log_p, log_q = jax.vmap(target.log_prob)(x), jax.vmap(q.log_prob)(x)
        log_w = jnp.where(jnp.isfinite(log_p - log_q), log_p - log_q, -jnp.inf)
        chance = jax.random.uniform(key_accept, log_w.shape, log_w.dtype)

        def jump(at: tuple[Vector, Scalar, Scalar], new: Any):
            *there, u = new
            ratio = there[2] - at[2]
            rate = jnp.where(jnp.isnan(ratio), 0, jnp.exp(jnp.minimum(ratio, 0)))
            accept = (u < rate) | (leave & (there[2] > -jnp.inf))
            to: Any = tuple(jnp.where(accept, a, b) for a, b in zip(there, at, strict=True))
            return to, (rate, accept)

        begun = (state.position, state.log_prob, state.log_weight)
        proposals = (x, log_p, log_w, chance)
        (z, log_prob, log_weight), (rates, accepts) = jax.lax.scan(jump, begun, proposals)
        local = state.local
        if self.local is not None:
            there = self.local.moved(key_moved, target, local, z)
            jumped = jnp.any(accepts)
            local = jax.tree.map(lambda a, b: jnp.where(jumped, a, b), there, local)
        stats |= {"global_acceptance": jnp.mean(rates)}
        return IndependenceState(z, log_prob, log_weight, local), Info(-log_prob, gradients, stats)

    def position(self, state: IndependenceState) -> Vector:
        """Where the chain is."""
        return state.position


def check_local(local: Any) -> None:
    """Refuse what is no adjusted sampler."""
    if local is None:
        return
    if not isinstance(local, AbstractSampler):
        raise TypeError(
            f"IndependenceSampler needs local= a sampler as an object, got {local!r}; write "
            "local=infer.MALA(), or local=None for jumps alone."
        )
    if not local.adjusted:
        raise ValueError(
            f"IndependenceSampler got local={type(local).__name__}, which has no acceptance test, "
            "so its bias would stay; write local=infer.MALA() or local=infer.NUTS()."
        )


def _over(x: Array) -> Array:
    """One number for the transitions of a step."""
    if x.dtype == bool:
        return jnp.any(x)
    return jnp.mean(x) if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.sum(x, dtype=x.dtype)
