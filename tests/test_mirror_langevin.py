"""Mirror Langevin: metrics, one step by dense algebra, exactness, biases, refusals."""

from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_mirror import MAPS, TARGETS

import infer
from infer.core.mirror import geometry, primal, primal_score

CHAINS = 64


def slow(*names):
    """Parameters that other ones stand for."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@eqx.filter_jit
def moments(algorithm, target, key, n, burn):
    """Mean of x and x^2 of 64 chains (64, K) from n steps each after `burn`, and acceptance."""

    def chain(key):
        def body(i, carry):
            state, first, second, rate = carry
            state, info = algorithm.step(jax.random.fold_in(key, i), target, state)
            x = target.constrain(algorithm.position(state))["x"]
            on = (i >= burn) / n
            rate += on * info.stats.get("acceptance_rate", jnp.ones(()))
            return state, first + on * x, second + on * x**2, rate

        state = algorithm.init(key, target)
        zero = jnp.zeros_like(target.constrain(algorithm.position(state))["x"])
        return jax.lax.fori_loop(0, burn + n, body, (state, zero, zero, jnp.zeros(())))[1:]

    return jax.vmap(chain)(jax.random.split(key, CHAINS))


def dirichlet(concentration, support):
    a = jnp.asarray(concentration)
    return infer.from_log_density(
        lambda x, a: jnp.sum((a - 1) * jnp.log(x)),
        jnp.ones(len(a)) / len(a),
        supports=support,
        data=a,
    ), dirichlet_moments(np.asarray(a))


def dirichlet_moments(a):
    total = a.sum()
    return a / total, a * (a + 1) / total / (total + 1)


def assert_exact(found, exact, comparisons):
    """Chain means against exact moments, z-limit for so many comparisons at 0.1 % together."""
    z = NormalDist().inv_cdf(1 - 1e-3 / (2 * comparisons))
    for got, wanted in zip(found[:2], exact, strict=True):
        got = np.asarray(got, np.float64)
        error = z * got.std(axis=0, ddof=1) / np.sqrt(CHAINS)
        assert (np.abs(got.mean(axis=0) - wanted) < error).all(), (got.mean(axis=0), wanted, error)
        assert np.median(error / wanted) < 0.1  # or the test could not fail


# Metrics ---------------------------------------------------------------------------------------


ALONE = ("simplex", "ball", "greater", "unit")  # like another map, or the same in the plural


@pytest.mark.parametrize("name", [n for n in MAPS if n not in ALONE] + slow(*ALONE))
def test_roots_squares_and_determinants_of_a_metric(name, x64):
    mirror, shape = MAPS[name]()
    free = mirror.free_shape(shape)
    rng = np.random.default_rng(0)
    u, v = jnp.asarray(rng.standard_normal((2, *free)))
    metric, d = mirror.metric(u), int(np.prod(free))
    eye = jnp.eye(d).reshape(d, *free)
    dense = np.reshape(jax.vmap(metric.times)(eye), (d, d))
    root = np.reshape(jax.vmap(metric.color)(eye), (d, d))
    np.testing.assert_allclose(root.T @ root, np.linalg.inv(dense), rtol=1e-9, atol=1e-9)
    flat = np.ravel(v)
    np.testing.assert_allclose(metric.square(v), flat @ dense @ flat, rtol=1e-10)
    np.testing.assert_allclose(metric.log_det(), np.linalg.slogdet(dense)[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["HyperbolicEntropy", "Hellinger", "Energy"])
def test_legendre_functions_as_mirror_maps(name, x64):
    psi = infer.Hellinger() if name == "Hellinger" else getattr(infer, name)(3.0)
    target = infer.mirrored(
        infer.from_log_density(lambda x: -jnp.sum((x - 0.1) ** 2), jnp.zeros(3)), {"x": psi}
    )
    infer.check_mirror(target.model.supports[0], (3,))
    u = jnp.array([0.3, -1.0, 0.7])
    np.testing.assert_allclose(psi.slope(target.constrain(u)["x"]), u, rtol=1e-12)
    for far in (1e3, -1e15):
        u = jnp.full(3, far, jnp.float32)
        x, log_det = target.model.supports[0].constrain(u)
        assert jnp.isfinite(x).all() and jnp.isfinite(log_det)
        assert (target.model.supports[0].metric(u).a > 0).all()
    with pytest.raises(ValueError, match="slopes cover the real line.*HyperbolicEntropy"):
        infer.mirrored(target, {"x": infer.Burg()})


# One step --------------------------------------------------------------------------------------


@eqx.filter_jit
def first_step(algorithm, key, target):
    return algorithm.step(key, target, algorithm.init(key, target))


@pytest.mark.parametrize("name", ["mirrored", *slow("ball")])
def test_one_step_by_dense_algebra(name, x64):
    """Forces, proposal and acceptance from Jacobians by autodiff, in the primal variable."""
    target = TARGETS[name]()
    key, d = jax.random.key(3), target.dim
    u = 0.4 * jax.random.normal(jax.random.key(1), (d,))

    def dense(u):
        return jax.jacobian(lambda v: primal(target, v))(u)

    def score(u):
        def on_support(v):
            return target.log_prob(v) - jnp.linalg.slogdet(dense(v))[1]

        return jnp.linalg.solve(dense(u).T, jax.grad(on_support)(u))

    dense, score = jax.jit(dense), jax.jit(score)
    log_prob, force = primal_score(target, u)
    np.testing.assert_allclose(log_prob, target.log_prob(u), rtol=1e-12)
    np.testing.assert_allclose(force, score(u), rtol=1e-8, atol=1e-10)

    h, (key_noise, key_accept) = 0.01, jax.random.split(key)
    noise = jax.random.normal(key_noise, (d,))
    v = u + h * score(u) + np.sqrt(2 * h) * geometry(target, u).color(noise)

    def log_q(to, at):  # density in x of the proposal
        hessian = jnp.linalg.inv(dense(at))
        r = to - at - h * score(at)
        gauss = -r @ jnp.linalg.solve(hessian, r) / (4 * h) - jnp.linalg.slogdet(hessian)[1] / 2
        return gauss - jnp.linalg.slogdet(dense(to))[1]

    def log_p(u):  # density in x
        return target.log_prob(u) - jnp.linalg.slogdet(dense(u))[1]

    rate = np.exp(min(0, log_p(v) - log_p(u) + log_q(u, v) - log_q(v, u)))
    algorithm = infer.MirrorMALA(step_size=h)
    after, info = first_step(algorithm, key, target.at(u))
    np.testing.assert_allclose(info.stats["acceptance_rate"], rate, rtol=1e-7)
    taken = jax.random.uniform(key_accept) < rate
    np.testing.assert_allclose(after.position, jnp.where(taken, v, u), rtol=1e-9)

    after, _ = first_step(infer.MirrorLangevin(step_size=h), key, target.at(u))
    noise = jax.random.normal(key, (d,))
    v = u + h * score(u) + np.sqrt(2 * h) * geometry(target, u).color(noise)
    np.testing.assert_allclose(after.position, v, rtol=1e-9)


def test_names_for_ula_and_mala(x64):
    """Mirrored and multiplicative steps, written in their own formulas, are steps of `ULA`."""
    h, key = 0.03, jax.random.key(5)
    noise = jax.random.normal(key, (3,))

    def log_density(x):
        return jnp.sum(1.3 * jnp.log(x) - 2 * x) - x[0] * x[1]

    target = infer.from_log_density(log_density, jnp.ones(3), supports=infer.positive)
    u = jnp.array([0.2, -0.7, 0.5])
    x = jnp.exp(u)
    algorithm = infer.MultiplicativeLangevin(step_size=h)
    state, _ = algorithm.step(key, target, algorithm.init(key, target.at(u)))
    step = h * (x * jax.grad(log_density)(x) + 1) + np.sqrt(2 * h) * noise
    np.testing.assert_allclose(jnp.exp(state.position), x * jnp.exp(step), rtol=1e-12)

    box = infer.mirrored(target, {"x": infer.LogBarrierBox(0.0, 9.0)})
    v = box.unconstrain({"x": x})
    algorithm = infer.MirroredLangevin(step_size=h)
    state, _ = algorithm.step(key, box, algorithm.init(key, box.at(v)))
    np.testing.assert_allclose(
        state.position, v + h * jax.grad(box.log_prob)(v) + np.sqrt(2 * h) * noise, rtol=1e-12
    )
    assert type(infer.MultiplicativeLangevin(adjusted=True)) is infer.MALA


# Exactness and bias ----------------------------------------------------------------------------

CASES = {  # concentration, support, step size
    "even, d = 2": ([4.0, 4.0, 4.0], infer.LogBarrierSimplex(), 0.1),
    "uneven, d = 2": ([0.7, 2.0, 6.0], infer.EntropicSimplex(), 0.08),
    "even, d = 10": ([2.0] * 11, infer.LogBarrierSimplex(), 0.03),
    "uneven, d = 10": (list(np.linspace(0.5, 5.5, 11)), infer.LogBarrierSimplex(), 0.03),
}
COMPARISONS = 2 * (3 + 3 + 11 + 11)


@pytest.mark.parametrize(
    "name", ["even, d = 2", "uneven, d = 10", *slow("uneven, d = 2", "even, d = 10")]
)
def test_adjusted_mirror_langevin_is_exact(name):
    concentration, support, h = CASES[name]
    target, exact = dirichlet(concentration, support)
    found = moments(infer.MirrorMALA(step_size=h), target, jax.random.key(20), 4000, 400)
    assert 0.3 < found[2].mean() < 0.9
    assert_exact(found, exact, COMPARISONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_adjusted_mirror_langevin_is_exact_to_a_thousandth(name, x64):
    """6.4 million draws each."""
    concentration, support, h = CASES[name]
    target, exact = dirichlet(concentration, support)
    found = moments(infer.MirrorMALA(step_size=h), target, jax.random.key(21), 100_000, 2000)
    assert_exact(found, exact, COMPARISONS)
    errors = [
        np.abs(np.mean(m, axis=0) / e - 1).max() for m, e in zip(found[:2], exact, strict=True)
    ]
    assert max(errors) < 0.03


def test_bias_of_mirror_langevin():
    """Variances 5 % and 29 % too large at h = 0.02 and 0.08; adjusted, acceptance .863 and .731."""
    target, (mean, second) = dirichlet([4.0, 4.0, 4.0], infer.LogBarrierSimplex())
    for h, bias, acceptance in ((0.02, 1.05, 0.863), (0.08, 1.29, 0.731)):
        x, square, _ = moments(
            infer.MirrorLangevin(step_size=h), target, jax.random.key(7), 6000, 300
        )
        ratio = np.mean((square - 2 * mean * x + mean**2) / (second - mean**2), axis=1)
        assert abs(ratio.mean() - bias) < 0.005 + 3.5 * ratio.std() / 8
        assert ratio.std() / 8 < 0.01
        rate = moments(infer.MirrorMALA(step_size=h), target, jax.random.key(7), 1000, 300)[2]
        assert abs(rate.mean() - acceptance) < 0.0005 + 3.5 * rate.std() / 8


@pytest.mark.parametrize("name", ["gamma", *slow("lognormal")])
def test_multiplicative_langevin_is_exact_when_adjusted(name):
    density, exact = {
        "gamma": (lambda x: jnp.sum(1.5 * jnp.log(x) - 2 * x), (2.5 / 2, 2.5 * 3.5 / 4)),
        "lognormal": (
            lambda x: -jnp.sum((jnp.log(x) - 0.3) ** 2 / (2 * 0.4**2) + jnp.log(x)),
            (np.exp(0.3 + 0.08), np.exp(0.6 + 0.32)),
        ),
    }[name]
    target = infer.from_log_density(density, jnp.ones(2), supports=infer.positive)
    algorithm = infer.MultiplicativeLangevin(
        step_size={"gamma": 0.4, "lognormal": 0.1}[name], adjusted=True
    )
    found = moments(algorithm, target, jax.random.key(8), 4000, 400)
    assert_exact(found, [np.full(2, e) for e in exact], 8)
    if name == "gamma":  # unadjusted it is not: the test can see a bias
        found = moments(
            infer.MultiplicativeLangevin(step_size=0.4), target, jax.random.key(8), 4000, 400
        )
        with pytest.raises(AssertionError):
            assert_exact(found, [np.full(2, e) for e in exact], 8)


def test_step_size_is_tuned_to_an_acceptance():
    target, exact = dirichlet([1.0, 2.0, 3.0], infer.EntropicSimplex())
    result = infer.fit(
        target, infer.MirrorMALA(step_size=3.0, acceptance=0.7), key=0, progress=False
    )
    assert result.verdict.status == "ok", result.verdict
    rate = np.mean(np.asarray(result.history["acceptance_rate"]))
    assert abs(rate - 0.7) < 0.05
    np.testing.assert_allclose(result["x"].mean(axis=(0, 1)), exact[0], atol=0.02)


# Extremes and refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["EntropicSimplex", *slow("LogBarrierSimplex")])
def test_finite_far_out_in_float32(name):
    """From the edge of a simplex, with steps far too long: every state stays finite."""
    target, _ = dirichlet([0.3, 4.0, 40.0], getattr(infer, name)())
    for u in ([60.0, -60.0], [-1e6, 1e6], [1e-9, -1e-9]):
        for h in (1e-3, 1.0, 1e3):
            for algorithm in (infer.MirrorLangevin(step_size=h), infer.MirrorMALA(step_size=h)):
                start = target.at(jnp.asarray(u))
                first, second, _ = moments(algorithm, start, jax.random.key(0), 100, 0)
                assert jnp.isfinite(first).all() and jnp.isfinite(second).all()


def test_refusals(unchecked):
    sticks = infer.from_log_density(
        lambda x: jnp.sum(jnp.log(x)), jnp.ones(3) / 3, supports=infer.simplex
    )
    for name in ("MirrorLangevin", "MirrorMALA", "BregmanProximalLangevin"):
        with pytest.raises(
            ValueError, match=rf"{name} needs a mirror map.*infer.mirrored.*MY|MALA"
        ):
            infer.fit(sticks, getattr(infer, name)(), key=0, progress=False)
    with pytest.raises(ValueError, match=r"does not lie in its support"):
        edge = infer.mirrored(sticks)
        infer.fit(edge, infer.MirrorMALA(), key=0, init={"x": jnp.array([-1.0, 1.0, 1.0])})
    with pytest.raises(ValueError, match="step_size must be > 0"):
        infer.MirrorLangevin(step_size=0.0)
    with pytest.raises(ValueError, match="acceptance must lie in"):
        infer.MirrorMALA(acceptance=1.0)
    with pytest.raises(ValueError, match=r"step_size < 2"):
        infer.MirroredLangevin(step_size=2.5)
