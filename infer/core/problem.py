"""What the loop knows of the thing to be fitted."""

from abc import abstractmethod
from typing import Any

import equinox as eqx

from infer.core.types import PRNGKey


class AbstractProblem(eqx.Module):
    """A thing to be fitted, as the run loop sees it.

    `size` is the number of data rows (None where there are no rows to speak of) and `exact`
    says whether evaluating the problem uses all of them.
    """

    size: eqx.AbstractVar[int | None]

    @property
    @abstractmethod
    def exact(self) -> bool:
        """True if every evaluation uses all rows; False for a minibatch problem."""

    @abstractmethod
    def subsample(self, key: PRNGKey) -> "AbstractProblem":
        """The problem on one random minibatch of rows; itself if it is exact. Cost O(batch)."""

    @abstractmethod
    def at(self, start: Any) -> "AbstractProblem":
        """The problem with its start fixed; itself where there is nothing to start from."""
