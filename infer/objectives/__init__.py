"""Objectives, the estimators of their gradients, and the one engine that joins them."""

from infer.objectives.engine import estimate as estimate
from infer.objectives.estimator import Path as Path
from infer.objectives.estimator import Reparam as Reparam
from infer.objectives.objective import ReverseKL as ReverseKL
