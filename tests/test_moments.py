"""Moments of every step, whatever is kept of the draws."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.diagnostics.chains import ess_mean
from infer.run.moments import MOST, Streamed


def log_density(params):
    rate, x = params["rate"], params["x"]
    return 3 * jnp.log(rate) - 2 * rate - 0.5 * jnp.sum((x - jnp.array([1.0, -2.0]) * rate) ** 2)


EXAMPLE = {"rate": jnp.ones(()), "x": jnp.zeros(2)}
TARGET = infer.from_log_density(log_density, EXAMPLE, supports={"rate": infer.positive})
STEPS = 600


def fit(**options):
    usual = {"key": 2, "warmup": 100, "steps": STEPS, "chains": 3, "progress": False}
    return infer.fit(TARGET, infer.MALA(step_size=0.5), **(usual | options))


@cache
def every():
    return fit()


def assert_moments(result, draws, tolerance=1e-9):
    for name, found in result.moments().items():
        flat = draws[name].astype(np.float64)
        flat = flat.reshape(-1, *flat.shape[2:])
        np.testing.assert_allclose(found.mean, flat.mean(axis=0), rtol=tolerance)
        np.testing.assert_allclose(found.sd, flat.std(axis=0, ddof=1), rtol=tolerance)
        assert found.mean.shape == draws[name].shape[2:]


@pytest.mark.parametrize("thin, chunk", [(1, None), (50, None), (50, 7), (600, 601)])
def test_all_steps_count_and_every_kth_is_kept(thin, chunk):
    """On the supports, not on the real line; the kept draws are those of thinning."""
    result = fit(thin=thin, chunk=chunk, moments=True)
    whole = every()
    np.testing.assert_array_equal(result.z, whole.z[:, thin - 1 :: thin])
    for name in whole.history:
        np.testing.assert_array_equal(
            result.history[name], whole.history[name][:, thin - 1 :: thin]
        )
    assert result.gradients == whole.gradients
    assert_moments(result, whole.draws())
    assert {m.steps for m in result.moments().values()} == {STEPS}


def test_resumed_extended_saved_and_joined(tmp_path):
    path = tmp_path / "run.infer"
    stop = lambda progress: progress.phase == "steps" and progress.step >= 130  # noqa: E731
    options = {"thin": 50, "chunk": 13, "moments": True}
    part = fit(callbacks=[stop], checkpoint=path, **options)
    assert part.trail.taken < STEPS
    assert_moments(fit(resume=path, **options), every().draws())
    with pytest.raises(ValueError, match="moments = True, now it is False"):
        fit(resume=path, thin=50)

    short = fit(**options | {"steps": 200})
    before = short.moments()["x"].mean.copy()
    longer = short.extend(steps=400, progress=False)
    assert_moments(longer, every().draws())
    np.testing.assert_array_equal(short.moments()["x"].mean, before)

    longer.save(path)
    for loaded in (infer.load(path), infer.load(path, TARGET, longer.algorithm)):
        assert_moments(loaded, every().draws())

    other = fit(**options | {"key": 3})
    both = infer.combine([longer, other])
    alone = fit(key=3).draws()
    draws = {name: np.concatenate([v, alone[name]]) for name, v in every().draws().items()}
    assert_moments(both, draws)
    with pytest.raises(ValueError, match="moments = False, result 0 has True"):
        infer.combine([longer, fit(key=4, thin=50, chunk=13)])


def test_only_where_they_were_asked_for():
    with pytest.raises(ValueError, match="moments=True"):
        every().moments()
    with pytest.raises(ValueError, match="VI has none"):
        infer.fit(TARGET, infer.VI(), key=0, moments=True)


def test_batches_tell_the_error_of_a_mean():
    """An autoregression of 20,000 steps in 3 chains, fed in pieces of odd lengths."""
    rng, n, rho = np.random.default_rng(1), 20_000, 0.9
    noise = rng.standard_normal((n, 3, 2)) * np.sqrt(1 - rho**2)
    x = np.zeros_like(noise)
    for i in range(1, n):
        x[i] = rho * x[i - 1] + noise[i]
    x[..., 1] = 5 + 2 * x[..., 1]
    none = np.zeros((3, 2))
    streamed = Streamed({"a": (), "b": (1,)}, 0, none, none, 1, np.zeros((0, 3, 2)), none)
    at = 0
    while at < n:
        size = int(rng.integers(1, 700))
        streamed = streamed.add(x[at : at + size])
        at += size
    assert streamed.count == n and MOST <= len(streamed.sums) < 2 * MOST
    np.testing.assert_allclose(
        streamed.sums[3], x[3 * streamed.batch : 4 * streamed.batch].sum(axis=0), rtol=1e-9
    )
    left = x[streamed.batch * len(streamed.sums) :].sum(axis=0)
    np.testing.assert_allclose(streamed.rest, left, atol=1e-9)
    found = streamed.moments()
    exact = np.sqrt((1 + rho) / (1 - rho) / (3 * n))
    assert found["b"].mean.shape == (1,)
    assert abs(found["a"].mcse / exact - 1) < 0.2
    assert abs(found["b"].mcse[0] / (2 * exact) - 1) < 0.2
    by_ess = x[..., 0].std() / np.sqrt(ess_mean(np.swapaxes(x, 0, 1)[..., :1])[0])
    assert abs(found["a"].mcse / by_ess - 1) < 0.2


def test_a_short_run_does_not_guess_its_error():
    found = fit(steps=20, moments=True).moments()["rate"]
    assert np.isfinite(found.mean) and np.isnan(found.mcse)
