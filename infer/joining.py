"""Results of independent runs joined into one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infer.core.algorithm import AbstractSampler
from infer.core.outcome import Ending, Outcome
from infer.judgement import conclude
from infer.persist import identity_of
from infer.result import Result
from infer.run.checkpoint import same_target
from infer.run.loop import Trail
from infer.run.moments import join_moments


def combine(results: Sequence[Result]) -> Result:
    """Join independent runs of one algorithm on one target: their chains side by side.

    What many machines did apart becomes one result, judged anew over all chains (for an
    optimization, over all restarts). At least one of the results must know target and algorithm.

    Args:
        results: results with the same target, settings and number of draws, and different keys.

    Returns:
        A result with all the chains, or all the restarts, and a verdict of its own.

    Raises:
        TypeError, ValueError: for runs that cannot be joined, with what to do.
    """
    results = checked(results)
    first = next((r for r in results if r.target is not None and r.algorithm is not None), None)
    if first is None:
        raise ValueError(
            "combine judges the joined draws and needs target and algorithm, which a file does "
            "not hold: write infer.load(path, target, algorithm) for one of them at least."
        )
    assert first.target is not None and first.algorithm is not None
    trail = _joined([r.trail for r in results], first.trail)
    outcomes = [r.outcome for r in results]
    endings = [o.ending for o in outcomes if o.ending is not Ending.NONFINITE]
    stopped = [e for e in endings if e not in (Ending.FINISHED, Ending.CONVERGED)]
    outcome = Outcome(
        (stopped or endings or [Ending.NONFINITE])[0],
        outcomes[0].steps,
        sum((o.nonfinite for o in outcomes), ()),
        sum((o.first_nonfinite for o in outcomes), ()),
    )
    key, draws = results[0].key, first.z.shape[1]
    result = conclude(
        first.target,
        first.algorithm,
        key,
        results[0].plan,
        trail,
        outcome,
        draws,
    )
    if not isinstance(first.algorithm, AbstractSampler):
        # The draws of the runs themselves, where `conclude` took new ones to judge them.
        result.z = np.concatenate([r.z for r in results])
        result.log_prob = np.concatenate([r.log_prob for r in results])
        if result.log_q is not None:
            result.log_q = np.concatenate([r.log_q for r in results if r.log_q is not None])
    result.keys = tuple(key for r in results for key in r.keys)
    return result


def checked(results: Any) -> list[Result]:
    """The results, if they are runs that can be joined."""
    if isinstance(results, Result) or not isinstance(results, Sequence) or not results:
        raise TypeError(f"combine needs a list of results, got {results!r}: combine([a, b]).")
    for i, result in enumerate(results):
        if not isinstance(result, Result):
            raise TypeError(f"combine needs results of infer.fit, got {result!r} at place {i}.")
    for i, result in enumerate(results):
        if result.resampled:
            raise ValueError(
                f"result {i} was made by infer.improve: draws of equal weight, whose fit combine "
                "would judge in their place. Combine the fits first and improve them together, "
                "infer.improve(infer.combine([a, b]), key=0), which weighs each draw against all "
                "of them."
            )
    first, *others = results
    seen: dict[bytes, int] = {}
    for i, result in enumerate(results):
        for key in result.keys:
            words = np.asarray(jax.random.key_data(key)).tobytes()
            if words in seen:
                raise ValueError(
                    f"results {seen[words]} and {i} come from the same key, so their draws are "
                    "copies; fit each with a key of its own: key=0, key=1, ..."
                )
            seen[words] = i
    for i, other in enumerate(others, 1):
        if other.algorithm_name != first.algorithm_name or other.settings != first.settings:
            raise ValueError(
                f"result {i} was fitted with\n{other.settings}\nand result 0 with\n"
                f"{first.settings}\nOnly runs of one algorithm can be joined; to set them side by "
                "side write infer.compare({...})."
            )
        if not same_target(identity_of(other), identity_of(first)):
            raise ValueError(f"result {i} is a fit of another posterior than result 0.")
        _check_lengths(i, other, first)
    return list(results)


def _check_lengths(i: int, other: Result, first: Result) -> None:
    """Refuse runs of unequal lengths, which have no common shape."""
    for what, here, there, remedy in (
        ("thin", first.plan.thin, other.plan.thin, "run them with the same thin"),
        (
            "recorded steps",
            len(first.trail.losses()),
            len(other.trail.losses()),
            "carry the shorter on with result.extend(steps=...); optimizations that stop by "
            "themselves end together with stopping=None",
        ),
        ("draws", first.z.shape[1], other.z.shape[1], "run them with the same draws"),
        (
            "moments",
            first.trail.moments is not None,
            other.trail.moments is not None,
            "run all with moments=True, or none",
        ),
    ):
        if here != there:
            raise ValueError(f"result {i} has {what} = {there}, result 0 has {here}: {remedy}.")


def _joined(trails: list[Trail], like: Trail) -> Trail:
    """Trails side by side; `like` knows the structure of the states."""
    structure = jax.tree.structure(like.carry)
    leaves = [jax.tree.leaves(trail.carry) for trail in trails]
    joined = [jnp.asarray(np.concatenate(same)) for same in zip(*leaves, strict=True)]
    records = [trail.record() for trail in trails]
    record = {k: np.concatenate([r[k] for r in records], axis=1) for k in records[0]}
    return Trail(
        jax.tree.unflatten(structure, joined),
        trails[0].warmed,
        trails[0].taken,
        [record] if record else [],
        sum(trail.gradients for trail in trails),
        sum(trail.seconds for trail in trails),
        sum(trail.warmup_seconds for trail in trails),
        sum(trail.compile_seconds for trail in trails),
        join_moments([trail.moments for trail in trails]),
    )
