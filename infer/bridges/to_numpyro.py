"""A fitted distribution inside NumPyro models. NumPyro is imported when it is asked for."""

from typing import TYPE_CHECKING, Any

from infer.core.posterior import AbstractDistribution

if TYPE_CHECKING:
    import numpyro.distributions


def to_numpyro(posterior: Any) -> "numpyro.distributions.Distribution":
    """The distribution as a `numpyro.distributions.Distribution`, a prior or a guide.

        z = numpyro.sample("z", infer.to_numpyro(result.posterior))

    Its event is the flat vector z of d unconstrained coordinates, its support all of R^d, its log
    density that of the fit: on that scale, without the Jacobian of `target.constrain`. Named and
    constrained values are a function of the draw, `values = target.constrain(z)` inside the model.
    The coordinates of z are `result.coordinate_names`.

    It is a pytree whose array leaves are the parameters, and draws are differentiable in them, so
    that a guide can go on fitting:

        flat, unravel = jax.flatten_util.ravel_pytree(result.posterior)

        def guide():
            numpyro.sample("z", infer.to_numpyro(unravel(numpyro.param("q", flat))))

    Draws and log densities cost what they cost for `posterior`; as a prior it is evaluated at given
    points, which for flows means the inverse of every layer.

    Args:
        posterior: a distribution, such as `result.posterior` of a fit by `VI`, `FBGVI` or
            `Laplace`, or any member of a family.

    Returns:
        A NumPyro distribution with an event of shape (d,).

    Raises:
        TypeError: for results, chains, particles and generators, which are no distributions with
            a density.
    """
    if not isinstance(posterior, AbstractDistribution):
        raise TypeError(
            f"to_numpyro needs a distribution with a density, got {type(posterior).__name__}. "
            "Write `infer.to_numpyro(result.posterior)` for the result of a method that fits one, "
            "such as `infer.VI()`; chains and particles have no density."
        )
    from infer.bridges.numpyro_distribution import NumPyroDistribution

    return NumPyroDistribution(posterior)
