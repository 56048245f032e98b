"""The three kinds of algorithm, and what one step tells its reader.

An algorithm is a frozen record of hyper-parameters. Arrays and numbers in it are leaves, so a
new step size compiles nothing and a sweep is a `vmap` over algorithms. It holds no data, no
state and no loop: `init` makes a state, `step` is a pure function of it.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array

from infer.core.data import Data
from infer.core.posterior import Posterior
from infer.core.stopping import AbstractStopping
from infer.core.target import Target
from infer.core.types import Count, PRNGKey, Scalar, State, Vector


class Info(eqx.Module):
    """What one step shows: nothing in it is needed for the next one.

    Attributes:
        loss: what the algorithm makes small, in nats (samplers: -log density of the position).
        gradients: gradients of the log density that the step took.
        stats: further scalars by name, recorded at every kept step and shown to ArviZ. The verdict
            reads "acceptance_rate", "diverging" and "energy" where they are given.
    """

    loss: Scalar
    gradients: Count
    stats: dict[str, Array]


class AbstractSampler(eqx.Module):
    """An algorithm whose trace is the answer: MCMC and Langevin methods.

    Attributes:
        exact_target: True if the method needs the density on all rows at every step.
        adjusted: True if an acceptance test removes the discretization error.
        proximal: True if it takes the nonsmooth part of a composite target by its proximal map.
        uses_gradient: False if it asks for densities alone, which may then have jumps.
        bias_order: the power of the step size with which the bias falls, of methods whose states
            keep it as `tuning.step_size`; else None.
        default_warmup: iterations of `adapt` before anything is recorded.
        default_steps: recorded iterations.
        default_chains: chains side by side, unless `fit` is told.
    """

    exact_target: eqx.AbstractClassVar[bool]
    adjusted: eqx.AbstractClassVar[bool]
    default_warmup: eqx.AbstractClassVar[int]
    default_steps: eqx.AbstractClassVar[int]
    default_chains: ClassVar[int] = 4
    proximal: ClassVar[bool] = False
    uses_gradient: ClassVar[bool] = True
    bias_order: ClassVar[int | None] = None

    def check(self, target: Target) -> None:
        """Refuse a target, or warn of it, before anything is compiled; `fit` calls it."""

    @abstractmethod
    def init(self, key: PRNGKey, target: Target) -> State:
        """The state at `target.initial(key)`, with its density evaluated."""

    @abstractmethod
    def step(self, key: PRNGKey, target: Target, state: State) -> tuple[State, Info]:
        """One transition. Pure: jit, vmap, scan or differentiate it as you please."""

    @abstractmethod
    def adapt(
        self, key: PRNGKey, target: Target, state: State, i: Count, n: Count
    ) -> tuple[State, Info]:
        """Warm-up iteration `i` of `n`: one transition that also tunes the state."""

    @abstractmethod
    def position(self, state: State) -> Vector:
        """The draw that the state stands for."""

    def moved(self, key: PRNGKey, target: Target, state: State, z: Vector) -> State:
        """The state at z with what warm-up has learned: for a sampler that contains this one.

        As it is here it keeps `state.tuning`; a method that learns anything else has its own.
        """
        fresh = self.init(key, target.at(z))
        return eqx.tree_at(lambda s: s.tuning, fresh, state.tuning)


class AbstractTunedSampler(AbstractSampler):
    """A sampler that warms up by its own steps, and learns from what each of them showed.

    Warm-up and sampling are one compiled program with a flag: half the compilation of two that have
    the transition in each. The flag costs some microseconds per step, so this is for transitions
    that are long to compile and to run, such as trajectories.
    """

    @abstractmethod
    def tune(self, state: State, info: Info, i: Count, n: Count) -> State:
        """The state as iteration `i` of `n` of the warm-up leaves it, after the step it took."""

    def adapt(
        self, key: PRNGKey, target: Target, state: State, i: Count, n: Count
    ) -> tuple[State, Info]:
        """One transition, after which the state is tuned."""
        state, info = self.step(key, target, state)
        return self.tune(state, info, i, n), info


class AbstractApproximator(eqx.Module):
    """An algorithm whose last state is the answer: variational and particle methods.

    Attributes:
        exact_target: True if the method needs the density on all rows at every step.
        particles: True if the answer is a set of particles: they are the draws, and the loss says
            nothing about which of several sets is best.
        spreads_samples: can a mesh axis "samples" divide the draws of a step?
        weighs_modes: True if the shares of particles in separate modes come from the density.
        generates: True if the answer can be drawn from but has no density.
        most_dims: the most unconstrained coordinates that it serves, or None.
        default_steps: the most steps it takes.
        default_warmup: 0: these methods have no warm-up.
        default_chains: restarts side by side, unless `fit` is told.
        stopping: the rule that ends it sooner, or None to take every step.
    """

    exact_target: eqx.AbstractVar[bool]
    particles: eqx.AbstractClassVar[bool]
    default_steps: eqx.AbstractClassVar[int]
    stopping: eqx.AbstractVar[AbstractStopping | None]
    spreads_samples: ClassVar[bool] = False
    weighs_modes: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    most_dims: ClassVar[int | None] = None
    default_warmup: ClassVar[int] = 0
    default_chains: ClassVar[int] = 1

    @abstractmethod
    def init(self, key: PRNGKey, target: Target) -> State:
        """The first state, placed at `target.initial(key)`."""

    @abstractmethod
    def step(self, key: PRNGKey, target: Target, state: State) -> tuple[State, Info]:
        """One update. Pure: jit, vmap, scan or differentiate it as you please."""

    @abstractmethod
    def posterior(self, state: State) -> Posterior:
        """The approximation that the state holds."""


class AbstractAmortizer(eqx.Module):
    """An algorithm whose last state is a model of rows with a posterior for each: the VAE family.

    Attributes:
        default_steps: the most steps it takes.
        default_warmup: 0: these methods have no warm-up.
        default_chains: restarts side by side, unless `fit` is told.
    """

    default_steps: eqx.AbstractClassVar[int]
    default_warmup: ClassVar[int] = 0
    default_chains: ClassVar[int] = 1

    @property
    @abstractmethod
    def stopping(self) -> AbstractStopping | None:
        """The rule that ends a run sooner, or None to take every step."""

    @abstractmethod
    def ready(self, data: Data) -> "AbstractAmortizer":
        """The same with what has to be read off the rows; refuses rows that it cannot model.

        `fit` and `load` call it, before anything is compiled.
        """

    @abstractmethod
    def init(self, key: PRNGKey, data: Data) -> State:
        """The first state, with networks of the sizes that the rows need."""

    @abstractmethod
    def step(self, key: PRNGKey, data: Data, state: State) -> tuple[State, Info]:
        """One update on the rows of one step. Pure: jit, vmap, scan or differentiate it."""

    @abstractmethod
    def model(self, state: State) -> eqx.Module:
        """The model that the state holds, posteriors included."""


Algorithm = AbstractSampler | AbstractApproximator | AbstractAmortizer
