"""Langevin samplers against closed forms, exact draws, path densities and quadrature."""

from collections import deque
from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow
from scipy.linalg import expm
from scipy.stats import norm

import infer
from infer.langevin.baoab import baoab
from infer.langevin.klmc import coefficients, klmc, largest_step
from infer.langevin.obabo import obabo, obabo_with
from infer.langevin.transition import proposed

UNDERDAMPED = {"BAOAB": baoab, "OBABO": obabo, "KLMC": klmc}
UNIT = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(5))
SHAPE = 2.0
SKEW = infer.from_log_density(lambda x: jnp.sum(SHAPE * x - jnp.exp(x)), jnp.zeros(3))
VARIANCES = np.array([0.5, 1.0, 2.0])  # a preconditioner that is not the right one


def limit(comparisons, level=1e-3):
    """Standard errors that one of so many normal numbers exceeds with this probability."""
    return NormalDist().inv_cdf(1 - level / (2 * comparisons))


def skew_draws(n):
    """Exact draws of SKEW: logarithms of gamma variables."""
    return np.log(np.random.default_rng(1).gamma(SHAPE, size=(n, 3)))


@eqx.filter_jit
def begun(algorithm, target, keys, z):
    return jax.vmap(lambda k, x: algorithm.init(k, target.at(x)))(keys, z)


@eqx.filter_jit
def moves(algorithm, target, keys, states):
    return jax.vmap(algorithm.step, (0, None, 0))(keys, target, states)


@eqx.filter_jit
def schemes(scheme, target, keys, states):
    return jax.vmap(scheme, (0, None, 0))(keys, target, states)


def started(algorithm, target, z, key=0):
    keys = jax.random.split(jax.random.key(key), len(z))
    return begun(algorithm, target, keys, jnp.asarray(z, jnp.zeros(()).dtype))


# Stationary laws on N(0, 1) ---------------------------------------------------------------------


