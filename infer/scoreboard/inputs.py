"""From the data of posteriordb to the arguments of our models.

A column is a function of the data set; `linear` makes a regression of some of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Data = Mapping[str, Any]
Column = Callable[[Data], np.ndarray]


def array(data: Data, name: str) -> np.ndarray:
    """A data array in float64."""
    return np.asarray(data[name], float)


def number(data: Data, name: str) -> float:
    """A scalar; the database stores some as lists of one."""
    return float(array(data, name).reshape(()))


def arrays(*names: str) -> Callable[[Data], tuple]:
    """These arrays, in this order."""
    return lambda data: tuple(array(data, name) for name in names)


def value(name: str) -> Column:
    """A covariate as it is."""
    return lambda data: array(data, name)


def log(*names: str) -> Column:
    """The log of the product of covariates."""
    return lambda data: np.sum([np.log(array(data, name)) for name in names], axis=0)


def log10(name: str) -> Column:
    """The logarithm to base 10."""
    return lambda data: np.log10(array(data, name))


def minus(first: Column, second: Column) -> Column:
    """The difference of two columns."""
    return lambda data: first(data) - second(data)


def times(first: Column, second: Column) -> Column:
    """The product of two columns, their interaction."""
    return lambda data: first(data) * second(data)


def equal(name: str, level: int) -> Column:
    """One where a covariate has this level, else zero."""
    return lambda data: (array(data, name) == level).astype(float)


def from_mean(column: Column) -> Column:
    """A column minus its mean."""
    return lambda data: column(data) - column(data).mean()


def shifted(column: Column, by: float) -> Column:
    """A column minus a number."""
    return lambda data: column(data) - by


def in_sds(column: Column, n: float | int = 1) -> Column:
    """A column minus its mean, in units of n sample standard deviations."""
    return lambda data: from_mean(column)(data) / (n * column(data).std(ddof=1))


def linear(y: Column, *columns: Column) -> Callable[[Data], tuple]:
    """The matrix of these columns after one of ones, and the response."""

    def make(data: Data) -> tuple:
        response = y(data)
        return np.column_stack([np.ones(len(response)), *(c(data) for c in columns)]), response

    return make


def lagged(data: Data) -> tuple:
    """A series of which every value has K others before it, and these."""
    y, lags = array(data, "y"), int(number(data, "K"))
    before = [y[lags - k : len(y) - k] for k in range(1, lags + 1)]
    return np.column_stack(before), y[lags:]


def garch(data: Data) -> tuple:
    """The series and its first sd."""
    return array(data, "y"), number(data, "sigma1")


def kilpisjarvi(data: Data) -> tuple:
    """Covariate, response, and mean and sd of two priors."""
    priors = [
        np.array([number(data, f"pmu{name}"), number(data, f"ps{name}")])
        for name in ("alpha", "beta")
    ]
    return array(data, "x"), array(data, "y"), *priors


def dogs(data: Data) -> tuple:
    """Per dog and trial a one, the avoidances and the shocks before it; and whether shocked."""
    y = array(data, "y")
    shocks = np.cumsum(y, axis=1) - y
    avoided = np.cumsum(1 - y, axis=1) - (1 - y)
    columns = [np.ones(y.size), avoided.ravel(), shocks.ravel()]
    return np.column_stack(columns), y.ravel()


def diamonds(data: Data) -> tuple:
    """The columns after the first, minus their means, and the response."""
    columns = array(data, "X")[:, 1:]
    return columns - columns.mean(axis=0), array(data, "Y")
