"""Thirteen posteriors of posteriordb as NumPyro models, and their reference draws.

The database itself is not part of this project: every function takes the path of its folder. Sites
are named as in its Stan programs, whose indices start at 1: `beta[2]` there is `beta[1]` here.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro.distributions import constraints

import infer

Data = Mapping[str, Any]
Draws = Mapping[str, np.ndarray]


def flat(shape=()):
    return dist.ImproperUniform(constraints.real, (), shape)


def flat_positive():
    return dist.ImproperUniform(constraints.positive, (), ())


def eight_schools_noncentered(sd, y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", sd.shape[0]):
        trans = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * trans)
        numpyro.sample("y", dist.Normal(theta, sd), obs=y)


def eight_schools_centered(sd, y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("school", sd.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sd), obs=y)


def kidscore(mom_iq, kid_score=None):
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    beta = numpyro.sample("beta", flat((2,)))
    with numpyro.plate("child", mom_iq.shape[0]):
        numpyro.sample("y", dist.Normal(beta[0] + beta[1] * mom_iq, sigma), obs=kid_score)


def flat_regression(columns, y):
    """A linear regression on `columns` with flat priors."""
    beta = numpyro.sample("beta", flat((columns.shape[1],)))
    sigma = numpyro.sample("sigma", flat_positive())
    numpyro.sample("y", dist.Normal(columns @ beta, sigma), obs=y)


def autoregression(before, y):
    """Column k of `before` is the series k + 1 steps earlier."""
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    with numpyro.plate("lag", before.shape[1]):
        beta = numpyro.sample("beta", dist.Normal(0.0, 10.0))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(alpha + before @ beta, sigma), obs=y)


def normal_regression(columns, y):
    with numpyro.plate("column", columns.shape[1]):
        beta = numpyro.sample("beta", dist.Normal(0.0, 10.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    numpyro.sample("y", dist.Normal(columns @ beta, sigma), obs=y)


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
    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    kernel = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x) / rho) ** 2)
    # As in the database, sigma is the variance of the noise and not its sd.
    numpyro.factor("y", multivariate_normal(y, kernel + sigma * jnp.eye(x.shape[0])))


def garch(y, sigma1):
    mu = numpyro.sample("mu", flat())
    alpha0 = numpyro.sample("alpha0", flat_positive())
    alpha1 = numpyro.sample("alpha1", dist.Uniform(0.0, 1.0))
    beta1 = numpyro.sample("beta1", dist.Uniform(0.0, 1.0 - alpha1))
    numpyro.factor("flat", jnp.log(1.0 - alpha1))  # undo its density

    def step(carry, new):
        variance, old = carry
        variance = alpha0 + alpha1 * (old - mu) ** 2 + beta1 * variance
        return (variance, new), variance

    _, later = jax.lax.scan(step, (sigma1**2, y[0]), y[1:])
    sd = jnp.sqrt(jnp.concatenate([sigma1[None] ** 2, later]))
    numpyro.sample("obs", dist.Normal(mu, sd), obs=y)


def hidden_markov(y):
    simplex = dist.ImproperUniform(constraints.simplex, (), (2,))
    theta1, theta2 = numpyro.sample("theta1", simplex), numpyro.sample("theta2", simplex)
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.positive_ordered_vector, (), (2,)))
    numpyro.factor("prior", jnp.sum(dist.Normal(jnp.array([3.0, 10.0]), 1.0).log_prob(mu)))
    transition = jnp.log(jnp.stack([theta1, theta2]))
    emission = dist.Normal(mu, 1.0).log_prob(y[:, None])

    def step(forward, new):
        return logsumexp(forward[:, None] + transition, axis=0) + new, None

    # The first state has no distribution of its own: both count in full.
    forward, _ = jax.lax.scan(step, emission[0], emission[1:])
    numpyro.factor("likelihood", logsumexp(forward))


def mixture(y):
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    numpyro.factor("prior", jnp.sum(dist.Normal(0.0, 2.0).log_prob(mu)))
    with numpyro.plate("component", 2):
        sigma = numpyro.sample("sigma", dist.HalfNormal(2.0))
    theta = numpyro.sample("theta", dist.Beta(5.0, 5.0))
    first = jnp.log(theta) + dist.Normal(mu[0], sigma[0]).log_prob(y)
    second = jnp.log1p(-theta) + dist.Normal(mu[1], sigma[1]).log_prob(y)
    numpyro.factor("likelihood", jnp.sum(jnp.logaddexp(first, second)))


def kilpisjarvi(x, y, alpha_prior, beta_prior):
    alpha = numpyro.sample("alpha", dist.Normal(alpha_prior[0], alpha_prior[1]))
    beta = numpyro.sample("beta", dist.Normal(beta_prior[0], beta_prior[1]))
    sigma = numpyro.sample("sigma", flat_positive())
    numpyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)


def _array(data: Data, name: str) -> np.ndarray:
    return np.asarray(data[name], float)


def _number(data: Data, name: str) -> float:
    """A scalar; the database stores some as lists of one."""
    return float(np.asarray(data[name], float).reshape(()))


def _arrays(*names: str) -> Callable[[Data], tuple]:
    return lambda data: tuple(_array(data, name) for name in names)


def _with_ones(*columns: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(columns[0])), *columns])


def _earnings(data: Data) -> tuple:
    return _with_ones(_array(data, "height")), np.log(_array(data, "earn"))


def _lagged(data: Data) -> tuple:
    y, lags = _array(data, "y"), int(_number(data, "K"))
    before = [y[lags - k : len(y) - k] for k in range(1, lags + 1)]
    return np.column_stack(before), y[lags:]


def _mesquite(data: Data) -> tuple:
    volume = _array(data, "diam1") * _array(data, "diam2") * _array(data, "canopy_height")
    return _with_ones(np.log(volume)), np.log(_array(data, "weight"))


def _election(data: Data) -> tuple:
    age = _array(data, "age_discrete")
    columns = [_array(data, "real_ideo"), _array(data, "race_adj")]
    columns += [(age == group).astype(float) for group in (2, 3, 4)]
    columns += [_array(data, name) for name in ("educ1", "gender", "income")]
    return _with_ones(*columns), _array(data, "partyid7")


def _garch(data: Data) -> tuple:
    return _array(data, "y"), _number(data, "sigma1")


def _kilpisjarvi(data: Data) -> tuple:
    priors = [
        np.array([_number(data, f"pmu{name}"), _number(data, f"ps{name}")])
        for name in ("alpha", "beta")
    ]
    return _array(data, "x"), _array(data, "y"), *priors


class Posterior(NamedTuple):
    """A model, and what makes its arguments from the data."""

    model: Callable
    arguments: Callable[[Data], tuple]


_SCHOOLS = _arrays("sigma", "y")
POSTERIORS = {
    "eight_schools-eight_schools_noncentered": Posterior(eight_schools_noncentered, _SCHOOLS),
    "eight_schools-eight_schools_centered": Posterior(eight_schools_centered, _SCHOOLS),
    "kidiq-kidscore_momiq": Posterior(kidscore, _arrays("mom_iq", "kid_score")),
    "earnings-logearn_height": Posterior(flat_regression, _earnings),
    "arK-arK": Posterior(autoregression, _lagged),
    "mesquite-logmesquite_logvolume": Posterior(flat_regression, _mesquite),
    "sblri-blr": Posterior(normal_regression, _arrays("X", "y")),
    "nes2000-nes": Posterior(flat_regression, _election),
    "gp_pois_regr-gp_regr": Posterior(gaussian_process, _arrays("x", "y")),
    "garch-garch11": Posterior(garch, _garch),
    "hmm_example-hmm_example": Posterior(hidden_markov, _arrays("y")),
    "low_dim_gauss_mix-low_dim_gauss_mix": Posterior(mixture, _arrays("y")),
    "kilpisjarvi_mod-kilpisjarvi": Posterior(kilpisjarvi, _kilpisjarvi),
}


def names() -> list[str]:
    """The posteriors, by the names they have in the database."""
    return list(POSTERIORS)


def _read(folder: Path, name: str) -> Any:
    with zipfile.ZipFile(folder / f"{name}.json.zip") as archive:
        return json.loads(archive.read(archive.namelist()[0]))


def _entry(database: Path, name: str) -> dict[str, Any]:
    return json.loads((database / "posteriors" / f"{name}.json").read_text())


def arguments(database: Path, name: str) -> tuple:
    """The arguments of the model of this posterior: its data."""
    data = _read(database / "data" / "data", _entry(database, name)["data_name"])
    return POSTERIORS[name].arguments(data)


def load(database: Path, name: str) -> infer.Target:
    """The posterior as a target, in the precision that is switched on."""
    return infer.from_numpyro(POSTERIORS[name].model, *arguments(database, name))


def reference(database: Path, name: str) -> dict[str, np.ndarray]:
    """Reference draws by Stan's names, those of all chains one after the other."""
    stored = _entry(database, name)["reference_posterior_name"]
    chains = _read(database / "reference_posteriors" / "draws" / "draws", stored)
    return {key: np.concatenate([np.asarray(c[key]) for c in chains]) for key in chains[0]}


