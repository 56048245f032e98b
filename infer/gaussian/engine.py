"""One engine for the methods that take steps from mean gradients and mean Hessians.

Fixed points or exact expectations make the objective deterministic, and the fit checks itself
(`certified.py`); new points at every step make it noisy (`stepwise.py`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from infer.core.algorithm import Info
from infer.core.target import Target
from infer.core.types import PRNGKey
from infer.families.gaussian import DenseGaussian
from infer.gaussian import certified, stepwise
from infer.gaussian.frame import AbstractFrame
from infer.gaussian.oracle import AbstractOracle, GaussHermite, Price, Stein
from infer.gaussian.rule import Rule

LARGE = 32  # coordinates beyond which d Hessian-vector products cost more than more gradients

State = certified.State | stepwise.State


class Settings(NamedTuple):
    """What the engine reads of an algorithm; see `FBGVI`."""

    name: str
    rule: Rule
    oracle: AbstractOracle | None
    step_size: Array | None
    frame: AbstractFrame
    tolerance: Array
    init_scale: Array


def check(settings: Settings) -> None:
    """Refuse parts of the wrong kind."""
    name, _, oracle, _, frame, *_ = settings
    if oracle is not None and not isinstance(oracle, AbstractOracle):
        raise TypeError(
            f"{name} needs oracle=infer.Price(), infer.Stein() or infer.GaussHermite(), got "
            f"{oracle!r}."
        )
    if not isinstance(frame, AbstractFrame):
        raise TypeError(f"{name} needs frame=infer.MovingFrame(), got {frame!r}.")


def takes_minibatches(settings: Settings) -> bool:
    """Only points that are new at every step go with rows that are."""
    return settings.oracle is not None and not settings.oracle.deterministic


def _oracle(settings: Settings, target: Target) -> AbstractOracle:
    """The one asked for, else the cheapest that the target allows."""
    if settings.oracle is not None:
        return settings.oracle
    if target.linear is not None:
        return GaussHermite()
    return Price() if target.dim <= LARGE else Stein()


def init(key: PRNGKey, target: Target, settings: Settings) -> State:
    """The first Gaussian; refuses, while tracing, a target that the oracle cannot serve."""
    oracle = _oracle(settings, target)
    oracle.check(target, settings.name)
    if oracle.deterministic:
        return certified.start(key, target, oracle, settings.frame, settings.init_scale)
    return stepwise.start(key, target, settings.frame, settings.init_scale)


def step(key: PRNGKey, target: Target, state: State, settings: Settings) -> tuple[State, Info]:
    """One step of the engine that the oracle calls for."""
    rule = settings.rule
    oracle, moving = _oracle(settings, target), settings.frame.moving
    tolerance = settings.tolerance * max(1.0, target.dim / LARGE)
    if isinstance(state, certified.State):
        longest = jnp.asarray(jnp.inf if settings.step_size is None else settings.step_size)
        return certified.step(key, target, state, oracle, rule, moving, longest, tolerance)
    return stepwise.step(key, target, state, oracle, rule, moving, settings.step_size, tolerance)


def posterior(state: State) -> DenseGaussian:
    """The Gaussian of smallest residual, or the average over the last steps."""
    if isinstance(state, certified.State):
        return DenseGaussian(state.best.mean, state.best.factor)
    return DenseGaussian(state.mean_average, state.factor_average)
