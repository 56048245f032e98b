"""Targets seen through a fitted map, and jumps to draws of a fitted distribution."""

from collections import deque
from statistics import NormalDist
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.bridges.neutra import transport_of
from infer.core.algorithm import AbstractSampler
from infer.core.target import unravel
from infer.diagnostics.chains import ess_mean
from infer.families.bent import BentGaussian
from infer.families.gaussian import CholeskyGaussian, DenseGaussian, DiagonalGaussian
from infer.families.low_rank import LowRankGaussian
from infer.families.mixture import MixtureDistribution
from infer.langevin.independence import check_local
from infer.starts import starting_points

D = 4


def limit(comparisons, level=1e-3):
    """Standard errors that one of so many normal numbers exceeds with this probability."""
    return NormalDist().inv_cdf(1 - level / (2 * comparisons))


def noisy(tree, seed, scale=0.3):
    """The tree with noise on every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(
        structure, [x + jnp.asarray(scale * rng.standard_normal(x.shape), x.dtype) for x in leaves]
    )


def distribution(name):
    """An off-center, correlated distribution on R^4, in the present precision."""
    rng = np.random.default_rng(3)
    mean, a = jnp.asarray([1.0, -2.0, 0.5, 3.0]), jnp.asarray(rng.standard_normal((D, D)))
    scale = jnp.asarray([0.5, 1.0, 2.0, 0.7])
    basis = jnp.asarray(np.linalg.qr(rng.standard_normal((D, 2)))[0])
    core = jnp.asarray([[1.5, 0.0], [-0.4, 0.6]])
    start = jnp.zeros(D) + 0.5
    return {
        "diagonal": lambda: DiagonalGaussian(mean, jnp.log(scale)),
        "cholesky": lambda: CholeskyGaussian(mean, a, jnp.log(scale)),
        "dense": lambda: DenseGaussian(mean, a),
        "low rank": lambda: LowRankGaussian(mean, jnp.log(scale), a[:, :2]),
        "bent": lambda: BentGaussian(mean, scale, basis, core),
        "RealNVP": lambda: noisy(
            infer.RealNVP(n_layers=2, width=4, linear=True).init(jax.random.key(0), start), 1
        ),
        "SplineFlow": lambda: noisy(
            infer.SplineFlow(n_layers=2, width=4).init(jax.random.key(0), start), 1
        ),
    }[name]()


def log_likelihood(params, rows):
    a, b = params["a"], params["b"]
    return -0.5 * (rows - b[0] - a[1] * b[1]) ** 2 / a[0] - 0.5 * jnp.log(a[0])


def log_prior(params):
    a, b = params["a"], params["b"]
    return -jnp.sum(a) + jnp.log(a[1]) - 0.5 * jnp.sum(b**2) + 0.3 * b[0] * b[1]


def two_sites(**options):
    """Two positive and two real coordinates, 12 rows of data."""
    example = {"a": jnp.ones(2), "b": jnp.zeros(2)}
    return infer.from_log_density(
        example=example,
        log_prior=log_prior,
        log_likelihood=log_likelihood,
        data=jnp.asarray(np.linspace(-1, 3, 12)),
        supports={"a": infer.positive},
        **options,
    )


@eqx.filter_jit
def look(target, z):
    """Log density, values by name, and the way back."""
    values = target.constrain(z)
    return target.log_prob(z), values, target.unconstrain(values)


@eqx.filter_jit
def scored(target, z):
    return target.value_and_score(z)


@eqx.filter_jit
def moved_by(layer, z):
    """T(z), its log determinant and its Jacobian."""
    (x, log_det), jacobian = layer.forward(z), jax.jacfwd(lambda z: layer.forward(z)[0])(z)
    return x, log_det, jacobian


@eqx.filter_jit
def density_of(q, x):
    return q.log_prob(x)


Z = np.array([0.3, -1.1, 0.8, -0.2])
NAMES = ["diagonal", "cholesky", "dense", "low rank", "bent", "RealNVP"]
NAMES += [pytest.param("SplineFlow", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", NAMES)
def test_the_density_is_that_of_the_noise(name, x64):
    """log p(T(z)) + log N(z) - log q(T(z)), q's own density in place of the Jacobian."""
    q, target, z = distribution(name), two_sites(), jnp.asarray(Z)
    through = infer.neutra(target, q)
    value, values, back = look(through, z)
    x = jnp.concatenate([jnp.log(values["a"]), values["b"]])
    inside, score = scored(target, x)
    log_q = density_of(q, x)
    expected = inside - 0.5 * z @ z - D / 2 * np.log(2 * np.pi) - log_q
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    np.testing.assert_allclose(back, z, rtol=1e-9)
    there, log_det, jacobian = moved_by(transport_of(q), z)
    np.testing.assert_allclose(there, x, rtol=1e-12)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-9)
    if q.moments() is not None:
        np.testing.assert_allclose(jacobian @ jacobian.T, q.covariance, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(transport_of(q).forward(0 * z)[0], q.mean, rtol=1e-12)
        np.testing.assert_allclose(scored(through, z)[1], jacobian.T @ score, rtol=1e-9)


def test_the_right_distribution_leaves_standard_normal_noise(x64):
    q = distribution("RealNVP")
    target = infer.neutra(infer.from_log_density(q.log_prob, jnp.zeros(D)), q)
    value, score = scored(target, jnp.asarray(Z))
    np.testing.assert_allclose(value, -0.5 * Z @ Z - D / 2 * np.log(2 * np.pi), rtol=1e-9)
    np.testing.assert_allclose(score, -Z, rtol=1e-7)


def test_everything_by_name_is_that_of_the_model(x64):
    q, target, z = distribution("RealNVP"), two_sites(), jnp.asarray(Z)
    through = infer.neutra(target.at(jnp.ones(D)), q)
    x = transport_of(q).forward(z)[0]
    rows = through.log_likelihood(z)["log_likelihood"]
    np.testing.assert_allclose(rows, target.log_likelihood(x)["log_likelihood"], rtol=1e-12)
    terms, plain = through.log_terms(z), target.log_terms(x)
    assert set(terms) == set(plain) | {"log_det_map"}
    assert all(np.allclose(terms[k], plain[k], rtol=1e-12) for k in plain)
    np.testing.assert_allclose(transport_of(q).forward(through.start)[0], np.ones(D), rtol=1e-9)
    free = unravel(target.sites, x)
    values = target.model.constrain(free)
    density = sum(through.model.density_terms(values, 1.0).values())
    np.testing.assert_allclose(density, target.log_prob(x) - jnp.sum(x[:2]), rtol=1e-12)


def test_deterministic_sites_and_predictions(x64):
    numpyro = pytest.importorskip("numpyro")
    dist = numpyro.distributions

    def model(y=None):
        s = numpyro.sample("s", dist.Gamma(3.0, 1.0))
        m = numpyro.sample("m", dist.Normal(0.0, s).expand((3,)).to_event(1))
        numpyro.deterministic("ratio", m / s)
        numpyro.sample("y", dist.Normal(jnp.sum(m), s), obs=y)

    target = infer.from_numpyro(model, y=jnp.asarray(1.5))
    q, z = distribution("dense"), jnp.asarray(Z)
    through, x = infer.neutra(target, q), q.mean + q.factor @ z
    # mean + factor z is another map of the same law; its point is found again from the values.
    again = through.constrain(through.unconstrain(target.constrain(x)))
    for name, value in target.constrain(x).items():
        np.testing.assert_allclose(again[name], value, rtol=1e-9)
    np.testing.assert_allclose(again["ratio"], again["m"] / again["s"], rtol=1e-12)
    noise, key = through.unconstrain(target.constrain(x)), jax.random.key(1)
    drawn = through.model.predict(key, through.unravel(noise), (), {})
    expected = target.model.predict(key, target.unravel(x), (), {})
    np.testing.assert_allclose(drawn["y"], expected["y"], rtol=1e-9)


def test_minibatches_go_through_the_map():
    q, key = distribution("cholesky"), jax.random.key(4)
    target = two_sites(batch_size=5)
    through = infer.neutra(target, q)
    z = jnp.asarray(Z, jnp.float32)
    x, log_det = transport_of(q).forward(z)
    value = through.subsample(key).log_prob(z)
    np.testing.assert_allclose(value, target.subsample(key).log_prob(x) + log_det, rtol=1e-5)
    assert abs(value - through.full().log_prob(z)) > 0.1
    with pytest.raises(ValueError, match=r"MALA needs .*batch_size=5.*target\.full\(\)"):
        infer.fit(through, infer.MALA(), key=0)


@pytest.mark.slow
def test_sampling_saving_and_resuming(tmp_path):
    """A Gaussian through a flow that does not fit it; and the files of such a run."""
    mean, spread = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.5, 1.0, 2.0, 0.7])

    def log_density(x, at):
        u = (x - at["mean"]) / at["spread"]
        return -0.5 * (u[0] ** 2 + u[1] ** 2 + (u[2] - u[1]) ** 2 + u[3] ** 2)

    target = infer.from_log_density(
        log_density, jnp.zeros(D), data={"mean": mean, "spread": spread}
    )
    q = noisy(infer.RealNVP(n_layers=2, width=4, scale=1.5).init(jax.random.key(0), jnp.ones(D)), 1)
    through = infer.neutra(target, q)
    algorithm, options = infer.MALA(), {"key": 1, "warmup": 500, "progress": False}
    path = tmp_path / "run"
    result = infer.fit(through, algorithm, steps=4000, **options)
    assert result.verdict.status == "ok", result.verdict
    u = (result["x"] - mean) / spread
    series = np.stack([*np.moveaxis(u, -1, 0), u[..., 1] * u[..., 2], u[..., 2] ** 2], axis=-1)
    truth = np.array([0.0, 0, 0, 0, 1, 2])
    error = series.std(axis=(0, 1)) / np.sqrt(ess_mean(series.astype(np.float64)))
    assert (np.abs(series.mean(axis=(0, 1)) - truth) < limit(6) * error).all()
    assert np.abs(result.z - result["x"]).max() > 1  # z is something else than x

    half = infer.fit(through, algorithm, steps=100, checkpoint=path, **options)
    whole = infer.fit(through, algorithm, steps=200, resume=path, **options)
    np.testing.assert_array_equal(whole["x"], result["x"][:, :200])
    half.save(path)
    loaded = infer.load(path, through, algorithm)
    np.testing.assert_array_equal(loaded["x"], half["x"])
    with pytest.raises(ValueError, match="another posterior"):
        infer.load(path, infer.neutra(target, noisy(q, 2)), algorithm)
    with pytest.raises(ValueError, match="another posterior"):
        infer.load(path, target, algorithm)

    # Starts by name, and draws of the same sites in other coordinates.
    init = {"x": np.arange(16.0).reshape(4, D) / 10}
    starts = starting_points(through, jax.random.key(0), 4, init)
    there = jax.jit(jax.vmap(lambda z: transport_of(q).forward(z)[0]))
    np.testing.assert_allclose(there(starts), init["x"], atol=1e-5)
    starts = starting_points(target, jax.random.key(0), 4, half)
    np.testing.assert_allclose(starts, half["x"][:, -1], atol=1e-5)
    starts = starting_points(through, jax.random.key(0), 4, half)
    np.testing.assert_array_equal(starts, half.z[:, -1])


