"""Models of rows against probabilistic PCA, where everything is known in closed form.

Sizes differ on purpose (D, d, rows, draws, groups) and covariances are full, so that no axis can
stand for another.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow
from scipy.stats import multivariate_normal

import infer
from infer.amortized.parts import join, split
from infer.families.gaussian import CholeskyGaussian
from infer.families.mixture import MixtureDistribution
from infer.likelihoods import Gaussian

D, LATENT, ROWS = 5, 3, 4
S2 = 0.7


class Affine(eqx.Module):
    """W u + b of all that goes in, one after the other."""

    weight: jax.Array
    bias: jax.Array

    def __call__(self, *inputs):
        return self.weight @ jnp.concatenate([jnp.ravel(u) for u in inputs]) + self.bias


class Exact(eqx.Module):
    """The exact posterior of probabilistic PCA as outputs for a full covariance."""

    weight: jax.Array
    bias: jax.Array
    noise: jax.Array

    def __call__(self, x, mask=None):
        w = self.weight if mask is None else self.weight * mask[:, None]
        precision = jnp.eye(w.shape[1]) + w.T @ w / self.noise
        mean = jnp.linalg.solve(precision, w.T @ (x - self.bias)) / self.noise
        factor = jnp.linalg.cholesky(jnp.linalg.inv(precision))
        return jnp.concatenate([mean, jnp.tril(factor, -1).ravel(), jnp.log(jnp.diagonal(factor))])


def ppca(seed=0, d=LATENT, big_d=D):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(big_d, d)), rng.normal(size=big_d)


def log_evidence(w, mu, s2, x):
    cov = w @ w.T + s2 * np.eye(len(mu))
    return np.atleast_1d(multivariate_normal(mu, cov).logpdf(x))


def rows(seed=1, n=ROWS, big_d=D):
    return 1.5 * np.random.default_rng(seed).normal(size=(n, big_d)) + 0.3


def exact_vae(w, mu, **settings):
    w, mu = jnp.asarray(w), jnp.asarray(mu)
    options = {
        "latent": w.shape[1],
        "posterior": infer.FullRank(1.0),
        "encoder": Exact(w, mu, jnp.asarray(S2)),
        "decoder": Affine(w, mu),
        "n_samples": 14,
    }
    return infer.VAE(Gaussian(np.sqrt(S2)), **(options | settings))


def gradients(vae, data, key):
    """The mean bound and the descent direction, as a step of the optimizer gets them."""
    vae = vae.ready(data)
    state = vae.init(jax.random.key(3), data)
    trained, rest = split(state.model)

    def loss(trained):
        return vae._loss(key, data, trained, rest, state.t)

    descent, (bounds, *_) = jax.jit(jax.grad(loss, has_aux=True))(trained)
    return bounds, join(descent, rest)


@pytest.mark.parametrize(
    "objective",
    [infer.ReverseKL(), infer.IWAE(), infer.Renyi(0.3), infer.Repeated(infer.IWAE(), groups=7)],
    ids=["elbo", "iwae", "renyi", "miwae"],
)
def test_the_exact_posterior_has_no_noise(x64, objective, key):
    w, mu = ppca()
    x = rows()
    bounds, descent = gradients(exact_vae(w, mu, objective=objective), infer.Data(x), key)
    np.testing.assert_allclose(bounds.values, log_evidence(w, mu, S2, x), rtol=1e-12)
    for leaf in jax.tree.leaves(descent.encoder):
        np.testing.assert_allclose(leaf, 0, atol=1e-12)


def test_model_gradient_is_that_of_the_evidence(x64, key):
    """Fisher's identity: at the exact posterior, on average over draws; K rows of draws."""
    w, mu = ppca()
    x = rows()

    def log_p(w, mu):
        cov = w @ w.T + S2 * jnp.eye(D)
        rest = jnp.asarray(x) - mu
        quadratic = jnp.sum(rest * jnp.linalg.solve(cov, rest.T).T, axis=1)
        return jnp.mean(-0.5 * (quadratic + jnp.linalg.slogdet(cov)[1] + D * jnp.log(2 * jnp.pi)))

    wanted = jax.grad(log_p, argnums=(0, 1))(jnp.asarray(w), jnp.asarray(mu))
    family = infer.EvenDraws(infer.FullRank(1.0), infer.SigmaPoints())
    vae = exact_vae(w, mu, posterior=family, n_samples=2 * LATENT)
    _, descent = gradients(vae, infer.Data(x), key)
    np.testing.assert_allclose(-descent.decoder.arrays[0], wanted[0], rtol=1e-10)
    np.testing.assert_allclose(-descent.decoder.arrays[1], wanted[1], rtol=1e-10)


