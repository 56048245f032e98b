"""What every algorithm and every family must do, read from the exports of the package."""

import inspect
from collections import deque
from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import infer
from infer.core.algorithm import AbstractApproximator, AbstractSampler
from infer.core.posterior import AbstractFamily
from infer.diagnostics.chains import ess_mean
from infer.families.gaussian import DenseGaussian
from infer.objectives import estimate
from infer.references.citation import works_of

SLOW = pytest.mark.slow
ALGORITHMS = infer.algorithms()
FAMILIES = {
    name: thing
    for name, thing in sorted(vars(infer).items())
    if inspect.isclass(thing)
    and issubclass(thing, AbstractFamily)
    and name != "Standard"  # has one member, and no parameters
}
# One or two of every folder. Long checks of the others, each of which has an exact test in a file
# of its own, are left to `make reproduce`; NUTS takes longest of all to compile.
LEADERS = {"HMC", "MALA", "ULA", "SGLD", "VI", "FBGVI", "Laplace", "SVGD"}


def leading(*values):
    """These values with every algorithm; `slow`, except for the first of them with a leader."""
    return [
        pytest.param(value, name, marks=SLOW if i or name not in LEADERS else ())
        for i, value in enumerate(values)
        for name in ALGORITHMS
    ]


# Particles that are no independent draws: nothing in their error falls with their number alone.
NO_DRAWS = {
    "SVGD",
    "MatrixSVGD",
    "MixtureSVGD",
    "SVN",
    "SVNG",
    "AnnealedSVGD",
    "RandomBatchSVGD",
    "GraphicalSVGD",
    "SlicedSVGD",
    "GrassmannSVGD",
    "Blob",
    "GFSD",
    "GFSF",
    "LAWGD",
    "KSDD",
    "MIED",
}


MEAN = np.array([20.0, -3.0, 0.5])
COVARIANCE = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, -0.3], [0.0, -0.3, 0.5]])

traces = deque()  # one entry per time Python runs through the density; a list would be read


def log_density(x, data):
    traces.append(0)
    u = data["whiten"] @ (x - data["mean"])
    return jnp.where(x[0] < data["edge"], data["hole"], -0.5 * u @ u)


def target(name="", edge=-np.inf, hole=np.nan, mean=MEAN):
    """N(mean, COVARIANCE), and `hole` wherever the first coordinate is below `edge`.

    In fewer dimensions for an algorithm of this name that serves no more.
    """
    d = dims(name)
    whiten = np.linalg.cholesky(np.linalg.inv(COVARIANCE[:d, :d])).T
    data = {"whiten": whiten, "mean": mean[:d], "edge": edge, "hole": hole}
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), data)
    return infer.from_log_density(log_density, jnp.zeros(d), data=data)


def dims(name):
    cls = ALGORITHMS.get(name)
    few = cls is not None and issubclass(cls, AbstractApproximator)
    return min(3, (cls.most_dims if few else None) or 3)


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@eqx.filter_jit
def init(algorithm, key, target):
    return algorithm.init(key, target)


@eqx.filter_jit
def step(algorithm, key, target, state):
    return algorithm.step(key, target, state)


@eqx.filter_jit
def steps(algorithm, keys, target, states):
    return jax.vmap(algorithm.step, (0, None, 0))(keys, target, states)


def assert_close(a, b, tolerance):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b
    )


def meaning(algorithm, after):
    """What has to agree: a Gaussian's covariance, and not its factor, known up to a rotation."""
    state, info = after
    if isinstance(algorithm, AbstractApproximator):
        q = algorithm.posterior(state)
        if isinstance(q, DenseGaussian):
            return q.mean, q.covariance, info
    return after