def test_another_map_compiles_nothing():
    traces = deque()  # a list would be read as data

    def log_density(x):
        traces.append(0)
        return -0.5 * x @ x

    target, q = infer.from_log_density(log_density, jnp.zeros(D)), distribution("RealNVP")
    look(infer.neutra(target, q), jnp.ones(D))
    before = len(traces)
    look(infer.neutra(target, noisy(q, 5)), jnp.ones(D))
    assert len(traces) == before


def test_what_neutra_refuses():
    target = two_sites()
    with pytest.raises(TypeError, match=r"got Particles; write infer\.neutra\(target, result"):
        infer.neutra(target, infer.Particles(jnp.zeros((5, D))))
    with pytest.raises(TypeError, match="got MixtureDistribution"):
        infer.neutra(target, mixture(np.zeros((2, D)), np.ones((2, D)), 0.3))
    with pytest.raises(ValueError, match="in 3 dimensions, the target has 4"):
        infer.neutra(target, DiagonalGaussian(jnp.zeros(3), jnp.zeros(3)))
    lasso = infer.Composite(target, {"b": infer.L1(1.0)})
    with pytest.raises(ValueError, match="nonsmooth"):
        infer.neutra(lasso, distribution("dense"))
    through = infer.neutra(target, distribution("dense"))
    with pytest.raises(ValueError, match=r"infer\.neutra\(infer\.mirrored\(target\), q\)"):
        infer.mirrored(through)
    with pytest.raises(ValueError, match="MirrorMALA needs mirror maps"):
        infer.fit(through, infer.MirrorMALA(), key=0)
    rows = two_sites(batch_size=5)
    control = infer.control_variates(rows, {"a": jnp.ones(2), "b": jnp.zeros(2)})
    with pytest.raises(ValueError, match=r"infer\.control_variates\(infer\.neutra"):
        infer.neutra(control, distribution("dense"))


