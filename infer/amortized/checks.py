"""What a VAE refuses, and what it says."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from infer.amortized.heads import AbstractPosterior
from infer.amortized.networks import AbstractNetwork
from infer.amortized.priors import VampPrior
from infer.core.checks import check_count
from infer.core.data import Data
from infer.core.posterior import AbstractFamily
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
    _need(vae.prior, "prior", (AbstractFamily, VampPrior), "infer.Standard()")
    _need(vae.estimator, "estimator", AbstractEstimator, "infer.Path()")
    for name in ("encoder", "decoder"):
        part = getattr(vae, name)
        if not isinstance(part, AbstractNetwork) and not callable(part):
            raise TypeError(
                f"VAE needs {name}= as infer.MLP((64, 64)) or a callable pytree, got {part!r}."
            )
    check_count("VAE", "latent", vae.latent, 8)
    check_count("VAE", "n_samples", vae.n_samples, 1)
    pair = vae.objective if isinstance(vae.objective, tuple) else (vae.objective,) * 2
    if len(pair) != 2 or not all(isinstance(part, AbstractObjective) for part in pair):
        raise TypeError(
            f"VAE needs objective=infer.ReverseKL() or the like, or a pair of them, got "
            f"{vae.objective!r}; write objective=(infer.ForwardKL(), infer.IWAE())."
        )
    check_pair("VAE", pair[0], vae.estimator, vae.posterior.independent, vae.n_samples)
    if not pair[1].derivative:
        raise ValueError(
            f"VAE cannot fit a model by {type(pair[1]).__name__}, whose gradient is that of a "
            f"posterior at fixed draws; write objective=({type(pair[0]).__name__}(...), "
            "infer.IWAE())."
        )
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


def check_rows(vae: "VAE", data: Data) -> None:
    """Refuse rows outside of the likelihood's range, and networks of other shapes."""
    for rows in (data, data.held_out):
        if rows is not None:
            x = np.asarray(rows.seen(jax.random.key(0)).x)
            mask = rows.rows.mask
            vae.likelihood.check(x if mask is None else x[np.asarray(mask)])
    model = jax.eval_shape(vae.build, jax.random.key(0), data)
    row = jax.eval_shape(lambda data: data.rows.take(0), data)
    z = jax.ShapeDtypeStruct((model.head.dim,), jnp.zeros(()).dtype)
    given = () if row.condition is None else (row.condition,)
    n, event = model.likelihood.n_outputs, row.x.shape
    wanted = event if n == 1 else (n, *event)
    _shape(model.encoder, row.inputs(), (model.head.n_outputs,), "encoder", "the posterior")
    _shape(model.decoder, (z, *given), wanted, "decoder", f"{type(vae.likelihood).__name__}")


def _shape(network: Any, inputs: tuple, wanted: tuple[int, ...], name: str, who: str) -> None:
    shapes = tuple(part.shape for part in inputs)
    called = f"{name}({', '.join(map(str, shapes))})"
    try:
        found = jax.eval_shape(lambda network, *inputs: network(*inputs), network, *inputs)
    except Exception as error:
        error.add_note(f"This was raised by the {name} of the VAE, called with {shapes}.")
        raise
    if not isinstance(found, jax.ShapeDtypeStruct) or found.shape != wanted:
        shape = found.shape if isinstance(found, jax.ShapeDtypeStruct) else found
        raise ValueError(
            f"the {name} of the VAE gives shape {shape}, and {who} needs {wanted}; it was called "
            f"as {called}, one row without a batch axis. Leave out {name}= for one that fits."
        )


def _need(part: Any, name: str, kind: Any, example: str) -> None:
    if not isinstance(part, kind):
        raise TypeError(f"VAE needs {name}={example} or the like, got {part!r}.")
