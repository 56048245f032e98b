"""Cases have the densities that their draws are from, and errors are what they say they are.

For a density p with finite moments E grad log p = 0 and -E[(x - mean) grad log p^T] = I; where
moments are not finite the distribution functions are compared with SciPy's instead.
"""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from scipy.integrate import quad

from infer.bridges.numpyro import from_numpyro
from infer.scoreboard import models
from infer.scoreboard.case import Group, Tag
from infer.scoreboard.cases import cases
from infer.scoreboard.errors import LOST, Errors, Label, Scale, measure
from infer.scoreboard.methods import Kind, methods

CASES = cases(None)
MOMENTS = [name for name, case in CASES.items() if case.scale is Scale.MOMENTS]
ROWS = 5000  # of each set of draws


def limit(n: int) -> float:
    """What the largest of n absolute z-scores stays below in 9999 of 10,000 sets of draws."""
    return NormalDist().inv_cdf(1 - 0.00005 / n)


def test_there_are_enough_cases_and_methods():
    assert len(CASES) >= 18 and len(methods()) >= 25
    assert {method.kind for method in methods().values()} == set(Kind)
    assert all(case.group is Group.SYNTHETIC for case in CASES.values())
    assert sum(Tag.MODES in case.tags for case in CASES.values()) >= 3
    assert sum(target.make().size is not None for target in CASES.values()) == 1


def scores(target, z):
    return np.asarray(jax.jit(jax.vmap(jax.grad(target.log_prob)))(jnp.asarray(z)))


def log_density(target, z):
    return np.asarray(jax.jit(jax.vmap(target.log_prob))(jnp.asarray(z)))


@pytest.mark.parametrize("name", MOMENTS)
def test_exact_draws_satisfy_the_identities_of_stein(x64, name):
    target, z = CASES[name].make(), CASES[name].reference()
    assert z.shape == (20_000, target.dim) and z.dtype == np.float64
    z = z[:ROWS]
    s, x = scores(target, z), z - z.mean(axis=0)
    size = np.abs(s.mean(axis=0)) / (s.std(axis=0) / np.sqrt(ROWS))
    assert size.max() < limit(size.size)
    product = x.T @ s / ROWS
    se = np.sqrt(((x**2).T @ s**2 / ROWS - product**2) / ROWS)
    size = np.abs(product + np.eye(target.dim)) / se
    assert size.max() < limit(size.size)


@pytest.mark.parametrize(
    ("name", "centers", "sd"),
    [
        ("modes 3.5 sd apart, d = 3", 3.5 * np.outer([0, 1], [2, -1, 2]) / 3, 0.7),
        ("modes 10 sd apart, d = 3", 10 * np.outer([0, 1], [2, -1, 2]) / 3, 0.7),
        ("a wide and a narrow mode, d = 3", 4 * np.outer([0, 1], [2, -1, 2]) / 3, 0.25),
        (
            "many wells, d = 8",
            1.75 * np.array([[1, 0] * 4, [-1, 0] + [1, 0] * 3]),
            np.array([0.25, 0.9] * 4),
        ),
    ],
)
def test_modes_have_their_weights(x64, name, centers, sd):
    """E_p[g / exp(log p)] is one over the normalization for every density g, here one per mode."""
    target, z = CASES[name].make(), CASES[name].reference()
    log_p = log_density(target, z)
    d = target.dim
    ratios = np.stack([np.exp(st.norm.logpdf(z, c, sd).sum(axis=1) - log_p) for c in centers])
    ratios /= ratios.mean()
    se = np.sqrt(np.sum(ratios.var(axis=1)) / len(z))
    assert se < 0.15, "too few draws to tell"
    assert abs(ratios[0].mean() - ratios[1].mean()) < 4 * se
    assert d == centers.shape[1]


@pytest.mark.parametrize(("sd", "d"), [(1.5, 6), (3.0, 10)])
def test_funnels_are_what_scipy_says(x64, sd, d):
    case = CASES[f"funnel of sd {sd:g}, d = {d}"]
    z = case.reference()
    v, x = z[:, 0], z[:, 1:]
    assert st.kstest(v, st.norm(0, sd).cdf).pvalue > 1e-4
    assert st.kstest((x / np.exp(v / 2)[:, None]).ravel(), "norm").pvalue > 1e-4
    ours = log_density(case.make(), z[:50])
    theirs = st.norm.logpdf(v, 0, sd) + st.norm.logpdf(x, 0, np.exp(v / 2)[:, None]).sum(axis=1)
    np.testing.assert_allclose(ours - ours[0], (theirs - theirs[0])[:50], rtol=1e-9, atol=1e-9)


