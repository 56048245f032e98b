"""Products of families, each over some of the sites of a target."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.groups import Groups, partition
from infer.core.linalg import Covariance
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.target import Target
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.references.citation import cites
from infer.references.variational import SAUL_1995

EXAMPLE = 'infer.Product({"tau": infer.MeanField(), ("mu", "theta"): infer.FullRank()})'


class ProductDistribution(AbstractDistribution):
    """q(x) = prod_b q_b(x_b) over blocks of coordinates, which are independent of one another.

    Attributes:
        factors: a distribution per block.
        block: the number of the block of every coordinate; within a block they keep their order.
    """

    factors: tuple[AbstractDistribution, ...]
    block: tuple[int, ...] = eqx.field(static=True)

    @property
    def is_gaussian(self) -> bool:
        """Are all factors?"""
        return all(q.is_gaussian for q in self.factors)

    @property
    def mean(self) -> Vector:
        """The mean, where all factors know theirs."""
        return self._known()[0]

    @property
    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix, where all factors know theirs; dense, for small d."""
        return self._known()[1].dense()

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws and scores side by side, log densities added up."""
        draws = [q.sample_score(k, n) for q, k in self._keyed(key)]
        log_q = jnp.sum(jnp.stack([d.log_q for d in draws]), axis=0)
        x, score = self._join([d.x for d in draws]), self._join([d.score for d in draws])
        moving = [d.log_noise for d in draws if d.log_noise is not None]
        log_noise = jnp.sum(jnp.stack(moving), axis=0) if moving else None
        return Draws(x, log_q, score, independent=True, log_noise=log_noise)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return self._join([q.sample(k, n) for q, k in self._keyed(key)])

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        return jnp.sum(
            jnp.stack([q.log_prob(x[at]) for q, at in zip(self.factors, self._at(), strict=True)])
        )

    def moments(self) -> tuple[Vector, Covariance] | None:
        """Mean and block-diagonal covariance, if all factors know theirs as diagonal and factor."""
        known = [moments for q in self.factors if (moments := q.moments()) is not None]
        if len(known) < len(self.factors) or any(c.core is not None for _, c in known):
            return None
        factor = jax.scipy.linalg.block_diag(*(c.factor for _, c in known))
        diagonal = self._join([c.diagonal for _, c in known])
        return self._join([mean for mean, _ in known]), Covariance(diagonal, factor[self._order()])

    def _keyed(self, key: PRNGKey) -> zip:
        return zip(self.factors, jax.random.split(key, len(self.factors)), strict=True)

    def _at(self) -> list[np.ndarray]:
        """The coordinates of every block."""
        return [np.flatnonzero(np.equal(self.block, b)) for b in range(len(self.factors))]

    def _order(self) -> np.ndarray:
        """Where every coordinate is once the blocks are put side by side."""
        return np.argsort(np.concatenate(self._at()))

    def _join(self, parts: list[Array]) -> Array:
        return jnp.concatenate(parts, axis=-1)[..., self._order()]

    def _known(self) -> tuple[Vector, Covariance]:
        moments = self.moments()
        if moments is None:
            raise ValueError("not all factors know their moments; take those of draws.")
        return moments


class _Placed(AbstractFamily):
    """A product whose blocks are known by number."""

    families: tuple[AbstractFamily, ...]
    block: tuple[int, ...] = eqx.field(static=True)

    @property
    def fixed_noise(self) -> bool:
        return all(family.fixed_noise for family in self.families)

    def init(self, key: PRNGKey, start: Vector) -> ProductDistribution:
        keys = jax.random.split(key, len(self.families))
        at = [np.flatnonzero(np.equal(self.block, b)) for b in range(len(self.families))]
        each = zip(self.families, keys, at, strict=True)
        return ProductDistribution(tuple(f.init(k, start[i]) for f, k, i in each), self.block)


@cites(SAUL_1995)
class Product(AbstractFamily):
    """Independent factors, each a family over some of the sites of a target.

        q(z) = prod_b q_b(z_b)

        infer.Product({"tau": infer.StudentT(), ("mu", "theta"): infer.FullRank()})

    Structured mean field: correlations within a factor are kept, and those between factors are
    lost, with the spread along them. Its parameters and its cost are those of its factors, so that
    a full covariance of a few global parameters goes with a diagonal of thousands of local ones.
    The factors may differ in tails and shape.

    Args:
        factors: a mapping from sites to families. A key is the name of a site, the number of a
            coordinate of z, or a tuple of these; every coordinate of the target belongs to one key.
            Families with a fixed number of draws from each of their parts (`Mixture`) are refused:
            a mixture of products, `Mixture(Product(...))`, is possible.

    Source: Saul and Jordan, Exploiting tractable substructures in intractable networks, NIPS 1995.
    """

    groups: Groups = eqx.field(static=True)
    families: tuple[AbstractFamily, ...]

    def __init__(self, factors: Mapping[str | int | tuple[str | int, ...], AbstractFamily]) -> None:
        if not isinstance(factors, Mapping) or not factors:
            raise TypeError(
                f"Product needs a mapping from sites to families, got {factors!r}; write {EXAMPLE}."
            )
        self.groups = tuple(key if isinstance(key, tuple) else (key,) for key in factors)
        self.families = tuple(factors.values())

    def __check_init__(self) -> None:
        """Refuse what can be no factor."""
        for group, family in zip(self.groups, self.families, strict=True):
            if not all(isinstance(member, str | int) for member in group) or not group:
                raise TypeError(
                    "Product needs keys that are names of sites, numbers of coordinates, or tuples "
                    f"of these, got {group!r}; write {EXAMPLE}."
                )
            if not isinstance(family, AbstractFamily):
                raise TypeError(
                    f"Product needs a family for {group}, got {family!r}; write {EXAMPLE}."
                )
            if isinstance(family, Product | _Placed):
                raise TypeError(
                    f"Product cannot have a product as the factor of {group}; name all sites in "
                    f"one, {EXAMPLE}."
                )
            if not family.independent:
                raise ValueError(
                    f"Product needs factors with independent draws, and those of "
                    f"{type(family).__name__} for {group} are stratified; write "
                    "infer.Mixture(infer.Product({...})) instead."
                )

    @property
    def fixed_noise(self) -> bool:
        """Is it so for all factors?"""
        return all(family.fixed_noise for family in self.families)

    def on(self, target: Target) -> AbstractFamily:
        """The product on the coordinates of a target; refuses keys that do not partition them."""
        names = ", ".join(f'"{site.name}": infer.FullRank()' for site in target.sites)
        block = partition("Product", target, self.groups, f"infer.Product({{{names}}})")
        return _Placed(self.families, tuple(block.tolist()))

    def init(self, key: PRNGKey, start: Vector) -> ProductDistribution:
        """Refused: which coordinates the sites have is known to the target alone."""
        raise TypeError(
            "Product names sites, whose coordinates only a target knows; write "
            "family.on(target).init(key, start)."
        )
