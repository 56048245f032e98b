"""`check` and `explain_start`: every line can fail, and names what is at fault."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist

from infer.bridges.density import from_log_density
from infer.bridges.numpyro import from_numpyro
from infer.check import check, explain_start
from infer.core.support import AbstractSupport, positive

RNG = np.random.default_rng(7)
X = RNG.normal(size=(12, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.1 * RNG.normal(size=12)


def regression(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def two_parts(log_likelihood, data, **settings):
    return from_log_density(
        example=1.0, log_prior=lambda s: -s, log_likelihood=log_likelihood, data=data, **settings
    )


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_good_model_passes(batch_size, capsys):
    rows = None if batch_size is None else ("X", "y")
    target = from_numpyro(regression, X, y=Y, rows=rows, batch_size=batch_size)
    report = check(target, key=0)
    assert report.ok, report
    printed = " ".join(capsys.readouterr().out.split())
    assert "site beta" in printed and "starting point" in printed
    assert report["minibatches"].ok is (None if batch_size is None else True)
    assert report["pointwise likelihood"].ok is True and report["gradient"].ok is True
    assert "shape (3,), real, 3 coordinates" in report["site beta"].message
    assert "sigma" in str(report)


def test_a_good_model_passes_in_double_precision(x64):
    target = from_numpyro(regression, X, y=Y, rows=("X", "y"), batch_size=5)
    assert check(target, key=jax.random.key(1), show=False).ok


def test_random_batches_where_a_partition_is_too_long(x64):
    y = jnp.asarray(RNG.normal(size=2003))
    target = two_parts(lambda s, y: -0.5 * (y - s) ** 2, y, batch_size=7)
    report = check(target, key=0, show=False)
    assert report["minibatches"].ok and "random 1000" in report["minibatches"].message


def test_show_prints_only_when_asked(capsys):
    report = check(from_log_density(lambda x: -(x**2), 0.0), key=0, show=False)
    assert report.ok and capsys.readouterr().out == ""
    with pytest.raises(KeyError, match="no line named 'nonsense'"):
        report["nonsense"]


def test_key_is_required():
    with pytest.raises(TypeError, match="key"):
        inspect.unwrap(check)(from_log_density(lambda x: -(x**2), 0.0))


def test_missing_data_are_counted_and_terms_named():
    y = Y.copy()
    y[[2, 5]] = np.nan
    target = from_numpyro(regression, X, y=y)
    report = check(target, key=0, show=False)
    assert not report.ok
    assert "data 'y' has 2 NaN and 0 infinite among 12" in report["data"].message
    start = report["starting point"]
    assert start.ok is False and "the term of 'y'" in start.message
    assert "term of 'beta'" not in start.message and "init=" in start.message


def test_explain_start_names_the_site_of_a_bad_gradient():
    def log_density(params):
        return -jnp.sum(params["a"] ** 2) + jnp.sqrt(jnp.abs(params["b"] * 0.0))

    target = from_log_density(log_density, {"a": np.zeros(2), "b": 1.0})
    words = explain_start(target, jnp.ones(3))
    assert "gradient of site 'b' is not finite in 1 of 1" in words
    assert "site 'a'" not in words and "the term" not in words


def test_explain_start_names_the_term_of_a_bad_density():
    def likelihood(params, y):
        return jnp.log(params - y)

    words = explain_start(two_parts(likelihood, jnp.asarray([0.0, 3.0])), jnp.ones(1))
    assert "the term of 'log_likelihood' is nan" in words
    fine = from_log_density(lambda x: -(x**2), 0.0)
    assert "are finite at this one" in explain_start(fine, jnp.ones(1))


def test_a_wrong_gradient_is_found_and_its_site_named():
    @jax.custom_jvp
    def square(x):
        return x**2

    square.defjvp(lambda primals, tangents: (primals[0] ** 2, 2.2 * primals[0] * tangents[0]))
    target = from_log_density(
        lambda p: -(p["good"] ** 2) - jnp.sum(square(p["wrong"])),
        {"good": 1.0, "wrong": np.ones(2)},
    )
    line = check(target, key=0, show=False)["gradient"]
    assert line.ok is False and "'wrong'" in line.message and "'good'" not in line.message


def test_a_support_that_is_no_bijection_is_found():
    class Squared(AbstractSupport):
        label = "squared"

        def free_shape(self, shape):
            return shape

        def constrain(self, u):
            return u**2, jnp.sum(jnp.log(2 * jnp.abs(u)))

        def unconstrain(self, x):
            return 2 * jnp.sqrt(x)

        def contains(self, x):
            return jnp.all(x > 0)

    target = from_log_density(
        lambda p: -p["good"] - p["odd"], {"good": 1.0, "odd": 2.0}, supports={"odd": Squared()}
    )
    line = check(target, key=0, show=False)["supports"]
    assert line.ok is False and "worst in site 'odd'" in line.message


def test_parameters_without_a_say_are_found():
    def log_density(p):
        return -0.5 * (p["a"] ** 2 + p["b"][1] ** 2)

    start = {"a": 0.0, "b": np.zeros(3)}
    report = check(from_log_density(log_density, start), key=0, show=False)
    assert report["dependence"].ok is False and not report.ok
    assert "does not depend on 2 of 3 of 'b'" in report["dependence"].message
    assert "'a'" not in report["dependence"].message


def test_biased_minibatches_are_found():
    def centered(s, y):
        return -0.5 * (y - jnp.mean(y)) ** 2 / jnp.exp(s)

    target = two_parts(centered, jnp.asarray(Y), batch_size=3)
    line = check(target, key=0, show=False)["minibatches"]
    assert line.ok is False and "mixes rows" in line.message


def test_a_scaled_likelihood_is_found():
    def model(y):
        a = numpyro.sample("a", dist.Normal(0, 1))
        with numpyro.handlers.scale(scale=2.0):
            numpyro.sample("y", dist.Normal(a, 1), obs=y)

    line = check(from_numpyro(model, Y), key=0, show=False)["pointwise likelihood"]
    assert line.ok is False and "'y'" in line.message


def test_supports_are_looked_at_even_without_a_start():
    target = from_log_density(lambda s: jnp.log(-s), 1.0, supports=positive)
    report = check(target, key=0, show=False)
    assert report["starting point"].ok is False and report["supports"].ok is True