def test_registry():
    assert {"MALA", "ULA", "NUTS", "HMC", "VI", "SVGD"} <= set(ALGORITHMS)
    assert "ADVI" not in ALGORITHMS  # a preset of VI
    assert all(cls is getattr(infer, name) for name, cls in ALGORITHMS.items())
    assert {"FullRank", "MeanField"} <= set(FAMILIES)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_says_what_it_is(name):
    cls = ALGORITHMS[name]
    cls()  # every argument has a default
    assert works_of(cls), "cites(...) above the class names its paper"
    assert "Source:" in cls.__doc__ and cls.default_steps >= 1 and cls.default_chains >= 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_keeps_structure_shapes_and_types(name, precision, key):
    algorithm, problem = ALGORITHMS[name](), target(name)
    state = eqx.filter_eval_shape(algorithm.init, key, problem)
    moves = {"step": lambda s: algorithm.step(key, problem, s)}
    if isinstance(algorithm, AbstractSampler):
        i, n = jnp.asarray(3), jnp.asarray(100)
        moves["adapt"] = lambda s: algorithm.adapt(key, problem, s, i, n)
    for move in moves.values():
        after, info = eqx.filter_eval_shape(move, state)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
            assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
            assert not old.weak_type
            assert old.dtype.name in (precision, "int32", "int64", "bool", "uint32")
        assert info.loss.shape == () and info.loss.dtype == precision
        assert jnp.issubdtype(info.gradients.dtype, jnp.integer)


# Without jit every operation is compiled by itself: that is most of the time of this test.
AT_ONCE = {"MALA", "Laplace"}
EAGER = [
    pytest.param(eager, name, marks=() if name in LEADERS and eager == (name in AT_ONCE) else SLOW)
    for eager in (False, True)
    for name in ALGORITHMS
    if eager or name not in AT_ONCE
]


@pytest.mark.parametrize("eager, name", EAGER)
def test_jit_vmap_and_retraces(eager, name, x64):
    algorithm, problem, moved = ALGORITHMS[name](), target(name), target(name, mean=MEAN + 1)
    keys = jax.random.split(jax.random.key(1), 3)
    states = [init(algorithm, k, problem) for k in keys]
    singly = [step(algorithm, k, problem, s) for k, s in zip(keys, states, strict=True)]
    assert traces
    if eager:
        at_once = algorithm.step(keys[0], problem, states[0])
        assert_close(meaning(algorithm, at_once), meaning(algorithm, singly[0]), 1e-9)

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = steps(algorithm, keys, problem, stacked)
    alone = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[meaning(algorithm, s) for s in singly]
    )
    assert_close(jax.vmap(lambda s: meaning(algorithm, s))(together), alone, 1e-9)

    # A second step, another of every number in the algorithm, other data: nothing is traced.
    before = len(traces)
    step(algorithm, keys[1], problem, singly[0][0])
    other = jax.tree.map(lambda x: 0.9 * x if eqx.is_inexact_array(x) else x, algorithm)
    step(other, keys[0], moved, init(other, keys[0], moved))
    assert len(traces) == before


def vi(rate):
    return infer.VI(optimizer=infer.optimizer(optax.adam, learning_rate=rate))


