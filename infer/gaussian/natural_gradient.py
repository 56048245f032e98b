"""Natural-gradient variational inference with a full covariance."""

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
from infer.gaussian.frame import MovingFrame
from infer.gaussian.oracle import AbstractOracle
from infer.gaussian.rule import Rule
from infer.references.citation import cites
from infer.references.gaussian import KHAN_2023, LIN_2020


def plain(lam: Vector, eta: Scalar) -> tuple[Vector, Vector]:
    """P' = (1 - eta) P + eta S, of which the frame of q sees 1 - eta + eta lam."""
    return _from_precision(1 - eta + eta * lam, eta)


def corrected(lam: Vector, eta: Scalar) -> tuple[Vector, Vector]:
    """P' = P - eta G + eta^2 / 2 G Sigma G with G = P - S: positive for every S."""
    away = eta * (1 - lam)
    return _from_precision(1 - away + away**2 / 2, eta)


def square_root(lam: Vector, eta: Scalar) -> tuple[Vector, Vector]:
    """C' = C (I - eta (C^T S C - I) / 2): a step on the factor, with no inverse."""
    return 1 - eta * (lam - 1) / 2, jnp.full_like(lam, eta)


def _from_precision(precision: Vector, eta: Scalar) -> tuple[Vector, Vector]:
    variance = 1 / precision
    return jnp.sqrt(variance), eta * variance


@cites(KHAN_2023, LIN_2020)
class NaturalGradientVI(AbstractApproximator):
    """Natural-gradient descent on the Gaussians: the variational online Newton method.

    With V = -log p, g = E_q grad V, S = E_q hess V for q = N(m, P^-1), one step of size eta is

        P' = P - eta G + (eta^2 / 2) G P^-1 G,   G = P - S,
        m' = m - eta P'^-1 g.

    The last term keeps P' positive definite where S is not; without it, eta = 1 and a Gaussian
    posterior, one step is exact. The method is the same in all coordinates. Start, points, step
    size and the check on fresh points are those of `FBGVI`; so are the answers, and the number of
    steps is similar.

    Cost per step: as `FBGVI`.

    Args:
        oracle: how expectations are computed; see `FBGVI`.
        step_size: eta, > 0, never more than 1 / lambda_max of S in the frame of q. None takes the
            largest up to 1, or with new points 0.5 / lambda_max / (1 + t / 30).
        correction: False leaves the last term out, P' = (1 - eta) P + eta S.
        on_factor: True moves a factor C of the covariance instead,
            C' = C (I - eta (C^T S C - I) / 2), with no inverse at all; the triangular form of the
            literature agrees with it up to a rotation and terms of order eta^2.
        tolerance: nats, > 0: how far from the best Gaussian the fit may be to have converged; times
            d / 32 beyond 32 coordinates.
        init_scale: standard deviation of the first Gaussian where there is no Newton path, > 0.
        stopping: `infer.Certified()`, or None to take every step.

    Limits: those of `FBGVI`.

    Source: Khan, Rue. The Bayesian learning rule. JMLR 24, 2023. The correction: Lin, Schmidt,
    Khan. Handling the positive-definite constraint in the Bayesian learning rule. ICML 2020.
    """

    oracle: AbstractOracle | None = None
    step_size: Any = eqx.field(converter=optional_positive("step_size", 1.0), default=None)
    correction: bool = eqx.field(static=True, default=True)
    on_factor: bool = eqx.field(static=True, default=False)
    tolerance: Array = eqx.field(converter=positive("tolerance", 0.001), default=0.001)
    init_scale: Array = eqx.field(converter=positive("init_scale", 0.1), default=0.1)
    stopping: AbstractStopping | None = eqx.field(static=True, default=Certified())
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 2000

    def __check_init__(self) -> None:
        """Refuse parts of the wrong kind."""
        engine.check(self.settings)

    @property
    def rule(self) -> Rule:
        """The form of the step."""
        if self.on_factor:
            return Rule(square_root, None)
        return Rule(corrected if self.correction else plain, None)

    @property
    def settings(self) -> engine.Settings:
        """What the engine needs to know."""
        return engine.Settings(
            "NaturalGradientVI",
            self.rule,
            self.oracle,
            self.step_size,
            MovingFrame(),
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
