"""Clipping of gradients relative to those before them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jaxtyping import Array, Float

from infer.core.checks import check_count, positive
from infer.core.types import Count, Flag, Scalar
from infer.references.citation import cites
from infer.references.variational import MIDGLEY_2023

Norms = Float[Array, " window"]


@cites(MIDGLEY_2023)
class MedianClip(eqx.Module):
    """Shortens gradients that are long for what is usual, and refuses those that are far too long.

        m = median of the norms of the last `window` gradients that were finite
        |g| > skip m, or g not finite:   no step is taken, and it is counted
        |g| > clip m:                    g <- g clip m / |g|

    Heavy-tailed weights make rare gradients that are orders of magnitude longer than the rest; one
    of them spoils the moments of Adam for hundreds of steps. No length has to be known beforehand,
    and where gradients become longer for good the median follows within half a window. Clipped
    gradients are biased towards those that are usual. Memory: `window` numbers.

    Args:
        clip: multiple of the median to which a gradient is shortened, >= 1.
        skip: multiple of the median beyond which a step is refused, >= clip.
        window: gradients looked back at, >= 10; part of the program.

    Source: the training loop of Midgley et al., Flow annealed importance sampling bootstrap, ICLR
    2023.
    """

    clip: Scalar = eqx.field(converter=positive("clip", 2.0), default=2.0)
    skip: Scalar = eqx.field(converter=positive("skip", 10.0), default=10.0)
    window: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        """Refuse what would never let a gradient through."""
        check_count("MedianClip", "window", self.window, 100, least=10)
        if isinstance(self.clip, Tracer) or isinstance(self.skip, Tracer):
            return
        if not jnp.all((self.clip >= 1) & (self.skip >= self.clip)):
            raise ValueError(
                f"MedianClip needs 1 <= clip <= skip, got clip={float(self.clip)} and "
                f"skip={float(self.skip)}; write infer.MedianClip(clip=2.0, skip=10.0)."
            )

    def init(self, dtype: jnp.dtype) -> Norms:
        """No norm seen yet."""
        return jnp.full(self.window, jnp.nan, dtype)

    def apply(self, norms: Norms, gradient: Any, t: Count) -> tuple[Any, Flag, Norms]:
        """The gradient to be used at step t, whether to use it, and the norms from now on."""
        norm = optax.tree_utils.tree_norm(gradient).astype(norms.dtype)
        finite = jnp.isfinite(norm)
        usual = jnp.nanmedian(norms)
        usual = jnp.where(jnp.isnan(usual), jnp.inf, usual)  # the first gradient is as it is
        keep = finite & (norm <= self.skip * usual)
        factor = jnp.minimum(1, self.clip * usual / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))
        clipped = jax.tree.map(lambda g: jnp.where(keep, g * factor.astype(g.dtype), 0), gradient)
        place = t % self.window
        seen = norms.at[place].set(jnp.where(finite, norm, norms[place]))
        return clipped, keep, seen
