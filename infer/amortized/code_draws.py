"""How draws of categorical variables are made for a gradient."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from infer.core.checks import positive
from infer.core.posterior import Draws, Sampling
from infer.core.types import Count, PRNGKey, Scalar
from infer.references.citation import cites
from infer.references.rows import JANG_2017, MADDISON_2017

LogProbabilities = Float[Array, "V C"]

MOST_STATES = 4096  # that are enumerated


class AbstractCodeDraws(eqx.Module):
    """Draws of V independent variables with C classes each, as V one-hot vectors in a row.

    Attributes:
        sampling: how they are made, on which depends what estimates a gradient.
    """

    sampling: eqx.AbstractClassVar[Sampling]

    @abstractmethod
    def draw(self, key: PRNGKey, log_p: LogProbabilities, n: int) -> Draws:
        """`n` draws for these normalized log probabilities; their scores are zero."""

    def at(self, t: Count) -> "AbstractCodeDraws":
        """The rule at step t of a run; itself, unless it changes on the way."""
        return self

    def check(self, n_variables: int, n_classes: int) -> None:
        """Refuse numbers of variables and classes that it cannot serve."""


class Hard(AbstractCodeDraws):
    """Draws of the codes themselves, which do not move with the parameters: `Score()` goes with it.

    The gradient is unbiased, and its noise grows with the number of variables.
    """

    sampling: ClassVar[Sampling] = Sampling.DISCRETE

    def draw(self, key: PRNGKey, log_p: LogProbabilities, n: int) -> Draws:
        """Independent one-hot draws."""
        which = jax.random.categorical(key, log_p, shape=(n, log_p.shape[0]))
        hot = jax.nn.one_hot(which, log_p.shape[1], dtype=log_p.dtype)
        return _draws(hot, jnp.sum(hot * log_p, axis=(1, 2)), independent=True)


class Enumerated(AbstractCodeDraws):
    """All C^V codes with their probabilities: `Enumerate()` goes with it, an exact gradient.

    For at most 4096 codes: the decoder is evaluated at all of them, for every row.
    """

    sampling: ClassVar[Sampling] = Sampling.EXHAUSTIVE

    def check(self, n_variables: int, n_classes: int) -> None:
        """Refuse more codes than can be looked at in every step."""
        if n_classes**n_variables > MOST_STATES:
            raise ValueError(
                f"Enumerated takes at most {MOST_STATES} codes, got {n_classes}^{n_variables}; "
                f"write posterior=infer.Categorical({n_classes}), estimator=infer.Score(), "
                "n_samples=8."
            )

    def draw(self, key: PRNGKey, log_p: LogProbabilities, n: int) -> Draws:
        """All codes, the last variable moving first; neither `key` nor `n` has a part in it."""
        v, c = log_p.shape
        which = np.stack(np.unravel_index(np.arange(c**v), (c,) * v), axis=1)
        hot = jnp.asarray(np.eye(c)[which], log_p.dtype)
        log_q = jnp.sum(hot * log_p, axis=(1, 2))
        return _draws(hot, log_q, independent=False, mass=jnp.exp(log_q))


class _Schedule(eqx.Module):
    """A temperature as a function of the step; part of the program."""

    function: Callable[[Any], Any] = eqx.field(static=True)


def _temperature(value: Any) -> Any:
    convert = positive("temperature", 0.5)
    if isinstance(value, _Schedule) or not callable(value):
        return value if isinstance(value, _Schedule) else convert(value)
    first: Any = value(0)
    convert(first)
    return _Schedule(value)


def _relaxed(
    key: PRNGKey, log_p: LogProbabilities, n: int, temperature: Any
) -> tuple[Array, Array, Array]:
    """Gumbel-softmax draws (n, V, C), the one-hot draws next to them, and minus the entropy."""
    if isinstance(temperature, _Schedule):
        temperature = jnp.asarray(temperature.function(0))
    raised = log_p + jax.random.gumbel(key, (n, *log_p.shape), log_p.dtype)
    soft = jax.nn.softmax(raised / temperature.astype(log_p.dtype))
    hard = jax.nn.one_hot(jnp.argmax(raised, axis=-1), log_p.shape[1], dtype=log_p.dtype)
    return soft, hard, jnp.broadcast_to(jnp.sum(jnp.exp(log_p) * log_p), (n,))


@cites(JANG_2017, MADDISON_2017)
class Relaxed(AbstractCodeDraws):
    """Gumbel-softmax draws, in the interior of the simplex: `Reparam()` goes with it.

        z = softmax((log pi + g) / temperature),   g_c ~ Gumbel(0, 1)

    What is made large is log p(x, z) at these draws plus the exact entropy of the categorical
    posterior; with the prior `UniformCategorical` that is the exact categorical KL, while a fitted
    prior takes its cross-entropy from the relaxed draws too. **The gradient is biased**, by more
    the higher the temperature, and noisier the lower it is, and what is recorded is no bound: the
    decoder is trained at points between codes. `result.evidence` and the verdict take hard draws.

    Args:
        temperature: > 0, or a function of the step such as an optax schedule.

    Source: Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017;
    Maddison, Mnih and Teh, The concrete distribution, ICLR 2017.
    """

    temperature: Scalar | _Schedule = eqx.field(converter=_temperature, default=0.5)
    sampling: ClassVar[Sampling] = Sampling.RELAXED

    def at(self, t: Count) -> "Relaxed":
        """With the temperature of step t."""
        if isinstance(self.temperature, _Schedule):
            return Relaxed(self.temperature.function(t))
        return self

    def draw(self, key: PRNGKey, log_p: LogProbabilities, n: int) -> Draws:
        """Relaxed draws."""
        soft, _, negative_entropy = _relaxed(key, log_p, n, self.temperature)
        return _draws(soft, negative_entropy, independent=True)


@cites(JANG_2017)
class StraightThrough(AbstractCodeDraws):
    """Hard draws that move like the Gumbel-softmax draws next to them: `Reparam()` goes with it.

        z = one_hot(argmax(log pi + g)),   dz = d softmax((log pi + g) / temperature)

    The decoder is trained at codes, by an unbiased gradient, and what is recorded is the lower
    bound with the exact entropy. **The gradient in the posterior is biased**: it takes the decoder
    as linear between codes.

    Args:
        temperature: > 0, or a function of the step such as an optax schedule.

    Source: Jang, Gu and Poole, Categorical reparameterization with Gumbel-softmax, ICLR 2017.
    """

    temperature: Scalar | _Schedule = eqx.field(converter=_temperature, default=0.5)
    sampling: ClassVar[Sampling] = Sampling.RELAXED

    def at(self, t: Count) -> "StraightThrough":
        """With the temperature of step t."""
        if isinstance(self.temperature, _Schedule):
            return StraightThrough(self.temperature.function(t))
        return self

    def draw(self, key: PRNGKey, log_p: LogProbabilities, n: int) -> Draws:
        """One-hot draws with the derivative of the relaxed ones."""
        soft, hard, negative_entropy = _relaxed(key, log_p, n, self.temperature)
        return _draws(
            hard + (soft - jax.lax.stop_gradient(soft)), negative_entropy, independent=True
        )


def _draws(z: Array, log_q: Array, independent: bool, mass: Array | None = None) -> Draws:
    x = z.reshape(z.shape[0], -1)
    return Draws(x, log_q, jnp.zeros_like(x), independent=independent, mass=mass)
