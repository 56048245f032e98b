"""Deterministic variational inference: fixed draws, Newton steps, linear response."""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.algorithm import AbstractApproximator, Info
from infer.core.checks import check_count, positive
from infer.core.control import in_blocks, when
from infer.core.evidence import Evidence
from infer.core.linalg import LOG_2PI
from infer.core.outcome import Ending
from infer.core.posterior import AbstractDistribution
from infer.core.stopping import AbstractStopping, Record
from infer.core.target import Target
from infer.core.types import Count, Flag, Points, PRNGKey, Scalar, Vector
from infer.families.gaussian import CholeskyGaussian, DenseGaussian, DiagonalGaussian
from infer.gaussian.newton import twice_differentiable
from infer.references.citation import cites
from infer.references.gaussian import GIORDANO_2024

DENSE = 1000  # the most coordinates for which the Hessian, (2 d)^2 numbers, is formed
BLOCK = 64  # Hessian-vector products at once while it is formed
SOLVED = 1e-2  # relative residual to which the error of the means is solved for
UNKNOWN = -1.0  # a mean error not measured; a state holds no NaN
FIRST_RADIUS = 1.0  # of the trust region, in standard deviations of the approximation

Move = Float[Array, " p"]  # in the local coordinates (dv, du)
Operator = Callable[[Move], Move]


@dataclasses.dataclass(frozen=True)
class NewtonSettled(AbstractStopping):
    """Stop when the algorithm says that it has converged, or that it cannot get further.

    Reads `stats/converged` and `stats/stuck`, the latter for a trust region that has shrunk to
    nothing.

    Attributes:
        every: steps between looks, >= 1.
    """

    every: int = 5

    def __post_init__(self) -> None:
        """Refuse a rule that never looks."""
        check_count("NewtonSettled", "every", self.every, 5)

    def look(self, record: Record, thin: int) -> Ending | None:
        """Converged or given up, as the last record says."""
        if record["stats/converged"][-1]:
            return Ending.CONVERGED
        return Ending.GAVE_UP if record["stats/stuck"][-1] else None

    def evidence(self, record: Record) -> Evidence:
        """What the last Newton step could still gain."""
        if not len(record.get("loss", ())):
            return Evidence("Newton decrement", math.nan, "", "info", "not measured: no step taken")
        meaning = self.hint(record)
        if not meaning:
            error = float(record["stats/mean_error"][-1])
            meaning = f"converged; the fixed draws may have moved a mean by {error:.2g} sd"
            if not np.isfinite(error):
                meaning = "converged; the error from the fixed draws could not be measured"
        return Evidence("Newton decrement", _last(record), "", "info", meaning)

    def hint(self, record: Record) -> str:
        """Why it has not converged, if so."""
        if not len(record.get("loss", ())) or record["stats/converged"][-1]:
            return ""
        if record["stats/stuck"][-1]:
            return (
                "No step from where it stands makes the objective smaller: the density is not "
                "smooth or not finite nearby; try infer.VI()"
            )
        return (
            f"Newton's method still had {_last(record):.2g} nats to gain: take more steps "
            "(result.extend(steps=...)); if the gain stays large, the objective has no minimum"
        )


def _last(record: Record) -> float:
    return float(record["stats/decrement"][-1])


class _State(eqx.Module):
    """The approximation mean + scale * noise, or mean + scale @ noise, and the search for it."""

    noise: Points
    mean: Vector
    scale: Float[Array, "..."]
    factor: Float[Array, "d d"] | None
    radius: Scalar
    loss: Scalar
    decrement: Scalar
    mean_error: Scalar
    spent: Count
    converged: Flag


