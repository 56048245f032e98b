"""Ranks of true parameters are uniform where fits are right, and tell how wrong ones are wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

import infer
from infer.calibration import LOG_PROB, _conclude
from infer.diagnostics.ranks import chi2_p, ecdf_p, rank_envelope

X = np.linspace(-1, 1, 6)


def line(x, y):
    """Two normal parameters, correlated a posteriori."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Normal(a + b * (x + 2), 0.5), obs=y)


def calibrate(simulator, algorithm, **options):
    return infer.simulation_based_calibration(simulator, algorithm, key=0, **options)


# Uniformity ---------------------------------------------------------------------------------


def test_uniform_ranks_stay_in_the_envelope_as_often_as_it_says():
    """Fresh sets of ranks, for sizes of ranks and of values that differ."""
    envelope = rank_envelope(60, 20, coverage=0.9, n_simulated=4000)
    rng = np.random.default_rng(1)
    ranks = rng.integers(20, size=(60, 2000))
    below = np.stack([(ranks < i).mean(axis=0) for i in range(1, 20)])
    inside = (below >= envelope.lower[:, None]) & (below <= envelope.upper[:, None])
    covered = inside.all(axis=0)
    # 0.9 +/- 3.5 standard errors, of these 2000 sets and of the 4000 behind the envelope
    assert abs(covered.mean() - 0.9) < 3.5 * np.sqrt(0.09 / 2000 + 0.09 / 4000)
    p = ecdf_p(ranks, 20, envelope)
    np.testing.assert_array_equal(covered, p > 0.1 - 1e-3)
    assert abs(np.mean(p <= 0.3) - 0.3) < 3.5 * np.sqrt(0.21 / 2000 + 0.21 / 4000)
    assert abs(np.mean(chi2_p(ranks, 20) <= 0.3) - 0.3) < 0.05


def test_ranks_in_unequal_bins_are_compared_with_what_each_expects():
    """150 ranks of 7 values: every value its own bin, chi^2 by hand."""
    counts = np.array([30, 10, 25, 25, 20, 20, 20])
    ranks = np.repeat(np.arange(7), counts)[:, None]
    chi2 = np.sum((counts - 150 / 7) ** 2 / (150 / 7))  # 11.67 with 6 degrees of freedom
    k = chi2 / 2  # the survival function for an even number of degrees is a Poisson sum
    np.testing.assert_allclose(chi2_p(ranks, 7), np.exp(-k) * (1 + k + k**2 / 2), rtol=1e-4)
    assert rank_envelope(150, 7).at.shape == (6,)


# Fits ---------------------------------------------------------------------------------------


def log_density(parameters, y):
    a, b = parameters["a"], parameters["b"]
    return -0.5 * (a**2 + b**2) - 0.5 * jnp.sum((y - a - b * (X + 2)) ** 2) / 0.5**2


def functions():
    """The line, with functions in place of a model; what the posterior is, in closed form."""
    example = {"a": jnp.zeros(()), "b": jnp.zeros(())}

    def prior(key):
        return dict(zip("ab", jax.random.normal(key, (2,)), strict=True))

    def simulate(key, p):
        return p["a"] + p["b"] * (X + 2) + 0.5 * jax.random.normal(key, X.shape)

    return infer.Simulator(
        prior, simulate, lambda y: infer.from_log_density(log_density, example, data=y)
    )


