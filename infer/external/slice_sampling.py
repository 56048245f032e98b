"""Slice sampling along random directions, by BlackJAX's kernel."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import AbstractTunedSampler, Info
from infer.core.checks import check_count, positive
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, Vector
from infer.external.adapter import KernelState, require_blackjax
from infer.geometry.scale import AbstractPreconditioner, Diagonal, check_preconditioner
from infer.geometry.warmup import tune_scale, untuned
from infer.references.citation import cites
from infer.references.mcmc import NEAL_2003
from infer.references.software import BLACKJAX


@cites(NEAL_2003, BLACKJAX)
class SliceSampling(AbstractTunedSampler):
    """Slice sampling along random lines: exact, with densities alone, no gradients, no step size.

        z <- a uniform draw from the part of the line z + t L u where log p >= log p(z) + log U

    with u a random unit vector, U uniform on (0, 1), M = L L^T. Warm-up learns M; then there is
    nothing to tune.

    Cost per step: `moves` times some 5 evaluations of the density (recorded as `n_evaluations`);
    chains wait for one another.

    Args:
        width: of the first bracket around z, > 0, in standard deviations; it is stepped out by as
            much, at most ten times, while its ends lie in the slice.
        preconditioner: `Diagonal()`, `Dense()` or `Fixed(covariance)`.
        moves: lines per step, >= 1.

    Limits: for densities that cannot be differentiated, or jump, in few dimensions: it needs some
    times d moves for an independent draw, where gradient methods need few. Does not cross between
    separated modes.

    Source: Neal, Annals of Statistics 31(3), 2003; the kernel is BlackJAX's.
    """

    width: Scalar = eqx.field(converter=positive("width", 3.0), default=3.0)
    preconditioner: AbstractPreconditioner = eqx.field(default_factory=Diagonal)
    moves: int = eqx.field(static=True, default=10)
    exact_target: ClassVar[bool] = True
    adjusted: ClassVar[bool] = True
    uses_gradient: ClassVar[bool] = False
    default_warmup: ClassVar[int] = 1000
    default_steps: ClassVar[int] = 1000

    def __check_init__(self) -> None:
        """Say what to install; refuse what could only fail later."""
        require_blackjax("SliceSampling")
        check_preconditioner(self.preconditioner, "SliceSampling")
        check_count("SliceSampling", "moves", self.moves, 10)

    def init(self, key: PRNGKey, target: Target) -> KernelState:
        """The state at `target.initial(key)`, with the identity for M."""
        from blackjax.mcmc import slice as slices

        z = target.initial(key)
        tuning = untuned(self.preconditioner, self.width, z)
        return KernelState(slices.init(z, target.log_prob), tuning)

    def step(self, key: PRNGKey, target: Target, state: KernelState) -> tuple[KernelState, Info]:
        """`moves` lines, one after the other."""
        from blackjax.mcmc import slice as slices

        scale = state.tuning.scale
        kernel: Any = slices.build_kernel(slices.stepping_out)

        def along(key: PRNGKey, z: Vector, log_prob: Any) -> Any:
            noise = jax.random.normal(key, z.shape, z.dtype)
            direction = scale.color(noise / jnp.linalg.norm(noise))

            def at(t: Scalar) -> tuple[Any, bool]:
                moved = z + t.astype(z.dtype) * direction
                return slices.SliceState(moved, log_prob(moved)), True

            return at

        def body(i: Array, loop: tuple[Any, Count]) -> tuple[Any, Count]:
            inner, evaluations = loop
            inner, info = kernel(
                jax.random.fold_in(key, i), inner, target.log_prob, along, state.tuning.step_size
            )
            spent = 2 + info.num_expansions + info.num_shrink
            return inner, evaluations + spent.astype(jnp.int32)

        first = (state.inner, jnp.zeros((), jnp.int32))
        inner, evaluations = jax.lax.fori_loop(0, self.moves, body, first)
        info = Info(-inner.logdensity, jnp.asarray(0), {"n_evaluations": evaluations})
        return KernelState(inner, state.tuning), info

    def tune(self, state: KernelState, info: Info, i: Count, n: Count) -> KernelState:
        """M, learned at the end of a window."""
        tuning = tune_scale(state.tuning, self.preconditioner, state.position, i, n)
        return KernelState(state.inner, tuning)

    def position(self, state: KernelState) -> Vector:
        """Where the chain is."""
        return state.position
