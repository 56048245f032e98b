"""Posteriors with exact draws on supports, and of data: conjugate pairs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import beta as beta_density
from jax.scipy.stats import norm

from infer.bridges.density import from_log_density
from infer.core.mirror_support import EntropicSimplex
from infer.core.support import AbstractSupport, positive, unit_interval
from infer.core.target import Target
from infer.core.vector_support import simplex
from infer.scoreboard.case import Case, Tag, exact

DRAWS = 20_000
HARD = frozenset({Tag.HARD_GEOMETRY})
Values = dict[str, jax.Array]


def dirichlet(name: str, support: AbstractSupport) -> Case:
    """A Dirichlet distribution of six shares, one of them with a density infinite at zero."""
    alpha = np.array([0.8, 1.5, 2.0, 3.0, 5.0, 8.0])

    def log_density(x: jax.Array) -> jax.Array:
        return jnp.sum((alpha - 1) * jnp.log(x))

    def make() -> Target:
        return from_log_density(log_density, np.full(6, 1 / 6), supports=support)

    return exact(name, make, lambda rng: {"x": rng.dirichlet(alpha, DRAWS)})


def betas() -> Case:
    """Independent Beta(1/2, 1/2), Beta(1, 3) and Beta(20, 4) variables."""
    a, b = np.array([0.5, 1.0, 20.0]), np.array([0.5, 3.0, 4.0])

    def log_density(x: jax.Array) -> jax.Array:
        return jnp.sum(beta_density.logpdf(x, a, b))

    def make() -> Target:
        return from_log_density(log_density, np.full(3, 0.5), supports=unit_interval)

    return exact("beta, d = 3", make, lambda rng: {"x": rng.beta(a, b, (DRAWS, 3))})


def gammas() -> Case:
    """Gamma variables of shapes 1/2 to 8 and unit scale; their logarithms are skewed."""
    shapes = np.array([0.5, 1.0, 2.0, 8.0])

    def log_density(x: jax.Array) -> jax.Array:
        return jnp.sum((shapes - 1) * jnp.log(x) - x)

    def make() -> Target:
        return from_log_density(log_density, np.ones(4), supports=positive)

    return exact("log gamma, d = 4", make, lambda rng: {"x": rng.gamma(shapes, 1, (DRAWS, 4))})


def unknown_noise(n: int = 30, d: int = 5) -> Case:
    """Linear regression with variance ~ InvGamma(a, b) and coefficients ~ N(0, 2^2 variance I).

    With P = X^T X + I / 4 and m = P^-1 X^T y, given the data
    variance ~ InvGamma(a + n/2, b + (y^T y - m^T P m) / 2), coefficients ~ N(m, variance P^-1).
    """
    a, b = 2.0, 1.0
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, d)) + np.linspace(0, 2, d)
    y = X @ np.linspace(-1, 1, d) + rng.standard_normal(n)

    def log_density(p: Values, data: Values) -> jax.Array:
        variance = p["variance"]
        sd = jnp.sqrt(variance)
        prior = -(a + 1) * jnp.log(variance) - b / variance
        coefficients = jnp.sum(norm.logpdf(p["beta"], 0, 2 * sd))
        return prior + coefficients + jnp.sum(norm.logpdf(data["y"], data["X"] @ p["beta"], sd))

    def make() -> Target:
        return from_log_density(
            log_density,
            {"beta": np.zeros(d), "variance": np.ones(())},
            supports={"variance": positive},
            data={"X": X, "y": y},
        )

    def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
        precision = X.T @ X + np.eye(d) / 4
        mean = np.linalg.solve(precision, X.T @ y)
        rate = b + 0.5 * (y @ y - mean @ precision @ mean)
        variance = rate / rng.gamma(a + n / 2, 1, DRAWS)
        factor = np.linalg.cholesky(np.linalg.inv(precision))
        noise = rng.standard_normal((DRAWS, d)) @ factor.T
        return {"beta": mean + np.sqrt(variance)[:, None] * noise, "variance": variance}

    return exact("regression of unknown noise, d = 6", make, draw)


def regression_of_rows(n: int = 2000, d: int = 8, sd: float = 0.7) -> Case:
    """Linear regression with noise of known sd and prior N(0, 3^2 I), by rows for minibatches.

    The posterior is N(P^-1 X^T y / sd^2, P^-1) with P = X^T X / sd^2 + I / 9.
    """
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, d))
    X[:, 1] += X[:, 0]
    y = X @ np.linspace(-1, 1, d) + sd * rng.standard_normal(n)

    def log_prior(w: jax.Array) -> jax.Array:
        return jnp.sum(norm.logpdf(w, 0, 3))

    def log_likelihood(w: jax.Array, rows: Values) -> jax.Array:
        return norm.logpdf(rows["y"], rows["X"] @ w, sd)

    def make() -> Target:
        return from_log_density(
            example=np.zeros(d),
            log_prior=log_prior,
            log_likelihood=log_likelihood,
            data={"X": X, "y": y},
        )

    def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
        covariance = np.linalg.inv(X.T @ X / sd**2 + np.eye(d) / 9)
        mean = covariance @ X.T @ y / sd**2
        noise = rng.standard_normal((DRAWS, d))
        return {"x": mean + noise @ np.linalg.cholesky(covariance).T}

    return exact(f"regression of {n} rows, d = {d}", make, draw)


def hierarchy(n: int = 40, noise: float = 0.2) -> Case:
    """Effects tau u_j with u_j ~ N(0, 1), seen as y_j ~ N(tau u_j, noise^2), log tau ~ N(0, 1).

    The marginal of log tau is one-dimensional, y_j ~ N(0, tau^2 + noise^2), and drawn from a grid;
    given it u_j ~ N(tau y_j / s^2, noise^2 / s^2) with s^2 = tau^2 + noise^2. Bent: where tau is
    larger all u are smaller.
    """
    rng = np.random.default_rng(1)
    y = 0.5 * rng.standard_normal(n) + noise * rng.standard_normal(n)

    def log_density(p: Values, y: jax.Array) -> jax.Array:
        effects = jnp.exp(p["log_tau"]) * p["u"]
        prior = norm.logpdf(p["log_tau"]) + jnp.sum(norm.logpdf(p["u"]))
        return prior + jnp.sum(norm.logpdf(y, effects, noise))

    def make() -> Target:
        start = {"log_tau": np.zeros(()), "u": np.zeros(n)}
        return from_log_density(log_density, start, data=y)

    def draw(rng: np.random.Generator) -> dict[str, np.ndarray]:
        grid = np.linspace(-6, 4, 20_001)
        variance = np.exp(2 * grid)[:, None] + noise**2
        log_p = -0.5 * grid**2 - 0.5 * np.sum(np.log(variance) + y**2 / variance, axis=1)
        below = np.cumsum(np.exp(log_p - log_p.max()))
        log_tau = np.interp(rng.random(DRAWS) * below[-1], below, grid)
        tau = np.exp(log_tau)[:, None]
        variance = tau**2 + noise**2
        u = tau * y / variance + noise / np.sqrt(variance) * rng.standard_normal((DRAWS, n))
        return {"log_tau": log_tau, "u": u}

    return exact(f"hierarchy, d = {n + 1}", make, draw, HARD)


def conjugate() -> list[Case]:
    """Every case of this file."""
    return [
        dirichlet("Dirichlet by sticks, d = 5", simplex),
        dirichlet("Dirichlet by logits, d = 5", EntropicSimplex()),
        betas(),
        gammas(),
        unknown_noise(),
        regression_of_rows(),
        hierarchy(),
    ]