def test_a_model_and_functions_give_the_same_posterior():
    model, plain = infer.numpyro_simulator(line, X, None, observed=["y"]), functions()
    truth = model.prior(jax.random.key(1))
    assert set(truth) == {"a", "b"}
    data = model.simulate(jax.random.key(2), truth)
    assert data["y"].shape == X.shape
    draws = jax.vmap(lambda key: model.simulate(key, truth)["y"])(
        jax.random.split(jax.random.key(3), 4000)
    )
    expected = truth["a"] + truth["b"] * (X + 2)
    np.testing.assert_allclose(draws.mean(axis=0), expected, atol=4 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose(draws.std(axis=0), 0.5, rtol=0.06)
    one, other = model.target(data), plain.target(data["y"])
    z = jnp.array([[0.3, -1.2], [2.0, 0.5]])
    differences = [jax.jit(jax.vmap(t.log_prob))(z) for t in (one, other)]
    np.testing.assert_allclose(*(x[0] - x[1] for x in differences), rtol=1e-4)


def test_exact_fits_are_calibrated_and_compiled_once():
    """The posterior is Gaussian, so that one at its mode is exact."""
    simulator = infer.numpyro_simulator(line, X, None, observed=["y"])
    exact = calibrate(simulator, infer.Laplace(), n_simulations=30, n_draws=49)
    assert exact.names == ("a", "b", LOG_PROB) and exact.ranks.shape == (30, 3)
    assert exact.verdict["uniform ranks"].status == "ok", exact
    assert exact.ranks.min() >= 0 and 35 < exact.ranks.max() <= 49
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    again = infer.simulation_based_calibration(
        simulator, infer.Laplace(), key=1, n_simulations=20, n_draws=49
    )
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled and len(again.ranks) == 20


def test_fits_that_are_too_narrow_are_found():
    """Mean field has a third of the spread that this posterior has."""
    narrow = calibrate(functions(), infer.ADVI(), n_simulations=30, n_draws=49, steps=300)
    assert narrow.verdict.status == "failed"
    assert "too narrow" in str(narrow.verdict) and narrow.ecdf_p[:2].max() < 1e-3
    assert narrow.chi2_p[:2].max() < 1e-3
    assert "failed" in narrow.verdict["verdicts"].meaning
    assert "sd / uniform" in str(narrow)


@pytest.mark.slow
def test_a_fit_that_forgets_the_data_is_seen_by_the_log_density():
    """It stays at N(0, I), the prior, so that every parameter is calibrated all the same."""
    still = infer.VI(
        family=infer.MeanField(scale=1.0),
        optimizer=infer.optimizer(optax.adam, learning_rate=1e-9),
    )
    start = {"a": np.zeros(()), "b": np.zeros(())}
    options = {"n_simulations": 40, "n_draws": 49, "steps": 2, "init": start}
    found = calibrate(functions(), still, **options)
    assert found.ecdf_p[:2].min() > 0.01 > 1e-3 > found.ecdf_p[2]
    assert LOG_PROB in found.verdict["uniform ranks"].meaning


def told(ess):
    """The record of uniform ranks of two scalars, with these effective sample sizes."""
    ranks = np.random.default_rng(0).integers(20, size=(50, 2))
    return _conclude(("a", LOG_PROB), ranks, 19, np.asarray(ess), ("ok",) * 50, 0)


def test_few_effective_draws_are_said():
    assert told([18.0] * 2 + [25.0] * 48).verdict["effective draws"].status == "ok"
    found = told([18.0] * 3 + [25.0] * 47)
    assert found.verdict["effective draws"].status == "suspect" and "6%" in str(found)
    assert told([np.inf] * 50).verdict.status == "ok"


def test_the_figure_has_a_panel_per_scalar():
    found = told([25.0] * 50)
    figure = found.plot()
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == list(found.names)
    (line,) = (x for x in shown[0].lines if len(x.get_xdata()) == 19)
    expected = [(found.ranks[:, 0] < i).mean() - i / 20 for i in range(1, 20)]
    np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-12)
    assert len([ax for ax in found.plot(max_scalars=1).axes if ax.get_visible()]) == 1


# Errors -------------------------------------------------------------------------------------


def unfinished(x):
    numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal(0, 1)), 1))
    numpyro.factor("penalty", -x)


def simulator(model, *args, observed=("y",)):
    return infer.numpyro_simulator(model, *args, observed=observed)


@pytest.mark.parametrize(
    "error, words, call",
    [
        (TypeError, "observed=\\['y'\\]", lambda: simulator(line, X, None, observed="y")),
        (ValueError, "does not draw", lambda: simulator(line, X, None, observed=["w"])),
        (ValueError, "does not draw", lambda: simulator(line, X, X)),
        (ValueError, "penalty", lambda: simulator(unfinished, 1.0)),
        (TypeError, "needed is a simulator", lambda: calibrate(line, infer.NUTS())),
        (TypeError, "NUTS", lambda: calibrate(functions(), infer.NUTS)),
        (ValueError, ">= 20", lambda: calibrate(functions(), infer.NUTS(), n_simulations=5)),
        (ValueError, ">= 9", lambda: calibrate(functions(), infer.NUTS(), n_draws=3)),
        (TypeError, "checkpoint", lambda: calibrate(functions(), infer.NUTS(), checkpoint="x")),
    ],
)
def test_refused(unchecked, error, words, call):
    with pytest.raises(error, match=words):
        call()


def test_too_few_draws_and_priors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="fewer than the 99"):
        calibrate(functions(), infer.ADVI(), draws=50, steps=2)
    base = functions()
    for prior, words in (
        (lambda key: {"a": jnp.zeros(())}, "no value for"),
        (lambda key: {"a": jnp.zeros(2), "b": jnp.zeros(())}, "of shape"),
    ):
        simulator = infer.Simulator(prior, lambda key, p: jnp.zeros_like(X), base.target)
        with pytest.raises((KeyError, ValueError), match=words):
            calibrate(simulator, infer.ADVI())


# The same at a size that finds smaller errors ---------------------------------------------------


@pytest.mark.slow
def test_nuts_is_calibrated_and_a_slightly_wrong_prior_is_not():
    right = calibrate(functions(), infer.NUTS(), n_simulations=300)
    assert right.verdict.status == "ok", right
    assert right.ess.shape == (300,) and right.ess.min() > 99
    base = functions()
    shifted = infer.Simulator(
        lambda key: {k: v + 0.5 for k, v in base.prior(key).items()}, base.simulate, base.target
    )
    wrong = calibrate(shifted, infer.FBGVI(), n_simulations=300)
    assert "too low" in str(wrong.verdict) and wrong.verdict.status == "failed"
