"""Importance resampling: its parts by arithmetic, the whole on targets of known moments."""

import copy

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.diagnostics.pareto import pareto_khat, psis
from infer.gaussian.pathfinder import Pathfinder
from infer.improve import apart, improve, khat_limit, systematic

# The logarithm of a gamma variable of shape 3: digamma(3) and sqrt(trigamma(3)).
MEAN, SD = 0.9227843, 0.6284378


def skewed():
    return infer.from_log_density(lambda x: jnp.sum(3 * x - jnp.exp(x)), jnp.zeros(2))


def fit(target, **options):
    return infer.fit(target, Pathfinder(), key=0, progress=False, **options)


@pytest.fixture(scope="module")
def laplace():
    """Two Gaussian fits of the skewed target, off by its skewness."""
    return fit(skewed(), chains=2)


@pytest.fixture(scope="module")
def improved(laplace):
    return improve(laplace, draws=4000, key=1)


# The weights.


@pytest.mark.parametrize("n", [100, 400, 2500])  # here ArviZ rounds the tail as the paper does
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_psis_agrees_with_arviz(n, spread):
    reference = pytest.importorskip("arviz_stats.base").array_stats
    log_weights = spread * np.random.default_rng(n).standard_normal(n) + 7
    smoothed, khat = psis(log_weights)
    expected, expected_khat = reference.psislw(-log_weights)  # ArviZ takes log ratios negated
    np.testing.assert_allclose(smoothed, expected, rtol=0, atol=1e-12)
    assert khat == pytest.approx(float(expected_khat), abs=1e-10)


def test_psis_is_normalized_keeps_the_order_and_leaves_hopeless_weights_alone():
    log_weights = 2 * np.random.default_rng(0).standard_normal(1000)
    smoothed, khat = psis(log_weights)
    assert khat == pareto_khat(log_weights)
    assert np.exp(smoothed).sum() == pytest.approx(1)
    assert (np.diff(smoothed[np.argsort(log_weights)]) >= 0).all()
    equal, khat = psis(np.full(100, 3.0))
    np.testing.assert_allclose(np.exp(equal), 0.01)
    assert khat == -np.inf
    few, _ = psis([0.0, -np.inf, np.log(3)])
    np.testing.assert_allclose(np.exp(few), [0.25, 0, 0.75])
    for hopeless in ([], [np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]):
        assert np.isnan(psis(hopeless)[0]).all()


def test_apart_takes_each_draw_once_with_the_right_probability():
    weights = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05, 0.0])
    rng = np.random.default_rng(0)
    counts = np.zeros(7)
    for _ in range(4000):
        taken, lost = apart(weights, 3, rng)
        assert len(taken) == len(set(taken)) == 3
        counts[taken] += 1
    assert lost == pytest.approx(0.5 - 1 / 3)
    # The first is certain; the others share two places: 2 * (0.4, 0.2, 0.2, 0.1, 0.1).
    expected = np.array([1, 0.8, 0.4, 0.4, 0.2, 0.2, 0])
    np.testing.assert_allclose(counts / 4000, expected, atol=4 * 0.5 / np.sqrt(4000))
    assert len(apart(weights, 100, rng)[0]) == 6  # no more than have weight
    assert apart(np.ones(50), 10, rng)[1] == 0


def test_systematic_copies_each_draw_as_often_as_it_weighs():
    weights = np.array([0.55, 0.3, 0.15, 0])
    counts = np.bincount(systematic(weights, 20, np.random.default_rng(0)), minlength=4)
    assert counts.sum() == 20 and (np.abs(counts - 20 * weights) < 1).all()


# The whole.


def error(z):
    """Worst error of mean and standard deviation, in standard deviations."""
    z = z.reshape(-1, z.shape[-1])
    return np.abs(z.mean(axis=0) - MEAN).max() / SD, np.abs(z.std(axis=0) / SD - 1).max()


def test_a_skewed_posterior_is_repaired(laplace, improved):
    before, after = error(laplace.z), error(improved.z)
    assert laplace.verdict.status != "ok"
    assert before[0] > 0.1
    assert after[0] < 4 / np.sqrt(4000) and after[1] < 0.06
    assert improved.verdict.status == "ok", improved.verdict
    assert improved.verdict["k-hat"].value < 0.7
    assert improved.verdict["importance ESS"].value > 4000
    assert improved.verdict["resampled draws"].value == 4000
    assert improved.z.shape == (1, 4000, 2) and improved.z.dtype == laplace.z.dtype
    assert len(np.unique(improved.z[0], axis=0)) == 4000
    expected = jax.vmap(skewed().log_prob)(jnp.asarray(improved.z[0]))
    np.testing.assert_allclose(improved.log_prob[0], expected, rtol=1e-5, atol=1e-5)


def test_the_answer_is_a_whole_result(improved, laplace, tmp_path):
    assert improved.log_q is None and improved.best == 0
    assert isinstance(improved.posterior, infer.Particles)
    assert improved.posterior.x.shape == (4000, 2)
    assert improved["x"].shape == (1, 4000, 2)
    assert "k-hat" in str(improved.verdict["k-hat"]) and "4000 draws" in str(improved.summary())
    assert improved.gradients == laplace.gradients
    improved.save(tmp_path / "improved.npz")
    for loaded in (
        infer.load(tmp_path / "improved.npz"),
        infer.load(tmp_path / "improved.npz", skewed(), Pathfinder()),
    ):
        np.testing.assert_array_equal(loaded.z, improved.z)
        assert loaded.log_q is None and loaded.verdict == improved.verdict
    assert isinstance(loaded.posterior, infer.Particles)
    pytest.importorskip("xarray")
    tree = improved.to_arviz()
    assert tree["posterior"]["x"].shape == (1, 4000, 2)
    assert set(tree["sample_stats"].data_vars) == {"lp"}


