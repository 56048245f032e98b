"""The models of `infer.scoreboard.models`, as NumPyro programs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro.distributions import constraints


def sample(name: str, law: dist.Distribution, obs: Any = None) -> Any:
    """A site: `numpyro.sample`, whose value may be used as an array."""
    return numpyro.sample(name, law, obs=obs)


def flat(shape=()):
    """A flat prior on the real line."""
    return dist.ImproperUniform(constraints.real, (), shape)


def flat_positive():
    """A flat prior on the positive numbers."""
    return dist.ImproperUniform(constraints.positive, (), ())


def eight_schools_noncentered(sd, y):
    """Effects as mu + tau times a standard normal."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", sd.shape[0]):
        trans = sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * trans)
        sample("y", dist.Normal(theta, sd), obs=y)


def eight_schools_centered(sd, y):
    """Effects as they are, a funnel in log tau."""
    mu = sample("mu", dist.Normal(0.0, 5.0))
    tau = sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", sd.shape[0]):
        theta = sample("theta", dist.Normal(mu, tau))
        sample("y", dist.Normal(theta, sd), obs=y)


def kidscore(mom_iq, kid_score=None):
    """A linear regression on one covariate, of which scores may be left out and predicted."""
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    beta = sample("beta", flat((2,)))
    with numpyro.plate("child", mom_iq.shape[0]):
        sample("y", dist.Normal(beta[0] + beta[1] * mom_iq, sigma), obs=kid_score)


def flat_regression(columns, y):
    """A linear regression on `columns` with flat priors."""
    beta = sample("beta", flat((columns.shape[1],)))
    sigma = sample("sigma", flat_positive())
    sample("y", dist.Normal(columns @ beta, sigma), obs=y)


def cauchy_regression(columns, y):
    """A linear regression with flat priors of the coefficients, a half-Cauchy one of the sd."""
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    beta = sample("beta", flat((columns.shape[1],)))
    sample("y", dist.Normal(columns @ beta, sigma), obs=y)


def diamonds(columns, y):
    """A linear regression on centered columns, with weak priors."""
    with numpyro.plate("column", columns.shape[1]):
        b = sample("b", dist.Normal(0.0, 1.0))
    intercept = sample("Intercept", dist.StudentT(3.0, 8.0, 10.0))
    sigma = sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    numpyro.factor("prior", dist.StudentT(3.0, 0.0, 10.0).log_prob(sigma))
    sample("y", dist.Normal(intercept + columns @ b, sigma), obs=y)


def flat_logistic(columns, y):
    """A logistic regression with flat priors."""
    beta = sample("beta", flat((columns.shape[1],)))
    sample("y", dist.Bernoulli(logits=columns @ beta), obs=y)


def wide_logistic(columns, y):
    """A logistic regression with priors of sd 100."""
    with numpyro.plate("column", columns.shape[1]):
        beta = sample("beta", dist.Normal(0.0, 100.0))
    sample("y", dist.Bernoulli(logits=columns @ beta), obs=y)


def election_logistic(income, vote):
    """A logistic regression on one covariate, with flat priors."""
    alpha, beta = sample("alpha", flat()), sample("beta", flat((1,)))
    sample("vote", dist.Bernoulli(logits=alpha + beta[0] * income), obs=vote)


def moving_average(y):
    """A series that follows its last value and its last error, the one before all being zero."""
    mu = sample("mu", dist.Normal(0.0, 10.0))
    phi = sample("phi", dist.Normal(0.0, 2.0))
    theta = sample("theta", dist.Normal(0.0, 2.0))
    sigma = sample("sigma", dist.HalfCauchy(2.5))

    def step(carry, new):
        old, error = carry
        error = new - (mu + phi * old + theta * error)
        return (new, error), error

    # Before the first value the series is at its mean coefficient, as in the database.
    _, errors = jax.lax.scan(step, (mu, jnp.zeros_like(mu)), y)
    numpyro.factor("likelihood", jnp.sum(dist.Normal(0.0, sigma).log_prob(errors)))


def autoregression(before, y):
    """Column k of `before` is the series k + 1 steps earlier."""
    alpha = sample("alpha", dist.Normal(0.0, 10.0))
    with numpyro.plate("lag", before.shape[1]):
        beta = sample("beta", dist.Normal(0.0, 10.0))
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    sample("y", dist.Normal(alpha + before @ beta, sigma), obs=y)