# Jumps ----------------------------------------------------------------------------------------


def mixture(means, scales, share):
    """Two diagonal Gaussians: what a fit that found two modes would be."""
    parts = (means, np.log(scales), np.log([share, 1 - share]))
    mean, log_scale, logits = (jnp.asarray(x, jnp.float32) for x in parts)
    return MixtureDistribution(jax.vmap(DiagonalGaussian)(mean, log_scale), logits)


MEANS = np.array([[-4.5, 0.0], [4.5, 2.0]])
SCALES = np.array([[0.8, 1.0], [1.0, 0.7]])
P = mixture(MEANS, SCALES, 0.3)
# Wider, elsewhere, and with the shares the other way round.
Q = mixture(MEANS + 0.3, 1.4 * SCALES, 0.6)


@eqx.filter_jit
def trace(algorithm, target, start, warmup, n):
    """Positions and acceptance of n steps after the warm-up, of 500 chains from one point."""

    def one(key):
        def warm(i, state):
            return algorithm.adapt(jax.random.fold_in(key, i), target, state, i, warmup)[0]

        def body(state, i):
            state, info = algorithm.step(jax.random.fold_in(key, warmup + i), target, state)
            return state, (algorithm.position(state), info.stats["global_acceptance"])

        state = algorithm.init(key, target.at(start))
        state = jax.lax.fori_loop(0, warmup, warm, state)
        return jax.lax.scan(body, state, jnp.arange(n))[1]

    return jax.vmap(one)(jax.random.split(jax.random.key(5), 500))


