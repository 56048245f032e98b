"""Families drawn by rejection samplers, against quadrature and other estimators."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.scipy.special import gammaln
from scipy import stats

import infer
from infer.core.posterior import AbstractDistribution, Draws, Sampling
from infer.families import RejectionDistribution
from infer.objectives import estimate, valid_estimators

# A normal in two dimensions, skewed along `bend`: half of the noise is accepted, jointly.


def skew_first(start):
    return {"shift": start, "log_scale": 0 * start - 0.2, "bend": jnp.array([1.5, -0.7])}


def skew_push(e, p):
    return p["shift"] + jnp.exp(p["log_scale"]) * e


def skew_log_acceptance(e, p):
    return jax.nn.log_sigmoid(p["bend"] @ e)


def skew_log_density(x, p):
    e = (x - p["shift"]) * jnp.exp(-p["log_scale"])
    normal = -0.5 * e @ e - jnp.log(2 * jnp.pi) - jnp.sum(p["log_scale"])
    return jnp.log(2.0) + normal + jax.nn.log_sigmoid(p["bend"] @ e)


def skew():
    return infer.RejectionSampled(skew_first, skew_push, skew_log_acceptance, skew_log_density)


# Gamma variates by Marsaglia and Tsang, in logarithms; shapes from 1 on, row by row.


def constants(p):
    a = 1 + jnp.exp(p["log_excess"])
    return a, a - 1 / 3, 1 / jnp.sqrt(9 * a - 3)


def gamma_first(start):
    return {"log_excess": 0 * start - 1.0, "log_rate": -start}


def gamma_push(e, p):
    _, d, c = constants(p)
    return jnp.log(d) + 3 * jnp.log1p(c * e) - p["log_rate"]


def gamma_log_acceptance(e, p):
    _, d, c = constants(p)
    inside = c * e > -1
    v = jnp.where(inside, 1 + c * e, 1) ** 3
    return jnp.where(inside, 0.5 * e**2 + d - d * v + d * jnp.log(v), -jnp.inf)


def gamma_log_density(z, p):
    a, y = constants(p)[0], z + p["log_rate"]
    return jnp.sum(a * y - jnp.exp(y) - gammaln(a))


def gammas():
    return infer.RejectionSampled(gamma_first, gamma_push, gamma_log_acceptance, gamma_log_density)


# Dirichlet variates from three gammas, as two logarithms of ratios.


def dirichlet_first(start):
    return {"log_excess": jnp.append(start, 0.3), "log_rate": jnp.zeros(3, start.dtype)}


def dirichlet_push(e, p):
    logs = gamma_push(e, {**p, "log_rate": 0})
    return logs[:2] - logs[2]


def dirichlet_log_density(z, p):
    a = constants(p)[0]
    logs = jax.nn.log_softmax(jnp.append(z, 0))
    return a @ logs + gammaln(jnp.sum(a)) - jnp.sum(gammaln(a))


def dirichlet():
    return infer.RejectionSampled(
        dirichlet_first, dirichlet_push, gamma_log_acceptance, dirichlet_log_density, (3,)
    )


START = [0.4, -0.3]
MADE = {"skew": skew, "gammas": gammas, "dirichlet": dirichlet}


def member(name):
    return MADE[name]().init(jax.random.key(0), jnp.asarray(START))


def log_density(z):
    """Skewed, correlated, and log-concave."""
    return 2 * z[0] - jnp.exp(z[0]) + 3 * z[1] - 2 * jnp.exp(z[1]) - 0.3 * (z[0] - z[1]) ** 2


def target():
    return infer.from_log_density(log_density, jnp.zeros(2))


@eqx.filter_jit
def exact_gradient(q):
    """Of E_q[log p - log q], by quadrature on a grid over all of q's mass."""
    line = jnp.linspace(-16, 8, 481)
    grid = jnp.stack(jnp.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)

    def bound(q):
        log_q = jax.vmap(q.log_prob)(grid)
        cell = (line[1] - line[0]) ** 2
        log_p = jax.vmap(log_density)(grid)
        return jnp.sum(jnp.exp(log_q) * (log_p - log_q)) * cell, jnp.sum(jnp.exp(log_q)) * cell

    ascent, mass = jax.grad(bound, has_aux=True)(q)
    return ravel_pytree(ascent)[0], mass


ESTIMATORS = (infer.Reparam(), infer.Path(), infer.Score())


