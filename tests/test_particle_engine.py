"""Every set of particles: laid out over devices, and on minibatches."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import infer
from infer.particles.method import AbstractParticleMethod

METHODS = {
    name: cls for name, cls in infer.algorithms().items() if issubclass(cls, AbstractParticleMethod)
}
N, ROWS = 16, 12


def regression(dim=3, batch_size=None):
    """A linear regression on a few rows, on the real line."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, dim)) + 0.5
    data = {"x": jnp.asarray(x, float), "y": jnp.asarray(x.sum(axis=1) + rng.normal(size=ROWS))}
    return infer.from_log_density(
        example=jnp.zeros(dim),
        log_prior=lambda z: -0.5 * jnp.sum(z**2),
        log_likelihood=lambda z, rows: -0.5 * (rows["y"] - rows["x"] @ z) ** 2,
        data=data,
        batch_size=batch_size,
    )


def fewest(cls):
    """As few coordinates as the method can serve."""
    return min(3, cls.most_dims or 3)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "SVGD" else pytest.mark.slow) for n in METHODS]
)
def test_particles_over_four_devices_move_as_on_one(name):
    if len(jax.devices()) < 4:
        pytest.skip("needs 4 devices")
    options = {"group": 4} if name == "RandomBatchSVGD" else {}
    algorithm = METHODS[name](n_particles=N, **options)
    target = regression(fewest(METHODS[name]))
    key = jax.random.key(3)
    mesh = Mesh(np.array(jax.devices()[:4]), ("particles",))

    @eqx.filter_jit
    def step(state):
        return algorithm.step(key, target, state)[0]

    def spread(leaf):
        rows = leaf.ndim == 2 and leaf.shape[0] == N
        spec = PartitionSpec("particles") if rows else PartitionSpec()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    one = algorithm.init(key, target)
    four = jax.tree.map(spread, one)
    assert len(four.particles.sharding.device_set) == 4
    for _ in range(3):
        one, four = step(one), step(four)
    np.testing.assert_allclose(four.particles, one.particles, atol=2e-4)
    assert np.abs(one.particles - algorithm.init(key, target).particles).max() > 1e-3


LINEAR = [
    infer.SVGD,
    infer.MSVGD,
    infer.Blob,
    infer.GFSD,
    infer.AnnealedSVGD,
    infer.NoisySVGD,
    infer.RandomBatchSVGD,
    infer.GraphicalSVGD,
]


@pytest.mark.parametrize("cls", LINEAR)
def test_minibatches_are_right_on_average(cls, x64):
    """The directions of batches that make up the data average to that of all rows."""
    full, few = regression(), regression(batch_size=4)
    options = {"group": 4} if cls is infer.RandomBatchSVGD else {}
    algorithm, key = cls(n_particles=N, **options), jax.random.key(3)

    state = eqx.filter_jit(algorithm.init)(key, full)
    state = eqx.tree_at(lambda s: s.i, state, jnp.asarray(1000, jnp.int32))  # fully annealed

    @eqx.filter_jit
    def direction(target):
        score = jax.vmap(jax.grad(target.log_prob))(state.particles)
        return algorithm.direction(key, target, state.particles, score, state).phi

    batches = [
        dataclasses.replace(few, model=few.model.take(jnp.arange(i, i + 4)), minibatch=True)
        for i in range(0, ROWS, 4)
    ]
    parts = [direction(batch) for batch in batches]
    np.testing.assert_allclose(np.mean(parts, axis=0), direction(full), rtol=1e-9, atol=1e-11)
    assert np.std(parts, axis=0).max() > 0.1
