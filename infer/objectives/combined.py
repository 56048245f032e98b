"""Objectives made of others."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from infer.core.checks import check_count
from infer.core.types import Scalar
from infer.objectives.objective import AbstractObjective, Weights
from infer.references.citation import cites
from infer.references.variational import RAINFORTH_2018


def _check_bound(owner: str, objective: Any) -> None:
    if not isinstance(objective, AbstractObjective) or not objective.derivative:
        raise TypeError(
            f"{owner} needs bounds such as infer.IWAE(), whose gradient is the derivative of "
            f"their value, got {objective!r}."
        )


@cites(RAINFORTH_2018)
class Repeated(AbstractObjective):
    """The mean of a bound over M groups of draws:  F = (1/M) sum_m F_m(log w of group m).

    `Repeated(IWAE(), groups=M)` with n_samples = M K is the multiply importance weighted bound of K
    draws: less tight than that of all M K, with less noise in the gradient of q.

    Args:
        objective: a bound, `IWAE()` or `Renyi(alpha)`.
        groups: M, >= 1, a divisor of `n_samples`.

    Source: Rainforth et al., Tighter variational bounds are not necessarily better, ICML 2018.
    """

    objective: Any
    groups: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        """Refuse what is no bound, and no number of groups."""
        _check_bound("Repeated", self.objective)
        check_count("Repeated", "groups", self.groups, 4)

    def samples_refusal(self, n_samples: int) -> str | None:
        """Every group has the same number of draws, and two at least."""
        if n_samples % self.groups or n_samples < 2 * self.groups:
            most = self.groups * max(2, n_samples // self.groups)
            return (
                f"n_samples a multiple of groups={self.groups}, two draws each at least, got "
                f"{n_samples}; write n_samples={most}"
            )
        return self.objective.samples_refusal(n_samples // self.groups)

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        return jnp.mean(jax.vmap(self.objective.value)(*self._grouped(log_w, mass)))

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """Those of each group."""
        return self._each(self.objective.score_weights, log_w, mass)

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """Those of each group."""
        return self._each(self.objective.path_weights, log_w, mass)

    def _grouped(self, log_w: Weights, mass: Weights) -> tuple[Float[Array, "M n"], ...]:
        shape = (self.groups, -1)
        return log_w.reshape(shape), self.groups * mass.reshape(shape)

    def _each(
        self, weights: Callable[[Weights, Weights], Weights], log_w: Weights, mass: Weights
    ) -> Weights:
        return jax.vmap(weights)(*self._grouped(log_w, mass)).reshape(-1) / self.groups


class Nothing(AbstractObjective):
    """The objective without a gradient, F = 0: of a posterior that regularizers alone move.

    `VAE(objective=(Nothing(), ReverseKL()), regularizers=(regularizers.Sleep(),))` is wake-sleep.
    """

    linear: ClassVar[bool] = True

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """0."""
        return jnp.zeros((), log_w.dtype)

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """0."""
        return jnp.zeros_like(log_w)

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """0."""
        return jnp.zeros_like(log_w)


def _as_shares(weights: Any) -> Any:
    return weights if isinstance(weights, Tracer) else jnp.asarray(weights, jnp.zeros(()).dtype)


@cites(RAINFORTH_2018)
class Blend(AbstractObjective):
    """A weighted sum of bounds of the same draws:  F = sum_i weight_i F_i.

    `Blend((ReverseKL(), IWAE()), (0.05, 0.95))` is the combination that keeps q close to the
    posterior while the bound is tight.

    Args:
        objectives: bounds.
        weights: >= 0, one each; a bound again if they sum to one.

    Source: Rainforth et al., Tighter variational bounds are not necessarily better, ICML 2018.
    """

    objectives: tuple[Any, ...]
    weights: Any = eqx.field(converter=_as_shares)

    def __check_init__(self) -> None:
        """Refuse what are no bounds, and weights that are not theirs."""
        for objective in self.objectives:
            _check_bound("Blend", objective)
        if isinstance(self.weights, Tracer):
            return
        if self.weights.shape != (len(self.objectives),) or np.any(np.asarray(self.weights) < 0):
            raise ValueError(
                f"Blend needs a weight >= 0 for each of {len(self.objectives)} objectives, got "
                f"{self.weights}; write infer.Blend((infer.ReverseKL(), infer.IWAE()), (0.1, 0.9))."
            )

    def samples_refusal(self, n_samples: int) -> str | None:
        """What any of them refuses."""
        return next(filter(None, (o.samples_refusal(n_samples) for o in self.objectives)), None)

    def value(self, log_w: Weights, mass: Weights) -> Scalar:
        """F."""
        return self._sum([o.value(log_w, mass) for o in self.objectives])

    def score_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The same sum of theirs."""
        return self._sum([o.score_weights(log_w, mass) for o in self.objectives])

    def path_weights(self, log_w: Weights, mass: Weights) -> Weights:
        """The same sum of theirs."""
        return self._sum([o.path_weights(log_w, mass) for o in self.objectives])

    def _sum(self, parts: list[Array]) -> Array:
        return jnp.tensordot(self.weights, jnp.stack(parts), 1)
