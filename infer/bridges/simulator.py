"""Parameters and data drawn from a model, and the target that they give."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax

from infer.bridges.leaves import as_function
from infer.bridges.numpyro import from_numpyro
from infer.core.target import Target
from infer.core.types import PRNGKey, Values


@dataclasses.dataclass(frozen=True)
class Simulator:
    """A joint distribution that can be drawn from: a prior, data given parameters, a posterior.

    Args:
        prior: `prior(key)` draws parameters by name, as the target has them, on their supports.
        simulate: `simulate(key, parameters)` draws data, of one shape whatever the parameters.
        target: `target(data)` is the posterior of these data. It has to hand the data over as
            arguments, as in `infer.from_log_density(log_density, example, data=data)` with one
            and the same function: a function made anew for each data set would be compiled anew.
    """

    prior: Callable[[PRNGKey], Values]
    simulate: Callable[[PRNGKey, Values], Any]
    target: Callable[[Any], Target]


def numpyro_simulator(
    model: Callable, *args: Any, observed: Sequence[str], **kwargs: Any
) -> Simulator:
    """A NumPyro model as a simulator: it draws its own parameters and data.

    Args:
        model: a function that calls `numpyro.sample`. Called with these arguments it must leave
            the sites of the data unobserved, as with `y=None`, and all priors must be proper.
        *args: its positional arguments.
        observed: names of the sites that are the data.
        **kwargs: its keyword arguments. A parameter of `model` that is called `observed` has to be
            passed by position.

    Returns:
        A `Simulator`.

    Raises:
        TypeError: names that are no sequence of strings.
        ValueError: a site that the model does not draw.
    """
    from numpyro import handlers

    if isinstance(observed, str):
        raise TypeError(f"observed must be a list of names; write observed=[{observed!r}].")
    model, names = as_function(model), tuple(observed)

    @eqx.filter_jit
    def draw(key: PRNGKey, given: Any, inputs: tuple[tuple, dict]) -> Values:
        seeded = handlers.seed(handlers.condition(model, data=given), key)
        return {
            name: site["value"]
            for name, site in _trace(seeded, inputs).items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    def conditioned(data: Values, args: tuple, kwargs: dict) -> Any:
        return handlers.condition(model, data=dict(data))(*args, **kwargs)

    inputs = (args, kwargs)
    sites = jax.eval_shape(lambda: draw(jax.random.key(0), {}, inputs))
    if missing := [name for name in names if name not in sites]:
        raise ValueError(
            f"the model does not draw {missing}; it draws {sorted(sites)}. Leave the data out, as "
            "in numpyro_simulator(model, x, None, observed=['y']), so that they can be drawn."
        )
    fixed = _fixed_sites(handlers.seed(model, jax.random.key(0)), inputs)
    if fixed:
        raise ValueError(
            f"{fixed} cannot be drawn: factors and sites with given values have no distribution to "
            "simulate from. Leave their data out, and write factors as numpyro.sample."
        )
    latent = [name for name in sites if name not in names]
    return Simulator(
        prior=lambda key: {k: v for k, v in draw(key, {}, inputs).items() if k in latent},
        simulate=lambda key, given: {k: draw(key, given, inputs)[k] for k in names},
        target=lambda data: from_numpyro(conditioned, data, *inputs),
    )


def _trace(model: Callable, inputs: tuple[tuple, dict]) -> dict[str, Any]:
    from numpyro import handlers

    return handlers.trace(model).get_trace(*inputs[0], **inputs[1])


def _fixed_sites(model: Callable, inputs: tuple[tuple, dict]) -> list[str]:
    """Sites of the model whose values are given."""
    fixed: list[str] = []

    def look() -> None:
        sites = _trace(model, inputs).values()
        fixed.extend(s["name"] for s in sites if s["type"] == "sample" and s["is_observed"])

    jax.eval_shape(look)
    return fixed
