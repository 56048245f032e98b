"""Mirror maps, targets in their coordinates, mirrored SVGD and mirror descent of particles."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from marks import slow

import infer
from infer.core.mirror import geometry, primal
from infer.kernels.pairwise import stein_force
from infer.particles.method import Swarm
from infer.particles.msvgd import _by_autodiff, _by_metric, mirrored_force


@pytest.fixture(params=["float64", *slow("float32")])
def precision(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


MAPS = {
    "real": lambda: (infer.real, (3,)),
    "positive": lambda: (infer.positive, (2, 3)),
    "greater": lambda: (infer.greater_than(jnp.array([1.0, -2.0, 0.5])), (2, 3)),
    "interval": lambda: (infer.interval(jnp.array([[-1.0], [2.0]]), 5.0), (2, 3)),
    "unit": lambda: (infer.unit_interval, ()),
    "simplex": lambda: (infer.EntropicSimplex(), (4,)),
    "simplices": lambda: (infer.EntropicSimplex(), (2, 3)),
    "barriers": lambda: (infer.LogBarrierSimplex(), (2, 4)),
    "box": lambda: (infer.LogBarrierBox(jnp.array([-1.0, 0.0, 2.0]), 3.0), (2, 3)),
    "ball": lambda: (infer.LogBarrierBall(), (3,)),
    "balls": lambda: (infer.LogBarrierBall(2.5), (2, 3)),
}


@pytest.mark.parametrize("name", MAPS)
def test_parts_of_a_map_agree(name, precision):
    mirror, shape = MAPS[name]()
    for key in range(3):
        infer.check_mirror(mirror, shape, key=key)


def test_formulas_of_the_maps(x64):
    """Values and grad log det J at one point, written in the variables of the literature."""
    u = jnp.array([0.3, -1.2, 2.0])

    def drift(mirror):
        return jax.grad(lambda v: mirror.constrain(v)[1])(u)

    x, _ = infer.EntropicSimplex().constrain(u)
    np.testing.assert_allclose(x, jnp.exp(jnp.append(u, 0)) / (1 + jnp.sum(jnp.exp(u))), 1e-12)
    np.testing.assert_allclose(drift(infer.EntropicSimplex()), 1 - 4 * x[:3], rtol=1e-12)
    x, _ = infer.interval(-1.0, 1.0).constrain(u)
    np.testing.assert_allclose(x, jnp.tanh(u / 2), rtol=1e-12)
    np.testing.assert_allclose(drift(infer.interval(-1.0, 1.0)), -x, rtol=1e-12)
    t = jnp.sqrt(1 + u**2)
    np.testing.assert_allclose(infer.LogBarrierBox().constrain(u)[0], u / (1 + t), rtol=1e-12)
    c = -(1 / (1 + t) + 1 / t) * u / t
    np.testing.assert_allclose(drift(infer.LogBarrierBox()), c, rtol=1e-12)
    t = jnp.sqrt(1 + jnp.sum(u**2))
    x, _ = infer.LogBarrierBall().constrain(u)
    np.testing.assert_allclose(u, 2 * x / (1 - jnp.sum(x**2)), rtol=1e-12)  # grad of the barrier
    c = -(3 / (1 + t) + 1 / t) * u / t
    np.testing.assert_allclose(drift(infer.LogBarrierBall()), c, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-8, 1e15, *slow(30.0, 1e4)])
@pytest.mark.parametrize("name", MAPS)
def test_far_out_in_float32(name, size):
    mirror, shape = MAPS[name]()
    free = mirror.free_shape(shape)
    u = size * jnp.where(jnp.arange(np.prod(free, dtype=int)) % 2 == 0, 1.0, -0.7).reshape(free)
    x, log_det = mirror.constrain(u)
    assert bool(mirror.contains(x)) and bool(jnp.isfinite(log_det))
    slope = jax.grad(lambda v: mirror.constrain(v)[1])(u)
    pulled = jax.grad(lambda v: jnp.sum(jnp.sin(mirror.constrain(v)[0])))(u)
    assert bool(jnp.isfinite(slope).all() & jnp.isfinite(pulled).all())
    metric = mirror.metric(u)
    assert bool((metric.a > 0).all() & jnp.isfinite(metric.times(u / size)).all())


def test_wrong_maps_are_found(x64):
    class Skew(infer.AbstractMirrorMap):
        label: ClassVar[str] = "skew"
        stretch: float = 1.0
        shear: float = 0.0

        def free_shape(self, shape):
            return tuple(shape)

        def constrain(self, u):
            return u + self.shear * u[..., ::-1] * jnp.arange(u.size), jnp.zeros(())

        def unconstrain(self, x):
            return x

        def contains(self, x):
            return jnp.all(jnp.isfinite(x))

        def metric(self, u):
            return infer.Metric(self.stretch * jnp.ones_like(u))

    infer.check_mirror(Skew(), (2,))
    with pytest.raises(ValueError, match="metric is not the Jacobian"):
        infer.check_mirror(Skew(stretch=2.0), (2,))
    with pytest.raises(ValueError, match=r"unconstrain\(constrain\(u\)\) is not u"):
        infer.check_mirror(Skew(shear=0.1), (2,))
    with pytest.raises(ValueError, match="low < high"):
        infer.LogBarrierBox(1.0, 1.0)
    with pytest.raises(ValueError, match="radius > 0"):
        infer.LogBarrierBall(0.0)


# Targets ---------------------------------------------------------------------------------------


def mixed(values):
    """A density on positive, bounded, real and simplex sites, coupled."""
    s, b, r, p = values["s"], values["b"], values["r"], values["p"]
    return (
        -jnp.sum(s * jnp.array([1.0, 2.0]))
        + jnp.sum(jnp.log(s)) * 1.5
        - 0.5 * (r - s[0]) ** 2
        + jnp.sum(jnp.array([1.0, 0.5, 3.0]) * jnp.log(p))
        + 2 * b * p[0]
    )


EXAMPLE = {"s": jnp.ones(2), "b": 0.5, "r": 0.0, "p": jnp.ones(3) / 3}
SUPPORTS = {"s": infer.positive, "b": infer.interval(0.0, 2.0), "p": infer.simplex}


def plain():
    return infer.from_log_density(mixed, EXAMPLE, supports=SUPPORTS)


def test_a_mirrored_target_is_the_same_density(precision):
    target = plain()
    other = infer.mirrored(target, {"b": infer.LogBarrierBox(0.0, 2.0)})
    z = jnp.asarray(np.linspace(-1, 1, 6))
    values = target.constrain(z)
    u = other.unconstrain(values)
    for name, value in other.constrain(u).items():
        np.testing.assert_allclose(value, values[name], rtol=2e-5)
    jacobian = np.linalg.slogdet(jax.jacobian(lambda v: primal(other, v))(u))[1]
    np.testing.assert_allclose(other.log_prob(u), mixed(values) + jacobian, rtol=2e-5)
    shape = geometry(other, u)
    dense = jax.jacobian(lambda v: primal(other, v))(u)
    v = jnp.arange(1.0, 7.0)
    tolerance = 1e-10 if precision == "float64" else 2e-4
    np.testing.assert_allclose(shape.times(v), dense @ v, rtol=tolerance)
    np.testing.assert_allclose(shape.solve(v), jnp.linalg.solve(dense, v), rtol=tolerance)
    assert [p.start for p in shape.places()] == [0] or len(shape.places()) == 1
    # the start is the same point
    at = infer.mirrored(target.at(z), {"b": infer.LogBarrierBox(0.0, 2.0)})
    np.testing.assert_allclose(at.initial(jax.random.key(0)), u, rtol=1e-4, atol=1e-5)


def dirichlet(concentration, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(2.0))
    p = numpyro.sample("p", dist.Dirichlet(concentration))
    numpyro.deterministic("twice", 2 * p)
    numpyro.sample("y", dist.Normal(scale * jnp.asarray(p)[0], 1.0), obs=y)


def test_numpyro_models_in_mirror_coordinates(x64):
    target = infer.from_numpyro(dirichlet, jnp.array([2.0, 3.0, 5.0]), y=jnp.asarray(0.4))
    other = infer.mirrored(target)
    z = jnp.array([0.3, -0.4, 0.9])
    values = target.constrain(z)
    u = other.unconstrain(values)
    np.testing.assert_allclose(other.constrain(u)["twice"], values["twice"], rtol=1e-10)
    one = jnp.linalg.slogdet(jax.jacobian(lambda v: primal(other, v))(u))[1]
    two = jnp.linalg.slogdet(
        jax.jacobian(lambda v: jnp.delete(primal(target, v), 2 + _last(target)))(z)
    )[1]
    np.testing.assert_allclose(other.log_prob(u) - one, target.log_prob(z) - two, rtol=1e-10)
    result = infer.fit(other, infer.MALA(), key=0, chains=2, warmup=50, steps=50, progress=False)
    assert result["p"].shape == (2, 50, 3)
    assert set(result.predict(key=1)) >= {"y"}
    np.testing.assert_allclose(result.log_likelihood()["y"].shape[:2], (2, 50))


def _last(target):
    """Where the simplex ends among the constrained values, less its place at the front."""
    names = [site.name for site in target.sites]
    return 0 if names[0] == "p" else 1


def test_targets_without_mirror_maps_are_refused():
    def moving(y=None):
        low = numpyro.sample("low", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Uniform(low, low + 1.0))
        numpyro.sample("order", dist.Normal(jnp.zeros(3), 1).mask(True))

    target = infer.from_numpyro(moving)
    with pytest.raises(ValueError, match=r"infer\.mirrored\(target\).*infer\.MSVGD"):
        infer.fit(target, infer.SVMD(), key=0, steps=3, progress=False)
    with pytest.raises(ValueError, match=r"site 'x' .*no mirror map.*infer\.MSVGD"):
        infer.mirrored(target)
    ordered = infer.from_log_density(
        lambda x: -0.5 * jnp.sum(x**2), jnp.arange(3.0), supports=infer.ordered
    )
    with pytest.raises(ValueError, match=r"site 'x' \(ordered\) has no mirror map"):
        infer.mirrored(ordered)
    with pytest.raises(ValueError, match="SVMD needs a mirror map for every site.*ordered"):
        infer.fit(ordered, infer.SVMD(), key=0, steps=3, progress=False)
    with pytest.raises(ValueError, match="SVMD needs a mirror map.*EntropicSimplex"):
        infer.fit(plain(), infer.SVMD(), key=0, steps=3, progress=False)
    with pytest.raises(ValueError, match=r"maps names \['q'\]"):
        infer.mirrored(plain(), {"q": infer.positive})


# Directions ------------------------------------------------------------------------------------

N = 7  # particles, in 6 coordinates
KERNELS = {"imq": infer.IMQ(bandwidth=0.7), "rbf": infer.RBF(bandwidth=0.9)}


# Without jit every operation would be compiled by itself.
@eqx.filter_jit
def compiled(function, *args):
    return function(*args)


def cloud(target, n=N):
    z = 0.3 + jax.random.normal(jax.random.key(3), (n, target.dim))
    return z, compiled(lambda target, z: jax.vmap(jax.grad(target.log_prob))(z), target, z)


@eqx.filter_jit
def direction(algorithm, target, z, score):
    return algorithm.direction(jax.random.key(0), target, z, score, swarm(z)).phi


def swarm(z):
    return Swarm(z, (), jnp.asarray(0))


def by_definition(target, z, score, kernel):
    """(1/n) sum_j k(x_j, x_i) score_j + grad_{z_j} k(x(z_j), x_i), every pair by autodiff."""

    def k(zj, zi):
        return kernel.value(jnp.sum((primal(target, zj) - primal(target, zi)) ** 2))

    pair = jax.vmap(
        jax.vmap(lambda zj, sj, zi: k(zj, zi) * sj + jax.grad(k)(zj, zi), (0, 0, None)),
        (None, None, 0),
    )
    return jnp.mean(pair(z, score, z), axis=1)


TARGETS = {
    "mirrored": lambda: infer.mirrored(plain(), {"b": infer.LogBarrierBox(0.0, 2.0)}),
    "ball": lambda: infer.from_log_density(
        lambda x: -jnp.sum((x - 0.1) ** 2) + x[0, 0] * x[1, 2],
        jnp.zeros((2, 3)),
        supports=infer.LogBarrierBall(1.5),
    ),
    "sticks": plain,
    "matrix": lambda: infer.from_log_density(
        lambda x: -jnp.sum((x - 0.5) ** 2), jnp.eye(3), supports=infer.lower_cholesky
    ),
}


@pytest.mark.parametrize(
    "name, kernel", [("mirrored", "imq"), ("ball", "rbf"), ("sticks", "rbf"), ("matrix", "imq")]
)
def test_mirrored_force_is_its_definition(name, kernel, x64):
    target = TARGETS[name]()
    z, score = cloud(target)
    phi, *_ = compiled(mirrored_force, target, z, score, KERNELS[kernel])
    expected = compiled(by_definition, target, z, score, KERNELS[kernel])
    np.testing.assert_allclose(phi, expected, rtol=1e-9)


def test_both_roads_of_the_mirrored_force(x64):
    target = TARGETS["mirrored"]()
    z, score = cloud(target, 40)
    x = compiled(lambda target, z: jax.vmap(lambda p: primal(target, p))(z), target, z)
    x = x - x.mean(axis=0)
    args = target, z, x, score, KERNELS["imq"]
    roads = [compiled(road, *args) for road in (_by_metric, _by_autodiff)]
    np.testing.assert_allclose(*roads, rtol=1e-9, atol=1e-12)


def svmd_by_definition(target, z, score, kernel):
    """The kernel of the paper from all eigenpairs of K / n, extended off the particles.

    K_psi(z, z') = sum_ij sqrt(mu_i mu_j) u_i(z) u_j(z') Gamma_ij,
    u_i(z) = sum_l k(z, z_l) v_il / mu_i / n^1/2 ..., Gamma_ij = (1/n) sum_l v_il v_jl H_l;
    direction_k = (1/n) sum_l [ K_psi(z_l, z_k)^T score_l + div_{z_l} K_psi(z_l, z_k) ].
    """
    n = len(z)
    x = jax.vmap(lambda p: primal(target, p))(z)
    matrix = kernel.value(jnp.sum((x[:, None] - x) ** 2, axis=-1)) / n
    mu, vectors = jnp.linalg.eigh(matrix)
    values = jnp.sqrt(n) * vectors  # u_i at the particles, (1/n) sum_l u_il u_jl = 1 if i = j
    hessians = jax.vmap(lambda p: jnp.linalg.inv(jax.jacobian(lambda q: primal(target, q))(p)))(z)
    gamma = jnp.einsum("li,lj,lab->ijab", values, values, hessians) / n

    def u(point):
        near = kernel.value(jnp.sum((primal(target, point) - x) ** 2, axis=-1))
        return near @ values / n / mu

    def adapted(one, two):
        weights = jnp.sqrt(mu[:, None] * mu) * u(one)[:, None] * u(two)
        return jnp.einsum("ij,ijab->ab", weights, gamma)

    def term(one, s, two):
        divergence = jnp.trace(jax.jacobian(adapted)(one, two), axis1=0, axis2=2)
        return adapted(one, two).T @ s + divergence

    pair = jax.vmap(jax.vmap(term, (0, 0, None)), (None, None, 0))
    return jnp.mean(pair(z, score, z), axis=1)


def test_svmd_is_its_definition(x64):
    kernel = "imq"
    target = TARGETS["mirrored"]()
    z, score = cloud(target)
    algorithm = infer.SVMD(n_particles=N, kernel=KERNELS[kernel], keep=1 - 1e-15)
    phi = direction(algorithm, target, z, score)
    expected = compiled(svmd_by_definition, target, z, score, KERNELS[kernel])
    np.testing.assert_allclose(phi, expected, rtol=1e-6, atol=1e-8)


def test_svmd_without_curvature_is_svgd(x64):
    target = infer.from_log_density(lambda x: -jnp.sum(x**4) + x[0] * x[1], jnp.zeros(4))
    z, score = cloud(target)
    kernel = KERNELS["imq"]
    force = stein_force(z, score, kernel)
    whole = infer.SVMD(n_particles=N, kernel=kernel, keep=1 - 1e-15)
    np.testing.assert_allclose(direction(whole, target, z, score), force, rtol=1e-8)
    cut = direction(infer.SVMD(n_particles=N, kernel=kernel, keep=0.5), target, z, score)
    # What truncation leaves is a projection of the whole, in the space of the particles.
    np.testing.assert_allclose(jnp.sum(cut * (force - cut)), 0, atol=1e-10)
    assert 0.1 < float(jnp.sum(cut**2) / jnp.sum(force**2)) < 1 - 1e-6


def test_one_particle(x64):
    target = TARGETS["mirrored"]()
    z, score = cloud(target, 1)
    phi = compiled(mirrored_force, target, z, score, infer.IMQ())[0]
    np.testing.assert_allclose(phi, score, rtol=1e-12)
    phi = direction(infer.SVMD(n_particles=1), target, z, score)
    expected = compiled(lambda t, p, v: geometry(t, p).solve(v), target, z[0], score[0])
    np.testing.assert_allclose(phi[0], expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["MSVGD", "SVMD"])
def test_order_and_place_of_the_particles(name):
    """Another order of the particles permutes the directions; an offset changes nothing."""
    algorithm = getattr(infer, name)(kernel=infer.IMQ(bandwidth=0.7), n_particles=30)
    target = TARGETS["mirrored"]()
    z, score = cloud(target, 30)
    order = np.random.default_rng(0).permutation(30)
    phi = direction(algorithm, target, z, score)
    other = direction(algorithm, target, z[order], score[order])
    size = np.abs(phi).max()
    np.testing.assert_allclose(other, phi[order], atol=2e-4 * size)

    flat = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(5))
    z = jax.random.normal(jax.random.key(1), (30, 5))
    z = jnp.round(z * 2**10) / 2**10  # survives the offset
    phi = direction(algorithm, flat, z, -z)
    far = direction(algorithm, flat, z + 1e3, -z)
    np.testing.assert_allclose(far, phi, atol=1e-3 * np.abs(phi).max())


@eqx.filter_jit
def run(algorithm, target, key, steps=2000):
    def body(state, i):
        return algorithm.step(jax.random.fold_in(key, i), target, state)[0], None

    return jax.lax.scan(body, algorithm.init(key, target), jnp.arange(steps))[0]


@pytest.mark.parametrize("name", ["MSVGD", "SVMD"])
def test_a_dirichlet(name, key):
    """Means to 0.01; of sixty particles the spread is up to 13 % small, where a = 1."""
    a = np.array([2.0, 3.0, 5.0, 1.0])
    target = infer.from_log_density(
        lambda p: jnp.sum((a - 1) * jnp.log(p)), jnp.ones(4) / 4, supports=infer.EntropicSimplex()
    )
    algorithm = getattr(infer, name)(n_particles=60)
    z = run(algorithm, target, key, steps=700).particles
    p = np.asarray(jax.vmap(lambda u: target.constrain(u)["x"])(z))
    mean, total = a / a.sum(), a.sum()
    np.testing.assert_allclose(p.mean(axis=0), mean, atol=0.012)
    sd = np.sqrt(mean * (1 - mean) / (total + 1))
    np.testing.assert_allclose(p.std(axis=0) / sd, 1, atol=0.14)


def test_particles_to_start_from():
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(2))
    start = np.random.default_rng(0).normal(3.0, 0.1, (20, 2))
    algorithm = infer.MSVGD(n_particles=20, start=jnp.asarray(start), stopping=None)
    state = algorithm.init(jax.random.key(0), target)
    np.testing.assert_allclose(state.particles, start, rtol=1e-6)
    with pytest.raises(ValueError, match=r"MSVGD\(n_particles=100\) needs start="):
        infer.MSVGD(start=start)
    with pytest.raises(ValueError, match="identical particles.*add noise"):
        infer.SVGD(n_particles=20, start=np.ones((20, 2)))
    with pytest.raises(ValueError, match="not finite"):
        infer.SVGD(n_particles=2, start=np.array([[0.0], [np.nan]]))
    with pytest.raises(ValueError, match=r"2\s+unconstrained coordinates"):
        infer.fit(target, infer.SVGD(n_particles=20, start=np.ones((20, 3)) * start[:, :1]), key=0)
