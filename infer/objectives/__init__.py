"""Objectives, the estimators of their gradients, and the one engine that joins them."""

from infer.objectives.bounds import IWAE as IWAE
from infer.objectives.bounds import Renyi as Renyi
from infer.objectives.bounds import ReverseKL as ReverseKL
from infer.objectives.by_site import BySite as BySite
from infer.objectives.combined import Blend as Blend
from infer.objectives.combined import Nothing as Nothing
from infer.objectives.combined import Repeated as Repeated
from infer.objectives.divergences import CUBO as CUBO
from infer.objectives.divergences import ChiSquare as ChiSquare
from infer.objectives.divergences import FDivergence as FDivergence
from infer.objectives.divergences import ForwardKL as ForwardKL
from infer.objectives.divergences import LogVariance as LogVariance
from infer.objectives.divergences import MaximumLikelihood as MaximumLikelihood
from infer.objectives.divergences import TailAdaptive as TailAdaptive
from infer.objectives.engine import estimate as estimate
from infer.objectives.estimator import Annealed as Annealed
from infer.objectives.estimator import Enumerate as Enumerate
from infer.objectives.estimator import Path as Path
from infer.objectives.estimator import Reparam as Reparam
from infer.objectives.estimator import Score as Score
from infer.objectives.estimator import check_pair as check_pair
from infer.objectives.estimator import valid_estimators as valid_estimators
from infer.objectives.objective import AbstractObjective as AbstractObjective
from infer.objectives.objective import Objective as Objective
