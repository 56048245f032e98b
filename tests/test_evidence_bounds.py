"""Bounds on log p(x), on probabilistic PCA, where everything is a Gaussian.

Every row has a noise variance of its own, so that no row can stand for another, and numbers of
rows, draws, chains, steps and coordinates differ everywhere.
"""

import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from infer.diagnostics import annealing, evidence_bounds
from infer.diagnostics.annealed_evidence import annealed_evidence, sandwich
from infer.diagnostics.annealing import AbstractTransition, Hamiltonian
from infer.diagnostics.evidence_bounds import importance_evidence
from infer.diagnostics.pareto import pareto_khat
from infer.diagnostics.rows import Shared
from infer.families.gaussian import CholeskyGaussian, DiagonalGaussian

GOLDEN = {  # by quadrature in the plane
    "log p": -4.6208962313485795,
    "elbo": -5.904726596874145,
    "eubo": -3.955216342818437,
    "chi2": 1.560070139251052,
}


class PCA(eqx.Module):
    """z ~ N(0, I), x ~ N(W z + mu, noise I); a row is {"x": x, "noise": noise}."""

    weight: jax.Array
    offset: jax.Array

    def __call__(self, z, row):
        residual = row["x"] - self.offset - self.weight @ z
        log_lik = -0.5 * jnp.sum(residual**2) / row["noise"]
        log_lik -= 0.5 * len(residual) * jnp.log(2 * math.pi * row["noise"])
        return log_lik - 0.5 * jnp.sum(z**2) - 0.5 * len(z) * math.log(2 * math.pi)

    def marginal(self, rows):
        """log p(x) of every row, from the covariance of x."""
        w, noise = np.asarray(self.weight, np.float64), np.asarray(rows["noise"], np.float64)
        return np.array(
            [
                multivariate_normal(self.offset, w @ w.T + s * np.eye(len(w))).logpdf(x)
                for x, s in zip(rows["x"], noise, strict=True)
            ]
        )

    def bridge(self, row, b):
        """Mean and precision of prior * likelihood^b."""
        w = self.weight
        precision = jnp.eye(w.shape[1]) + b * w.T @ w / row["noise"]
        pull = b * w.T @ (row["x"] - self.offset) / row["noise"]
        return jnp.linalg.solve(precision, pull), precision

    def posterior(self, rows):
        """The exact posteriors, stacked."""

        def one(row):
            mean, precision = self.bridge(row, 1.0)
            factor = jnp.linalg.cholesky(jnp.linalg.inv(precision))
            return CholeskyGaussian(mean, jnp.tril(factor, -1), jnp.log(jnp.diag(factor)))

        return jax.jit(jax.vmap(one))(rows)


class Exact(AbstractTransition):
    """An independent draw of f_b, for chains from the prior."""

    def move(self, key, path, places, b, step_size):
        mean, precision = path.log_joint.bridge(path.row, b)
        n, d = places.z.shape
        noise = jax.random.normal(key, (n * d,), mean.dtype).reshape(n, d)
        root = jnp.linalg.cholesky(precision)
        z = mean + jax.scipy.linalg.solve_triangular(root, noise.T, lower=True, trans="T").T
        return path.at(z), jnp.ones(n, mean.dtype)


class Still(AbstractTransition):
    """Nobody moves."""

    def move(self, key, path, places, b, step_size):
        return places, jnp.full(len(places.z), 0.25, places.z.dtype)


def golden():
    """Eight times the same row, and the proposal N((1/2, 1/2), diag(0.3, 0.4)) for each."""
    model = PCA(jnp.array([[1.0, 0], [0.5, 1], [0, -1]]), jnp.array([0.1, -0.2, 0.3]))
    rows = {"x": jnp.tile(jnp.array([1.0, 2, -0.5]), (8, 1)), "noise": jnp.full(8, 0.5)}
    scale = 0.5 * jnp.log(jnp.tile(jnp.array([0.3, 0.4]), (8, 1)))
    return model, rows, jax.vmap(DiagonalGaussian)(jnp.full((8, 2), 0.5), scale)


