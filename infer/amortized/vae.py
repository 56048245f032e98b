"""Variational autoencoders: every variant is a choice of parts."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from infer.amortized.categorical import AbstractCodePrior
from infer.amortized.checks import check_range, check_shapes, check_vae, not_observed_as_nan
from infer.amortized.convolution import ConvDecoder, ConvEncoder
from infer.amortized.heads import AbstractPosterior, head_of
from infer.amortized.model import AmortizedModel
from infer.amortized.networks import MLP, AbstractNetwork, network_of
from infer.amortized.parts import join, split
from infer.amortized.priors import VampPrior
from infer.amortized.viewed import decoder_views, encoder_views
from infer.core.algorithm import AbstractAmortizer, Info
from infer.core.checks import nonnegative
from infer.core.data import Data
from infer.core.posterior import AbstractFamily
from infer.core.stopping import LossSettled
from infer.core.types import Count, PRNGKey, Scalar
from infer.families.gaussian import MeanField
from infer.families.standard import Standard
from infer.likelihoods.choice import likelihood_for
from infer.likelihoods.likelihood import AbstractLikelihood
from infer.likelihoods.parts import as_likelihood
from infer.objectives.amortized import Bounds, surrogate
from infer.objectives.bounds import ReverseKL
from infer.objectives.estimator import AbstractEstimator, Path
from infer.objectives.objective import AbstractObjective
from infer.optimizers.averaging import average
from infer.optimizers.clipping import MedianClip
from infer.optimizers.optimizer import Optimizer, advance, first_state, optimizer
from infer.references.citation import cites
from infer.references.variational import BURDA_2016, KINGMA_2014
from infer.regularizers.regularizer import AbstractRegularizer, Batch

Beta = float | int | Scalar | Callable[[Count], Scalar] | None


def _as_beta(beta: Any) -> Any:
    return beta if beta is None or callable(beta) else nonnegative("beta", 1.0)(beta)


class _State(eqx.Module):
    model: AmortizedModel
    average: Any  # of what is trained in it
    optimizer: optax.OptState
    t: Count
    norms: Float[Array, " window"] | None
    skipped: Count
    loss: Scalar


@cites(KINGMA_2014, BURDA_2016)
class VAE(AbstractAmortizer):
    """Fits a model of rows p(x, z) = p(z) p(x | decoder(z)) together with q(z | x), for all rows.

        theta, phi  <-  optimizer(gradient of mean_b F_b - sum_i weight_i r_i)
        F_b = F(log w_b1 ... log w_bK)
        log w_bk = log p(x_b | z_bk) + beta (log p(z_bk) - log q(z_bk | x_b))

    with z_bk ~ q(. | x_b), K = `n_samples`. With `IWAE()` it is the importance weighted
    autoencoder, with `beta` a beta-VAE, with `beta=0` and regularizers a Wasserstein autoencoder;
    docs/vae.md has the table. The answer is a polynomial-decay average of the parameters.

    Cost per step: for every row of the batch one encoder pass and K decoder passes, forward and
    back.

    Args:
        likelihood: p(x | outputs), `infer.likelihoods.Bernoulli()` or the like; for rows of several
            parts a dict or a tuple of them, with the structure of a row.
        latent: number of latent variables, >= 1.
        encoder: `infer.MLP((64, 64))`, or any callable pytree that takes one row (x, then mask and
            condition where there are any; trees if rows are) and gives what the posterior needs.
        posterior: shape of q(z | x): any family, `MeanField()`, `FullRank()`, `LowRank()`,
            `Mixture()`, or a flow, whose layers are the same for all rows; for discrete variables
            `Categorical(10)`.
        prior: p(z): any family, whose member is fitted; `infer.VampPrior()`; the default
            `infer.Standard()` is N(0, I). For discrete variables `UniformCategorical(10)`.
        decoder: `infer.MLP((64, 64))`, or any callable pytree that takes z (then the condition) and
            gives what the likelihood needs, of shape x.shape or (n, *x.shape); a tree if rows are.
        objective: what is made large, `ReverseKL()`, `IWAE()`, `Renyi(alpha)`, ...; or a pair, the
            first for the posterior, the second for the model: `(ForwardKL(), IWAE())`.
        estimator: of the gradient in the posterior: `Path()`, `Reparam()`, `Score()`, or
            `Enumerate()`.
        regularizers: of `infer.regularizers`, subtracted from the objective.
        optimizer: any optax transformation.
        n_samples: K, draws per row and step, >= 1.
        beta: weight of prior and posterior in log w, >= 0, or a function of the step; None is 1.
            What is made large is a bound for 1 alone.
        clip: `MedianClip()` shortens unusually long gradients; None takes them as they are.
        stopping: a `LossSettled` rule, or None to take every step.
        start: what the decoder gives to begin with, of the shape of its output; None reads it off
            the rows.

    Limits: the posterior q(z | x) is for the decoder that was fitted, and the verdict is on q
    alone: it does not say whether the decoder is a good model of the data.

    Source: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014; Burda, Grosse and
    Salakhutdinov, Importance weighted autoencoders, ICLR 2016.
    """

    likelihood: AbstractLikelihood = eqx.field(converter=as_likelihood)
    latent: int = eqx.field(static=True, default=8)
    encoder: AbstractNetwork | Callable[..., Array] = eqx.field(default_factory=MLP)
    posterior: AbstractFamily | AbstractPosterior = eqx.field(
        default_factory=lambda: MeanField(scale=1.0)
    )
    prior: AbstractFamily | VampPrior | AbstractCodePrior = eqx.field(default_factory=Standard)
    decoder: AbstractNetwork | Callable[..., Array] = eqx.field(default_factory=MLP)
    objective: AbstractObjective | tuple[AbstractObjective, AbstractObjective] = eqx.field(
        default_factory=ReverseKL
    )
    estimator: AbstractEstimator = eqx.field(default_factory=Path)
    regularizers: tuple[AbstractRegularizer, ...] = ()
    optimizer: Optimizer | optax.GradientTransformation = eqx.field(
        default_factory=lambda: optimizer(optax.adam, learning_rate=1e-3)
    )
    n_samples: int = eqx.field(static=True, default=1)
    beta: Beta = eqx.field(converter=_as_beta, default=None)
    clip: MedianClip | None = None
    stopping: LossSettled | None = eqx.field(static=True, default=None)
    start: Array | None = None
    default_steps: ClassVar[int] = 10_000

    def __check_init__(self) -> None:
        """Refuse what could only fail later."""
        check_vae(self)

    @classmethod
    def for_data(cls, data: Any, latent: int | None = None, **settings: Any) -> "VAE":
        """A VAE with the likelihood and the networks that suit these rows.

        The likelihood is that of `infer.likelihoods.likelihood_for`. Images (N, H, W) and
        (N, H, W, C) of at least 16 x 16 get convolutions, everything else perceptrons.

        Args:
            data: rows, an array or a tree of arrays, or an `infer.Data`.
            latent: number of latent variables; by default 8, and at most half the entries of a row.
            settings: any argument of `VAE`.
        """
        data = data if isinstance(data, Data) else Data(data)
        x = not_observed_as_nan(data)
        event = x.shape[1:]
        if latent is None:
            latent = max(1, min(8, math.prod(event) // 2))
        if len(event) in (2, 3) and min(event[:2]) >= 16:
            settings = {
                "encoder": ConvEncoder(),
                "decoder": ConvDecoder(color=len(event) == 3),
            } | settings
        x = x if data.layout is None else data.layout.tree(data.layout.parts(x))
        return cls(**({"likelihood": likelihood_for(x), "latent": latent} | settings))

    @property
    def objectives(self) -> tuple[AbstractObjective, AbstractObjective]:
        """What the posterior makes large, and what the model does."""
        if isinstance(self.objective, tuple):
            return self.objective
        return self.objective, self.objective

    def ready(self, data: Data) -> "VAE":
        """With likelihood and first decoder outputs as the rows have them; refuses other rows."""
        likelihood, x = check_range(self, data)
        if isinstance(self.posterior, AbstractPosterior):
            self.posterior.check_rows(self.latent, data.total)
        likelihood = likelihood.init(x)
        new = dataclasses.replace(self, likelihood=likelihood, start=likelihood.start(x))
        check_shapes(new, data)
        return new

    def init(self, key: PRNGKey, data: Data) -> _State:
        """Networks of the sizes that the rows need."""
        model = (self if self.start is not None else self.ready(data)).build(key, data)
        # A weakly typed leaf would be another type after one step, and compile everything again.
        model = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), model)
        trained, _ = split(model)
        zero = jnp.zeros((), int)
        dtype = jnp.zeros(()).dtype
        return _State(
            model,
            trained,
            first_state(self.optimizer, trained),
            zero,
            None if self.clip is None else self.clip.init(dtype),
            zero,
            jnp.full((), jnp.inf, dtype),
        )

    def build(self, key: PRNGKey, data: Data) -> AmortizedModel:
        """The first model of these rows, of an algorithm that is ready for them."""
        assert self.start is not None
        key_rows, key_head, key_prior, key_encoder, key_decoder = jax.random.split(key, 5)
        rows = data.seen(key_rows)
        head = head_of(self.posterior, key_head, self.latent)
        z = jnp.zeros((1, head.dim))
        given = () if rows.condition is None else (rows.condition,)
        z = jnp.broadcast_to(z, (rows.x.shape[0], head.dim)) if given else z
        if isinstance(self.prior, VampPrior):
            prior = self.prior.init(key_prior, rows)
        else:
            prior = self.prior.init(key_prior, z[0])
        outputs = jnp.zeros(head.n_outputs)
        sees, gives = encoder_views(self.likelihood, data), decoder_views(self.likelihood, data)
        return AmortizedModel(
            network_of(self.encoder, key_encoder, rows.inputs(), outputs, 0.1, sees),
            head,
            prior,
            network_of(self.decoder, key_decoder, (z, *given), self.start, 1.0, gives),
            self.likelihood,
        )

    def step(self, key: PRNGKey, data: Data, state: _State) -> tuple[_State, Info]:
        """One step of the optimizer on the rows of one step."""
        before, rest = split(state.model)

        def loss(trained: Any) -> tuple[Scalar, tuple[Bounds, Array, dict[str, Array]]]:
            return self._loss(key, data, trained, rest, state.t)

        descent, (bounds, outputs, stats) = jax.grad(loss, has_aux=True)(before)
        value = -jnp.mean(bounds.values)
        norms, skipped, keep = state.norms, state.skipped, None
        if self.clip is not None:
            assert norms is not None
            descent, keep, norms = self.clip.apply(norms, descent, state.t)
            keep &= jnp.isfinite(value)
            skipped += ~keep
            stats |= {"gradient_norm": norms[state.t % self.clip.window], "skipped_steps": skipped}
        updates, opt_state = advance(self.optimizer, descent, state.optimizer, before, {})
        trained = jax.tree.map(jnp.add, before, updates)
        if keep is not None:
            # A refused step leaves all as it was, and repeats the loss of the last one taken.
            trained, opt_state, value = jax.tree.map(
                lambda new, old: jnp.where(keep, new, old),
                (trained, opt_state, value),
                (before, state.optimizer, state.loss),
            )
        model = join(trained, rest)
        head, moved = model.head.advance(jax.random.fold_in(key, 1), outputs)
        if keep is not None:
            head = jax.tree.map(lambda new, old: jnp.where(keep, new, old), head, model.head)
        model, stats = dataclasses.replace(model, head=head), stats | moved
        mean = average(state.average, trained, state.t)
        # Gradients of the log joint density, as elsewhere: one per draw.
        info = Info(value, jnp.asarray(bounds.log_w.size), stats)
        return _State(model, mean, opt_state, state.t + 1, norms, skipped, value), info

    def model(self, state: _State) -> AmortizedModel:
        """The model with averaged parameters."""
        return join(state.average, split(state.model)[1])

    def _loss(
        self, key: PRNGKey, data: Data, trained: Any, rest: Any, t: Count
    ) -> tuple[Scalar, tuple[Bounds, Array, dict[str, Array]]]:
        """What the optimizer differentiates, with bounds, outputs and regularizers beside it."""
        key_draws, key_rest = jax.random.split(key)
        rows, model = data.rows, join(trained, rest)
        head, estimator = model.head.at(t), self.estimator.at(t)
        beta: Any = self.beta(t) if callable(self.beta) else self.beta

        def log_joint(trained: Any, z: Float[Array, "B K d"]) -> Float[Array, "B K"]:
            model: AmortizedModel = join(trained, rest)
            prior = model.latent_prior()
            log_prior = jax.vmap(jax.vmap(prior.log_prob))(z)
            each = jax.vmap(model.log_likelihood, (0, None))
            return jax.vmap(each)(z, rows) + (log_prior if beta is None else beta * log_prior)

        outputs = jax.vmap(model.outputs)(rows)
        keys = jax.random.split(key_draws, outputs.shape[0])
        bounds = surrogate(
            keys,
            trained,
            lambda key, outputs: head(outputs).sample_score(key, self.n_samples),
            outputs,
            log_joint,
            self.objectives,
            estimator,
            beta,
        )
        total, stats = -bounds.surrogate, {}
        if self.regularizers:
            q = jax.vmap(head)(outputs)
            z, size = bounds.draws.x, jnp.asarray(data.total)
            prior, masked = model.latent_prior(), rows.mask is not None
            batch = Batch(rows.x, z, q, prior, t, size, model, rows.condition, masked)
            for i, regularizer in enumerate(self.regularizers):
                value = regularizer(jax.random.fold_in(key_rest, i), batch)
                total += value
                name = type(regularizer).__name__
                name = f"{name} {i}" if name in stats else name
                stats[name] = jax.lax.stop_gradient(value)
        return total, (bounds, outputs, stats)