def test_cauchy_is_what_scipy_says(x64):
    case = CASES["Student t of 1 dof, d = 2"]
    z = case.reference()
    assert all(st.kstest(column, "cauchy").pvalue > 1e-4 for column in z.T)
    ours, theirs = log_density(case.make(), z[:50]), st.multivariate_t(np.zeros(2), df=1)
    theirs = theirs.logpdf(z[:50])
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=1e-9, atol=1e-9)


def test_draws_on_a_ring_by_quadrature(x64):
    """The radius has the density r exp(-(r - 3)^2 / (2 0.3^2))."""
    z = CASES["ring, d = 3"].reference()

    def density(r):
        return r * np.exp(-0.5 * ((r - 3) / 0.3) ** 2)

    total = quad(density, 0, 8, points=[3])[0]
    mean = quad(lambda r: r * density(r), 0, 8, points=[3])[0] / total
    square = quad(lambda r: r**2 * density(r), 0, 8, points=[3])[0] / total
    r = np.hypot(z[:, 0], z[:, 1])
    assert abs(r.mean() - mean) < 4 * np.sqrt((square - mean**2) / len(r))


@pytest.mark.parametrize("way", ["sticks", "logits"])
def test_dirichlet_draws_come_back_on_the_simplex(x64, way):
    """Each share has a beta distribution; the map is the target's own."""
    case = CASES[f"Dirichlet by {way}, d = 5"]
    x = np.asarray(jax.jit(jax.vmap(case.make().constrain))(case.reference())["x"])
    alpha = np.array([0.8, 1.5, 2.0, 3.0, 5.0, 8.0])
    assert x.shape == (20_000, 6)
    for share, a in zip(x.T, alpha, strict=True):
        assert st.kstest(share, st.beta(a, alpha.sum() - a).cdf).pvalue > 1e-4


def test_regression_posteriors_by_least_squares(x64):
    """The mode is where the gradient vanishes; of rows the posterior is Gaussian around it."""
    case = CASES["regression of 2000 rows, d = 8"]
    target, z = case.make(), case.reference()
    mean = z.mean(axis=0)
    hessian = np.asarray(jax.jit(jax.hessian(target.log_prob))(jnp.asarray(mean)))
    best = mean - np.linalg.solve(hessian, scores(target, mean[None])[0])
    sd = np.sqrt(np.diag(np.linalg.inv(-hessian)))
    assert np.max(np.abs(mean - best) / sd) < 4.5 / np.sqrt(len(z))
    np.testing.assert_allclose(
        np.cov(z.T) / np.outer(sd, sd), np.linalg.inv(-hessian) / np.outer(sd, sd), atol=0.04
    )


def test_errors_are_in_units_of_the_reference():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((4000, 3)) * [1.0, 10.0, 100.0]
    moved = reference * [1.0, 1.05, 1.0] + [0.0, 0.0, 5.0]
    mean, sd = reference.mean(axis=0), reference.std(axis=0)
    errors = measure(moved, reference)
    assert errors.mean == pytest.approx(max(0.05 * abs(mean[1]) / sd[1], 5 / sd[2]))
    assert errors.log_sd == pytest.approx(np.log(1.05))
    assert errors.quantile == pytest.approx(0.05 * 1.645, rel=0.05)
    assert errors.label is Label.RIGHT
    assert measure(moved.reshape(4, 1000, 3), reference) == errors
    assert measure(moved[:500] * [1, 1, 2], reference).label is Label.WRONG
    far = measure(reference[:2000] + 0.5 * sd, reference[2000:])
    near = measure(reference[:2000], reference[2000:])
    assert near.distance < 1.5 * near.floor < 5 * far.floor < far.distance * 5 / 3


@pytest.mark.parametrize(
    ("shift", "factor", "label"),
    [
        (0.09, 1.0, "right"),
        (0.11, 1.0, "gray"),
        (0.0, 1.09, "right"),
        (0.0, 1.11, "gray"),
        (0.0, 1 / 1.29, "gray"),
        (0.31, 1.0, "wrong"),
        (0.0, 1 / 1.31, "wrong"),
    ],
)
@pytest.mark.parametrize("scale", Scale)
def test_labels_change_at_their_limits(shift, factor, label, scale):
    x = np.random.default_rng(1).standard_normal((2000, 2))
    center, width = scale.of(x)
    moved = x.copy()
    moved[:, 1] = center[1] + (shift * width[1]) + factor * (x[:, 1] - center[1])
    assert measure(moved, x, scale).label == label


