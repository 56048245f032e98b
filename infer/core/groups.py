"""Groups of coordinates, by the names of sites or by number."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from infer.core.target import Target

Groups = tuple[tuple[str | int, ...], ...]


def partition(
    owner: str, target: Target, groups: Sequence[Sequence[str | int]], write: str
) -> Int[np.ndarray, " d"]:
    """The number of the group of every coordinate; refuses what is no partition.

    `owner` is whose groups they are, and `write` a line that would do, for the error.
    """
    sizes = [int(np.prod(site.free_shape)) for site in target.sites]
    names = [site.name for site in target.sites]
    site_of = np.repeat(np.arange(len(sizes)), sizes)
    found = np.zeros((len(groups), len(site_of)), int)
    for line, members in zip(found, groups, strict=True):
        for member in members:
            if isinstance(member, str) and member in names:
                line += site_of == names.index(member)
            elif not isinstance(member, str) and 0 <= member < len(site_of):
                line[member] += 1
            else:
                raise ValueError(
                    f"{owner}: {member!r} is neither a site, one of {names}, nor a coordinate "
                    f"from 0 to {len(site_of) - 1}; write {write}."
                )
    wrong = np.flatnonzero(found.sum(axis=0) != 1)
    if len(wrong):
        lost = target.coordinate_names()[wrong[0]]
        raise ValueError(
            f"{owner} needs every coordinate in exactly one group, and {lost!r} is in "
            f"{found.sum(axis=0)[wrong[0]]}; write {write}."
        )
    return found.argmax(axis=0)