NEW_SETTINGS = {
    "MALA": lambda v: infer.MALA(step_size=v, acceptance=0.5 + v),
    "ULA": lambda v: infer.ULA(step_size=v, energy_error=v),
    "MirrorLangevin": lambda v: infer.MirrorLangevin(step_size=v),
    "MirrorMALA": lambda v: infer.MirrorMALA(step_size=v, acceptance=0.5 + v),
    "MYULA": lambda v: infer.MYULA(v, 2 * v, preconditioner=infer.Diagonal(v * np.ones(3))),
    "MYMALA": lambda v: infer.MYMALA(step_size=v, smoothing=v, acceptance=0.5 + v),
    "PGLA": lambda v: infer.PGLA(step_size=v, noise_last=True),
    "BregmanProximalLangevin": lambda v: infer.BregmanProximalLangevin(
        v, v, smoother=infer.HyperbolicEntropy(v), side=infer.Right()
    ),
    "SKROCK": lambda v: infer.SKROCK(int(20 * v), v, v),
    "BregmanPGLA": lambda v: infer.BregmanPGLA(step_size=v, noise_last=True),
    "TamedULA": lambda v: infer.TamedULA(step_size=v, energy_error=v),
    "Barker": lambda v: infer.Barker(step_size=v, acceptance=0.5 + v),
    "BAOAB": lambda v: infer.BAOAB(step_size=v, friction=v, energy_error=v),
    "OBABO": lambda v: infer.OBABO(step_size=v, friction=v, energy_error=v),
    "KLMC": lambda v: infer.KLMC(step_size=v, friction=1 + v, energy_error=v),
    "MALT": lambda v: infer.MALT(step_size=v, friction=v, acceptance=0.5 + v, n_steps=int(10 * v)),
    "Fixed": lambda v: infer.BAOAB(preconditioner=infer.Fixed([v, 1.0, 2.0])),
    "ParallelTempering": lambda v: infer.ParallelTempering(
        scale=v, step_size=v, acceptance=0.5 + v, n_steps=int(10 * v)
    ),
    "IndependenceSampler": lambda v: infer.IndependenceSampler(
        scale=v, local=infer.MALA(step_size=v)
    ),
    "SGLD": lambda v: infer.SGLD(infer.cyclical_steps(v, 10), infer.cyclical_temperature(10, v)),
    "decay": lambda v: infer.SGLD(infer.polynomial_decay(v, 1 + v, v), covariance=v * jnp.ones(1)),
    "PSGLD": lambda v: infer.PSGLD(step_size=v, decay=v, floor=v),
    "SGHMC": lambda v: infer.SGHMC(step_size=v, friction=v, noise=v),
    "SGNHT": lambda v: infer.SGNHT(step_size=v, friction=v, inertia=v),
    "StructuredSGMCMC": lambda v: infer.StructuredSGMCMC([["x"]], 5, v, v * jnp.ones(1)),
    "HMC": lambda v: infer.HMC(step_size=v, acceptance=0.5 + v),
    "AdjustedMCLMC": lambda v: infer.AdjustedMCLMC(length=v, step_size=v, acceptance=0.5 + v),
    "MCLMC": lambda v: infer.MCLMC(step_size=v, length=v, energy_error=v),
    "GHMC": lambda v: infer.GHMC(friction=v, step_size=v, acceptance=0.5 + v),
    "SliceSampling": lambda v: infer.SliceSampling(width=v),
    "EllipticalSlice": lambda v: infer.EllipticalSlice(mean=v, covariance=v),
    "TemperedSMC": lambda v: infer.TemperedSMC(scale=v, ess=0.5 + v, step_size=v),
    "NUTS": lambda v: infer.NUTS(step_size=v, acceptance=0.5 + v),
    "VI": vi,
    "FullRank": lambda v: infer.VI(family=infer.FullRank(scale=v)),
    "SVGD": lambda v: infer.SVGD(n_particles=5, kernel=infer.RBF(bandwidth=v), init_scale=v),
    "AnnealedSVGD": lambda v: infer.AnnealedSVGD(annealing=infer.tanh_annealing(100, power=v)),
    "SVNG": lambda v: infer.SVNG(keep=v),
    "MixtureSVGD": lambda v: infer.MixtureSVGD(local=v),
    "GFSF": lambda v: infer.GFSF(ridge=v),
    "LAWGD": lambda v: infer.LAWGD(box=(-v * jnp.ones(1), jnp.ones(1)), init_scale=v),
    "SlicedSVGD": lambda v: infer.SlicedSVGD(slices=infer.optimizer(optax.sgd, learning_rate=v)),
    "GrassmannSVGD": lambda v: infer.GrassmannSVGD(turn=v),
    "WassersteinFlow": lambda v: infer.WassersteinFlow(step_size=v, init_scale=v),
    "KSDD": lambda v: infer.KSDD(kernel=infer.IMQ(bandwidth=v), init_scale=v),
    "MIED": lambda v: infer.MIED(kernel=infer.Riesz(bandwidth=v), init_scale=v),
    "NoisySVGD": lambda v: infer.NoisySVGD(step_size=v),
}


@pytest.mark.parametrize("name", NEW_SETTINGS)
def test_new_settings_are_the_same_program(name):
    one, two = NEW_SETTINGS[name](0.1), NEW_SETTINGS[name](0.2)
    leaves = [jax.tree.flatten(eqx.filter(a, eqx.is_array)) for a in (one, two)]
    assert leaves[0][1] == leaves[1][1]
    static = [eqx.filter(a, eqx.is_array, inverse=True) for a in (one, two)]
    assert eqx.tree_equal(*static)
    shapes = [[(x.shape, x.dtype, x.weak_type) for x in flat] for flat, _ in leaves]
    assert shapes[0] == shapes[1]
    assert not eqx.tree_equal(one, two)


