"""Densities on R^d with exact draws: bent, heavy-tailed, badly scaled, and of several modes."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from infer.bridges.density import from_log_density
from infer.scoreboard.case import Case, Scale, Tag, exact
from infer.scoreboard.conjugate import conjugate

DRAWS = 20_000
HARD = frozenset({Tag.HARD_GEOMETRY})
MODES = frozenset({Tag.MODES})
Draw = Callable[[np.random.Generator], np.ndarray]


def on_reals(
    name: str,
    d: int,
    log_density: Callable[..., jax.Array],
    draw: Draw,
    tags: frozenset[Tag] = frozenset(),
    scale: Scale = Scale.MOMENTS,
    data: dict[str, np.ndarray] | None = None,
) -> Case:
    """The case of a density of one vector; `draw` makes (draws, d)."""
    make = partial(from_log_density, log_density, np.zeros(d), data=data)
    return exact(name, make, lambda rng: {"x": draw(rng)}, tags, scale)


def banana() -> Case:
    """x_0 ~ N(0, 2^2), x_1 ~ N(x_0^2 / 2, 0.5^2)."""

    def log_density(x: jax.Array) -> jax.Array:
        return norm.logpdf(x[0], 0, 2) + norm.logpdf(x[1], 0.5 * x[0] ** 2, 0.5)

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.normal(0, 2, DRAWS)
        return np.column_stack([x, rng.normal(0.5 * x**2, 0.5)])

    return on_reals("banana, d = 2", 2, log_density, draw, HARD)


def twisted(d: int = 10, twist: float = 0.05) -> Case:
    """Haario's: u ~ N(0, diag(10^2, 1, ..., 1)) and x = u but for x_1 = u_1 - b (u_0^2 - 10^2).

    Source: Haario, Saksman and Tamminen (1999), Computational Statistics 14.
    """

    def log_density(x: jax.Array) -> jax.Array:
        u = x.at[1].add(twist * (x[0] ** 2 - 100))
        return norm.logpdf(u[0], 0, 10) + jnp.sum(norm.logpdf(u[1:]))

    def draw(rng: np.random.Generator) -> np.ndarray:
        u = rng.standard_normal((DRAWS, d))
        u[:, 0] *= 10
        u[:, 1] -= twist * (u[:, 0] ** 2 - 100)
        return u

    return on_reals(f"twisted Gaussian, d = {d}", d, log_density, draw, HARD)


def funnel(sd: float, d: int) -> Case:
    """One coordinate v ~ N(0, sd^2), and the others N(0, exp(v)).

    Source: Neal (2003), Annals of Statistics 31, sec. 8, with sd = 3 and d = 10.
    """

    def log_density(x: jax.Array) -> jax.Array:
        return norm.logpdf(x[0], 0, sd) + jnp.sum(norm.logpdf(x[1:], 0, jnp.exp(x[0] / 2)))

    def draw(rng: np.random.Generator) -> np.ndarray:
        v = rng.normal(0, sd, (DRAWS, 1))
        return np.hstack([v, np.exp(v / 2) * rng.standard_normal((DRAWS, d - 1))])

    return on_reals(f"funnel of sd {sd:g}, d = {d}", d, log_density, draw, HARD, Scale.QUANTILES)


def gaussian(name: str, factor: np.ndarray, mean: np.ndarray) -> Case:
    """N(mean, factor factor^T)."""

    def log_density(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        return -0.5 * jnp.sum((data["whiten"] @ (x - data["mean"])) ** 2)

    def draw(rng: np.random.Generator) -> np.ndarray:
        return mean + rng.standard_normal((DRAWS, len(mean))) @ factor.T

    data = {"whiten": np.linalg.inv(factor), "mean": mean}
    return on_reals(f"{name}, d = {len(mean)}", len(mean), log_density, draw, data=data)


def rotated(d: int) -> Case:
    """A Gaussian whose covariance has eigenvalues from 10^-4 to 1, along random axes."""
    rng = np.random.default_rng(d)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    factor = turn * np.logspace(-2, 0, d)
    return gaussian("Gaussian of condition 10,000", factor, rng.standard_normal(d))


def correlated(d: int, rho: float = 0.9) -> Case:
    """A Gaussian with the correlations rho^|i - j| and sds from 0.5 to 5."""
    lag = np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    factor = np.geomspace(0.5, 5, d)[:, None] * np.linalg.cholesky(rho**lag)
    return gaussian("Gaussian of lagged correlations", factor, np.linspace(-1, 1, d))


def mixture(
    name: str, weights: list[float], means: np.ndarray, sds: list[float], tag: frozenset[Tag]
) -> Case:
    """sum_k weights_k N(means_k, sds_k^2 I)."""

    def log_density(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        each = jnp.sum(norm.logpdf(x, data["means"], data["sds"][:, None]), axis=1)
        return logsumexp(each + jnp.log(data["weights"]))

    def draw(rng: np.random.Generator) -> np.ndarray:
        k = rng.choice(len(weights), DRAWS, p=weights)
        noise = rng.standard_normal((DRAWS, means.shape[1]))
        return means[k] + np.asarray(sds)[k, None] * noise

    data = {"weights": np.array(weights), "means": means, "sds": np.array(sds)}
    d = means.shape[1]
    return on_reals(f"{name}, d = {d}", d, log_density, draw, tag, data=data)


def two_apart(distance: float) -> np.ndarray:
    """Two centers in three dimensions, along no axis."""
    return np.stack([np.zeros(3), distance * np.array([2.0, -1.0, 2.0]) / 3])


def student(d: int, dof: float, scale: Scale) -> Case:
    """Multivariate t around zero with the scale matrix I."""

    def log_density(x: jax.Array) -> jax.Array:
        return -0.5 * (dof + d) * jnp.log1p(jnp.sum(x**2) / dof)

    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((DRAWS, d)) / np.sqrt(rng.chisquare(dof, (DRAWS, 1)) / dof)

    return on_reals(f"Student t of {dof:g} dof, d = {d}", d, log_density, draw, HARD, scale)


def on_grid(
    rng: np.random.Generator, log_density: Callable, low: float, high: float, shape: tuple[int, ...]
) -> np.ndarray:
    """Draws of a density of one variable by its distribution function, linear between nodes."""
    x = np.linspace(low, high, 200_001)
    log_p = log_density(x)
    p = np.exp(log_p - log_p.max())
    cdf = np.concatenate([[0.0], np.cumsum((p[1:] + p[:-1]) / 2)])
    return np.interp(rng.random(shape), cdf / cdf[-1], x)


def ring(radius: float = 3.0, sd: float = 0.3) -> Case:
    """In the plane exp(-(|x| - radius)^2 / (2 sd^2)), times N(1, 2^2)."""

    def log_density(x: jax.Array) -> jax.Array:
        return norm.logpdf(jnp.hypot(x[0], x[1]), radius, sd) + norm.logpdf(x[2], 1, 2)

    def draw(rng: np.random.Generator) -> np.ndarray:
        def radial(r: np.ndarray) -> np.ndarray:  # the circumference is proportional to r
            return np.log(r) - 0.5 * ((r - radius) / sd) ** 2

        r = on_grid(rng, radial, 1e-6, radius + 12 * sd, (DRAWS,))
        angle = rng.uniform(0, 2 * np.pi, DRAWS)
        return np.column_stack([r * np.cos(angle), r * np.sin(angle), rng.normal(1, 2, DRAWS)])

    return on_reals("ring, d = 3", 3, log_density, draw, HARD)


def many_well(d: int = 8) -> Case:
    """Pairs of exp(-x^4 + 6 x^2 + x / 2) and N(0, 1): 2^(d/2) modes, the wells 3 to 1 or so.

    Source: Noé, Olsson, Köhler and Wu (2019), Science 365; in this form Midgley et al., Flow
    annealed importance sampling bootstrap, ICLR 2023.
    """

    def well(x: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        return -(x**4) + 6 * x**2 + 0.5 * x

    def log_density(x: jax.Array) -> jax.Array:
        return jnp.sum(well(x[::2])) - 0.5 * jnp.sum(x[1::2] ** 2)

    def draw(rng: np.random.Generator) -> np.ndarray:
        x = rng.standard_normal((DRAWS, d))
        x[:, ::2] = on_grid(rng, well, -4.0, 4.0, (DRAWS, d // 2))
        return x

    return on_reals(f"many wells, d = {d}", d, log_density, draw, MODES)


def logistic(d: int = 6) -> Case:
    """Independent logistic variables of scales 0.5 to 5."""
    scales = np.geomspace(0.5, 5, d)

    def log_density(x: jax.Array) -> jax.Array:
        u = x / scales
        return -jnp.sum(u + 2 * jax.nn.softplus(-u))

    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.logistic(0, scales, (DRAWS, d))

    return on_reals(f"logistic, d = {d}", d, log_density, draw)


def skewed(d: int = 4) -> Case:
    """Independent skew normals 2 phi(x) Phi(a x) with a = 1, ..., d.

    A draw is delta |u| + sqrt(1 - delta^2) v with delta = a / sqrt(1 + a^2), u and v normal.
    Source: Azzalini (1985), Scandinavian Journal of Statistics 12.
    """
    slant = np.arange(1.0, d + 1)

    def log_density(x: jax.Array) -> jax.Array:
        return jnp.sum(norm.logpdf(x) + norm.logcdf(slant * x))

    def draw(rng: np.random.Generator) -> np.ndarray:
        u, v = rng.standard_normal((2, DRAWS, d))
        return (slant * np.abs(u) + v) / np.sqrt(1 + slant**2)

    return on_reals(f"skew normal, d = {d}", d, log_density, draw)


def synthetic() -> list[Case]:
    """Every synthetic case that needs no files."""
    return [
        gaussian("standard Gaussian", np.eye(5), np.zeros(5)),
        rotated(10),
        correlated(50),
        rotated(200),
        banana(),
        twisted(),
        funnel(1.5, 6),
        funnel(3.0, 10),
        ring(),
        student(5, 5.0, Scale.MOMENTS),
        student(2, 1.0, Scale.QUANTILES),
        logistic(),
        skewed(),
        mixture("modes 3.5 sd apart", [0.7, 0.3], two_apart(3.5), [1.0, 1.0], HARD),
        mixture("modes 10 sd apart", [0.7, 0.3], two_apart(10.0), [1.0, 1.0], MODES),
        mixture("a wide and a narrow mode", [0.8, 0.2], two_apart(4.0), [1.0, 0.3], MODES),
        many_well(),
        *conjugate(),
    ]
