"""Do two results say the same?"""

import jax
import numpy as np


def assert_same(a, b):
    """Draws, history and states of two results are the same bits."""
    np.testing.assert_array_equal(a.z, b.z)
    assert a.history.keys() == b.history.keys()
    for name in a.history:
        np.testing.assert_array_equal(a.history[name], b.history[name], err_msg=name)
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)),
        a.trail.carry,
        b.trail.carry,
    )
    assert (a.gradients, a.outcome) == (b.gradients, b.outcome)
