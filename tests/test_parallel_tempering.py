"""Parallel tempering against closed forms of Gaussian paths, enumeration and known modes."""

import itertools
import math
from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infer
from infer.diagnostics.chains import ess_mean
from infer.families.gaussian import CholeskyGaussian, DiagonalGaussian
from infer.families.reference import check_reference
from infer.langevin.tempering import equal_shares, swap_rates, swapped

K, ENSEMBLES = 8, 48
MEAN = np.array([1.0, -2.0])
COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])
REFERENCE_COVARIANCE = np.array([[4.0, -1.0], [-1.0, 3.0]])


def limit(comparisons, level=1e-3):
    """Standard errors that one of so many normal numbers exceeds with this probability."""
    return NormalDist().inv_cdf(1 - level / (2 * comparisons))


def log_density(x, data):
    u = data["whiten"] @ (x - data["mean"])
    return jnp.where(x[0] < data["edge"], jnp.nan, -0.5 * u @ u)


def gaussian(mean, covariance, edge=-np.inf):
    """N(mean, covariance) without its constant, and a hole where x[0] is below the edge."""
    whiten = np.linalg.cholesky(np.linalg.inv(covariance)).T
    data = {"whiten": whiten, "mean": mean, "edge": edge}
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), data)
    return infer.from_log_density(log_density, jnp.zeros(2), data=data)


def tempering(mean, covariance, **options):
    """The sampler with this Gaussian as its reference."""
    factor = np.linalg.cholesky(covariance)
    parts = (mean, np.tril(factor, -1), np.log(np.diag(factor)))
    q0 = CholeskyGaussian(*(jnp.asarray(part, jnp.float32) for part in parts))
    return infer.ParallelTempering(n_temperatures=K, reference=q0, **options)


NAMES = (
    "acceptance_rate",
    "step_size",
    "diverging",
    "swap_acceptance",
    "barrier",
    "round_trips",
    "log_evidence",
)


@eqx.filter_jit
def run(algorithm, target, start, warmup, burn, steps):
    """Ensembles: last state, mean moments of every temperature, mean statistics, the last ones."""

    def one(key):
        def warm(i, state):
            return algorithm.adapt(jax.random.fold_in(key, i), target, state, i, warmup)[0]

        def move(i, loop):
            state, *sums = loop
            state, info = algorithm.step(jax.random.fold_in(key, warmup + i), target, state)
            z = state.replicas.position
            new = z, z[:, :, None] * z[:, None, :], jax.tree.map(jnp.float32, info.stats)
            kept = jax.tree.map(lambda a, b: a + jnp.where(i < burn, 0, b), tuple(sums[:3]), new)
            return (state, *kept, new[2])

        state = algorithm.init(key, target.at(start))
        state = jax.lax.fori_loop(0, warmup, warm, state)
        shapes = jax.eval_shape(
            lambda s: move(0, (s, *[0.0] * 2, dict.fromkeys(NAMES, 0.0), None)), state
        )
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1:])
        state, z, products, stats, last = jax.lax.fori_loop(0, burn + steps, move, (state, *zeros))
        means = jax.tree.map(lambda total: total / steps, (z, products, stats))
        return state, *means, last

    return jax.vmap(one)(jax.random.split(jax.random.key(3), ENSEMBLES))


def counts(warmup, burn, steps):
    return tuple(jnp.asarray(n, jnp.int32) for n in (warmup, burn, steps))