def test_what_was_not_observed_counts_for_nothing(x64, key):
    w, mu = ppca()
    x = rows()
    mask = np.ones(x.shape, bool)
    mask[0, 1] = mask[0, 4] = mask[2, 0] = mask[3, :4] = False
    holes = np.where(mask, x, np.nan)
    vae = exact_vae(w, mu, objective=infer.IWAE())
    bounds, _ = gradients(vae, infer.Data(holes, mask=mask), key)
    wanted = [log_evidence(w[m], mu[m], S2, row[m])[0] for m, row in zip(mask, x, strict=True)]
    np.testing.assert_allclose(bounds.values, wanted, rtol=1e-12)


GOLDEN = {
    "w": np.array([[1.0, 0], [0.5, 1], [0, -1]]),
    "mu": np.array([0.1, -0.2, 0.3]),
    "x": np.array([1.0, 2, -0.5]),
    "s2": 0.5,
}


def golden_vae(**settings):
    """The proposal N((.5, .5), diag(.3, .4)) for the model of the golden numbers."""
    outputs = jnp.array([0.5, 0.5, 0.5 * np.log(0.3), 0.5 * np.log(0.4)])
    options = {
        "latent": 2,
        "posterior": infer.MeanField(1.0),
        "encoder": Affine(jnp.zeros((4, 3)), outputs),
        "decoder": Affine(jnp.asarray(GOLDEN["w"]), jnp.asarray(GOLDEN["mu"])),
    }
    return infer.VAE(Gaussian(np.sqrt(GOLDEN["s2"])), **(options | settings))


@pytest.mark.parametrize("beta", [None, 0.0, 0.4, 2.0])
def test_golden_lower_bound(x64, beta, key):
    family = infer.EvenDraws(infer.MeanField(1.0), infer.SigmaPoints())
    vae = golden_vae(posterior=family, n_samples=4, beta=beta)
    bounds, _ = gradients(vae, infer.Data(GOLDEN["x"][None]), key)
    kl = 0.5 * (0.3 + 0.4 + 0.5 - 2 - np.log(0.3 * 0.4))
    reconstruction = -5.904726596874145 + kl
    wanted = reconstruction - (1 if beta is None else beta) * kl
    np.testing.assert_allclose(bounds.values[0], wanted, rtol=1e-13)


PATH_MEANS = {
    0.0: (0.3134, 0.3181, 0.1367, 0.0790),
    0.3: (0.5736, 0.7320, 0.1524, 0.0830),
    0.7: (1.1054, 1.6849, 0.1170, -0.1454),
}


