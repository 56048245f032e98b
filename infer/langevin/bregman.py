"""Bregman proximal Langevin: mirror Langevin on f plus a Bregman-Moreau envelope of g."""

import warnings
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from infer.core.algorithm import AbstractSampler, Info
from infer.core.bregman import AbstractSide, Left
from infer.core.checks import positive
from infer.core.composite import blunted, is_composite, terms_of
from infer.core.legendre import AbstractLegendre, Energy
from infer.core.mirror import check_mirror_maps, geometry, primal_score
from infer.core.nonsmooth import AbstractNonsmooth
from infer.core.target import Site, Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.langevin.mirror import MirrorState, mirror_move
from infer.langevin.proximal import warn_of_smoothing
from infer.references.citation import cites
from infer.references.langevin import LAU_2022

REACH = {  # of supports by name: what a smoother has to be defined on
    "real": (-np.inf, np.inf),
    "real_vector": (-np.inf, np.inf),
    "positive": (0.0, np.inf),
    "nonnegative": (0.0, np.inf),
    "unit_interval": (0.0, 1.0),
    "simplex": (0.0, 1.0),
}


def warn_of_bisection(side: AbstractSide, term: AbstractNonsmooth, psi: AbstractLegendre) -> None:
    """Say that a proximal map is numeric."""
    warnings.warn(
        f"the {type(side).__name__.lower()} proximal map of {type(term).__name__} in the "
        f"distance of {type(psi).__name__} has no closed form here: it is found by bisection, "
        "some 100 derivatives of g and psi per step.",
        stacklevel=5,
    )