@eqx.filter_jit
def mean_squares(algorithms, target, key, chains, steps):
    """Mean of z^2 per step size, chain and coordinate, after as many steps again are dropped."""

    def one(algorithm, key):
        start = jax.random.normal(key, (target.dim,))
        state = algorithm.init(key, target.at(start))

        def body(i, loop):
            state, total = loop
            state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
            square = algorithm.position(state) ** 2
            return state, total + jnp.where(i >= steps // 5, square, 0)

        _, total = jax.lax.fori_loop(0, steps, body, (state, jnp.zeros(target.dim)))
        return total / (steps - steps // 5)

    keys = jax.random.split(key, chains)
    return jax.vmap(lambda a: jax.vmap(lambda k: one(a, k))(keys))(algorithms)


def several(make, steps):
    """One algorithm per step size, stacked."""
    made = [make(h) for h in steps]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)


def van_loan(h, friction):
    """Mean map of (position, velocity, force) and noise covariance of KLMC, by one exponential."""
    drift = np.array([[0, 1, 0], [0, -friction, 1], [0, 0, 0.0]])
    noise = np.diag([0, 2 * friction, 0])
    block = expm(h * np.block([[-drift, noise], [np.zeros((3, 3)), drift.T]]))
    mean = block[3:, 3:].T
    return mean, mean @ block[:3, 3:]


def klmc_variance(h):
    """The fixed point of the covariance under the exact map of KLMC on N(0, 1), friction 2."""
    mean, noise = van_loan(h, 2.0)
    step = mean[:2, :2] - np.outer(mean[:2, 2], [1, 0])
    solved = np.linalg.solve(np.eye(4) - np.kron(step, step), noise[:2, :2].ravel())
    return solved[0]


FIXED = {"preconditioner": infer.Fixed(1.0)}
STEPS = [0.25, 0.5, 1.0, 1.5]
LAWS = {
    "BAOAB": (lambda h: infer.BAOAB(step_size=h, friction=2.0, **FIXED), lambda h: 1.0),
    "OBABO": (
        lambda h: infer.OBABO(step_size=h, friction=2.0, **FIXED),
        lambda h: 1 / (1 - h**2 / 4),
    ),
    "KLMC": (lambda h: infer.KLMC(step_size=h, friction=2.0, **FIXED), klmc_variance),
    "ULA": (lambda h: infer.ULA(step_size=h, **FIXED), lambda h: 1 / (1 - h / 2)),
}


@pytest.mark.parametrize("name", ["BAOAB", "KLMC", *slow("OBABO", "ULA")])
def test_stationary_variances(name):
    make, theory = LAWS[name]
    squares = np.asarray(
        mean_squares(several(make, STEPS), UNIT, jax.random.key(2), 400, 1500), np.float64
    ).reshape(len(STEPS), -1)
    error = squares.std(axis=1) / np.sqrt(squares.shape[1])  # chains and coordinates: independent
    right = np.array([theory(h) for h in STEPS])
    miss = (squares.mean(axis=1) - right) / error
    assert np.abs(miss).max() < limit(4 * len(LAWS)), (squares.mean(axis=1), right)
    assert (error < 0.01 * right).all()


def test_the_law_of_klmc_is_the_published_one():
    found = [klmc_variance(h) for h in STEPS]
    np.testing.assert_allclose(found, [1.066, 1.141, 1.307, 1.510], atol=0.0035)


@pytest.mark.parametrize("friction", [0.1, 2.0, 10.0])
@pytest.mark.parametrize("h", [1e-3, 0.1, 0.149, 0.151, 1.0])
def test_coefficients_of_klmc(h, friction):
    mean, noise = van_loan(h, friction)
    for wide in (True, False):
        with jax.enable_x64(wide):
            e, p1, p2, vv, xv, xx = map(
                float, coefficients(jnp.asarray(h, float), jnp.asarray(friction, float))
            )
        small = 1e-8 if wide else 3e-6
        exact = [mean[1, 1], mean[0, 1], mean[0, 2]]
        np.testing.assert_allclose([e, p1, p2], exact, rtol=small, atol=1e-12)
        ours = [vv**2, xv * vv, xv**2 + xx**2]
        np.testing.assert_allclose(
            ours, [noise[1, 1], noise[0, 1], noise[0, 0]], rtol=1e-6 if wide else 1e-4
        )


@pytest.mark.parametrize("name", UNDERDAMPED)
def test_where_a_scheme_becomes_unstable(name, x64):
    """The spectral radius of a step on N(0, 1), by autodiff, crosses 1 at the bound refused."""
    one = infer.from_log_density(lambda x: -0.5 * x[0] ** 2, jnp.zeros(1))
    for friction in (0.5, 2.0):
        bound = largest_step(friction) if name == "KLMC" else 2.0
        cls = getattr(infer, name)
        state = cls(friction=friction, **FIXED).init(jax.random.key(0), one)

        def step(y, h, state=state):
            moved = eqx.tree_at(
                lambda s: (s.position, s.velocity, s.score, s.tuning.step_size),
                state,
                (y[:1], y[1:], -y[:1], h),
            )
            after, _ = UNDERDAMPED[name](jax.random.key(1), one, moved)
            return jnp.concatenate([after.position, after.velocity])

        slope = jax.jit(jax.jacobian(step))
        radius = [
            np.abs(np.linalg.eigvals(slope(jnp.ones(2), jnp.asarray(h)))).max()
            for h in (0.99 * bound, 1.01 * bound)
        ]
        assert radius[0] < 1 < radius[1], (friction, bound, radius)
        cls(step_size=0.999 * bound, friction=friction)
        with pytest.raises(ValueError, match=rf"{name} diverges unless step_size < {bound:.4g} "):
            cls(step_size=bound, friction=friction)


# Energy errors, and what the adjusted methods make of them --------------------------------------

ERRORS = {
    "BAOAB": (infer.BAOAB(step_size=0.4, preconditioner=infer.Fixed(VARIANCES)), baoab),
    "OBABO": (infer.OBABO(step_size=0.4, preconditioner=infer.Fixed(VARIANCES)), obabo),
    "KLMC": (infer.KLMC(step_size=0.3, preconditioner=infer.Fixed(VARIANCES)), klmc),
    "ULA": (infer.ULA(step_size=0.1, preconditioner=infer.Fixed(VARIANCES)), proposed),
}


@pytest.mark.parametrize("name", ERRORS)
def test_energy_errors_average_to_one(name, x64):
    """E[exp(-D)] = 1 over exact draws and one step: D is the log ratio of two path densities."""
    algorithm, scheme = ERRORS[name]
    states = started(algorithm, SKEW, skew_draws(20_000))
    keys = jax.random.split(jax.random.key(3), 20_000)
    _, error = schemes(scheme, SKEW, keys, states)
    ratio = np.exp(error if name == "ULA" else -np.asarray(error))
    assert ratio.std() > 0.05  # there is something to average
    assert abs(ratio.mean() - 1) < limit(len(ERRORS)) * ratio.std() / np.sqrt(len(ratio))


def test_an_energy_error_is_a_ratio_of_path_densities(x64):
    """OBABO as MALT uses it: forward and reversed path, by normal densities, one by one."""
    friction, h, sd = 0.7, 0.3, np.sqrt(VARIANCES)
    algorithm = infer.OBABO(step_size=h, friction=friction, preconditioner=infer.Fixed(VARIANCES))
    rng = np.random.default_rng(5)
    state = algorithm.init(jax.random.key(0), SKEW.at(jnp.asarray(skew_draws(1)[0])))
    noise = rng.standard_normal((2, 3))
    after, error = obabo_with((jnp.asarray(noise[0]), jnp.asarray(noise[1])), SKEW, state)

    kept = np.exp(-friction * h / 2)
    rest = np.sqrt(1 - kept**2)

    def score(x):
        return SHAPE - np.exp(x)

    def energy(x):
        return np.sum(SHAPE * x - np.exp(x))

    def halves(v, wanted):
        return norm.logpdf(wanted, kept * v, rest).sum()

    def leapfrog(x, v):
        v = v + 0.5 * h * sd * score(x)
        x = x + h * sd * v
        return x, v + 0.5 * h * sd * score(x)

    x0, v0 = np.asarray(state.position), np.asarray(state.velocity)
    u0 = kept * v0 + rest * noise[0]
    x1, u1 = leapfrog(x0, u0)
    v1 = kept * u1 + rest * noise[1]
    np.testing.assert_allclose(after.position, x1, rtol=1e-12)
    np.testing.assert_allclose(after.velocity, v1, rtol=1e-12)
    back = leapfrog(x1, -u1)  # the reverse path meets the start
    np.testing.assert_allclose(back, (x0, -u0), rtol=1e-10)
    forward = energy(x0) + norm.logpdf(v0).sum() + halves(v0, u0) + halves(u1, v1)
    reverse = energy(x1) + norm.logpdf(-v1).sum() + halves(-v1, -u1) + halves(-u0, -v0)
    np.testing.assert_allclose(error, forward - reverse, rtol=1e-10)


ADJUSTED = {
    "MALT": lambda h: infer.MALT(step_size=h, n_steps=4, friction=0.7),
    "MALA": lambda h: infer.MALA(step_size=h**2 / 2),
    "Barker": lambda h: infer.Barker(step_size=h**2),
}


@pytest.mark.parametrize("name", ADJUSTED)
def test_adjusted_methods_are_reversible_and_exact(name, precision_of_steps):
    """From exact draws x to x': moments stay, and E[f(x) g(x')] = E[g(x) f(x')]."""
    n, h = 20_000, 0.8
    algorithm = eqx.tree_at(lambda a: a.preconditioner, ADJUSTED[name](h), infer.Fixed(VARIANCES))
    x = skew_draws(n)
    states = started(algorithm, SKEW, x)
    after, info = moves(algorithm, SKEW, jax.random.split(jax.random.key(7), n), states)
    y = np.asarray(after.position, np.float64)
    rate = np.asarray(info.stats["acceptance_rate"])
    assert 0.3 < rate.mean() < 0.97 and np.mean((y != x).any(axis=1)) > 0.3

    def statistics(x, y):
        flux = [f(x) * g(y) - g(x) * f(y) for f, g in PAIRS]
        return np.concatenate([y - x, y**2 - x**2, np.exp(y) - np.exp(x), *flux], axis=1)

    found = statistics(x, y)
    z = found.mean(axis=0) / (found.std(axis=0) / np.sqrt(n))
    assert np.abs(z).max() < limit(len(ADJUSTED) * 2 * found.shape[1]), z


PAIRS = [(lambda x: x, np.exp), (lambda x: x, lambda x: x**2), (np.tanh, lambda x: x[:, ::-1] ** 3)]


def test_the_tests_of_exactness_can_fail(x64):
    """The trajectory of MALT without its test: the same statistics see it at once."""
    n = 20_000
    x = skew_draws(n)
    algorithm = infer.OBABO(step_size=0.8, friction=0.7, preconditioner=infer.Fixed(VARIANCES))
    states = started(algorithm, SKEW, x)
    for i in range(4):
        states, _ = schemes(obabo, SKEW, jax.random.split(jax.random.key(i), n), states)
    found = np.exp(np.asarray(states.position)) - np.exp(x)
    assert np.abs(found.mean(axis=0) / (found.std(axis=0) / np.sqrt(n))).max() > 6


@pytest.fixture(params=[pytest.param("float32", marks=pytest.mark.slow), "float64"])
def precision_of_steps(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


# Preconditioners --------------------------------------------------------------------------------

COVARIANCE = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 0.5]])