@pytest.mark.parametrize(("alpha", "ratio"), [(0.3, 3.0), *slow((0.0, 4.0), (0.7, 2.0))])
def test_golden_path_gradients(x64, alpha, ratio):
    """Rows are replicates: 250 gradients, each the mean over 400 of them."""
    data = infer.Data(np.tile(GOLDEN["x"], (400, 1)))
    objective = infer.Renyi(alpha) if alpha else infer.IWAE()
    means, errors = {}, {}
    for name, estimator in {"path": infer.Path(), "reparam": infer.Reparam()}.items():
        vae = golden_vae(objective=objective, estimator=estimator, n_samples=8).ready(data)
        state = vae.init(jax.random.key(3), data)
        trained, rest = split(state.model)

        @jax.jit
        def ascent(keys, vae=vae, trained=trained, rest=rest, t=state.t):
            def one(key):
                loss = jax.grad(lambda p: vae._loss(key, data, p, rest, t)[0])
                return -loss(trained).encoder.arrays[1]

            return jax.lax.map(one, keys)

        found = ascent(jax.random.split(jax.random.key(8), 250))
        means[name], errors[name] = found.mean(axis=0), found.std(axis=0) / np.sqrt(250)
    np.testing.assert_array_less(
        abs(means["path"] - np.array(PATH_MEANS[alpha])), 4.5 * errors["path"] + 5e-5
    )
    both = np.hypot(errors["path"], errors["reparam"])
    np.testing.assert_array_less(abs(means["path"] - means["reparam"]), 4.5 * both)
    np.testing.assert_array_less(ratio, errors["reparam"] / errors["path"])


def test_groups_of_draws_are_their_mean(x64, key):
    """Three groups of seven: the axes that a well-known library has mixed up."""
    x = GOLDEN["x"][None]
    vae = golden_vae(objective=infer.Repeated(infer.IWAE(), groups=3), n_samples=21)
    bounds, descent = gradients(vae, infer.Data(x), key)
    groups = bounds.log_w[0].reshape(3, 7)
    wanted = np.mean(jax.nn.logsumexp(groups, axis=1) - np.log(7))
    np.testing.assert_allclose(bounds.values[0], wanted, rtol=1e-13)
    # The model alone made of all of them: its gradient is that of IWAE with 21 draws.
    pair = golden_vae(
        objective=(infer.Repeated(infer.IWAE(), groups=3), infer.IWAE()), n_samples=21
    )
    whole = golden_vae(objective=infer.IWAE(), n_samples=21)
    _, both = gradients(pair, infer.Data(x), key)
    _, for_p = gradients(whole, infer.Data(x), key)
    for mine, theirs in zip(both.encoder.arrays, descent.encoder.arrays, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    for mine, theirs in zip(both.decoder.arrays, for_p.decoder.arrays, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.4, *slow(0.0, 2.0)])
@pytest.mark.parametrize("objective", [infer.ReverseKL(), infer.Renyi(0.3)], ids=["elbo", "renyi"])
def test_estimators_agree_for_any_beta(x64, objective, beta):
    """Reparam is autodiff of the value; path and score have to have the same mean."""
    data = infer.Data(np.tile(GOLDEN["x"], (500, 1)))
    found = {}
    for estimator in (infer.Reparam(), infer.Path(), infer.Score()):
        vae = golden_vae(objective=objective, estimator=estimator, n_samples=4, beta=beta)
        vae = vae.ready(data)
        state = vae.init(jax.random.key(3), data)
        trained, rest = split(state.model)

        @jax.jit
        def ascent(keys, vae=vae, trained=trained, rest=rest, t=state.t):
            def one(key):
                loss = jax.grad(lambda p: vae._loss(key, data, p, rest, t)[0])
                return -loss(trained).encoder.arrays[1]

            return jax.lax.map(one, keys)

        draws = ascent(jax.random.split(jax.random.key(9), 200))
        found[type(estimator).__name__] = draws.mean(axis=0), draws.std(axis=0) / np.sqrt(200)
    mean, error = found["Reparam"]
    for name in ("Path", "Score"):
        z = abs(found[name][0] - mean) / np.hypot(found[name][1], error)
        np.testing.assert_array_less(z, 4.5, err_msg=name)


def optimum(lam, d, s2, beta=1.0):
    """Largest mean objective of a linear model per row: noise fixed, weights free."""
    big_d, noise = len(lam), beta * s2
    kept = np.maximum(lam[:d], noise)
    terms = np.sum(np.log(kept)) + (big_d - d) * np.log(noise)
    terms += np.sum(lam[:d] / kept) + np.sum(lam[d:]) / noise
    log_p = -0.5 * (big_d * np.log(2 * np.pi) + terms)
    shift = beta * np.log(2 * np.pi * noise) - np.log(2 * np.pi * s2)
    return beta * log_p + 0.5 * big_d * shift