def off_two_modes(x):
    """Share, spread and place of the modes less what is right; the last axis has coordinates."""
    lower, first, second = (x[..., 0] < 0).astype(float), x[..., 0], x[..., 1]
    found = np.stack([lower, lower * (first + 4.5) ** 2, (1 - lower) * second, second], axis=-1)
    return found - np.array([0.3, 0.3 * 0.8**2, 0.7 * 2, 0.7 * 2])


def test_jumps_give_two_modes_their_weights():
    """All chains start in the lower mode: local moves leave them there, jumps do not."""
    target, start = infer.from_log_density(P.log_prob, jnp.zeros(2)), jnp.asarray(MEANS[0])
    start = start.astype(jnp.float32)
    nowhere = infer.IndependenceSampler(mixture(MEANS + 1e3, SCALES, 0.6), n_local=2)
    x, rate = trace(nowhere, target, start, jnp.asarray(0), 50)
    assert (x[..., 0] < 0).all() and rate.max() < 1e-9
    x, rate = trace(infer.IndependenceSampler(Q, n_local=2), target, start, jnp.asarray(200), 50)
    off = off_two_modes(np.asarray(x, np.float64)).mean(axis=1)
    assert (np.abs(off.mean(axis=0)) < limit(4) * off.std(axis=0) / np.sqrt(len(off))).all()
    assert off.std(axis=0)[0] / np.sqrt(len(off)) < 0.01 and rate.mean() > 0.3