def place(stan: str) -> tuple[str, tuple[int, ...]]:
    """Our site and 0-based index of a parameter of Stan: `beta[2]` is ("beta", (1,))."""
    site, _, index = stan.rstrip("]").partition("[")
    return site, tuple(int(i) - 1 for i in index.split(",")) if index else ()


def sites(name: str, reference: Draws) -> dict[str, np.ndarray]:
    """Reference draws by our sites, (draw, *shape), latent ones that are not stored included."""
    columns: dict[str, list[np.ndarray]] = {}
    scalars = set()
    for stan, draws in reference.items():  # ascending within a site, and no site is a matrix
        site, index = place(stan)
        columns.setdefault(site, []).append(draws)
        if not index:
            scalars.add(site)
    values = {
        site: parts[0] if site in scalars else np.stack(parts, axis=1)
        for site, parts in columns.items()
    }
    if name == "eight_schools-eight_schools_noncentered":
        shift = values["theta"] - values["mu"][:, None]
        values["theta_trans"] = shift / values["tau"][:, None]
    return values


def unconstrained(target: infer.Target, name: str, reference: Draws) -> np.ndarray:
    """Reference draws on the unconstrained scale, (draw, d)."""
    values = sites(name, reference)
    latent = {site.name: values[site.name] for site in target.sites}
    return np.asarray(jax.jit(jax.vmap(target.unconstrain))(latent))


class Error(NamedTuple):
    """How far draws are from the reference: in sd of the reference, and as log of the sd ratio."""

    mean: float
    log_sd: float


def compare(draws: Draws, name: str, reference: Draws) -> dict[str, Error]:
    """Errors by Stan's names. `draws` has our sites: `(*draws, *shape)`, as `result.draws()`."""
    errors = {}
    for stan, theirs in reference.items():
        site, index = place(stan)
        ours = np.asarray(draws[site], np.float64)[(..., *index)]
        shift = (ours.mean() - theirs.mean()) / theirs.std()
        errors[stan] = Error(float(shift), float(np.log(ours.std() / theirs.std())))
    if not errors:
        raise ValueError(f"no reference draws of {name} were given")
    return errors
