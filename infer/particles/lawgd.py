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
from infer.references.citation import cites
from infer.references.particles import CHEWI_2020

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


@cites(CHEWI_2020)
class LAWGD(AbstractParticleMethod):
    """Laplacian adjusted Wasserstein gradient descent, in one or two dimensions.

    With eigenpairs L phi_i = lam_i phi_i of the Langevin generator of the posterior, the constant
    left out,

        L f = -Laplacian f - grad log p . grad f,    k_L(x, y) = sum_i phi_i(x) phi_i(y) / lam_i
        E(X) = (1/2n) sum_ij k_L(x_i, x_j),    x <- x + optimizer(-grad E)

    -grad_i E = -(1/n) sum_j grad_1 k_L(x_i, x_j) is the direction of the paper. k_L undoes the
    Laplacian, so that E falls at the same rate whatever the posterior. In one dimension it is
    (F_n - F) / p at x_i, with the distribution functions of the particles and of the posterior.
    The spectrum of the whole posterior stands in k_L: unlike all other methods here this one gives
    separated modes their right shares, wherever the particles start.

    A reference for small problems: the eigenfunctions come from a grid, which no more than two
    dimensions allow. The score is not looked at again after that.

    Cost per evaluation of E: 8 n cells^d flops and the product with cells^d x modes numbers; at the
    start an eigenproblem with cells^d unknowns (0.4 s for 1024 on two cores).

    Args:
        n_particles: number of particles n, >= 1.
        box: (low, high), corners (dim,) of the grid on the unconstrained scale; its walls reflect.
            None looks for the region within 8 nats of the largest density seen from the particles.
        modes: eigenfunctions, >= 1; by default 50 for one coordinate and 400 for two. Few see
            coarse features only: particles then are less regular, and wider.
        cells: cells of the grid per axis, >= 8; by default 128 and 32.
        kernel: to be left as it is: this method makes its own from the target.
        optimizer: any optax transformation; by default L-BFGS, `infer.optimizer(optax.lbfgs)`.
            `coin()` does as well, see the documentation of particles.
        init_scale, start, stopping: as in `infer.SVGD`; the default rule looks from step 200 on.

    Limits: one or two unconstrained coordinates, exact rows. What is more than
    8 nats deep is no part of the posterior; a mode that the box cannot see from the start neither.
    Standard deviations for N(0, I), where 1 is right:

        n =            5    20    50   100   200
        d = 1       0.89  0.97  0.99  1.00  1.00
        d = 2       0.62  0.87  0.95  0.97  0.99

    Two Gaussians of variance 1/2 at distance 4, shares 0.1 and 0.9, 50 particles: 5 of them are in
    the smaller mode (`SVGD` 22).

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
    most_dims: ClassVar[int | None] = max(CELLS)
    default_steps: ClassVar[int] = 1_000

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
