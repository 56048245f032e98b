"""Laying a run out over devices."""

from typing import TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infer.core.algorithm import AbstractApproximator, Algorithm
from infer.core.posterior import Particles
from infer.core.problem import AbstractProblem
from infer.run.chunk import Carry

Tree = TypeVar("Tree")
Problem = TypeVar("Problem", bound=AbstractProblem)
AXES = ("chains", "particles", "data", "samples")


def lay_out(
    mesh: Mesh, algorithm: Algorithm, carry: Carry, problem: Problem
) -> tuple[Carry, Problem]:
    """Put a run's states and data on a mesh with one axis of a name out of `AXES`.

    "chains" splits the leading axis of every state, "particles" the rows of the particles and of
    what has as many, "data" the leading axis of the data rows, "samples" the draws that every step
    takes, which exist within a step alone; everything else is replicated. The numbers agree with
    those of one device to rounding.
    """
    if len(mesh.axis_names) != 1 or mesh.axis_names[0] not in AXES:
        raise ValueError(f"mesh needs one axis named one of {AXES}, got {mesh.axis_names}.")
    if any(device.process_index != jax.process_index() for device in mesh.devices.flat):
        raise ValueError(
            "mesh has devices of other processes. Give it those of this one, Mesh(jax.local_devices"
            "(), ...), a key to each process, and join what they save: infer.combine([...])."
        )
    axis, devices = mesh.axis_names[0], mesh.size
    whole = NamedSharding(mesh, PartitionSpec())

    def place(leaf: jax.Array, position: int, length: int | None = None) -> jax.Array:
        fits = leaf.ndim > position and leaf.shape[position] % devices == 0
        if not fits or (length is not None and leaf.shape[position] != length):
            return jax.device_put(leaf, whole)
        spec = PartitionSpec(*(None,) * position, axis)
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    def each(tree: Tree, position: int | None, length: int | None = None) -> Tree:
        def move(leaf: object) -> object:
            if not isinstance(leaf, jax.Array):
                return leaf
            return (
                jax.device_put(leaf, whole) if position is None else place(leaf, position, length)
            )

        return jax.tree.map(move, tree)

    if axis == "chains":
        chains = carry.alive.shape[0]
        if chains % devices:
            raise ValueError(f"{chains} chains do not divide over {devices} devices.")
        return each(carry, 0), each(problem, None)
    if axis == "samples":
        if not (isinstance(algorithm, AbstractApproximator) and algorithm.spreads_samples):
            raise ValueError(
                f'{type(algorithm).__name__} has no draws to lay out along "samples"; write '
                'Mesh(devices, "chains").'
            )
        return each(carry, None), each(problem, None)
    if axis == "data":
        if problem.size is None or problem.size % devices:
            raise ValueError(f"{problem.size} data rows do not divide over {devices} devices.")
        return each(carry, None), each(problem, 0, problem.size)
    if not (isinstance(algorithm, AbstractApproximator) and algorithm.particles):
        raise ValueError(
            'a mesh axis "particles" is for sets of particles; write Mesh(devices, "chains").'
        )
    answer = jax.eval_shape(jax.vmap(algorithm.posterior), carry.states)
    assert isinstance(answer, Particles)
    n = answer.x.shape[1]
    if n % devices:
        raise ValueError(
            f"a set of {n} particles does not divide over {devices} devices; choose n_particles "
            f"a multiple of {devices}."
        )
    states = jax.tree.map(
        lambda x: place(x, 1, n) if x.ndim == 3 else jax.device_put(x, whole), carry
    )
    return states, each(problem, None)
