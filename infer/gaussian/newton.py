"""A path to the mode that needs no step size, and the best Gaussian met on the way."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.control import in_blocks
from infer.core.target import Target
from infer.core.types import Count, Points, PRNGKey, Scalar, Vector
from infer.gaussian.points import Sobol, whitener

MOST = 60  # iterates
PATIENCE = 12  # iterates without a better candidate, where there is no mode in sight
HALVINGS = 25
COLUMNS = 32  # of a Hessian, computed at once
ARMIJO = 1e-4
RUNNING, MODE, NO_MODE, STUCK = 0, 1, 2, 3


class Path(eqx.Module):
    """An iterate x with its frame L, and the candidate N(x, L L^T) of best score so far.

    `decrement` is g^T |H|^-1 g, `smallest` the smallest eigenvalue of the Hessian in the last
    frame; `score` estimates -ELBO up to a constant.
    """

    x: Vector
    frame: Float[Array, "d d"]
    value: Scalar
    decrement: Scalar
    smallest: Scalar
    mean: Vector
    factor: Float[Array, "d d"]
    score: Scalar
    age: Count
    i: Count
    status: Count


def begin(target: Target, x: Vector, scale: Array | float) -> Path:
    """The path of no steps at x; its candidate is N(x, scale^2 I)."""
    number, eye = jnp.zeros((), int), jnp.eye(x.shape[0], dtype=x.dtype)
    far = jnp.full((), jnp.inf, x.dtype)
    value = -target.log_prob(x)
    start = (x, jnp.asarray(scale, x.dtype) * eye, far)
    return Path(x, eye, value, far, -far, *start, number, number, number)


def follow(key: PRNGKey, target: Target, x: Vector, scale: Array | float) -> Path:
    """The whole path from x, until a mode, or until it is clear that there is none.

    No step at all where JAX cannot form Hessian-vector products.
    """
    if not twice_differentiable(target):
        return begin(target, x, scale)

    def running(path: Path) -> Array:
        return path.status == RUNNING

    u = _trial_points(key, x.shape[0]).astype(x.dtype)
    path = jax.lax.while_loop(
        running, lambda path: step(target, path, 1e-2, u), begin(target, x, scale)
    )
    mean = jnp.where(jnp.isfinite(path.score), path.mean, path.x)  # the last point, if none scored
    return eqx.tree_at(lambda p: p.mean, path, mean)


def twice_differentiable(target: Target) -> bool:
    """Can JAX form Hessian-vector products of the log density? Asked while tracing.

    Some rules without a forward mode show only when the program is lowered.
    """
    arrays, rest = eqx.partition(target, eqx.is_array)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays)
    z = jax.ShapeDtypeStruct((target.dim,), jnp.zeros(()).dtype)

    def product(arrays: Target, z: Vector) -> Vector:
        log_prob = eqx.combine(arrays, rest).log_prob
        return jax.jvp(jax.grad(log_prob), (z,), (z,))[1]

    try:
        jax.jit(product).lower(shapes, z)
    except (TypeError, ValueError):  # the latter from callbacks
        return False
    return True


def step(target: Target, path: Path, tolerance: Array | float, u: Points | None) -> Path:
    """One saddle-free Newton step in the frame of the last one.

        H~ = L^T H L = Q diag(lam) Q^T,   a = max(|lam|, floor),   L <- L Q a^-1/2 Q^T,
        x <- x - t L L^T grad V(x),   t = 1, 1/2, ... until V has fallen enough.

    Ends at a mode once the decrement is below `tolerance` and H positive definite. N(x, L L^T) is
    scored at the points u, if there are any. Cost: d Hessian-vector products, O(d^3), and one
    evaluation per point.
    """
    d = path.x.shape[0]
    origin = jnp.zeros_like(path.x)

    def energy(phi: Vector) -> Scalar:
        return -target.log_prob(path.x + path.frame @ phi)

    gradient, product = jax.linearize(jax.grad(energy), origin)
    hessian = in_blocks(product, jnp.eye(d, dtype=origin.dtype), COLUMNS)
    usable = jnp.all(jnp.isfinite(hessian)) & jnp.any(hessian != 0)
    usable &= jnp.all(jnp.isfinite(gradient))
    hessian = jnp.where(usable, (hessian + hessian.T) / 2, jnp.eye(d))
    lam, vectors = jnp.linalg.eigh(hessian)
    largest = jnp.max(jnp.abs(lam))
    floor = jnp.where(path.i == 0, 1e-4 * largest, 1e-3 * jnp.minimum(1.0, largest))
    root = jnp.sqrt(jnp.maximum(jnp.maximum(jnp.abs(lam), floor), jnp.finfo(lam.dtype).tiny))
    whiten = (vectors / root) @ vectors.T
    frame, gradient = path.frame @ whiten, whiten @ gradient
    decrement = jnp.sum(gradient**2)

    score = path.score if u is None else _score(target, path.x, frame, u)
    better = usable & (score < path.score)
    age = jnp.where(better, 0, path.age + 1)
    mode = (decrement < tolerance) & (lam[0] > 0)
    lost = (lam[0] <= 0) & (age >= PATIENCE)

    slack = (2e-6 if lam.dtype == jnp.float32 else 0.0) * jnp.maximum(1.0, jnp.abs(path.value))

    def halve(carry: tuple[Scalar, Scalar, Count]) -> tuple[Scalar, Scalar, Count]:
        t, _, i = carry
        t = jnp.where(i == 0, t, t / 2)
        return t, -target.log_prob(path.x - t * (frame @ gradient)), i + 1

    def rising(carry: tuple[Scalar, Scalar, Count]) -> Array:
        t, value, i = carry
        fallen = value <= path.value - ARMIJO * t * decrement + slack
        return (~fallen & (i < HALVINGS)) & usable & ~mode

    one, no = jnp.ones((), path.x.dtype), jnp.full((), jnp.nan, path.x.dtype)
    t, value, tries = jax.lax.while_loop(rising, halve, (one, no, jnp.zeros((), int)))
    moved = usable & ~mode & (value <= path.value - ARMIJO * t * decrement + slack)
    status = jnp.where(lost, NO_MODE, jnp.where(moved & (path.i + 1 < MOST), RUNNING, STUCK))
    status = jnp.where(usable, jnp.where(mode, MODE, status), STUCK)

    def pick(flag: Array, new: Array, old: Array) -> Array:
        return jnp.where(flag, new, old)

    return Path(
        pick(moved, path.x - t * (frame @ gradient), path.x),
        pick(usable, frame, path.frame),
        pick(moved, value, path.value),
        pick(usable, decrement, path.decrement),
        pick(usable, lam[0], path.smallest),
        pick(better, path.x, path.mean),
        pick(better, frame, path.factor),
        pick(better, score, path.score),
        age,
        path.i + 1,
        status.astype(path.status.dtype),
    )


def _trial_points(key: PRNGKey, d: int) -> Points:
    """max(32, 4 d) points of second moment I, mirror images included."""
    points, one = Sobol(n=32), jnp.ones((), int)
    rows, shared = points.size(d), points.prepare(key, d)
    u = points.chunk(shared, 0 * one, rows, d)
    u = u @ whitener(points, shared, one, rows, rows * one, d).T
    return jnp.concatenate([u, -u])


def _score(target: Target, mean: Vector, factor: Float[Array, "d d"], u: Points) -> Scalar:
    """-ELBO of a Gaussian at these points, up to a constant; infinite where it has none."""
    values = in_blocks(lambda u: target.log_prob(mean + factor @ u), u, 256)
    score = -jnp.mean(values) - jnp.linalg.slogdet(factor)[1]
    return jnp.where(jnp.isfinite(score), score, jnp.inf)