@eqx.filter_jit
def two_steps(algorithm, key, target, z):
    state = algorithm.init(key, target.at(z))
    for i in range(2):
        state, _ = algorithm.step(jax.random.fold_in(key, i), target, state)
    return state.position


@pytest.mark.parametrize(
    "name", ["TamedULA", "Barker", "KLMC", *slow("ULA", "MALA", "BAOAB", "OBABO", "MALT")]
)
def test_a_preconditioner_is_a_change_of_coordinates(name, x64):
    """One step with M = L L^T is a step without it of the density of y, z = L y."""
    factor = jnp.asarray(np.linalg.cholesky(COVARIANCE))
    inner = infer.from_log_density(lambda y: SKEW.log_prob(factor @ y), jnp.zeros(3))
    y = jnp.asarray([0.3, -0.4, 0.8])
    cls, key = getattr(infer, name), jax.random.key(4)
    outside = two_steps(cls(preconditioner=infer.Fixed(COVARIANCE)), key, SKEW, factor @ y)
    inside = two_steps(cls(**FIXED), key, inner, y)
    assert not np.allclose(inside, y)
    np.testing.assert_allclose(outside, factor @ inside, rtol=1e-9)


def test_a_fixed_preconditioner_stays():
    result = infer.fit(
        SKEW,
        infer.MALA(preconditioner=infer.Fixed(VARIANCES)),
        key=0,
        warmup=200,
        steps=20,
        progress=False,
    )
    tuning = result.trail.carry.states.tuning
    np.testing.assert_allclose(tuning.scale.covariance, np.tile(VARIANCES, (4, 1)), rtol=1e-6)
    assert len(np.unique(tuning.step_size)) == 4  # and the step size was tuned


