"""Laplacian adjusted Wasserstein gradient descent."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float

from infer.core.checks import check_count
from infer.core.stopping import AbstractStopping, LossSettled
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Vector
from infer.kernels.radial import IMQ
from infer.optimizers.optimizer import Optimizer, optimizer
from infer.particles.energy import downhill
from infer.particles.method import AbstractParticleMethod, Direction, Swarm
from infer.particles.spectrum import Spectrum, find_box, spectrum

CELLS = {1: 128, 2: 32}  # per axis, for targets of one and two coordinates
MODES = {1: 50, 2: 400}
_EXAMPLE = "box=([-5.0, -5.0], [5.0, 5.0])"


def _as_box(value: Any) -> tuple[Array, Array] | None:
    """Two corners as arrays of the default float type."""
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"LAWGD needs box=(low, high), got {value!r}; write {_EXAMPLE}.")
    low, high = (jnp.asarray(corner, jnp.zeros(()).dtype) for corner in value)
    known = not isinstance(low, Tracer) and not isinstance(high, Tracer)
    if low.ndim != 1 or low.shape != high.shape or (known and not np.all(np.isfinite(high - low))):
        raise ValueError(
            f"LAWGD needs the corners of its box as two arrays (dim,) of finite numbers, got "
            f"{value!r}; write {_EXAMPLE}."
        )
    if known and not np.all(low < high):
        raise ValueError(f"LAWGD needs box=(low, high), low < high, got {value!r}.")
    return low, high


class LAWGD(AbstractParticleMethod):
    """TODO

    Source: Chewi, Le Gouic, Lu, Maunu and Rigollet, SVGD as a kernelized Wasserstein gradient flow
    of the chi-squared divergence, NeurIPS 2020.
    """

    optimizer: Optimizer | optax.GradientTransformation = eqx.field(
        default_factory=lambda: optimizer(optax.lbfgs)
    )
    stopping: AbstractStopping | None = eqx.field(
        static=True, default=LossSettled(minimum=200, every=50)
    )
    box: tuple[Vector, Vector] | None = eqx.field(converter=_as_box, default=None)
    modes: int | None = eqx.field(static=True, default=None)
    cells: int | None = eqx.field(static=True, default=None)
    exact_target: ClassVar[bool] = True
    default_steps: ClassVar[int] = 1_000
    source: ClassVar[str] = (
        "Chewi, Le Gouic, Lu, Maunu, Rigollet. SVGD as a kernelized Wasserstein gradient flow of "
        "the chi-squared divergence. NeurIPS 2020."
    )

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_count("LAWGD", "modes", self.modes, 50, optional=True)
        check_count("LAWGD", "cells", self.cells, 64, least=8, optional=True)
        if not isinstance(self.kernel, IMQ):
            raise TypeError(
                f"LAWGD makes its kernel from the target and takes none, got {self.kernel!r}. "
                "Leave out kernel=, or write infer.SVGD(kernel=...)."
            )

    def remember(self, key: PRNGKey, target: Target, x: Points) -> Spectrum:
        """The spectrum of the target, on the box given or found."""
        d = x.shape[1]
        if d not in CELLS:
            raise ValueError(
                f"LAWGD solves an eigenvalue problem on a grid, for 1 or 2 unconstrained "
                f"coordinates, and the target has {d}. Write infer.SVGD() or infer.KSDD()."
            )

        cells = CELLS[d] if self.cells is None else self.cells
        modes = min(MODES[d], cells**d // 2) if self.modes is None else self.modes
        if modes >= cells**d:
            raise ValueError(
                f"LAWGD(modes={modes}, cells={cells}) has a grid of {cells**d} cells, too few for "
                f"so many modes. Write modes={cells**d // 2}, or leave both out."
            )

        def log_density(z: Points) -> Float[Array, " m"]:
            log_p = jax.lax.map(target.log_prob, z, batch_size=256)
            return jnp.where(jnp.isnan(log_p), -jnp.inf, log_p)

        if self.box is None:
            low, high = find_box(log_density, x)
        else:
            low, high = (corner.astype(x.dtype) for corner in self.box)
        if low.shape != (d,):
            raise ValueError(
                f"LAWGD needs box=(low, high) as two arrays ({d},) for this target, got shapes "
                f"{low.shape} and {high.shape}. Leave it out and a box is looked for."
            )
        return spectrum(log_density, low, high, cells, modes)

    def direction(
        self, key: PRNGKey, target: Target, x: Points, score: Points, swarm: Swarm
    ) -> Direction:
        """Downhill on the energy of the particles in the kernel of the spectrum."""
        found = downhill(jax.value_and_grad(swarm.memory.energy), x, {})
        return found._replace(memory=swarm.memory)
