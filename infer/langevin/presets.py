"""Langevin methods with names of their own that are `ULA` or `MALA` in the right coordinates."""

from jaxtyping import Array

from infer.geometry.scale import AbstractPreconditioner, Diagonal
from infer.langevin.mala import MALA
from infer.langevin.ula import ULA
from infer.references.citation import cites
from infer.references.langevin import HSIEH_2018, SHETTY_2025


@cites(HSIEH_2018)
def MirroredLangevin(
    step_size: float | Array = 0.05, preconditioner: AbstractPreconditioner | None = None
) -> ULA:
    """Mirrored Langevin: constant noise in the coordinates of a mirror map; a name for `ULA`.

        u <- u + h grad_u [ log p(x(u)) + log det dx/du ] + sqrt(2 h) noise

    which is `ULA` on the push-forward of the density by u = grad psi(x), Jacobian included: the
    density that every target here has. So this is `infer.ULA(step_size, preconditioner)`, on a
    target whose maps are mirror maps (`infer.mirrored`); as published with `warmup=0`, otherwise
    preconditioned in u. `MirrorLangevin` has the noise of the mirror potential and no Jacobian:
    another algorithm with another bias. With an acceptance test it is `infer.MALA()`.

    Args:
        step_size: h, in (0, 2), in units of the preconditioner.
        preconditioner: `Diagonal()`, the default, `Dense()` or `Fixed(covariance)`.

    Returns:
        An `ULA`.

    Source: Hsieh, Kavis, Rolland and Cevher, Mirrored Langevin dynamics, NeurIPS 2018.
    """
    return ULA(step_size=step_size, preconditioner=_or_diagonal(preconditioner))


@cites(SHETTY_2025, HSIEH_2018)
def MultiplicativeLangevin(
    step_size: float | Array = 0.05,
    preconditioner: AbstractPreconditioner | None = None,
    *,
    adjusted: bool = False,
) -> ULA | MALA:
    """Geometric Brownian steps for positive parameters; a name for `ULA` or `MALA`.

        x <- x exp( e (x d log p(x) / dx + 1) + sqrt(2 e) noise )

    On log x this is the Langevin step of the density of log x, whose Jacobian is the 1: mirrored
    Langevin with psi = x log x - x, and `ULA` on sites with `infer.positive` as their support, bit
    for bit. Signs cannot change, and steps are relative. With `adjusted=True` it is `MALA`, exact.

    Args:
        step_size: e, > 0 (below 2 unadjusted), in units of the preconditioner, relative to x.
        preconditioner: `Diagonal()`, the default, `Dense()` or `Fixed(covariance)`, of log x.
        adjusted: with an acceptance test.

    Returns:
        An `ULA`, or a `MALA` where adjusted.

    Limits: other sites of a target keep the map of their support and take plain Langevin steps on
    it. As a density of log x falls exponentially at best to the left, large e is unstable where
    it falls doubly exponentially to the right (a Gamma): `ULA` from far off; warm-up prevents it.

    Source: Shetty, Prasath and Seelamantula, Dale meets Langevin: a multiplicative denoising
    diffusion model, arXiv:2510.02730, 2025 (the diffusion; as a sampler it is Hsieh et al., NeurIPS
    2018, on the entropy).
    """
    method = MALA if adjusted else ULA
    return method(step_size=step_size, preconditioner=_or_diagonal(preconditioner))


def _or_diagonal(given: AbstractPreconditioner | None) -> AbstractPreconditioner:
    return Diagonal() if given is None else given
