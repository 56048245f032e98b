"""SKROCK: its steps against Chebyshev polynomials, its spreads, what is said of them."""

from collections import deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import chebyshev
from test_composite import curved, laplace, soft, sparse
from test_mirror_langevin import first_step, moments

import infer

# Variance over the right one for curvatures 1, 10, 100 at 0.8 l_s / 100: the documentation.
TABLE = {3: (0.994, 0.937, 0.481), 10: (0.962, 0.820, 0.265), 15: (0.768, 0.851, 0.081)}
SPECTRUM = np.array([1.0, 10.0, 100.0])


def largest(s):
    return (s - 0.5) ** 2 * (2 - 0.2 / 3) - 1.5


def gains(s, p):
    """What a step multiplies z and its noise by, at step size times curvature p.

    T_s(w0 - w1 p) / T_s(w0) and (1 - w1 p / 2) U_{s-1}(w0 - w1 p) / U_{s-1}(w0).
    """
    one = [0] * s + [1]
    slope = chebyshev.chebder(one)  # s U_{s-1}
    w0 = 1 + 0.05 / s**2
    w1 = chebyshev.chebval(w0, one) / chebyshev.chebval(w0, slope)
    kept = chebyshev.chebval(w0 - w1 * p, one) / chebyshev.chebval(w0, one)
    noise = chebyshev.chebval(w0 - w1 * p, slope) / chebyshev.chebval(w0, slope)
    return kept, noise * (1 - w1 * p / 2)


def variance(s, p):
    """Over the right one: S = kept^2 S + 2 p noise^2."""
    kept, noise = gains(s, p)
    return 2 * p * noise**2 / (1 - kept**2)


