"""Legendre functions, and every proximal map against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import lambertw

import infer

N = 40  # random points, each with random parameters and weights
LONG = np.longdouble  # a minimum is flat: its place is known to the root of the precision
REAL, POSITIVE, UNIT, BALL = (-np.inf, np.inf), (0, np.inf), (0, 1), (-1, 1)

# Each function, its formula and slope in NumPy, and its domain.
KERNELS = {
    "energy": (infer.Energy, lambda v, p: p * v**2 / 2, lambda v, p: p * v, REAL),
    "hyperbolic": (
        infer.HyperbolicEntropy,
        lambda v, p: v * np.arcsinh(v / p) - np.sqrt(v**2 + p**2),
        lambda v, p: np.arcsinh(v / p),
        REAL,
    ),
    "exponential": (
        lambda p: infer.Exponential(),
        lambda v, p: np.exp(v),
        lambda v, p: np.exp(v),
        REAL,
    ),
    "shannon": (
        lambda p: infer.BoltzmannShannon(),
        lambda v, p: v * np.log(v) - v,
        lambda v, p: np.log(v),
        POSITIVE,
    ),
    "burg": (lambda p: infer.Burg(), lambda v, p: -np.log(v), lambda v, p: -1 / v, POSITIVE),
    "fermi": (
        lambda p: infer.FermiDirac(),
        lambda v, p: v * np.log(v) + (1 - v) * np.log(1 - v),
        lambda v, p: np.log(v / (1 - v)),
        UNIT,
    ),
    "hellinger": (
        lambda p: infer.Hellinger(),
        lambda v, p: -np.sqrt(1 - v**2),
        lambda v, p: v / np.sqrt(1 - v**2),
        BALL,
    ),
}
SIDES = {"left": infer.Left(), "right": infer.Right()}


def bent(v):
    return 0.7 * abs(v - 0.3) + 0.2 * v**2


TERMS = {
    "l1": (infer.L1, lambda v, a: a * np.abs(v)),
    "penalty": (lambda a: infer.Penalty(bent), lambda v, a: bent(v)),
    "box": (
        lambda a: infer.Box(0.2, 0.6),
        lambda v, a: np.where((v >= 0.2) & (v <= 0.6), 0, np.inf),
    ),
}
CLOSED_RIGHT = {"energy", "hyperbolic", "shannon", "burg", "fermi"}  # of L1


def random_points(domain, rng):
    low, high = domain
    if domain == REAL:
        return 2 * rng.standard_normal(N)
    if domain == POSITIVE:
        return np.exp(rng.standard_normal(N))
    return low + (high - low) * rng.uniform(0.02, 0.98, N)


def brute(objective, domain, x):
    """The best of a grid with kinks and jumps in it, refined by ternary search on either side."""
    tiny = LONG(1e-12)
    low = np.maximum(domain[0] + tiny, np.minimum(x, 0) - 8)
    high = np.minimum(domain[1] - tiny, np.maximum(x, 0) + 8)
    grid = low + (high - low) * np.linspace(0, 1, 3001, dtype=LONG)[:, None]
    special = [np.full(N, k, LONG) for k in (0.0, 0.2, 0.3, 0.6) if domain[0] < k < domain[1]]
    grid = np.sort(np.concatenate([grid, special, [x.astype(LONG)]]), axis=0)
    values = objective(grid)
    i = np.argmin(values, axis=0)
    center = np.take_along_axis(grid, i[None], 0)[0]
    best, least = center, np.take_along_axis(values, i[None], 0)[0]
    for way in (-1, 1):
        a = np.take_along_axis(grid, np.clip(i + way, 0, len(grid) - 1)[None], 0)[0]
        b = center
        for _ in range(110):
            m, n = a + (b - a) / 3, b - (b - a) / 3
            left = objective(m) < objective(n)
            a, b = np.where(left, a, m), np.where(left, n, b)
        value = objective((a + b) / 2)
        best = np.where(value < least, (a + b) / 2, best)
        least = np.minimum(value, least)
    return best


@jax.jit
def proximal(side, term, psi, x, lam):
    return side.prox(term, psi, x, lam)


CASES = [
    pytest.param(*case, marks=pytest.mark.slow if case[2] == "box" and case[0] != "fermi" else ())
    for case in itertools.product(KERNELS, SIDES, TERMS)  # a box is a clip in all of them
]


@pytest.mark.parametrize("kernel, side, term", CASES)
def test_proximal_maps_by_brute_force(kernel, side, term, x64):
    rng = np.random.default_rng(3)
    make, psi, slope, domain = KERNELS[kernel]
    x, p = random_points(domain, rng), np.exp(0.5 * rng.standard_normal(N))
    a, lam = np.exp(rng.standard_normal(N)), 0.5
    built, g = TERMS[term][0](jnp.asarray(a)), TERMS[term][1]
    function = make(jnp.asarray(p))
    closed = SIDES[side].closed(built, function) is not None
    wanted = {"l1": side == "left" or kernel in CLOSED_RIGHT, "box": True, "penalty": False}
    assert closed == (wanted[term] or kernel == "energy")

    def objective(v):
        one, two = (v, x) if side == "left" else (x, v)
        far = psi(one, p) - psi(two, p) - slope(two, p) * (one - two)
        return g(v, a) + far / lam

    got = proximal(SIDES[side], built, function, jnp.asarray(x), jnp.asarray(lam))
    x = x.astype(LONG)
    np.testing.assert_allclose(got, brute(objective, domain, x).astype(float), atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_parts_of_a_legendre_function(kernel, x64):
    make, psi, _, domain = KERNELS[kernel]
    rng = np.random.default_rng(1)
    x, p = random_points(domain, rng), np.exp(0.5 * rng.standard_normal(N))
    function, expected = make(jnp.asarray(p)), psi(x, p)
    value, slope, x = function.value, function.slope, jnp.asarray(x)
    np.testing.assert_allclose(value(x), expected, rtol=1e-12, atol=1e-12)
    each = jax.grad(lambda v: jnp.sum(value(v)))(x)
    np.testing.assert_allclose(slope(x), each, rtol=1e-10, atol=1e-12)
    bend = jax.grad(lambda v: jnp.sum(slope(v)))(x)
    np.testing.assert_allclose(function.curvature(x), bend, rtol=1e-9)
    np.testing.assert_allclose(function.bend(x, jnp.sin(x)), bend * np.sin(x), rtol=1e-9)
    y = slope(x)
    np.testing.assert_allclose(function.inverse(y), x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(function.inverse_slope(y), 1 / bend, rtol=1e-8)
    far = function.divergence(x, x[::-1])
    assert (far >= 0).all() and (far[: N // 2] > 0).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kernel", ["energy", "hyperbolic", "exponential", "burg"])
def test_envelopes_have_the_stated_gradient(kernel, side, x64):
    """Central differences of min g(v) + D / lam, with the minimum by the map tested above."""
    make, _, _, domain = KERNELS[kernel]
    rng = np.random.default_rng(2)
    x, p = jnp.asarray(random_points(domain, rng)), np.exp(0.5 * rng.standard_normal(N))
    chosen, psi, term = SIDES[side], make(jnp.asarray(p)), infer.L1(1.3)
    lam = jnp.asarray(0.4)

    @jax.jit
    def envelope(x):
        v = chosen.prox(term, psi, x, lam)
        return 1.3 * jnp.abs(v) + chosen.distance(psi, x, v) / lam

    h = 1e-6
    differences = (envelope(x + h) - envelope(x - h)) / (2 * h)
    v = chosen.prox(term, psi, x, lam)
    stated = chosen.slope(psi, x, v, lam)
    away = np.abs(np.abs(x) - np.abs(v)) > 1e-4  # not within h of a corner of the map
    np.testing.assert_allclose(stated[away], differences[away], rtol=1e-4, atol=1e-6)
    assert (1.3 * jnp.abs(x) - envelope(x) > -1e-12).all()


def test_dead_zone_of_the_hyperbolic_entropy():
    """At lam alpha = 1 everything within sinh(1) beta of 0 goes to 0 exactly, and 0 stays 0."""
    beta = 1.7
    x = beta * jnp.sinh(jnp.array([-1.5, -0.999, -0.3, 0.0, 0.5, 0.999, 1.5]))
    v = infer.Left().prox(infer.L1(1.0), infer.HyperbolicEntropy(beta), x, jnp.asarray(1.0))
    expected = beta * np.sinh([-0.5, 0, 0, 0, 0, 0, 0.5])
    np.testing.assert_allclose(v, expected, rtol=1e-6)
    assert (v[1:-1] == 0).all()
    v = infer.Right().prox(infer.L1(1.0), infer.HyperbolicEntropy(beta), x, jnp.asarray(1.0))
    assert (v == 0).tolist() == (np.abs(x) <= beta).tolist()


def test_euclidean_maps_in_a_diagonal_metric(x64):
    """Group lasso and solid simplex: against every active set, and against random neighbors."""
    rng = np.random.default_rng(0)
    map_of = jax.jit(lambda term, x, t: term.prox(x, t))
    for _ in range(60):
        x, t = 1.2 * rng.standard_normal(4), np.exp(rng.standard_normal(4))
        w = rng.uniform(0.2, 2)
        term = infer.GroupLasso(w)
        p = np.asarray(map_of(term, x, t))
        size = np.linalg.norm(p)
        if size == 0:
            assert np.linalg.norm(x / t) <= w
        else:
            np.testing.assert_allclose(w * p / size + (p - x) / t, 0, atol=1e-6)
        flat = map_of(term, x, np.full(4, t[0]))
        block = x * max(1 - t[0] * w / np.linalg.norm(x), 0)
        np.testing.assert_allclose(flat, block, atol=1e-8)
        p = np.asarray(map_of(infer.Simplex(), x, t))
        best, least = None, np.inf
        for free in itertools.product([False, True], repeat=4):
            free = np.array(free)
            mu = (x[free].sum() - 1) / t[free].sum() if free.any() else 0
            for shift in (0.0, mu):
                v = np.where(free, x - shift * t, 0)
                far = np.sum((v - x) ** 2 / t)
                if (v >= -1e-12).all() and v.sum() <= 1 + 1e-12 and far < least:
                    best, least = v, far
        np.testing.assert_allclose(p, best, atol=1e-8)
    two = infer.GroupLasso(jnp.array([1.0, 3.0])).prox(jnp.full((2, 3), 2.0), jnp.ones((2, 3)))
    np.testing.assert_allclose(two[0], 2 * (1 - 1 / np.sqrt(12)) * np.ones(3), rtol=1e-8)
    np.testing.assert_allclose(two[1], 2 * (1 - 3 / np.sqrt(12)) * np.ones(3), rtol=1e-8)


@jax.jit
def euclidean(term, x, t):
    return term.prox(x, t)


@pytest.mark.parametrize("even", [True, False])
def test_nuclear_norm_by_brute_force(even, x64):
    """Weight (|A|^2 + |B|^2) / 2 over v = A B, smooth, is the norm of v at its minimum."""
    rng = np.random.default_rng(7)
    weight = np.array([0.9, 1.7])
    x = 1.5 * rng.standard_normal((2, 3, 4))
    t = np.exp((0 if even else 1) * rng.standard_normal((2, 3, 4))) * np.exp(rng.uniform(-1, 0))
    got = np.asarray(euclidean(infer.NuclearNorm(weight), jnp.asarray(x), jnp.asarray(t)))
    ranks = set()
    for i in range(2):

        def objective(flat, i=i):
            a, b = flat[:9].reshape(3, 3), flat[9:].reshape(3, 4)
            pull = (a @ b - x[i]) / t[i]
            value = weight[i] / 2 * flat @ flat + np.sum((a @ b - x[i]) * pull) / 2
            slopes = (pull @ b.T + weight[i] * a, a.T @ pull + weight[i] * b)
            return value, np.concatenate([part.ravel() for part in slopes])

        tight = {"gtol": 1e-11, "ftol": 0, "maxiter": 20_000, "maxcor": 40}
        found = minimize(
            objective, rng.standard_normal(21), jac=True, method="L-BFGS-B", options=tight
        )
        best = found.x[:9].reshape(3, 3) @ found.x[9:].reshape(3, 4)
        np.testing.assert_allclose(got[i], best, atol=1e-6)
        ranks.add(np.linalg.matrix_rank(got[i], tol=1e-9))
    assert min(ranks) in (1, 2)  # something was moved to 0, and not all
    value = infer.NuclearNorm(weight).value(jnp.asarray(x))
    roots = [np.sqrt(np.maximum(np.linalg.eigvalsh(part @ part.T), 0)).sum() for part in x]
    np.testing.assert_allclose(value, weight @ roots, rtol=1e-10)


@pytest.mark.parametrize("even", [True, False])
def test_nuclear_norm_in_float32_is_optimal(even):
    """|Y| <= weight in the spectral norm and <Y, v> = weight |v|_*, Y = (x - v) / t; jitted."""
    rng = np.random.default_rng(8)
    t = np.full((5, 4), 0.4) if even else 0.4 * 100 ** rng.uniform(size=(5, 4))
    for scale in (1e-3, 1.0, 1e3):
        x, term = scale * rng.standard_normal((5, 4)), infer.NuclearNorm(scale)
        v = euclidean(term, jnp.asarray(x, jnp.float32), jnp.asarray(t, jnp.float32))
        y, v = (x - v) / t / scale, np.asarray(v, float) / scale
        norms = np.linalg.svd(v, compute_uv=False)
        assert np.linalg.norm(y, 2) < 1 + 1e-4
        assert abs(np.sum(y * v) - norms.sum()) < 1e-4 * np.abs(x).max() / scale
        assert (norms < 1e-5).any() == (not even) and norms.max() > 0.1
    slope = jax.jit(jax.grad(infer.NuclearNorm(2.0).value))
    for x in (jnp.zeros((3, 2)), jnp.ones((3, 2)), jnp.asarray(rng.standard_normal((3, 2)))):
        y = np.asarray(slope(x))  # a subgradient, where values coincide or are 0 too
        assert np.linalg.norm(y, 2) < 2 + 1e-5
        np.testing.assert_allclose(np.sum(y * x), infer.NuclearNorm(2.0).value(x), rtol=1e-5)


def test_ball_by_brute_force(x64):
    """A constrained minimizer without a formula, for unequal t; a radial clip for equal ones."""
    rng = np.random.default_rng(9)
    radius = np.exp(0.5 * rng.standard_normal(12))
    x, t = 2 * rng.standard_normal((12, 4)), np.exp(rng.standard_normal((12, 4)))
    x[:3] *= 0.1
    ball = infer.L2Ball(jnp.asarray(radius))
    got = euclidean(ball, jnp.asarray(x), jnp.asarray(t))
    inside = np.linalg.norm(x, axis=1) <= radius
    assert 0 < inside.sum() < 6
    np.testing.assert_array_equal(got[inside], x[inside])
    for i in np.flatnonzero(~inside):

        def objective(v, i=i):
            return np.sum((v - x[i]) ** 2 / t[i]) / 2, (v - x[i]) / t[i]

        wall = {
            "type": "ineq",
            "fun": lambda v, i=i: (radius[i] ** 2 - v @ v) / 2,
            "jac": lambda v: -v,
        }
        start = x[i] * radius[i] / np.linalg.norm(x[i])
        found = minimize(
            objective,
            start,
            jac=True,
            method="SLSQP",
            constraints=wall,
            options={"ftol": 1e-16, "maxiter": 500},
        )
        np.testing.assert_allclose(got[i], found.x, atol=1e-6)
    assert ball.value(got) == 0 and ball.value(jnp.asarray(x)) == jnp.inf
    flat = euclidean(ball, jnp.asarray(x), jnp.full((12, 4), 0.3))
    radial = x * np.minimum(1, radius / np.linalg.norm(x, axis=1))[:, None]
    np.testing.assert_allclose(flat, radial, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e18])
def test_ball_at_the_ends_of_float32(size):
    """On the ball whatever the point and the widths; the center stays."""
    x = size * np.random.default_rng(1).standard_normal((20, 3))
    t = jnp.asarray([1e-4, 1.0, 1e4])[None] * jnp.ones((20, 1))
    ball = infer.L2Ball(size / 2)
    v = euclidean(ball, jnp.asarray(x, jnp.float32), t)
    assert jnp.isfinite(v).all() and ball.value(v) == 0
    outside = np.linalg.norm(x, axis=1) > size / 2
    np.testing.assert_allclose(np.linalg.norm(v[outside] / size, axis=1), 0.5, rtol=1e-5)
    assert (euclidean(ball, jnp.zeros((20, 3)), t) == 0).all()


def test_bisection_agrees_with_closed_forms_of_smooth_terms(x64):
    """Terms of gamma type and an entropy, whose proximal points are known, given as `Penalty`."""
    rng = np.random.default_rng(11)
    x, a, kappa = np.exp(rng.standard_normal((3, N)))
    lam = 0.7
    gamma = infer.Penalty(lambda v: jnp.asarray(a) * v - jnp.asarray(kappa) * jnp.log(v))
    entropy = infer.Penalty(lambda v: v * jnp.log(v) - jnp.asarray(a) * v)
    c = lam * kappa
    cases = (
        (gamma, infer.Burg(), (1 + c) / (1 / x + lam * a)),
        (gamma, infer.BoltzmannShannon(), c / lambertw(c / x * np.exp(lam * a)).real),
        (entropy, infer.BoltzmannShannon(), np.exp((np.log(x) + lam * (a - 1)) / (1 + lam))),
    )
    for term, psi, expected in cases:
        assert infer.Left().closed(term, psi) is None
        got = proximal(infer.Left(), term, psi, jnp.asarray(x), jnp.asarray(lam))
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_bregman_projection_on_the_simplex(x64):
    """x / sum x is the nearest point in both distances: no feasible neighbor is nearer."""
    rng = np.random.default_rng(0)
    psi = infer.BoltzmannShannon()
    for side in SIDES.values():
        x = jnp.asarray(rng.uniform(0.1, 1.5, 4))
        v = side.prox(infer.Simplex(), psi, x, jnp.asarray(0.3))
        near = np.sum(side.distance(psi, x, v))
        others = rng.dirichlet(np.ones(5), 4000)[:, :4]
        others = np.concatenate([others, v + 0.3 * (others - v), v + 1e-3 * (others - v)])
        assert (np.sum(side.distance(psi, x, jnp.asarray(others)), axis=1) > near).all()
        inside = jnp.array([0.1, 0.2, 0.3, 0.1])
        kept = side.prox(infer.Simplex(), psi, inside, jnp.asarray(0.3))
        np.testing.assert_allclose(kept, inside)


@pytest.mark.parametrize("kernel", KERNELS)
def test_finite_at_the_ends_of_float32(kernel):
    """Proximal points in the domain, slopes of the envelope finite, from 1e-30 to 1e30."""
    make, _, _, domain = KERNELS[kernel]
    far = jnp.array([1e-30, 1e-7, 1.0, 80.0, 1e7, 1e15])
    x = {
        REAL: jnp.concatenate([far, -far]),
        POSITIVE: jnp.array([1e-30, 1e-7, 1.0, 1e7, 1e30]),
        UNIT: jnp.array([1e-30, 1e-7, 0.5, 1 - 6e-8]),
        BALL: jnp.array([-1 + 6e-8, -0.5, 1e-30, 0.5, 1 - 6e-8]),
    }[domain]
    psi = make(jnp.asarray(2.0))
    for lam in (1e-5, 1.0, 1e3):
        for side in SIDES.values():
            v = proximal(side, infer.L1(3.0), psi, x, jnp.asarray(lam))
            slope = side.slope(psi, x, v, jnp.asarray(lam))
            assert jnp.isfinite(v).all() and (jnp.abs(v) <= jnp.abs(x) * 1.001).all()
            if kernel != "exponential":  # whose slope is exp x
                assert jnp.isfinite(slope).all()
            assert ((v > psi.low) | (v == 0)).all() and (v < psi.high).all()


def test_a_prox_of_your_own(x64):
    term = infer.Penalty(jnp.abs, lambda x, t: jnp.sign(x) * jnp.maximum(jnp.abs(x) - t, 0))
    x, t = jnp.linspace(-3, 3, 13), jnp.full(13, 0.7)
    np.testing.assert_allclose(term.prox(x, t), infer.L1(1.0).prox(x, t), atol=1e-12)
    np.testing.assert_allclose(infer.Penalty(jnp.abs).prox(x, t), term.prox(x, t), atol=1e-12)
    with pytest.raises(ValueError, match="Box needs low < high"):
        infer.Box(1.0, 1.0)
    with pytest.raises(ValueError, match="weight must be > 0"):
        infer.L1(-1.0)