def test_what_is_no_sample_is_wrong():
    x = np.random.default_rng(2).standard_normal((100, 2))
    constant, lost = x * [1, 0], np.where(x > 2, np.nan, x)
    assert measure(constant, x) == measure(lost, x) == LOST
    assert LOST.label is Label.WRONG and Errors(np.nan, 0.0, 0.0, 0.0, 0.0).label is Label.WRONG
    with pytest.raises(ValueError, match=r"\(100, 3\) and reference \(100, 2\)"):
        measure(np.ones((100, 3)), x)


def test_errors_of_a_cauchy_are_of_quantiles():
    """With moments two sets of exact draws would be told apart."""
    x = np.random.default_rng(3).standard_cauchy((20_000, 2))
    assert measure(x[:10_000], x[10_000:], Scale.QUANTILES).label is Label.RIGHT
    assert measure(x[:10_000], x[10_000:], Scale.MOMENTS).label is Label.WRONG


def test_methods_say_where_they_do_not_apply():
    made = methods()
    rows, plain = CASES["regression of 2000 rows, d = 8"].make(), CASES["banana, d = 2"].make()
    logits, sticks = (CASES[f"Dirichlet by {way}, d = 5"].make() for way in ("logits", "sticks"))
    assert made["SGLD"].applies(rows) is None and "rows" in made["SGLD"].applies(plain)
    assert made["MSVGD"].applies(sticks) is None and "support" in made["MSVGD"].applies(plain)
    assert made["SVMD"].applies(logits) is None and "mirror" in made["SVMD"].applies(sticks)
    assert made["LAWGD"].applies(plain) is None and "coordinates" in made["LAWGD"].applies(rows)
    assert made["NUTS"].applies(rows) is None
    assert made["SGLD"].prepare(rows).batch_size == 50 and made["NUTS"].prepare(rows) is rows


def invented(n=40):
    """Data of every regression of the database, none of them its own."""
    rng = np.random.default_rng(4)
    positive = ["earn", "height", "weight", "diam1", "diam2", "canopy_height", "total_height"]
    data = {name: rng.gamma(4.0, 1.0, n) for name in [*positive, "density", "mom_iq", "kid_score"]}
    data |= {name: rng.integers(0, 2, n) for name in ("male", "group", "mom_hs", "race_adj")}
    data |= {name: rng.integers(1, 5, n) for name in ("age_discrete", "mom_work")}
    others = ("partyid7", "real_ideo", "educ1", "gender", "income", "dist")
    data |= {name: rng.normal(2.0, 1.0, n) for name in others}
    return data | {"switched": rng.integers(0, 2, n), "vote": rng.integers(0, 2, n)}


def z_score(x, by=1):
    return (x - np.mean(x)) / (by * st.tstd(x))


