"""Settings that are part of the program, refused where they cannot work."""

import math
from typing import Any


def check_positive(owner: str, name: str, value: Any, example: float) -> None:
    """Refuse what is no finite number > 0."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not 0 < value < math.inf:
        raise ValueError(f"{owner} needs {name} > 0, got {value!r}; write {name}={example}.")


def check_bool(owner: str, name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise TypeError(f"{owner} needs {name}=True or False, got {value!r}; write {name}=True.")
