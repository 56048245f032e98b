"""`from_log_density`: structures, densities, minibatches, labels, and what is refused."""

import functools
import inspect
from collections import deque
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import constraints

from infer.bridges.density import from_log_density
from infer.core.support import interval, positive, unit_interval
from infer.core.vector_support import simplex

RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.1 * RNG.normal(size=12)


def normal(x):
    return -0.5 * jnp.sum(x**2)


class Params(NamedTuple):
    loc: jax.Array
    scales: dict[str, jax.Array]


class Net(eqx.Module):
    weight: jax.Array
    activation: object
    depth: int = eqx.field(static=True)


def prior(params):
    return normal(params["beta"]) - params["sigma"]


def likelihood(params, data):
    scale = params["sigma"]
    residual = (data["y"] - data["X"] @ params["beta"]) / scale
    return -0.5 * residual**2 - jnp.log(scale)


EXAMPLE = {"beta": np.zeros(3), "sigma": 1.0}


def regression(make=from_log_density, **changes):
    settings = {
        "example": EXAMPLE,
        "log_prior": prior,
        "log_likelihood": likelihood,
        "supports": {"sigma": positive},
        "data": {"X": X, "y": Y},
    }
    return make(**(settings | changes))


@pytest.mark.parametrize(
    ("example", "names", "shapes"),
    [
        (np.zeros((2, 3)), ["x"], [(2, 3)]),
        (1.0, ["x"], [()]),
        ({"b": 0.5, "a": np.zeros(2)}, ["a", "b"], [(2,), ()]),
        ({"a": {"u": 1.0, "v": np.ones(4)}}, ["a.u", "a.v"], [(), (4,)]),
        ((np.zeros(2), [1.0]), ["0", "1.0"], [(2,), ()]),
        (Params(jnp.zeros(5), {"s": jnp.ones(())}), ["loc", "scales.s"], [(5,), ()]),
        (Net(jnp.zeros((2, 1)), jnp.tanh, 3), ["weight"], [(2, 1)]),
    ],
)
def test_structures(example, names, shapes):
    seen = []

    def log_density(params):
        seen.append(jax.tree.structure(params))
        leaves = [leaf for leaf in jax.tree.leaves(params) if eqx.is_array(leaf)]
        return sum(normal(leaf) * (i + 1) for i, leaf in enumerate(leaves))

    target = from_log_density(log_density, example)
    assert [site.name for site in target.sites] == names
    assert [site.shape for site in target.sites] == shapes
    z = jnp.arange(1.0, target.dim + 1)
    free = target.unravel(z)
    expected = sum(normal(free[name]) * (i + 1) for i, name in enumerate(names))
    np.testing.assert_allclose(target.log_prob(z), expected, rtol=1e-6)
    assert set(seen) == {jax.tree.structure(example)}
    np.testing.assert_allclose(target.unconstrain(target.constrain(z)), z)


def test_joint_density_with_supports(x64):
    low = np.array([1.0, 2.0])
    supports = {"p": simplex, "u": interval(low, 5.0), "q": constraints.positive_ordered_vector}
    example = {"p": np.ones((2, 3)) / 3, "u": np.array([2.0, 3.0]), "q": np.array([1.0, 2.0])}

    def log_density(params):
        return normal(params["p"]) + normal(params["u"]) + normal(params["q"])

    target = from_log_density(log_density, example, supports=supports)
    words = {"p": "simplex", "q": "positive_ordered_vector", "u": "interval"}
    assert {site.name: site.support for site in target.sites} == words
    assert target.dim == 4 + 2 + 2
    z = jnp.asarray(RNG.normal(size=8))
    values = target.constrain(z)
    assert values["p"].shape == (2, 3)
    assert bool(jnp.all((values["u"] > low) & (values["u"] < 5)))
    free = target.unravel(z)
    jacobian = simplex.constrain(free["p"])[1] + interval(low, 5.0).constrain(free["u"])[1]
    ordered = free["q"]
    jacobian += ordered[1] + 2 * ordered[0] + jnp.exp(ordered[1])
    np.testing.assert_allclose(target.log_prob(z), log_density(values) + jacobian)
    assert set(target.log_terms(z)) == {"log_density", "log_jacobian"}
    np.testing.assert_allclose(target.unconstrain(values), z, rtol=1e-10)


def test_single_support_for_a_bare_array():
    target = from_log_density(lambda x: -x, 1.0, supports=positive)
    np.testing.assert_allclose(target.log_prob(jnp.asarray([0.3])), -np.exp(0.3) + 0.3, rtol=1e-6)