@cites(GIORDANO_2024)
class DADVI(AbstractApproximator):
    """Deterministic ADVI: a Gaussian fitted to fixed draws z_1, ..., z_N by Newton's method.

        minimize  -sum_i log s_i - (1/N) sum_n log p(m + s z_n)   over m and s > 0

    One step is one iteration of a trust region: conjugate gradients, with Hessian-vector products
    by forward-over-reverse, minimize the quadratic model in (du, dv), where m changes by s du and
    log s by dv, within a radius (Steihaug); the step is taken where the objective falls. No step
    size, no noise, and convergence can be seen: the run ends when the model has no more than
    `tolerance` nats to offer. Further steps then change nothing and cost nothing.

    The draws are normal, then shifted and scaled so that each coordinate has mean 0 and mean square
    1 over them. The minimum is the same set of points m + s z_n with or without it; only the
    numbers called m and s change, and so read, m is exact for a Gaussian posterior and s for
    one without correlation. With correlation, precision P and C the correlation of the draws,
    s_i (sum_j P_ij C_ij s_j) = 1 instead of s_i^2 = 1 / P_ii.

    A mean field has too small a spread wherever coordinates are correlated. The linear response

        covariance = block of m of (Hessian of the objective in m and log s)^-1

    is how m answers a tilt of the log density. It is exact for a Gaussian posterior; elsewhere it
    mends most of the spread, while the shape stays Gaussian. `stats/mean_error` is the largest
    standard error that the choice of the draws leaves in a mean, in posterior standard deviations,
    from the N gradients at the minimum; trust it from N = 32 on.

    Cost per step: 2 N gradients and one Hessian-vector product at each of N points per iteration
    of conjugate gradients (tens); at convergence, 2 d products and O(d^3) once. The run records
    a product as two gradients. The density must be twice differentiable by JAX and its rows exact.

    Args:
        n_samples: N, >= 2. More is a smaller `mean_error`, like 1 / sqrt(N).
        linear_response: answer with the linear-response covariance. Takes 8 d^2 numbers, so
            beyond 1000 coordinates, and for `full_rank`, the answer is the fitted Gaussian itself.
        full_rank: fit a triangular factor L instead of s, with z whitened. Needs N > d, or the
            objective has no minimum, and N of several d to be any good; (d^2 + 3 d) / 2 unknowns.
        scale: standard deviation of the first approximation, > 0, on the unconstrained scale.
        tolerance: nats, > 0, that a Newton step may still promise at convergence.
        cg_steps: most iterations of conjugate gradients in a step, >= 1.
        stopping: a `NewtonSettled` rule, or None to take every step.

    Limits: the answer is a Gaussian, so no skew, heavy tails or second modes, and the linear
    response is that at the fitted spread: on strongly skewed posteriors it is off. Needs all rows
    at every step.

    Source: Giordano, Ingram and Broderick, Black box variational inference with a deterministic
    objective: faster, more accurate, and even more black box, JMLR 25 (2024).
    """

    n_samples: int = eqx.field(static=True, default=30)
    linear_response: bool = eqx.field(static=True, default=True)
    full_rank: bool = eqx.field(static=True, default=False)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)
    tolerance: Scalar = eqx.field(converter=positive("tolerance", 1e-6), default=1e-6)
    cg_steps: int = eqx.field(static=True, default=200)
    stopping: AbstractStopping | None = eqx.field(static=True, default=NewtonSettled())
    exact_target: ClassVar[bool] = True
    particles: ClassVar[bool] = False
    default_steps: ClassVar[int] = 200

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("DADVI", "n_samples", self.n_samples, 30, least=2)
        check_count("DADVI", "cg_steps", self.cg_steps, 200)

    def init(self, key: PRNGKey, target: Target) -> _State:
        """The fixed draws, and N(start, scale^2 I) at `target.initial(key)`."""
        if not twice_differentiable(target):
            raise TypeError(
                "DADVI needs a log density that JAX can differentiate twice, forward over reverse. "
                "Write infer.VI(), which needs first derivatives."
            )
        key_start, key_noise = jax.random.split(key)
        start = target.initial(key_start)
        d, n = start.shape[0], self.n_samples
        if self.full_rank and n <= d:
            raise ValueError(
                f"DADVI(full_rank=True) got n_samples={n} in {d} dimensions; with n_samples <= "
                f"{d} its objective has no minimum. Write `DADVI(full_rank=True, "
                f"n_samples={4 * d})`, or `DADVI()`, which has no such limit."
            )
        noise = jax.random.normal(key_noise, (n, d), start.dtype)
        noise -= jnp.mean(noise, axis=0)
        shape = jnp.ones(d, start.dtype)
        if self.full_rank:
            root = jnp.linalg.cholesky(noise.T @ noise / n)
            noise = jax.scipy.linalg.solve_triangular(root, noise.T, lower=True).T
            shape = jnp.eye(d, dtype=start.dtype)
        else:
            noise /= jnp.sqrt(jnp.mean(noise**2, axis=0))
        scale = self.scale.astype(start.dtype) * shape
        dense = self.linear_response and not self.full_rank and d <= DENSE
        number = jnp.zeros((), start.dtype)
        return _State(
            noise=noise,
            mean=start,
            scale=scale,
            factor=jnp.diag(scale) if dense else None,
            radius=number + FIRST_RADIUS,
            loss=_objective(target, noise, start, scale),
            decrement=number,
            mean_error=number + UNKNOWN,
            spent=jnp.zeros((), jnp.int32),
            converged=jnp.asarray(False),
        )

    def step(self, key: PRNGKey, target: Target, state: _State) -> tuple[_State, Info]:
        """One iteration of the trust region; nothing once converged. The key is not used."""
        state = dataclasses.replace(state, spent=jnp.zeros((), jnp.int32))
        state = when(~state.converged, lambda state: self._newton(target, state), state)
        stats = {
            "decrement": state.decrement,
            "radius": state.radius,
            "mean_error": jnp.where(state.mean_error < 0, jnp.nan, state.mean_error),
            "converged": state.converged,
            "stuck": ~state.converged & (state.radius < jnp.finfo(state.mean.dtype).eps ** 0.5),
        }
        return state, Info(state.loss, state.spent, stats)

    def posterior(self, state: _State) -> AbstractDistribution:
        """The linear-response Gaussian where there is one, otherwise the fitted one."""
        if state.factor is not None:
            return DenseGaussian(state.mean, state.factor)
        if self.full_rank:
            diagonal = jnp.log(jnp.diagonal(state.scale))
            return CholeskyGaussian(state.mean, state.scale, diagonal)
        return DiagonalGaussian(state.mean, jnp.log(state.scale))

    def _newton(self, target: Target, state: _State) -> _State:
        n, number = self.n_samples, state.mean.dtype
        gradient, product = self._derivatives(target, state)
        size = jnp.linalg.norm(gradient)
        enough = jnp.minimum(0.1, jnp.sqrt(size)) * size  # superlinear in the end
        move, decrement, iterations, inside = steihaug(
            product, gradient, enough, state.radius, self.cg_steps
        )
        mean, scale = _place(state, move)
        loss = _objective(target, state.noise, mean, scale)
        # Rounding of the loss must not refuse the last steps, which gain less than that.
        slack = 50 * jnp.finfo(number).eps * jnp.maximum(1, jnp.abs(state.loss))
        ratio = (state.loss - loss + slack) / (decrement + slack)
        good = jnp.isfinite(loss) & (ratio > 0.1)
        length = jnp.linalg.norm(move)
        reached = jnp.where(jnp.isfinite(length), length, state.radius)
        radius = jnp.where(good & (ratio > 0.75) & ~inside, 3 * state.radius, state.radius)
        radius = jnp.where(good & (ratio > 0.25), radius, 0.25 * reached)
        moved = dataclasses.replace(
            state,
            mean=jnp.where(good, mean, state.mean),
            scale=jnp.where(good, scale, state.scale),
            loss=jnp.where(good, loss, state.loss),
            radius=radius,
            decrement=jnp.where(jnp.isfinite(decrement), decrement, state.decrement),
            spent=(n * (2 + 2 * iterations)).astype(jnp.int32),
            converged=inside & (decrement <= self.tolerance),
        )
        if moved.factor is not None:
            moved = dataclasses.replace(moved, factor=jnp.diag(moved.scale))
        return when(moved.converged, lambda state: self._conclude(target, state), moved)

    def _derivatives(self, target: Target, state: _State) -> tuple[Move, Operator]:
        """Gradient of the objective in the local coordinates, and products with its Hessian."""

        def local(move: Move) -> Scalar:
            return _objective(target, state.noise, *_place(state, move))

        origin = jnp.zeros(state.scale.size + state.mean.size, state.mean.dtype)
        return jax.linearize(jax.grad(local), origin)

    def _conclude(self, target: Target, state: _State) -> _State:
        """Linear response, and the standard error that the draws leave in the means.

        The influence of draw n on m is z_n - (H^-1 g_n)_m in units of s, g_n the gradient of its
        part of the objective: the usual sandwich for the minimum over raw draws, plus what shifting
        the draws took away.
        """
        d, n = state.mean.shape[0], self.n_samples
        _, product = self._derivatives(target, state)

        def part(z: Vector) -> Move:
            origin = jnp.zeros(state.scale.size + d, state.mean.dtype)
            return jax.grad(lambda x: _objective(target, z[None], *_place(state, x)))(origin)

        parts = jax.vmap(part)(state.noise)
        if state.factor is not None:
            eye = jnp.eye(2 * d, dtype=state.mean.dtype)
            hessian = in_blocks(product, eye, BLOCK)
            root = jnp.linalg.cholesky((hessian + hessian.T) / 2)
            # The block of m comes last, so its inverse is that of the last corner of the root.
            corner = jax.scipy.linalg.solve_triangular(root[d:, d:], eye[d:, d:], lower=True)
            factor = state.scale[:, None] * corner.T
            factor = jnp.where(jnp.all(jnp.isfinite(factor)), factor, state.factor)
            state = dataclasses.replace(state, factor=factor)
            solved, spent = jax.scipy.linalg.cho_solve((root, True), parts.T).T, 2 * d
        else:

            def solve(g: Move) -> tuple[Move, Count]:
                enough = SOLVED * jnp.linalg.norm(g)
                move, _, iterations, _ = steihaug(product, g, enough, jnp.inf, self.cg_steps)
                return -move, iterations

            solved, iterations = jax.lax.map(solve, parts)
            spent = jnp.sum(iterations)
        influence = _apply(state.scale, state.noise - solved[:, -d:])
        wide = state.scale[:, None] if state.scale.ndim == 1 else state.scale
        wide = wide if state.factor is None else state.factor
        variance = jnp.sum(influence**2, axis=0) / (n * (n - 1)) / jnp.sum(wide**2, axis=1)
        error = jnp.sqrt(jnp.max(variance))
        return dataclasses.replace(
            state,
            mean_error=jnp.where(jnp.isfinite(error), error, UNKNOWN),
            spent=(state.spent + n * (1 + 2 * spent)).astype(jnp.int32),
        )


