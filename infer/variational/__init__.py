"""Variational inference: a family, an objective, an estimator and an optimizer."""

from infer.variational.vi import ADVI as ADVI
from infer.variational.vi import VI as VI
