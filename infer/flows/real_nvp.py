"""Flows of affine couplings."""

import equinox as eqx

from infer.core.checks import check_count, positive
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.checks import check_bool, check_positive
from infer.flows.coupling import SoftAffine
from infer.flows.flow import Flow, check_base, coupling_flow, placed
from infer.references.citation import cites
from infer.references.flows import DINH_2017


@cites(DINH_2017)
class RealNVP(AbstractFamily):
    """Flows of affine couplings on R^d: bent, skewed and funnel-shaped densities.

        x = shift + scale * (T_n ... T_1)(z),   z ~ N(0, I)
        T(x) = reverse([x_c,  exp(c tanh(a / c)) x_t + m]),   (a, m) = network(x_c)

    The first member is N(start, scale^2 I), since the networks are zero; shift and scale are free.
    Cost per draw O(n_layers (d width + depth width^2)), no d x d matrix unless `linear`.

    It is smooth and has the tails of a Gaussian times bounded scales: separated modes stay joined
    by bridges, heavy tails are cut, and with d = 1 it is a Gaussian. Networks learn slower than
    the parameters of a Gaussian: take a smaller learning rate and more draws per step,

        infer.VI(family=infer.RealNVP(), estimator=infer.Path(), n_samples=64,
                 optimizer=infer.optimizer(optax.adam, learning_rate=5e-3))

    Args:
        n_layers: couplings, >= 1; 2 are needed to move every coordinate.
        width: units of each hidden layer of the networks, >= 1.
        depth: hidden layers, >= 1.
        linear: a triangular linear map before every coupling, d^2 parameters each.
        clamp: c > 0, the most that a coupling adds to a log scale; part of the program.
        scale: standard deviation of the first member, > 0, on the unconstrained scale.
        base: a fitted distribution with mean and covariance, such as the posterior of `Laplace()`,
            `Pathfinder()` or `VI(family=MeanField())`: the first member is the Gaussian with its
            moments, wherever the run starts, and the last map has a triangular factor where the
            covariance is not diagonal. None: N(start, scale^2 I).

    Source: Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, ICLR 2017.
    """

    n_layers: int = eqx.field(static=True, default=8)
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=2)
    linear: bool = eqx.field(static=True, default=False)
    clamp: float = eqx.field(static=True, default=2.0)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)
    base: AbstractDistribution | None = None

    def __check_init__(self) -> None:
        """Refuse what is no size."""
        check_count("RealNVP", "n_layers", self.n_layers, 8)
        check_count("RealNVP", "width", self.width, 32)
        check_count("RealNVP", "depth", self.depth, 2)
        check_bool("RealNVP", "linear", self.linear)
        check_base("RealNVP", self.base)
        check_positive("RealNVP", "clamp", self.clamp, 2.0)

    def init(self, key: PRNGKey, start: Vector) -> Flow:
        """N(start, scale^2 I), or the Gaussian with the moments of `base`."""
        transform = SoftAffine(float(self.clamp))
        sizes = (self.n_layers, self.width, self.depth, self.linear)
        return coupling_flow(key, placed(start, self.scale, self.base), transform, *sizes)
