"""What a newcomer does first, on the newest Python and ArviZ: small enough to run everywhere."""

import arviz_base
import arviz_plots
import arviz_stats
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray
from matplotlib import pyplot

import infer

# Rubin (1981): effects of coaching in eight schools, and their standard errors.
Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(sigma, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        raw = numpyro.sample("raw", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * raw)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


@pytest.fixture(scope="module")
def target():
    return infer.from_numpyro(eight_schools, SIGMA, y=Y)


@pytest.fixture(scope="module")
def results(target):
    return {
        "NUTS": infer.fit(target, infer.NUTS(), key=0, warmup=1000, steps=1000, chains=4),
        "VI": infer.fit(target, infer.VI(), key=1, steps=3000),
    }


@pytest.fixture(scope="module")
def trees(results):
    return {name: r.to_arviz(log_likelihood=True) for name, r in results.items()}


def test_fits_are_right_and_judged(results):
    for result in results.values():
        assert result["theta"].mean() == pytest.approx(4.4, abs=1.0)
        assert result["mu"].std() == pytest.approx(3.3, abs=0.8)
    assert results["NUTS"].verdict.status == "ok"
    assert results["VI"].verdict.status == "suspect"  # no Gaussian follows the funnel


def test_arviz_summary(trees, results):
    table = arviz_stats.summary(trees["NUTS"], var_names=["mu", "tau"], round_to="none")
    ours = results["NUTS"].summary()
    for name in ("mu", "tau"):
        assert float(table.loc[name, "mean"]) == pytest.approx(ours[name]["mean"], rel=1e-4)
        assert float(table.loc[name, "ess_bulk"]) == pytest.approx(ours[name]["bulk ESS"], rel=0.02)


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values")
def test_arviz_loo_and_compare(trees):
    stats = trees["VI"]["sample_stats"]
    found = {
        "NUTS": arviz_stats.loo(trees["NUTS"], pointwise=True),
        "VI": arviz_stats.loo_approximate_posterior(
            trees["VI"], log_p=stats["lp"], log_q=stats["log_q"], pointwise=True
        ),
    }
    assert found["NUTS"].elpd == pytest.approx(-30.8, abs=0.6)
    assert found["VI"].elpd == pytest.approx(found["NUTS"].elpd, abs=0.6)
    assert set(arviz_stats.compare(found).index) == {"NUTS", "VI"}


@pytest.mark.filterwarnings("ignore:In a future version of xarray the default value for join")
def test_arviz_plots(trees):
    arviz_plots.plot_forest(trees, var_names=["theta"], backend="matplotlib")
    arviz_plots.plot_trace(trees["NUTS"], var_names=["mu"], backend="matplotlib")
    pyplot.close("all")


def test_our_comparison(results):
    comparison = infer.compare(results, variables=["mu", "tau"])
    assert "suspect" in str(comparison) and comparison.to_dataframe().shape[0] == 2
    figure = infer.plot_comparison(results, variables=["mu", "tau"])
    assert len(figure.axes) == 2
    pyplot.close(figure)


def test_files(trees, results, target, tmp_path):
    trees["NUTS"].to_netcdf(tmp_path / "nuts.nc")
    with xarray.open_datatree(tmp_path / "nuts.nc") as read:
        for name, group in trees["NUTS"].children.items():
            xarray.testing.assert_equal(read[name].to_dataset(), group.to_dataset())
    results["VI"].save(tmp_path / "vi.infer")
    loaded = infer.load(tmp_path / "vi.infer", target, infer.VI())
    np.testing.assert_array_equal(loaded["theta"], results["VI"]["theta"])
    assert str(loaded.verdict) == str(results["VI"].verdict)


def test_it_is_the_tree_that_arviz_knows(trees):
    assert isinstance(arviz_base.convert_to_datatree(trees["NUTS"]), xarray.DataTree)
