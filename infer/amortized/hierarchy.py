"""Latent variables in two levels."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.amortized.heads import AbstractHead, AbstractPosterior, Outputs, head_of
from infer.amortized.networks import MLP, AbstractNetwork, network_of
from infer.core.checks import check_count
from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.families.gaussian import MeanField
from infer.families.standard import StandardGaussian
from infer.references.citation import cites
from infer.references.rows import SONDERBY_2016


class ChainDistribution(AbstractDistribution):
    """q(u, v) = q(u) q(v | u): a draw of u decides the distribution of v.

    The score is autodiff of the joint log density at the draw. Cost per draw: one network pass, and
    one more forth and back for the score.

    Attributes:
        top: q(u).
        lower: the head of q(v | u).
        network: outputs for that head, from u and `outputs`.
        outputs: what else is known of v; empty for a prior.
        split: length of u, which comes first in x.
    """

    top: AbstractDistribution
    lower: AbstractHead
    network: Callable[..., Array]
    outputs: Outputs
    split: int = eqx.field(static=True)

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws of u, then of v."""
        key_u, key_v = jax.random.split(key)
        u = self.top.sample_score(key_u, n)

        def below(key: PRNGKey, u: Array) -> tuple[Array, Array]:
            draw = self._given(u).sample_score(key, 1)
            return draw.x[0], draw.log_q[0]

        v, log_v = jax.vmap(below)(jax.random.split(key_v, n), u.x)
        x = jnp.concatenate([u.x, v], axis=1)
        fixed = jax.lax.stop_gradient(eqx.filter(self, eqx.is_array))
        joint = eqx.combine(fixed, eqx.filter(self, eqx.is_array, inverse=True)).log_prob
        score = jax.vmap(jax.grad(joint))(jax.lax.stop_gradient(x))
        return Draws(x, u.log_q + log_v, score, independent=u.independent)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return self.sample_score(key, n).x

    def log_prob(self, x: Vector) -> Scalar:
        """Log q(u) + log q(v | u)."""
        u, v = x[: self.split], x[self.split :]
        return self.top.log_prob(u) + self._given(u).log_prob(v)

    def moments(self) -> tuple[Vector, Covariance] | None:
        """Not known from the parameters."""
        return None

    def _given(self, u: Vector) -> AbstractDistribution:
        return self.lower(self.network(u, self.outputs))


class ChainHead(AbstractHead):
    """q(u, v | x) = q(u | x) q(v | u, x) from the outputs of an encoder.

    Attributes:
        top, lower: heads of the two.
        network: outputs for `lower`, from u and what the encoder says of v.
    """

    top: AbstractHead
    lower: AbstractHead
    network: Callable[..., Array]
    dim: int = eqx.field(static=True)

    @property
    def n_outputs(self) -> int:
        """Those of the two levels."""
        return self.top.n_outputs + self.lower.n_outputs

    def __call__(self, outputs: Outputs) -> ChainDistribution:
        """The posterior of a row."""
        first, second = outputs[: self.top.n_outputs], outputs[self.top.n_outputs :]
        return ChainDistribution(self.top(first), self.lower, self.network, second, self.top.dim)


@cites(SONDERBY_2016)
class HierarchicalPosterior(AbstractPosterior):
    """q(z | x) = q(u | x) q(v | u, x): u the first `top` latent variables, v the others.

    Both levels are members of one family; those of the lower level have the outputs of a network
    of u and of what the encoder says of v. With `prior=HierarchicalPrior(top)` of the same `top` it
    makes a VAE of two levels. A decoder of ours sees u and v; one of your own that reads z[top:]
    alone makes x depend on u through v.

    Args:
        top: latent variables of the upper level, >= 1 and fewer than `latent`.
        family: of both levels, `MeanField(1.0)`, `FullRank(1.0)` or `LowRank()`.
        network: `infer.MLP((32,))`; `infer.MLP(())` is affine.

    Source: Sonderby et al., Ladder variational autoencoders, NeurIPS 2016.
    """

    top: int = eqx.field(static=True)
    family: AbstractFamily = eqx.field(default_factory=lambda: MeanField(1.0))
    network: AbstractNetwork = eqx.field(default_factory=lambda: MLP((32,)))

    def __check_init__(self) -> None:
        """Refuse what is no level, and draws that are not independent."""
        _check_levels("HierarchicalPosterior", self.top, self.family)

    @property
    def independent(self) -> bool:
        """True."""
        return True

    def head(self, key: PRNGKey, latent: int) -> ChainHead:
        """The first head; its levels are independent until the network is trained."""
        keys = jax.random.split(key, 3)
        rest = _rest("HierarchicalPosterior", self.top, latent)
        top, lower = head_of(self.family, keys[0], self.top), head_of(self.family, keys[1], rest)
        start = jnp.zeros(lower.n_outputs)
        inputs = (jnp.zeros((1, self.top)), start[None])
        network = network_of(self.network, keys[2], inputs, start, 0.1)
        return ChainHead(top=top, lower=lower, network=network, dim=latent)


class HierarchicalPrior(AbstractFamily):
    """p(z) = N(u; 0, I) p(v | u): u the first `top` latent variables, v the others.

    Args:
        top, family, network: as of `HierarchicalPosterior`.
    """

    top: int = eqx.field(static=True)
    family: AbstractFamily = eqx.field(default_factory=lambda: MeanField(1.0))
    network: AbstractNetwork = eqx.field(default_factory=lambda: MLP((32,)))

    def __check_init__(self) -> None:
        """Refuse what is no level, and draws that are not independent."""
        _check_levels("HierarchicalPrior", self.top, self.family)

    def init(self, key: PRNGKey, start: Vector) -> ChainDistribution:
        """N(0, I) for u and the first member of the family for v."""
        keys = jax.random.split(key)
        rest = _rest("HierarchicalPrior", self.top, start.shape[0])
        lower, nothing = head_of(self.family, keys[0], rest), jnp.zeros(0)
        inputs = (jnp.zeros((1, self.top)), nothing[None])
        network = network_of(self.network, keys[1], inputs, jnp.zeros(lower.n_outputs), 0.1)
        return ChainDistribution(StandardGaussian(self.top), lower, network, nothing, self.top)


def _check_levels(owner: str, top: int, family: AbstractFamily) -> None:
    check_count(owner, "top", top, 2)
    if not isinstance(family, AbstractFamily) or not family.independent:
        raise TypeError(
            f"{owner} needs a family with independent draws, got {family!r}; write "
            "family=infer.FullRank(1.0)."
        )


def _rest(owner: str, top: int, latent: int) -> int:
    if top >= latent:
        raise ValueError(
            f"{owner} needs top < latent, got top={top} of latent={latent}; write "
            f"latent={2 * top}, or {owner}({max(1, latent // 2)})."
        )
    return latent - top