# Documented biases, as parts of a posterior sd (mean) and of a posterior variance (covariance):
# the variance of ULA and SGLD is 1 / (1 - e/2) at step size e, OBABO's 1 / (1 - e^2/4), and taming
# adds to it; finitely many particles lose spread; the optimizer of VI leaves some noise; the pool
# of WassersteinFlow and its networks more; coin betting takes long to center GFSF.
BIAS = {
    "ULA": (0.0, 0.03),
    "SGLD": (0.0, 0.03),
    "PSGLD": (0.0, 0.04),
    "StructuredSGMCMC": (0.0, 0.07),
    "TamedULA": (0.0, 0.13),
    "OBABO": (0.0, 0.08),
    "KLMC": (0.0, 0.04),
    "MYULA": (0.0, 0.03),
    "PGLA": (0.0, 0.03),
    "MirrorLangevin": (0.0, 0.03),
    "BregmanProximalLangevin": (0.0, 0.03),
    "BregmanPGLA": (0.0, 0.03),
    "SKROCK": (0.0, 0.03),
    "VI": (0.02, 0.02),
    "WassersteinFlow": (0.03, 0.04),
    "SVGD": (0.01, 0.15),
    "AnnealedSVGD": (0.01, 0.15),
    "MatrixSVGD": (0.01, 0.08),
    "MixtureSVGD": (0.01, 0.08),
    "SVN": (0.01, 0.08),
    "SVNG": (0.01, 0.15),
    "RandomBatchSVGD": (0.05, 0.15),
    "GraphicalSVGD": (0.01, 0.15),
    "SlicedSVGD": (0.06, 0.2),
    "GrassmannSVGD": (0.03, 0.15),
    "Blob": (0.01, 0.42),
    "GFSD": (0.01, 0.75),
    "GFSF": (0.05, 0.15),
    "LAWGD": (0.01, 0.08),
    "KSDD": (0.01, 0.13),
    "MIED": (0.13, 0.42),
}
# A bias too large to pass: kernel densities smooth the narrowest coordinate, sd 0.79 and 0.56;
# an interaction energy narrows it, sd 0.79. The particles of NoisySVGD are a hundred independent
# draws, too few to rule out an error.
STATUS = {"Blob": "suspect", "GFSD": "failed", "MIED": "suspect", "NoisySVGD": "suspect"}
# Trajectories of one fixed length nearly close on themselves along some direction of a Gaussian.
# Without a preconditioner Langevin steps are short. The past in a state is copied at every step.
STEPS = {
    "HMC": 6000,
    "MirrorLangevin": 40_000,
    "BregmanProximalLangevin": 40_000,
    "BregmanPGLA": 40_000,
    "StructuredSGMCMC": 10_000,
    "MirrorMALA": 8000,
}


@pytest.mark.parametrize("precision, name", leading("float32", "float64"), indirect=["precision"])
def test_recovers_a_gaussian(precision, name):
    """Mean and covariance within Monte Carlo error: 9 comparisons for each fit, Bonferroni."""
    algorithm, d = ALGORITHMS[name](), dims(name)
    result = infer.fit(target(name), algorithm, key=11, steps=STEPS.get(name), progress=False)
    assert result.verdict.status == STATUS.get(name, "ok"), result.verdict
    assert result.z.dtype == precision
    sd = np.sqrt(np.diag(COVARIANCE))[:d]
    x = (result.z - MEAN[:d]) / sd
    correlation = COVARIANCE[:d, :d] / np.outer(sd, sd)
    rows, columns = np.triu_indices(d)
    products = x[..., rows] * x[..., columns] - correlation[rows, columns]
    series = np.concatenate([x, products], axis=-1).astype(np.float64)
    if isinstance(result.algorithm, AbstractSampler):
        size = ess_mean(series)
        assert size.min() > 100
    else:
        size = series.shape[1]
    comparisons = 9 * len(ALGORITHMS) * 2
    z = NormalDist().inv_cdf(1 - 1e-3 / (2 * comparisons))
    error = z * series.std(axis=(0, 1)) / np.sqrt(size)
    if name in NO_DRAWS:
        error = 0 * error  # the bias of the particles is all there is
    mean_bias, bias = BIAS.get(name, (0.0, 0.0))
    tolerance = error + np.repeat([mean_bias, bias], [d, len(rows)])
    miss = np.abs(series.mean(axis=(0, 1)))
    assert (miss <= tolerance).all(), (miss, tolerance)


