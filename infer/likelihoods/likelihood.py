"""What a likelihood is: the distribution of a data entry, given what a decoder puts out for it."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from infer.core.layout import Layout
from infer.core.types import PRNGKey


class AbstractLikelihood(eqx.Module):
    """p(x | outputs), entry by entry and independent.

        log p(x | outputs) = sum_i log p(x_i | outputs_i)

    A row x of the data has any shape `event`; `outputs` has the shape `event` where
    `n_outputs` = 1, and (n_outputs, *event) otherwise. The terms of the sum are returned, not the
    sum, so that a caller can leave out entries that were not observed.

    Float array leaves are parameters to be learned. What is not learned is static.
    """

    @property
    @abc.abstractmethod
    def n_outputs(self) -> int:
        """Outputs of the decoder per entry of x."""

    @abc.abstractmethod
    def log_prob(
        self, outputs: Float[Array, "*outputs"], x: Num[Array, "*event"]
    ) -> Float[Array, "*event"]:
        """The log probability, or log density, of every entry."""

    @abc.abstractmethod
    def sample(self, key: PRNGKey, outputs: Float[Array, "*outputs"]) -> Float[Array, "*event"]:
        """One draw of a row, in the float type of the outputs."""

    @abc.abstractmethod
    def mean(self, outputs: Float[Array, "*outputs"]) -> Float[Array, "*event"]:
        """The mean of every entry."""

    @abc.abstractmethod
    def start(self, x: Num[ArrayLike, "n *event"]) -> Float[Array, "*outputs"]:
        """Outputs, the same for every row, close to the most likely ones of the rows x.

        A first bias of the decoder. Entries of x that are NaN are left out. Run outside of `jit`,
        on a likelihood that `init` made.
        """

    @abc.abstractmethod
    def check(self, x: np.ndarray) -> None:
        """Refuse values outside the range of x: what was found, what is needed, what to write."""

    @property
    def whole(self) -> bool:
        """Are all draws whole numbers, such as counts and classes?"""
        return False

    def output_shape(self, event: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what a decoder gives for a row of shape `event`."""
        return event if self.n_outputs == 1 else (self.n_outputs, *event)

    def average(
        self, weights: Float[Array, " K"], outputs: Float[Array, "K *outputs"]
    ) -> Float[Array, "*event"]:
        """The mean of every entry under the mixture sum_k weights_k p(x | outputs_k)."""
        return jnp.tensordot(weights, jax.vmap(self.mean)(outputs), 1)

    def check_rows(self, x: np.ndarray) -> None:
        """`check` of rows (n, *event) in which NaN was not observed."""
        self.check(x[~np.isnan(x)])

    def on(self, layout: Layout | None) -> "AbstractLikelihood":
        """The likelihood for rows of this layout; refused where these have several parts."""
        if layout is not None:
            name = type(self).__name__
            first = f"infer.likelihoods.{name}(...)"
            line = layout.written((first, *("...",) * (len(layout.names) - 1)))
            raise ValueError(
                f"the rows have parts {', '.join(layout.names)}, and {name} is for one; write "
                f"likelihood={line}, one for each, or infer.VAE.for_data(data)."
            )
        return self

    def init(self, x: Num[ArrayLike, "n *event"]) -> "AbstractLikelihood":
        """The likelihood ready for rows like those of x, its parameters at values that fit them.

        Entries of x that are NaN are left out. Run outside of `jit`.
        """
        return self


def floats(value: ArrayLike) -> Array:
    """An array of the default float type."""
    return jnp.asarray(value, jnp.zeros(()).dtype)


def rows(x: ArrayLike) -> Float[np.ndarray, "n *event"]:
    """The rows in float64; an entry that no row has is 0 in all of them."""
    x = np.asarray(x, np.float64)
    return np.where(np.isnan(x).all(axis=0), 0.0, x)


def refuse(
    owner: str, needs: str, x: np.ndarray, valid: np.ndarray, line: str | None = None
) -> None:
    """Raise where `valid` is false; `line` is what to write, by default what suits the values."""
    if np.all(valid):
        return
    first = np.unravel_index(int(np.argmin(valid)), np.shape(x))
    found = f"got {np.asarray(x)[first]}"
    if len(first) > 1:  # a list of values has no places
        found += f" at {tuple(int(i) for i in first)}"
    if not np.all(np.isfinite(x)):
        raise ValueError(
            f"{owner} needs {needs}, {found}, and values that are not finite; write "
            f"x = np.where(np.isfinite(x), x, np.nan) to have them taken as missing."
        )
    # Knows all likelihoods, and so loads the file of this one.
    from infer.likelihoods.choice import suited

    whole = " that are whole numbers" if np.all(x == np.round(x)) else ""
    raise ValueError(
        f"{owner} needs {needs}, {found} and values in [{np.min(x)}, {np.max(x)}]{whole}; write "
        f"likelihood=infer.likelihoods.{line or suited(x)}."
    )
