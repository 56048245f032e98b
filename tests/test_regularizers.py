"""Regularizers of latent draws against closed forms, loops over pairs, and NumPyro."""

import dataclasses
import itertools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.linalg

import infer
from infer.families import (
    BentGaussian,
    CholeskyGaussian,
    DiagonalGaussian,
    LowRankGaussian,
    MixtureDistribution,
    ProductDistribution,
)
from infer.regularizers import (
    KL,
    MMD,
    AggregateGaussianKL,
    Batch,
    IMQMixture,
    RBFMixture,
    SlicedWasserstein,
    TotalCorrelation,
    W2ToPrior,
)

B, K, D, N = 5, 3, 2, 40
CENTER = np.array([0.6, -1.1])
ROOT = np.array([[1.3, 0.0], [-0.5, 0.8]])
SPREAD = ROOT @ ROOT.T
BUILTIN = (
    MMD(2.0),
    SlicedWasserstein(2.0, n_projections=7),
    KL(2.0),
    W2ToPrior(2.0),
    AggregateGaussianKL(2.0),
    TotalCorrelation(2.0),
)


def stacked(distribution, *arrays):
    """One distribution per row of the arrays."""
    return jax.vmap(distribution)(*(jnp.asarray(a, float) for a in arrays))


penalty = eqx.filter_jit(lambda regularizer, key, batch: regularizer.penalty(key, batch))


def diagonal_prior():
    return DiagonalGaussian(jnp.asarray(CENTER, float), jnp.log(jnp.asarray([1.5, 0.7])))


def full_prior():
    root = jnp.asarray(ROOT, float)
    return CholeskyGaussian(jnp.asarray(CENTER, float), root, jnp.log(jnp.diagonal(root)))


def draws(b=B, k=K, seed=7):
    """Any draws will do where a penalty is computed again from the same ones."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=(b, k, D)) * 1.2 + 0.3, float)


def batch_of(q, prior, z=None, size=N):
    z = draws(jax.tree.leaves(q)[0].shape[0]) if z is None else z
    return Batch(x=np.zeros((len(z), 4)), z=z, q=q, prior=prior, t=0, size=size)


def diagonal_rows(b=B, seed=0):
    """Means and standard deviations, off center."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(b, D)) + 0.4, rng.uniform(0.3, 1.6, size=(b, D))


def diagonal_q(b=B, seed=0):
    mean, sd = diagonal_rows(b, seed)
    return stacked(DiagonalGaussian, mean, np.log(sd))


def full_rows(b=B, d=D, seed=1):
    rng = np.random.default_rng(seed)
    root = np.tril(rng.normal(size=(b, d, d)), -1) + np.stack(
        [np.diag(rng.uniform(0.4, 1.5, size=d)) for _ in range(b)]
    )
    return rng.normal(size=(b, d)) - 0.3, root


def full_q(b=B, d=D, seed=1):
    mean, root = full_rows(b, d, seed)
    log_diagonal = np.log(np.diagonal(root, axis1=1, axis2=2))
    return stacked(CholeskyGaussian, mean, root, log_diagonal)


# Maximum mean discrepancy -----------------------------------------------------------------------


class Kernel(NamedTuple):
    of_infer: type
    exact: object  # of the squared distance and C


