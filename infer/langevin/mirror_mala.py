"""Mirror Langevin with an acceptance test."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import fraction, positive
from infer.core.mirror import check_mirror_maps, geometry, primal_score
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.geometry.warmup import DualAveraging, restart
from infer.langevin.mirror import mirror_move
from infer.references.citation import cites
from infer.references.langevin import SRINIVASAN_2024


class AdjustedState(eqx.Module):
    """The dual variable with its density and force, and the step size with its averaging."""

    position: Vector
    log_prob: Scalar
    force: Vector
    step_size: Scalar
    averaging: DualAveraging


@cites(SRINIVASAN_2024)
class MirrorMALA(AbstractSampler):
    """Mirror Langevin with an acceptance test: exact on simplices, boxes, balls and orthants.

        u' = u + h s + sqrt(2 h) J^-1/2 noise,   s = grad_x log p(x),   J = dx/du at u
        log a = log p(u') - log p(u) + (log det J' - log det J) / 2
                + |noise|^2 / 2 - r . J' r / (4 h),   r = u - u' - h s'

    with p(u) = p(x) det J the density of u = grad psi(x). (In x the third term is 3/2 of the
    Hessians' log determinants; one of the three is the Jacobian of p(u).) Warm-up tunes h by dual
    averaging. A proposal at which density, force or ratio is not finite is refused.

    Cost per step: one gradient, O(d).

    Args:
        step_size: the first h, > 0; kept if there is no warm-up.
        acceptance: mean acceptance aimed at, in (0, 1).

    Limits: the potential is the only preconditioner. Where it is weaker at the boundary than the
    density, as `EntropicSimplex` for a Dirichlet of concentrations far above 1, steps are short.
    Needs a mirror map for every site, see `infer.mirrored`.

    Source: Srinivasan, Wibisono and Wilson, Fast sampling from constrained spaces using the
    Metropolis-adjusted mirror Langevin algorithm, COLT 2024.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.05), default=0.05)
    acceptance: Scalar = eqx.field(converter=fraction("acceptance", 0.574), default=0.574)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def init(self, key: PRNGKey, target: Target) -> AdjustedState:
        """The state at `target.initial(key)`."""
        check_mirror_maps(target, "MirrorMALA", "infer.MALA()")
        u = target.initial(key)
        h = self.step_size.astype(u.dtype)
        return AdjustedState(u, *primal_score(target, u), h, restart(h))

    def step(
        self, key: PRNGKey, target: Target, state: AdjustedState
    ) -> tuple[AdjustedState, Info]:
        """One transition."""
        key_noise, key_accept = jax.random.split(key)
        u, h, here = state.position, state.step_size, geometry(target, state.position)
        noise = jax.random.normal(key_noise, u.shape, u.dtype)
        v = mirror_move(noise, u, state.force, here, h)
        log_prob, force = primal_score(target, v)
        there = geometry(target, v)
        back = there.square(u - v - h * force) / (4 * h)
        log_ratio = log_prob - state.log_prob + 0.5 * (there.log_det() - here.log_det())
        log_ratio += 0.5 * jnp.sum(noise**2) - back
        usable = jnp.isfinite(log_ratio) & jnp.all(jnp.isfinite(force))
        rate = jnp.where(usable, jnp.exp(jnp.minimum(log_ratio, 0)), 0)
        accept = jax.random.uniform(key_accept, dtype=u.dtype) < rate
        new = AdjustedState(v, log_prob, force, h, state.averaging)
        state = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state)
        stats = {"acceptance_rate": rate, "step_size": h}
        return state, Info(-state.log_prob, jnp.asarray(1), stats)

    def adapt(
        self, key: PRNGKey, target: Target, state: AdjustedState, i: Count, n: Count
    ) -> tuple[AdjustedState, Info]:
        """One transition, after which h is tuned; after the last one it is the averaged one."""
        state, info = self.step(key, target, state)
        shortfall = self.acceptance.astype(state.log_prob.dtype) - info.stats["acceptance_rate"]
        averaging, log_step = state.averaging.update(shortfall)
        h = jnp.exp(jnp.where(i + 1 == n, averaging.log_average, log_step))
        return eqx.tree_at(lambda s: (s.step_size, s.averaging), state, (h, averaging)), info

    def position(self, state: AdjustedState) -> Vector:
        """Where the chain is."""
        return state.position