def test_two_part_density_equals_the_joint(x64):
    def joint(params, data):
        return prior(params) + jnp.sum(likelihood(params, data))

    two = regression()
    one = from_log_density(
        joint, EXAMPLE, supports={"sigma": positive}, data={"X": X, "y": Y, "note": "words"}
    )
    z = jnp.asarray([0.1, -0.4, 0.3, -0.2])
    np.testing.assert_allclose(two.log_prob(z), one.log_prob(z))
    assert (two.size, one.size) == (12, None)
    assert one.log_likelihood(z) == {}
    terms, pointwise = two.log_terms(z), two.log_likelihood(z)
    assert set(terms) == {"log_prior", "log_likelihood", "log_jacobian"}
    assert pointwise["log_likelihood"].shape == (12,)
    np.testing.assert_allclose(terms["log_likelihood"], pointwise["log_likelihood"].sum())
    assert set(two.model.constant()) == {"X", "y"} and two.model.observed() == {}


def test_minibatches_are_unbiased_over_a_partition(x64):
    target = regression(batch_size=4)
    z = jnp.asarray([0.1, -0.4, 0.3, -0.2])
    assert not target.exact and target.size == 12
    batch = target.subsample(jax.random.key(0))
    parts = [
        eqx.tree_at(lambda t: t.model, batch, target.model.take(jnp.arange(4 * i, 4 * i + 4)))
        for i in range(3)
    ]
    values = [part.log_prob(z) for part in parts]
    assert np.std(values) > 1e-3
    np.testing.assert_allclose(np.mean(values), regression().log_prob(z))
    np.testing.assert_allclose(target.full().log_prob(z), regression().log_prob(z))


def count_traces(make):
    """Traces of the density over two data sets and two bounds, after the first."""
    traces = deque()  # a list would be read as data

    @eqx.filter_jit
    def value(target, z):
        traces.append(1)
        return target.log_prob(z)

    targets = [make(i) for i in range(3)]
    values = [float(value(target, jnp.ones(target.dim))) for target in targets]
    assert len(set(values)) == 3
    return len(traces)


def test_new_data_bounds_and_bound_arrays_compile_nothing():
    def log_density(params, data):
        return normal(params) * data["scale"] * data["power"]

    data = [{"scale": np.float32(1 + i), "power": 2} for i in range(3)]
    assert count_traces(lambda i: from_log_density(log_density, np.zeros(2), data=data[i])) == 1

    def inside(x):
        return normal(x)

    supports = [interval(0.0, 1.0 + i) for i in range(3)]
    assert count_traces(lambda i: from_log_density(inside, 0.5, supports=supports[i])) == 1
    constraint = [constraints.interval(0.0, 1.0 + i) for i in range(3)]
    assert count_traces(lambda i: from_log_density(inside, 0.5, supports=constraint[i])) == 1

    def shifted(shift, x):
        return normal(x - shift)

    bound = [functools.partial(shifted, jnp.ones(2) * 3 * i) for i in range(3)]
    assert count_traces(lambda i: from_log_density(bound[i], np.zeros(2))) == 1

    class Density(eqx.Module):
        shift: jax.Array

        def __call__(self, x):
            return normal(x - self.shift)

    modules = [Density(jnp.ones(2) * 3 * i) for i in range(3)]
    assert count_traces(lambda i: from_log_density(modules[i], np.zeros(2))) == 1


def test_static_data_stay_static():
    def log_density(x, data):
        assert isinstance(data["degree"], int) and isinstance(data["flag"], bool)
        assert isinstance(data["shift"], jax.Array) and data["nothing"] is None
        return normal(x - data["shift"]) * data["degree"]

    data = {"degree": np.int64(3), "flag": True, "shift": 0.5, "nothing": None}
    target = from_log_density(log_density, 0.0, data=data)
    assert float(target.log_prob(jnp.asarray([0.5]))) == 0.0


def test_labels():
    target = regression(
        dims={"beta": ("covariate",), "log_likelihood": "row", "X": ("row", "covariate")},
        coords={"covariate": ["a", "b", "c"]},
    )
    labels = target.model.labels
    assert labels.dims["beta"] == ("covariate",)
    assert list(labels.coords["covariate"]) == ["a", "b", "c"]
    assert list(labels.coords["row"]) == list(range(12))


def test_prediction_is_refused_with_what_to_write():
    target = regression()
    with pytest.raises(NotImplementedError, match="from_numpyro"):
        target.model.predict(jax.random.key(0), target.unravel(jnp.zeros(4)), (), {})


def test_missing_value_is_named():
    with pytest.raises(KeyError, match="sigma"):
        regression().unconstrain({"beta": jnp.zeros(3)})


def failing(params):
    raise RuntimeError("inner words")


def vector(params):
    return params["beta"]


