"""Gaussian score matching: a whole Gaussian from one score at a time."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, positive
from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Count, Points, PRNGKey, Scalar
from infer.families.gaussian import DenseGaussian
from infer.gaussian.bam import Matrix, Update, Weights, draw, in_span, move
from infer.optimizers.averaging import average
from infer.references.citation import cites
from infer.references.gaussian import MODI_2023


def match_each(u: Points, h: Points, weight: Weights) -> Update:
    """The update of q = N(0, I): means over the draws of the moves that match one score each.

        rho = (sqrt(1 + 4 (|h|^2 + (h . u)^2)) - 1) / 2
        dm = (I + u h^T / (1 + rho - h . u)) (h + u) / (1 + rho)
        dX = u u^T - (u - dm)(u - dm)^T

    I + dX is positive definite for every draw, hence so is the mean.
    """
    along = jnp.sum(u * h, axis=1)
    size = jnp.hypot(jnp.linalg.norm(h, axis=1), along)
    rho = 0.5 * (jnp.hypot(1, 2 * size) - 1)
    total = h + u
    inner = jnp.sum(h * total, axis=1) / (1 + rho - along)
    moves = (total + inner[:, None] * u) / (1 + rho)[:, None]
    left = u - moves
    identity = jnp.eye(u.shape[1], dtype=u.dtype)
    scaled = weight[:, None]
    covariance = identity + (scaled * u).T @ u - (scaled * left).T @ left
    return weight @ moves, jnp.linalg.cholesky(covariance)


def triangular(factor: Matrix) -> Matrix:
    """The lower triangular T with positive diagonal and T T^T = F F^T, without forming that."""
    upper = jnp.linalg.qr(factor.T, mode="r")
    signs = jnp.where(jnp.diagonal(upper) < 0, -1, 1).astype(factor.dtype)
    return (signs[:, None] * upper).T


class _State(eqx.Module):
    q: DenseGaussian
    average: DenseGaussian
    t: Count


@cites(MODI_2023)
class GSM(AbstractApproximator):
    """Moves a Gaussian with a full covariance the least that matches the score at a draw of it.

        (m', S') = argmin KL( q || N(m', S') )  subject to  m' - z = S' grad log p(z),   z ~ q
        m + mean of (m' - m),    S + mean of (S' - S)           over B draws
        average_t = average_{t-1} + (9 / (t + 8)) (q_t - average_{t-1})

    The move for one draw is in closed form: no step size, no Hessian, and the iterates commute
    with affine maps of the parameters. With several draws no score is matched exactly; the mean
    of the moves is a positive definite covariance all the same. The posterior is the average of
    mean and triangular factor, weighted towards the end of the run.

    Cost per step: B gradients and O(d^2 B + d^3) flops.

    Args:
        n_samples: draws B per step, >= 1. 16 came from far away in the fewest gradients (d = 10:
            4096 of them did not suffice for 8 draws and fewer), and near the answer 1 to 16 left
            the same gap for the same number of gradients.
        init_scale: standard deviation of the first q around the start, > 0.
        stopping: a `LossSettled` rule, or None to take every step. The loss is the mean of
            log q - log p over the draws, the negative evidence lower bound, of the last q.

    Draws at which density or score are not finite are left out; `stats["rejected"]` counts them.
    If none is left, or the covariance loses its Cholesky factor to rounding, q stays as it was.

    Limits: it converges on Gaussian posteriors only. Elsewhere the iterates keep moving about
    their answer, the more so the fewer the draws; averaging them took the gap of a logistic
    regression (d = 10, 4096 gradients) from 0.044 to 0.007 nats with 1 draw and from 0.0095 to
    0.007 with 8, but the noise widens q a little, which no average takes back. Starts hundreds of
    standard deviations away take thousands of steps, many more than `BaM`. Data in minibatches
    would bias the moves, so the exact target is required.

    Source: Modi et al., Variational inference with Gaussian score matching, NeurIPS 2023.
    """

    n_samples: int = eqx.field(static=True, default=16)
    init_scale: Scalar = eqx.field(converter=positive("init_scale", 0.1), default=0.1)
    stopping: AbstractStopping | None = eqx.field(
        static=True, default=LossSettled(minimum=400, every=100)
    )
    exact_target: ClassVar[bool] = True
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 5000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("GSM", "n_samples", self.n_samples, 16)

    def init(self, key: PRNGKey, target: Target) -> _State:
        """N(start, init_scale^2 I)."""
        start = target.initial(key)
        identity = jnp.eye(start.shape[0], dtype=start.dtype)
        q = DenseGaussian(start, self.init_scale.astype(start.dtype) * identity)
        return _State(q, q, jnp.zeros((), int))

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """The mean of the moves that match the score at fresh draws of q."""
        batch = draw(key, target, state.q, self.n_samples)
        shift, factor = in_span(lambda u, h: match_each(u, h, batch.weight), batch.u, batch.h)
        q, good = move(state.q, shift, factor, batch.rejected < self.n_samples)
        # Factors of one covariance differ by rotations: only triangular ones can be averaged.
        q = DenseGaussian(q.mean, triangular(q.factor))
        after = _State(q, average(state.average, q, state.t), state.t + 1)
        after = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, state)
        stats = {"divergence": batch.divergence, "rejected": batch.rejected}
        return after, Info(batch.loss, jnp.asarray(self.n_samples), stats)

    def posterior(self, state: _State) -> DenseGaussian:
        """The averaged Gaussian."""
        return state.average
