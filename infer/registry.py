"""The algorithms of the package, read from its exports."""

import inspect
import sys

from infer.core.algorithm import AbstractApproximator, AbstractSampler


def algorithms() -> dict[str, type[AbstractSampler] | type[AbstractApproximator]]:
    """Every algorithm that `infer` exports, by name.

    Whoever adds an export adds an algorithm: there is no other list. Presets such as `ADVI`, which
    are functions that make an algorithm, are not among them.

    Returns:
        Classes by name, in the order of the alphabet.
    """
    exports = vars(sys.modules["infer"])
    return {
        name: thing
        for name, thing in sorted(exports.items())
        if isinstance(thing, type)
        and issubclass(thing, AbstractSampler | AbstractApproximator)
        and not inspect.isabstract(thing)
        and name == thing.__name__  # a second name of the same class is no second algorithm
    }
