"""Flows of autoregressive layers."""

import equinox as eqx

from infer.core.checks import check_count, positive
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.autoregressive import autoregressive
from infer.flows.checks import check_bool
from infer.flows.coupling import AbstractTransform, SoftAffine
from infer.flows.flow import Flow, check_base, placed, stacked_flow
from infer.flows.inverse import Inverse
from infer.flows.layer import AbstractLayer, Chain
from infer.flows.linear import Reverse
from infer.references.citation import cites
from infer.references.flows import KINGMA_2016, PAPAMAKARIOS_2017


@cites(KINGMA_2016, PAPAMAKARIOS_2017)
class AutoregressiveFlow(AbstractFamily):
    """Flows in which every coordinate moves as those before it decide; inverse or masked ones.

        x = shift + scale * (T_n ... T_1)(z),   z ~ N(0, I)
        T(x) = reverse(y),   y_i = tau(x_i; h_i(x_0, ..., x_{i-1})),   h one masked network

    As it is, the inverse autoregressive flow: a draw costs each network once, its score a few
    passes back more (at most d, see `Autoregressive`), and `log_prob` d passes forward. With
    `parallel_density=True` the inverse of y -> x is the layer, as in a masked autoregressive flow:
    `log_prob` costs each network once and a draw d passes, which are kept for the gradient. For
    `VI`, which draws, the first is the one to take, unless d is small.

    A layer moves all coordinates where a coupling moves half of them. Cost of a pass per draw
    O(n_layers (d width + depth width^2)). Limits are those of the transform: with a scale
    and a shift d = 1 is a Gaussian. The order of the coordinates matters. Learning rates as for
    `RealNVP`. The first member is N(start, scale^2 I).

    Args:
        transform: tau, `infer.flows.SoftAffine()` or `infer.flows.RationalQuadratic()`; part of
            the program.
        n_layers: >= 1.
        width: units of each hidden layer of the networks, >= 1; with fewer than d - 1 some
            coordinates see not all of those before them.
        depth: hidden layers, >= 1.
        parallel_density: is it the density that costs one pass, and not the draw?
        scale: standard deviation of the first member, > 0, on the unconstrained scale.
        base: a fitted distribution with mean and covariance to begin from; see `RealNVP`.

    Source: Kingma et al., Improving variational inference with inverse autoregressive flow,
    NeurIPS 2016; Papamakarios, Pavlakou and Murray, Masked autoregressive flow for density
    estimation, NeurIPS 2017.
    """

    transform: AbstractTransform = eqx.field(default_factory=SoftAffine)
    n_layers: int = eqx.field(static=True, default=4)
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=2)
    parallel_density: bool = eqx.field(static=True, default=False)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)
    base: AbstractDistribution | None = None

    def __check_init__(self) -> None:
        """Refuse what is no transform and no size."""
        if not isinstance(self.transform, AbstractTransform):
            raise TypeError(
                "AutoregressiveFlow needs a transform such as infer.flows.SoftAffine(), got "
                f"{self.transform!r}; write transform=infer.flows.RationalQuadratic()."
            )
        check_count("AutoregressiveFlow", "n_layers", self.n_layers, 4)
        check_count("AutoregressiveFlow", "width", self.width, 32)
        check_count("AutoregressiveFlow", "depth", self.depth, 2)
        check_bool("AutoregressiveFlow", "parallel_density", self.parallel_density)
        check_base("AutoregressiveFlow", self.base)

    def init(self, key: PRNGKey, start: Vector) -> Flow:
        """N(start, scale^2 I), or the Gaussian with the moments of `base`."""

        def layer(key: PRNGKey) -> AbstractLayer:
            moves = autoregressive(key, start, self.transform, self.width, self.depth)
            return Chain((Inverse(moves) if self.parallel_density else moves, Reverse()))

        return stacked_flow(key, placed(start, self.scale, self.base), layer, self.n_layers)
