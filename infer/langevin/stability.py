"""Step sizes beyond which a scheme diverges on a Gaussian, refused before anything is compiled."""

import numpy as np
from jax.core import Tracer

from infer.core.types import Scalar


def check_below(method: str, step_size: Scalar | None, bound: float, example: float) -> None:
    """Refuse a fixed step size at or beyond the bound."""
    if step_size is None or isinstance(step_size, Tracer):
        return
    if not np.all(np.asarray(step_size) < bound):
        raise ValueError(
            f"{method} diverges unless step_size < {bound:.4g} (in units of the preconditioner: on "
            f"a posterior whose covariance is M), got {step_size}; write step_size={example}, or "
            "step_size=None to have it tuned."
        )
