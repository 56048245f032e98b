"""Flows of rational-quadratic spline couplings."""

import equinox as eqx

from infer.core.checks import check_count, positive
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.checks import check_bool, check_positive
from infer.flows.flow import Flow, check_base, coupling_flow, placed
from infer.flows.spline import FLOOR, RationalQuadratic
from infer.references.citation import cites
from infer.references.flows import DURKAN_2019


@cites(DURKAN_2019)
class SplineFlow(AbstractFamily):
    """Flows of spline couplings on R^d, neural spline flows: also several bumps per coordinate.

        x = shift + scale * (T_n ... T_1)(z),   z ~ N(0, I)
        T(x) = reverse([x_c,  spline(x_t; network(x_c))])

    Inside the box (-bound, bound) per coordinate the spline is any monotone curve that its bins
    allow; outside it is the identity, so tails are those of a Gaussian and what has to be bent must
    come to lie in the box: shift and scale are free. The first member is N(start, scale^2 I).
    Cost per draw O(n_layers (d width bins + depth width^2)), no d x d matrix unless `linear`.

    The density is continuous, its score jumps at the knots. Learning rates as for `RealNVP`.

    Args:
        n_layers: couplings, >= 1; 2 are needed to move every coordinate.
        bins: of each spline, from 2 to 500.
        bound: half the length of the box in standard deviations of the noise, > 0; part of the
            program.
        width: units of each hidden layer of the networks, >= 1.
        depth: hidden layers, >= 1.
        linear: a triangular linear map before every coupling, d^2 parameters each.
        scale: standard deviation of the first member, > 0, on the unconstrained scale.
        base: a fitted distribution with mean and covariance, such as the posterior of `Laplace()`,
            `Pathfinder()` or `VI(family=MeanField())`: the first member is the Gaussian with its
            moments, wherever the run starts, and the last map has a triangular factor where the
            covariance is not diagonal. None: N(start, scale^2 I).

    Source: Durkan, Bekasov, Murray and Papamakarios, Neural spline flows, NeurIPS 2019.
    """

    n_layers: int = eqx.field(static=True, default=4)
    bins: int = eqx.field(static=True, default=8)
    bound: float = eqx.field(static=True, default=5.0)
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=2)
    linear: bool = eqx.field(static=True, default=False)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)
    base: AbstractDistribution | None = None

    def __check_init__(self) -> None:
        """Refuse what is no size."""
        check_count("SplineFlow", "n_layers", self.n_layers, 4)
        check_count("SplineFlow", "bins", self.bins, 8, least=2)
        check_count("SplineFlow", "width", self.width, 32)
        check_count("SplineFlow", "depth", self.depth, 2)
        check_bool("SplineFlow", "linear", self.linear)
        check_base("SplineFlow", self.base)
        check_positive("SplineFlow", "bound", self.bound, 5.0)
        if self.bins * FLOOR > 0.5:
            raise ValueError(
                f"SplineFlow needs bins <= {int(0.5 / FLOOR)}, since none is narrower than {FLOOR} "
                f"of the box, got {self.bins}; write bins=8."
            )

    def init(self, key: PRNGKey, start: Vector) -> Flow:
        """N(start, scale^2 I), or the Gaussian with the moments of `base`."""
        transform = RationalQuadratic(self.bins, float(self.bound))
        sizes = (self.n_layers, self.width, self.depth, self.linear)
        return coupling_flow(key, placed(start, self.scale, self.base), transform, *sizes)