def normal_regression(columns, y):
    """A linear regression with normal priors."""
    with numpyro.plate("column", columns.shape[1]):
        beta = sample("beta", dist.Normal(0.0, 10.0))
    sigma = sample("sigma", dist.HalfNormal(10.0))
    sample("y", dist.Normal(columns @ beta, sigma), obs=y)


def multivariate_normal(y, covariance):
    """The log density of N(0, covariance): each value given those before it.

    Second derivatives of `dist.MultivariateNormal`, for many points at once, sometimes never return
    on a CPU with jaxlib 0.10.2: a deadlock around batches of small LAPACK factorizations.
    """

    def condition(carry, unit):
        y, covariance = carry
        column = covariance @ unit
        variance, value = column @ unit, y @ unit
        y = y - column * (value / variance)
        covariance = covariance - jnp.outer(column, column) / variance
        return (y, covariance), dist.Normal(0.0, jnp.sqrt(variance)).log_prob(value)

    _, terms = jax.lax.scan(condition, (y, covariance), jnp.eye(y.shape[0]))
    return jnp.sum(terms)


def gaussian_process(x, y):
    """A regression on a process with a squared exponential kernel."""
    rho = sample("rho", dist.Gamma(25.0, 4.0))
    alpha = sample("alpha", dist.HalfNormal(2.0))
    sigma = sample("sigma", dist.HalfNormal(1.0))
    kernel = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x) / rho) ** 2)
    # As in the database, sigma is the variance of the noise and not its sd.
    numpyro.factor("y", multivariate_normal(y, kernel + sigma * jnp.eye(x.shape[0])))


def garch(y, sigma1):
    """A series whose variance follows its last square and itself."""
    mu = sample("mu", flat())
    alpha0 = sample("alpha0", flat_positive())
    alpha1 = sample("alpha1", dist.Uniform(0.0, 1.0))
    beta1 = sample("beta1", dist.Uniform(0.0, 1.0 - alpha1))
    numpyro.factor("flat", jnp.log(1.0 - alpha1))  # undo its density

    def step(carry, new):
        variance, old = carry
        variance = alpha0 + alpha1 * (old - mu) ** 2 + beta1 * variance
        return (variance, new), variance

    _, later = jax.lax.scan(step, (sigma1**2, y[0]), y[1:])
    sd = jnp.sqrt(jnp.concatenate([sigma1[None] ** 2, later]))
    sample("obs", dist.Normal(mu, sd), obs=y)


def hidden_markov(y):
    """Two hidden states with normal emissions of unit sd, means in order."""
    simplex = dist.ImproperUniform(constraints.simplex, (), (2,))
    theta1, theta2 = sample("theta1", simplex), sample("theta2", simplex)
    mu = sample("mu", dist.ImproperUniform(constraints.positive_ordered_vector, (), (2,)))
    numpyro.factor("prior", jnp.sum(dist.Normal(jnp.array([3.0, 10.0]), 1.0).log_prob(mu)))
    transition = jnp.log(jnp.stack([theta1, theta2]))
    emission = dist.Normal(mu, 1.0).log_prob(y[:, None])

    def step(forward, new):
        return logsumexp(forward[:, None] + transition, axis=0) + new, None

    # The first state has no distribution of its own: both count in full.
    forward, _ = jax.lax.scan(step, emission[0], emission[1:])
    numpyro.factor("likelihood", logsumexp(forward))


def mixture(y):
    """Two normal components, their means in order."""
    mu = sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    mixture_at(mu, y)


def unordered_mixture(y):
    """The same where components may change places: half the density at each of two modes."""
    mixture_at(sample("mu", flat((2,))), y)


def mixture_at(mu, y):
    """The rest of the mixture, given the means."""
    numpyro.factor("prior", jnp.sum(dist.Normal(0.0, 2.0).log_prob(mu)))
    with numpyro.plate("component", 2):
        sigma = sample("sigma", dist.HalfNormal(2.0))
    theta = sample("theta", dist.Beta(5.0, 5.0))
    first = jnp.log(theta) + dist.Normal(mu[0], sigma[0]).log_prob(y)
    second = jnp.log1p(-theta) + dist.Normal(mu[1], sigma[1]).log_prob(y)
    numpyro.factor("likelihood", jnp.sum(jnp.logaddexp(first, second)))


def kilpisjarvi(x, y, alpha_prior, beta_prior):
    """A trend with normal priors that come with the data."""
    alpha = sample("alpha", dist.Normal(alpha_prior[0], alpha_prior[1]))
    beta = sample("beta", dist.Normal(beta_prior[0], beta_prior[1]))
    sigma = sample("sigma", flat_positive())
    sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)