JOINT = {"log_prior": None, "log_likelihood": None, "data": None}
BAD = {
    "nothing": (JOINT, ValueError, "no function"),
    "both": ({"log_density": prior}, ValueError, "log_density and log_prior"),
    "prior alone": ({"log_likelihood": None}, ValueError, "got log_prior"),
    "no function": ({"log_prior": 3.0}, TypeError, "must be a function"),
    "no example": ({"example": None}, ValueError, "example is missing"),
    "no data": ({"data": None}, ValueError, "needs data"),
    "no leaves": ({"data": {}}, ValueError, "data is empty"),
    "no rows": ({"data": {"X": X[:0], "y": Y[:0]}}, ValueError, "X has 0 rows"),
    "unequal rows": ({"data": {"X": X, "y": Y[:7]}}, ValueError, "X has 12, y has 7"),
    "scalar data": ({"data": {"X": X, "y": 1.0}}, ValueError, "y is a scalar"),
    "words": ({"data": {"X": X, "y": np.array(["a"] * 12)}}, TypeError, "y is a NumPy array"),
    "unhashable": ({"data": {"X": X, "y": bytearray(3)}}, TypeError, "y is a bytearray"),
    "integer leaf": ({"example": {"beta": np.zeros(3), "sigma": 1}}, TypeError, "'sigma'.*int"),
    "empty example": ({"example": {}}, ValueError, "example is empty"),
    "no entries": ({"example": {"beta": np.zeros(0)}}, ValueError, "example is empty"),
    "same name": ({"example": {"a": {"b": 1.0}, "a.b": 2.0}}, ValueError, "'a.b'"),
    "batch of none": ({"batch_size": 0}, ValueError, "at least 1"),
    "large batch": ({"batch_size": 13}, ValueError, "only 12 rows"),
    "half batch": ({"batch_size": 2.5}, TypeError, "must be an int"),
    "joint batch": (JOINT | {"log_density": prior, "batch_size": 3}, ValueError, "two parts"),
    "vector": (JOINT | {"log_density": vector}, ValueError, r"shape \(3,\).*jnp.sum"),
    "vector prior": ({"log_prior": vector}, ValueError, "log_prior returned .* one number"),
    "tuple": (JOINT | {"log_density": lambda p: (0.0, p)}, ValueError, "returned tuple"),
    "integer density": (
        JOINT | {"log_density": lambda p: jnp.asarray(1)},
        ValueError,
        "must be floating",
    ),
    "summed rows": (
        {"log_likelihood": lambda p, d: jnp.sum(likelihood(p, d))},
        ValueError,
        r"shape \(\) for 12 rows",
    ),
    "fixed rows": (
        {"log_likelihood": lambda p, d: likelihood(p, d)[:1] * jnp.ones(12), "batch_size": 4},
        ValueError,
        r"shape \(12,\) for 4 rows",
    ),
    "raising": (
        JOINT | {"log_density": failing},
        ValueError,
        r"RuntimeError.*beta: float32\[3\].*inner words",
    ),
    "unknown support": ({"supports": {"gamma": positive}}, ValueError, "'gamma'.*'beta', 'sigma'"),
    "one support": ({"supports": positive}, TypeError, "supports={'beta': support}"),
    "no support": ({"supports": {"sigma": "positive"}}, TypeError, "'sigma' has 'positive'"),
    "discrete": ({"supports": {"sigma": constraints.boolean}}, TypeError, "no bijector"),
    "scalar simplex": (
        {"supports": {"sigma": simplex}},
        ValueError,
        "simplex does not fit.*'sigma",
    ),
    "foreign simplex": (
        {"supports": {"sigma": constraints.simplex}},
        ValueError,
        "simplex does not fit.*'sigma'",
    ),
    "outside": ({"supports": {"sigma": unit_interval}}, ValueError, "'sigma' is 1.0.*unit_int"),
    "outside foreign": (
        {"supports": {"sigma": constraints.interval(2.0, 3.0)}},
        ValueError,
        "'sigma' is 1.0.*interval",
    ),
    "unknown dims": ({"dims": {"gamma": ("a",)}}, ValueError, "'gamma'"),
    "too many dims": ({"dims": {"beta": ("a", "b")}}, ValueError, "one name per axis"),
    "two sizes": ({"dims": {"beta": ("a",), "y": ("a",)}}, ValueError, "size 3 and 12"),
    "dim as site": ({"dims": {"beta": ("sigma",)}}, ValueError, "name of a site"),
    "unknown coords": ({"coords": {"a": [1]}}, ValueError, "coords names 'a'"),
    "short coords": (
        {"dims": {"beta": ("a",)}, "coords": {"a": [1, 2]}},
        ValueError,
        "2 values.*has 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refused_before_anything_is_compiled(case):
    changes, kind, words = BAD[case]
    # unwrapped: the type checker of the tests would speak first
    with pytest.raises(kind, match=words):
        regression(inspect.unwrap(from_log_density), **changes)


def test_the_cause_of_a_failing_density_is_kept():
    with pytest.raises(ValueError) as caught:
        from_log_density(failing, EXAMPLE)
    assert isinstance(caught.value.__cause__, RuntimeError)