@eqx.filter_jit
def gradients(key, target, q, estimators, n, at_once=None):
    """n gradients of six draws by each of the estimators, all from the same draws."""

    def one(key):
        given = [(key, target, q, infer.ReverseKL(), e, 6, at_once) for e in estimators]
        uncorrected = (key, target, Uncorrected(q), infer.ReverseKL(), infer.Reparam(), 6, at_once)
        return [ravel_pytree(estimate(*g)[1])[0] for g in (*given, uncorrected)]

    return jax.lax.map(one, jax.random.split(key, n), batch_size=500)


class Uncorrected(AbstractDistribution):
    """As if the noise did not depend on the parameters."""

    inside: RejectionDistribution

    def sample_score(self, key, n):
        return eqx.tree_at(
            lambda d: d.log_noise,
            self.inside.sample_score(key, n),
            None,
            is_leaf=lambda x: x is None,
        )

    def sample(self, key, n):
        return self.inside.sample(key, n)

    def log_prob(self, x):
        return self.inside.log_prob(x)

    def moments(self):
        return None


def standardized(found, exact):
    """Differences of the mean from what is exact in standard errors, where there are any."""
    found = np.asarray(found)
    error = found.std(axis=0) / len(found) ** 0.5
    moving = error > 0
    np.testing.assert_allclose(found.mean(axis=0)[~moving], exact[~moving], atol=1e-9)
    return (found.mean(axis=0) - exact)[moving] / error[moving]


@pytest.mark.parametrize(
    "name, n, off",
    [
        ("skew", 4000, 30),
        pytest.param("gammas", 20_000, 8, marks=pytest.mark.slow),
        pytest.param("dirichlet", 20_000, 8, marks=pytest.mark.slow),
    ],
)
def test_gradients_have_the_exact_mean(name, n, off, x64):
    """n gradients of 6 draws by each estimator against quadrature, z < 4.5.

    Without the share of the noise they are off; most noise of gammas is accepted, so that takes
    many to be seen.
    """
    q = member(name)
    exact, mass = exact_gradient(q)
    np.testing.assert_allclose(mass, 1, rtol=1e-6)
    *found, uncorrected = gradients(jax.random.key(0), target(), q, ESTIMATORS, n)
    for each in found:
        assert np.abs(standardized(each, exact)).max() < 4.5
    assert np.abs(standardized(uncorrected, exact)).max() >= off


class Implicit(AbstractDistribution):
    """The same gammas by JAX's sampler, whose draws are differentiated implicitly."""

    parameters: dict

    def sample_score(self, key, n):
        a = constants(self.parameters)[0]
        x = jax.random.loggamma(key, a, (n, 2)) - self.parameters["log_rate"]
        fixed = jax.lax.stop_gradient((self, x))
        score = jax.vmap(jax.grad(fixed[0].log_prob))(fixed[1])
        return Draws(x, jax.vmap(self.log_prob)(x), score, independent=True)

    def sample(self, key, n):
        return self.sample_score(key, n).x

    def log_prob(self, x):
        return gamma_log_density(x, self.parameters)

    def moments(self):
        return None


@pytest.mark.slow
def test_gradients_agree_with_implicit_ones(x64):
    """40,000 gradients each way, z < 4.5."""
    q, n = member("gammas"), 40_000

    @eqx.filter_jit
    def implicit(key, target, q):
        def one(key):
            given = (key, target, q, infer.ReverseKL(), infer.Reparam(), 6)
            return ravel_pytree(estimate(*given)[1])[0]

        return jax.lax.map(one, jax.random.split(key, n), batch_size=500)

    ours = gradients(jax.random.key(1), target(), q, (infer.Reparam(),), n)[0]
    theirs = implicit(jax.random.key(2), target(), Implicit(q.parameters))
    error = np.hypot(ours.std(axis=0), theirs.std(axis=0)) / n**0.5
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 4.5 * error).all()


def test_draws_follow_the_density(x64):
    """Gammas by Kolmogorov and Smirnov, 4000 draws; rows of noise are drawn again by themselves."""
    q = member("gammas")
    x = np.exp(jax.jit(lambda q: q.sample(jax.random.key(5), 4000))(q))
    assert np.abs(np.corrcoef(x.T)[0, 1]) < 4.5 / 4000**0.5
    for i in range(2):
        scale = np.exp(-q.parameters["log_rate"][i])
        assert stats.kstest(x[:, i], stats.gamma(1 + np.exp(-1.0), scale=scale).cdf).pvalue > 1e-3


