"""The Bregman proximal gradient Langevin algorithm."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractSampler, Info
from infer.core.bregman import Left
from infer.core.checks import positive
from infer.core.composite import blunted, terms_of
from infer.core.legendre import (
    AbstractLegendre,
    BoltzmannShannon,
    Energy,
    FermiDirac,
    LegendreMap,
)
from infer.core.mirror import check_mirror_maps, geometry, primal_score
from infer.core.support import AbstractSupport, Positive, Real, UnitInterval
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.langevin.bregman import warn_of_bisection
from infer.langevin.mirror import MirrorState, kept
from infer.references.citation import cites
from infer.references.langevin import LAU_2022


@cites(LAU_2022)
class BregmanPGLA(AbstractSampler):
    """A mirror Langevin step on f, and the proximal map of g in the distance of the mirror.

        u <- prox( u - h grad f(x) + sqrt(2 h) [Hess phi(x)]^1/2 noise ),      x = grad phi*(u)
        u <- prox( u - h grad f(x) ) + sqrt(2 h) [Hess phi(x)]^1/2 noise       with noise_last=True
        prox(u) = grad phi(v),   v = argmin over v of g(v) + D_phi(v, grad phi*(u)) / h

    for a target exp(-f - g) made by `infer.Composite`; without g it is `MirrorLangevin`, with the
    mirror `infer.Energy(1 / M)` it is `PGLA`. Gradient first, as optimizers have it; with the
    proximal map first it is `BregmanProximalLangevin(h, h, smoother=phi, side=infer.Right())`. As
    in `PGLA` there is no smoothing to choose, and draws with the noise first are points of the
    proximal map: exactly 0 in some coordinates with `L1`, in a `Box`. Warm-up is burn-in.

    The mirror is that of the target's sites: of a Legendre function, as in `infer.mirrored(target,
    {"x": infer.HyperbolicEntropy(b)})`, the identity for real sites, or that of `infer.positive`
    and `infer.unit_interval`. Proximal points have closed forms for `L1` (the slopes u move towards
    the slope at 0 by h weight) and `Box`; those of a `Penalty` are found by bisection, which a
    warning says.

    Cost per step: a gradient of f, one proximal map.

    Args:
        step_size: h, > 0, in units of the squared metric distance; there is no tuning.
        noise_last: which order.

    Limits: biased by h. On Laplace densities with `HyperbolicEntropy(1.0)` and h = 0.02 (64 chains
    of 40,000 draws) variances are right to 3 % for rate 1; for rate 5 they are 17 % too small
    noise first and 34 % too large noise last, 5 % and 8 % at h = 0.005.

    Source: Lau and Liu, Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes, ICML
    2022 (the envelope); the order of the steps is that of Bregman proximal gradient methods.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.02), default=0.02)
    noise_last: bool = eqx.field(static=True, default=False)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    proximal: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def check(self, target: Target) -> None:
        """Refuse terms without a proximal map in the distance of their mirror."""
        check_mirror_maps(target, "BregmanPGLA", "infer.MYMALA()")
        potentials = _potentials(target)
        for name, term in terms_of(target).items():
            psi = potentials[name]
            if psi is None:
                raise ValueError(
                    f"BregmanPGLA takes the proximal map in the distance of the mirror, and that "
                    f"of site {name!r} is no Legendre function here. Write "
                    "infer.BregmanProximalLangevin(), whose smoother is another one."
                )
            if Left().closed(term, psi) is not None:
                continue
            if Left().numeric(term, psi) is None:
                raise ValueError(
                    f"there is no proximal map of {type(term).__name__} in the distance of "
                    f"{type(psi).__name__}, the mirror of site {name!r}: it mixes coordinates. "
                    "Leave the site without a mirror, or write infer.PGLA()."
                )
            warn_of_bisection(Left(), term, psi)

    def init(self, key: PRNGKey, target: Target) -> MirrorState:
        """The state at `target.initial(key)`."""
        check_mirror_maps(target, "BregmanPGLA", "infer.MYMALA()")
        u = target.initial(key)
        return MirrorState(u, *primal_score(blunted(target), u))

    def step(self, key: PRNGKey, target: Target, state: MirrorState) -> tuple[MirrorState, Info]:
        """One transition."""
        u, h = state.position, self.step_size.astype(state.position.dtype)
        noise = geometry(target, u).color(jax.random.normal(key, u.shape, u.dtype))
        noise, moved = jnp.sqrt(2 * h) * noise, u + h * state.force
        if self.noise_last:
            u = kept(proximal_slopes(target, kept(moved), h) + noise)
        else:
            u = proximal_slopes(target, kept(moved + noise), h)
        log_prob, force = primal_score(blunted(target), u)
        return MirrorState(u, log_prob, force), Info(-log_prob, jnp.asarray(1), {})

    def adapt(
        self, key: PRNGKey, target: Target, state: MirrorState, i: Count, n: Count
    ) -> tuple[MirrorState, Info]:
        """One transition: nothing is tuned."""
        return self.step(key, target, state)

    def position(self, state: MirrorState) -> Vector:
        """Where the chain is."""
        return state.position


def _potentials(target: Target) -> dict[str, AbstractLegendre | None]:
    """The mirror potential of every site, None where it is no sum over coordinates."""
    supports = target.model.supports or ()
    return {
        site.name: _potential(support) for site, support in zip(target.sites, supports, strict=True)
    }


def _potential(support: AbstractSupport) -> AbstractLegendre | None:
    if isinstance(support, LegendreMap):
        return support.psi
    known = ((Real, Energy()), (Positive, BoltzmannShannon()), (UnitInterval, FermiDirac()))
    return next((psi for cls, psi in known if isinstance(support, cls)), None)


def proximal_slopes(target: Target, u: Vector, h: Scalar) -> Vector:
    """Grad phi of the proximal point of x, u = grad phi(x)."""
    free, potentials = dict(target.unravel(u)), _potentials(target)
    for name, term in terms_of(target).items():
        psi = potentials[name]
        assert psi is not None
        free[name] = psi.slope(Left().prox(term, psi, psi.inverse(free[name]), h))
    return kept(target.ravel(free))