@cites(LAU_2022)
class BregmanProximalLangevin(AbstractSampler):
    """Mirror Langevin on f plus an envelope of g in a Bregman distance.

        u <- u - h (grad f(x) + grad env(x)) + sqrt(2 h) [Hess phi(x)]^1/2 noise,   x = grad phi*(u)
        env(x) = min over v of g(v) + D_psi(v, x) / lam    (left; with D_psi(x, v) right)

    for a target exp(-f - g) made by `infer.Composite`; without g it is `MirrorLangevin`. The mirror
    phi is that of the target's sites: `infer.mirrored(target, {"x": infer.HyperbolicEntropy(b)})`,
    and the identity for real sites. The smoother psi is another function. With the identity and
    `Energy()` this is `MYULA` without preconditioner, with `Energy(w)` for both `MYULA` whose M is
    1 / w; with `Right()`, psi = phi and lam = h the proximal map of g comes first, then gradient
    and noise. Proximal points have closed forms for `L1`, `Box` and `Simplex`; others are found by
    bisection, which a warning says. Warm-up is burn-in.

    Cost per step: a gradient of f, one proximal map.

    Args:
        step_size: h, > 0. The envelope asks for h psi'' / (lam phi'') < 2 in every coordinate; a
            warning says where it is not so. Nothing explodes then if g has bounded slopes, but
            the chain follows subgradients of g, whatever lam.
        smoothing: lam, > 0, in units of psi: the envelope has the width lam / psi''(x), which
            depends on the place; "smoothing_nats" in the history is what it is at the draws.
        smoother: psi: `Energy(w)`, `HyperbolicEntropy(b)`, `Hellinger()`, `Exponential()`, or for
            positive values `BoltzmannShannon()`, `Burg()`, `FermiDirac()`.
        side: `Left()` or `Right()`. Left envelopes need not be convex.

    Limits: biased by h and lam, towards flat tails as psi'' falls. In the published experiments the
    hyperbolic mirror gained nothing over `MYULA` with a diagonal preconditioner (docs).

    Source: Lau and Liu, Bregman proximal Langevin Monte Carlo via Bregman-Moreau envelopes, ICML
    2022.
    """

    step_size: Scalar = eqx.field(converter=positive("step_size", 0.02), default=0.02)
    smoothing: Scalar = eqx.field(converter=positive("smoothing", 0.1), default=0.1)
    smoother: AbstractLegendre = eqx.field(default_factory=Energy)
    side: AbstractSide = eqx.field(default_factory=Left)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = False
    proximal: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 4000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        if not isinstance(self.smoother, AbstractLegendre):
            raise TypeError(
                "BregmanProximalLangevin needs smoother=infer.Energy() or another Legendre "
                f"function, got {self.smoother!r}."
            )
        if not isinstance(self.side, AbstractSide):
            raise TypeError(
                "BregmanProximalLangevin needs side=infer.Left() or infer.Right(), got "
                f"{self.side!r}."
            )

    def check(self, target: Target) -> None:
        """Refuse what has no proximal map; say where it is numeric, smooths much, or overshoots."""
        name = type(self).__name__
        check_mirror_maps(target, name, "infer.MYMALA()")
        psi = self.smoother
        for site in target.sites:
            if site.name in terms_of(target):
                self._check_site(target, site)
        if not is_composite(target):
            return
        u = jnp.zeros(target.dim)
        values = target.model.constrain(target.unravel(u))
        named = terms_of(target)
        bent = target.ravel(
            {k: psi.curvature(x) if k in named else jnp.ones_like(x) for k, x in values.items()}
        )
        metric = geometry(target, u).diagonal()
        warn_of_smoothing(name, target, self.smoothing / bent)
        ratio = np.asarray(self.step_size * bent * metric / self.smoothing)
        if ratio.max() >= 2:
            warnings.warn(
                f"{name}: step_size x psi'' / (smoothing x phi'') is {ratio.max():.3g} at the "
                "center, and should be below 2: the chain overshoots the envelope and follows "
                f"subgradients. Take step_size below "
                f"{2 * float(self.step_size) / ratio.max():.3g}, or a larger smoothing=.",
                stacklevel=3,
            )

    def _check_site(self, target: Target, site: Site) -> None:
        term, psi = terms_of(target)[site.name], self.smoother
        low, high = REACH.get(site.support, (-np.inf, np.inf))
        if low < psi.low or high > psi.high:
            raise ValueError(
                f"{type(psi).__name__} is defined on ({psi.low}, {psi.high}), site {site.name!r} "
                f"({site.support}) reaches further; write smoother=infer.Energy() or "
                "infer.HyperbolicEntropy()."
            )
        if self.side.closed(term, psi) is not None:
            return
        if self.side.numeric(term, psi) is None:
            raise ValueError(
                f"there is no proximal map of {type(term).__name__} in the distance of "
                f"{type(psi).__name__}: it mixes coordinates. Write smoother=infer.Energy()."
            )
        warn_of_bisection(self.side, term, psi)

    def init(self, key: PRNGKey, target: Target) -> MirrorState:
        """The state at `target.initial(key)`."""
        check_mirror_maps(target, "BregmanProximalLangevin", "infer.MYMALA()")
        u = target.initial(key)
        return MirrorState(u, *primal_score(blunted(target), u))

    def step(self, key: PRNGKey, target: Target, state: MirrorState) -> tuple[MirrorState, Info]:
        """One transition."""
        u, h = state.position, self.step_size.astype(state.position.dtype)
        noise = jax.random.normal(key, u.shape, u.dtype)
        slope, nats = self.envelope(target, u)
        u = mirror_move(noise, u, state.force - slope, geometry(target, u), h)
        log_prob, force = primal_score(blunted(target), u)
        info = Info(-log_prob, jnp.asarray(1), {"smoothing_nats": nats})
        return MirrorState(u, log_prob, force), info

    def envelope(self, target: Target, u: Vector) -> tuple[Vector, Scalar]:
        """The gradient of the envelope in x, and g less the envelope, in nats."""
        lam = self.smoothing.astype(u.dtype)
        terms, nats = terms_of(target), jnp.zeros((), u.dtype)
        free = target.unravel(u)
        values = target.model.constrain(free)
        slopes = {name: jnp.zeros_like(part) for name, part in free.items()}
        for name, term in terms.items():
            x, psi = values[name], self.smoother
            v = self.side.prox(term, psi, x, lam)
            slopes[name] = self.side.slope(psi, x, v, lam)
            nats += term.value(x) - term.value(v)
            nats -= jnp.sum(self.side.distance(psi, x, v)) / lam
        return target.ravel(slopes), nats

    def adapt(
        self, key: PRNGKey, target: Target, state: MirrorState, i: Count, n: Count
    ) -> tuple[MirrorState, Info]:
        """One transition: nothing is tuned."""
        return self.step(key, target, state)

    def position(self, state: MirrorState) -> Vector:
        """Where the chain is."""
        return state.position
