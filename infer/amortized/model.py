"""A model of rows and its inverse: prior, decoder and likelihood; encoder and posterior."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from infer.amortized.heads import AbstractHead, Outputs
from infer.amortized.priors import AbstractMadePrior
from infer.core.data import Rows
from infer.core.posterior import AbstractDistribution
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.likelihoods.likelihood import AbstractLikelihood


class AmortizedModel(eqx.Module):
    """p(x, z) = p(z) p(x | decoder(z)), and q(z | x) from encoder(x); each part a callable.

    Attributes:
        encoder: outputs from a row.
        head: q(z | x) from outputs.
        prior: p(z), or how it is made from the other parts.
        decoder: outputs from a latent point.
        likelihood: p(x | outputs).
    """

    encoder: Callable[..., Array]
    head: AbstractHead
    prior: AbstractDistribution | AbstractMadePrior
    decoder: Callable[..., Array]
    likelihood: AbstractLikelihood

    def outputs(self, row: Rows) -> Outputs:
        """What the encoder says of one row."""
        return self.encoder(*row.inputs())

    def posterior(self, row: Rows) -> AbstractDistribution:
        """q(z | x) of one row."""
        return self.head(self.outputs(row))

    def latent_prior(self) -> AbstractDistribution:
        """p(z)."""
        if isinstance(self.prior, AbstractMadePrior):
            return self.prior.of(self.posterior)
        return self.prior

    def decoded(self, z: Vector, condition: Array | None) -> Array:
        """What the decoder says at one latent point."""
        return self.decoder(z) if condition is None else self.decoder(z, condition)

    def log_likelihood(self, z: Vector, row: Rows) -> Scalar:
        """Log p(x | z) of one row, summed over what was observed of it."""
        terms = self.likelihood.log_prob(self.decoded(z, row.condition), row.x)
        return jnp.sum(terms if row.mask is None else jnp.where(row.mask, terms, 0))

    def log_joint(self, z: Vector, row: Rows) -> Scalar:
        """Log p(x, z)."""
        return self.latent_prior().log_prob(z) + self.log_likelihood(z, row)

    def generate(self, key: PRNGKey, n: int, condition: Array | None = None) -> Array:
        """`n` rows x ~ p(x | z), z ~ p(z); one for each row of `condition` where there is one."""
        return self.simulate(key, n, condition)[1]

    def simulate(
        self, key: PRNGKey, n: int, condition: Array | None = None
    ) -> tuple[Points, Array]:
        """`n` pairs (z, x) of the joint distribution."""
        key_z, key_x = jax.random.split(key)
        z = self.latent_prior().sample(key_z, n)
        keys = jax.random.split(key_x, n)

        def one(key: PRNGKey, z: Vector, condition: Array | None) -> Array:
            return self.likelihood.sample(key, self.decoded(z, condition))

        return z, jax.vmap(one)(keys, z, condition)

    def mean(self, z: Vector, condition: Array | None = None) -> Array:
        """The mean of x at one latent point."""
        return self.likelihood.mean(self.decoded(z, condition))
