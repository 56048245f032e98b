"""Evidence on the quality of a fit, in NumPy on the host, from draws, scores and weights."""

from infer.diagnostics.chains import ebfmi as ebfmi
from infer.diagnostics.chains import ess_bulk as ess_bulk
from infer.diagnostics.chains import ess_mean as ess_mean
from infer.diagnostics.chains import ess_tail as ess_tail
from infer.diagnostics.chains import rhat as rhat
from infer.diagnostics.distances import sliced_wasserstein as sliced_wasserstein
from infer.diagnostics.distances import sliced_wasserstein_floor as sliced_wasserstein_floor
from infer.diagnostics.pareto import kl_gap as kl_gap
from infer.diagnostics.pareto import pareto_k as pareto_k
from infer.diagnostics.pareto import pareto_khat as pareto_khat
from infer.diagnostics.score import ScoreRegression as ScoreRegression
from infer.diagnostics.score import score_regression as score_regression
