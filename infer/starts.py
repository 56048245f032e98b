"""Where chains start: searched for, given by the user, or taken from an earlier result."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from infer.bridges.leaves import named_leaves
from infer.check import explain_start
from infer.core.algorithm import AbstractApproximator
from infer.core.target import Target, evaluate
from infer.core.types import Points, PRNGKey, Vector
from infer.result import Result


@eqx.filter_jit
def fold_in_chains(key: PRNGKey, chains: int) -> Key[Array, " chains"]:
    """One key per chain, whatever the number of chains."""
    return jax.vmap(lambda c: jax.random.fold_in(key, c))(jnp.arange(chains))


@eqx.filter_jit
def _search(target: Target, keys: Key[Array, " chains"]) -> tuple[Points, Array]:
    return jax.vmap(target.search_start)(keys)


@eqx.filter_jit
def _finite(target: Target, z: Points) -> Array:
    value, score = evaluate(target, z)
    return jnp.isfinite(value) & jnp.all(jnp.isfinite(score), axis=-1)


@eqx.filter_jit
def _unconstrain(target: Target, values: dict[str, Array]) -> Vector:
    return target.unconstrain(values)


def starting_points(target: Target, key: PRNGKey, chains: int, init: Any) -> Points:
    """A finite starting point per chain, or an error that names the site at fault."""
    full = target.full()
    if init is None:
        starts, ok = _search(full, fold_in_chains(key, chains))
    else:
        if isinstance(init, Result):
            starts = _starts_from(init, key, chains)
        else:
            starts = _starts_at(full, init, chains)
        ok = _finite(full, starts)
    bad = np.flatnonzero(~np.asarray(ok))
    if len(bad):
        raise ValueError(explain_start(full, starts[bad[0]]))
    return starts


def _starts_from(result: Result, key: PRNGKey, chains: int) -> Points:
    if isinstance(result.algorithm, AbstractApproximator):
        z = result.z[result.best]
        if chains == 1:
            return jnp.asarray(z.mean(axis=0)[None])
        return jnp.asarray(z[np.asarray(jax.random.randint(key, (chains,), 0, len(z)))])
    chain, back = np.arange(chains) % len(result.z), np.arange(chains) // len(result.z)
    return jnp.asarray(result.z[chain, -1 - back])


def _starts_at(target: Target, init: Any, chains: int) -> Points:
    values = dict(named_leaves(init, "x"))
    shapes = {site.name: site.shape for site in target.sites}
    if set(values) != set(shapes):
        raise ValueError(
            f"init must give every site: needed {sorted(shapes)}, got {sorted(values)}."
        )
    values = {name: jnp.asarray(v, jnp.zeros(()).dtype) for name, v in values.items()}
    found = {name: tuple(v.shape) for name, v in values.items()}
    if found == shapes:
        return jnp.tile(_unconstrain(target, values), (chains, 1))
    if found == {name: (chains, *shape) for name, shape in shapes.items()}:
        return jnp.stack(
            [_unconstrain(target, {k: v[c] for k, v in values.items()}) for c in range(chains)]
        )
    raise ValueError(
        f"init has shapes {found}; needed are {shapes}, or the same with a leading axis of "
        f"{chains} chains."
    )
