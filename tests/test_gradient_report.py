"""Noise of gradients on quadratics, where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.families.gaussian import DenseGaussian, DiagonalGaussian
from infer.gradient_report import gradient_report

M = 1.7  # curvature of the target


def quadratic(d):
    return infer.from_log_density(lambda z: -0.5 * M * jnp.sum(z**2), jnp.zeros(d))


def report(q, d, n=1, repeats=20_000, **settings):
    return gradient_report(quadratic(d), q, n_samples=n, repeats=repeats, key=0, **settings)


@pytest.mark.parametrize("n", [1, 3])
def test_mean_field_noise_does_not_grow_with_the_dimension(n, x64):
    """Var = (M^2 / n) sum_i s_i^2 (1 + 2 s_i^2 + m_i^2) by Reparam, in mean and log scale.

    Path has the difference of the scores, (1 / s - M s) e - M m with e ~ N(0, 1), instead.
    """
    m, s = np.array([0.5, -1.0, 0.3, 0.8]), np.array([0.7, 0.4, 1.1, 0.9])
    q = DiagonalGaussian(jnp.asarray(m), jnp.log(jnp.asarray(s)))
    found = report(q, 4, n)
    reparam = M**2 * np.sum(s**2 * (1 + 2 * s**2 + m**2)) / n
    a = 1 / s - M * s
    path = np.sum(a**2 + s**2 * (2 * a**2 + (M * m) ** 2)) / n
    rows = found.rows
    np.testing.assert_allclose(rows["Reparam", n]["noise"] ** 2, reparam, rtol=0.04)
    np.testing.assert_allclose(rows["Path", n]["noise"] ** 2, path, rtol=0.04)
    mean = np.concatenate([-M * m, 1 - M * s**2])
    error = found.sd["Path", n] / np.sqrt(20_000)
    assert (np.abs(found.mean["Path", n] - mean) < 4.5 * error).all()
    assert rows["Path", n]["z"] < 4.5 and ("Score", n) in rows or n == 1


@pytest.mark.parametrize("d", [2, 6])
def test_full_rank_noise_grows_with_the_dimension(d, x64):
    """Var = M^2 (d |m|^2 + (d + 2) |C|^2) in mean and factor: the published bound, attained."""
    rng = np.random.default_rng(d)
    m, c = rng.normal(size=d), np.eye(d) + 0.3 * rng.normal(size=(d, d))
    q = DenseGaussian(jnp.asarray(m), jnp.asarray(c))
    found = report(q, d, estimators=[infer.Reparam()], repeats=40_000)
    expected = M**2 * (d * m @ m + (d + 2) * np.sum(c**2))
    np.testing.assert_allclose(found.rows["Reparam", 1]["noise"] ** 2, expected, rtol=0.04)


def test_at_the_posterior_the_path_gradient_has_no_noise():
    q = DiagonalGaussian(jnp.zeros(3), jnp.full(3, -0.5 * np.log(M), jnp.float32))
    found = report(q, 3, 4, repeats=50)
    assert found.rows["Path", 4]["noise"] < 1e-5 < 0.1 < found.rows["Reparam", 4]["noise"]
    assert "signal / noise" in str(found) and found.repeats == 50
    frame = found.to_dataframe()
    assert list(frame.index) == ["Reparam, 4 draws", "Path, 4 draws", "Score, 4 draws"]


def test_figure():
    pytest.importorskip("matplotlib")
    q = DiagonalGaussian(jnp.ones(2), jnp.zeros(2))
    few = [infer.Reparam(), infer.Path()]
    found = report(q, 2, [2, 8], repeats=50, objective=infer.IWAE(), estimators=few)
    (ax,) = found.plot().axes
    assert len(ax.lines) == 2 and list(ax.lines[0].get_xdata()) == [2, 8]


def test_wrong_use():
    q, target = DiagonalGaussian(jnp.ones(2), jnp.zeros(2)), quadratic(2)
    with pytest.raises(TypeError, match=r"needs a distribution.*\.posterior, key=1\)"):
        gradient_report(target, infer.MeanField(), key=0)
    with pytest.raises(ValueError, match=r"Path\(\) or infer\.Score\(\)"):
        gradient_report(target, q, objective=infer.ForwardKL(), estimators=[infer.Reparam()], key=0)
    with pytest.raises(ValueError, match="repeats >= 10"):
        gradient_report(target, q, repeats=1, key=jax.random.key(0))