# As the Stan programs have it: the response, and its predictor with b[1] the intercept.
PREDICTORS = {
    "earnings-earn_height": lambda d, b: (d["earn"], b[1] + b[2] * d["height"]),
    "earnings-log10earn_height": lambda d, b: (np.log10(d["earn"]), b[1] + b[2] * d["height"]),
    "earnings-logearn_height": lambda d, b: (np.log(d["earn"]), b[1] + b[2] * d["height"]),
    "earnings-logearn_height_male": lambda d, b: (
        np.log(d["earn"]),
        b[1] + b[2] * d["height"] + b[3] * d["male"],
    ),
    "earnings-logearn_interaction": lambda d, b: (
        np.log(d["earn"]),
        b[1] + b[2] * d["height"] + b[3] * d["male"] + b[4] * d["height"] * d["male"],
    ),
    "earnings-logearn_interaction_z": lambda d, b: (
        np.log(d["earn"]),
        b[1] + b[3] * d["male"] + (b[2] + b[4] * d["male"]) * z_score(d["height"]),
    ),
    "earnings-logearn_logheight_male": lambda d, b: (
        np.log(d["earn"]),
        b[1] + b[2] * np.log(d["height"]) + b[3] * d["male"],
    ),
    "kidiq-kidscore_momhs": lambda d, b: (d["kid_score"], b[1] + b[2] * d["mom_hs"]),
    "kidiq-kidscore_momhsiq": lambda d, b: (
        d["kid_score"],
        b[1] + b[2] * d["mom_hs"] + b[3] * d["mom_iq"],
    ),
    "kidiq-kidscore_interaction": lambda d, b: (
        d["kid_score"],
        b[1] + b[2] * d["mom_hs"] + (b[3] + b[4] * d["mom_hs"]) * d["mom_iq"],
    ),
    "kidiq_with_mom_work-kidscore_interaction_c": lambda d, b: (
        d["kid_score"],
        b[1]
        + b[2] * (d["mom_hs"] - d["mom_hs"].mean())
        + (b[3] + b[4] * (d["mom_hs"] - d["mom_hs"].mean())) * (d["mom_iq"] - d["mom_iq"].mean()),
    ),
    "kidiq_with_mom_work-kidscore_interaction_c2": lambda d, b: (
        d["kid_score"],
        b[1]
        + b[2] * (d["mom_hs"] - 0.5)
        + (b[3] + b[4] * (d["mom_hs"] - 0.5)) * (d["mom_iq"] - 100),
    ),
    "kidiq_with_mom_work-kidscore_interaction_z": lambda d, b: (
        d["kid_score"],
        b[1]
        + b[2] * z_score(d["mom_hs"], 2)
        + (b[3] + b[4] * z_score(d["mom_hs"], 2)) * z_score(d["mom_iq"], 2),
    ),
    "kidiq_with_mom_work-kidscore_mom_work": lambda d, b: (
        d["kid_score"],
        b[1] + np.array([0.0, b[2], b[3], b[4]])[d["mom_work"] - 1],
    ),
    "mesquite-mesquite": lambda d, b: (
        d["weight"],
        b[1]
        + b[2] * d["diam1"]
        + b[3] * d["diam2"]
        + b[4] * d["canopy_height"]
        + b[5] * d["total_height"]
        + b[6] * d["density"]
        + b[7] * d["group"],
    ),
    "mesquite-logmesquite": lambda d, b: (
        np.log(d["weight"]),
        b[1]
        + b[2] * np.log(d["diam1"])
        + b[3] * np.log(d["diam2"])
        + b[4] * np.log(d["canopy_height"])
        + b[5] * np.log(d["total_height"])
        + b[6] * np.log(d["density"])
        + b[7] * d["group"],
    ),
    "mesquite-logmesquite_logvolume": lambda d, b: (
        np.log(d["weight"]),
        b[1] + b[2] * np.log(d["diam1"] * d["diam2"] * d["canopy_height"]),
    ),
    "mesquite-logmesquite_logva": lambda d, b: (
        np.log(d["weight"]),
        b[1]
        + b[2] * np.log(d["diam1"] * d["diam2"] * d["canopy_height"])
        + b[3] * np.log(d["diam1"] * d["diam2"])
        + b[4] * d["group"],
    ),
    "mesquite-logmesquite_logvas": lambda d, b: (
        np.log(d["weight"]),
        b[1]
        + b[2] * np.log(d["diam1"] * d["diam2"] * d["canopy_height"])
        + b[3] * np.log(d["diam1"] * d["diam2"])
        + b[4] * np.log(d["diam1"] / d["diam2"])
        + b[5] * np.log(d["total_height"])
        + b[6] * np.log(d["density"])
        + b[7] * d["group"],
    ),
    "mesquite-logmesquite_logvash": lambda d, b: (
        np.log(d["weight"]),
        b[1]
        + b[2] * np.log(d["diam1"] * d["diam2"] * d["canopy_height"])
        + b[3] * np.log(d["diam1"] * d["diam2"])
        + b[4] * np.log(d["diam1"] / d["diam2"])
        + b[5] * np.log(d["total_height"])
        + b[6] * d["group"],
    ),
    "wells_data-wells_dist": lambda d, b: (d["switched"], b[1] + b[2] * d["dist"]),
} | {
    f"nes{year}-nes": lambda d, b: (
        d["partyid7"],
        b[1]
        + b[2] * d["real_ideo"]
        + b[3] * d["race_adj"]
        + np.array([0.0, b[4], b[5], b[6]])[d["age_discrete"] - 1]
        + b[7] * d["educ1"]
        + b[8] * d["gender"]
        + b[9] * d["income"],
    )
    for year in (1972, 1976, 1980, 1984, 1988, 1992, 1996, 2000)
}