@pytest.mark.parametrize("hole, name", leading(np.nan, -np.inf))
def test_stays_finite_on_a_rough_target(hole, name):
    """No density on half of the posterior's mass, and a start 30 standard deviations away."""
    options = {"steps": 600, "chains": ALGORITHMS[name].default_chains, "progress": False}
    rough, d = target(name, edge=MEAN[0], hole=hole), dims(name)
    init = {"x": np.asarray(MEAN + [30, 0, 0], np.float32)[:d]}
    result = infer.fit(rough, ALGORITHMS[name](), key=5, init=init, on_nonfinite="skip", **options)
    for leaf in jax.tree.leaves(eqx.filter(result.trail.carry.states, eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()
    assert np.isfinite(result.z).all()
    # And it has come nearer, unless it spreads first: then the hole stops it before it turns.
    assert np.abs(result.z[:, -1] - MEAN[:d]).max() < (40 if name == "AnnealedSVGD" else 30)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in LEADERS or ALGORITHMS[n].exact_target else SLOW)
        for n in ALGORITHMS
    ],
)
def test_minibatches_are_taken_or_refused(name):
    rows = jnp.linspace(-1, 1, 12)
    mini = infer.from_log_density(
        example=jnp.zeros(1),
        log_prior=lambda x: -0.5 * jnp.sum(x**2),
        log_likelihood=lambda x, y: -0.5 * (y - x[0]) ** 2,
        data=rows,
        batch_size=4,
    )
    algorithm = ALGORITHMS[name]()
    if algorithm.exact_target:
        with pytest.raises(ValueError, match=rf"{name} needs .*batch_size=4.*target\.full\(\)"):
            infer.fit(mini, algorithm, key=0)
    else:
        result = infer.fit(mini, algorithm, key=0, steps=50, progress=False)
        assert np.isfinite(result.z).all()


# Families -------------------------------------------------------------------------------------


def skew_log_density(x, p):
    """Of normal noise of scale 0.7 that is accepted with the probability sigmoid(bend . noise)."""
    e = (x - p["shift"]) / 0.7
    normal = -0.5 * e @ e - 1.5 * jnp.log(2 * jnp.pi * 0.49)
    return jnp.log(2.0) + normal + jax.nn.log_sigmoid(p["bend"] @ e)


SMALL = {"n_layers": 2, "width": 4, "scale": 0.7}
MADE = {
    "RealNVP": lambda: infer.RealNVP(**SMALL),
    "SplineFlow": lambda: infer.SplineFlow(**SMALL),
    "LogisticMixtureFlow": lambda: infer.LogisticMixtureFlow(**SMALL),
    "AutoregressiveFlow": lambda: infer.AutoregressiveFlow(**SMALL),
    "StackedFlow": lambda: infer.StackedFlow(n_layers=4, scale=0.7),
    "StudentT": lambda: infer.StudentT(infer.FullRank(scale=0.7), df=12.0),
    # 5 and 50 draws are no multiples of 3: components make unequal numbers of them.
    "Mixture": lambda: infer.Mixture(infer.FullRank(scale=0.7), n_components=3, spread=0.5),
    "RejectionSampled": lambda: infer.RejectionSampled(
        lambda start: {"shift": start, "bend": 0.5 + 0 * start},
        lambda e, p: p["shift"] + 0.7 * e,
        lambda e, p: jax.nn.log_sigmoid(p["bend"] @ e),
        skew_log_density,
    ),
    "EvenDraws": lambda: infer.EvenDraws(infer.FullRank(scale=0.7), infer.QuasiRandom()),
    "HierarchicalPrior": lambda: infer.HierarchicalPrior(
        1, infer.FullRank(scale=0.7), infer.MLP((4,))
    ),
    "Product": lambda: infer.Product(
        {(0, 2): infer.FullRank(scale=0.7), 1: infer.MeanField(scale=0.7)}
    ).on(target()),
}