def spectrum(x):
    return np.sort(np.linalg.eigvalsh(np.cov(x, rowvar=False, ddof=0)))[::-1]


@pytest.fixture(scope="module")
def cloud():
    """Rows of six correlated columns, two of which a model with noise .5 cannot see."""
    rng = np.random.default_rng(4)
    w = rng.normal(size=(6, 4)) * np.array([2.0, 1.2, 0.5, 0.2])
    return rng.normal(size=(300, 4)) @ w.T + 0.5 * rng.normal(size=(300, 6)) + 1.0


def linear(**settings):
    rate = optax.cosine_decay_schedule(3e-2, 6000)
    options = {
        "latent": 3,
        "encoder": infer.MLP(()),
        "decoder": infer.MLP(()),
        "posterior": infer.EvenDraws(infer.MeanField(1.0), infer.SigmaPoints()),
        "n_samples": 6,
        "optimizer": infer.optimizer(optax.adam, learning_rate=rate),
    }
    return options | settings


@pytest.mark.parametrize(
    ("s2", "beta"),
    [
        (0.25, 2.0),
        (None, None),
        pytest.param(0.25, None, marks=pytest.mark.slow),
        pytest.param(1.5, None, marks=pytest.mark.slow),
    ],
)
def test_linear_model_reaches_the_optimum(x64, cloud, s2, beta):
    """Without noise in the gradient, to 1e-6 nats per row; s2 = None is a learned variance."""
    lam = spectrum(cloud)
    likelihood = Gaussian() if s2 is None else Gaussian(np.sqrt(s2))
    vae = infer.VAE(likelihood, beta=beta, **linear())
    result = infer.fit(infer.Data(cloud), vae, key=0, steps=6000, progress=False)
    best = optimum(lam, 3, np.mean(lam[3:]) if s2 is None else s2, beta or 1.0)
    loss = result.history["loss"][0, -1]
    assert 0 <= loss + best < 1e-6
    noise = (np.mean(lam[3:]) if s2 is None else s2) * (beta or 1.0)
    use = result.latents(cloud, key=0)
    assert use.active == np.sum(lam[:3] > noise)
    np.testing.assert_allclose(
        np.sort(use.activity)[::-1], np.maximum(1 - noise / lam[:3], 0), atol=2e-3
    )


def test_conditional_linear_model_reaches_the_optimum(x64, cloud):
    """Two columns are given: what counts is the covariance of the residuals of the others."""
    given, x = cloud[:, :2], cloud[:, 2:]
    design = np.column_stack([given, np.ones(len(x))])
    residual = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    vae = infer.VAE(Gaussian(np.sqrt(0.2)), **linear(latent=2, n_samples=4))
    data = infer.Data(x, condition=given)
    result = infer.fit(data, vae, key=0, steps=6000, progress=False)
    best = optimum(spectrum(residual), 2, 0.2)
    assert 0 <= result.history["loss"][0, -1] + best < 1e-6


@pytest.mark.slow
def test_linear_model_with_random_draws_is_near_the_optimum(cloud):
    """Eight draws a step, float32, averaged parameters: 1e-3 nats per row."""
    s2, lam = 0.25, spectrum(cloud)
    vae = infer.VAE(Gaussian(np.sqrt(s2)), **linear(posterior=infer.MeanField(1.0), n_samples=8))
    result = infer.fit(infer.Data(cloud), vae, key=0, steps=6000, progress=False)
    # The bound of the averaged model, by sigma points, which are exact for it.
    exact = infer.EvenDraws(infer.MeanField(1.0), infer.SigmaPoints())
    x = jnp.asarray(cloud, jnp.float32)

    @jax.jit
    def bound(model, x):
        def one(x):
            q = model.posterior(infer.core.data.Rows(x))
            e = exact.noise.points(jax.random.key(0), 6, 3, x.dtype)
            z = q.mean + e @ q.factor.T
            log_w = jax.vmap(lambda z: model.log_joint(z, infer.core.data.Rows(x)))(z)
            return jnp.mean(log_w - jax.vmap(q.log_prob)(z))

        return jnp.mean(jax.vmap(one)(x))

    gap = optimum(lam, 3, s2) - bound(result.model, x)
    assert -1e-5 < gap < 1e-3