def simulated(n, seed=1):
    """A model with D = 5 and d = 3, and n rows with the latents that made them."""
    rng = np.random.default_rng(seed)
    weight, offset = rng.normal(size=(5, 3)), rng.normal(size=5)
    z, noise = rng.normal(size=(n, 3)), np.exp(rng.normal(size=n) / 2)
    x = z @ weight.T + offset + np.sqrt(noise)[:, None] * rng.normal(size=(n, 5))
    rows = {"x": jnp.asarray(x), "noise": jnp.asarray(noise)}
    return PCA(jnp.asarray(weight), jnp.asarray(offset)), rows, jnp.asarray(z)


def standard(n, d=3):
    """The prior, stacked."""
    zeros = jnp.zeros((n, d))
    return jax.vmap(CholeskyGaussian)(zeros, jnp.zeros((n, d, d)), zeros)


def within(values, truth, errors=4.0):
    """Is the mean of values, over the first axis, `truth` by that many standard errors?"""
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return bool(np.all(np.abs(values.mean(axis=0) - truth) < errors * error))


def test_golden_numbers():
    model, rows, q = golden()
    found = importance_evidence(3, model, q, rows, n_samples=2**15, chunk=2**12)
    ratio = np.exp(found.log_evidence - GOLDEN["log p"])
    assert within(ratio, 1) and np.abs(found.log_evidence - GOLDEN["log p"]).max() < 0.03
    assert within(found.elbo, GOLDEN["elbo"])
    assert np.all(np.abs(found.elbo - GOLDEN["elbo"]) < 4 * found.elbo_error)
    assert np.all(np.abs(found.log_evidence - GOLDEN["log p"]) < 4 * found.error)
    spread = found.log_evidence.std(ddof=1) / found.error.mean()
    assert 0.4 < spread < 1.8  # chi with 7 degrees: 0.35 to 1.75 in 99.9 %
    chi2 = 2**15 / found.ess - 1
    assert within(chi2, GOLDEN["chi2"]) and np.abs(chi2 - GOLDEN["chi2"]).max() < 0.2
    assert np.all(found.khat < 0.5)


def test_the_curve_rises_to_log_p_as_it_should():
    """log p - E L_k = chi^2 / 2k + O(1/k^2); mean w / p - 1, zero on average, takes noise out."""
    model, rows, q = golden()
    found = importance_evidence(4, model, q, rows, n_samples=2**15, chunk=2**12)
    assert found.counts.tolist() == [2**j for j in range(16)]
    assert np.array_equal(found.curve[:, 0], found.elbo)
    assert np.all(np.diff(found.curve, axis=1) >= 0)  # Jensen's inequality, block by block
    np.testing.assert_allclose(found.curve[:, -1], found.log_evidence, rtol=1e-12)
    noise = np.exp(found.log_evidence - GOLDEN["log p"]) - 1
    gap = GOLDEN["log p"] - found.curve + noise[:, None]
    for j, loose in ((4, 0.3), (6, 0.1), (8, 0.1)):
        predicted = GOLDEN["chi2"] / 2 / 2**j
        assert abs(gap[:, j].mean() / predicted - 1) < loose