def scores_of(values, truth):
    """Standard errors from the truth, over independent ensembles (the leading axis)."""
    values = np.asarray(values, np.float64)
    return (values.mean(axis=0) - truth) / (values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def test_swaps_keep_the_product_of_all_temperatures(x64):
    """The transition matrix on all states of four replicas on three points, for both parities."""
    rng = np.random.default_rng(0)
    log_p, log_q = np.log(rng.dirichlet(np.ones(3), 2))
    b = np.array([0.0, 0.2, 0.7, 1.0])
    by_level = np.exp((1 - b[:, None]) * log_q + b[:, None] * log_p)
    by_level /= by_level.sum(axis=1, keepdims=True)
    states = list(itertools.product(range(3), repeat=4))
    weight = np.array([np.prod([by_level[k, x] for k, x in enumerate(s)]) for s in states])
    for odd in (False, True):
        after = np.zeros(len(states))
        for state, w in zip(states, weight, strict=True):
            rates = np.asarray(swap_rates(jnp.asarray(b), jnp.asarray((log_p - log_q)[[*state]])))
            for accept in itertools.product([False, True], repeat=3):
                chance = np.prod(np.where(accept, rates, 1 - rates))
                order = np.asarray(swapped(jnp.asarray(accept), jnp.asarray(odd)))
                after[states.index(tuple(np.asarray(state)[order]))] += w * chance
        np.testing.assert_allclose(after, weight, rtol=1e-12)
    order = swapped(jnp.ones(3, bool), jnp.asarray(True))
    np.testing.assert_array_equal(order, [0, 2, 1, 3])
    np.testing.assert_array_equal(swapped(jnp.ones(3, bool), jnp.asarray(False)), [1, 0, 3, 2])


def test_every_temperature_has_its_gaussian():
    """Means and second moments on the path between two Gaussians, without and with warm-up."""
    center = np.array([-1.0, 0.5])
    algorithm = tempering(center, REFERENCE_COVARIANCE)
    target = gaussian(MEAN, COVARIANCE)
    for warmup in (0, 400):
        state, z, products, *_ = run(algorithm, target, jnp.zeros(2), *counts(warmup, 200, 600))
        b = np.asarray(state.schedule, np.float64)[..., None, None]
        start, end = np.linalg.inv(REFERENCE_COVARIANCE), np.linalg.inv(COVARIANCE)
        covariance = np.linalg.inv((1 - b) * start + b * end)
        pull = (1 - b[..., 0]) * (start @ center) + b[..., 0] * (end @ MEAN)
        mean = np.einsum("ekij,ekj->eki", covariance, pull)
        second = covariance + mean[..., :, None] * mean[..., None, :]
        off = [scores_of(z - mean, 0), scores_of(products - second, 0)[:, [0, 0, 1], [0, 1, 1]]]
        worst = np.abs(np.concatenate([x.ravel() for x in off])).max()
        assert worst < limit(2 * 5 * K), (warmup, worst)


def test_replicas_circulate_where_nothing_is_refused():
    """Target and reference are one: each replica goes up and down without ever turning back."""
    algorithm = tempering(MEAN, COVARIANCE)
    *_, stats, last = run(algorithm, gaussian(MEAN, COVARIANCE), jnp.zeros(2), *counts(0, 0, 101))
    assert np.asarray(stats["swap_acceptance"]).min() > 1 - 1e-5
    level, up, trips = np.arange(K), np.zeros(K, bool), 0
    for t in range(101):
        up[level == 0] = True
        partner = np.where(level % 2 == t % 2, level + 1, level - 1)
        level = np.where((partner >= 0) & (partner < K), partner, level)
        trips += int(up[level == K - 1][0])
        up[level == K - 1] = False
    assert trips > 40
    np.testing.assert_array_equal(last["round_trips"], trips)


@pytest.mark.slow
def test_schedule_barrier_round_trips_and_evidence():
    """N(0, 3^2 I) to N(0, 0.2^2 I) in two dimensions, where all four are known.

    -V is proportional to an exponential variable, of rate t_b = (1 - b) / 9 + b / 0.04 at b. So two
    neighbors swap with probability 2 t / (t + t'), and the barrier is log(3 / 0.2).
    """
    narrow, wide = 0.2, 3.0
    algorithm = tempering(np.zeros(2), wide**2 * np.eye(2), n_steps=16)
    target = gaussian(np.zeros(2), narrow**2 * np.eye(2))
    state, _, _, stats, last = run(algorithm, target, jnp.ones(2), *counts(1000, 0, 2000))
    b = np.asarray(state.schedule, np.float64)
    rate = (1 - b) / wide**2 + b / narrow**2
    swaps = 2 * rate[:, :-1] / (rate[:, :-1] + rate[:, 1:])
    barrier = math.log(wide / narrow)
    # The rejections recorded are those of this schedule, whatever it is.
    assert np.abs(scores_of(stats["barrier"] - (1 - swaps).sum(axis=1), 0)) < limit(4)
    np.testing.assert_allclose(stats["swap_acceptance"], 1 - stats["barrier"] / (K - 1), rtol=1e-5)
    # Equal shares, hence rates in geometric progression.
    ratio = (wide / narrow) ** (2 / (K - 1))
    best = 2 / (1 + ratio)
    assert np.abs(swaps.mean(axis=0) - best).max() < 0.02, swaps.mean(axis=0)
    assert np.abs(swaps - best).max() < 0.15
    # Rejections add up to the barrier as gaps get small: tanh(x) instead of x, half log ratios.
    rejections = (1 - swaps).sum(axis=1)
    assert np.abs(rejections / (K - 1) - math.tanh(barrier / (K - 1))).max() < 0.01
    # As many as if trajectories of this length gave independent draws, 1 / (2 + 2 sum r / (1 - r))
    # of the steps; with pairs chosen at random it would be 1 / (2 K + 2 sum r / (1 - r)).
    odds = (1 - swaps) / swaps
    expected = 2000 / (2 + 2 * odds.sum(axis=1))
    np.testing.assert_allclose(last["round_trips"].mean() / expected.mean(), 1, atol=0.05)
    truth = math.log(2 * math.pi * narrow**2)
    evidence = np.asarray(last["log_evidence"], np.float64)
    assert np.abs(scores_of(evidence, truth)) < limit(4)
    assert evidence.std() < 0.1


def test_shares_are_equal_after_one_update_of_a_linear_barrier(x64):
    b = jnp.asarray([0.0, 0.1, 0.3, 1.0])
    np.testing.assert_allclose(equal_shares(b, jnp.diff(b)), jnp.arange(4) / 3, rtol=2e-3)
    np.testing.assert_allclose(equal_shares(b, jnp.zeros(3)), b, rtol=1e-6)


def test_a_hole_under_the_reference():
    """Half a normal: most draws of the reference have no density, and are never passed on."""
    algorithm = tempering(np.array([-1.0, 0.0]), 4 * np.eye(2))
    target = gaussian(np.zeros(2), np.eye(2), edge=0.0)
    state, z, products, stats, _ = run(algorithm, target, jnp.ones(2), *counts(400, 200, 600))
    for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()
    found = np.stack([z[:, -1, 0], z[:, -1, 1], products[:, -1, 0, 0], products[:, -1, 1, 1]], 1)
    off = scores_of(found, [math.sqrt(2 / math.pi), 0, 1, 1])
    assert np.abs(off).max() < limit(4), off
    assert (np.asarray(state.replicas.position)[:, 1:, 0] >= 0).all()
    assert np.asarray(stats["diverging"]).mean() > 0  # trajectories that ran into the hole


D, WEIGHT = 10, 0.3
CENTERS = np.array([np.full(D, -4.0), np.full(D, 4.0)])
SPREADS = np.array(
    [
        0.6 ** np.abs(np.subtract.outer(np.arange(D), np.arange(D))),
        np.diag(np.linspace(0.3, 1.5, D) ** 2),
    ]
)
WHITEN = np.linalg.cholesky(np.linalg.inv(SPREADS)).transpose(0, 2, 1)


def two_modes(z):
    u = jnp.einsum("mij,mj->mi", jnp.asarray(WHITEN, z.dtype), z - CENTERS.astype(z.dtype))
    mass = np.log([WEIGHT, 1 - WEIGHT]) + np.linalg.slogdet(WHITEN)[1] - D / 2 * np.log(2 * np.pi)
    return jax.nn.logsumexp(mass - 0.5 * jnp.sum(u**2, axis=1))


@pytest.fixture(scope="module")
def mixture():
    return infer.from_log_density(two_modes, jnp.zeros(D))


@pytest.mark.slow
def test_two_modes(mixture):
    """Weights, moments and evidence of modes far apart."""
    result = infer.fit(mixture, infer.ParallelTempering(), key=0, progress=False)
    left = (result.z[..., 0] < 0).astype(float)
    size = float(ess_mean(left))
    assert size > 80
    assert abs(left.mean() - WEIGHT) < 3 * math.sqrt(WEIGHT * (1 - WEIGHT) / size)
    for side, center, spread in zip((left == 1, left == 0), CENTERS, SPREADS, strict=True):
        x = (result.z[side] - center) / np.sqrt(np.diag(spread))  # some 1000 effective draws
        assert np.abs(x.mean(axis=0)).max() < 0.12
        assert np.abs(np.log(x.std(axis=0))).max() < 0.1
    evidence = result.history["log_evidence"][:, -1]  # of a normalized density
    assert abs(evidence.mean()) < 4 * 0.075  # root mean square error over ten keys
    assert result.verdict["R-hat"].status == "ok"
    assert result.verdict.status != "failed", result.verdict
    assert result.trail.gradients == 4 * 5000 * (9 * 4 + 1)


@pytest.mark.slow
def test_nuts_stays_in_the_mode_where_it_starts(mixture):
    result = infer.fit(mixture, infer.NUTS(), key=0, progress=False)
    shares = (result.z[..., 0] < 0).mean(axis=1)
    assert np.isin(shares, [0, 1]).all()
    assert result.verdict.status == ("ok" if np.ptp(shares) == 0 else "failed")


def test_wrong_use():
    with pytest.raises(ValueError, match=r"n_temperatures >= 2, got 1; write n_temperatures=10"):
        infer.ParallelTempering(n_temperatures=1)
    with pytest.raises(ValueError, match=r"n_steps >= 1, got 0; write n_steps=4"):
        infer.ParallelTempering(n_steps=0)
    with pytest.raises(ValueError, match=r"scale must be > 0"):
        infer.ParallelTempering(scale=-1.0)
    with pytest.raises(ValueError, match=r"step_size must be > 0"):
        infer.ParallelTempering(step_size=0.0)
    with pytest.raises(ValueError, match=r"acceptance must lie in \(0, 1\)"):
        infer.ParallelTempering(acceptance=1.0)
    with pytest.raises(TypeError, match=r"reference= as a distribution.*infer\.FBGVI\(\)"):
        check_reference("ParallelTempering", np.zeros(3))
    other = infer.ParallelTempering(reference=DiagonalGaussian(jnp.zeros(3), jnp.zeros(3)))
    with pytest.raises(ValueError, match=r"reference in 3 dimensions, the target has 2"):
        infer.fit(gaussian(MEAN, COVARIANCE), other, key=0)
