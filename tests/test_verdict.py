"""Wrong fits that other libraries hand over in silence are called wrong, and right ones right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow
from scipy import stats

import infer
from infer.core.evidence import Evidence, Verdict
from infer.core.support import positive
from infer.external.walkers import Walkers
from infer.judgement import _chain_hint
from infer.mode_search import excursion, mode_search
from infer.modes import climb, weigh
from infer.scoreboard.conjugate import hierarchy
from infer.verdict import Sample, by_weights, judge, rare_parts, undecided

SLOW = pytest.mark.slow


# Double precision is the same claim again: quick for one wrong fit and one right one.
@pytest.fixture(params=["float32", *slow("float64")])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield


def adam(rate):
    return infer.optimizer(optax.adam, learning_rate=rate)


def fit(target, algorithm, key=0, **options):
    return infer.fit(target, algorithm, key=key, progress=False, **options)


def normal(x, data):
    mean, precision = data
    return -0.5 * (x - mean) @ precision @ (x - mean)


def gaussian(covariance, mean=0.0):
    covariance = np.asarray(covariance)
    mean = np.broadcast_to(mean, len(covariance))
    data = jnp.asarray(mean, float), jnp.asarray(np.linalg.inv(covariance), float)
    return infer.from_log_density(normal, jnp.zeros(len(covariance)), data=data)


def correlated(d, rho):
    return (1 - rho) * np.eye(d) + rho


def assert_not_ok(result, status, *words):
    """The verdict has this status, and its reasons name the cause."""
    assert result.verdict.status == status, result.verdict
    for word in words:
        assert word in str(result.verdict), result.verdict


def test_a_printed_reason_has_its_name():
    seen = (
        Evidence("mild", 1.0, "", "suspect", "somewhat wrong"),
        Evidence("fine", 1.0, "", "ok", "right"),
        Evidence("bad", 1.0, "", "failed", "wrong"),
    )
    lines = str(Verdict(seen, "the moon")).splitlines()
    assert lines[0] == "verdict: failed"
    assert lines[1:3] == ["  failed, bad: wrong", "  suspect, mild: somewhat wrong"]
    assert lines[3:] == ["  not looked for: the moon"]


# Wrong fits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float64"], indirect=True)
def test_too_few_steps(precision):
    """The truth is N(8, 0.45); 1000 small steps from 0 get to about 1."""
    target = infer.from_log_density(
        lambda x: -0.5 * x[0] ** 2 - 0.5 * ((10 - x[0]) / 0.5) ** 2, jnp.zeros(1)
    )
    algorithm = infer.VI(optimizer=adam(1e-3))
    result = fit(target, algorithm, steps=1000, init={"x": np.zeros(1)})
    assert result.z.mean() < 3
    assert_not_ok(result, "failed", "loss was still falling", "result.extend(steps=...)")


def half_line(x):
    return jnp.where(x[0] < 0, jnp.nan, -0.5 * jnp.sum(x**2))


@pytest.mark.parametrize("policy", ["stop", *slow("skip")])
def test_no_density_on_half_of_the_line(policy, precision):
    target = infer.from_log_density(half_line, jnp.zeros(2))
    result = fit(target, infer.VI(), steps=2000, init={"x": np.ones(2)}, on_nonfinite=policy)
    assert sum(result.outcome.nonfinite) > 0
    assert_not_ok(result, "failed", "not finite")
    sampled = fit(target, infer.ULA(), steps=500, warmup=100, on_nonfinite=policy)
    assert sum(sampled.outcome.nonfinite) > 0
    assert_not_ok(sampled, "failed", "not finite")


def test_a_regression_on_a_bad_scale(precision):
    """Priors N(0, 100^2) and the usual settings: intercept near 90 with sd 6, slope -9.6."""
    x = jnp.array([1.17, 2.97, 3.26, 4.69, 5.83, 6.00, 6.41])
    y = jnp.array([78.93, 58.20, 67.47, 37.47, 45.65, 32.92, 29.97])

    def log_density(p):
        a, b, s = p["a"], p["b"], p["s"]
        prior = -0.5 * (a**2 + b**2 + s**2) / 100**2
        return prior - 7 * jnp.log(s) - 0.5 * jnp.sum(((y - a - b * x) / s) ** 2)

    example = {"a": 0.0, "b": 0.0, "s": 1.0}
    target = infer.from_log_density(log_density, example, supports={"s": positive})
    result = fit(target, infer.ADVI(optimizer=adam(0.01)), steps=1000)
    assert_not_ok(result, "failed")
    assert "falling" in str(result.verdict) or "mean-field" in str(result.verdict)


def test_mean_field_on_correlated_coordinates(precision):
    result = fit(gaussian(correlated(2, 0.95)), infer.VI(family=infer.MeanField()))
    assert_not_ok(result, "failed", "mean-field", "infer.FullRank()", "sd of")
    assert result.z.std(axis=1).max() < 0.4  # it is indeed three times too narrow


def test_a_gaussian_on_a_banana(precision):
    banana = infer.from_log_density(
        lambda x: -0.5 * x[0] ** 2 - 0.5 * ((x[1] - x[0] ** 2) / 0.1) ** 2, jnp.zeros(2)
    )
    result = fit(banana, infer.VI(), steps=6000)
    assert result.verdict.status in ("suspect", "failed")
    assert "its shape is not the posterior's" in str(result.verdict)


@pytest.mark.parametrize("key", range(4))
def test_a_small_gap_is_not_believed_where_the_weights_cannot_be_averaged(key):
    """N(0, s^2) beside a Cauchy distribution; the true gap by quadrature."""
    s, p, grid = 0.8, stats.cauchy(0, 0.5), np.linspace(-10, 10, 20_001)
    q = stats.norm(0, s)
    true = np.trapezoid(q.pdf(grid) * (q.logpdf(grid) - p.logpdf(grid)), grid)
    x = s * np.random.default_rng(key).normal(size=10_000)
    evidence = {e.name: e for e in by_weights(p.logpdf(x) - q.logpdf(x), 2)}
    seen = evidence["KL gap"]
    assert seen.value < 0.1 < 0.18 < true  # as it is, it would pass
    assert evidence["k-hat"].value > 0.7 and seen.status == "suspect"
    assert "heavier tails" in seen.meaning


@pytest.mark.parametrize("dof, s", [(100, 1.01), (30, 1.0), (10, 1.05)])
def test_tails_that_hardly_matter_do_not_make_a_gap_suspect(dof, s):
    x = s * np.random.default_rng(0).normal(size=(10_000, 2))
    log_w = np.sum(stats.t(dof).logpdf(x) - stats.norm(0, s).logpdf(x), axis=1)
    assert {e.name: e.status for e in by_weights(log_w, 2)}["KL gap"] == "ok"


def test_few_particles_in_many_dimensions(precision):
    result = fit(gaussian(np.eye(10)), infer.SVGD(n_particles=50), steps=2000)
    assert result.z.std(axis=1).mean() < 0.9
    assert result.verdict.status in ("suspect", "failed")
    assert "particles" in str(result.verdict) and "few" in str(result.verdict)


def test_particles_in_two_modes_cannot_know_their_weights(precision):
    """Weights 0.9 and 0.1; the particles start half and half, and stay."""

    def two(x):
        near, far = -0.5 * jnp.sum((x - 5) ** 2), -0.5 * jnp.sum((x + 5) ** 2)
        return jnp.logaddexp(np.log(0.9) + near, np.log(0.1) + far)

    target = infer.from_log_density(two, jnp.zeros(2))
    algorithm = infer.SVGD(n_particles=100, init_scale=5.0)
    result = fit(target, algorithm, steps=2000, init={"x": np.zeros(2)})
    assert 0.2 < np.mean(result.z[..., 0] > 0) < 0.8
    assert result.verdict["separate groups"].status == "suspect"
    assert_not_ok(result, "suspect", "come from the start, not from the posterior", "%")


def test_particles_that_stopped_too_early(precision):
    result = fit(gaussian(np.eye(3), 20.0), infer.SVGD(n_particles=60), steps=5)
    assert result.verdict["kernel Stein discrepancy"].status == "suspect"
    assert_not_ok(result, "failed", "times that of independent draws")


def test_what_only_particles_are_asked_needs_finite_and_enough_of_them(precision):
    few = fit(gaussian(np.eye(3)), infer.SVGD(n_particles=5), steps=50)
    assert not {"separate groups", "kernel Stein discrepancy"} & {
        e.name for e in few.verdict.evidence
    }
    many = fit(gaussian(np.eye(2)), infer.SVGD(n_particles=100), steps=2000)
    assert many.verdict["separate groups"].status == "ok"
    assert many.verdict["kernel Stein discrepancy"].status == "ok"
    assert 0 < many.verdict["kernel Stein discrepancy"].value < 0.9


def test_a_langevin_step_that_is_too_large(precision):
    """Half of the stability limit: variances twice too large, and a perfect R-hat."""
    result = fit(gaussian(np.diag([1.0, 4.0]), 3.0), infer.ULA(step_size=1.0))
    np.testing.assert_allclose(result.z.var(axis=(0, 1)), [2, 8], rtol=0.3)
    assert result.verdict["R-hat"].status == "ok"
    assert_not_ok(result, "failed", "no acceptance test", "sd of", "infer.MALA()")


def test_chains_that_disagree(precision):
    """Four chains started in two far modes."""
    target = infer.from_log_density(
        lambda x: jnp.logaddexp(-0.5 * jnp.sum((x - 20) ** 2), -0.5 * jnp.sum((x + 20) ** 2)),
        jnp.zeros(1),
    )
    starts = np.array([[20.0], [20.0], [20.0], [-20.0]])
    result = fit(target, infer.MALA(), steps=1000, warmup=300, init={"x": starts})
    assert_not_ok(result, "failed", "the chains do not agree")


def test_a_stuck_chain(precision):
    """One of four chains starts where a narrow peak refuses every move."""
    target = infer.from_log_density(
        lambda x: jnp.logaddexp(-0.5 * x[0] ** 2, 25 - 0.5 * ((x[0] - 8) / 1e-4) ** 2),
        jnp.zeros(1),
    )
    starts = np.array([[0.0], [1.0], [-1.0], [8.0]])
    algorithm = infer.MALA(step_size=0.5)
    result = fit(target, algorithm, steps=1000, warmup=0, init={"x": starts})
    assert np.ptp(result.z[3]) < 0.1
    assert_not_ok(result, "failed", "the chains do not agree")
    assert_not_ok(fit(target, algorithm, steps=200, warmup=0, init={"x": np.full(1, 8.0)}),
                  "failed", "never moved", "refused")  # fmt: skip


def test_a_constant_coordinate(precision):
    target = gaussian(np.eye(2))
    result = fit(target, infer.SVGD(n_particles=1), steps=100)
    assert result.verdict.status != "ok" and "few" in str(result.verdict)
    still = infer.MALA(step_size=1e-37)
    assert_not_ok(fit(target, still, steps=50, warmup=0), "failed", "distinct draws")


def test_too_few_particles(precision):
    result = fit(gaussian(np.eye(3)), infer.SVGD(n_particles=5), steps=500)
    assert_not_ok(result, "suspect", "too few", "take at least 30")


def test_too_few_draws():
    result = fit(gaussian(np.eye(2)), infer.MALA(), steps=10, warmup=300)
    assert result.verdict.status != "ok"
    assert result.verdict["bulk ESS"].status == "suspect"
    assert "effective draws" in str(result.verdict)


def test_the_verdict_is_printed_unless_it_is_ok(capsys):
    fit(gaussian(np.eye(3)), infer.SVGD(n_particles=5), steps=500)
    assert "SVGD verdict: suspect" in capsys.readouterr().err
    fit(gaussian(np.eye(2)), infer.SVGD(n_particles=50), steps=2000)
    assert capsys.readouterr().err == ""


def test_one_divergence_is_told_with_the_number_of_transitions():
    diverging = np.zeros((50, 4), bool)
    diverging[3, 1] = True
    hint = _chain_hint(infer.NUTS(), {"diverging": diverging})
    assert hint.startswith("1 of 200 transitions diverged: ")
    assert "diverged" not in _chain_hint(infer.NUTS(), {"diverging": diverging & False})


def test_restarts_that_disagree():
    target = infer.from_log_density(
        lambda x: jnp.logaddexp(-0.5 * jnp.sum((x - 9) ** 2), -1 - 0.5 * jnp.sum((x + 9) ** 2)),
        jnp.zeros(1),
    )
    starts = np.array([[-5.0], [5.0]])
    result = fit(target, infer.VI(), chains=2, init={"x": starts})
    assert_not_ok(result, "suspect", "different answers", "best objective")
    assert result.best == 1 and abs(result.posterior.mean[0] - 9) < 0.2
    one = fit(target, infer.VI())
    assert "not measured" in one.verdict["spread between restarts"].meaning


# Right fits -----------------------------------------------------------------------------------

RIGHT = {
    "NUTS": lambda: infer.NUTS(max_doublings=5),
    "MALA": infer.MALA,
    "VI": infer.VI,
    "SVGD": lambda: infer.SVGD(n_particles=200),
}


@pytest.mark.parametrize(
    "name, precision",
    [
        ("MALA", "float64"),
        ("VI", "float32"),
        *slow(*((n, "float64") for n in RIGHT if n != "MALA")),
        *slow(*((n, "float32") for n in RIGHT if n != "VI")),
    ],
    indirect=["precision"],
)
def test_right_fits_pass(name, precision):
    result = fit(gaussian([[1.0, 0.6], [0.6, 2.0]], 3.0), RIGHT[name](), key=1)
    assert result.verdict.status == "ok", result.verdict
    assert result.verdict.reasons == ()
    assert "other modes" in str(result.verdict)
    assert result.verdict["score regression"].value < 0.5


# The expensive checks -------------------------------------------------------------------------


def mixture(x):
    """Weights 0.7 and 0.3, 10 standard deviations apart."""
    shift = 10 / np.sqrt(3)
    near, far = -0.5 * jnp.sum(x**2), -0.5 * jnp.sum((x - shift) ** 2)
    return jnp.logaddexp(np.log(0.7) + near, np.log(0.3) + far)


TWO_MODES = infer.from_log_density(mixture, jnp.zeros(3))
NUTS = infer.NUTS(max_doublings=5)


@pytest.mark.parametrize(
    "algorithm",
    [pytest.param(infer.VI(), id="VI"), pytest.param(NUTS, marks=SLOW, id="NUTS")],
)
def test_examine_finds_the_other_mode(algorithm):
    result = fit(TWO_MODES, algorithm, init={"x": np.zeros(3)})
    assert result.verdict.status == "ok"  # the draws alone cannot know
    verdict = result.examine(key=1)
    assert verdict.status == "failed"
    assert "mode missed" in str(verdict) and "x[0] = 5." in str(verdict)
    np.testing.assert_allclose(verdict["mode search"].value, 0.3, atol=0.03)
    assert (
        verdict["mode weights"].status == "info" and "one mode" in verdict["mode weights"].meaning
    )


def exact_draws(share, n=2000):
    """Draws of the mixture, but with this share around the far mode."""
    rng = np.random.default_rng(0)
    far = np.arange(n) < share * n
    return (rng.standard_normal((n, 3)) + far[:, None] * 10 / np.sqrt(3))[None]


@pytest.mark.parametrize("share, status", [(0.3, "ok"), (0.41, "suspect"), (0.65, "failed")])
def test_modes_that_were_found_are_weighed(share, status):
    """The far mode has 0.3 of the mass."""
    target = TWO_MODES.full()
    (missed, weights), _ = mode_search(target, jax.random.key(0), exact_draws(share), chains=False)
    assert missed.status == "ok" and missed.value == 0.0
    assert weights.status == status
    assert f"{share:.0%}" in weights.meaning or f"{1 - share:.0%}" in weights.meaning
    # 0.3 is known from 4000 importance draws, whose standard error is below 0.01
    np.testing.assert_allclose(weights.value, share - 0.3, atol=0.03)


def test_shares_of_chains_that_do_not_mix_are_not_believed():
    """Four chains, each in one mode: 3 to 1 is no evidence against 0.7 to 0.3, nor 1 to 3."""
    one, other = exact_draws(0.0)[0, :500], exact_draws(1.0)[0, :500]
    chains = np.stack([one, other, other, other])
    target = TWO_MODES.full()
    (_, weights), _ = mode_search(target, jax.random.key(0), chains, chains=True)
    assert weights.status == "ok" and weights.value > 0.4
    (_, weights), _ = mode_search(target, jax.random.key(0), chains.reshape(1, -1, 3), chains=False)
    assert weights.status == "failed"


@pytest.mark.parametrize("d, scale", [(2, 0.3), *slow((10, 0.5))])
def test_masses_of_modes_of_unequal_width(d, scale):
    """A closed form: weights 0.8 and 0.2, with scales 1 and `scale`."""

    def log_density(x):
        far = -0.5 * jnp.sum((x - 8) ** 2) / scale**2 - d * np.log(scale)
        return jnp.logaddexp(np.log(0.8) - 0.5 * jnp.sum(x**2), np.log(0.2) + far)

    target = infer.from_log_density(log_density, jnp.zeros(d))
    rng = np.random.default_rng(3)
    points = rng.standard_normal((20, d)) + 8 * (np.arange(20) % 2)[:, None]
    modes, gradients = climb(target, points, np.full(d, 4.0), 4 * np.eye(d))
    modes.sort(key=lambda mode: mode.z[0])
    assert len(modes) == 2 and gradients < 20 * 60
    np.testing.assert_allclose([mode.z for mode in modes], [[0] * d, [8] * d], atol=1e-3)
    factors = [mode.factor @ mode.factor.T for mode in modes]
    np.testing.assert_allclose(factors, [np.eye(d), scale**2 * np.eye(d)], atol=1e-3)
    masses = weigh(target, modes, rng)
    assert masses.khat < 0.5 and masses.error.max() < 0.015
    np.testing.assert_allclose(masses.share, [0.8, 0.2], atol=3.5 * masses.error.max())


@SLOW
def test_masses_that_cannot_be_measured_are_not_told():
    """Two modes with tails far heavier than those of the Student t that measures them."""

    def log_density(x):
        near, far = (-2.2 * jnp.log1p(jnp.sum((x - a) ** 2)) for a in (0.0, 30.0))
        return jnp.logaddexp(near, far)

    target = infer.from_log_density(log_density, jnp.zeros(4))
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1, 400, 4)) + 30 * (np.arange(400) % 2)[:, None]
    (missed, weights), _ = mode_search(target, jax.random.key(0), z, chains=False)
    assert weights.status == "info" and np.isnan(weights.value)
    assert "cannot tell" in weights.meaning and "k-hat" in weights.meaning
    one = z[:, ::2]
    (missed, weights), _ = mode_search(target, jax.random.key(0), one, chains=False)
    assert missed.status == "suspect" and "cannot tell" in missed.meaning


def test_the_ladder_goes_down_by_bounded_steps():
    """A normal has log densities of sd sqrt(d / 2) / b at b: rungs of ratio 1 - 2 / sqrt(d / 2).

    That is 0.55 for d = 40; b ends where the spread, 1 / sqrt(b), is 100.
    """
    d = 40
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(d))
    begin = np.random.default_rng(0).standard_normal((32, d))
    walkers = Walkers(target, jax.random.key(0), begin, np.zeros(d), np.eye(d))
    rungs = excursion(walkers)
    ratios = np.divide(rungs[1:], rungs[:-1])
    assert abs(np.mean(ratios[:-1]) - 0.55) < 0.08 and rungs[-1] < 3e-4
    assert np.mean(np.asarray(walkers.x) ** 2) < 2.0  # and they are back


PLAIN, CORRELATED = np.eye(2), correlated(5, 0.8)


@pytest.mark.parametrize(
    "algorithm, covariance",
    [
        pytest.param(infer.VI(), PLAIN, marks=SLOW, id="VI-plain"),
        pytest.param(NUTS, PLAIN, marks=SLOW, id="NUTS-plain"),
        pytest.param(infer.VI(), CORRELATED, id="VI-correlated"),
        pytest.param(NUTS, CORRELATED, marks=SLOW, id="NUTS-correlated"),
    ],
)
def test_examine_does_not_cry_wolf(algorithm, covariance):
    result = fit(gaussian(covariance, 2.0), algorithm, key=2)
    verdict = result.examine(key=3)
    assert verdict.status == "ok", verdict
    assert verdict["mode search"].value == 0.0
    assert verdict["NUTS cross-check"].status == "ok"
    if isinstance(algorithm, infer.VI):
        assert verdict["restarts"].status == "ok"


def test_examine_fails_a_wrong_fit():
    result = fit(gaussian(correlated(2, 0.95)), infer.VI(family=infer.MeanField()))
    verdict = result.examine(key=0)
    assert verdict["NUTS cross-check"].status == "failed"
    assert verdict["score regression"].status == "failed"  # and is not lifted


def test_moments_that_rare_draws_rule_are_said():
    """A Gaussian, and a share of 5e-4 that is 60 times as wide: sd 1.6 times that of most draws."""
    parts = jax.vmap(
        lambda sd: infer.families.DiagonalGaussian(jnp.zeros(2), jnp.log(sd) * jnp.ones(2))
    )(jnp.array([1.0, 60.0]))
    q = infer.families.MixtureDistribution(parts, jnp.log(jnp.array([1 - 5e-4, 5e-4])))
    sd = np.sqrt(np.diag(np.asarray(q.covariance)))
    np.testing.assert_allclose(sd, np.sqrt(1 - 5e-4 + 5e-4 * 60**2), rtol=1e-5)
    most = np.random.default_rng(0).standard_normal((1000, 2))
    found = rare_parts(sd, most, ["a", "b"])
    assert found.status == "suspect" and "the sd of" in found.meaning
    assert found.value == pytest.approx(np.log(sd / most.std(axis=0)).max() / np.log(1.3))
    assert rare_parts(np.ones(2), most, ["a", "b"]).status == "info"
    assert rare_parts(np.ones(2), most[:10] * 1.2, ["a", "b"]).status == "info"  # ten draws vary


def test_a_ridge_has_no_mode():
    """The density is constant along the circle of radius 3: tops there are no strict maxima."""
    target = infer.from_log_density(
        lambda x: -50 * (jnp.hypot(x[0], x[1]) - 3) ** 2, jnp.array([3.0, 0.0])
    )
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    points = 3.1 * np.column_stack([np.cos(angle), np.sin(angle)])
    assert climb(target, points, np.zeros(2), 2 * np.eye(2))[0] == []


# One coordinate of many -----------------------------------------------------------------------


def test_one_narrow_coordinate_among_many_is_suspect():
    """q = N(0, I), and p has heavier shoulders in one of 60 coordinates: .056 nats, sd 1.38."""
    d, n = 60, 16_000
    x = np.random.default_rng(0).normal(size=(1, n, d))
    first = x[..., 17]
    parts = np.stack([0.7 * stats.norm.pdf(first), 0.3 * stats.norm.pdf(first, scale=2)])
    score = -x.copy()
    score[..., 17] = -first * (parts[0] + parts[1] / 4) / parts.sum(axis=0)
    log_q = stats.norm.logpdf(x).sum(axis=-1)
    log_p = log_q - stats.norm.logpdf(first) + np.log(parts.sum(axis=0))
    names = [f"x[{i}]" for i in range(d)]
    found = {e.name: e for e in judge(Sample(x, log_p, score, log_q, names, True, ""))}
    assert found["KL gap"].status == "ok"
    assert found["weighted moments"].status == "suspect"
    assert "the sd of x[17] is 0.7" in found["weighted moments"].meaning


def test_more_draws_where_weights_cannot_tell():
    def evidence(gap, hi, status="ok", scores="ok"):
        return (
            Evidence("score regression", 0.1, "", scores, ""),
            Evidence("score tail", 0.1, "", "ok", ""),
            Evidence("KL gap", gap, "", "ok", ""),
            Evidence("weighted moments", hi, "", status, ""),
        )

    assert undecided(evidence(0.3, 0.8))
    assert not undecided(evidence(0.04, 0.8))  # no room for an error
    assert not undecided(evidence(0.3, 0.4))
    assert not undecided(evidence(0.3, 1.8, "suspect"))  # decided
    assert not undecided(evidence(0.3, 0.8, scores="failed"))
    assert undecided(evidence(0.3, 1.8, "suspect", scores="suspect"))


@pytest.mark.slow
@pytest.mark.parametrize("n, noise", [(40, 0.05), (40, 0.2), (60, 0.1)])
def test_hierarchies_whose_scale_is_too_narrow(n, noise):
    """Effects in units of their scale, beside exact draws of the scale."""
    case = hierarchy(n, noise)
    exact = case.reference()[:, 0].std()  # of log_tau
    for key in range(4):
        result = fit(case.make(), infer.FBGVI(), key=key)
        ratio = result["log_tau"].std() / exact
        assert ratio < 1 / 1.3 and result.verdict.status != "ok", (ratio, result.verdict)
