"""Marks of parameters."""

import pytest


def slow(*cases):
    """Parameters that only `make reproduce` runs: a check that quick ones make as well."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]
