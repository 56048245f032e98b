"""What a worker does: fit one posterior by one method, measure the answer, keep the record."""

import dataclasses
import gc
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from infer.core.keys import Use, address, as_key
from infer.core.outcome import Ending
from infer.core.posterior import AbstractDistribution, AbstractGenerator
from infer.core.target import Target
from infer.diagnostics.coordinates import coordinate_regression
from infer.diagnostics.score import score_regression
from infer.fit import fit
from infer.judgement import scored
from infer.result import Result
from infer.run.loop import Progress
from infer.scoreboard import peer
from infer.scoreboard.case import Case
from infer.scoreboard.cases import cases
from infer.scoreboard.errors import Label, measure
from infer.scoreboard.methods import Kind, Method, methods
from infer.scoreboard.record import ERROR, PEER, UNJUDGED, UNSUITED, Pair, Record, Settings
from infer.verdict import LARGE

TRUE_DRAWS = 10_000  # of a fitted distribution, so that its own error is seen and not their noise
SCORED = 4000  # draws whose scores are regressed


Moments = tuple[np.ndarray, np.ndarray]  # mean and sd, coordinate by coordinate


@dataclasses.dataclass(frozen=True)
class Catalog:
    """All posteriors and methods by name."""

    cases: Mapping[str, Case]
    methods: Mapping[str, Method]

    def blank(self, pair: Pair, settings: Settings) -> Record:
        """The record of a pair of which nothing is known yet."""
        case, method = self.cases[pair[0]], pair[1]
        kind = PEER if method == peer.NAME else str(self.methods[method].kind)
        return Record(
            case=case.name,
            group=str(case.group),
            tags=tuple(sorted(case.tags)),
            method=method,
            kind=kind,
            settings=settings,
            verdict=ERROR,
        )


def catalog(database: Path | None) -> Catalog:
    """All posteriors and methods; those of posteriordb where the folder is given."""
    return Catalog(cases(database), methods())


@dataclasses.dataclass(frozen=True)
class Budget:
    """A callback that ends a run after so many seconds of warm-up and steps.

    Unlike `max_seconds` of `infer.fit` it does not count compilation.
    """

    seconds: float

    def __call__(self, progress: Progress) -> bool:
        """Is the budget spent?"""
        trail = progress.trail
        return trail.warmup_seconds + trail.seconds >= self.seconds


class Bench:
    """Fits pair after pair, and keeps the targets and references that it has built.

    Compiled programs are forgotten after every fit, so memory does not grow with their number.
    """

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self.catalog = catalog
        self.settings = settings
        self._built: dict[str, tuple[Target, np.ndarray]] = {}

    def record(self, pair: Pair) -> Record:
        """The record of one pair; whatever the fit raises becomes part of it."""
        blank = self.catalog.blank(pair, self.settings)
        try:
            return self._fitted(blank)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
            return dataclasses.replace(blank, message=message)
        finally:
            jax.clear_caches()
            gc.collect()

    def _fitted(self, blank: Record) -> Record:
        case = self.catalog.cases[blank.case]
        if case.name not in self._built:
            self._built[case.name] = case.make(), case.reference()
        target, reference = self._built[case.name]
        blank = dataclasses.replace(blank, dim=target.dim)
        if blank.kind == PEER:
            return _of_peer(blank, case, target, reference)
        method = self.catalog.methods[blank.method]
        reason = method.applies(target)
        if reason is not None:
            return dataclasses.replace(blank, verdict=UNSUITED, message=reason)
        result = fit(
            method.prepare(target),
            method.algorithm,
            key=self.settings.key,
            progress=False,
            callbacks=[Budget(self.settings.budget)],
            **method.options,
        )
        record = _of_result(blank, result)
        z = true_draws(result)
        record = dataclasses.replace(
            record,
            **_truth(z, reference, case, known_moments(result)),
            scores=regressed(target, z, independent=not result.is_chains),
        )
        if self.settings.examine and method.kind != Kind.STOCHASTIC_GRADIENT:
            clock = time.perf_counter()
            closer = result.examine(key=self.settings.key)
            record = dataclasses.replace(
                record,
                examined=closer.status,
                examined_evidence=closer.evidence,
                examine_seconds=time.perf_counter() - clock,
            )
        return record


def true_draws(result: Result) -> np.ndarray:
    """The draws by which a fit is labeled, (chains, draws, d).

    All chains; the particles; of a fitted distribution 10,000 fresh draws of its best restart.
    """
    if result.is_chains:
        return result.z
    posterior = result.posterior
    if isinstance(posterior, AbstractDistribution | AbstractGenerator):
        key = address(as_key(result.key), Use.PREDICT)  # no stream that the fit has used
        return np.asarray(_draw(posterior, key))[None]
    return result.z[result.best][None]


def known_moments(result: Result) -> Moments | None:
    """Mean and sd of every coordinate, of a distribution whose parameters tell them."""
    posterior = result.posterior
    told = posterior.moments() if isinstance(posterior, AbstractDistribution) else None
    if told is None:
        return None
    return np.asarray(told[0], np.float64), np.asarray(told[1].sd(), np.float64)


def _draw(posterior: AbstractDistribution | AbstractGenerator, key: jax.Array) -> jax.Array:
    if isinstance(posterior, AbstractGenerator):
        return posterior.sample(key, TRUE_DRAWS)
    return posterior.equal_draws(key, TRUE_DRAWS).x


def regressed(target: Target, z: np.ndarray, *, independent: bool) -> dict[str, float]:
    """The bounds of the score regression on draws (chains, draws, d); {} if it cannot be made."""
    chains, draws, d = z.shape
    few = z[:, :: max(1, -(-chains * draws // SCORED))]
    if few.shape[0] * few.shape[1] < d + 3:
        return {}
    regress: Callable = coordinate_regression if d > LARGE else score_regression
    r = regress(few, scored(target, few)[1], independent=independent)
    return {"lo": r.lo, "hi": r.hi, "tail": r.tail, "positive": float(r.positive)}


def _of_result(blank: Record, result: Result) -> Record:
    times = result.timings
    return dataclasses.replace(
        blank,
        verdict=result.verdict.status,
        evidence=result.verdict.evidence,
        ending=result.outcome.ending.name.lower(),
        warmup=result.trail.warmed,
        steps=result.outcome.steps,
        gradients=result.gradients,
        compile_seconds=times.compile,
        warmup_seconds=times.warmup,
        run_seconds=times.run,
        verdict_seconds=times.verdict,
        made=result.made,
    )


def _of_peer(blank: Record, case: Case, target: Target, reference: np.ndarray) -> Record:
    assert case.program is not None
    run = peer.run(*case.program(), target, blank.settings)
    return dataclasses.replace(
        blank,
        **_truth(run.z, reference, case),
        verdict=UNJUDGED,
        ending=Ending.FINISHED.name.lower(),
        scores=regressed(target, run.z, independent=False),
        warmup=peer.WARMUP,
        steps=peer.DRAWS,
        gradients=run.gradients,
        compile_seconds=run.compile_seconds,
        run_seconds=run.seconds,
        made=run.made,
    )


def _truth(z: np.ndarray, reference: np.ndarray, case: Case, known: Moments | None = None) -> dict:
    """What is true of draws (chains, draws, d): sizes, errors, label."""
    chains, draws, _ = z.shape
    seen = {"chains": chains, "draws": draws, "dtype": str(z.dtype)}
    if not z.size:
        return seen | {"label": str(Label.WRONG)}
    errors = measure(z, reference, case.scale, known)
    return seen | {"errors": errors, "label": str(errors.label)}
