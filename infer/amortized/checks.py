"""What a VAE refuses, and what it says."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from infer.amortized.categorical import AbstractCodePrior, Categorical
from infer.amortized.heads import AbstractPosterior
from infer.amortized.model import AmortizedModel
from infer.amortized.networks import AbstractNetwork
from infer.amortized.priors import VampPrior
from infer.amortized.viewed import Views, decoder_views, encoder_views
from infer.core.checks import check_count
from infer.core.data import Data
from infer.core.posterior import AbstractFamily, Sampling
from infer.likelihoods.likelihood import AbstractLikelihood
from infer.objectives.estimator import AbstractEstimator, check_pair
from infer.objectives.objective import AbstractObjective
from infer.optimizers.clipping import MedianClip
from infer.optimizers.optimizer import check_optimizer
from infer.regularizers.regularizer import AbstractRegularizer

if TYPE_CHECKING:
    from infer.amortized.vae import VAE


def check_vae(vae: "VAE") -> None:
    """Refuse parts that are no parts, and pairs of objective and estimator that are biased."""
    _need(vae.likelihood, "likelihood", AbstractLikelihood, "infer.likelihoods.Bernoulli()")
    _need(vae.posterior, "posterior", (AbstractFamily, AbstractPosterior), "infer.MeanField(1.0)")
    priors = (AbstractFamily, VampPrior, AbstractCodePrior)
    _need(vae.prior, "prior", priors, "infer.Standard()")
    _need(vae.estimator, "estimator", AbstractEstimator, "infer.Path()")
    for name in ("encoder", "decoder"):
        part = getattr(vae, name)
        if not isinstance(part, AbstractNetwork) and not callable(part):
            raise TypeError(
                f"VAE needs {name}= as infer.MLP((64, 64)) or a callable pytree, got {part!r}."
            )
    check_count("VAE", "latent", vae.latent, 8)
    check_count("VAE", "n_samples", vae.n_samples, 1)
    pair = vae.objectives
    if len(pair) != 2 or not all(isinstance(part, AbstractObjective) for part in pair):
        raise TypeError(
            f"VAE needs objective=infer.ReverseKL() or the like, or a pair of them, got "
            f"{vae.objective!r}; write objective=(infer.ForwardKL(), infer.IWAE())."
        )
    kind = vae.posterior
    if isinstance(kind, AbstractFamily) and not kind.fixed_noise:
        raise ValueError(
            f"VAE needs draws that are images of fixed noise, and those of "
            f"{type(kind).__name__} are not; write posterior=infer.MeanField(1.0)."
        )
    if isinstance(kind, AbstractPosterior):
        kind.check(vae.latent, vae.prior, vae.beta)
    if isinstance(vae.prior, AbstractCodePrior) and not isinstance(kind, Categorical):
        raise ValueError(
            f"VAE has prior={vae.prior!r} on one-hot codes, and posterior={kind!r} gives "
            f"none; write posterior=infer.Categorical({vae.prior.n_classes})."
        )
    check_pair("VAE", pair[0], vae.estimator, kind.sampling, vae.n_samples)
    if pair[0].own_draws:
        raise ValueError(
            f"VAE draws from its own posterior, and {type(pair[0]).__name__} brings its draws; "
            "write objective=infer.ReverseKL()."
        )
    if not pair[1].derivative:
        raise ValueError(
            f"VAE cannot fit a model by {type(pair[1]).__name__}, whose gradient is that of a "
            f"posterior at fixed draws; write objective=({type(pair[0]).__name__}(...), "
            "infer.IWAE())."
        )
    _check_draws(pair[1], vae.posterior.sampling, vae.n_samples)
    if vae.beta is not None and not pair[0].derivative:
        raise ValueError(
            f"VAE with objective={type(pair[0]).__name__} has no beta, since its gradient is not "
            "the derivative of its value; leave out beta, or write objective=infer.ReverseKL()."
        )
    if not isinstance(vae.regularizers, tuple) or not all(
        isinstance(r, AbstractRegularizer) for r in vae.regularizers
    ):
        raise TypeError(
            f"VAE needs regularizers as a tuple of them, got {vae.regularizers!r}; write "
            "regularizers=(infer.regularizers.MMD(weight=10.0),)."
        )
    check_optimizer(vae.optimizer, "VAE")
    if vae.clip is not None and not isinstance(vae.clip, MedianClip):
        raise TypeError(f"VAE needs clip=infer.MedianClip() or None, got {vae.clip!r}.")


def _check_draws(objective: AbstractObjective, sampling: Sampling, n_samples: int) -> None:
    """Refuse draws of the posterior by which a model cannot be fitted."""
    name = type(objective).__name__
    lacking = None if sampling is Sampling.EXHAUSTIVE else objective.samples_refusal(n_samples)
    if lacking is not None:
        raise ValueError(f"VAE with objective={name} needs {lacking}.")
    if (sampling is Sampling.RELAXED and not objective.linear) or (
        sampling is Sampling.EXHAUSTIVE and not objective.uses_mass
    ):
        raise ValueError(
            f"VAE cannot fit a model by {name} with {sampling.value}; write "
            "objective=infer.ReverseKL()."
        )


def not_observed_as_nan(data: Data) -> np.ndarray:
    """The rows of a fit as a step sees them, NaN where they were not observed."""
    seen = data.seen(jax.random.key(0))
    return np.asarray(seen.x if seen.mask is None else jnp.where(seen.mask, seen.x, jnp.nan))


def check_range(vae: "VAE", data: Data) -> tuple[AbstractLikelihood, np.ndarray]:
    """Refuse rows outside of the likelihood's range.

    Gives the likelihood for these rows, and the rows of the fit, NaN where they were not observed.
    """
    likelihood = vae.likelihood.on(data.layout)
    for rows in (data.held_out, data):
        if rows is not None:
            x = not_observed_as_nan(rows)
            likelihood.check_rows(x)
    return likelihood, x


def check_shapes(vae: "VAE", data: Data) -> None:
    """Refuse networks that take or give other shapes."""
    if data.layout is not None and isinstance(vae.prior, VampPrior):
        raise ValueError(
            "VampPrior trains rows within one range, and these have parts "
            f"{', '.join(data.layout.names)}; write prior=infer.Mixture() for such data."
        )
    model = jax.eval_shape(vae.build, jax.random.key(0), data)
    likelihood, event = vae.likelihood, data.rows.x.shape[1:]
    z = jax.ShapeDtypeStruct((model.head.dim,), jnp.zeros(()).dtype)
    shapes = [part.shape[1:] for part in data.rows.inputs()]
    given = [] if data.rows.condition is None else [data.rows.condition.shape[1:]]
    encoder = _called("encoder", vae.encoder, shapes, encoder_views(likelihood, data))
    decoder = _called("decoder", vae.decoder, [z.shape, *given], decoder_views(likelihood, data))

    def encoded(model: AmortizedModel, data: Data) -> Array:
        return model.outputs(data.rows.take(0))

    def decoded(model: AmortizedModel, data: Data, z: Array) -> Array:
        return model.decoded(z, data.rows.take(0).condition)

    wanted, who = (model.head.n_outputs,), f"posterior={type(vae.posterior).__name__}"
    _shape("encoder", encoder, wanted, who, encoded, model, data)
    wanted, who = likelihood.output_shape(event), f"likelihood={type(likelihood).__name__}"
    _shape("decoder", decoder, wanted, who, decoded, model, data, z)


def _called(name: str, network: Any, shapes: list[tuple[int, ...]], views: Views) -> str:
    """How a network is called, as text."""
    said = [f"array of shape {shape}" for shape in shapes]
    if not (isinstance(network, AbstractNetwork) and network.flat):
        pairs = zip(said, views.inputs, strict=True)
        said = [text if layout is None else layout.described() for text, layout in pairs]
    return f"{name}({', '.join(said)})"


def _shape(
    name: str,
    called: str,
    wanted: tuple[int, ...],
    who: str,
    call: Callable[..., Array],
    *arguments: Any,
) -> None:
    try:
        found = jax.eval_shape(call, *arguments)
    except Exception as error:
        error.add_note(f"This was raised by the {name} of the VAE, called as {called}.")
        raise
    shape = found.shape if isinstance(found, jax.ShapeDtypeStruct) else found
    if shape != wanted:
        raise ValueError(
            f"the {name} of the VAE gives shape {shape}, and {who} needs {wanted}; it was called "
            f"as {called}, for one row without a batch axis. Give a network with that output, or "
            f"write {name}=infer.MLP((64, 64))."
        )


def _need(part: Any, name: str, kind: Any, example: str) -> None:
    if not isinstance(part, kind):
        raise TypeError(f"VAE needs {name}={example} or the like, got {part!r}.")