@pytest.mark.parametrize("s, wide", [(2, True), (10, True), (10, False)])
def test_a_step_on_a_gaussian_is_a_polynomial(s, wide):
    """Of M P, with a matrix P and a diagonal M, far from the center; in both precisions."""
    with jax.enable_x64(wide):
        P = np.array([[3.0, 1.0, 0.4], [1.0, 2.0, -0.5], [0.4, -0.5, 6.0]])
        M, center = np.array([0.5, 2.0, 0.3]), np.array([3.0, -2.0, 1.0])
        e, z, key = 0.6, np.array([4.0, 1.0, -1.0]), jax.random.key(3)
        target = infer.from_log_density(
            lambda x, d: -0.5 * (x - d[1]) @ d[0] @ (x - d[1]),
            jnp.zeros(3),
            data=(jnp.asarray(P), jnp.asarray(center)),
        )
        algorithm = infer.SKROCK(s, e, preconditioner=infer.Diagonal(M))
        state, info = first_step(algorithm, key, target.at(jnp.asarray(z)))
        noise = np.asarray(jax.random.normal(key, (3,)), float)
        curvature, vectors = np.linalg.eig(M[:, None] * P)
        kept, gain = gains(s, e * curvature)
        back = np.linalg.inv(vectors)
        found = center + vectors @ (kept * (back @ (z - center)))
        found += vectors @ (gain * (back @ (np.sqrt(2 * e * M) * noise)))
        rtol = 1e-11 if wide else 2e-5
        np.testing.assert_allclose(state.position, found, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(state.log_prob, target.log_prob(state.position), rtol=1e-6)
        assert info.gradients == s


def test_a_step_on_a_composite_target_by_hand(x64):
    """The recursion written out, T_j by polynomials, the prox by a threshold."""
    target, key, s, e, lam = sparse(), jax.random.key(3), 4, 0.3, 0.06
    rate, M = np.arange(1.0, 6.0), np.array([0.5, 1.0, 2.0, 0.3, 0.7])
    z = np.array([0.4, -0.2, 0.05, 0.5, -1.0])
    q = np.sqrt(2 * e * M) * np.asarray(jax.random.normal(key, (5,)))

    def down(x):  # e M grad U
        envelope = (x - soft(x, lam * M * rate)) / lam
        return e * (envelope - M * np.asarray(jax.grad(curved)(x)))

    w0 = 1 + 0.05 / s**2
    T = [chebyshev.chebval(w0, [0] * j + [1]) for j in range(s + 1)]
    w1 = T[s] / chebyshev.chebval(w0, chebyshev.chebder([0] * s + [1]))
    stages = [z, z - w1 / w0 * down(z + s * w1 / 2 * q) + s * w1 / w0 * q]
    for j in range(2, s + 1):
        mu, nu = 2 * w1 * T[j - 1] / T[j], 2 * w0 * T[j - 1] / T[j]
        new = nu * stages[-1] - mu * down(stages[-1]) - T[j - 2] / T[j] * stages[-2]
        stages.append(new)
    algorithm = infer.SKROCK(s, e, lam, preconditioner=infer.Diagonal(M))
    state, _ = first_step(algorithm, key, target.at(jnp.asarray(z)))
    np.testing.assert_allclose(state.position, stages[-1], rtol=1e-10)


def test_gradients_of_a_step_are_counted():
    calls = deque()  # a list would be read as data

    @jax.custom_vjp
    def log_density(x):
        return -0.5 * jnp.sum(x**2)

    def backward(x, g):
        jax.debug.callback(lambda: calls.append(0))
        return (-g * x,)

    log_density.defvjp(lambda x: (log_density(x), x), backward)
    target = infer.from_log_density(log_density, jnp.zeros(3))
    for s in (2, 7):
        algorithm = infer.SKROCK(s)
        state = eqx.filter_jit(algorithm.init)(jax.random.key(0), target)
        jax.block_until_ready(state)
        jax.effects_barrier()
        calls.clear()
        _, info = eqx.filter_jit(algorithm.step)(jax.random.key(1), target, state)
        jax.block_until_ready(info)
        jax.effects_barrier()
        assert len(calls) == info.gradients == s


@eqx.filter_jit
def squares(algorithm, target, key):
    """Mean of z^2 of 512 chains (512, d) over 400 steps after 100."""

    def chain(key):
        def body(i, loop):
            state, total = loop
            state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
            return state, total + jnp.where(i >= 100, state.position**2, 0) / 400

        state = algorithm.init(key, target.at(jnp.zeros(target.dim)))
        return jax.lax.fori_loop(0, 500, body, (state, jnp.zeros(target.dim)))[1]

    return jax.vmap(chain)(jax.random.split(key, 512))


def stiff(spectrum):
    return infer.from_log_density(
        lambda x, p: -0.5 * jnp.sum(p * x**2), jnp.zeros(len(spectrum)), data=jnp.asarray(spectrum)
    )


@pytest.mark.parametrize("s", TABLE)
def test_stationary_variances_on_a_stiff_gaussian(s):
    """Against the recursion, within 3.9 standard errors of 512 chains; 9 comparisons at 0.1 %."""
    e = 0.8 * largest(s) / 100
    exact = variance(s, e * SPECTRUM)
    np.testing.assert_allclose(exact, TABLE[s], atol=6e-4)
    found = np.asarray(squares(infer.SKROCK(s, e), stiff(SPECTRUM), jax.random.key(s))) * SPECTRUM
    error = found.std(axis=0, ddof=1) / np.sqrt(512)
    assert (error < 0.02 * exact).all()
    assert (np.abs(found.mean(axis=0) - exact) < 3.9 * error).all(), (found.mean(axis=0), exact)


def test_some_directions_get_no_noise():
    """The docstring: variances at small p; none at all near 4.8, 18.5 and 40 for s = 10."""
    np.testing.assert_allclose(variance(10, np.array([0.5, 2.0])), [0.99, 0.93], atol=0.001)
    p = np.linspace(1e-3, 50, 100_000)
    gain = gains(10, p)[1]
    np.testing.assert_allclose(p[1:][gain[1:] * gain[:-1] < 0], [4.8, 18.5, 40], rtol=0.005)
    for s in range(2, 31):  # and l_s is stable
        assert np.abs(gains(s, np.linspace(0.01, largest(s), 10_000))[0]).max() < 1
    lost = np.asarray(
        squares(infer.SKROCK(10, 1.0), stiff(np.array([1.0, 4.784])), jax.random.key(0))
    )
    assert lost[:, 1].mean() < 1e-3 and abs(lost[:, 0].mean() - 0.976) < 0.02


def test_the_verdict_sees_it():
    """At the largest stable step R-hat is content; equipartition and the scores are not."""
    algorithm, start = infer.SKROCK(15, 0.999 * largest(15) / 100), {"x": np.zeros(3)}
    result = infer.fit(
        stiff(SPECTRUM), algorithm, key=0, warmup=0, steps=2000, init=start, progress=False
    )
    assert result.verdict.status == "failed"
    assert result.verdict["equipartition"].status == "suspect"
    assert result.verdict["R-hat"].value < 1.01
    assert "for x[2]" in result.verdict["equipartition"].meaning


@pytest.mark.slow
def test_bias_of_the_default_settings_of_skrock():
    """On Laplace densities with M their variances: the docstring."""
    rate = np.arange(1.0, 6.0)
    algorithm = infer.SKROCK(preconditioner=infer.Diagonal(2 / rate**2))
    seen = np.mean(
        moments(algorithm, laplace(), jax.random.key(0), 16_000, 400)[1] * rate**2 / 2, 1
    )
    assert abs(seen.mean() - 0.985) < 0.005 + 3.5 * seen.std() / 8


def test_refusals():
    for build, message in (
        (lambda: infer.SKROCK(n_stages=1), r"n_stages >= 2, got 1; write n_stages=10"),
        (lambda: infer.SKROCK(3, 11.0), r"unless step_size < 10.58 .*got 11.0; write.*=5.29"),
        (lambda: infer.SKROCK(3, 1.1).check(laplace()), r"step_size < 1.058 .*1 / smoothing"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            build()
    infer.SKROCK(3, 1.1).check(stiff(SPECTRUM))  # nothing is smoothed there
    wide = infer.SKROCK(smoothing=1.0, preconditioner=infer.Diagonal(jnp.ones(5)))
    with pytest.warns(UserWarning, match=r"SKROCK smooths 'x' by up to 12.5 nats"):
        wide.check(laplace())
    bent = infer.mirrored(laplace(), {"x": infer.HyperbolicEntropy(1.0)})
    with pytest.raises(ValueError, match=r"SKROCK takes the proximal map"):
        infer.SKROCK().check(bent)