@pytest.mark.parametrize(
    "given",
    [-1.0, [1.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.0, 1.0]], np.nan, [[1.0]] * 2],
)
def test_what_is_no_covariance(given):
    with pytest.raises(ValueError, match=r"a positive number, positive variances.*np.cov"):
        infer.Fixed(given)


def test_wrong_use_is_refused_before_compilation():
    with pytest.raises(ValueError, match=r"3 unconstrained coordinates.*of shape \(2,\)"):
        infer.fit(SKEW, infer.BAOAB(preconditioner=infer.Fixed([1.0, 2.0])), key=0)
    with pytest.raises(ValueError, match=r"ULA diverges unless step_size < 2 .*got 2.0"):
        infer.ULA(step_size=2.0)
    with pytest.raises(ValueError, match="n_steps >= 1, got 0"):
        infer.MALT(n_steps=0)
    with pytest.raises(ValueError, match="friction must be > 0"):
        infer.KLMC(friction=0.0)


@pytest.mark.parametrize(
    "name", ["MALA", "KLMC", *slow("ULA", "TamedULA", "Barker", "BAOAB", "OBABO")]
)
def test_one_gradient_per_step(name):
    calls = deque()  # a list would be read as data

    def log_density(x):
        calls.append(0)
        return -0.5 * jnp.sum(x**2)

    target = infer.from_log_density(log_density, jnp.zeros(3))
    algorithm = getattr(infer, name)()
    state = algorithm.init(jax.random.key(0), target)
    before = len(calls)
    _, info = algorithm.step(jax.random.key(1), target, state)  # nothing is compiled: one call each
    assert len(calls) == before + 1 and info.gradients == 1


# Steep densities --------------------------------------------------------------------------------

QUARTIC = infer.from_log_density(lambda x: -jnp.sum(x**4) / 4, jnp.zeros(1))