def test_keys_and_copies(laplace):
    one, same, other = (improve(laplace, draws=50, key=k) for k in (3, 3, 4))
    np.testing.assert_array_equal(one.z, same.z)
    assert not np.isin(one.z, other.z).any() and one.z.shape == (1, 50, 2)
    copies = improve(laplace, replace=True, key=3)
    assert copies.z.shape == (1, 1000, 2)
    assert copies.verdict["clipped weight"].value == 0
    assert error(copies.z)[0] < 0.15


def test_a_heavy_tail_is_flagged_and_not_passed():
    cauchy = infer.from_log_density(lambda x: -jnp.sum(jnp.log1p(x**2)), jnp.zeros(3))
    result = improve(fit(cauchy), key=1)
    khat = result.verdict["k-hat"]
    assert khat.value > 0.7 and khat.status in ("suspect", "failed")
    assert "cannot repair" in khat.meaning and result.verdict.status != "ok"
    assert len(np.unique(result.z[0], axis=0)) == 1000


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_paths_to_two_modes_are_weighed_by_the_mixture(precision):
    """Seven of eight paths start at the lighter mode; its mass is a fifth all the same."""
    with jax.enable_x64(precision == "float64"):

        def log_density(x):
            right = jnp.log(0.8) - 0.5 * jnp.sum((x - 6) ** 2)
            left = jnp.log(0.2) - 2 * jnp.sum((x + 6) ** 2) + 2 * jnp.log(2.0)
            return jnp.logaddexp(left, right)

        target = infer.from_log_density(log_density, jnp.zeros(2))
        starts = np.array([7.0] + [-5.5] * 7)[:, None] * np.ones(2)
        result = fit(target, chains=8, init={"x": starts.astype(precision)})
        np.testing.assert_allclose(np.sign(result.z.mean(axis=(1, 2))), [1] + [-1] * 7)
        pooled = improve(result, key=1, draws=2000)
        assert pooled.z.shape == (1, 2000, 2) and pooled.z.dtype == precision
        assert abs(np.mean(pooled.z[..., 0] > 0) - 0.8) < 0.03
        assert pooled.verdict.status != "failed" and pooled.verdict["k-hat"].value < 0.7


def test_a_restart_that_is_not_finite_is_left_out(laplace):
    states = laplace.trail.carry.states
    broken = eqx.tree_at(lambda s: s.best.mean, states, states.best.mean.at[1].set(jnp.nan))
    other = copy.copy(laplace)
    other.trail = copy.copy(laplace.trail)
    other.trail.carry = eqx.tree_at(lambda c: c.states, laplace.trail.carry, broken)
    result = improve(other, key=1)
    assert np.isfinite(result.z).all() and result.verdict.status == "ok"


def test_other_fits_are_improved_too():
    vi = infer.fit(skewed(), infer.ADVI(), key=0, steps=1000, progress=False)
    result = improve(vi, key=1)
    assert result.algorithm_name == "VI" and error(result.z)[0] < 0.15


def test_what_has_no_density_is_refused(laplace, improved, tmp_path):
    target = skewed()
    chains = infer.fit(target, infer.ULA(), key=0, warmup=20, steps=20, progress=False)
    with pytest.raises(ValueError, match=r"Markov chains.*extend"):
        improve(chains, key=0)
    particles = infer.fit(target, infer.SVGD(n_particles=10), key=0, steps=5, progress=False)
    for result in (particles, improved):
        with pytest.raises(ValueError, match=r"no density.*particles.*improved before.*infer\.VI"):
            improve(result, key=0)
    laplace.save(tmp_path / "fit.npz")
    with pytest.raises(ValueError, match=r"infer\.load\(path, target, algorithm\)"):
        improve(infer.load(tmp_path / "fit.npz"), key=0)
    with pytest.raises(TypeError):
        improve(target, key=0)
    with pytest.raises(ValueError, match="draws"):
        improve(laplace, draws=0, key=0)


def test_what_no_longer_is_the_fit_is_not_joined_and_not_carried_on(laplace, improved, tmp_path):
    with pytest.raises(ValueError, match=r"result 1.*infer\.improve.*infer\.combine\(\[a, b\]\)"):
        infer.combine([laplace, improved])
    with pytest.raises(ValueError, match=r"infer\.improve.*fit\.extend\(steps=\.\.\.\)"):
        improved.extend(steps=10)
    improved.save(tmp_path / "improved.npz")
    loaded = infer.load(tmp_path / "improved.npz")
    with pytest.raises(ValueError, match=r"result 0.*infer\.improve"):
        infer.combine([loaded, improved])
    target = skewed()
    particles = [
        infer.fit(target, infer.SVGD(n_particles=10), key=key, steps=5, progress=False)
        for key in (0, 1)
    ]
    particles[1].save(tmp_path / "particles.npz")
    bare = infer.load(tmp_path / "particles.npz")
    assert not bare.resampled
    assert infer.combine([particles[0], bare]).z.shape == (2, 10, 2)


def test_limit_of_khat():
    assert khat_limit(100) == pytest.approx(0.5) and khat_limit(10**6) == 0.7
