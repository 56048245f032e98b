"""An estimator for each factor of a product."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx

from infer.core.groups import Groups
from infer.core.types import Count
from infer.objectives.estimator import AbstractEstimator

EXAMPLE = 'infer.BySite({"k": infer.Score(), ("mu", "theta"): infer.Path()})'


class BySite(eqx.Module):
    """Estimators for the factors of a `Product`, each for the parameters of its own.

        q(z) = prod_b q_b(z_b; phi_b),   dF/dphi_b by estimator b

        infer.VI(infer.Product({"k": infer.MeanField(), ("mu", "theta"): infer.FullRank()}),
                 estimator=infer.BySite({"k": infer.Score(), ("mu", "theta"): infer.Path()}))

    Every estimator is unbiased for all parameters, so for those of one factor as well; factors are
    independent, so the path of one factor needs the gradient of the target in its own coordinates
    and in no others. A site whose gradient is missing, wrong or not a number has `Score()`, and the
    others need not do with it. The noise of `Score()` is still that of the whole log weight.
    Cost: one gradient of the target per draw, unless all are `Score()`, and a backward pass through
    the sampler for every kind of estimator.

    Args:
        estimators: a mapping from the keys of the product to estimators, one for each.
    """

    groups: Groups = eqx.field(static=True)
    estimators: tuple[AbstractEstimator, ...]

    def __init__(
        self, estimators: Mapping[str | int | tuple[str | int, ...], AbstractEstimator]
    ) -> None:
        if not isinstance(estimators, Mapping) or not estimators:
            raise TypeError(
                f"BySite needs a mapping from sites to estimators, got {estimators!r}; write "
                f"{EXAMPLE}."
            )
        for key, estimator in estimators.items():
            if not isinstance(estimator, AbstractEstimator):
                raise TypeError(
                    f"BySite needs an estimator for {key!r}, got {estimator!r}; write {EXAMPLE}."
                )
        self.groups = tuple(key if isinstance(key, tuple) else (key,) for key in estimators)
        self.estimators = tuple(estimators.values())

    @property
    def uses_gradient(self) -> bool:
        """Does any of them ask for the gradient of the target?"""
        return any(estimator.uses_gradient for estimator in self.estimators)

    def at(self, t: Count) -> "BySite":
        """The estimators at step t of a run."""
        return self._with(self.groups, [estimator.at(t) for estimator in self.estimators])

    def of(self, groups: Groups) -> "BySite":
        """The same in the order of these groups, which have to be the same."""
        own = {frozenset(group): e for group, e in zip(self.groups, self.estimators, strict=True)}
        if own.keys() != {frozenset(group) for group in groups}:
            keys = ", ".join(
                f"{(group[0] if len(group) == 1 else group)!r}: infer.Path()" for group in groups
            )
            raise ValueError(
                f"BySite needs the keys of the product, {list(groups)}, got {list(self.groups)}; "
                f"write estimator=infer.BySite({{{keys}}})."
            )
        return self._with(groups, [own[frozenset(group)] for group in groups])

    def join(self, gradients: Sequence[Any]) -> Any:
        """Of the gradients by every estimator, factor b of the one by estimator b."""
        factors = tuple(gradient.factors[b] for b, gradient in enumerate(gradients))
        return eqx.tree_at(lambda q: q.factors, gradients[0], factors)

    @staticmethod
    def _with(groups: Groups, estimators: Sequence[AbstractEstimator]) -> "BySite":
        return BySite(dict(zip(groups, estimators, strict=True)))