@pytest.mark.slow
def test_the_verdict_on_jumps():
    """R-hat and effective size see chains that cross, the scores cannot weigh far modes."""
    target, start = infer.from_log_density(P.log_prob, jnp.zeros(2)), np.float32(MEANS[0])
    options = {"chains": 8, "warmup": 400, "steps": 4000, "init": {"x": start}, "progress": False}
    result = infer.fit(target, infer.IndependenceSampler(Q, n_local=2), key=2, **options)
    assert result.verdict.status != "failed", result.verdict
    names = {e.name: e.status for e in result.verdict.evidence}
    assert names["R-hat"] == names["bulk ESS"] == "ok"
    off = off_two_modes(result["x"].astype(np.float64))
    error = off.std(axis=(0, 1)) / np.sqrt(ess_mean(off))
    assert (np.abs(off.mean(axis=(0, 1))) < limit(4) * error).all()
    assert set(result.history) >= {"acceptance_rate", "global_acceptance", "step_size"}
    assert result.trail.gradients == 8 * 4400 * 3


def skewed(x):
    """A Gumbel density, less its constant, and one that depends on it."""
    return -x[0] - jnp.exp(-x[0]) - 0.5 * (x[1] - 0.5 * x[0]) ** 2 / 0.3


@eqx.filter_jit
def many(algorithm, target, starts, steps):
    """Chains from these points: last positions, mean statistics."""

    def one(key, z):
        state = algorithm.init(key, target.at(z))

        def body(i, loop):
            state, total = loop
            state, info = algorithm.step(jax.random.fold_in(key, i), target, state)
            return state, total + info.stats["global_acceptance"]

        state, total = jax.lax.fori_loop(0, steps, body, (state, jnp.zeros(())))
        return algorithm.position(state), total / steps

    return jax.vmap(one)(jax.random.split(jax.random.key(8), len(starts)), starts)


@pytest.mark.parametrize(
    "n_global, local",
    [(3, infer.MALA(step_size=0.3)), pytest.param(1, None, marks=pytest.mark.slow)],
)
def test_stationary_and_acceptance_by_quadrature(n_global, local):
    """From exact draws to exact ones; acceptance E min(1, w' / w) by integrals of the weights."""
    n, rng = 20_000, np.random.default_rng(0)
    first = -np.log(-np.log(rng.uniform(size=n)))
    starts = np.stack([first, 0.5 * first + np.sqrt(0.3) * rng.standard_normal(n)], axis=1)
    mean, scale = np.array([0.8, 0.1]), np.array([1.6, 1.2])
    q = DiagonalGaussian(*(jnp.asarray(x, jnp.float32) for x in (mean, np.log(scale))))
    target = infer.from_log_density(skewed, jnp.zeros(2))
    algorithm = infer.IndependenceSampler(q, local=local, n_local=2, n_global=n_global)
    ends, rates = many(algorithm, target, jnp.asarray(starts, jnp.float32), jnp.asarray(4))
    ends, rates = np.asarray(ends, np.float64), np.asarray(rates, np.float64)

    gamma, zeta = np.euler_gamma, np.pi**2 / 6
    u, r = ends[:, 0], ends[:, 1] - 0.5 * ends[:, 0]
    series = np.stack([u - gamma, (u - gamma) ** 2 - zeta, r, r**2 - 0.3, np.exp(-u) - 1, u * r])
    assert (np.abs(series.mean(axis=1)) < limit(4 * 7) * series.std(axis=1) / np.sqrt(n)).all()
    assert (ends != starts.astype(np.float32)).any(axis=1).mean() > 0.8

    # Under p the weight has the law p(w <= t), under q that of q(w <= t): on a grid.
    a, b = np.meshgrid(np.linspace(-5, 20, 1500), np.linspace(-9, 14, 1500), indexing="ij")
    log_p = -a - np.exp(-a) - 0.5 * (b - 0.5 * a) ** 2 / 0.3
    log_q = -0.5 * ((a - mean[0]) / scale[0]) ** 2 - 0.5 * ((b - mean[1]) / scale[1]) ** 2
    p, q, log_w = (x.ravel() for x in (np.exp(log_p), np.exp(log_q), log_p - log_q))
    order = np.argsort(log_w)
    p, q, log_w = p[order] / p.sum(), q[order] / q.sum(), log_w[order]
    # E min(1, w'/w) = P(w' >= w) + E[w' / w; w' < w] = 2 P(w' >= w) without ties.
    expected = 2 * np.sum(p * (1 - np.cumsum(q) + q / 2))
    assert abs(rates.mean() - expected) < limit(4 * 7) * rates.std() / np.sqrt(n) + 1e-3
    assert 0.3 < expected < 0.9


