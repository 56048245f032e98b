"""Kernels that see a part of the space: blankets, slices, subspaces; against autodiff of pairs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from marks import slow
from test_directions import cloud, gaussian, pair, run

import infer
from infer.diagnostics.ksd import ksd_squared
from infer.kernels import IMQ, RBF, stein_force
from infer.particles.graphical import graphical_force
from infer.particles.grassmann import HOTTEST, subspace_force, turned_frame, uphill
from infer.particles.sliced import sliced_discrepancy, sliced_force

N, D = 7, 4
METHODS = [infer.GraphicalSVGD, infer.SlicedSVGD, infer.GrassmannSVGD]


# Without jit every operation would be compiled by itself.
graphical_force, sliced_force, sliced_discrepancy, subspace_force, uphill = map(
    eqx.filter_jit, (graphical_force, sliced_force, sliced_discrepancy, subspace_force, uphill)
)


@eqx.filter_jit
def by_hand(x, score, seen, moved, kernel):
    """(1/n) sum_j [ k(P x_j, P x_i) R s_j + R P^T grad_1 k ] for matrices of rows R and P."""
    y = x @ seen.T
    k = pair(kernel.at(y))

    def term(yj, sj, yi):
        return k(yj, yi) * moved @ sj + moved @ seen.T @ jax.grad(k)(yj, yi)

    terms = jax.vmap(lambda yi: jax.vmap(term, (0, 0, None))(y, score, yi))(y)
    return jnp.mean(terms, axis=1)


@eqx.filter_jit
def discrepancy_by_hand(x, score, seen, moved, kernel):
    """The mean over all pairs of the Stein operator applied to both arguments of the kernel."""
    y, c = x @ seen.T, moved @ seen.T
    k = pair(kernel.at(jax.lax.stop_gradient(y)))

    def term(a, s, b, t):
        s, t = moved @ s, moved @ t
        mixed = jax.jacfwd(jax.grad(k, 0), 1)(a, b)
        first, second = jax.grad(k, 0)(a, b), jax.grad(k, 1)(a, b)
        return k(a, b) * s @ t + s @ (c @ second) + t @ (c @ first) + jnp.trace(c @ mixed @ c.T)

    over = jax.vmap(jax.vmap(term, (None, None, 0, 0)), (0, 0, None, None))
    return jnp.mean(over(y, score, y, score))


def frame(d, m, seed=0):
    return jnp.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(d, m)))[0])


def directions_of(d, seed=1):
    g = np.random.default_rng(seed).normal(size=(d, d))
    return jnp.asarray(g / np.linalg.norm(g, axis=1, keepdims=True))


BLANKETS = np.array(
    [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [0, 1, 0, 1]], bool
)  # a star: all hang on the second


@pytest.mark.parametrize("make, tile", [(RBF, None), (IMQ, 3), *slow((RBF, 3), (IMQ, None))])
def test_a_stein_force_along_a_part(x64, make, tile):
    x, score = cloud(N, D)
    seen, moved = frame(D, 3).T, frame(D, 2, seed=1).T
    kernel = make(bandwidth=1.3)
    y, s, w = x @ seen.T, score @ moved.T, x @ seen.T @ seen @ moved.T
    expected = by_hand(x, score, seen, moved, kernel)
    found = stein_force(y, s, kernel, tile, moved=w)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("make", [IMQ, *slow(RBF)])
def test_the_directions_are_their_definitions(x64, make):
    x, score = cloud(N, D)
    kernel, unit = make(), np.eye(D)
    each = [by_hand(x, score, unit[BLANKETS[a]], unit[a : a + 1], kernel)[:, 0] for a in range(D)]
    found = graphical_force(x, score, jnp.asarray(BLANKETS), kernel)
    np.testing.assert_allclose(found, np.stack(each, axis=1), rtol=1e-11, atol=1e-13)

    g = directions_of(D)
    each = [by_hand(x, score, g[a : a + 1], unit[a : a + 1], kernel)[:, 0] for a in range(D)]
    found = sliced_force(x, score, g, kernel)
    np.testing.assert_allclose(found, np.stack(each, axis=1), rtol=1e-11, atol=1e-13)

    frames = jnp.stack([frame(D, 2, seed) for seed in range(3)])
    expected = sum(by_hand(x, score, a.T, a.T, kernel) @ a.T for a in frames)
    found = subspace_force(x, score, frames, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("make", [IMQ, *slow(RBF)])
def test_what_turns_slices_and_subspaces(x64, make):
    """Discrepancies and their gradients, with the bandwidth held."""
    x, score = cloud(N, D)
    kernel, unit, g = make(), np.eye(D), directions_of(D)

    def total(g):
        g = g / jnp.linalg.norm(g, axis=1, keepdims=True)
        return sum(
            discrepancy_by_hand(x, score, g[a : a + 1], unit[a : a + 1], kernel) for a in range(D)
        )

    value, gradient = sliced_discrepancy(x, score, g, kernel)
    expected = jax.value_and_grad(total)(g)
    np.testing.assert_allclose(value, expected[0], rtol=1e-11)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-9, atol=1e-12)

    a = frame(D, 2)
    expected = jax.grad(lambda a: discrepancy_by_hand(x, score, a.T, a.T, kernel))(a)
    found = uphill(a, x - x.mean(axis=0), score, kernel)
    moved = turned_frame(a, found) - turned_frame(a, expected)
    np.testing.assert_allclose(moved, 0, atol=1e-10)


def test_discrepancies_are_those_of_the_kernel_stein_discrepancy(x64):
    x, score = cloud(N, 1)
    value, gradient = sliced_discrepancy(x, score, jnp.eye(1), IMQ(bandwidth=1.0))
    np.testing.assert_allclose(value, ksd_squared(x, score), rtol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)  # a line has no other slice


def test_turned_frames(x64):
    a, by = frame(D, 2), jnp.asarray(np.random.default_rng(3).normal(size=(D, 2)))
    found = turned_frame(a, by)
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-14)
    spanned = a + by - a @ (a.T @ by)
    np.testing.assert_allclose(found @ (found.T @ spanned), spanned, atol=1e-13)
    whole = turned_frame(frame(D, D), jnp.ones((D, D)))  # the whole space has nowhere to turn
    np.testing.assert_allclose(np.abs(whole), np.abs(frame(D, D)), atol=1e-13)


@pytest.mark.parametrize("make", [IMQ, *slow(RBF)])
def test_the_whole_space_is_svgd(x64, make):
    x, score = cloud(N, D)
    svgd = stein_force(x, score, make())
    full = graphical_force(x, score, jnp.ones((D, D), bool), make())
    np.testing.assert_allclose(full, svgd, rtol=1e-12)
    turned = subspace_force(x, score, frame(D, D)[None], make())
    np.testing.assert_allclose(turned, svgd, rtol=1e-12)
    line = sliced_force(x[:, :1], score[:, :1], jnp.eye(1), make())
    np.testing.assert_allclose(line, stein_force(x[:, :1], score[:, :1], make()), rtol=1e-12)


@eqx.filter_jit
def move(algorithm, target, x, score, key):
    swarm = algorithm.init(key, target)
    return algorithm.direction(key, target, x, score, swarm)


def moved(method, x, score):
    target = gaussian(np.zeros(x.shape[1]), np.eye(x.shape[1]) + 0.5)
    return move(method(len(x)), target, x, score, jax.random.key(0)).phi


@pytest.mark.parametrize("method", METHODS)
def test_renaming_translating_and_one_particle(method):
    x, score = cloud(n=20, offset=0.0)
    x = np.round(x * 2**10) / 2**10  # so that x + 1000 is exact in float32
    x, far, score = (jnp.asarray(a, jnp.float32) for a in (x, x + 1000, score))
    here = moved(method, x, score)
    size = np.abs(here).max()
    np.testing.assert_allclose(moved(method, far, score), here, atol=1e-3 * size)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_allclose(moved(method, x[order], score[order]), here[order], atol=1e-5 * size)
    if method is not infer.GrassmannSVGD:  # its subspaces need not be orthogonal to one another
        np.testing.assert_allclose(moved(method, x[:1], score[:1]), score[:1], rtol=1e-6)
    together = jnp.full((20, 5), 123.456, jnp.float32)
    assert np.isfinite(moved(method, together, jnp.ones_like(together))).all()


def test_subspaces_grow_hot_when_the_particles_are_at_rest():
    target, key = gaussian(np.zeros(D), np.eye(D)), jax.random.key(0)
    algorithm = infer.GrassmannSVGD(N)
    swarm = algorithm.init(key, target)
    x = jnp.ones((N, D), jnp.float32)  # no force from the first step on
    temperatures = []
    for _ in range(12):
        memory = move_in(algorithm, target, x, key, swarm).memory
        swarm = eqx.tree_at(lambda s: s.memory, swarm, memory)
        temperatures.append(float(memory[1]))
    expected = np.minimum(10.0 ** np.arange(-4, 8), HOTTEST)
    np.testing.assert_allclose(temperatures, expected, rtol=1e-4)
    frames = memory[0]
    np.testing.assert_allclose(
        frames.swapaxes(1, 2) @ frames, np.stack([np.eye(2)] * len(frames)), atol=1e-5
    )


@eqx.filter_jit
def move_in(algorithm, target, x, key, swarm):
    return algorithm.direction(key, target, x, jnp.zeros_like(x), swarm)


def hierarchy(y):
    center = numpyro.sample("center", dist.Normal(0.0, 5.0))
    scale = numpyro.sample("scale", dist.HalfNormal(2.0))
    with numpyro.plate("groups", 3):
        group = numpyro.sample("group", dist.Normal(center, scale))
        numpyro.sample("y", dist.Normal(group, 1.0), obs=y)


def test_markov_blankets():
    target = infer.from_numpyro(hierarchy, jnp.array([1.0, 0.5, -2.0]))
    assert target.coordinate_names() == ["center", "scale", "group[0]", "group[1]", "group[2]"]
    star = np.eye(5, dtype=bool)
    star[:2] = star[:, :2] = True
    np.testing.assert_array_equal(infer.markov_blankets(target), star)

    chain = np.eye(6) - 0.3 * np.eye(6, k=1) - 0.3 * np.eye(6, k=-1)
    covariance = np.linalg.inv(chain)  # dense; the precision is only zero up to rounding
    neighbors = infer.markov_blankets(gaussian(np.arange(6.0), covariance))
    np.testing.assert_array_equal(neighbors, chain != 0)

    bad = infer.from_log_density(
        lambda z: -jnp.sum(z**2) + jnp.sqrt(jnp.minimum(z[0], -1e3)) * z[1], jnp.zeros(3)
    )
    assert infer.markov_blankets(bad)[:2, :2].all()  # no number: taken for an interaction


def test_blankets_are_found_or_given():
    target, x = gaussian(np.zeros(D), np.eye(D)), jnp.asarray(cloud(N, D)[0], jnp.float32)
    own = infer.GraphicalSVGD(N).init(jax.random.key(0), target).memory
    np.testing.assert_array_equal(own, np.eye(D))
    given = infer.GraphicalSVGD(N, blankets=BLANKETS)
    found = move(given, target, x, -x, jax.random.key(0)).phi
    expected = graphical_force(x, -x, jnp.asarray(BLANKETS), IMQ())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "method, sd",
    [
        (infer.GraphicalSVGD, 0.96),
        *slow((infer.SlicedSVGD, 0.87), (infer.GrassmannSVGD, 0.84)),
    ],
)
def test_they_keep_the_spread(key, method, sd):
    """20 particles for N(0, I) in ten dimensions, where those of SVGD keep 0.75."""
    state, variances = run(method(20), gaussian(np.zeros(10), np.eye(10)), key, 1500)
    assert np.sqrt(np.mean(variances[-300:])) == pytest.approx(sd, abs=0.04)
    assert np.abs(np.mean(state.particles, axis=0)).max() < 0.15


def test_wrong_use():
    target = gaussian(np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match=r"boolean array \(dim, dim\).*markov_blankets"):
        infer.GraphicalSVGD(blankets=np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"blankets= of shape \(2, 2\), and the target has 3"):
        infer.fit(target, infer.GraphicalSVGD(blankets=np.eye(2, dtype=bool)), key=0)
    with pytest.raises(TypeError, match="slices"):
        infer.SlicedSVGD(slices=0.1)
    with pytest.raises(ValueError, match="dim"):
        infer.GrassmannSVGD(dim=0)
    with pytest.raises(ValueError, match="subspaces"):
        infer.GrassmannSVGD(subspaces=0)
    with pytest.raises(ValueError, match="turn"):
        infer.GrassmannSVGD(turn=0.0)