def _apply(scale: Float[Array, "..."], noise: Points) -> Points:
    """Rows of noise, scaled: by s, or by a factor."""
    return scale * noise if scale.ndim == 1 else noise @ scale.T


def _place(state: _State, move: Move) -> tuple[Vector, Float[Array, "..."]]:
    """Mean and scale after a move (dv, du) in units of the present scale.

    The scale is multiplied by exp(dv), or by a triangular matrix with exp(diagonal of dv): so
    measured, the Hessian of a Gaussian objective is near the identity whatever the units.
    """
    d = state.mean.shape[0]
    growth, shift = move[:-d], move[-d:]
    mean = state.mean + _apply(state.scale, shift[None])[0]
    if state.scale.ndim == 1:
        return mean, state.scale * jnp.exp(growth)
    growth = growth.reshape(d, d)
    return mean, state.scale @ (jnp.tril(growth, -1) + jnp.diag(jnp.exp(jnp.diagonal(growth))))


def _objective(target: Target, noise: Points, mean: Vector, scale: Float[Array, "..."]) -> Scalar:
    """Minus the evidence lower bound on the given draws."""
    diagonal = scale if scale.ndim == 1 else jnp.diagonal(scale)
    entropy = jnp.sum(jnp.log(diagonal)) + 0.5 * mean.shape[0] * (1 + LOG_2PI)
    return -entropy - jnp.mean(jax.vmap(target.log_prob)(mean + _apply(scale, noise)))


