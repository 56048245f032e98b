"""The tree for ArviZ: its schema, what ArviZ does with it, and files."""

import json
import sys

import arviz_base
import arviz_plots
import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray
from matplotlib import pyplot

import infer
from infer.bridges.arviz import _group
from infer.core.support import positive
from infer.core.target import Labels

# ArviZ tells of influential observations, which these data have.
pytestmark = pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")

X = np.linspace(-1.0, 1.0, 12)
Y = 0.5 + 1.5 * X + 0.3 * np.sin(17 * X)
GROUP = np.arange(12) % 3
MEAN_FIELD = infer.VI(family=infer.MeanField(), stopping=None)


def log_prior(p):
    return -0.5 * (p["slope"] ** 2 + jnp.sum(p["level"] ** 2)) / 4.0 - 0.5 * p["sd"] ** 2


def log_likelihood(p, rows):
    mean = p["level"][rows["group"]] + p["slope"] * rows["x"]
    return -0.5 * ((rows["y"] - mean) / p["sd"]) ** 2 - jnp.log(p["sd"]) - 0.5 * np.log(2 * np.pi)


@pytest.fixture(scope="module")
def target():
    return infer.from_log_density(
        example={"slope": 0.0, "level": np.zeros(3), "sd": 1.0},
        log_prior=log_prior,
        log_likelihood=log_likelihood,
        supports={"sd": positive},
        data={"x": X, "y": Y, "group": GROUP},
        dims={"level": ("county",), "log_likelihood": ("house",)},
        coords={"county": ["a", "b", "c"]},
    )


@pytest.fixture(scope="module")
def chains(target):
    return infer.fit(target, infer.NUTS(), key=0, warmup=300, steps=300, chains=2)


@pytest.fixture(scope="module")
def fitted(target):
    return infer.fit(target, infer.VI(stopping=None), key=1, steps=800, draws=500, chains=2)


@pytest.fixture(scope="module")
def tree(chains):
    return chains.to_arviz(log_likelihood=True)


@pytest.fixture(scope="module")
def fitted_tree(fitted):
    return fitted.to_arviz(log_likelihood=True)


def test_posterior_has_the_draws_with_named_dimensions(tree, chains):
    posterior = tree["posterior"]
    assert posterior["level"].dims == ("chain", "draw", "county")
    assert list(posterior["county"].values) == ["a", "b", "c"]
    for name, values in chains.draws().items():
        np.testing.assert_array_equal(posterior[name].values, values)
    for group in tree.children.values():
        assert set(group.dims) <= set(group.coords)
        assert not set(group.data_vars) & set(group.dims)


def test_sample_stats_of_chains_and_of_a_fit(tree, fitted_tree, chains, fitted):
    stats = tree["sample_stats"]
    assert {"lp", "acceptance_rate", "diverging", "energy", "n_steps", "tree_depth"} <= set(stats)
    assert stats["diverging"].dtype == bool
    np.testing.assert_array_equal(stats["lp"].values, chains.log_prob)
    assert set(fitted_tree["sample_stats"].data_vars) == {"lp", "log_q"}
    np.testing.assert_array_equal(fitted_tree["sample_stats"]["log_q"].values, fitted.log_q)


def test_group_fit_tells_history_and_verdict(tree, fitted_tree, fitted):
    group = fitted_tree["fit"]
    assert group["loss"].dims == ("chain", "step")
    np.testing.assert_array_equal(group["loss"].values, fitted.history["loss"])
    assert group["step"].values[0] == 1 and group["step"].values[-1] == 800
    attrs = group.attrs
    assert attrs["algorithm"] == "VI" and attrs["verdict"] == fitted.verdict.status
    assert attrs["gradients"] == 2 * 800 * 8 and attrs["x64"] == 0 and attrs["key"] == [0, 1]
    evidence = json.loads(attrs["evidence"])
    assert [e["name"] for e in evidence] == [e.name for e in fitted.verdict.evidence]
    assert not tree["fit"].data_vars


def test_strict_json_where_evidence_is_not_a_number(chains, monkeypatch):
    evidence = infer.Evidence("R-hat", float("nan"), "", "failed", "no")
    monkeypatch.setattr(chains, "verdict", infer.Verdict((evidence,)))
    told = json.loads(chains.to_arviz()["fit"].attrs["evidence"], parse_constant=pytest.fail)
    assert told[0]["value"] == "nan"


