"""Mirror Langevin, with the noise of the mirror potential, and what its forms share."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.checks import positive
from infer.core.mirror import Geometry, check_mirror_maps, geometry, primal_score
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.langevin import CHEWI_2020_MIRROR, ZHANG_2020


class MirrorState(eqx.Module):
    """The dual variable, its density on R^d, and the gradient in the primal variable."""

    position: Vector
    log_prob: Scalar
    force: Vector


def mirror_move(noise: Vector, u: Vector, force: Vector, shape: Geometry, h: Scalar) -> Vector:
    """U + h force + sqrt(2 h) J^-1/2 noise."""
    return kept(u + h * force + jnp.sqrt(2 * h) * shape.color(noise))


def kept(u: Vector) -> Vector:
    """U, kept where floating point can square it."""
    most = jnp.sqrt(jnp.finfo(u.dtype).max) / 16
    return jnp.clip(u, -most, most)


@cites(ZHANG_2020, CHEWI_2020_MIRROR)
class MirrorLangevin(AbstractSampler):
    """Langevin dynamics in the metric of a mirror potential psi, without an acceptance test.

        u <- u + h grad_x log p(x) + sqrt(2 h) [Hess psi(x)]^1/2 noise,     x = grad psi*(u)

    u = grad psi(x) is the unconstrained coordinate of the target, x the parameter on its support:
    no step can leave it, and near its boundary steps shrink with the potential. p is the density
    on the support, without a Jacobian. (`MirroredLangevin` has constant noise and the Jacobian in
    its density; another algorithm, which shares nothing but the maps.) Warm-up is burn-in.

    Cost per step: one gradient, O(d).

    Args:
        step_size: h, > 0, in units of the squared metric distance; there is no tuning.

    Limits: biased by its step size, and more than by h alone: on a Dirichlet with concentrations 4
    and `LogBarrierSimplex`, variances 5 % too large at h = 0.02 and 29 % at 0.08. With a potential
    that is weaker at the boundary than the density is (`EntropicSimplex` for a Dirichlet with
    concentrations above 1, h (c - 1) / x is a jump of any size in u) it is unstable at any h: take
    `LogBarrierSimplex`, or `MirrorMALA`, whose test refuses such jumps. On sites with the identity
    as their map it is `ULA`, stable for h < 2 / (largest curvature of -log p). Needs a mirror map
    for every site, see `infer.mirrored`.

    Source: Zhang, Peyre, Fadili and Pereyra, Wasserstein control of mirror Langevin Monte Carlo,
    COLT 2020; Chewi et al., Exponential ergodicity of mirror-Langevin diffusions, NeurIPS 2020.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.02), default=0.02)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def init(self, key: PRNGKey, target: Target) -> MirrorState:
        """The state at `target.initial(key)`."""
        check_mirror_maps(target, "MirrorLangevin", "infer.MALA()")
        u = target.initial(key)
        log_prob, force = primal_score(target, u)
        return MirrorState(u, log_prob, force)

    def step(self, key: PRNGKey, target: Target, state: MirrorState) -> tuple[MirrorState, Info]:
        """One transition."""
        noise = jax.random.normal(key, state.position.shape, state.position.dtype)
        h = self.step_size.astype(state.position.dtype)
        u = mirror_move(noise, state.position, state.force, geometry(target, state.position), h)
        log_prob, force = primal_score(target, u)
        return MirrorState(u, log_prob, force), Info(-log_prob, jnp.asarray(1), {})

    def adapt(
        self, key: PRNGKey, target: Target, state: MirrorState, i: Count, n: Count
    ) -> tuple[MirrorState, Info]:
        """One transition: nothing is tuned."""
        return self.step(key, target, state)

    def position(self, state: MirrorState) -> Vector:
        """Where the chain is."""
        return state.position