def test_summary_by_hand():
    """37 draws: blocks of 1 to 32, the five left over count in all but the curve."""
    log_w = np.random.default_rng(0).normal(size=(3, 37)) * 2 - 100
    found = evidence_bounds._summary(log_w)
    for i, w in enumerate(np.exp(log_w + 100)):
        assert found[0][i] == pytest.approx(math.log(w.mean()) - 100, rel=1e-12)
        assert found[1][i] == pytest.approx(np.log(w).mean() - 100, rel=1e-12)
        assert found[2][i] == pytest.approx(np.log(w).std(ddof=1) / math.sqrt(37), rel=1e-12)
        assert found[3][i] == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-12)
        assert found[4][i] == pareto_khat(log_w[i])
        for j, size in enumerate((1, 2, 4, 8, 16, 32)):
            blocks = w[: 37 // size * size].reshape(-1, size)
            expected = np.log(blocks.mean(axis=1)).mean() - 100
            assert found[5][i, j] == pytest.approx(expected, rel=1e-12)
    assert found[5].shape == (3, 6)


def test_an_exact_posterior_has_no_variance():
    model, rows, _ = simulated(4)
    truth = model.marginal(rows)
    assert np.ptp(truth) > 1
    found = importance_evidence(0, model, model.posterior(rows), rows, n_samples=37, chunk=80)
    np.testing.assert_allclose(found.log_evidence, truth, rtol=3e-6)
    np.testing.assert_allclose(found.curve, np.tile(truth[:, None], 6), rtol=3e-6)
    np.testing.assert_allclose(found.ess, 37, rtol=1e-6)
    assert np.all(found.khat == -math.inf) and np.all(found.error < 1e-5)


def test_double_precision_and_chunks(x64):
    """The same draws whatever the chunk; rows of other shapes than draws."""
    model, rows, _ = simulated(4)
    found = importance_evidence(0, model, model.posterior(rows), rows, n_samples=21)
    np.testing.assert_allclose(found.curve, model.marginal(rows)[:, None].repeat(5, 1), rtol=1e-13)
    prior = Shared(DiagonalGaussian(jnp.zeros(3), jnp.zeros(3)))
    whole = importance_evidence(0, model, prior, rows, n_samples=21, chunk=70)  # three rows
    parts = importance_evidence(0, model, prior, rows, n_samples=21, chunk=4)
    np.testing.assert_allclose(parts.curve, whole.curve, rtol=1e-12)
    assert len(np.unique(whole.elbo)) == 4


def test_inflation_of_a_narrow_q_gives_the_posterior():
    model, rows, _ = simulated(6)
    exact = model.posterior(rows)
    factor = 1 / 1.7
    log_diagonal = exact.log_diagonal + math.log(factor)
    narrow = jax.vmap(CholeskyGaussian)(exact.mean, exact.lower * factor, log_diagonal)
    raw = importance_evidence(0, model, narrow, rows, n_samples=50)
    found = importance_evidence(0, model, narrow, rows, n_samples=50, inflate=1.7)
    np.testing.assert_allclose(found.log_evidence, model.marginal(rows), rtol=3e-6)
    assert np.all(found.ess > 49.99) and np.all(raw.ess < 40)


def test_khat_shows_weights_without_variance():
    """The best diagonal q of a correlation of 0.9: the weights have the Pareto shape 0.9."""

    def log_joint(z, row):
        return row - 0.5 * (z[0] ** 2 + z[1] ** 2 + 1.8 * z[0] * z[1])

    q = jax.vmap(DiagonalGaussian)(jnp.zeros((7, 2)), jnp.zeros((7, 2)))
    rows = jnp.arange(7.0)
    raw = importance_evidence(5, log_joint, q, rows, n_samples=8000, chunk=8000)
    wide = importance_evidence(5, log_joint, q, rows, n_samples=8000, chunk=8000, inflate=2.0)
    # With f times the spread it is 1 - f^2 (1 - 0.9).
    assert np.median(raw.khat) > 0.7 and abs(raw.khat.mean() - 0.9) < 0.15
    assert abs(wide.khat.mean() - 0.6) < 0.15 and np.all(wide.khat < raw.khat)
    truth = rows + math.log(2 * math.pi) - 0.5 * math.log(1 - 0.9**2)
    assert np.all(np.abs(wide.log_evidence - truth) < 5 * wide.error)
    assert wide.ess.mean() > 2 * raw.ess.mean()


@pytest.mark.parametrize("rho", [-0.2, 0.3, 0.45, 0.6, 0.8, 0.9])
def test_khat_tracks_the_correlation_that_a_diagonal_q_leaves_out(rho):
    """Four times 100,000 weights; beyond 1/2 they have no variance."""
    sd, found = math.sqrt(1 - rho**2), []
    for seed in range(4):
        z = sd * np.random.default_rng(seed).normal(size=(100_000, 2))
        quadratic = np.sum(z**2, axis=1) - 2 * rho * z[:, 0] * z[:, 1]
        found.append(pareto_khat(0.5 * (np.sum(z**2, axis=1) - quadratic) / sd**2))
    assert abs(np.mean(found) - abs(rho)) < 0.1


def test_weights_of_zero_and_of_nan():
    """p(x) is half where half of the prior has no likelihood; a NaN spoils its row alone."""

    def log_joint(z, row):
        log_prior = -0.5 * z[0] ** 2 - 0.5 * math.log(2 * math.pi)
        return jnp.where(z[0] > 0, log_prior, -jnp.inf) + row

    prior = Shared(DiagonalGaussian(jnp.zeros(1), jnp.zeros(1)))
    found = importance_evidence(0, log_joint, prior, jnp.array([0.0, jnp.nan, 3.0]), n_samples=900)
    good = [0, 2]
    assert np.all(np.abs(found.log_evidence - [math.log(0.5), 0, 3 + math.log(0.5)])[good] < 0.14)
    assert np.all(found.elbo[good] == -math.inf) and np.all(np.isfinite(found.ess[good]))
    assert np.isnan(found.log_evidence[1]) and np.isnan(found.khat[1])


def test_memory_is_that_of_a_chunk():
    """The largest array of the compiled program: all layers of 4096 draws, or the weights."""
    weight = jax.random.normal(jax.random.key(0), (256, 3))
    back = jax.random.normal(jax.random.key(1), (256, 256)) / 16

    def log_joint(z, row):
        return -jnp.sum((row - back @ jnp.tanh(weight @ z)) ** 2)

    def largest(chunk):
        q, rows, batch = standard(5), jnp.ones((5, 256)), jnp.arange(1)
        lowered = evidence_bounds._log_weights.lower(
            jax.random.key(0), log_joint, q, rows, None, batch, 4096, chunk
        )
        shapes = re.findall(r"[fsu]32\[([\d,]+)\]", lowered.compile().compiled.as_text())
        return max(math.prod(int(n) for n in shape.split(",")) for shape in shapes)

    assert largest(4096) == 4096 * 256
    assert largest(16) == 256 * 256


def test_one_step_gives_both_bounds_of_the_proposal():
    """With no levels between, the mean log weights are ELBO and EUBO of q."""
    model, rows, q = golden()
    many = 500
    rows = jax.tree.map(lambda a: jnp.repeat(a, many, axis=0), rows)
    draws = model.posterior(jax.tree.map(lambda a: a[:1], rows))
    z = CholeskyGaussian(draws.mean[0], draws.lower[0], draws.log_diagonal[0]).sample(
        jax.random.key(7), 8 * many
    )
    one = jax.tree.map(lambda a: a[0], q)
    found = sandwich(0, model, Shared(one), rows, z, n_steps=1, n_chains=2, chunk=10**6)
    assert within(found.forward.bound, GOLDEN["elbo"])
    assert within(-found.backward.bound, GOLDEN["eubo"])
    assert found.forward.acceptance.shape == (8 * many, 0)
    np.testing.assert_array_equal(*found.backward.log_weights.T)  # both start from the one z


def test_weights_telescope_where_nobody_moves():
    """Then log w = log p(x, z) - log q(z) at the start, in whatever batches the rows come."""
    model, rows, z = simulated(7)
    prior = Shared(DiagonalGaussian(jnp.zeros(3), jnp.zeros(3)))
    settings = {"n_steps": 5, "n_chains": 4, "transition": Still()}
    found = sandwich(2, model, prior, rows, z, **settings)
    parts = sandwich(2, model, prior, rows, z, chunk=13, **settings)
    log_prior = multivariate_normal(np.zeros(3)).logpdf(np.asarray(z, np.float64))
    expected = np.asarray(jax.vmap(model)(z, rows)) - log_prior
    shape = np.tile(-expected[:, None], 4)
    np.testing.assert_allclose(found.backward.log_weights, shape, rtol=1e-5)
    assert len(np.unique(found.forward.log_weights)) == 28
    for side in ("forward", "backward"):
        a, b = getattr(found, side), getattr(parts, side)
        np.testing.assert_allclose(a.log_weights, b.log_weights, rtol=1e-5)
        np.testing.assert_allclose(a.acceptance, 0.25)
    # The pilot saw 0.25 at each of four levels, and wanted 0.7.
    steps = 0.5 * np.exp((0.25 - 0.7) * np.arange(4.0))
    np.testing.assert_allclose(found.forward.step_sizes, np.tile(steps, (7, 1)), rtol=1e-5)
    np.testing.assert_allclose(found.backward.step_sizes, found.forward.step_sizes[:, ::-1])
    given = np.arange(1.0, 29).reshape(7, 4)
    found = annealed_evidence(2, model, prior, rows, step_sizes=given, **settings)
    np.testing.assert_allclose(found.step_sizes, given, rtol=1e-5)


def test_exact_moves_have_unbiased_weights_from_both_ends():
    model, rows, z = simulated(200)
    truth = model.marginal(rows)
    prior = Shared(DiagonalGaussian(jnp.zeros(3), jnp.zeros(3)))
    gaps = []
    for n_steps in (6, 24):
        settings = {"n_steps": n_steps, "n_chains": 3, "transition": Exact(), "step_sizes": 1.0}
        found = sandwich(n_steps, model, prior, rows, z, chunk=600, **settings)
        lower, upper = found.lower - truth, found.upper - truth
        assert within(np.exp(lower), 1) and within(np.exp(-upper), 1)
        assert lower.mean() < 0 < upper.mean()
        assert np.all(found.forward.bound <= found.lower)
        assert np.all(-found.backward.bound >= found.upper)
        gaps.append((found.upper - found.lower).mean())
        assert found.gap == pytest.approx(gaps[-1]) and 0 < found.gap_error < found.gap
        spread = found.forward.log_weights.var(axis=1, ddof=1).mean()
        gaps[-1] = (gaps[-1], spread)
    assert gaps[1][0] < 0.5 * gaps[0][0] and gaps[1][1] < 0.5 * gaps[0][1]


def test_hamiltonian_moves_leave_the_bridge_in_place():
    """From exact draws of f_b, after a move with rejections: the same mean and covariance."""
    model, rows, _ = simulated(2)
    row, n = jax.tree.map(lambda a: a[1], rows), 20000
    q = DiagonalGaussian(jnp.zeros(3), jnp.zeros(3))
    path = annealing.Path(model, q, row, jnp.array([1.0, 0.5, 2.0]))

    @jax.jit
    def moved(key, size):
        key_start, key_move = jax.random.split(key)
        mean, precision = model.bridge(row, 0.6)
        factor = jnp.linalg.cholesky(jnp.linalg.inv(precision))
        start = mean + jax.random.normal(key_start, (n * 3,)).reshape(n, 3) @ factor.T
        places, rate = Hamiltonian(3).move(key_move, path, path.at(start), jnp.asarray(0.6), size)
        again = path.at(places.z)
        stale = jnp.abs(again.log_joint - places.log_joint) + jnp.abs(again.log_q - places.log_q)
        white = jnp.linalg.solve(factor, (places.z - mean).T).T
        still = jnp.mean(jnp.all(places.z == start, axis=1))
        return white, rate.mean(), still, stale.max()

    white, rate, still, stale = moved(jax.random.key(0), jnp.asarray(0.6))
    assert 0.3 < rate < 0.9 and abs(1 - still - rate) < 4 * 0.5 / math.sqrt(n) and stale < 1e-3
    white = np.asarray(white, np.float64)
    products = (white[:, :, None] * white[:, None, :]).reshape(n, 9)
    assert within(white, 0) and within(products, np.eye(3).ravel())


def test_hamiltonian_chains_bound_log_p():
    model, rows, z = simulated(5)
    truth = model.marginal(rows)
    settings = {"n_steps": 60, "n_chains": 70, "chunk": 1000}
    found = sandwich(1, model, standard(5), rows, z, **settings)
    assert np.all(np.abs(found.lower - truth) < 4 * found.forward.error)
    assert np.all(found.forward.bound < truth + 3 * found.forward.bound_error)
    assert np.all(found.upper > truth - 4 * found.backward.error)
    assert np.all(found.forward.error < 0.2) and 0 < found.gap + 3 * found.gap_error < 1
    rates = found.forward.acceptance[:, 10:]
    assert np.all(np.abs(rates.mean(axis=1) - 0.7) < 0.07) and np.all(rates > 0.3)
    # The same program at an exact posterior: no variance, whatever happens on the way.
    exact = sandwich(2, model, model.posterior(rows), rows, z, **settings)
    for weights in (exact.forward.log_weights, -exact.backward.log_weights):
        np.testing.assert_allclose(weights, np.tile(truth[:, None], 70), rtol=1e-5)
    assert abs(exact.gap) < 1e-4
    # Steps that are used as they are, far too long: loose, but not too high.
    poor = annealed_evidence(
        3, model, standard(5), rows, step_sizes=30 * found.forward.step_sizes, **settings
    )
    assert np.all(poor.acceptance.mean(axis=1) < 0.3)
    assert np.all(poor.bound < found.forward.bound) and np.all(poor.log_evidence < truth + 7)


def test_hamiltonian_chains_in_double_precision(x64):
    model, rows, z = simulated(3)
    found = sandwich(0, model, model.posterior(rows), rows, z, n_steps=4, n_chains=2)
    expected = np.tile(model.marginal(rows)[:, None], 2)
    np.testing.assert_allclose(found.forward.log_weights, expected, rtol=1e-12)
    np.testing.assert_allclose(found.backward.log_weights, -expected, rtol=1e-12)


def test_what_is_refused():
    model, rows, z = simulated(4)
    q = standard(4)
    shared = Shared(DiagonalGaussian(jnp.zeros(3), jnp.zeros(3)))
    with pytest.raises(ValueError, match="leading axis of 4.*Shared"):
        importance_evidence(0, model, standard(3), rows)
    with pytest.raises(ValueError, match="share a leading axis"):
        importance_evidence(0, model, q, {"x": rows["x"], "noise": jnp.ones(())})
    with pytest.raises(ValueError, match="at least one row"):
        importance_evidence(0, model, shared, jax.tree.map(lambda a: a[:0], rows))
    with pytest.raises(TypeError, match="Shared"):
        importance_evidence(0, model, lambda row: q, rows)
    with pytest.raises(ValueError, match=r"one number.*\(3,\)"):
        importance_evidence(0, lambda z, row: -0.5 * z**2, q, rows)
    with pytest.raises(ValueError, match="n_samples >= 1"):
        importance_evidence(0, model, q, rows, n_samples=0)
    with pytest.raises(ValueError, match="inflate must be > 0"):
        importance_evidence(0, model, q, rows, inflate=-1.0)
    with pytest.raises(TypeError, match="transition"):
        annealed_evidence(0, model, q, rows, transition=Hamiltonian)  # type: ignore
    with pytest.raises(ValueError, match="6 levels that rise"):
        annealed_evidence(0, model, q, rows, 5, schedule=lambda n: jnp.linspace(1, 0, n + 1))
    with pytest.raises(ValueError, match=r"\(4, 6\).*got shape \(6,\)"):
        annealed_evidence(0, model, q, rows, 7, step_sizes=jnp.ones(6))
    with pytest.raises(ValueError, match=r"\(4, 3\).*got \(3, 4\)"):
        sandwich(0, model, q, rows, z.T)
    with pytest.raises(ValueError, match="acceptance must lie"):
        sandwich(0, model, q, rows, z, acceptance=1.5)
