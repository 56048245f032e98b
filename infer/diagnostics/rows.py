"""What runs row by row: the row and its proposal, checks of both, and a map of bounded memory."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from numpy.typing import NDArray

from infer.core.posterior import AbstractDistribution
from infer.core.types import Count, Scalar, Vector

Rows = Any  # a pytree of arrays with a leading axis B, one entry per observation
Row = Any  # the same without that axis
LogJoint = Callable[[Vector, Row], Scalar]


class Shared(eqx.Module):
    """One proposal for all rows, such as the prior; an unwrapped one is stacked, one per row."""

    distribution: AbstractDistribution


Proposal = AbstractDistribution | Shared


def row_of(rows: Rows, i: Count) -> Row:
    """Row i."""
    return jax.tree.map(lambda a: a[i], rows)


def proposal_of(q: Proposal, i: Count) -> AbstractDistribution:
    """The proposal of row i."""
    if isinstance(q, Shared):
        return q.distribution
    return jax.tree.map(lambda a: a[i] if eqx.is_array(a) else a, q)


def mapped(f: Callable[[Count], Any], n: int, at_once: int) -> Any:
    """`f(i)` stacked over i < n, at most `at_once` of them in memory at once.

    One loop of equal batches, so that f is compiled once. Fewer values than there are batches are
    computed in vain, at i >= n, where indexing gives the last row again.
    """
    trips = math.ceil(n / at_once)
    size = math.ceil(n / trips)
    values = jax.lax.map(f, jnp.arange(trips * size), batch_size=size)
    return jax.tree.map(lambda a: a[:n], values)


def count_rows(owner: str, rows: Rows) -> int:
    """B, the length of the leading axis that all arrays of `rows` share."""
    shapes = [jnp.shape(a) for a in jax.tree.leaves(rows)]
    if not shapes or any(s == () for s in shapes) or len({s[0] for s in shapes}) > 1:
        raise ValueError(
            f"{owner} needs rows whose arrays share a leading axis, one entry per row, got shapes "
            f"{shapes}; write rows=x with x of shape (B, ...), x[None] for a single one."
        )
    if shapes[0][0] == 0:
        raise ValueError(f"{owner} needs at least one row, got none: shapes {shapes}.")
    return shapes[0][0]


def check_model(owner: str, log_joint: LogJoint, q: Proposal, rows: Rows) -> tuple[int, int]:
    """Refuse proposals and densities of the wrong kind or shape; returns B and d."""
    n = count_rows(owner, rows)
    if not isinstance(q, AbstractDistribution | Shared):
        raise TypeError(
            f"{owner} needs a distribution per row, stacked, or Shared(prior), got {type(q)}; "
            "write eqx.filter_vmap(encoder)(rows)."
        )
    shapes = [a.shape for a in jax.tree.leaves(q) if eqx.is_array(a)]
    if not isinstance(q, Shared) and any(s[:1] != (n,) for s in shapes):
        raise ValueError(
            f"{owner} got {n} rows, so all arrays of q need a leading axis of {n}, one entry per "
            f"row, got shapes {shapes}; write Shared(q) for one distribution of all rows."
        )
    zero = jnp.zeros((), int)
    z = eqx.filter_eval_shape(lambda q: proposal_of(q, zero).sample(jax.random.key(0), 1)[0], q)
    value = eqx.filter_eval_shape(lambda z, rows: log_joint(z, row_of(rows, zero)), z, rows)
    if not isinstance(value, jax.ShapeDtypeStruct) or value.shape != ():
        raise ValueError(
            f"{owner} needs log_joint(z, row) to be one number, the log density of row and z of "
            f"shape {z.shape} together, got {value}; write jnp.sum(...) over what is independent."
        )
    return n, z.shape[0]


def as_arrays(rows: Rows) -> Rows:
    """The same rows as JAX arrays."""
    return jax.tree.map(jnp.asarray, rows)


def row_batches(n: int, at_once: int) -> Iterator[Int[Array, " R"]]:
    """The numbers of n rows in equal batches of about `at_once` or fewer, at least one.

    The last row is repeated to fill the last batch.
    """
    trips = math.ceil(n / max(1, at_once))
    size = math.ceil(n / trips)
    for first in range(0, n, size):
        yield jnp.asarray(np.minimum(np.arange(first, first + size), n - 1))


def log_mean_exp(log_w: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(mean(exp(log_w))) over the last axis."""
    return np.logaddexp.reduce(log_w, axis=-1) - math.log(log_w.shape[-1])