def families(*slow):
    return [pytest.param(n, marks=SLOW) if n in slow else n for n in FAMILIES]


# These take long to compile: what they do not share with RealNVP, tests/test_flow_layers.py and
# tests/test_flows.py look at as well; gamma variates take long too.
LONG = ("AutoregressiveFlow", "StackedFlow", "LogisticMixtureFlow", "HierarchicalPrior")
MOST_FAMILIES = families(*LONG)
# What estimators make of a family: two Gaussians, a flow, and draws of unequal mass.
QUICK_FAMILIES = families(
    *LONG, "SplineFlow", "StudentT", "MeanField", "Product", "EvenDraws", "RejectionSampled"
)


def member(name, scale=0.3):
    """A member of a family on R^3 with every leaf drawn at random."""
    family = MADE[name]() if name in MADE else FAMILIES[name](scale=0.7)
    first = family.init(jax.random.key(0), jnp.zeros(3))
    leaves, structure = jax.tree.flatten(first)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = [
        scale * jax.random.normal(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, [v + e for v, e in zip(leaves, noise, strict=True)])


@pytest.mark.parametrize("name", MOST_FAMILIES)
def test_draws_of_a_family_know_their_density(name, x64):
    q, key = member(name), jax.random.key(1)

    @eqx.filter_jit
    def look(q):
        draws, alike = q.sample_score(key, 50), q.equal_draws(key, 50)
        exact = [
            (jax.vmap(q.log_prob)(d.x), jax.vmap(jax.grad(q.log_prob))(d.x)) for d in (draws, alike)
        ]
        leaked = jax.grad(lambda q: jnp.sum(q.sample_score(key, 5).score))(q)
        return (draws, alike), exact, q.sample(key, 50), leaked

    (draws, alike), exact, sample, leaked = look(q)
    for made, (log_q, score) in zip((draws, alike), exact, strict=True):
        np.testing.assert_allclose(made.log_q, log_q, rtol=1e-12)
        np.testing.assert_allclose(made.score, score, rtol=1e-10)
    np.testing.assert_allclose(sample, alike.x, rtol=1e-12)
    assert alike.independent and alike.mass is None
    assert draws.independent == (name not in {"Mixture", "EvenDraws"})
    assert (draws.mass is None) == (name != "Mixture")
    if draws.mass is not None:
        np.testing.assert_allclose(jnp.sum(draws.mass), 1, rtol=1e-12)
    if q.moments() is not None:
        mean, covariance = q.moments()
        np.testing.assert_allclose(mean, q.mean, rtol=1e-12)
        np.testing.assert_allclose(covariance.times(jnp.eye(3)), q.covariance, rtol=1e-12)
        if name not in {"Mixture", "Product"}:
            np.testing.assert_allclose(q.covariance, q.factor @ q.factor.T, rtol=1e-12)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(leaked))  # the score is a constant


@pytest.mark.parametrize("name", QUICK_FAMILIES)
def test_moments_and_mass_of_a_family(name, x64):
    """Draws have what moments are stated; mean exp(log w) = Z for a known density, z < 4."""
    q = member(name)
    x = np.asarray(q.sample(jax.random.key(2), 40_000))
    mean, covariance = x.mean(axis=0), np.cov(x.T)
    if q.moments() is not None:
        np.testing.assert_allclose(mean, q.mean, atol=4 * x.std(axis=0).max() / 200)
        mean = q.mean
        product = (x - mean)[:, :, None] * (x - mean)[:, None, :]
        covariance = q.covariance
        error = product.mean(axis=0) - covariance
        assert (np.abs(error) < 4 * product.std(axis=0) / 200).all()
    log_z = 0.7  # a Gaussian narrower than q, times e^0.7
    narrow = 0.7 * covariance
    p = jax.scipy.stats.multivariate_normal
    draws = q.sample_score(jax.random.key(3), 40_000)
    log_p = log_z + p.logpdf(draws.x, mean + 0.05, narrow)
    w = np.exp(log_p - draws.log_q)
    mass = np.full(len(w), 1 / len(w)) if draws.mass is None else draws.mass
    error = np.sqrt(np.sum(mass**2 * (w - mass @ w) ** 2))
    assert abs(mass @ w - np.exp(log_z)) < 4 * error


