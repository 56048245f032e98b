"""Random keys: every use has an address of its own, so that no two uses share a stream."""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infer.core.types import PRNGKey

_FIRST_ADDRESS = 0x7FFF0000  # above every step counter, chain number and `split`


class Use(enum.IntEnum):
    """What a key is used for."""

    START = 0
    RUN = 1
    DRAW = 2
    INIT = 3
    EXAMINE = 4
    PREDICT = 5
    CALIBRATE = 6


def address(key: PRNGKey, use: Use) -> PRNGKey:
    """The key for one use of a user's key."""
    return jax.random.fold_in(key, _FIRST_ADDRESS + int(use))


def as_key(key: Any) -> PRNGKey:
    """A typed PRNG key from a key or an integer; anything else is refused."""
    if isinstance(key, bool) or not isinstance(key, int | np.integer | jax.Array | np.ndarray):
        raise TypeError(f"key must be an integer or a JAX PRNG key, got {key!r}; write key=0.")
    if isinstance(key, int | np.integer):
        if not 0 <= key < 2**32:  # JAX would keep the last 32 bits, and 2**32 be the key 0
            raise ValueError(f"key must be in 0, ..., 2**32 - 1, got {key}; write key=0.")
        return jax.random.key(int(key))
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == ():
            return key
    elif key.dtype == np.uint32 and key.shape == (2,):
        return jax.random.wrap_key_data(jnp.asarray(key))
    raise TypeError(
        f"key must be one PRNG key, got an array of shape {key.shape} and type {key.dtype}; write "
        "key=0 or key=jax.random.key(0)."
    )
