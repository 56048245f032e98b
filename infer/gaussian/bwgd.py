"""Gradient descent in the Bures-Wasserstein space."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import optional_positive, positive
from infer.core.stopping import AbstractStopping
from infer.core.target import Target
from infer.core.types import PRNGKey, Scalar, Vector
from infer.families.gaussian import DenseGaussian
from infer.gaussian import engine
from infer.gaussian.certificate import Certified
from infer.gaussian.frame import AbstractFrame, MovingFrame
from infer.gaussian.oracle import AbstractOracle
from infer.gaussian.rule import Rule
from infer.references.citation import cites
from infer.references.gaussian import LAMBERT_2022


def multipliers(lam: Vector, eta: Scalar) -> tuple[Vector, Vector]:
    """Explicit steps, a = 1 - eta (lam - 1): the entropy has no proximal step of its own."""
    return 1 - eta * (lam - 1), jnp.full_like(lam, eta)


def gradient_step(factor: Array, gradient: Array, eta: Scalar) -> Array:
    """K' = (I - eta (S - Sigma^-1)) K = K - eta (G - K^-T), with G = S K."""
    return factor - eta * (gradient - jnp.linalg.inv(factor).T)


RULE = Rule(multipliers, gradient_step)


@cites(LAMBERT_2022)
class BWGD(AbstractApproximator):
    """Bures-Wasserstein gradient descent: the explicit scheme that `FBGVI` improves on.

    With V = -log p, g = E_q grad V, S = E_q hess V for q = N(m, Sigma), one step of size eta is

        m' = m - eta g,   M = I - eta (S - Sigma^-1),   Sigma' = M Sigma M.

    Start, points, frame, step size and the check on fresh points are those of `FBGVI`. In fixed
    coordinates it is less stable: there is no lower bound on Sigma'. It is here to be compared
    with.

    Cost per step: as `FBGVI`.

    Args:
        oracle: how expectations are computed; see `FBGVI`.
        step_size: eta, > 0, never more than 1 / lambda_max(S); None as for `FBGVI`.
        frame: coordinates of the steps; `IdentityFrame()` for the method of the paper.
        tolerance: nats, > 0: how far from the best Gaussian the fit may be to have converged; times
            d / 32 beyond 32 coordinates.
        init_scale: standard deviation of the first Gaussian where there is no Newton path, > 0.
        stopping: `infer.Certified()`, or None to take every step.

    Limits: those of `FBGVI`.

    Source: Lambert, Chewi, Bach, Bonnabel, Rigollet. Variational inference via Wasserstein gradient
    flows. NeurIPS 2022.
    """

    oracle: AbstractOracle | None = None
    step_size: Any = eqx.field(converter=optional_positive("step_size", 1.0), default=None)
    frame: AbstractFrame = eqx.field(default_factory=MovingFrame)
    tolerance: Array = eqx.field(converter=positive("tolerance", 0.001), default=0.001)
    init_scale: Array = eqx.field(converter=positive("init_scale", 0.1), default=0.1)
    stopping: AbstractStopping | None = eqx.field(static=True, default=Certified())
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 2000

    def __check_init__(self) -> None:
        """Refuse parts of the wrong kind."""
        engine.check(self.settings)

    @property
    def settings(self) -> engine.Settings:
        """What the engine needs to know."""
        return engine.Settings(
            "BWGD",
            RULE,
            self.oracle,
            self.step_size,
            self.frame,
            self.tolerance,
            self.init_scale,
        )

    @property
    def exact_target(self) -> bool:
        """Fixed points need the density on all rows."""
        return not engine.takes_minibatches(self.settings)

    def init(self, key: PRNGKey, target: Target) -> engine.State:
        """The best Gaussian on a Newton path from `target.initial(key)`."""
        return engine.init(key, target, self.settings)

    def step(self, key: PRNGKey, target: Target, state: engine.State) -> tuple[engine.State, Info]:
        """One evaluation of the oracle and what follows from it."""
        return engine.step(key, target, state, self.settings)

    def posterior(self, state: engine.State) -> DenseGaussian:
        """The best Gaussian so far."""
        return engine.posterior(state)
