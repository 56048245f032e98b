"""A distribution of FlowJAX as a family for `VI`. FlowJAX is imported when it is asked for."""

import inspect
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from infer.bridges.model_inputs import Concrete, freeze
from infer.core.checks import positive
from infer.core.posterior import AbstractDistribution, AbstractFamily, Draws
from infer.core.types import Points, PRNGKey, Scalar, Vector
from infer.flows.flow import placed
from infer.flows.linear import Elementwise, Triangular
from infer.references.citation import cites
from infer.references.software import FLOWJAX

EXAMPLE = (
    "infer.from_flowjax(flowjax.flows.coupling_flow(key, "
    "base_dist=flowjax.distributions.Normal(jnp.zeros(d)), invert=False))"
)


@cites(FLOWJAX)
def from_flowjax(distribution: Any, scale: float = 0.1) -> AbstractFamily:
    """A family whose members are x = shift + scale * u, with u from a distribution of FlowJAX.

        log q(x) = log q(u) - sum log scale,   score = grad_x log q(x) by autodiff of log q(u)

    The first member has the parameters that `distribution` has now, the shift at the start of the
    fit and the same scale everywhere; shift, log scale and every float array of `distribution` are
    fitted, except those wrapped by `paramax.NonTrainable`. All else is part of the program.

        infer.VI(family=infer.from_flowjax(flow), estimator=infer.Path(), n_samples=64)

    `invert=False`, which is not FlowJAX's default, makes its flows fast where draws are made. Cost:
    drawing is one pass forward, the score one pass through every inverse and back; flows of ours,
    such as `RealNVP`, need no inverse.

    FlowJAX's `RationalQuadraticSpline` learns the slope at the ends of its interval and is the
    identity beyond, so the density jumps there. Gradients, which do not see the jump, are biased
    unless hardly any noise comes that far: this is warned of. `SplineFlow` has no such jump.

    Args:
        distribution: a `flowjax.distributions.AbstractDistribution` of shape (d,) with density on
            all of R^d and an inverse.
        scale: of the first member, > 0.

    Returns:
        A family; its members have draws, density and score.

    Raises:
        ImportError: where FlowJAX is missing.
        TypeError: for what is no distribution of FlowJAX.
        ValueError: for a conditional distribution, another shape, or a bijection without inverse.

    Source: Ward, FlowJAX: distributions and normalizing flows in JAX.
    """
    try:
        from flowjax.bijections import (  # pyright: ignore[reportMissingImports]
            RationalQuadraticSpline,
        )
        from flowjax.distributions import (  # pyright: ignore[reportMissingImports]
            AbstractDistribution as Theirs,
        )
        from paramax import NonTrainable  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "from_flowjax needs FlowJAX: pip install 'infer-jax[flowjax]'."
        ) from error
    if not isinstance(distribution, Theirs):
        raise TypeError(
            f"from_flowjax needs a distribution of FlowJAX, got {distribution!r}; "
            f"write `{EXAMPLE}`."
        )
    if distribution.cond_shape is not None:
        raise ValueError(
            "from_flowjax needs an unconditional distribution, got one with cond_shape="
            f"{distribution.cond_shape}; leave out `cond_dim`: `{EXAMPLE}`."
        )
    if len(distribution.shape) != 1:
        raise ValueError(
            f"from_flowjax needs a distribution of shape (d,), got shape {distribution.shape}; "
            f"write `{EXAMPLE}`."
        )
    parameters, rest = eqx.partition(
        distribution, eqx.is_inexact_array, is_leaf=lambda node: isinstance(node, NonTrainable)
    )
    family = FlowJAXFamily(parameters, freeze(rest), distribution.shape[0], scale)
    _check_inverse(family)
    if _holds(distribution, RationalQuadraticSpline, set()):
        warnings.warn(
            "RationalQuadraticSpline of FlowJAX learns the slope at the ends of its interval, so "
            "the density jumps there and gradients of a fit are biased. Write "
            "`infer.SplineFlow()`, or an interval far wider than the noise.",
            stacklevel=2,
        )
    return family


class FlowJAXFlow(AbstractDistribution):
    """x = place(u), u from a distribution of FlowJAX, in its parameters and the rest of it."""

    parameters: Any
    place: Elementwise | Triangular
    rest: Any = eqx.field(static=True)

    def sample_score(self, key: PRNGKey, n: int) -> Draws:
        """Draws by one pass forward, scores by the gradient of the log density at the draws."""
        u, log_q = self._flow().sample_and_log_prob(key, (n,))
        fixed, at = jax.lax.stop_gradient((self.parameters, u))
        score = jax.vmap(jax.grad(_whole(fixed, self.rest).log_prob))(at)
        x, log_det, score = jax.vmap(self.place.push)(u, score)
        return Draws(x, log_q - log_det, score, independent=True)

    def sample(self, key: PRNGKey, n: int) -> Points:
        """`n` independent draws."""
        return jax.vmap(lambda u: self.place.forward(u)[0])(self._flow().sample(key, (n,)))

    def log_prob(self, x: Vector) -> Scalar:
        """The log density at one point."""
        u, log_det = self.place.inverse(x)
        return self._flow().log_prob(u) + log_det

    def moments(self) -> None:
        """Not known from the parameters."""
        return None

    def _flow(self) -> Any:
        return _whole(self.parameters, self.rest)


class FlowJAXFamily(AbstractFamily):
    """What `from_flowjax` returns."""

    parameters: Any
    rest: Any = eqx.field(static=True)
    d: int = eqx.field(static=True)
    scale: Scalar = eqx.field(converter=positive("scale", 0.1))

    def init(self, key: PRNGKey, start: Vector) -> FlowJAXFlow:
        """The distribution as it was given, moved to `start`; nothing is random."""
        if start.shape != (self.d,):
            raise ValueError(
                f"The distribution of FlowJAX has {self.d} coordinates, the target "
                f"{start.shape[0]}; write `base_dist=Normal(jnp.zeros({start.shape[0]}))`."
            )
        parameters = jax.tree.map(lambda leaf: leaf.astype(start.dtype), self.parameters)
        return FlowJAXFlow(parameters, placed(start, self.scale, None), self.rest)


def _whole(parameters: Any, rest: Any) -> Any:
    """The distribution of FlowJAX."""

    def thaw(leaf: Any) -> Any:
        return jnp.asarray(leaf.value) if isinstance(leaf, Concrete) else leaf

    return eqx.combine(parameters, jax.tree.map(thaw, rest))


def _check_inverse(family: FlowJAXFamily) -> None:
    """Trace what a fit computes; nothing is compiled."""

    def everything(key: PRNGKey) -> Draws:
        return family.init(key, jnp.zeros(family.d)).sample_score(key, 2)

    try:
        jax.eval_shape(everything, jax.random.key(0))
    except NotImplementedError as error:
        raise ValueError(
            "from_flowjax needs a bijection with `transform_and_log_det` and "
            f"`inverse_and_log_det`; this one says: {error}. Wrap it in "
            f"`flowjax.bijections.NumericalInverse`, or write `{EXAMPLE}`."
        ) from error


def _holds(tree: Any, kind: type, seen: set[int]) -> bool:
    """Is there an instance in a tree, or where its functions keep one?"""
    for leaf in jax.tree.leaves(tree, is_leaf=lambda node: type(node) is kind):
        if type(leaf) is kind:
            return True
        if inspect.isfunction(leaf) and id(leaf) not in seen:
            seen.add(id(leaf))
            if any(_holds(cell.cell_contents, kind, seen) for cell in leaf.__closure__ or ()):
                return True
    return False
