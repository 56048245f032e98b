"""`from_numpyro`: the density against NumPyro's own, minibatches, labels, prediction, refusals."""

import dataclasses
import inspect
import subprocess
import sys
import warnings
from collections import Counter

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from numpyro.infer.reparam import LocScaleReparam
from numpyro.infer.util import constrain_fn, potential_energy

from infer.bridges.numpyro import from_numpyro

RNG = np.random.default_rng(5)
SCHOOLS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
X = RNG.normal(size=(12, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.1 * RNG.normal(size=12)
SERIES = np.cumsum(RNG.normal(size=9))


def schools(J, sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", J):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.deterministic("gap", theta - mu)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


noncentered = numpyro.handlers.reparam(schools, config={"theta": LocScaleReparam(0.0)})


def dependent(y):
    a = numpyro.sample("a", dist.Uniform(0, 1))
    b = numpyro.sample("b", dist.Uniform(0, 1 - a))
    c = numpyro.sample("c", dist.ImproperUniform(constraints.greater_than(a + b), (), ()))
    numpyro.sample("y", dist.Normal(a + b, c), obs=y)


def mixture(y):
    theta = numpyro.sample("theta", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("component", 3):
        sigma = numpyro.sample("sigma", dist.HalfNormal(2))
    mu = numpyro.sample(
        "mu", dist.ImproperUniform(constraints.ordered_vector, (), event_shape=(3,))
    )
    numpyro.factor("weak", -0.5 * jnp.sum(mu**2) / 100)
    with numpyro.plate("row", y.shape[0]):
        parts = dist.MixtureSameFamily(dist.Categorical(theta), dist.Normal(mu, sigma))
        numpyro.sample("y", parts, obs=y)


def correlated(y):
    chol = numpyro.sample("L", dist.LKJCholesky(3, concentration=2.0))
    scale = numpyro.sample("scale", dist.LogNormal(0, 1).expand([3]).to_event(1))
    loc = numpyro.sample("loc", dist.Normal(0, 1), sample_shape=(3,))
    with numpyro.plate("row", y.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(loc, scale_tril=scale[:, None] * chol), obs=y)


def autoregressive(y):
    rho = numpyro.sample("rho", dist.Uniform(-1, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))

    def step(level, y_t):
        level = numpyro.sample("level", dist.Normal(rho * level, sigma))
        width = numpyro.sample("width", dist.Gamma(2.0, 1.0))
        numpyro.sample("y", dist.Normal(level, width), obs=y_t)
        return level, level

    scan(step, 0.0, y)


def nested(y):
    with numpyro.plate("column", 4, dim=-1):
        loc = numpyro.sample("loc", dist.Normal(0, 1))
        with numpyro.plate("line", 2, dim=-2):
            scale = numpyro.sample("scale", dist.HalfNormal(1))
            weights = numpyro.sample(
                "weights", dist.Dirichlet(jnp.ones(3)), infer={"event_dims": ["part"]}
            )
            rate = numpyro.deterministic("rate", loc * scale)
            numpyro.sample("y", dist.Normal(rate + weights[..., 0], 1), obs=y)


MODELS = {
    "schools": (schools, (8, ERRORS), {"y": SCHOOLS}),
    "noncentered": (noncentered, (8, ERRORS), {"y": SCHOOLS}),
    "dependent": (dependent, (0.4,), {}),
    "mixture": (mixture, (Y,), {}),
    "correlated": (correlated, (X,), {}),
    "autoregressive": (autoregressive, (SERIES,), {}),
    "nested": (nested, (RNG.normal(size=(2, 4)),), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_density_is_numpyros(name, x64):
    model, args, kwargs = MODELS[name]
    target = from_numpyro(model, *args, **kwargs)
    z = jnp.asarray(RNG.normal(size=target.dim))

    @jax.jit
    def look(z):
        free = target.unravel(z)
        energy = potential_energy(model, args, kwargs, free)
        values = constrain_fn(model, args, kwargs, free, return_deterministic=True)
        return (
            (target.log_prob(z), target.constrain(z), target.log_terms(z)),
            (-energy, values),
            target.unconstrain(target.constrain(z)),
        )

    ours, theirs, back = look(z)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(sum(ours[2].values()), theirs[0], rtol=1e-12)
    assert set(ours[1]) == set(theirs[1])
    for site, value in theirs[1].items():
        np.testing.assert_allclose(ours[1][site], value, rtol=1e-12)
    np.testing.assert_allclose(back, z, rtol=1e-6, atol=1e-8)
    assert not any(term.endswith("_log_det") for term in ours[2])
    shapes = {site.name: site.shape for site in target.sites}
    assert {site: ours[1][site].shape for site in shapes} == shapes


def test_sites_and_supports():
    sites = {site.name: site for site in from_numpyro(correlated, X).sites}
    assert (sites["L"].shape, sites["L"].free_shape) == ((3, 3), (3,))
    assert (sites["L"].support, sites["scale"].support) == ("corr_cholesky", "positive")
    assert sites["loc"].shape == (3,)
    level = {site.name: site for site in from_numpyro(autoregressive, SERIES).sites}
    assert level["level"].shape == level["width"].free_shape == (9,)


def test_labels():
    labels = from_numpyro(schools, 8, ERRORS, y=SCHOOLS).model.labels
    assert labels.dims == {name: ("school",) for name in ("theta", "gap", "y")}
    assert list(labels.coords["school"]) == list(range(8))
    labels = from_numpyro(nested, np.zeros((2, 4))).model.labels
    assert labels.dims["loc"] == ("column",)
    assert labels.dims["rate"] == ("line", "column")
    assert labels.dims["weights"] == ("line", "column", "part")
    assert {k: len(v) for k, v in labels.coords.items()} == {"line": 2, "column": 4, "part": 3}


def test_a_plate_named_like_a_variable_is_renamed():
    def model(y):
        a = numpyro.sample("a", dist.Normal(0, 1))
        with numpyro.plate("y", 12):
            numpyro.sample("obs", dist.Normal(a, 1), obs=y)

    assert from_numpyro(model, Y).model.labels.dims == {"obs": ("y_dim",)}


def test_data_groups():
    model = from_numpyro(schools, 8, ERRORS, y=SCHOOLS).model
    assert {name: v.shape for name, v in model.observed().items()} == {"y": (8,)}
    np.testing.assert_allclose(model.observed()["y"], SCHOOLS)
    assert set(model.constant()) == {"sigma"}

    def logs(data):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.sample("log_y", dist.Normal(a, data["scale"]), obs=jnp.log(data["y"]))

    model = from_numpyro(logs, {"y": np.exp(Y), "scale": 2.0}).model
    np.testing.assert_allclose(model.observed()["log_y"], Y, rtol=1e-5)
    assert set(model.constant()) == {"data.y", "data.scale"}


def regression(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    numpyro.sample("prior_study", dist.Normal(beta[0], 2), obs=0.3)
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", X @ beta)
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def subsampled(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    numpyro.sample("prior_study", dist.Normal(beta[0], 2), obs=0.3)
    with numpyro.plate("row", X.shape[0], subsample_size=5) as index:
        numpyro.sample("y", dist.Normal(X[index] @ beta, sigma), obs=y[index])


def subsample_statement(X, y=None):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    numpyro.sample("prior_study", dist.Normal(beta[0], 2), obs=0.3)
    with numpyro.plate("row", X.shape[0], subsample_size=5):
        X, y = numpyro.subsample(X, event_dim=1), numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def factored(X, y):
    beta = numpyro.sample("beta", dist.Normal(0, 1).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    numpyro.sample("prior_study", dist.Normal(beta[0], 2), obs=0.3)
    numpyro.factor("likelihood", dist.Normal(X @ beta, sigma).log_prob(y))


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (regression, ("X", "y")),
        (factored, ("X", "y")),
        (subsampled, None),
        (subsample_statement, None),
    ],
)
def test_minibatches_average_exactly(model, rows, x64):
    full = from_numpyro(regression, X, y=Y)
    target = from_numpyro(model, X, y=Y, rows=rows, batch_size=4)
    assert (target.size, target.exact, full.exact) == (12, False, True)
    z = jnp.asarray([0.1, 0.5, -0.2, -0.3])
    expected = full.log_prob(z)
    np.testing.assert_allclose(target.full().log_prob(z), expected)

    @eqx.filter_jit
    def on(target, indices):
        batch = dataclasses.replace(target, model=target.model.take(indices), minibatch=True)
        return batch.log_prob(z)

    order = RNG.permutation(12).reshape(3, 4)
    values = [on(target, jnp.asarray(part)) for part in order]
    assert np.std(values) > 1e-3
    np.testing.assert_allclose(np.mean(values), expected)
    drawn = target.subsample(jax.random.key(3))
    assert not np.isclose(drawn.log_prob(z), expected)


def test_subsampled_plate_without_batches_uses_all_rows(x64):
    z = jnp.asarray([0.1, 0.5, -0.2, -0.3])
    target = from_numpyro(subsampled, X, y=Y)
    assert target.exact and target.size == 12
    np.testing.assert_allclose(target.log_prob(z), from_numpyro(regression, X, y=Y).log_prob(z))


def test_pointwise_likelihood_is_unscaled(x64):
    target = from_numpyro(regression, X, y=Y, rows=("X", "y"), batch_size=4)
    z = jnp.asarray([0.1, 0.5, -0.2, -0.3])
    values = target.full().constrain(z)
    expected = dist.Normal(X @ values["beta"], values["sigma"]).log_prob(Y)
    pointwise = target.log_likelihood(z)
    assert set(pointwise) == {"y", "prior_study"}
    np.testing.assert_allclose(pointwise["y"], expected)
    batch = dataclasses.replace(target, model=target.model.take(jnp.arange(4)), minibatch=True)
    np.testing.assert_allclose(batch.log_likelihood(z)["y"], expected[:4])
    np.testing.assert_allclose(target.full().log_terms(z)["y"], expected.sum())


def test_factors_and_masked_sites_have_no_pointwise_likelihood():
    def model(y, observed):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.factor("extra", -a)
        with numpyro.plate("row", 12):
            numpyro.sample("y", dist.Normal(a, 1), obs=y)
            with numpyro.handlers.mask(mask=observed):
                numpyro.sample("hidden", dist.Normal(a, 1), obs=y)

    target = from_numpyro(model, Y, Y > 0)
    assert set(target.log_likelihood(jnp.zeros(1))) == {"y"}
    assert set(target.log_terms(jnp.zeros(1))) == {"a", "extra", "y", "hidden"}


def test_prediction():
    target = from_numpyro(regression, X, y=Y)
    z = jnp.asarray([100.0, 0.0, 0.0, -10.0])
    new = 2.0 * np.ones((5, 3), np.float32)

    @jax.jit
    def draw(key):
        return target.model.predict(key, target.unravel(z), (new,), {})

    drawn = draw(jax.random.key(0))
    assert set(drawn) == {"y", "mean"} and drawn["y"].shape == (5,)
    np.testing.assert_allclose(drawn["y"], 200.0, atol=1e-2)
    assert not np.array_equal(drawn["y"], draw(jax.random.key(1))["y"])
    replicated = target.model.predict(jax.random.key(0), target.unravel(z), (), {})
    np.testing.assert_allclose(replicated["y"], X @ [100.0, 0.0, 0.0], atol=1e-2)
    with pytest.raises(ValueError, match="nothing is left to predict"):
        target.model.predict(jax.random.key(0), target.unravel(z), (X,), {"y": Y})


def test_deterministic_sites_are_predicted_at_the_new_inputs():
    def model(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        mean = numpyro.deterministic("mean", slope * x)
        numpyro.sample("y", dist.Normal(mean, 1e-4).to_event(1), obs=y)

    target = from_numpyro(model, np.arange(4.0), y=np.arange(4.0))
    new = np.array([5.0, 7.0])
    drawn = target.model.predict(jax.random.key(0), {"slope": jnp.asarray(3.0)}, (new,), {})
    np.testing.assert_allclose(drawn["mean"], [15.0, 21.0])
    np.testing.assert_allclose(drawn["y"], [15.0, 21.0], atol=1e-2)


def test_prediction_with_dependent_bounds_uses_the_latent_values():
    def model(y=None):
        a = numpyro.sample("a", dist.Uniform(0, 1))
        b = numpyro.sample("b", dist.Uniform(a, a + 0.001))
        numpyro.sample("y", dist.Normal(b, 1e-4), obs=y)

    target = from_numpyro(model, y=0.5)
    drawn = target.model.predict(
        jax.random.key(0), {"a": jnp.asarray(3.0), "b": jnp.zeros(())}, (), {}
    )
    np.testing.assert_allclose(drawn["y"], jax.nn.sigmoid(3.0) + 5e-4, atol=1e-3)


def test_new_data_of_the_same_shape_compile_nothing():
    calls = Counter()  # not a list: a model that reads another list is another model

    def model(X, scale, degree, y=None):
        calls["trace"] += 1
        beta = numpyro.sample("beta", dist.Normal(0, scale).expand([3]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal((X @ beta) ** degree, 1), obs=y)

    @eqx.filter_jit
    def value(target, z):
        return target.log_prob(z)

    targets = [from_numpyro(model, X + i, 1.0 + i, 2, y=Y - i) for i in range(3)]
    z = jnp.ones(3)
    values = [float(value(targets[0], z))]
    before = calls["trace"]
    values += [float(value(target, z)) for target in targets[1:]]
    assert calls["trace"] == before and len(set(values)) == 3
    value(from_numpyro(model, X, 1.0, 3, y=Y), z)  # a Python int is static
    assert calls["trace"] > before + 1


def grouped(g, y):
    _, index = np.unique(g, return_inverse=True)
    with numpyro.plate("group", index.max() + 1):
        a = numpyro.sample("a", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(a[index], 1), obs=y)


def test_static_arguments():
    g = np.arange(12) % 3
    target = from_numpyro(grouped, g, Y, static=("g",))
    assert target.dim == 3
    again = from_numpyro(grouped, g.copy(), Y + 1, static=("g",))
    same = [jax.tree.structure(eqx.partition(t, eqx.is_array)[0]) for t in (target, again)]
    assert same[0] == same[1]
    assert eqx.partition(target, eqx.is_array)[1] == eqx.partition(again, eqx.is_array)[1]
    assert list(target.model.constant()) == ["g"]
    count = from_numpyro(sized, np.asarray(4), static=("J",))
    assert count.dim == 4


def sized(J):
    with numpyro.plate("group", J):
        numpyro.sample("a", dist.Normal(0, 1))


def discrete():
    numpyro.sample("k", dist.Bernoulli(0.5))
    numpyro.sample("a", dist.Normal(0, 1))


def nothing(y):
    numpyro.sample("y", dist.Normal(0, 1), obs=y)


def parameter():
    w = numpyro.param("w", 1.0)
    numpyro.sample("a", dist.Normal(w, 1))


def sphere():
    numpyro.sample("a", dist.ProjectedNormal(jnp.ones(3)))


def broken(y):
    numpyro.sample("a", dist.Normal(jnp.zeros(5), jnp.ones(4)))


def decides(y):
    a = numpyro.sample("a", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(a if a > 0 else 2 * a, 1), obs=y)


def outside_of_jax(y):
    numpyro.sample("y", dist.Normal(np.exp(numpyro.sample("a", dist.Normal(0, 1))), 1), obs=y)


def fixed_rows(X, y):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", 12):
        numpyro.sample("y", dist.Normal(a + X[:, 0], 1), obs=y)


def per_row(X, y):
    with numpyro.plate("row", X.shape[0]):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(a, 1), obs=y)


def joint_event(X, y):
    s = numpyro.sample("s", dist.HalfNormal(1))
    cov = s * jnp.eye(X.shape[0])
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(X.shape[0]), cov), obs=y)


def summed_factor(X, y):
    a = numpyro.sample("a", dist.Normal(0, 1))
    numpyro.factor("likelihood", jnp.sum(dist.Normal(a, 1).log_prob(y)))
    numpyro.sample("X", dist.Normal(a, 1), obs=X[:, 0])


def data_prior(X, y):
    a = numpyro.sample("a", dist.Normal(jnp.mean(y), 1))
    numpyro.sample("y", dist.Normal(a, 1), obs=y)


def no_row_site(X, y):
    numpyro.sample("a", dist.Normal(0, 1))


def latent_in_plate(X, y):
    with numpyro.plate("row", 12, subsample_size=4) as index:
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(a, 1), obs=y[index])


def unindexed(X, y):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", 12, subsample_size=4):
        numpyro.sample("y", dist.Normal(a, 1), obs=y)


def two_plates(X, y):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", 12, subsample_size=4) as i:
        numpyro.sample("y", dist.Normal(a, 1), obs=y[i])
    with numpyro.plate("line", 12, subsample_size=4) as i:
        numpyro.sample("x", dist.Normal(a, 1), obs=X[i, 0])


ROWS = {"rows": ("X", "y"), "batch_size": 4}
BAD = {
    "not a function": (3, (), {}, TypeError, "must be a function"),
    "missing argument": (regression, (), {}, TypeError, "missing a required argument: 'X'"),
    "unknown argument": (regression, (X,), {"z": 1}, TypeError, "unexpected keyword argument 'z'"),
    "table": (regression, (bytearray(2),), {}, TypeError, "X is a bytearray"),
    "words": (regression, (np.array(["a"]),), {}, TypeError, "X is a NumPy array of dtype <U1"),
    "discrete": (discrete, (), {}, ValueError, r"\['k'\] are discrete"),
    "nothing latent": (nothing, (Y,), {}, ValueError, "no latent site"),
    "parameter": (parameter, (), {}, ValueError, "ImproperUniform"),
    "sphere": (sphere, (), {}, ValueError, "'a' has the support sphere"),
    "broken": (broken, (Y,), {}, ValueError, r"raised .* traced with y: float32\[12\]"),
    "if": (decides, (Y,), {}, ValueError, "jnp.where.* in place of `if`"),
    "numpy": (outside_of_jax, (Y,), {}, ValueError, "jax.numpy in place of numpy"),
    "lists": (regression, (X.tolist(),), {}, ValueError, r"np.asarray\(X\)"),
    "unique": (grouped, (Y > 0, Y), {}, ValueError, r"argument 'g'.*static=\('g',\)"),
    "size": (sized, (np.asarray(4),), {}, ValueError, r"argument 'J'.*static=\('J',\)"),
    "empty": (regression, (X[:0],), {"y": Y[:0]}, ValueError, r"data are empty: \['X', 'y'\]"),
    "empty rows": (factored, (X[:0], Y[:0]), {"rows": ("X", "y")}, ValueError, "data are empty"),
    "no rows": (regression, (X, Y), {"batch_size": 3}, ValueError, r"rows=\('X', 'y'\)"),
    "unknown rows": (regression, (X, Y), {"rows": ("Z",)}, ValueError, r"rows names \['Z'\]"),
    "unknown static": (regression, (X, Y), {"static": ("Z",)}, ValueError, r"static names \['Z'"),
    "row int": (schools, (8, ERRORS, SCHOOLS), {"rows": ("J",)}, ValueError, "'J', which is 8"),
    "both": (regression, (X, Y), {"rows": ("X",), "static": ("X",)}, ValueError, "both rows and"),
    "unequal": (regression, (X, Y[:7]), {"rows": ("X", "y")}, ValueError, "X has 12, y has 7"),
    "large": (regression, (X, Y), ROWS | {"batch_size": 13}, ValueError, "only 12 rows"),
    "zero": (regression, (X, Y), ROWS | {"batch_size": 0}, ValueError, "at least 1"),
    "half": (regression, (X, Y), ROWS | {"batch_size": 1.5}, TypeError, "must be an int"),
    "fixed": (fixed_rows, (X, Y), ROWS, ValueError, r"numpyro.plate\('N', X.shape\[0\]\)"),
    "one of two": (regression, (X, Y), ROWS | {"rows": "X"}, ValueError, "does not run with 11"),
    "per row": (per_row, (X, Y), ROWS, ValueError, "latent site 'a' has an entry per row"),
    "joint event": (joint_event, (X, Y), ROWS, ValueError, "'y' is one joint event"),
    "summed": (summed_factor, (X, Y), ROWS, ValueError, "'likelihood' depends on"),
    "data prior": (data_prior, (X, Y), ROWS, ValueError, "term of site 'a' depends on"),
    "no row site": (no_row_site, (X, Y), ROWS, ValueError, "no observed site has an axis"),
    "plate and rows": (subsampled, (X, Y), ROWS, ValueError, "both choose a minibatch"),
    "latent in plate": (latent_in_plate, (X, Y), {"batch_size": 4}, ValueError, "inside the sub"),
    "unindexed": (unindexed, (X, Y), {"batch_size": 4}, ValueError, r"y\[i\]"),
    "two plates": (two_plates, (X, Y), {"batch_size": 4}, ValueError, "rows of one"),
    "large plate": (subsampled, (X, Y), {"batch_size": 13}, ValueError, "only 12 rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_before_compiling(case):
    model, args, kwargs, kind, words = BAD[case]
    # unwrapped: the type checker of the tests would speak first
    with pytest.raises(kind, match=words):
        inspect.unwrap(from_numpyro)(model, *args, **kwargs)


def test_what_is_refused_for_minibatches_runs_on_all_rows():
    for model in (per_row, joint_event, summed_factor, data_prior, latent_in_plate, two_plates):
        target = from_numpyro(model, X, Y)
        assert bool(jnp.isfinite(target.log_prob(jnp.zeros(target.dim))))


def test_a_target_without_batch_size_gives_no_minibatch():
    target = from_numpyro(regression, X, y=Y, rows=("X", "y"))
    assert target.size == 12 and target.exact
    with pytest.raises(ValueError, match="batch_size=batch_size"):
        dataclasses.replace(target, batch_size=4).subsample(jax.random.key(0))


def test_missing_value_is_named():
    target = from_numpyro(regression, X, y=Y)
    with pytest.raises(KeyError, match="sigma"):
        target.unconstrain({"beta": jnp.zeros(3)})


def test_data_that_were_broadcast_are_pointed_out():
    """Means (n, 1) beside data (n,) make n^2 terms without an error anywhere."""
    y = np.arange(7, dtype=np.float32)

    def model(y, means, events=0):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        normal = dist.Normal(mu + jnp.zeros(means), 1.0)
        numpyro.sample("y", normal.to_event(events), obs=y)

    with pytest.warns(
        UserWarning, match=r"'y' has data of shape \(7,\) and terms of shape \(7, 7\)"
    ):
        from_numpyro(model, y, means=(7, 1), static=("means",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_numpyro(model, y, means=(7,), static=("means",))
        from_numpyro(model, y, means=(), static=("means",))
        from_numpyro(model, y[3], means=(5,), static=("means",))  # one value, meant for all
        from_numpyro(model, y, means=(7,), events=1, static=("means", "events"))


def test_numpyro_is_imported_late():
    script = "import sys, infer.bridges.numpyro; assert 'numpyro' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
