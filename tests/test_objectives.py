"""Objectives and estimators, against closed forms, autodiff at fixed draws, and one another."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from marks import slow
from scipy.special import logsumexp

import infer
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws, Sampling
from infer.families.gaussian import CholeskyGaussian, DiagonalGaussian
from infer.objectives import estimate, valid_estimators
from infer.objectives.estimator import _Mixture

# x | z ~ N(W z + mu, s2 I) at one x, z ~ N(0, I): everything about its posterior is known.
W = np.array([[1.0, 0.0], [0.5, 1.0], [0.0, -1.0]])
MU, X, S2 = np.array([0.1, -0.2, 0.3]), np.array([1.0, 2.0, -0.5]), 0.5
COVARIANCE = np.linalg.inv(np.eye(2) + W.T @ W / S2)
MEAN = COVARIANCE @ W.T @ (X - MU) / S2
LOG_Z = -4.6208962313485795
Q_MEAN, Q_COVARIANCE = np.array([0.5, 0.5]), np.diag([0.3, 0.4])


def log_joint(z, data):
    w, e, s2 = data
    rest = e - w @ z
    log_likelihood = -0.5 * rest @ rest / s2 - 1.5 * jnp.log(2 * jnp.pi * s2)
    return log_likelihood - 0.5 * z @ z - jnp.log(2 * jnp.pi)


def factor_model():
    data = jax.tree.map(lambda v: jnp.asarray(v, float), (W, X - MU, S2))
    return infer.from_log_density(log_joint, jnp.zeros(2), data=data)


def proposal():
    return DiagonalGaussian(jnp.asarray(Q_MEAN), 0.5 * jnp.log(jnp.diagonal(Q_COVARIANCE)))


def divergence(a, m1, s1, m2, s2):
    """Renyi divergence of order a of N(m1, s1) from N(m2, s2)."""
    mixed = (1 - a) * s1 + a * s2
    gap = m1 - m2
    log_det = [np.linalg.slogdet(s)[1] for s in (mixed, s1, s2)]
    rest = log_det[0] - (1 - a) * log_det[1] - a * log_det[2]
    return a / 2 * gap @ np.linalg.solve(mixed, gap) - rest / (2 * (a - 1))


def kl(m1, s1, m2, s2):
    gap, inverse = m2 - m1, np.linalg.inv(s2)
    log_det = np.linalg.slogdet(s2)[1] - np.linalg.slogdet(s1)[1]
    return 0.5 * (np.trace(inverse @ s1) + gap @ inverse @ gap - len(gap) + log_det)


POSTERIOR, Q = (MEAN, COVARIANCE), (Q_MEAN, Q_COVARIANCE)

OBJECTIVES = {
    "ReverseKL": infer.ReverseKL,
    "IWAE": infer.IWAE,
    "Renyi": lambda: infer.Renyi(0.3),
    "Renyi beyond one": lambda: infer.Renyi(1.2),
    "CUBO": lambda: infer.CUBO(1.7),
    "ForwardKL": infer.ForwardKL,
    "FDivergence": lambda: infer.FDivergence(lambda w: (jnp.sqrt(w) - 1) ** 2),
    "LogVariance": infer.LogVariance,
    "TailAdaptive": infer.TailAdaptive,
    "Repeated": lambda: infer.Repeated(infer.IWAE(), groups=2),
    "Blend": lambda: infer.Blend((infer.ReverseKL(), infer.IWAE()), (0.3, 0.7)),
    "Objective": lambda: infer.Objective(lambda u: jnp.mean(u) + 0.1 * jax.nn.logsumexp(0.5 * u)),
}


@eqx.filter_jit
def log_weights(key, target, q, n):
    draws = q.sample_score(key, n)
    return jax.vmap(target.log_prob)(draws.x) - draws.log_q


@eqx.filter_jit
def value_of(objective, log_w):
    return objective.value(log_w, jnp.full_like(log_w, 1 / log_w.size))


@eqx.filter_jit
def score_of(objective, log_w):
    return objective.score_weights(log_w, jnp.full_like(log_w, 1 / log_w.size))


@eqx.filter_jit
def path_of(objective, log_w):
    return objective.path_weights(log_w, jnp.full_like(log_w, 1 / log_w.size))


@eqx.filter_jit
def diagonal_of(objective, log_w):
    mass = jnp.full_like(log_w, 1 / log_w.size)
    return jnp.diagonal(jax.jacfwd(lambda u: objective.score_weights(u, mass))(log_w))


@pytest.mark.parametrize(
    "name, exact",
    [
        ("ReverseKL", LOG_Z - kl(*Q, *POSTERIOR)),
        ("IWAE", LOG_Z),
        ("Renyi", LOG_Z - divergence(0.3, *Q, *POSTERIOR)),
        ("Renyi beyond one", LOG_Z - divergence(1.2, *Q, *POSTERIOR)),
        ("CUBO", -LOG_Z - 0.7 / 1.7 * divergence(1.7, *POSTERIOR, *Q)),
        ("ForwardKL", -kl(*POSTERIOR, *Q)),
        # (sqrt(w) - 1)^2 has the mean 2 - 2 E_q sqrt(w) = 2 - 2 exp(-D_1/2 / 2)
        ("FDivergence", -2 + 2 * np.exp(-0.5 * divergence(0.5, *Q, *POSTERIOR))),
    ],
)
def test_values_are_the_closed_forms_of_many_draws(name, exact, x64):
    """16 estimates from 20,000 draws each; error within 4.5 standard errors of their mean."""
    target, q, objective = factor_model(), proposal(), OBJECTIVES[name]()
    keys = jax.random.split(jax.random.key(1), 16)
    values = [value_of(objective, log_weights(key, target, q, 20_000)) for key in keys]
    se = np.std(values, ddof=1) / 4
    assert abs(np.mean(values) - exact) < 4.5 * se + 2e-4 and se < 0.01


def test_golden_values():
    assert abs(LOG_Z - kl(*Q, *POSTERIOR) - -5.904726596874145) < 1e-12
    assert abs(LOG_Z - divergence(0.5, *Q, *POSTERIOR) - -5.054171783806782) < 1e-12
    assert abs(LOG_Z + divergence(2, *POSTERIOR, *Q) / 2 - -4.150878903218034) < 1e-12


def test_log_variance_is_half_the_variance(x64):
    log_w = jnp.asarray([0.3, -1.0, 2.0, 0.7, 0.1])
    assert np.isclose(value_of(infer.LogVariance(), log_w), -0.5 * np.var(log_w, ddof=1))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_are_constant_at_the_posterior(name, x64):
    """Where log w is a constant every value is its exact one and every gradient vanishes."""
    objective, log_w = OBJECTIVES[name](), jnp.full(6, LOG_Z)
    exact = {"CUBO": -LOG_Z, "ForwardKL": 0, "FDivergence": 0, "LogVariance": 0}
    if name != "Objective":
        np.testing.assert_allclose(
            value_of(objective, log_w), exact.get(name, LOG_Z), rtol=1e-12, atol=1e-12
        )
    if objective.from_score:
        v = score_of(objective, log_w)  # E grad log q = 0 does the rest
        np.testing.assert_allclose(v, v[0], rtol=1e-12, atol=1e-14)
        if objective.derivative:
            np.testing.assert_allclose(v, 0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n != "TailAdaptive"])
def test_path_weights_are_the_diagonal_derivative_of_score_weights(name, x64):
    objective = OBJECTIVES[name]()
    log_w = 2 * jax.random.normal(jax.random.key(2), (8,))
    expected = diagonal_of(objective, log_w)
    np.testing.assert_allclose(path_of(objective, log_w), expected, rtol=1e-10)


def test_general_score_weights_are_those_written_out(x64):
    """Leave-one-out for the lower bound, and VIMCO with its second baseline for IWAE."""
    log_w = np.array([0.3, -1.0, 2.0, 0.7])
    special = score_of(infer.ReverseKL(), jnp.asarray(log_w))
    np.testing.assert_allclose(score_of(infer.Objective(jnp.mean), jnp.asarray(log_w)), special)
    v, lse = score_of(infer.IWAE(), jnp.asarray(log_w)), logsumexp
    for k in range(4):
        others = np.delete(log_w, k)
        without = np.append(others, others.mean())
        signal = lse(log_w) - lse(without)
        share, share_without = np.exp(log_w[k] - lse(log_w)), np.exp(others.mean() - lse(without))
        np.testing.assert_allclose(v[k], signal - share + share_without, rtol=1e-10)


def test_objectives_that_are_special_cases_of_others(x64):
    log_w = 2 * jax.random.normal(jax.random.key(2), (9,))
    pairs = [
        (infer.ForwardKL(), infer.FDivergence(lambda w: w * jnp.log(w))),
        (infer.IWAE(), infer.Objective(lambda u: jax.nn.logsumexp(u) - jnp.log(u.size))),
        (infer.ReverseKL(), infer.Objective(jnp.mean)),
        (infer.ChiSquare(), infer.CUBO(2.0)),
    ]
    for a, b in pairs:
        for look in (value_of, score_of, path_of):
            np.testing.assert_allclose(look(a, log_w), look(b, log_w), rtol=1e-9, atol=1e-12)
    near = value_of(infer.Renyi(1 - 1e-7), log_w)
    np.testing.assert_allclose(near, value_of(infer.ReverseKL(), log_w), rtol=1e-5)


def test_tail_adaptive_weights_follow_ranks(x64):
    log_w = jnp.asarray([5.0, -3.0, 0.0, 100.0])
    a = path_of(infer.TailAdaptive(), log_w)
    r = np.array([4 / 2, 4 / 4, 4 / 3, 4 / 1])
    np.testing.assert_allclose(a, r / r.sum(), rtol=1e-12)
    np.testing.assert_allclose(path_of(infer.TailAdaptive(strength=0.0), log_w), 0.25)


# Gradients ------------------------------------------------------------------------------------


@eqx.filter_jit
def gradient(key, target, q, objective, estimator, n, at_once=None):
    value, ascent = estimate(key, target, q, objective, estimator, n, at_once)
    return value, ravel_pytree(ascent)[0]


@pytest.mark.parametrize("name", ["IWAE", "Renyi"])
def test_reparam_is_autodiff_of_the_bound(name, x64):
    objective, target, key = OBJECTIVES[name](), factor_model(), jax.random.key(3)

    @eqx.filter_jit
    def bound(q):
        draws = q.sample_score(key, 5)
        log_w = jax.vmap(target.log_prob)(draws.x) - jax.vmap(q.log_prob)(draws.x)
        return value_of(objective, log_w)

    value, ascent = gradient(key, target, proposal(), objective, infer.Reparam(), 5)
    np.testing.assert_allclose(value, bound(proposal()), rtol=1e-12)
    np.testing.assert_allclose(ascent, ravel_pytree(jax.grad(bound)(proposal()))[0], rtol=1e-10)


@pytest.mark.parametrize("name", ["ForwardKL", "CUBO", "LogVariance"])
def test_score_is_autodiff_at_fixed_draws(name, x64):
    """Of the weighted log likelihood, of the moment and of the variance, draws held fixed."""
    target, key, n = factor_model(), jax.random.key(3), 5

    def written_out(q):
        x = jax.lax.stop_gradient(q.sample_score(key, n).x)
        log_q = jax.vmap(q.log_prob)(x)
        log_w = jax.vmap(target.log_prob)(x) - log_q
        if name == "ForwardKL":
            return jnp.sum(jax.lax.stop_gradient(jax.nn.softmax(log_w)) * log_q)
        if name == "LogVariance":
            return -0.5 * jnp.var(log_w, ddof=1)
        # E_q w^n = E_r (q / r) w^n with draws of r, which is q at these parameters
        fixed = jax.lax.stop_gradient(log_q)
        return -jax.nn.logsumexp(1.7 * log_w + log_q - fixed) / 1.7

    ascent = gradient(key, target, proposal(), OBJECTIVES[name](), infer.Score(), n)[1]
    expected = ravel_pytree(jax.jit(jax.grad(written_out))(proposal()))[0]
    np.testing.assert_allclose(ascent, expected, rtol=1e-9, atol=1e-12)


@eqx.filter_jit
def several(keys, target, q, objective, estimator, n):
    return jax.lax.map(
        lambda k: gradient(k, target, q, objective, estimator, n)[1], keys, batch_size=500
    )


SLOW = pytest.mark.slow
PUBLISHED = {
    0.0: ([0.3134, 0.3181, 0.1367, 0.0790], 4),
    0.3: ([0.5736, 0.7320, 0.1524, 0.0830], 3),
    0.7: ([1.1054, 1.6849, 0.1170, -0.1454], 2),
}


@pytest.mark.parametrize(
    "alpha", [pytest.param(0.0, marks=SLOW), 0.3, pytest.param(0.7, marks=SLOW)]
)
def test_path_gradients_of_renyi_bounds(alpha, x64):
    """Means from 40,000 gradients of 8 draws against figures of four digits, z < 4.5."""
    target, objective, n = factor_model(), infer.Renyi(alpha), 40_000
    keys = jax.random.split(jax.random.key(4), 2 * n)
    path = several(keys[:n], target, proposal(), objective, infer.Path(), 8)
    reparam = several(keys[n:], target, proposal(), objective, infer.Reparam(), 8)
    expected, least = PUBLISHED[alpha]
    se_path, se_reparam = path.std(axis=0) / n**0.5, reparam.std(axis=0) / n**0.5
    assert (np.abs(path.mean(axis=0) - np.array(expected)) < 4.5 * se_path + 1e-3).all()
    gap = np.abs(path.mean(axis=0) - reparam.mean(axis=0))
    assert (gap < 4.5 * np.hypot(se_path, se_reparam)).all()
    assert (se_reparam / se_path > least).all()


@pytest.mark.parametrize(
    "name, n",
    [("IWAE", 10_000), *slow(("ForwardKL", 10_000))]
    + [pytest.param(name, 250_000, marks=SLOW) for name in OBJECTIVES],
)
def test_all_valid_estimators_agree_on_average(name, n, x64):
    """n gradients of 4 draws of a full-rank Gaussian each, 15 comparisons, z < 4.5."""
    objective, target = OBJECTIVES[name](), factor_model()
    lower = jnp.asarray([[0.0, 0.0], [0.2, 0.0]])
    q = CholeskyGaussian(jnp.asarray(Q_MEAN), lower, jnp.asarray([-0.5, -0.6]))
    valid = valid_estimators(objective, Sampling.INDEPENDENT, 4)
    assert infer.Path() in valid
    if objective.derivative:
        valid += (_Mixture(jnp.asarray(0.3)),)
    means, errors = [], []
    for i, estimator in enumerate(valid):
        keys = jax.random.split(jax.random.key(10 + i), n)
        all_of = several(keys, target, q, objective, estimator, 4)
        means.append(all_of.mean(axis=0))
        errors.append(all_of.std(axis=0) / n**0.5)
    for mean, error in zip(means[1:], errors[1:], strict=True):
        gap = np.abs(mean - means[0])
        assert (gap <= 4.5 * np.hypot(error, errors[0]) + 1e-14).all()
    assert np.linalg.norm(means[0]) > 10 * np.linalg.norm(errors[0])  # they are not all noise


@pytest.mark.parametrize("name", ["IWAE", "Renyi", "CUBO", "ForwardKL", "TailAdaptive"])
def test_gradients_vanish_draw_by_draw_at_the_posterior(name, x64):
    objective, target = OBJECTIVES[name](), factor_model()
    factor = jnp.linalg.cholesky(jnp.asarray(COVARIANCE))
    q = CholeskyGaussian(jnp.asarray(MEAN), factor, jnp.log(jnp.diagonal(factor)))
    path = gradient(jax.random.key(5), target, q, objective, infer.Path(), 6)[1]
    np.testing.assert_allclose(path, 0, atol=1e-12)
    if objective.derivative and objective.from_score:
        score = gradient(jax.random.key(5), target, q, objective, infer.Score(), 6)[1]
        np.testing.assert_allclose(score, 0, atol=1e-12)


@pytest.mark.parametrize(
    "name, estimator",
    [
        ("ReverseKL", infer.Score()),
        ("IWAE", infer.Path()),
        *slow(("ReverseKL", infer.Reparam()), ("ReverseKL", infer.Path())),
        *slow(("IWAE", infer.Reparam()), ("IWAE", infer.Score())),
    ],
)
def test_blocks_give_the_gradient_of_all_draws_together(name, estimator, x64):
    """Against the same draws, made by hand from the keys of the blocks."""
    objective, target, q, key = OBJECTIVES[name](), factor_model(), proposal(), jax.random.key(6)

    class Joined(AbstractDistribution):
        inside: DiagonalGaussian

        def sample_score(self, key, n):
            parts = [self.inside.sample_score(k, 4) for k in jax.random.split(key, 3)]
            whole = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
            return Draws(whole.x, whole.log_q, whole.score, independent=True)

        def sample(self, key, n):
            return self.sample_score(key, n).x

        def log_prob(self, x):
            return self.inside.log_prob(x)

        def moments(self):
            return None

    blocks = gradient(key, target, q, objective, estimator, 12, 4)
    whole = gradient(key, target, Joined(q), objective, estimator, 12)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-12)
    np.testing.assert_allclose(blocks[1], whole[1], rtol=1e-10, atol=1e-12)


# Draws of the posterior -----------------------------------------------------------------------


def posterior_draws(n, key=9):
    noise = np.random.default_rng(key).normal(size=(n, 2))
    return jnp.asarray(MEAN + noise @ np.linalg.cholesky(COVARIANCE).T)


def full_rank():
    lower = jnp.asarray([[0.0, 0.0], [0.2, 0.0]])
    return CholeskyGaussian(jnp.asarray(Q_MEAN), lower, jnp.asarray([-0.5, -0.6]))


def small_flow():
    q = infer.RealNVP(n_layers=2, width=3, scale=0.6).init(jax.random.key(0), jnp.asarray(Q_MEAN))
    flat, back = ravel_pytree(q)
    return back(flat + 0.2 * jax.random.normal(jax.random.key(1), flat.shape))


@pytest.mark.parametrize(
    "make", [proposal, full_rank, pytest.param(small_flow, marks=pytest.mark.slow)]
)
def test_gradients_at_draws_of_the_posterior(make, x64):
    """Score is that of the mean log likelihood; Path that of the pulled back divergence.

    KL(p_0 || N(0, I)), p_0 the density of z = T^-1(x): its path gradient is the mean of
    (grad log p_0 - grad log N)(z) dz/dphi, here with both scores by autodiff through T.
    """
    q, target, objective = make(), factor_model(), infer.MaximumLikelihood(posterior_draws(5))
    rows = jax.random.randint(jax.random.key(3), (7,), 0, 5)
    x = objective.draws[rows]
    value, score = gradient(jax.random.key(3), target, q, objective, infer.Score(), 7)
    log_q = jax.jit(lambda q: jnp.mean(jax.vmap(q.log_prob)(x)))
    log_p = jnp.mean(jax.vmap(target.log_prob)(x))
    np.testing.assert_allclose(value, log_q(q) - log_p, rtol=1e-12)
    np.testing.assert_allclose(score, ravel_pytree(jax.grad(log_q)(q))[0], rtol=1e-10, atol=1e-13)

    def transport(q, z):
        if isinstance(q, DiagonalGaussian):
            return q.mean + jnp.exp(q.log_scale) * z
        if isinstance(q, CholeskyGaussian):
            return q.mean + q.factor @ z
        return q.place.forward(q.body.forward(z)[0])[0]

    def noise_of(q, x):
        def newton(_, z):  # so that T alone is used
            jacobian = jax.jacfwd(lambda z: transport(q, z))(z)
            return z - jnp.linalg.solve(jacobian, transport(q, z) - x)

        return jax.lax.fori_loop(0, 40, newton, jnp.zeros(2))

    def pulled_back(z):
        log_det = jnp.linalg.slogdet(jax.jacfwd(lambda z: transport(q, z))(z))[1]
        return target.log_prob(transport(q, z)) + log_det

    @jax.jit
    def expected(q):
        def force(x):
            z = noise_of(q, x)
            return z, jax.grad(pulled_back)(z) + z

        z, forces = jax.vmap(force)(x)
        z, forces = jax.lax.stop_gradient((z, forces))

        def moved(q):  # dz/dphi at fixed x by the implicit function theorem
            jacobians = jax.lax.stop_gradient(
                jax.vmap(lambda z: jax.jacfwd(lambda z: transport(q, z))(z))(z)
            )
            change = jax.vmap(lambda z: transport(q, z))(z)
            return -jnp.mean(jnp.sum(forces * jax.vmap(jnp.linalg.solve)(jacobians, change), 1))

        return jax.grad(lambda q: -moved(q))(q)  # up from the divergence

    path = gradient(jax.random.key(3), target, q, objective, infer.Path(), 7)[1]
    np.testing.assert_allclose(path, ravel_pytree(expected(q))[0], rtol=1e-8, atol=1e-10)


def test_both_gradients_at_draws_of_the_posterior_have_one_mean(x64):
    """20,000 gradients each, of 2 out of 200,000 draws, z < 4.5."""
    draws = posterior_draws(200_000)
    q, target, objective = full_rank(), factor_model(), infer.MaximumLikelihood(draws)
    keys = jax.random.split(jax.random.key(0), 20_000)
    path = several(keys, target, q, objective, infer.Path(), 2)
    score = several(keys[::-1], target, q, objective, infer.Score(), 2)
    se = np.hypot(path.std(axis=0), score.std(axis=0)) / 20_000**0.5
    assert (np.abs(path.mean(axis=0) - score.mean(axis=0)) <= 4.5 * se).all()
    assert np.linalg.norm(score.mean(axis=0)) > 10 * np.linalg.norm(se)
    factor = jnp.linalg.cholesky(jnp.asarray(COVARIANCE))
    p = CholeskyGaussian(jnp.asarray(MEAN), factor, jnp.log(jnp.diagonal(factor)))
    value, path = gradient(keys[0], target, p, objective, infer.Path(), 6)
    np.testing.assert_allclose(path, 0, atol=1e-11)
    np.testing.assert_allclose(value, -LOG_Z, rtol=1e-10)


def test_maximum_likelihood_refuses():
    with pytest.raises(ValueError, match=r"shape \(n, d\), got \(3,\)"):
        infer.MaximumLikelihood(jnp.zeros(3))
    with pytest.raises(ValueError, match="finite draws"):
        infer.MaximumLikelihood(jnp.full((3, 2), jnp.nan))
    with pytest.raises(ValueError, match=r"Path\(\) or infer\.Score"):
        infer.VI(objective=infer.MaximumLikelihood(jnp.zeros((3, 2))))
    method = infer.VI(objective=infer.MaximumLikelihood(jnp.zeros((3, 4))), estimator=infer.Score())
    with pytest.raises(ValueError, match="draws of 4 coordinates, the target has 2"):
        infer.fit(factor_model(), method, key=0, steps=5)


# Fits -----------------------------------------------------------------------------------------


def skewed(z):
    """Two coordinates with a long tail to the left, and correlated."""
    return jnp.sum(2 * z - jnp.exp(z)) - 0.3 * z[0] * z[1]


def moments_by_quadrature():
    z = np.linspace(-14, 4, 721)
    a, b = np.meshgrid(z, z, indexing="ij")
    p = np.exp(2 * a - np.exp(a) + 2 * b - np.exp(b) - 0.3 * a * b)
    p /= p.sum()
    mean = np.array([(p * a).sum(), (p * b).sum()])
    rest = np.stack([a - mean[0], b - mean[1]])
    return mean, np.einsum("iab,jab,ab->ij", rest, rest, p)


@pytest.mark.parametrize("order", [None, pytest.param(1.5, marks=SLOW)])
def test_forward_objectives_match_moments(order, x64):
    """The Gaussian nearest by KL(p || q) has mean and covariance of the posterior."""
    objective = infer.ForwardKL() if order is None else infer.CUBO(order)
    mean, covariance = moments_by_quadrature()
    method = infer.VI(objective=objective, estimator=infer.Path(), n_samples=200, stopping=None)
    target = infer.from_log_density(skewed, jnp.zeros(2))
    q = infer.fit(target, method, key=0, steps=1000, progress=False).posterior
    if order is None:
        np.testing.assert_allclose(q.mean, mean, atol=0.02)
        np.testing.assert_allclose(q.covariance, covariance, atol=0.05)
    else:  # higher orders cover more
        assert (np.diagonal(q.covariance) > 1.02 * np.diagonal(covariance)).all()


def test_annealed_goes_from_reparam_to_path(x64):
    estimator, target, key = infer.Annealed(steps=4), factor_model(), jax.random.key(1)
    parts = [estimator, infer.Reparam(), estimator.at(jnp.asarray(9)), infer.Path()]
    first, reparam, last, path = (
        gradient(key, target, proposal(), infer.IWAE(), e, 5)[1] for e in parts
    )
    np.testing.assert_allclose(first, reparam, rtol=1e-12)
    np.testing.assert_allclose(last, path, rtol=1e-12)
    middle = gradient(key, target, proposal(), infer.IWAE(), estimator.at(jnp.asarray(1)), 5)[1]
    np.testing.assert_allclose(middle, 0.75 * reparam + 0.25 * path, rtol=1e-12)


def test_score_asks_for_no_gradient_of_the_target():
    @jax.custom_jvp
    def log_density(z):
        return -0.5 * jnp.sum((z - 1) ** 2)

    @log_density.defjvp
    def refuse(primals, tangents):
        raise AssertionError("a gradient was asked for")

    target = infer.from_log_density(log_density, jnp.zeros(2))
    q = DiagonalGaussian(jnp.zeros(2), jnp.zeros(2))
    gradient(jax.random.key(0), target, q, infer.ReverseKL(), infer.Score(), 4)
    with pytest.raises(AssertionError, match="a gradient was asked for"):
        gradient(jax.random.key(0), target, q, infer.ReverseKL(), infer.Path(), 4)


class Strata(AbstractFamily):
    @property
    def independent(self):
        return False

    def init(self, key, start):
        return DiagonalGaussian(start, jnp.zeros_like(start))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(objective=infer.ForwardKL(), estimator=infer.Reparam()), r"Path\(\) or infer\.Score"),
        (dict(objective=infer.TailAdaptive(), estimator=infer.Score()), r"=infer\.Path\(\)\."),
        (dict(estimator=infer.Score(), n_samples=1), r"n_samples >= 2.*Reparam\(\) or infer\.Path"),
        (dict(family=Strata(), objective=infer.IWAE(), estimator=infer.Path()), r"Reparam\(\)\."),
        (dict(family=Strata(), estimator=infer.Score()), r"Reparam\(\) or infer\.Path\(\)\."),
        (
            dict(objective=infer.CUBO(), estimator=infer.Path(), n_samples=1),
            "n_samples >= 2, got 1",
        ),
        (dict(n_samples=8, at_once=3), r"divide n_samples=8, got 3; write n_samples=6"),
        (dict(keep_best=0), "keep_best >= 10"),
    ],
)
def test_pairs_that_would_be_biased_are_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        infer.VI(**settings)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: infer.Renyi(1.0), r"limit ReverseKL\(\)"),
        (lambda: infer.Renyi(-1.0), r"infer\.CUBO\(order=2\.0\)"),
        (lambda: infer.CUBO(1.0), r"order > 1.*infer\.IWAE\(\)"),
        (lambda: infer.FDivergence(lambda w: w), "convex f with f.1. = 0, got f.1. = 1"),
        (lambda: infer.Objective(lambda u: u), "to one number"),
        (lambda: infer.TailAdaptive(-1.0), "strength must be >= 0"),
        (lambda: infer.Annealed(0), "steps >= 1"),
        (lambda: infer.MedianClip(clip=3.0, skip=2.0), "1 <= clip <= skip"),
        (lambda: infer.MedianClip(window=3), "window >= 10"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_objective_is_exported_and_tested():
    exported = {
        name
        for name, thing in vars(infer).items()
        if inspect.isclass(thing) and issubclass(thing, infer.objectives.AbstractObjective)
    }
    tested = {type(make()).__name__ for make in OBJECTIVES.values()}
    assert exported == tested | {"MaximumLikelihood", "Nothing"}


# Training -------------------------------------------------------------------------------------


@eqx.filter_jit
def clipped(clip, norms, gradient, t):
    return clip.apply(norms, gradient, t)


def test_median_clip_by_hand(x64):
    clip = infer.MedianClip(clip=2.0, skip=10.0, window=10)
    norms, rng, seen = clip.init(jnp.zeros(()).dtype), np.random.default_rng(0), []
    lengths = [*rng.uniform(1, 2, 14), 5.0, 100.0, np.nan, 1.5, np.inf, 1.2]
    for t, length in enumerate(lengths):
        direction = {"a": jnp.asarray([0.6, 0.0]), "b": jnp.asarray(0.8)}
        given = jax.tree.map(lambda v, s=length: v * s, direction)
        out, keep, norms = clipped(clip, norms, given, jnp.asarray(t))
        usual = np.median(seen[-10:]) if seen else np.inf
        finite = np.isfinite(length)
        assert bool(keep) == (finite and length <= 10 * usual)
        factor = min(1, 2 * usual / length) if keep else 0
        expected = 0 if factor == 0 else length * factor
        np.testing.assert_allclose(optax.tree_utils.tree_norm(out), expected, rtol=1e-12)
        # What is not finite leaves the window as it was: the place keeps the norm of 10 steps ago.
        seen.append(length if finite else seen[-10])


def hole(z):
    """A density that is not a number beyond 3."""
    return jnp.where(z[0] > 3, jnp.nan, -0.5 * jnp.sum(z**2))


def test_steps_that_are_not_finite_are_skipped_and_counted():
    """A draw beyond 3 comes once in 93 steps of 8 draws at the posterior."""
    target = infer.from_log_density(hole, jnp.zeros(2))
    method = infer.VI(clip=infer.MedianClip(), stopping=None)
    result = infer.fit(target, method, key=0, steps=1000, progress=False)
    count, losses = (result.history[name][0] for name in ("skipped_steps", "loss"))
    assert 3 <= count[-1] <= 40
    again = np.flatnonzero(np.diff(count)) + 1
    np.testing.assert_array_equal(losses[again], losses[again - 1])
    assert np.isfinite(losses).all()
    assert any(e.name == "skipped steps" for e in result.verdict.evidence)


def test_the_best_of_the_averages_is_kept():
    """With a rate that is raised late, so that the end of the run is worse than its middle."""

    def rate(step):
        return jnp.where(step < 1000, 0.02, 2.0)

    target = infer.from_log_density(lambda z: -0.5 * jnp.sum((z - 2) ** 2), jnp.zeros(3))
    settings = dict(optimizer=infer.optimizer(optax.sgd, learning_rate=rate), stopping=None)
    fits = [
        infer.fit(target, infer.VI(keep_best=k, **settings), key=0, steps=1400, progress=False)
        for k in (None, 50)
    ]
    last, best = (np.abs(f.posterior.mean - 2).max() for f in fits)
    assert best < 0.15 < last
    state = fits[1].trail.carry.states
    assert state.contest.value[0] > -0.2  # log Z is 2.76 above a normalized density


def test_a_diverging_rate_ends_with_the_last_good_state():
    target = infer.from_log_density(lambda z: -jnp.sum(z**4), jnp.ones(2))
    method = infer.VI(optimizer=infer.optimizer(optax.sgd, learning_rate=10.0), stopping=None)
    result = infer.fit(target, method, key=0, steps=500, progress=False)
    assert result.verdict.status == "failed" and result.outcome.nonfinite[0] >= 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.posterior))


def test_an_infinite_chi_square_is_said():
    """A Gaussian has thinner tails than a Cauchy density, so its chi^2 is infinite."""
    target = infer.from_log_density(lambda z: -jnp.sum(jnp.log1p(z**2)), jnp.zeros(3))
    method = infer.VI(
        family=infer.MeanField(scale=1.0),
        objective=infer.ChiSquare(),
        estimator=infer.Path(),
        n_samples=64,
        stopping=None,
    )
    result = infer.fit(target, method, key=0, steps=300, progress=False)
    tail = next(e for e in result.verdict.evidence if e.name == "k-hat")
    assert tail.value > 0.5 and "chi^2 is infinite" in tail.meaning