LOCALS = {
    "MALA": infer.MALA(),
    "MALT": infer.MALT(n_steps=2),
    "NUTS": infer.NUTS(max_doublings=3),
    "GHMC": infer.GHMC(),
    "SliceSampling": infer.SliceSampling(moves=1),
    "EllipticalSlice": infer.EllipticalSlice(),
    "ParallelTempering": infer.ParallelTempering(n_temperatures=3, n_steps=1),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "MALA" else pytest.mark.slow) for n in LOCALS]
)
def test_a_jump_takes_the_local_sampler_along(name):
    """Its state says what the target says at the new place; what it learned is kept."""
    algorithm = infer.IndependenceSampler(P, local=LOCALS[name], n_local=1)
    target = infer.from_log_density(P.log_prob, jnp.zeros(2))

    @eqx.filter_jit
    def run(key):
        state = algorithm.init(key, target)
        warm = algorithm.adapt(key, target, state, jnp.asarray(30), jnp.asarray(200))[0]
        after, info = algorithm.step(jax.random.fold_in(key, 1), target, warm)
        again = algorithm.local.step(key, target, after.local)[1]
        return warm, after, info, again, target.log_prob(after.position)

    warm, after, info, again, log_prob = run(jax.random.key(3))
    assert info.stats["global_acceptance"] > 0.99  # the proposal is the target
    np.testing.assert_array_equal(algorithm.local.position(after.local), after.position)
    np.testing.assert_allclose(-info.loss, log_prob, rtol=1e-5)
    np.testing.assert_allclose(after.log_weight, 0, atol=1e-4)
    assert not np.allclose(after.position, warm.position)
    assert eqx.tree_equal(after.local.tuning, warm.local.tuning)
    assert np.isfinite(again.loss)
    if name in ("MALA", "MALT"):
        np.testing.assert_allclose(after.local.log_prob, log_prob, rtol=1e-5)
        score = jax.grad(target.log_prob)(after.position)
        np.testing.assert_allclose(after.local.score, score, rtol=1e-4)
    if name in ("NUTS", "GHMC"):
        np.testing.assert_allclose(after.local.inner.logdensity, log_prob, rtol=1e-5)
    if name == "GHMC":
        other = infer.GHMC().moved(jax.random.key(9), target, warm.local, jnp.ones(2))
        np.testing.assert_array_equal(other.inner.momentum, warm.local.inner.momentum)


