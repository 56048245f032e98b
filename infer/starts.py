"""Where chains start: searched for, given by the user, or taken from an earlier result."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from infer.bridges.leaves import named_leaves
from infer.check import explain_start
from infer.core.target import Target, evaluate
from infer.core.types import Points, PRNGKey
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


def starting_points(target: Target, key: PRNGKey, chains: int, init: Any) -> Points:
    """A finite starting point per chain, or an error that names the site at fault."""
    full = target.full()
    if init is None:
        starts, ok = _anywhere(full, key, chains)
    else:
        if isinstance(init, Result):
            starts = _starts_from(full, init, key, chains)
        elif callable(init):
            raise TypeError(
                f"init needs values by name, or an earlier result, got the function {init!r}. A "
                "start is searched for by default; to give one write init={name: value}."
            )
        else:
            starts = starts_at(full, init, chains, rest=lambda: _anywhere(full, key, chains)[0])
        ok = _finite(full, starts)
    bad = np.flatnonzero(~np.asarray(ok))
    if len(bad):
        raise ValueError(explain_start(full, starts[bad[0]]))
    return starts


def _anywhere(target: Target, key: PRNGKey, chains: int) -> tuple[Points, Array]:
    """Where chains start that were given nothing, and whether the density is finite there."""
    if target.start is None:
        return _search(target, fold_in_chains(key, chains))
    starts = jnp.stack([target.start] * chains)
    return starts, _finite(target, starts)


def _starts_from(target: Target, result: Result, key: PRNGKey, chains: int) -> Points:
    """Draws of an earlier result, matched by name where it is of another model."""
    z = _draws_as(target, result)
    if result.is_chains:
        chain, back = np.arange(chains) % len(z), np.arange(chains) // len(z)
        return jnp.asarray(z[chain, -1 - back])
    best = z[result.best]
    if chains == 1:
        return jnp.asarray(best.mean(axis=0)[None])
    return jnp.asarray(best[np.asarray(jax.random.randint(key, (chains,), 0, len(best)))])


def _draws_as(target: Target, result: Result) -> np.ndarray:
    """Draws of a result on the unconstrained scale of this target, (chain, draw, d)."""
    draws = result.draws()
    shapes = {site.name: site.shape for site in target.sites}
    found = {name: draws[name].shape[2:] for name in shapes if name in draws}
    if found != shapes:
        have = {name: value.shape[2:] for name, value in draws.items()}
        raise ValueError(
            f"the result in init= has {have}, this target needs {shapes}; write "
            "init={name: value} with the values to start from."
        )
    chains, n = result.z.shape[:2]
    flat = {k: jnp.asarray(draws[k].reshape(-1, *v)) for k, v in shapes.items()}
    if result.target is not None and result.target.sites == target.sites:
        # The same z, which is more exact, unless the coordinates are others: mirrors, a flow.
        back = _there_and_back(target, jnp.asarray(result.z.reshape(-1, target.dim)))
        if all(np.allclose(back[name], flat[name], rtol=1e-3, atol=1e-4) for name in shapes):
            return result.z
    return np.asarray(_unconstrain_many(target, flat)).reshape(chains, n, target.dim)


@eqx.filter_jit
def _unconstrain_many(target: Target, values: dict[str, Array]) -> Points:
    return jax.vmap(target.unconstrain)(values)


@eqx.filter_jit
def _there_and_back(target: Target, z: Points) -> dict[str, Array]:
    return jax.vmap(lambda point: target.model.constrain(target.unravel(point)))(z)


def starts_at(
    target: Target,
    init: Any,
    chains: int,
    what: str = "init",
    rest: Callable[[], Points] | None = None,
) -> Points:
    """Named values as points, checked.

    `what` is the argument that they were given as; `rest` makes the points that sites start from
    that were left out, without it all must be given.
    """
    values = dict(named_leaves(init, "x"))
    shapes = {site.name: site.shape for site in target.sites}
    partial = rest is not None and set(values) < set(shapes)
    if set(values) != set(shapes) and not partial:
        raise ValueError(
            f"{what} must give every site: needed {sorted(shapes)}, got {sorted(values)}."
        )
    shapes = {name: shapes[name] for name in values}
    values = {name: jnp.asarray(v, jnp.zeros(()).dtype) for name, v in values.items()}
    found = {name: tuple(v.shape) for name, v in values.items()}
    if found == shapes:
        values = {name: jnp.stack([v] * chains) for name, v in values.items()}
    elif found != {name: (chains, *shape) for name, shape in shapes.items()}:
        raise ValueError(
            f"{what} has shapes {found}; needed are {shapes}, or the same with a leading axis of "
            f"{chains} chains."
        )
    if rest is not None and partial:
        values = _there_and_back(target, rest()) | values
    z = _unconstrain_many(target, values)
    back = _there_and_back(target, z)
    for site in target.sites:
        if not np.allclose(back[site.name], values[site.name], rtol=1e-3, atol=1e-4):
            raise ValueError(
                f"{what}[{site.name!r}] = {values[site.name][0]} does not lie in its support, "
                f"{site.support}; give a value inside it."
            )
    return z
