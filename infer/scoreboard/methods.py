"""Every method at its default settings, ready for `infer.fit`.

Flows are the exception: their page says that the default rate is too high for them and which
settings are not, and these are taken. Not here: methods of nonsmooth terms, which no case has, and
those that need what is known of a model (blankets of coordinates, groups of sites, a fit to jump
to).
"""

import dataclasses
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
import optax

import infer
from infer.core.algorithm import AbstractApproximator, AbstractSampler

BATCH = 50


class Kind(StrEnum):
    """What sort of method: distributions, particles, diffusions, chains, or minibatches."""

    VI = "VI"
    PARTICLES = "particles"
    LANGEVIN = "Langevin"
    MCMC = "MCMC"
    STOCHASTIC_GRADIENT = "stochastic gradient"


class Need(StrEnum):
    """What a method asks of a target beside a density."""

    ROWS = "rows of data"
    BOUNDS = "a support other than the real line"
    MIRROR = "mirror maps that leave the coordinates as they are"


def as_it_is(target: infer.Target) -> infer.Target:
    """The target itself."""
    return target


def in_batches(target: infer.Target) -> infer.Target:
    """Minibatches of 50 rows."""
    return dataclasses.replace(target, batch_size=BATCH)


def in_quiet_batches(target: infer.Target) -> infer.Target:
    """Minibatches of 50 rows with control variates at the mode; finding it counts for nothing."""
    mode = infer.fit(target, infer.Laplace(), key=0, progress=False)
    return infer.control_variates(in_batches(target), mode)


def same_in_mirror(target: infer.Target) -> bool:
    """Has every site a mirror map, and are its coordinates those of the target?"""
    try:
        moved = infer.mirrored(target)
    except ValueError:
        return False
    z = jax.random.normal(jax.random.key(0), (target.dim,))
    return bool(jnp.allclose(moved.unconstrain(target.constrain(z)), z, atol=1e-3))


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """An algorithm with the options of its fit.

    Attributes:
        name: what tables call it.
        kind: what sort of method it is.
        algorithm: made in the precision that is switched on.
        options: of `infer.fit`, beside key and time limit.
        needs: what it asks of a target.
        prepare: from the target of a case to the one that is fitted, in the same coordinates.
    """

    name: str
    kind: Kind
    algorithm: AbstractSampler | AbstractApproximator
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs: frozenset[Need] = frozenset()
    prepare: Callable[[infer.Target], infer.Target] = as_it_is

    def applies(self, target: infer.Target) -> str | None:
        """Why this method is not for this target, or None where it is."""
        if Need.ROWS in self.needs and target.size is None:
            return f"needs {Need.ROWS.value}"
        if Need.BOUNDS in self.needs and all(site.support == "real" for site in target.sites):
            return f"needs {Need.BOUNDS.value}"
        if Need.MIRROR in self.needs and not same_in_mirror(target):
            return f"needs {Need.MIRROR.value}"
        if isinstance(self.algorithm, AbstractSampler):
            try:
                self.algorithm.check(target)
            except (TypeError, ValueError) as error:
                return str(error)
        elif (most := self.algorithm.most_dims) is not None and target.dim > most:
            return f"needs at most {most} coordinates, the target has {target.dim}"
        return None


def flow(family: Any) -> infer.VI:
    """The settings that the page of flows recommends."""
    return infer.VI(
        family=family,
        estimator=infer.Path(),
        optimizer=infer.optimizer(optax.adam, learning_rate=5e-3),
        n_samples=64,
        stopping=None,
    )


FLOW = {"steps": 3000, "draws": 4000}
ROWS = frozenset({Need.ROWS})
BOUNDS = frozenset({Need.BOUNDS})
MIRROR = BOUNDS | {Need.MIRROR}


def variational() -> list[Method]:
    """Gaussians, other families, flows and transports."""
    plain = {
        "Laplace": infer.Laplace(),
        "Pathfinder": infer.Pathfinder(),
        "FBGVI": infer.FBGVI(),  # pyright: ignore[reportCallIssue]
        "NaturalGradientVI": infer.NaturalGradientVI(),  # pyright: ignore[reportCallIssue]
        "BWGD": infer.BWGD(),  # pyright: ignore[reportCallIssue]
        "BaM": infer.BaM(),
        "GSM": infer.GSM(),
        "ProximalVI": infer.ProximalVI(),
        "DADVI": infer.DADVI(),
        "VI, full rank": infer.VI(),
        "VI, mean field": infer.ADVI(),
        "VI, low rank": infer.VI(family=infer.LowRank()),
        "VI, Student t": infer.VI(family=infer.StudentT()),
        "VI, mixture": infer.VI(family=infer.Mixture()),
        "WassersteinFlow": infer.WassersteinFlow(),
    }
    flows = {
        "VI, RealNVP": infer.RealNVP(n_layers=6, width=16, scale=0.5),
        "VI, spline flow": infer.SplineFlow(n_layers=2, width=16),
        "VI, autoregressive flow": infer.AutoregressiveFlow(n_layers=6, width=16),
    }
    return [Method(name, Kind.VI, algorithm) for name, algorithm in plain.items()] + [
        Method(name, Kind.VI, flow(family), FLOW) for name, family in flows.items()
    ]