def tamed_variance(e):
    """Of the stationary law of TamedULA on exp(-x^4 / 4), by powers of its transition matrix."""
    x = np.linspace(-4, 4, 801)
    drift = -e * x**3
    mean = x + drift / (1 + np.abs(drift))
    matrix = norm.pdf(x[None], mean[:, None], np.sqrt(2 * e))
    matrix /= matrix.sum(axis=1, keepdims=True)
    for _ in range(16):
        matrix = matrix @ matrix
    return matrix[400] @ x**2


def test_tamed_ula_comes_in_from_far_away():
    tamed = infer.fit(
        QUARTIC,
        infer.TamedULA(step_size=0.05, **FIXED),
        key=0,
        warmup=0,
        steps=3000,
        chains=200,
        init={"x": np.array([10.0])},
        progress=False,
    )
    assert np.isfinite(tamed.z).all() and tamed.z[0, 0] > 5
    square = (tamed.z[:, 500:].astype(float) ** 2).mean(axis=(1, 2))
    error = square.std() / np.sqrt(len(square))
    assert abs(square.mean() - tamed_variance(0.05)) < 3.3 * error
    assert abs(tamed_variance(0.05) - 0.732) < 0.004  # against 0.676 of the density itself
    plain = infer.fit(
        QUARTIC,
        infer.ULA(step_size=0.05, **FIXED),
        key=0,
        warmup=0,
        steps=50,
        init={"x": np.array([10.0])},
        progress=False,
    )
    assert plain.outcome.ending is infer.Ending.NONFINITE
    assert plain.verdict.status == "failed" and "not finite" in str(plain.verdict)


def test_a_steep_wall_does_not_throw_the_chain_off():
    """log-gamma of shape 1/2, whose log density falls like -exp(x): at twice the default aim."""
    wall = infer.from_log_density(lambda x: jnp.sum(0.5 * x - jnp.exp(x)), jnp.zeros(20))
    result = infer.fit(
        wall, infer.BAOAB(energy_error=1e-2), key=0, chains=16, steps=3000, progress=False
    )
    share = result.history["diverging"].mean()
    assert 0 < share < 0.05
    refused = result.verdict["divergences"]
    assert refused.status == ("suspect" if share > 0.01 else "info")
    assert "were refused: the step size is beyond stability" in refused.meaning
    exact = np.log(np.random.default_rng(0).gamma(0.5, size=400_000))
    assert abs(np.log(result.z.std() / exact.std())) < 0.1
    assert abs(result.z.mean() - exact.mean()) / exact.std() < 0.1


# Warm-up ----------------------------------------------------------------------------------------


def test_the_step_size_is_tuned_to_the_energy_error():
    scaled = infer.from_log_density(
        lambda x: -0.5 * jnp.sum((x / jnp.geomspace(0.01, 100, 20)) ** 2), jnp.zeros(20)
    )
    tuned = infer.fit(scaled, infer.BAOAB(), key=0, steps=2000, progress=False)
    assert tuned.verdict.status == "ok", tuned.verdict
    found = tuned.verdict["energy error"].value
    assert 2.5e-3 < found < 1e-2
    np.testing.assert_allclose(tuned.z.var(axis=(0, 1)), np.geomspace(1e-4, 1e4, 20), rtol=0.25)
    kept = infer.fit(
        scaled, infer.BAOAB(step_size=0.25), key=0, warmup=1000, steps=20, progress=False
    )
    assert (kept.history["step_size"] == np.float32(0.25)).all()
    assert np.ptp(kept.trail.carry.states.tuning.scale.covariance) > 1e3  # M was learned


# Trust ------------------------------------------------------------------------------------------


