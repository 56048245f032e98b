"""A target in the coordinates of the noise of a fitted distribution."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from infer.core.composite import is_composite
from infer.core.target import AbstractModel, Labels, Site, Target, ravel, unravel
from infer.core.types import PRNGKey, Scalar, Values
from infer.families.bent import BentGaussian
from infer.families.gaussian import CholeskyGaussian, DenseGaussian, DiagonalGaussian
from infer.families.low_rank import LowRankGaussian
from infer.families.reference import check_reference_fits
from infer.flows.flow import Flow
from infer.flows.layer import AbstractLayer, Chain
from infer.flows.linear import Elementwise, Triangular
from infer.references.citation import cites
from infer.references.mcmc import HOFFMAN_2019, PARNO_2018

Gaussian = BentGaussian | CholeskyGaussian | DenseGaussian | LowRankGaussian


def transport_of(q: Any) -> AbstractLayer:
    """The map T with q = T(noise): the layers of a flow, mean + L z of a Gaussian.

    L is lower triangular, by a QR factorization of the transposed factor, so that nothing is
    squared; for a diagonal covariance it is the diagonal.

    Raises:
        TypeError: for what is not made by an invertible map of R^d.
    """
    if isinstance(q, Flow):
        return Chain((q.body, q.place))
    if isinstance(q, DiagonalGaussian):
        return Elementwise(q.mean, q.log_scale)
    if isinstance(q, Gaussian):
        upper = jnp.linalg.qr(q.factor.T, mode="r")
        diagonal = jnp.diagonal(upper)
        unit_lower = (upper / diagonal[:, None]).T
        return Triangular(unit_lower, jnp.log(jnp.abs(diagonal)), q.mean)
    raise TypeError(
        "neutra needs a distribution that an invertible map makes of noise, a Gaussian or a flow, "
        f"got {type(q).__name__}; write infer.neutra(target, result.posterior), the result being "
        "that of infer.fit(target, infer.VI(family=infer.RealNVP()), key=0)."
    )


@cites(HOFFMAN_2019, PARNO_2018)
class NeuTraModel(AbstractModel):
    """A model seen through a map: free = T(noise), and log |det T'| one more term."""

    model: AbstractModel
    transport: AbstractLayer

    @property
    def sites(self) -> tuple[Site, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model; noise fills their places."""
        return self.model.sites

    @property
    def supports(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None: every value depends on all of the noise."""
        return None

    @property
    def labels(self) -> Labels:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model."""
        return self.model.labels

    @property
    def rows(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the model."""
        return self.model.rows

    def _moved(self, free: Values) -> tuple[Values, Scalar]:
        """The unconstrained values of the model, and log |det T'|."""
        x, log_det = self.transport.forward(ravel(self.sites, free))
        return unravel(self.sites, x), log_det

    def constrain(self, free: Values) -> Values:
        """Site values on their supports."""
        return self.model.constrain(self._moved(free)[0])

    def unconstrain(self, values: Values) -> Values:
        """The inverse of `constrain`, through the inverse of the map."""
        x = ravel(self.sites, self.model.unconstrain(values))
        return unravel(self.sites, self.transport.inverse(x)[0])

    def derived(self, free: Values) -> Values:
        """Deterministic quantities of the model."""
        return self.model.derived(self._moved(free)[0])

    def log_terms(self, free: Values, scale: float) -> Values:
        """Terms of the model at T(noise), and `log_det_map`."""
        moved, log_det = self._moved(free)
        return self.model.log_terms(moved, scale) | {"log_det_map": log_det}

    def density_terms(self, values: Values, scale: float) -> Values:
        """Those of the model."""
        return self.model.density_terms(values, scale)

    def log_likelihood(self, free: Values) -> Values:
        """That of the model."""
        return self.model.log_likelihood(self._moved(free)[0])

    def take(self, indices: Int[Array, " B"]) -> "NeuTraModel":
        """The model on these data rows."""
        return dataclasses.replace(self, model=self.model.take(indices))

    def prediction_inputs(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Those of the model."""
        return self.model.prediction_inputs(args, kwargs)

    def predict(self, key: PRNGKey, free: Values, args: tuple, kwargs: dict) -> Values:
        """That of the model."""
        return self.model.predict(key, self._moved(free)[0], args, kwargs)

    def observed(self) -> Values:
        """Observed data of the model."""
        return self.model.observed()

    def constant(self) -> Values:
        """Other data of the model."""
        return self.model.constant()


@cites(HOFFMAN_2019, PARNO_2018)
def neutra(target: Target, q: Any) -> Target:
    """The same target in the coordinates of the noise of a fitted distribution.

        fitted = infer.fit(target, infer.VI(family=infer.RealNVP()), key=0)
        result = infer.fit(infer.neutra(target, fitted.posterior), infer.NUTS(), key=1)

        log density of z:   log p(T(z)) + log |det dT/dz|,      q the distribution of T(noise)

    If q were the posterior, z would be standard normal. So q is a preconditioner, a nonlinear one
    if it is a flow; what it got wrong is left to the sampler, which stays exact. Any method can be
    run on it, and draws by name, predictions, saving and `init=` by name are as before. The verdict
    sees z, and calls its coordinates by the sites whose places they take.

    Cost: T once more per density, and once back through it per gradient; a Gaussian is O(d^2),
    O(d) if diagonal. T is smooth for Gaussians and `RealNVP`. A `SplineFlow` has a score that jumps
    at its knots: samplers stay exact, but trajectories lose accuracy where they cross one. Where q
    has thinner tails than the posterior, z has heavy tails, and chains come there rarely; modes
    that q has not found are as far away as they were.

    Args:
        target: any target without a nonsmooth part.
        q: a Gaussian or a flow on the unconstrained coordinates of this target.

    Returns:
        The target, with draws by name as before.

    Raises:
        TypeError: for particles, chains, generators and distributions without a map.
        ValueError: for a q in another dimension, or a target with a nonsmooth part or control
            variates.

    Source: Hoffman et al., NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural
    transport, arXiv:1903.03704 (2019); Parno and Marzouk, Transport map accelerated Markov chain
    Monte Carlo, SIAM/ASA JUQ 6 (2018).
    """
    if is_composite(target):
        raise ValueError(
            "neutra needs a target without a nonsmooth part: the proximal map of g has no form "
            "in other coordinates. Write infer.fit(target, infer.MYMALA(), key=0)."
        )
    if target.control is not None:
        raise ValueError(
            "the control variates of this target belong to its old coordinates; write "
            "infer.control_variates(infer.neutra(target, q), center), in this order."
        )
    transport = transport_of(q)
    check_reference_fits("neutra", q, target)
    model = NeuTraModel(target.model, transport)  # pyright: ignore[reportCallIssue]
    start = None if target.start is None else transport.inverse(target.start)[0]
    return dataclasses.replace(target, model=model, start=start, linear=None)
