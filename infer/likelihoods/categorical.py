"""Entries that are one of several classes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.checks import check_count
from infer.core.types import PRNGKey
from infer.likelihoods.likelihood import AbstractLikelihood, floats, refuse


class Categorical(AbstractLikelihood):
    """Classes 0, 1, ..., n_classes - 1 without an order; the outputs are their logits.

        log p(x) = logit_x - log sum_c exp(logit_c)

    Args:
        n_classes: number of classes C, >= 2; the outputs have the shape (C, *event).
    """

    n_classes: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse what is no whole number >= 2."""
        check_count("Categorical", "n_classes", self.n_classes, 10, least=2)

    @property
    def n_outputs(self) -> int:
        """A logit per class."""
        return self.n_classes

    @property
    def whole(self) -> bool:
        """Yes."""
        return True

    def log_prob(
        self, outputs: Float[Array, "classes *event"], x: Num[Array, "*event"]
    ) -> Float[Array, "*event"]:
        """The log probability of the class x."""
        log_p = jax.nn.log_softmax(outputs, axis=0)
        return jnp.take_along_axis(log_p, x.astype(int)[None], axis=0)[0]

    def sample(
        self, key: PRNGKey, outputs: Float[Array, "classes *event"]
    ) -> Float[Array, "*event"]:
        """Classes."""
        return jax.random.categorical(key, outputs, axis=0).astype(outputs.dtype)

    def mean(self, outputs: Float[Array, "classes *event"]) -> Float[Array, "*event"]:
        """The most probable class: a mean of classes has no meaning."""
        return jnp.argmax(outputs, axis=0).astype(outputs.dtype)

    def average(
        self, weights: Float[Array, " K"], outputs: Float[Array, "K classes *event"]
    ) -> Float[Array, "*event"]:
        """The most probable class under the mixture."""
        p = jnp.tensordot(weights, jax.nn.softmax(outputs, axis=1), 1)
        return jnp.argmax(p, axis=0).astype(outputs.dtype)

    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "classes *event"]:
        """Log frequencies, with half a row of every class added."""
        x = np.asarray(x)
        counts = np.stack([np.sum(x == c, axis=0) for c in range(self.n_classes)]) + 0.5
        return floats(np.log(counts / counts.sum(axis=0)))

    def check(self, x: np.ndarray) -> None:
        """Refuse all but whole numbers from 0 to n_classes - 1."""
        classes = (x == np.round(x)) & (x >= 0) & np.isfinite(x)
        line = f"Categorical({int(np.max(x)) + 1})" if x.size and np.all(classes) else None
        needs = f"whole numbers in [0, {self.n_classes - 1}]"
        refuse(f"Categorical({self.n_classes})", needs, x, classes & (x < self.n_classes), line)