def test_the_upper_triangle_is_never_read(x64):
    q = member("FullRank")
    upper = jnp.triu(jax.random.normal(jax.random.key(9), (3, 3)))
    other = eqx.tree_at(lambda q: q.lower, q, q.lower + upper)
    for look in (
        lambda q: q.sample_score(jax.random.key(1), 9),
        lambda q: q.log_prob(jnp.ones(3)),
        lambda q: q.covariance,
    ):
        assert_close(look(q), look(other), 0)
    problem = target(mean=np.zeros(3))
    _, gradient = estimate(jax.random.key(0), problem, q, infer.ReverseKL(), infer.Reparam(), 5)
    below = np.tril_indices(3, -1)
    assert not np.triu(gradient.lower).any() and gradient.lower[below].all()


# Estimators -----------------------------------------------------------------------------------

SKEW = infer.from_log_density(
    lambda x: -0.5 * jnp.sum(x**2) - jnp.sum(jnp.exp(0.3 * x)) + 0.2 * x[0] * x[1], jnp.zeros(3)
)


@eqx.filter_jit
def gradient(key, problem, q, estimator, n=5):
    return estimate(key, problem, q, infer.ReverseKL(), estimator, n)


@pytest.mark.parametrize("name", QUICK_FAMILIES)
def test_reparam_is_the_derivative_of_the_bound(name, x64):
    q, key = member(name), jax.random.key(4)

    def bound(q):
        draws = q.sample_score(key, 5)
        mass = 1 / 5 if draws.mass is None else draws.mass
        log_w = jax.vmap(SKEW.log_prob)(draws.x) - jax.vmap(q.log_prob)(draws.x)
        value = jnp.sum(mass * log_w)
        if draws.log_noise is None:
            return value
        # Noise that moves: the score gradient of its density, which is zero in value.
        centered = jax.lax.stop_gradient(log_w - jnp.mean(log_w)) / 4
        fixed = jax.lax.stop_gradient(draws.log_noise)
        return value + centered @ (draws.log_noise - fixed)

    value, ascent = gradient(key, SKEW, q, infer.Reparam())
    np.testing.assert_allclose(value, bound(q), rtol=1e-12)
    assert_close(ascent, jax.grad(bound)(q), 1e-12)


@pytest.mark.parametrize("name", QUICK_FAMILIES)
def test_reparam_and_path_agree_on_average(name, x64):
    """Two means of 4000 gradients each, up to 600 comparisons at z < 4.5."""
    q, n = member(name), 4000

    @eqx.filter_jit
    def several(estimator, keys):
        return jax.lax.map(
            lambda k: ravel_pytree(gradient(k, SKEW, q, estimator)[1])[0], keys, batch_size=500
        )

    keys = jax.random.split(jax.random.key(6), 2 * n)
    reparam, path = several(infer.Reparam(), keys[:n]), several(infer.Path(), keys[n:])
    se = np.sqrt((reparam.var(axis=0) + path.var(axis=0)) / n)
    gap = np.abs(reparam.mean(axis=0) - path.mean(axis=0))
    assert (gap <= 4.5 * se + 1e-15).all()
    assert np.linalg.norm(reparam.mean(axis=0)) > 10 * np.linalg.norm(se)  # it is not all noise


@pytest.mark.parametrize("name", QUICK_FAMILIES)
def test_path_gradient_vanishes_at_the_posterior(name, x64):
    q = member(name)
    posterior = infer.from_log_density(q.log_prob, jnp.zeros(3))
    value, path = gradient(jax.random.key(4), posterior, q, infer.Path())
    np.testing.assert_allclose(value, 0, atol=1e-12)
    assert max(np.max(np.abs(leaf), initial=0) for leaf in jax.tree.leaves(path)) < 1e-11
    reparam = gradient(jax.random.key(4), posterior, q, infer.Reparam())[1]
    assert max(np.max(np.abs(leaf), initial=0) for leaf in jax.tree.leaves(reparam)) > 1e-3
