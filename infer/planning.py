"""The numbers of a run, checked before anything is compiled."""

from typing import Any

import numpy as np

from infer.core.algorithm import (
    AbstractAmortizer,
    AbstractApproximator,
    AbstractSampler,
    Algorithm,
)
from infer.run.loop import Plan


def plan_run(
    algorithm: Algorithm,
    steps: int | None,
    warmup: int | None,
    draws: int | None,
    thin: int,
    chunk: int | None,
    on_nonfinite: str,
    max_seconds: float | int | None,
    carried: bool,
    moments: bool = False,
) -> Plan:
    """All numbers of a run, checked."""
    name = type(algorithm).__name__
    thin = at_least_one("thin", thin)
    if draws is not None:
        draws = at_least_one("draws", draws)
    if isinstance(algorithm, AbstractSampler):
        if draws is not None and steps is not None and steps != draws * thin:
            raise ValueError(
                f"steps={steps} and draws={draws} with thin={thin} do not agree; give one of them."
            )
        steps = draws * thin if draws is not None else steps
        steps = algorithm.default_steps * thin if steps is None else steps
        default = 0 if carried else algorithm.default_warmup
        warmup = default if warmup is None else warmup
    else:
        if draws is not None and isinstance(algorithm, AbstractAmortizer):
            raise ValueError(
                f"{name} gives a posterior for every row, of which draws are taken later; leave "
                f"out draws={draws} and write result.given(x, draws={draws}, key=1)."
            )
        particles = isinstance(algorithm, AbstractApproximator) and algorithm.particles
        if draws is not None and particles:
            raise ValueError(
                f"the draws of {name} are its particles; leave out draws={draws} and write "
                f"infer.{name}(n_particles={draws})."
            )
        if warmup:
            raise ValueError(f"{name} has no warm-up; leave out warmup={warmup}.")
        steps, warmup = algorithm.default_steps if steps is None else steps, 0
    steps = at_least_one("steps", steps)
    check_thin(steps, thin)
    if not isinstance(warmup, (int, np.integer)) or warmup < 0:
        raise ValueError(f"warmup must be an integer >= 0, got {warmup!r}.")
    if chunk is not None:
        chunk = at_least_one("chunk", chunk)
    if on_nonfinite not in ("stop", "skip"):
        raise ValueError(f'on_nonfinite must be "stop" or "skip", got {on_nonfinite!r}.')
    if max_seconds is not None and not max_seconds > 0:
        raise ValueError(f"max_seconds must be > 0, got {max_seconds!r}.")
    if moments and not isinstance(algorithm, AbstractSampler):
        raise ValueError(
            f"moments=True takes in the steps of a chain, and {name} has none; leave it out."
        )
    check_addresses(int(warmup), steps)
    skip = on_nonfinite == "skip"
    return Plan(int(warmup), steps, thin, chunk, skip, max_seconds, bool(moments))


def at_least_one(name: str, value: Any) -> int:
    """A whole number of one or more, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")
    return int(value)


def check_thin(steps: int, thin: int) -> None:
    """Refuse to lose the iterations after the last kept one."""
    if steps % thin:
        raise ValueError(
            f"steps={steps} is not a multiple of thin={thin}: the last {steps % thin} would be "
            f"lost. Write steps={steps // thin * thin or thin}."
        )


def check_addresses(warmup: int, steps: int) -> None:
    """Refuse more iterations than there are keys for them."""
    if warmup + steps >= 2**31:
        raise ValueError(
            f"warmup + steps must be below {2**31}, got {warmup} + {steps}: the number of an "
            "iteration is the address of its key. Write several runs with different keys, and "
            "infer.combine([...])."
        )