def test_attributes_are_strings_numbers_or_lists(tree, fitted_tree):
    for group in [*tree.children.values(), *fitted_tree.children.values()]:
        assert group.attrs["inference_library"] == "infer" and group.attrs["created_at"]
        for value in group.attrs.values():
            assert isinstance(value, (str, int, float, list)) and not isinstance(value, bool)


def test_data_groups(tree):
    assert set(tree["constant_data"].data_vars) == {"x", "y", "group"}
    assert "observed_data" not in tree.children  # a function does not say what is observed
    assert tree["log_likelihood"]["log_likelihood"].dims == ("chain", "draw", "house")


def test_numpyro_gives_plates_observed_data_and_predictions():
    def model(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("house", len(x)):
            numpyro.sample("y", dist.Normal(numpyro.deterministic("mean", slope * x), 0.5), obs=y)

    target = infer.from_numpyro(model, X, y=Y)
    result = infer.fit(target, MEAN_FIELD, key=0, steps=300, draws=100)
    tree = result.to_arviz(log_likelihood=True, predictive=True)
    for group, name in (("log_likelihood", "y"), ("posterior_predictive", "y")):
        assert tree[group][name].dims == ("chain", "draw", "house")
        assert tree[group][name].shape == (1, 100, 12)
    assert tree["posterior"]["mean"].dims == ("chain", "draw", "house")
    np.testing.assert_array_equal(tree["observed_data"]["y"].values, np.float32(Y))
    assert set(tree["constant_data"].data_vars) == {"x"}
    again = result.to_arviz(predictive=True)["posterior_predictive"]["y"]
    np.testing.assert_array_equal(again.values, tree["posterior_predictive"]["y"].values)


def test_names_that_the_schema_does_not_allow_are_changed_and_listed():
    zeros = np.zeros((2, 3, 4))
    labels = Labels({"a": ("b",), "cov": ("k", "k")}, {"k": np.array([7, 8, 9, 10])})
    values = {"a": zeros, "b": zeros, "draw": zeros, "s/x": zeros, "s.x": zeros}
    group = _group(values | {"cov": np.zeros((2, 3, 4, 4))}, labels, ("chain", "draw"))
    assert set(group.data_vars) == {"a", "b", "draw_", "s.x", "s.x_", "cov"}
    assert group["a"].dims == ("chain", "draw", "b_dim")
    assert group["b"].dims == ("chain", "draw", "b_dim_0")
    assert group["cov"].dims == ("chain", "draw", "k", "k_bis")
    assert list(group["k_bis"].values) == [7, 8, 9, 10]
    assert "draw -> draw_" in group.attrs["renamed"]
    xarray.DataTree.from_dict({"posterior": group})


def test_summary_of_chosen_variables(chains):
    name, *others = chains.draws()
    rows = chains.summary([name]).rows
    assert rows and rows == {k: v for k, v in chains.summary().rows.items() if k in rows}
    assert others and not any(row.startswith(other) for row in rows for other in others)
    with pytest.raises(ValueError, match="no variables"):
        chains.summary(["nothing"])
    with pytest.raises(TypeError, match="list of names"):
        chains.summary(name)


def test_summary_agrees_with_ours(tree, chains):
    table = arviz_stats.summary(tree, round_to="none")
    ours = chains.summary()
    assert set(table.index) == {"slope", "level[a]", "level[b]", "level[c]", "sd"}
    for theirs, name in (("slope", "slope"), ("level[b]", "level[1]"), ("sd", "sd")):
        assert float(table.loc[theirs, "mean"]) == pytest.approx(ours[name]["mean"], rel=1e-4)
        assert float(table.loc[theirs, "r_hat"]) == pytest.approx(ours[name]["R-hat"], abs=5e-3)
        assert float(table.loc[theirs, "ess_bulk"]) == pytest.approx(
            ours[name]["bulk ESS"], rel=0.02
        )


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values")
def test_loo_and_compare(target, tree):
    exact = arviz_stats.loo(tree, pointwise=True)
    # a Gaussian on a skewed posterior: few of its draws would leave loo to chance
    fitted = infer.fit(target, infer.VI(stopping=None), key=1, steps=3000, draws=4000)
    fitted_tree = fitted.to_arviz(log_likelihood=True)
    stats = fitted_tree["sample_stats"]
    corrected = arviz_stats.loo_approximate_posterior(
        fitted_tree, log_p=stats["lp"], log_q=stats["log_q"], pointwise=True
    )
    assert exact.elpd == pytest.approx(corrected.elpd, abs=0.5)
    total = tree["log_likelihood"]["log_likelihood"].sum("house").mean()
    assert exact.elpd < float(total)
    table = arviz_stats.compare({"nuts": exact, "vi": corrected})
    assert set(table.index) == {"nuts", "vi"}


def test_plots_run(tree):
    for plot in (arviz_plots.plot_trace, arviz_plots.plot_forest):
        plot(tree, var_names=["slope", "level"], backend="matplotlib")
    pyplot.close("all")


@pytest.mark.parametrize("engine", ["h5netcdf", None])
def test_netcdf_keeps_every_value(tree, fitted_tree, tmp_path, engine):
    for i, before in enumerate((tree, fitted_tree)):
        path = tmp_path / f"{i}.nc"
        before.to_netcdf(path, engine=engine)
        with xarray.open_datatree(path, engine=engine) as after:
            assert set(after.children) == set(before.children)
            for name, group in before.children.items():
                xarray.testing.assert_equal(group.to_dataset(), after[name].to_dataset())
                assert after[name].attrs["created_at"] == group.attrs["created_at"]
            assert after["fit"].attrs["evidence"] == before["fit"].attrs["evidence"]
            assert list(after["fit"].attrs["key"]) == before["fit"].attrs["key"]


def test_arviz_takes_the_tree_and_its_file(tree, tmp_path):
    tree.to_netcdf(tmp_path / "tree.nc")
    with arviz_base.convert_to_datatree(str(tmp_path / "tree.nc")) as read:
        assert float(arviz_stats.loo(read).elpd) == float(arviz_stats.loo(tree).elpd)
    assert arviz_base.extract(tree, combined=True).sizes["sample"] == 600


def test_a_result_loaded_without_its_target_has_what_it_can(chains, tmp_path):
    chains.save(tmp_path / "run.infer")
    loaded = infer.load(tmp_path / "run.infer")
    tree, before = loaded.to_arviz(), chains.to_arviz()
    assert set(tree.children) == {"posterior", "sample_stats", "fit"}
    for name, group in tree.children.items():
        xarray.testing.assert_identical(group.to_dataset(), before[name].to_dataset())
    with pytest.raises(ValueError, match=r"infer\.load\(path, target, algorithm\)"):
        loaded.to_arviz(log_likelihood=True)


def test_particles_are_draws_and_restarts_are_chains(target):
    svgd = infer.SVGD(n_particles=20, stopping=None)
    tree = infer.fit(target, svgd, key=0, steps=20, chains=2).to_arviz()
    assert tree["posterior"]["level"].shape == (2, 20, 3)
    assert set(tree["sample_stats"].data_vars) == {"lp"}
    assert tree["fit"]["loss"].shape == (2, 20)


def test_joint_density_has_no_pointwise_log_likelihood(key):
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(2))
    result = infer.fit(target, MEAN_FIELD, key=key, steps=100, draws=100)
    assert set(result.to_arviz().children) == {"posterior", "sample_stats", "fit"}
    with pytest.raises(ValueError, match="pointwise log likelihood"):
        result.to_arviz(log_likelihood=True)


def test_without_xarray_it_says_what_to_install(chains, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"pip install 'infer-jax\[arviz\]'"):
        chains.to_arviz()


def test_double_precision_is_told(x64):
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), np.zeros(2))
    algorithm = infer.VI(family=infer.MeanField(), stopping=None)
    result = infer.fit(target, algorithm, key=0, steps=100, draws=100)
    tree = result.to_arviz()
    assert tree["fit"].attrs["x64"] == 1 and tree["posterior"]["x"].dtype == np.float64
    assert jax.config.jax_enable_x64
