"""Real posteriors against their reference draws, where a posteriordb folder is at hand."""

import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints

import infer
from infer.diagnostics import ess_bulk


def _read(folder, name):
    with zipfile.ZipFile(folder / f"{name}.json.zip") as archive:
        return json.loads(archive.read(archive.namelist()[0]))


def _reference(database, name):
    chains = _read(database / "reference_posteriors" / "draws" / "draws", name)
    return {key: np.concatenate([np.asarray(c[key]) for c in chains]) for key in chains[0]}


def flat(shape=()):
    return dist.ImproperUniform(constraints.real, (), shape)


def kidscore(mom_iq, kid_score=None):
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    beta = numpyro.sample("beta", flat((2,)))
    with numpyro.plate("child", mom_iq.shape[0]):
        numpyro.sample("y", dist.Normal(beta[0] + beta[1] * mom_iq, sigma), obs=kid_score)


def garch(y, sigma1):
    mu = numpyro.sample("mu", flat())
    alpha0 = numpyro.sample("alpha0", dist.ImproperUniform(constraints.positive, (), ()))
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


def _targets(database):
    data = database / "data" / "data"
    kid, g = _read(data, "kidiq"), _read(data, "garch")
    y = np.asarray(g["y"], float)
    return {
        "kidiq-kidscore_momiq": infer.from_numpyro(
            kidscore, np.asarray(kid["mom_iq"], float), np.asarray(kid["kid_score"], float)
        ),
        "garch-garch11": infer.from_numpyro(garch, y, float(g["sigma1"])),
    }


@pytest.mark.parametrize("name", ["kidiq-kidscore_momiq", "garch-garch11"])
def test_nuts_agrees_with_the_reference(posteriordb, name):
    """Flat priors, a badly scaled regression, and a bound that depends on another parameter."""
    target = _targets(posteriordb)[name]
    preconditioner = infer.Dense()
    result = infer.fit(target, infer.NUTS(preconditioner=preconditioner), key=0)
    assert result.verdict.status == "ok", result.verdict
    reference = _reference(posteriordb, name)
    compared = 0
    for stan, draws in reference.items():
        site, _, index = stan.rstrip("]").partition("[")
        ours = result[site][..., int(index) - 1] if index else result[site]
        ess = min(float(ess_bulk(ours)), 10_000)
        limit = 4.5 * draws.std() * np.sqrt(1 / ess + 1e-4)  # 5 names, 1 in 1000 by chance
        assert abs(ours.mean() - draws.mean()) < limit, stan
        assert abs(np.log(ours.std() / draws.std())) < 0.1, stan
        compared += 1
    assert compared == len(reference) > 2
