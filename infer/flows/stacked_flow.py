"""Flows of one layer many times over."""

from collections.abc import Callable

import equinox as eqx

from infer.core.checks import check_count, positive
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.flow import Flow, check_base, placed, stacked_flow
from infer.flows.layer import AbstractLayer
from infer.flows.planar import planar
from infer.references.citation import cites
from infer.references.flows import REZENDE_2015


@cites(REZENDE_2015)
class StackedFlow(AbstractFamily):
    """Flows of equal layers of any kind: planar flows, radial flows, your own.

        x = shift + scale * (T_n ... T_1)(z),   z ~ N(0, I),   T = layer(key, like)

    With `infer.flows.planar` a layer bends across one ridge, with `infer.flows.radial` around one
    center, at O(d) parameters and cost per draw each and without networks, so what bends in many
    directions takes many. Both begin as the identity, ridges and centers at random, and the first
    member is N(start, scale^2 I). Far out both are next to a shift: tails are those of a Gaussian.

    Args:
        layer: function of a key and a vector that makes a layer T for vectors like this one, of
            the same shapes for every key: `infer.flows.planar`, `infer.flows.radial` or your own.
            If it maps N(0, I) to itself, the first member is N(start, scale^2 I). Another function
            compiles anew.
        n_layers: >= 1.
        scale: standard deviation of the noise before `start` is added, > 0, on the unconstrained
            scale.
        base: a fitted distribution with mean and covariance to begin from; see `RealNVP`.

    Source: Rezende and Mohamed, Variational inference with normalizing flows, ICML 2015.
    """

    layer: Callable[[PRNGKey, Vector], AbstractLayer] = eqx.field(static=True, default=planar)
    n_layers: int = eqx.field(static=True, default=16)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)
    base: AbstractDistribution | None = None

    def __check_init__(self) -> None:
        """Refuse what is no maker of layers and no size."""
        if not callable(self.layer):
            raise TypeError(
                "StackedFlow needs a function of key and vector that makes a layer, got "
                f"{self.layer!r}; write layer=infer.flows.radial."
            )
        check_count("StackedFlow", "n_layers", self.n_layers, 16)
        check_base("StackedFlow", self.base)

    def init(self, key: PRNGKey, start: Vector) -> Flow:
        """A Gaussian around `start`, moved by the layers as they are made."""

        def layer(key: PRNGKey) -> AbstractLayer:
            made = self.layer(key, start)
            if not isinstance(made, AbstractLayer):
                raise TypeError(
                    "StackedFlow needs a function that makes an infer.flows.AbstractLayer, got "
                    f"{made!r} from it; write layer=infer.flows.radial."
                )
            return made

        return stacked_flow(key, placed(start, self.scale, self.base), layer, self.n_layers)
