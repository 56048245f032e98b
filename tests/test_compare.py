"""Results side by side: what the tables say, what is left out, and the figure."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot

import infer
from infer.bridges.figures import marginals
from infer.compare import check_results
from infer.core.support import positive
from infer.diagnostics import sliced_wasserstein


def log_density(p):
    return -0.5 * jnp.sum((p["x"] - jnp.array([1.0, -2.0])) ** 2) - p["s"]


EXAMPLE = {"x": np.zeros(2), "s": 1.0}
VI = infer.VI(family=infer.MeanField(), stopping=None)


@pytest.fixture(scope="module")
def results():
    target = infer.from_log_density(log_density, EXAMPLE, supports={"s": positive})
    quiet = {"progress": False}
    return {
        "mala": infer.fit(target, infer.MALA(), key=0, warmup=500, steps=4000, **quiet),
        "vi": infer.fit(target, VI, key=1, steps=1500, draws=800, chains=2, **quiet),
        "early": infer.fit(target, VI, key=2, steps=2, draws=300, chains=2, **quiet),
        "svgd": infer.fit(
            target, infer.SVGD(n_particles=30, stopping=None), key=3, steps=200, **quiet
        ),
    }


@pytest.fixture(scope="module")
def other():
    """A model that shares `x` alone, and has another shape of `s`."""
    target = infer.from_log_density(
        lambda p: -0.5 * (jnp.sum(p["x"] ** 2) + jnp.sum(p["s"] ** 2) + p["w"] ** 2),
        {"x": np.zeros(2), "s": np.zeros(3), "w": 0.0},
    )
    return infer.fit(target, VI, key=0, steps=100, draws=400, progress=False)


@pytest.fixture(scope="module")
def comparison(results):
    return infer.compare(results)


def test_fits_are_told(comparison, results):
    assert list(comparison.fits) == list(results)
    row = comparison.fits["mala"]
    assert row["algorithm"] == "MALA" and row["draws"] == 16_000
    assert row["gradients"] == results["mala"].gradients and row["compile s"] > 0
    assert comparison.fits["vi"]["draws"] == 800 and comparison.fits["svgd"]["draws"] == 30
    early = comparison.fits["early"]
    assert early["verdict"] == "failed"
    assert early["main reason"].split(" = ")[0] in [
        e.name for e in results["early"].verdict.reasons
    ]
    assert comparison.fits["mala"]["main reason"] == ""


def test_estimates_are_of_all_chains_or_of_the_best_restart(comparison, results):
    assert list(comparison.estimates) == ["s", "x[0]", "x[1]"]
    cells = comparison.estimates["x[1]"]
    x = results["mala"]["x"][..., 1].astype(np.float64)
    assert cells["mala"] == pytest.approx((x.mean(), x.std()))
    for name in ("vi", "early"):
        best = results[name]["x"][results[name].best, :, 1].astype(np.float64)
        assert cells[name] == pytest.approx((best.mean(), best.std()))


def test_distances_tell_a_wrong_fit_from_a_right_one(comparison, results):
    assert len(comparison.distances) == 6
    apart = comparison.distances["mala", "early"]
    assert apart.value > 5 * apart.floor
    early, vi = (results[n].z[results[n].best] for n in ("early", "vi"))
    assert comparison.distances["vi", "early"].value == pytest.approx(sliced_wasserstein(vi, early))
    # Few particles have a high floor: they cannot be told from the others by more than that.
    assert comparison.distances["mala", "svgd"].floor > 0.1


def test_two_runs_of_one_posterior_lie_at_the_floor(results):
    again = infer.fit(
        results["mala"].target, infer.MALA(), key=9, warmup=300, steps=1000, progress=False
    )
    (distance,) = infer.compare({"a": results["mala"], "b": again}).distances.values()
    assert 0.3 * distance.floor < distance.value < 2.5 * distance.floor


def test_it_prints_and_becomes_a_data_frame(comparison):
    text = str(comparison)
    for part in ("MALA", "failed", "x[1]", "±", "mala - vi", "floor", "unconstrained"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120
    frame = comparison.to_dataframe()
    assert list(frame.index) == ["mala", "vi", "early", "svgd"]
    assert frame.loc["early", "verdict"] == "failed"
    assert frame.loc["vi", "x[0] mean"] == comparison.estimates["x[0]"]["vi"][0]


def test_what_is_not_common_is_left_out_and_named(results, other):
    both = infer.compare({"vi": results["vi"], "other": other})
    assert list(both.estimates) == ["x[0]", "x[1]"]
    notes = "\n".join(both.notes)
    assert "left out of vi" in notes and "left out of other" in notes
    assert "s (3,)" in notes and "w" in notes and "common scalars on their supports" in notes
    assert "left out" in str(both)


def test_variables_are_chosen(results):
    chosen = infer.compare(results, variables=["s"])
    assert list(chosen.estimates) == ["s"] and "1 common scalars" in chosen.notes[0]
    with pytest.raises(ValueError, match=r"\['nothing'\] are not in all results"):
        infer.compare(results, variables=["nothing"])
    with pytest.raises(TypeError, match=r"variables=\['s'\]"):
        infer.compare(results, variables="s")


def test_one_result_is_compared_with_nothing(results):
    alone = infer.compare({"vi": results["vi"]})
    assert not alone.distances and not alone.notes and "distance" not in str(alone)


def test_wrong_use_is_refused(results):
    with pytest.raises(ValueError, match="at least one result"):
        infer.compare({})
    with pytest.raises(TypeError, match="needs a dict of results"):
        check_results(results["vi"], None)
    with pytest.raises(TypeError, match="'b' is 3, not a result"):
        check_results({"a": results["vi"], "b": 3}, None)
    for wrong in (results["vi"], [results["vi"]], {"a": 3}):
        with pytest.raises(TypeError):
            infer.compare(wrong)
    with pytest.raises(ValueError, match="max_variables must be >= 1"):
        infer.plot_comparison(results, max_variables=0)


def test_nothing_in_common_is_an_error(results):
    target = infer.from_log_density(lambda q: -0.5 * q["w"] ** 2, {"w": 0.0})
    stranger = infer.fit(target, VI, key=0, steps=20, draws=50, progress=False)
    with pytest.raises(ValueError, match="no variable of one name and shape in common"):
        infer.compare({"a": results["vi"], "b": stranger})


def test_long_tables_are_cut_with_a_note():
    target = infer.from_log_density(lambda q: -0.5 * jnp.sum(q**2), np.zeros(30))
    result = infer.fit(target, VI, key=0, steps=20, draws=50, progress=False)
    comparison = infer.compare({"a": result})
    assert "10 more scalars" in str(comparison) and "x[25]" not in str(comparison)
    assert comparison.to_dataframe().shape == (1, 7 + 60)
    figure = infer.plot_comparison({"a": result})
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 12
    assert "the first 12 of 30" in figure.legends[0].get_title().get_text()
    pyplot.close(figure)


def test_loaded_results_are_compared(results, comparison, tmp_path):
    for name, result in results.items():
        result.save(tmp_path / name)
    loaded = infer.compare({name: infer.load(tmp_path / name) for name in results})
    assert str(loaded) == str(comparison)


def test_the_figure_shows_all_with_their_verdicts(results, tmp_path):
    figure = infer.plot_comparison(results)
    assert [ax.get_title() for ax in figure.axes if ax.get_visible()] == ["s", "x[0]", "x[1]"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "mala (ok)" in labels and "early (failed)" in labels
    for ax in figure.axes[:3]:
        lines = dict(zip(labels, ax.get_lines(), strict=True))
        assert lines["early (failed)"].get_linestyle() == "--"
        assert lines["mala (ok)"].get_linestyle() == "-"
        assert len({line.get_color() for line in lines.values()}) == 4
        assert np.ptp(ax.get_xlim()) < 30
    figure.savefig(tmp_path / "figure.png")
    pyplot.close(figure)


@pytest.mark.parametrize("left", [-8.0, 0.0])
def test_densities_integrate_to_what_is_inside_the_axes(left):
    x = np.random.default_rng(0).normal(size=(2, 4000))
    samples = {"a": {"x": x}, "broken": {"x": np.full((1, 3), left)}, "none": {"x": x[:, :0]}}
    figure = marginals(samples, {"a": "ok", "broken": "failed", "none": "failed"}, 4)
    line = figure.axes[0].get_lines()[0]
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1, abs=0.01)
    figure.draw_without_rendering()
    pyplot.close(figure)


def test_no_two_lines_of_many_results_are_alike():
    x = np.random.default_rng(0).normal(size=(1, 50))
    names = [f"fit {i}" for i in range(35)]
    figure = marginals({n: {"x": x} for n in names}, dict.fromkeys(names, "ok"), 1)
    lines = figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(names)
    pyplot.close(figure)


def test_without_matplotlib_it_says_what_to_install(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'infer-jax\[plot\]'"):
        infer.plot_comparison(results)


def test_without_pandas_it_says_what_to_install(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'infer-jax\[arviz\]'"):
        comparison.to_dataframe()