def particles() -> list[Method]:
    """Sets of points that move together."""
    plain = {
        "SVGD, 50": infer.SVGD(n_particles=50),
        "SVGD, 200": infer.SVGD(n_particles=200),
        "MatrixSVGD": infer.MatrixSVGD(),
        "MixtureSVGD": infer.MixtureSVGD(),
        "SVN": infer.SVN(),
        "SVNG": infer.SVNG(),
        "AnnealedSVGD": infer.AnnealedSVGD(),
        "NoisySVGD": infer.NoisySVGD(),
        "RandomBatchSVGD": infer.RandomBatchSVGD(),
        "SlicedSVGD": infer.SlicedSVGD(),
        "GrassmannSVGD": infer.GrassmannSVGD(),
        "Blob": infer.Blob(),
        "GFSD": infer.GFSD(),
        "GFSF": infer.GFSF(),
        "LAWGD": infer.LAWGD(),
        "KSDD": infer.KSDD(),
        "MIED": infer.MIED(),
    }
    return [
        *(Method(name, Kind.PARTICLES, algorithm) for name, algorithm in plain.items()),
        Method("MSVGD", Kind.PARTICLES, infer.MSVGD(), needs=BOUNDS),
        Method("SVMD", Kind.PARTICLES, infer.SVMD(), needs=MIRROR, prepare=infer.mirrored),
    ]


def langevin() -> list[Method]:
    """Diffusions in small steps, with an acceptance test or without."""
    plain = {
        "ULA": infer.ULA(),
        "TamedULA": infer.TamedULA(),
        "MALA": infer.MALA(),
        "Barker": infer.Barker(),
        "BAOAB": infer.BAOAB(),
        "OBABO": infer.OBABO(),
        "KLMC": infer.KLMC(),
        "MALT": infer.MALT(),
    }
    mirrored = {"MirrorLangevin": infer.MirrorLangevin(), "MirrorMALA": infer.MirrorMALA()}
    return [Method(name, Kind.LANGEVIN, algorithm) for name, algorithm in plain.items()] + [
        Method(name, Kind.LANGEVIN, algorithm, needs=MIRROR, prepare=infer.mirrored)
        for name, algorithm in mirrored.items()
    ]


def mcmc() -> list[Method]:
    """Chains that are exact in the limit, tempering among them, and MCLMC."""
    plain = {
        "NUTS": infer.NUTS(),
        "NUTS, dense": infer.NUTS(preconditioner=infer.Dense()),
        "HMC": infer.HMC(),
        "GHMC": infer.GHMC(),
        "MCLMC": infer.MCLMC(),
        "AdjustedMCLMC": infer.AdjustedMCLMC(),
        "EllipticalSlice": infer.EllipticalSlice(),
        "SliceSampling": infer.SliceSampling(),
        "ParallelTempering": infer.ParallelTempering(),
        "TemperedSMC": infer.TemperedSMC(),
    }
    return [Method(name, Kind.MCMC, algorithm) for name, algorithm in plain.items()]


def stochastic_gradient() -> list[Method]:
    """Chains on minibatches, with control variates at the mode or without."""
    plain = {
        "SGLD": infer.SGLD(),
        "PSGLD": infer.PSGLD(),
        "SGHMC": infer.SGHMC(),
        "SGNHT": infer.SGNHT(),
    }
    ways = {"": in_batches, ", control variates": in_quiet_batches}
    return [
        Method(name + way, Kind.STOCHASTIC_GRADIENT, algorithm, needs=ROWS, prepare=prepare)
        for name, algorithm in plain.items()
        for way, prepare in ways.items()
    ]


def methods() -> dict[str, Method]:
    """Every method by name, made in the precision that is switched on."""
    made = [*variational(), *particles(), *langevin(), *mcmc(), *stochastic_gradient()]
    return {method.name: method for method in made}