def test_blocks_have_the_gradient_of_all_draws(x64):
    class Joined(RejectionDistribution):
        def sample_score(self, key, n):
            each = [
                RejectionDistribution.sample_score(self, k, 2) for k in jax.random.split(key, 3)
            ]
            return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *each)

    @eqx.filter_jit
    def ascent(target, q, at_once):
        given = (jax.random.key(7), target, q, infer.ReverseKL(), infer.Path(), 6, at_once)
        return estimate(*given)[1].parameters

    skewed = member("skew")
    made = (field.name for field in dataclasses.fields(skewed) if field.init)
    joined = Joined(**{name: getattr(skewed, name) for name in made})
    blocks, whole = ascent(target(), skewed, 2), ascent(target(), joined, None)
    for name in blocks:
        np.testing.assert_allclose(blocks[name], whole[name], rtol=1e-10, atol=1e-12)


def test_a_factor_of_a_product():
    """Gammas for one site, a Gaussian for another: a posterior that the product contains."""

    def log_joint(z):
        return jnp.sum(3 * z["r"] - jnp.array([2.0, 5.0]) * jnp.exp(z["r"])) - 2 * (z["m"] - 1) ** 2

    made = infer.from_log_density(log_joint, {"r": jnp.zeros(2), "m": jnp.zeros(())})
    family = infer.Product({"r": gammas(), "m": infer.MeanField()})
    assert not family.fixed_noise and not family.on(made).fixed_noise
    method = infer.VI(family=family, estimator=infer.Path(), n_samples=8, stopping=None)
    result = infer.fit(made, method, key=0, steps=800, progress=False)
    noise, normal = result.posterior.factors
    np.testing.assert_allclose(jnp.exp(noise.parameters["log_excess"]) + 1, 3, rtol=0.03)
    np.testing.assert_allclose(jnp.exp(noise.parameters["log_rate"]), [2, 5], rtol=0.03)
    np.testing.assert_allclose([normal.mean[0], jnp.exp(normal.log_scale[0])], [1, 0.5], rtol=0.03)
    assert result.verdict.status == "ok"


def test_a_sampler_that_accepts_nothing_ends():
    never = infer.RejectionSampled(
        gamma_first, gamma_push, lambda e, p: 0 * e - jnp.inf, gamma_log_density, most_tries=3
    )
    q = never.init(jax.random.key(0), jnp.zeros(2))
    assert np.isnan(q.sample(jax.random.key(1), 2)).all()


def test_what_would_be_biased_is_refused():
    assert valid_estimators(infer.IWAE(), Sampling.INDEPENDENT, 6, fixed_noise=False) == (
        infer.Score(),
    )
    infer.VI(family=gammas(), objective=infer.IWAE(), estimator=infer.Score())
    by_site: dict = {0: infer.Score(), 1: infer.Path()}
    mixed = infer.Product({0: gammas(), 1: infer.MeanField()})
    infer.VI(family=mixed, objective=infer.IWAE(), estimator=infer.BySite(by_site))
    for settings, message in (
        (dict(objective=infer.IWAE(), estimator=infer.Path()), r"estimator=infer\.Score\(\)\."),
        (dict(family=mixed, objective=infer.IWAE()), r"not linear.*estimator=infer\.Score\(\)\."),
        (
            dict(
                family=mixed,
                objective=infer.IWAE(),
                estimator=infer.BySite({**by_site, 0: infer.Path()}),
            ),
            "not linear",
        ),
        (dict(n_samples=1), "single draw has no baseline.*n_samples=8"),
    ):
        with pytest.raises(ValueError, match=message):
            infer.VI(**{"family": gammas(), **settings})
    with pytest.raises(ValueError, match="noise that does not depend on the parameters"):
        infer.Mixture(gammas())
    with pytest.raises(ValueError, match="not linear"):
        infer.gradient_report(
            target(), member("skew"), objective=infer.IWAE(), estimators=[infer.Path()], key=0
        )


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(noise_shape=(0,)), r"tuple of sizes or None, got \(0,\)"),
        (dict(most_tries=0), "most_tries >= 1"),
        (dict(noise_shape=(5,)), r"push to make an array of shape \(2,\), got \(5,\)"),
        (dict(log_acceptance=lambda e, p: e[:1]), r"log_acceptance .* first axes of \(2,\)"),
        (dict(log_density=lambda z, p: z), r"log_density to make an array of shape \(\)"),
    ],
)
def test_functions_of_other_shapes_are_refused(change, message):
    given = dict(
        first=gamma_first,
        push=lambda e, p: e,
        log_acceptance=lambda e, p: 0 * e,
        log_density=gamma_log_density,
    )
    with pytest.raises((TypeError, ValueError), match=message):
        infer.RejectionSampled(**{**given, **change}).init(jax.random.key(0), jnp.zeros(2))
