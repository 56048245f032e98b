"""Priors that are made from other parts of the model."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from infer.core.checks import check_count
from infer.core.data import Rows
from infer.core.posterior import AbstractDistribution
from infer.core.types import PRNGKey
from infer.families.mixture import MixtureDistribution
from infer.references.citation import cites
from infer.references.rows import TOMCZAK_2018


class AbstractMadePrior(eqx.Module):
    """A prior that other parts of the model enter."""

    @abstractmethod
    def of(self, posterior: Callable[[Rows], AbstractDistribution]) -> AbstractDistribution:
        """The prior of a model with this posterior of a row."""


class PseudoInputs(AbstractMadePrior):
    """p(z) = (1/C) sum_c q(z | u_c) with trained rows u_c, held within the range of the data.

    Attributes:
        free: u_c = low + (high - low) sigmoid(free_c), (C, ...).
        low, high: least and largest entry of the training rows.
    """

    free: Float[Array, "C ..."]
    low: Array
    high: Array

    def of(self, posterior: Callable[[Rows], AbstractDistribution]) -> MixtureDistribution:
        """The mixture of the posteriors of the pseudo-inputs."""
        low, high = jax.lax.stop_gradient((self.low, self.high))
        u = low + (high - low) * jax.nn.sigmoid(self.free)
        components = jax.vmap(lambda one: posterior(Rows(one)))(u)
        return MixtureDistribution(components, jnp.zeros(u.shape[0], u.dtype))


@cites(TOMCZAK_2018)
class VampPrior(eqx.Module):
    """The prior of a `VAE` as a mixture of its own posteriors at trained rows.

        p(z) = (1/C) sum_c q(z | u_c)

    It follows the aggregated posterior, so that fewer latent variables lie idle. Gradients reach
    the encoder through it. Cost per step: C encoder passes and C densities per draw.

    Args:
        n_components: C, >= 2; the rows begin as rows of the data.

    Source: Tomczak and Welling, VAE with a VampPrior, AISTATS 2018.
    """

    n_components: int = eqx.field(static=True, default=50)

    def __check_init__(self) -> None:
        """Refuse what is no mixture."""
        check_count("VampPrior", "n_components", self.n_components, 50, least=2)

    def init(self, key: PRNGKey, rows: Rows) -> PseudoInputs:
        """Rows of the data, drawn in towards the middle of their range."""
        if rows.mask is not None or rows.condition is not None:
            raise ValueError(
                "VampPrior encodes rows of its own, which have no mask and no condition; write "
                "prior=infer.Mixture() for such data."
            )
        x = rows.x.astype(jnp.zeros(()).dtype)
        low, high = jnp.min(x), jnp.max(x)
        if x.shape[0] < self.n_components:
            raise ValueError(
                f"VampPrior needs n_components <= number of rows, got {self.n_components} for "
                f"{x.shape[0]} rows; write infer.VampPrior({max(2, x.shape[0] // 2)})."
            )
        first = jax.random.choice(key, x, (self.n_components,), replace=False)
        share = 0.1 + 0.8 * (first - low) / jnp.maximum(high - low, 1e-6)
        return PseudoInputs(jnp.log(share) - jnp.log1p(-share), low, high)