def test_every_linear_predictor_is_tested():
    assert set(PREDICTORS) >= set(models.FLAT) | set(models.HALF_CAUCHY)


@pytest.mark.parametrize("name", PREDICTORS)
def test_columns_give_the_predictor_of_the_program(name):
    data = invented()
    columns, y = models.POSTERIORS[name].arguments(data)
    b = np.random.default_rng(5).standard_normal(columns.shape[1] + 1)  # b[0] is not used
    response, predictor = PREDICTORS[name](data, b)
    np.testing.assert_allclose(y, response, rtol=1e-12)
    np.testing.assert_allclose(columns @ b[1:], predictor, rtol=1e-10, atol=1e-10)


def linear_density(prior):
    def log_p(data, p):
        columns, y = data
        return prior(p["sigma"]) + st.norm.logpdf(y, columns @ p["beta"], p["sigma"]).sum()

    return log_p


def arma_density(data, p):
    (y,) = data
    total = st.norm.logpdf(p["mu"], 0, 10) + st.cauchy.logpdf(p["sigma"], 0, 2.5)
    total += st.norm.logpdf([p["phi"], p["theta"]], 0, 2).sum()
    error, before = 0.0, p["mu"]
    for value in y:
        error = value - (p["mu"] + p["phi"] * before + p["theta"] * error)
        total += st.norm.logpdf(error, 0, p["sigma"])
        before = value
    return total


def logit_density(y, logits):
    return st.bernoulli.logpmf(y, 1 / (1 + np.exp(-logits))).sum()


def dogs_density(data, p):
    b, y, total = p["beta"], data[2], st.norm.logpdf(p["beta"], 0, 100).sum()
    for dog in y:
        for t, shocked in enumerate(dog):
            logit = b[0] + b[1] * np.sum(dog[:t] == 0) + b[2] * np.sum(dog[:t] == 1)
            total += logit_density(shocked, logit)
    return total


def diamonds_density(data, p):
    X, y = data[2], data[1]
    centered = X[:, 1:] - X[:, 1:].mean(axis=0)
    mean = p["Intercept"] + centered @ p["b"]
    prior = st.norm.logpdf(p["b"]).sum() + st.t.logpdf(p["Intercept"], 3, 8, 10)
    return prior + st.t.logpdf(p["sigma"], 3, 0, 10) + st.norm.logpdf(y, mean, p["sigma"]).sum()


RNG = np.random.default_rng(6)
DOGS = {"y": RNG.integers(0, 2, (3, 7))}
STONES = {"X": np.column_stack([np.ones(20), RNG.normal(1, 2, (20, 3))]), "Y": RNG.normal(8, 1, 20)}
DENSITIES = {
    "earnings-earn_height": (invented(), linear_density(lambda sd: 0.0)),
    "kidiq-kidscore_momhs": (
        invented(),
        linear_density(lambda sd: st.cauchy.logpdf(sd, 0, 2.5)),
    ),
    "wells_data-wells_dist": (
        invented(),
        lambda data, p: logit_density(data[1], data[0] @ p["beta"]),
    ),
    "nes_logit_data-nes_logit_model": (
        invented(),
        lambda data, p: logit_density(data[1], p["alpha"] + p["beta"][0] * data[0]),
    ),
    "arma-arma11": ({"y": RNG.normal(0, 1, 9)}, arma_density),
    "dogs-dogs": (DOGS, lambda data, p: dogs_density((*data, DOGS["y"]), p)),
    "diamonds-diamonds": (STONES, lambda data, p: diamonds_density((*data, STONES["X"]), p)),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_of_the_database_are_those_of_scipy(x64, name):
    """Up to a constant, and the log Jacobian of sigma = exp(z)."""
    data, density = DENSITIES[name]
    model, make = models.POSTERIORS[name]
    given = make(data)
    target = from_numpyro(model, *given)
    z = 0.3 * np.random.default_rng(7).standard_normal((6, target.dim))
    theirs = []
    for point in z:
        found = target.constrain(jnp.asarray(point))
        p = {site: np.asarray(value) for site, value in found.items()}
        theirs.append(density(given, p) + (np.log(p["sigma"]) if "sigma" in p else 0.0))
    ours = log_density(target, z)
    np.testing.assert_allclose(ours - ours[0], np.array(theirs) - theirs[0], rtol=1e-9, atol=1e-8)