def test_jumps_alone_leave_a_far_start():
    """Where q has no mass the start has a huge weight: warm-up takes proposals all the same."""
    target = infer.from_log_density(skewed, jnp.zeros(2))
    q = DiagonalGaussian(jnp.asarray([0.8, 0.1]), jnp.log(jnp.asarray([2.0, 1.6])))
    algorithm, start = infer.IndependenceSampler(q, local=None), jnp.asarray([20.0, 10.0])
    x, rate = trace(algorithm, target, start, jnp.asarray(0), 20)
    assert (x == start).all() and rate.max() < 1e-9
    x, rate = trace(algorithm, target, start, jnp.asarray(100), 20)
    x = np.asarray(x, np.float64)
    means = x[..., 0].mean(axis=1) - np.euler_gamma
    assert abs(means.mean()) < limit(2) * means.std() / np.sqrt(500) and rate.mean() > 0.1


def test_proposals_outside_the_domain_are_refused():
    def log_density(x):
        return jnp.where(x[0] > 0, -0.5 * x @ x, jnp.nan)

    target = infer.from_log_density(log_density, jnp.ones(2))
    algorithm = infer.IndependenceSampler(scale=1.0, local=None, n_global=2)
    x, rate = (
        np.asarray(a, np.float64)
        for a in trace(algorithm, target, jnp.ones(2), jnp.asarray(100), 20)
    )
    assert (x[..., 0] > 0).all()
    series = [x[..., 0].mean(axis=1) - np.sqrt(2 / np.pi), x[..., 1].mean(axis=1)]
    series = np.stack([*series, rate.mean(axis=1) - 0.5])
    assert (np.abs(series.mean(axis=1)) < limit(3) * series.std(axis=1) / np.sqrt(500)).all()


def test_what_the_independence_sampler_refuses():
    with pytest.raises(ValueError, match=r"local=ULA.*bias would stay.*local=infer\.MALA\(\)"):
        infer.IndependenceSampler(local=infer.ULA())
    with pytest.raises(TypeError, match="a sampler as an object"):
        check_local(infer.MALA)
    with pytest.raises(ValueError, match="n_global"):
        infer.IndependenceSampler(n_global=0)
    target = infer.from_log_density(skewed, jnp.zeros(2))
    with pytest.raises(ValueError, match="in 4 dimensions, the target has 2"):
        infer.fit(target, infer.IndependenceSampler(distribution("diagonal")), key=0)
    inner = infer.IndependenceSampler(local=infer.MirrorMALA())
    simplex = infer.from_log_density(
        lambda x: jnp.sum(jnp.log(x)), jnp.ones(3) / 3, supports=infer.simplex
    )
    with pytest.raises(ValueError, match="mirror map"):
        infer.fit(simplex, inner, key=0)


class Still(AbstractSampler):
    """A sampler that does not move and keeps no tuning."""

    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    default_warmup: ClassVar[int] = 0
    default_steps: ClassVar[int] = 1

    def init(self, key, target):
        return target.initial(key)

    def step(self, key, target, state):
        return state, infer.Info(-target.log_prob(state), jnp.asarray(0), {})

    def adapt(self, key, target, state, i, n):
        return self.step(key, target, state)

    def position(self, state):
        return state


def test_a_sampler_that_cannot_be_moved_is_refused():
    target = infer.from_log_density(skewed, jnp.zeros(2))
    with pytest.raises(TypeError, match=r"local=Still elsewhere.*Still\.moved\(key, target, state"):
        infer.fit(target, infer.IndependenceSampler(local=Still()), key=0)


def test_a_mixture_of_moves_on_noise_is_the_same_chain_law():
    """On `neutra` the reference is N(0, I): w is the same, without the inverse of the map."""
    q = distribution("cholesky")
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum((x - 1) ** 2), jnp.zeros(D))
    through = infer.neutra(target, q)
    z = jnp.asarray(Z, jnp.float32)
    noise = infer.IndependenceSampler(scale=1.0).init(jax.random.key(0), through.at(z))
    x = transport_of(q).forward(z)[0]
    plain = infer.IndependenceSampler(q).init(jax.random.key(0), target.at(x))
    np.testing.assert_allclose(noise.log_weight, plain.log_weight, rtol=1e-5)