def steihaug(
    product: Operator, gradient: Move, enough: Scalar, radius: float | Scalar, most: int
) -> tuple[Move, Scalar, Count, Flag]:
    """Conjugate gradients for min g^T p + p^T H p / 2 within |p| <= radius.

    Follows a direction of negative curvature to the border, stops where the path leaves the region,
    or where the residual is not above `enough`. Returns the step, the fall of the model,
    iterations, and whether the residual was reached inside.
    """

    def unfinished(carry: tuple[Array, ...]) -> Flag:
        *_, i, out, small = carry
        return (i < most) & ~out & ~small

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        p, hp, r, direction, i, _, _ = carry
        h = product(direction)
        curvature, rr = direction @ h, r @ r
        alpha = rr / curvature
        out = (curvature <= 0) | (jnp.linalg.norm(p + alpha * direction) >= radius)
        # The positive root t of |p + t direction| = radius, in the form without cancellation.
        a, b, c = direction @ direction, p @ direction, radius**2 - p @ p
        t = jnp.where(out, c / (b + jnp.sqrt(b**2 + a * c)), alpha)
        after = r + t * h
        small = ~(jnp.linalg.norm(after) > enough)  # true for NaN too: there is no way on
        turned = -after + (after @ after) / rr * direction
        return p + t * direction, hp + t * h, after, turned, i + 1, out, small

    zero, no = jnp.zeros_like(gradient), jnp.asarray(False)
    size = jnp.linalg.norm(gradient)
    first = (zero, zero, gradient, -gradient, jnp.zeros((), jnp.int32), no, size <= enough)
    p, hp, _, _, i, out, small = jax.lax.while_loop(unfinished, body, first)
    return p, -(gradient @ p + 0.5 * p @ hp), i, small & ~out