def test_equipartition_has_its_error(x64):
    """Exact draws: 1 within its error. Draws of N(0, 1.3 I) from N(0, I): 1.3."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 4000, 6))
    exact = infer.equipartition(x, -x, independent=True)
    z = np.append((exact.values - 1) / exact.errors, (exact.mean - 1) / exact.mean_error)
    assert np.abs(z).max() < limit(14)
    np.testing.assert_allclose(exact.errors, np.sqrt(2 / 4000), rtol=0.15)
    wide = infer.equipartition(np.sqrt(1.3) * x, -np.sqrt(1.3) * x, independent=True)
    assert np.abs((wide.values - 1.3) / wide.errors).max() < limit(14)
    shifted = infer.equipartition(x + 50, -x, independent=True)
    np.testing.assert_allclose(shifted.values, exact.values, rtol=1e-9)
    with pytest.raises(ValueError, match="same shape|both have shape"):
        infer.equipartition(x, x[:, :-1])


def test_unadjusted_runs_say_what_they_cannot_see():
    result = infer.fit(UNIT, infer.ULA(step_size=0.4), key=0, progress=False)
    seen = result.verdict["equipartition"]
    assert abs(seen.value - 1.25) < 0.05 and "beyond chance" in seen.meaning
    assert "ignores the bias" in result.verdict["R-hat"].meaning
    assert "ignores the bias" in result.verdict["bulk ESS"].meaning
    assert "ignore the bias" in str(result.summary())
    fair = infer.fit(UNIT, infer.BAOAB(step_size=1.0), key=0, progress=False)
    assert "beyond chance" not in fair.verdict["equipartition"].meaning
    adjusted = infer.fit(UNIT, infer.MALA(), key=0, steps=1000, progress=False)
    assert "ignores" not in adjusted.verdict["R-hat"].meaning
    with pytest.raises(KeyError):
        adjusted.verdict["equipartition"]


@pytest.mark.parametrize("name, h", [("OBABO", 0.8), *slow(("ULA", 0.2))])
def test_half_step_bias(name, h):
    """On a Gaussian the bias of the log sd is known: half the log of the variance factor."""
    make, theory = LAWS[name]
    result = infer.fit(UNIT, make(h), key=0, warmup=0, steps=8000, progress=False)
    bias = infer.half_step_bias(result, key=1)
    right = 0.5 * np.log(theory(h))
    z = np.append((bias.log_sd - right) / bias.log_sd_error, bias.mean / bias.mean_error)
    assert np.abs(z).max() < limit(20), bias
    average = bias.log_sd.mean(), bias.log_sd_error.mean() / np.sqrt(5)
    assert abs(average[0] - right) < 3.5 * average[1] < 0.8 * right
    assert bias.gradients == 2 * 4 * 8000 and "sd times" in str(bias)


def test_half_step_bias_refuses():
    adjusted = infer.fit(UNIT, infer.MALA(), key=0, warmup=20, steps=20, progress=False)
    with pytest.raises(TypeError, match="ULA, TamedULA, .* got a run of MALA"):
        infer.half_step_bias(adjusted, key=1)
    short = infer.fit(UNIT, infer.ULA(), key=0, warmup=20, steps=3, progress=False)
    with pytest.raises(ValueError, match="four draws per chain"):
        infer.half_step_bias(short, key=1)


def test_nested_rhat_by_hand():
    x = np.random.default_rng(0).standard_normal((6, 4, 2))
    means = [[x[2 * k + m].mean(axis=0) for m in range(2)] for k in range(3)]
    inner = [x[2 * k : 2 * k + 2].var(axis=1, ddof=1).mean(axis=0) for k in range(3)]
    within = np.mean([np.var(means[k], axis=0, ddof=1) + inner[k] for k in range(3)], axis=0)
    between = np.var([np.mean(means[k], axis=0) for k in range(3)], axis=0, ddof=1)
    np.testing.assert_allclose(infer.nested_rhat(x, 3), np.sqrt(1 + between / within), rtol=1e-12)
    one = infer.nested_rhat(x[:, :1], 3)  # a single draw of each is enough
    assert one.shape == (2,) and np.isfinite(one).all()
    with pytest.raises(ValueError, match="superchains"):
        infer.nested_rhat(x, 4)
    with pytest.raises(ValueError, match="chains_each >= 2"):
        infer.nested_rhat_limit(4, 1)


def test_the_limit_of_nested_rhat_keeps_its_level():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8 * 16, 1, 20_000))
    alarms = np.mean(infer.nested_rhat(x, 8) > infer.nested_rhat_limit(8, 16))
    assert abs(alarms - 0.01) < 4 * np.sqrt(0.01 * 0.99 / 20_000)
    starts = np.repeat(2 * rng.standard_normal((8, 1, 50)), 16, axis=0)
    unforgotten = infer.nested_rhat(0.3 * starts + x[..., :50], 8)
    assert np.median(unforgotten) > infer.nested_rhat_limit(8, 16, coordinates=50)
    assert infer.nested_rhat_limit(1000, 50) < 1.0115 < infer.nested_rhat_limit(1000, 40)
