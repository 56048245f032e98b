"""From the outputs of an encoder to the posterior of a row."""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.amortized.parts import Frozen
from infer.core.posterior import AbstractDistribution, AbstractFamily, Sampling, sampling_of
from infer.core.types import Count, PRNGKey, Vector
from infer.flows.flow import Flow
from infer.flows.layer import Chain
from infer.flows.linear import Elementwise

Outputs = Float[Array, " n"]


class AbstractHead(eqx.Module):
    """Makes the posterior q(z | x) of a row from what the encoder says of it.

    Attributes:
        dim: length of z.
        has_density: False for points and codes that claim no posterior.
        discrete: are codes of a finite set? Their prior is then none of densities on R^d.
    """

    dim: eqx.AbstractVar[int]
    has_density: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Numbers that the encoder has to give per row."""

    @abstractmethod
    def __call__(self, outputs: Outputs) -> AbstractDistribution:
        """The posterior of a row."""

    def mean(self, outputs: Outputs) -> Vector:
        """The posterior mean where it is known, else the mean of 64 draws of one key."""
        q = self(outputs)
        moments = q.moments()
        if moments is not None:
            return moments[0]
        return jnp.mean(q.sample(jax.random.key(0), 64), axis=0)

    def code(self, outputs: Outputs) -> Vector:
        """The latent point at which a row is reconstructed; the mean, where there is one."""
        return self.mean(outputs)

    def at(self, t: Count) -> "AbstractHead":
        """The head at step t of a run; itself, unless it changes on the way."""
        return self

    def advance(
        self, key: PRNGKey, outputs: Float[Array, "B n"]
    ) -> tuple["AbstractHead", dict[str, Array]]:
        """The head moved by its own rule after a step on these outputs, and what is recorded.

        What so moves is held in a `Frozen`, which no optimizer touches.
        """
        return self, {}


class AbstractPosterior(eqx.Module):
    """A kind of posterior that is no family of densities on R^d; makes the head of a model.

    Attributes:
        independent: are draws of a row independent of one another?
    """

    @property
    @abstractmethod
    def independent(self) -> bool:
        """True where draws of one row are independent."""

    @property
    def sampling(self) -> Sampling:
        """How the draws of one row that a gradient is made from are made."""
        return sampling_of(self.independent)

    def check(self, latent: int, prior: Any, beta: Any) -> None:
        """Refuse a number of latent variables, a prior or a weight that does not go with it."""

    def check_rows(self, latent: int, n: int) -> None:
        """Refuse this number of rows."""

    @abstractmethod
    def head(self, key: PRNGKey, latent: int) -> AbstractHead:
        """The first head for `latent` latent variables."""


class MemberHead(AbstractHead):
    """q(z | x) has the parameters of one member of a family plus the outputs of the encoder.

    Attributes:
        member: what outputs of zero stand for.
    """

    member: Frozen
    dim: int = eqx.field(static=True)

    @property
    def n_outputs(self) -> int:
        """The number of its parameters."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.member))

    def __call__(self, outputs: Outputs) -> AbstractDistribution:
        """The member with parameters moved by the outputs."""
        leaves, structure = jax.tree.flatten(self.member.value)
        moved, first = [], 0
        for leaf in leaves:
            size = math.prod(leaf.shape)
            moved.append(leaf + outputs[first : first + size].reshape(leaf.shape))
            first += size
        return jax.tree.unflatten(structure, moved)


class FlowHead(AbstractHead):
    """q(z | x) is what a flow, the same for all rows, makes of N(m(x), diag(s(x))^2).

    Attributes:
        flow: the layers.
    """

    flow: Flow
    dim: int = eqx.field(static=True)

    @property
    def n_outputs(self) -> int:
        """A mean and a log scale per latent variable."""
        return 2 * self.dim

    def __call__(self, outputs: Outputs) -> Flow:
        """The flow of the Gaussian of a row."""
        shift, log_scale = jnp.split(outputs, 2)
        return Flow(Chain((Elementwise(shift, log_scale), self.flow.body)), self.flow.place)


def head_of(
    posterior: AbstractFamily | AbstractPosterior, key: PRNGKey, latent: int
) -> AbstractHead:
    """The first head of a family or another kind of posterior."""
    if isinstance(posterior, AbstractPosterior):
        return posterior.head(key, latent)
    member = posterior.init(key, jnp.zeros(latent))
    if isinstance(member, Flow):
        return FlowHead(flow=member, dim=latent)
    return MemberHead(member=Frozen(member), dim=latent)