class Lower(eqx.Module):
    """An affine decoder that reads the lower level alone."""

    affine: Affine

    def __call__(self, z):
        return self.affine(z[2:])


@pytest.mark.slow
def test_two_levels_reach_the_optimum(cloud):
    """x | v linear in v, v | u linear in u, full covariances: again probabilistic PCA of v."""
    s2, lam = 0.25, spectrum(cloud)
    options = linear(
        posterior=infer.HierarchicalPosterior(2, infer.FullRank(1.0), infer.MLP(())),
        prior=infer.HierarchicalPrior(2, infer.FullRank(1.0), infer.MLP(())),
        decoder=Lower(Affine(0.1 * jax.random.normal(jax.random.key(5), (6, 3)), jnp.zeros(6))),
        latent=5,
        n_samples=8,
    )
    vae = infer.VAE(Gaussian(np.sqrt(s2)), **options)
    result = infer.fit(infer.Data(cloud), vae, key=0, steps=6000, progress=False)
    # With draws: the mean of the last thousand losses is the bound.
    loss = result.history["loss"][0, -1000:].mean()
    assert abs(optimum(lam, 3, s2) + loss) < 0.01
    assert result.verdict["KL gap"].value < 0.01


def test_chain_knows_its_density(x64, key):
    head = infer.HierarchicalPosterior(2, infer.FullRank(1.0), infer.MLP((4,))).head(key, 5)
    moved = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(key, leaf.shape, leaf.dtype), head.network
    )
    head = eqx.tree_at(lambda h: h.network, head, moved)
    q = head(0.3 * jax.random.normal(key, (head.n_outputs,)))

    @jax.jit
    def look(key):
        draws = q.sample_score(key, 7)
        return draws, jax.vmap(q.log_prob)(draws.x), jax.vmap(jax.grad(q.log_prob))(draws.x)

    draws, log_q, score = look(key)
    np.testing.assert_allclose(draws.log_q, log_q, rtol=1e-12)
    np.testing.assert_allclose(draws.score, score, rtol=1e-10)


def test_dreams_teach_the_posterior(x64, key):
    """At the exact posterior the penalty is its entropy."""
    w, mu = ppca()
    sleep = infer.regularizers.Sleep()
    vae = exact_vae(w, mu, objective=(infer.Nothing(), infer.ReverseKL()), regularizers=(sleep,))
    data = infer.Data(rows(n=40))
    vae = vae.ready(data)
    model, n = vae.build(key, data), 4000
    q, z = model.posterior(data.rows.take(0)), jnp.zeros((n, 1, LATENT))
    batch = infer.regularizers.Batch(data.rows.x, z, q, model.latent_prior(), 0, 40, model)
    found = eqx.filter_jit(sleep.penalty)(jax.random.key(1), batch)
    cov = S2 * np.linalg.inv(w.T @ w + S2 * np.eye(LATENT))
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov)[1]
    assert abs(found - entropy) < 5 * np.sqrt(LATENT / 2 / n)


@pytest.mark.slow
def test_wake_sleep_reaches_the_optimum(cloud):
    s2, lam = 0.25, spectrum(cloud)
    vae = infer.VAE(
        Gaussian(np.sqrt(s2)),
        objective=(infer.Nothing(), infer.ReverseKL()),
        regularizers=(infer.regularizers.Sleep(),),
        **linear(posterior=infer.FullRank(1.0), n_samples=4),
    )
    result = infer.fit(infer.Data(cloud), vae, key=0, steps=6000, progress=False)
    assert result.verdict["KL gap"].value < 0.01
    assert abs(optimum(lam, 3, s2) + result.history["loss"][0, -1000:].mean()) < 0.05