KERNELS = {
    "rbf": Kernel(RBFMixture, lambda r, c: np.exp(-r / c)),
    "imq": Kernel(IMQMixture, lambda r, c: c / (c + r)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_mmd_is_the_mean_over_pairs_of_rows(name, x64, key):
    scales = (0.4, 1.0, 3.0, 0.2)
    batch = batch_of(diagonal_q(), full_prior())
    z = np.asarray(batch.z)
    y = np.asarray(full_prior().sample(key, B * K))

    def kernel(a, b):
        r = np.sum((a - b) ** 2)
        return np.mean([KERNELS[name].exact(r, 2 * D * s**2) for s in scales])

    within = [
        kernel(z[b, k], z[c, m])
        for b, c in itertools.permutations(range(B), 2)
        for k in range(K)
        for m in range(K)
    ]
    prior = [kernel(a, b) for a, b in itertools.permutations(y, 2)]
    across = [kernel(a, b) for a in z.reshape(-1, D) for b in y]
    exact = np.mean(within) + np.mean(prior) - 2 * np.mean(across)
    found = penalty(MMD(kernel=KERNELS[name].of_infer(scales)), key, batch)
    np.testing.assert_allclose(found, exact, rtol=1e-9)


def test_mmd_is_unbiased_for_gaussians(key):
    """Means N(m, T) and posteriors N(mean, diag(s^2)): the aggregate is N(m, T + diag(s^2)).

    The closed form of Gaussian kernels of squared length l^2 = d s^2; z < 4 over 5000 batches.
    A pair of draws of one row would share its mean: with K = 3 and B = 5 that is 1/7 of the pairs.
    """
    scales, m, sd = (0.5, 1.4), np.array([0.5, 0.2]), np.array([0.6, 0.3])
    t_root = np.array([[0.9, 0.0], [0.6, 0.5]])

    @eqx.filter_jit
    def estimates(keys):
        def one(key):
            mean_key, noise_key, key = jax.random.split(key, 3)
            mean = jnp.asarray(m) + jax.random.normal(mean_key, (B, D)) @ jnp.asarray(t_root).T
            q = stacked(DiagonalGaussian, mean, jnp.broadcast_to(jnp.log(sd), (B, D)))
            z = mean[:, None] + sd * jax.random.normal(noise_key, (B, K, D))
            return MMD(kernel=RBFMixture(scales)).penalty(key, batch_of(q, full_prior(), z))

        return jax.vmap(one)(keys)

    def mean_kernel(shift, cov):
        total = 0.0
        for s in scales:
            l2 = D * s**2
            quadratic = shift @ np.linalg.solve(l2 * np.eye(D) + cov, shift)
            total += np.exp(-0.5 * quadratic) / np.sqrt(np.linalg.det(np.eye(D) + cov / l2))
        return total / len(scales)

    own, zero = t_root @ t_root.T + np.diag(sd**2), np.zeros(D)
    exact = (
        mean_kernel(zero, 2 * own)
        + mean_kernel(zero, 2 * SPREAD)
        - 2 * mean_kernel(m - CENTER, own + SPREAD)
    )
    found = np.asarray(estimates(jax.random.split(key, 5000)), np.float64)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - exact) < 4 * error
    assert error < 0.02 * exact


# Sliced Wasserstein -----------------------------------------------------------------------------


def test_sliced_wasserstein_on_a_line_is_the_cheapest_matching(x64, key):
    q = stacked(DiagonalGaussian, [[0.5], [-2.0], [1.0]], np.zeros((3, 1)))
    prior = DiagonalGaussian(jnp.asarray([0.7]), jnp.asarray([0.4]))
    batch = batch_of(q, prior, draws(3, 2)[..., :1])
    y = np.asarray(prior.sample(jax.random.split(key)[0], 6))[:, 0]
    z = np.asarray(batch.z).ravel()
    cheapest = min(np.mean((z - y[list(order)]) ** 2) for order in itertools.permutations(range(6)))
    found = penalty(SlicedWasserstein(n_projections=4), key, batch)
    np.testing.assert_allclose(found, cheapest, rtol=1e-9)


def test_sliced_wasserstein_of_isotropic_gaussians(key):
    """(s - 1)^2 + |m|^2 / d, z < 4 over 100 batches of 1500 draws."""
    s, m, d, n = 1.6, jnp.asarray([1.0, -0.5, 2.0]), 3, 750

    @eqx.filter_jit
    def estimates(keys):
        def one(key):
            q = stacked(DiagonalGaussian, jnp.broadcast_to(m, (n, d)), jnp.full((n, d), jnp.log(s)))
            prior = DiagonalGaussian(jnp.zeros(d), jnp.zeros(d))
            z_key, key = jax.random.split(key)
            z = m + s * jax.random.normal(z_key, (n, 2, d))
            return SlicedWasserstein(n_projections=11).penalty(key, batch_of(q, prior, z))

        return jax.lax.map(one, keys)

    found = np.asarray(estimates(jax.random.split(key, 100)), np.float64)
    exact, error = (s - 1) ** 2 + float(jnp.sum(m**2)) / d, found.std() / np.sqrt(len(found))
    assert abs(found.mean() - exact) < 4 * error
    assert error < 0.05 * exact


# Divergences in closed form ---------------------------------------------------------------------


def stacked_low_rank():
    rng = np.random.default_rng(3)
    arrays = (rng.normal(size=(B, D)), rng.normal(size=(B, D)) * 0.3, rng.normal(size=(B, D, 1)))
    return stacked(LowRankGaussian, *arrays)


def stacked_bent():
    rng = np.random.default_rng(4)
    basis = rng.normal(size=(B, D, 1))
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    arrays = (rng.normal(size=(B, D)), rng.uniform(0.5, 2, (B, D)), basis, np.full((B, 1, 1), 0.6))
    return stacked(BentGaussian, *arrays)


def stacked_product():
    def one(mean, log_scale):
        parts = tuple(DiagonalGaussian(mean[j : j + 1], log_scale[j : j + 1]) for j in range(D))
        return ProductDistribution(parts, (1, 0))

    q = diagonal_q()
    return jax.vmap(one)(q.mean, q.log_scale)


POSTERIORS = {
    "diagonal": diagonal_q,
    "full": full_q,
    "low rank": stacked_low_rank,
    "bent": stacked_bent,
    "product": stacked_product,
}
PRIORS = {"diagonal": diagonal_prior, "full": full_prior}


@eqx.filter_jit
def moments_of(q):
    """Stacked means and covariance matrices."""
    mean, c = eqx.filter_vmap(lambda q: q.moments())(q)
    return mean, eqx.filter_vmap(lambda c: c.dense())(c)


@jax.jit
def numpyro_kl(means, covariances, mean, covariance):
    others = dist.MultivariateNormal(means, covariances)
    return jnp.mean(dist.kl_divergence(others, dist.MultivariateNormal(mean, covariance)))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("q", POSTERIORS)
def test_kl_and_w2_of_gaussians(q, prior, x64, key):
    q, prior = POSTERIORS[q](), PRIORS[prior]()
    batch = batch_of(q, prior)
    means, covariances = moments_of(q)
    kl = numpyro_kl(means, covariances, prior.mean, prior.covariance)
    np.testing.assert_allclose(penalty(KL(), key, batch), kl, rtol=1e-9)

    # |m|^2 + tr(S + P - 2 (P^1/2 S P^1/2)^1/2) by the matrix square roots themselves.
    spread = np.asarray(prior.covariance)
    root = np.real(scipy.linalg.sqrtm(spread))
    w2 = []
    for m, s in zip(np.asarray(means), np.asarray(covariances), strict=True):
        cross = np.real(scipy.linalg.sqrtm(root @ s @ root))
        w2.append(np.sum((m - CENTER) ** 2) + np.trace(s + spread - 2 * cross))
    np.testing.assert_allclose(penalty(W2ToPrior(), key, batch), np.mean(w2), rtol=1e-8)


def test_kl_is_the_mean_of_log_q_less_log_p(key):
    """By 200,000 draws, z < 4."""
    q, prior = full_q(b=1), full_prior()
    draws = jax.jit(lambda q: q.sample_score(key, 200_000))(jax.tree.map(lambda a: a[0], q))
    log_ratio = np.asarray(draws.log_q - jax.jit(jax.vmap(prior.log_prob))(draws.x), np.float64)
    error = log_ratio.std() / np.sqrt(len(log_ratio))
    assert abs(log_ratio.mean() - penalty(KL(), key, batch_of(q, prior))) < 4 * error


def test_w2_to_the_standard_normal_is_that_of_the_unscented_autoencoder(x64, key):
    standard = DiagonalGaussian(jnp.zeros(D), jnp.zeros(D))
    mean, sd = diagonal_rows()
    exact = np.mean(np.sum(mean**2, axis=1) + np.sum((sd - 1) ** 2, axis=1))
    found = penalty(W2ToPrior(), key, batch_of(diagonal_q(), standard))
    np.testing.assert_allclose(found, exact, rtol=1e-9)
    mean, root = full_rows()
    bound = np.mean(np.sum(mean**2, axis=1) + np.sum((root - np.eye(D)) ** 2, axis=(1, 2)))
    assert penalty(W2ToPrior(), key, batch_of(full_q(), standard)) < bound - 0.01


def test_free_bits_are_a_floor_under_the_mean_of_each_coordinate(x64, key):
    mean, sd = diagonal_rows()
    p = np.array([1.5, 0.7])
    each = np.log(p / sd) + (sd**2 + (mean - CENTER) ** 2) / (2 * p**2) - 0.5
    each = each.mean(axis=0)
    low, high = sorted(each)
    batch = batch_of(diagonal_q(), diagonal_prior())
    for bits in (0.0, (low + high) / 2, 2 * high):
        exact = np.sum(np.maximum(each, bits))
        np.testing.assert_allclose(penalty(KL(free_bits=bits), key, batch), exact, rtol=1e-9)

    def moved(mean):
        q = stacked(DiagonalGaussian, mean, batch.q.log_scale)
        return KL(free_bits=(low + high) / 2).penalty(key, batch_of(q, batch.prior, batch.z))

    slope = np.abs(jax.jit(jax.grad(moved))(batch.q.mean)).max(axis=0)
    assert slope[np.argmin(each)] == 0 and slope[np.argmax(each)] > 0.01


# Aggregate posterior ----------------------------------------------------------------------------


def test_aggregate_is_the_gaussian_of_the_mixture(x64, key):
    """Its moments are those of the equal mixture of the posteriors."""
    q, prior = diagonal_q(), diagonal_prior()
    mean, covariance = MixtureDistribution(q, jnp.zeros(B)).moments()
    p, r = np.array([1.5, 0.7]), np.exp(q.log_scale)
    zero, covariance = np.zeros((1, D)), np.diag(np.square(covariance.sd()))
    exact = numpyro_kl(mean[None], covariance[None], CENTER, np.diag(p**2))
    walls = np.stack([np.diag(one**2) for one in r])
    wall = numpyro_kl(zero, walls, zero[0], np.diag(p**2))
    batch = batch_of(q, prior)
    for barrier in (0.0, 0.3):
        found = penalty(AggregateGaussianKL(barrier=barrier), key, batch)
        np.testing.assert_allclose(found, exact + barrier * wall, rtol=1e-9)


def test_aggregate_without_the_spread_is_that_of_the_source(x64, key):
    mean, sd = diagonal_rows()
    m, v = mean.mean(axis=0), mean.var(axis=0)
    population = -0.5 * np.sum(1 + np.log(v) - m**2 - v)
    barrier = -0.1 * np.mean(np.sum(1 + np.log(sd**2) - sd**2, axis=1))
    standard = DiagonalGaussian(jnp.zeros(D), jnp.zeros(D))
    found = penalty(AggregateGaussianKL(with_spread=False), key, batch_of(diagonal_q(), standard))
    np.testing.assert_allclose(found, population + barrier, rtol=1e-9)


def test_aggregate_of_a_constant_coordinate_is_finite(key):
    q = diagonal_q()
    q = stacked(DiagonalGaussian, q.mean.at[:, 1].set(0.2), q.log_scale)

    def loss(mean):
        q_ = stacked(DiagonalGaussian, mean, q.log_scale)
        batch = batch_of(q_, diagonal_prior())
        return AggregateGaussianKL(with_spread=False).penalty(key, batch)

    value, slope = jax.jit(jax.value_and_grad(loss))(q.mean)
    assert np.isfinite(value) and np.isfinite(slope).all()


# Total correlation ------------------------------------------------------------------------------


def normal_pdf(z, mean, sd):
    return np.exp(-0.5 * ((z - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))


def test_total_correlation_is_the_loop_over_pairs(x64, key):
    mean, sd = diagonal_rows()
    batch = batch_of(diagonal_q(), full_prior())
    z, values = np.asarray(batch.z), []
    for b, k in itertools.product(range(B), range(K)):
        share = [1 / N if c == b else (N - 1) / N / (B - 1) for c in range(B)]
        pdf = np.array([normal_pdf(z[b, k], mean[c], sd[c]) for c in range(B)])
        joint = np.log(share @ pdf.prod(axis=1))
        values.append(joint - np.sum(np.log(share @ pdf)))
    found = penalty(TotalCorrelation(), key, batch)
    np.testing.assert_allclose(found, np.mean(values), rtol=1e-9)


def test_total_correlation_of_all_rows_is_that_of_their_mixture(x64, key):
    q = diagonal_q()
    batch = batch_of(q, full_prior(), size=B)
    points = batch.z.reshape(-1, D)
    joint = jax.vmap(MixtureDistribution(q, jnp.zeros(B)).log_prob)(points)
    for j in range(D):
        one = stacked(DiagonalGaussian, q.mean[:, j : j + 1], q.log_scale[:, j : j + 1])
        joint -= jax.vmap(MixtureDistribution(one, jnp.zeros(B)).log_prob)(points[:, j : j + 1])
    np.testing.assert_allclose(penalty(TotalCorrelation(), key, batch), joint.mean(), rtol=1e-9)


def test_total_correlation_of_a_gaussian_aggregate(key):
    """Means N(m, T) and posteriors N(mean, diag(s^2)): sum_j log S_jj / 2 - log |S| / 2.

    With S = T + diag(s^2); z < 4 over 100 batches of 400 rows out of a million.
    """
    b, sd, m = 400, np.array([0.9, 0.7]), np.array([0.5, -2.0])
    t_root = np.array([[0.9, 0.0], [0.8, 0.5]])

    @eqx.filter_jit
    def estimates(keys):
        def one(key):
            mean_key, noise_key = jax.random.split(key)
            mean = jnp.asarray(m) + jax.random.normal(mean_key, (b, D)) @ jnp.asarray(t_root).T
            q = stacked(DiagonalGaussian, mean, jnp.broadcast_to(jnp.log(sd), (b, D)))
            z = mean[:, None] + sd * jax.random.normal(noise_key, (b, 1, D))
            batch = batch_of(q, full_prior(), z, size=1_000_000)
            return TotalCorrelation().penalty(key, batch)

        return jax.lax.map(one, keys)

    s = t_root @ t_root.T + np.diag(sd**2)
    exact = 0.5 * (np.sum(np.log(np.diag(s))) - np.linalg.slogdet(s)[1])
    found = np.asarray(estimates(jax.random.split(key, 100)), np.float64)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - exact) < 4 * error
    assert error < 0.05 * exact


# What all have in common ------------------------------------------------------------------------

by_name = pytest.mark.parametrize("regularizer", BUILTIN, ids=lambda r: type(r).__name__)


@by_name
def test_gradients_are_those_of_differences(regularizer, x64, key):
    q = diagonal_q()
    noise = jax.random.normal(jax.random.key(3), (B, K, D))

    @jax.jit
    @jax.value_and_grad
    def loss(at):
        mean, log_scale, center = at
        own = stacked(DiagonalGaussian, mean, log_scale)
        z = mean[:, None] + jnp.exp(log_scale)[:, None] * noise
        prior = DiagonalGaussian(center, jnp.log(jnp.asarray([1.5, 0.7])))
        return regularizer(key, batch_of(own, prior, z))

    at, rng = (q.mean, q.log_scale, jnp.asarray(CENTER)), np.random.default_rng(8)
    mean, log_scale, center = slope = loss(at)[1]
    for _ in range(3):
        way = tuple(jnp.asarray(rng.normal(size=a.shape)) for a in at)
        ahead, behind = (
            loss(tuple(a + step * w for a, w in zip(at, way, strict=True)))[0]
            for step in (1e-5, -1e-5)
        )
        along = sum(jnp.vdot(g, w) for g, w in zip(slope, way, strict=True))
        np.testing.assert_allclose((ahead - behind) / 2e-5, along, rtol=1e-6, atol=1e-8)
    assert (np.abs(mean).max(axis=1) > 0).all() and (np.abs(log_scale).max(axis=1) > 0).all()
    assert np.any(center) != isinstance(regularizer, TotalCorrelation)  # it ignores the prior


@by_name
def test_weights_are_leaves(regularizer, key):
    batch, traces = batch_of(diagonal_q(), diagonal_prior()), []

    @eqx.filter_jit
    def call(regularizer, batch):
        traces.append(1)
        return regularizer(key, batch)

    heavier = dataclasses.replace(regularizer, weight=3.0)
    value, other = call(regularizer, batch), call(heavier, batch)
    assert len(traces) == 1
    assert value.dtype == jnp.float32 and value.shape == ()
    np.testing.assert_allclose(2 * other, 3 * value, rtol=1e-6)
    np.testing.assert_allclose(value, 2 * penalty(regularizer, key, batch), rtol=1e-6)
    with pytest.raises(ValueError, match=r"weight must be >= 0, got -1"):
        type(regularizer)(weight=-1)


def two_bumps():
    """No Gaussian, though it knows its moments."""
    parts = stacked(DiagonalGaussian, [[1.0, 0.0], [-1.0, 2.0]], np.full((2, D), -1.0))
    return MixtureDistribution(parts, jnp.zeros(2))


def bumps_q():
    return jax.vmap(lambda _: two_bumps())(jnp.arange(B))


@pytest.mark.parametrize("regularizer", [MMD(), SlicedWasserstein()], ids=["mmd", "sliced"])
def test_draws_are_enough(regularizer, key):
    batch = batch_of(bumps_q(), two_bumps())
    assert np.isfinite(penalty(regularizer, key, batch))


REFUSED = {
    "posterior": (KL(), bumps_q, diagonal_prior, r"KL needs Gaussian posteriors.*got Mixture"),
    "prior": (KL(), diagonal_q, two_bumps, r"KL needs a Gaussian prior.*got Mixture"),
    "w2": (W2ToPrior(), diagonal_q, two_bumps, r"W2ToPrior needs a Gaussian prior"),
    "free bits q": (KL(free_bits=0.1), full_q, diagonal_prior, r"posteriors with a diagonal"),
    "free bits p": (KL(free_bits=0.1), diagonal_q, full_prior, r"a prior with a diagonal"),
    "tc": (TotalCorrelation(), full_q, diagonal_prior, r"TotalCorrelation needs .* diagonal"),
    "aggregate": (AggregateGaussianKL(), diagonal_q, full_prior, r"a prior with a diagonal"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_closed_form_is_refused(name, key):
    regularizer, q, prior, message = REFUSED[name]
    q = q()
    with pytest.raises(TypeError, match=message):
        penalty(regularizer, key, batch_of(q, prior(), jnp.zeros((B, K, D))))


def test_moments_that_are_unknown_are_refused(key):
    keys = jax.random.split(key, B)
    q = eqx.filter_eval_shape(
        eqx.filter_vmap(lambda key: infer.RealNVP().init(key, jnp.zeros(D))), keys
    )
    with pytest.raises(TypeError, match="posteriors that know their mean and covariance, got Flow"):
        AggregateGaussianKL().penalty(key, batch_of(q, diagonal_prior(), jnp.zeros((B, K, D))))


@pytest.mark.parametrize(
    "regularizer",
    [MMD(), TotalCorrelation(), AggregateGaussianKL(with_spread=False)],
    ids=lambda r: type(r).__name__,
)
def test_one_row_is_refused(regularizer, key):
    with pytest.raises(ValueError, match="two rows or more"):
        penalty(regularizer, key, batch_of(diagonal_q(b=1), diagonal_prior()))


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="n_projections >= 1"):
        SlicedWasserstein(n_projections=0)
    with pytest.raises(ValueError, match="scales must be > 0"):
        RBFMixture((1.0, 0.0))
    with pytest.raises(ValueError, match="free_bits must be >= 0"):
        KL(free_bits=-1)
