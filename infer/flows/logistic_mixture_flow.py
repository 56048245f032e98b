"""Flows of logistic mixture couplings."""

import equinox as eqx

from infer.core.checks import check_count, positive
from infer.core.posterior import AbstractDistribution, AbstractFamily
from infer.core.types import PRNGKey, Scalar, Vector
from infer.flows.checks import check_bool, check_positive
from infer.flows.flow import Flow, check_base, coupling_flow, placed
from infer.flows.logistic_mixture import LogisticMixture
from infer.references.citation import cites
from infer.references.flows import HO_2019


@cites(HO_2019)
class LogisticMixtureFlow(AbstractFamily):
    """Flows of logistic mixture couplings on R^d: smooth like `RealNVP`, flexible like splines.

        x = shift + scale * (T_n ... T_1)(z),   z ~ N(0, I)
        T(x) = reverse([x_c,  tau(x_t)]),   (w, mu, s) = network(x_c)
        tau(t) = f t + (1 - f) logit sum_k w_k sigmoid((t - mu_k) / s_k),   f = 1/1000

    tau may be steep and flat by turns, several times per coordinate; there is no box, and density
    and score are smooth everywhere. The first member is N(start, scale^2 I). Cost per draw
    O(n_layers (d width components + depth width^2)), no d x d matrix unless `linear`.

    No formula inverts a coupling. Draws, their densities and scores, hence fits by `Reparam` and
    by `Path`, need no inverse; `log_prob` at other points searches for it, evaluating tau several
    times per layer.

    Tails are those of a Gaussian times bounded scales; separated modes may be lost. Learning rates
    as for `RealNVP`.

    Args:
        n_layers: couplings, >= 1; 2 are needed to move every coordinate.
        components: logistic distributions in each mixture, >= 1; with 1 the flow is affine.
        clamp: c > 0, the most by which a log scale of a component differs from zero; slopes do not
            exceed exp(c); part of the program.
        width: units of each hidden layer of the networks, >= 1.
        depth: hidden layers, >= 1.
        linear: a triangular linear map before every coupling, d^2 parameters each.
        scale: standard deviation of the first member, > 0, on the unconstrained scale.
        base: a fitted distribution with mean and covariance to begin from; see `RealNVP`.

    Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++: improving flow-based generative models with
    variational dequantization and architecture design, ICML 2019; there the map goes from data to
    noise.
    """

    n_layers: int = eqx.field(static=True, default=4)
    components: int = eqx.field(static=True, default=8)
    clamp: float = eqx.field(static=True, default=3.0)
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=2)
    linear: bool = eqx.field(static=True, default=False)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1), default=0.1)
    base: AbstractDistribution | None = None

    def __check_init__(self) -> None:
        """Refuse what is no size."""
        check_count("LogisticMixtureFlow", "n_layers", self.n_layers, 4)
        check_count("LogisticMixtureFlow", "components", self.components, 8)
        check_count("LogisticMixtureFlow", "width", self.width, 32)
        check_count("LogisticMixtureFlow", "depth", self.depth, 2)
        check_bool("LogisticMixtureFlow", "linear", self.linear)
        check_positive("LogisticMixtureFlow", "clamp", self.clamp, 3.0)
        check_base("LogisticMixtureFlow", self.base)

    def init(self, key: PRNGKey, start: Vector) -> Flow:
        """N(start, scale^2 I), or the Gaussian with the moments of `base`."""
        transform = LogisticMixture(self.components, float(self.clamp))
        sizes = (self.n_layers, self.width, self.depth, self.linear)
        return coupling_flow(key, placed(start, self.scale, self.base), transform, *sizes)