def test_imputed_entries_are_the_conditional_means(x64):
    """Against the Gaussian conditional of what is missing; 4000 draws of the exact posterior."""
    w, mu = ppca()
    x = rows()
    mask = np.ones(x.shape, bool)
    mask[0, 1] = mask[0, 4] = mask[2, 0] = mask[3, :4] = False
    holes, n = np.where(mask, x, np.nan), 4000
    still = infer.optimizer(optax.sgd, learning_rate=1e-30)
    vae = exact_vae(w, mu, optimizer=still)
    result = infer.fit(infer.Data(holes, mask=mask), vae, key=0, steps=1, progress=False)
    filled = np.asarray(result.impute(holes, mask, key=1, n_samples=n))
    np.testing.assert_array_equal(filled[mask], x[mask])
    cov = w @ w.T + S2 * np.eye(D)
    for row, seen, found in zip(x, mask, filled, strict=True):
        gain = cov[np.ix_(~seen, seen)] @ np.linalg.inv(cov[np.ix_(seen, seen)])
        wanted = mu[~seen] + gain @ (row - mu)[seen]
        left = cov[np.ix_(~seen, ~seen)] - gain @ cov[np.ix_(seen, ~seen)]
        z = abs(found[~seen] - wanted) / np.sqrt(np.diag(left) / n)
        assert np.all(z < 5)


def test_evidence_under_a_mixture_prior(x64):
    """p(z) = sum_c pi_c N(a_c, R_c) makes x a mixture of N(W a_c + mu, W R_c W^T + s2 I)."""
    w, mu = ppca()
    x, rng = rows(), np.random.default_rng(7)
    shares, places = np.array([0.3, 0.7]), 0.8 * rng.normal(size=(2, LATENT))
    lower = np.tril(0.3 * rng.normal(size=(2, LATENT, LATENT)), -1)
    log_diagonal = -0.3 + 0.2 * rng.normal(size=(2, LATENT))
    components = jax.vmap(CholeskyGaussian)(*map(jnp.asarray, (places, lower, log_diagonal)))
    prior = MixtureDistribution(components, jnp.log(jnp.asarray(shares)))
    data = infer.Data(x)
    still = infer.optimizer(optax.sgd, learning_rate=1e-30)
    vae = exact_vae(w, mu, optimizer=still)
    result = infer.fit(data, vae, key=0, steps=1, progress=False).with_prior(prior)
    found = result.evidence(x, key=1, n_samples=20_000)
    terms = []
    for c in range(2):
        factor = lower[c] + np.diag(np.exp(log_diagonal[c]))
        cov = w @ factor @ factor.T @ w.T + S2 * np.eye(D)
        terms.append(np.log(shares[c]) + multivariate_normal(w @ places[c] + mu, cov).logpdf(x))
    assert np.all(abs(found.log_evidence - np.logaddexp(*terms)) < 5 * found.error)
    assert np.all(found.error < 0.1)


def test_vamp_prior_is_a_mixture_of_posteriors_of_its_rows(x64, key):
    w, mu = ppca()
    vae = exact_vae(w, mu, prior=infer.VampPrior(3)).ready(infer.Data(rows()))
    model = vae.build(key, infer.Data(rows()))
    low, high = rows().min(), rows().max()
    u = low + (high - low) / (1 + np.exp(-np.asarray(model.prior.free)))
    assert u.shape == (3, D) and np.all((u > low) & (u < high))
    cov = S2 * np.linalg.inv(w.T @ w + S2 * np.eye(LATENT))
    z = np.random.default_rng(2).normal(size=LATENT)
    each = [multivariate_normal(cov @ w.T @ (one - mu) / S2, cov).logpdf(z) for one in u]
    wanted = np.logaddexp.reduce(each) - np.log(3)
    np.testing.assert_allclose(model.latent_prior().log_prob(jnp.asarray(z)), wanted, rtol=1e-10)
