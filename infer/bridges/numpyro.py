"""A NumPyro model as a target. NumPyro is imported when `from_numpyro` is called."""

from collections.abc import Callable, Sequence
from typing import Any

from infer.bridges.leaves import as_function, check_batch_size
from infer.bridges.model_inputs import bind, check_names
from infer.bridges.outside import outside
from infer.core.target import Site, Target


def from_numpyro(
    model: Callable,
    *args: Any,
    rows: Sequence[str] | None = None,
    batch_size: int | None = None,
    static: Sequence[str] = (),
    **kwargs: Any,
) -> Target:
    """A target from a NumPyro model and the arguments to condition it on.

    The density is NumPyro's: `Target.log_prob(z)` equals minus its potential energy, on all rows.
    Supports whose bounds depend on other parameters, `scan`, `factor`, reparametrizations and
    improper priors work; nothing is drawn from the prior. Arrays and floats among the arguments
    may change without compiling; Python `int`, `bool`, `str` and None are static.

    Minibatches come from one of two declarations. `rows` names the arguments whose first axis is
    the axis of N observations: a minibatch takes B rows of each and scales the observed sites over
    them by N/B. Or the model has one `numpyro.plate(name, N, subsample_size=...)`: its indices are
    substituted, `batch_size` of them in a minibatch and all of them otherwise.

    Args:
        model: a function that calls `numpyro.sample`.
        *args: its positional arguments.
        rows: names of parameters of `model` whose arrays share the axis of observations.
        batch_size: observations per step, 1 <= batch_size <= N; None uses all.
        static: names of parameters of `model` whose arrays are needed as concrete NumPy arrays
            while tracing, as by `np.unique`. Other values of them compile anew.
        **kwargs: its keyword arguments. A parameter of `model` that is called `rows`, `batch_size`
            or `static` has to be passed by position.

    Returns:
        A target.

    Raises:
        TypeError: arguments that the model does not take.
        ValueError: a model that cannot be traced, has discrete latent sites or none at all, or
            cannot be subsampled as asked. Everything is checked here, before compiling.
    """
    if not callable(model):
        raise TypeError(
            f"model is {model!r}, it must be a function that calls numpyro.sample. Write "
            "`from_numpyro(model, X, y=y)`."
        )
    from infer.bridges import numpyro_checks as checks
    from infer.bridges.numpyro_model import NumPyroModel

    model = as_function(model)
    inputs = bind(model, args, kwargs)
    static = check_names(inputs, static, "static")
    names = () if rows is None else check_names(inputs, rows, "rows")
    if both := [name for name in names if name in static]:
        raise ValueError(f"{both} cannot be in both rows and static.")
    inputs = inputs.freeze(static)
    size = checks.check_rows(inputs, names) if names else None
    if size is not None:
        check_batch_size(batch_size, size)

    found = checks.first_survey(model, inputs)
    checks.check_sites(found)
    plate, scaled = None, ()
    if not names:
        plate, size = checks.check_plate(model, inputs, found, batch_size)
        if size is not None:
            check_batch_size(batch_size, size)
    elif batch_size is not None:
        if found.subsampled:
            raise ValueError(
                f"rows and the subsampled plate {found.subsampled[0][0]!r} both choose a "
                "minibatch. Leave out `rows`, or `subsample_size` in the plate."
            )
        assert size is not None
        scaled = checks.row_sites(model, inputs, found, names, size, int(batch_size))

    seen = [(site.argument, site.name) for site in found.of("observed")]
    built = NumPyroModel(
        model=model,
        inputs=inputs,
        indices=None,
        sites=tuple(
            Site(site.name, site.shape, site.free_shape, site.support)
            for site in found.of("latent")
        ),
        labels=checks.label_sites(found, list(inputs.arrays())),
        rows=size,
        plate=plate,
        row_names=names,
        row_sites=scaled,
        observed_arguments=tuple((arg, name) for arg, name in seen if arg is not None),
        outside=outside(model),
    )
    batch_size = None if batch_size is None else int(batch_size)
    return Target(model=built, batch_size=batch_size)  # pyright: ignore[reportCallIssue]
