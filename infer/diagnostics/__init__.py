"""Evidence on the quality of a fit, in NumPy on the host, from draws, scores and weights.

And of a latent-variable model: bounds on its log evidence, row by row, computed where JAX is.
"""

from infer.diagnostics.annealed_evidence import AnnealedEvidence as AnnealedEvidence
from infer.diagnostics.annealed_evidence import Sandwich as Sandwich
from infer.diagnostics.annealed_evidence import annealed_evidence as annealed_evidence
from infer.diagnostics.annealed_evidence import sandwich as sandwich
from infer.diagnostics.annealing import AbstractTransition as AbstractTransition
from infer.diagnostics.annealing import Hamiltonian as Hamiltonian
from infer.diagnostics.annealing import sigmoid_levels as sigmoid_levels
from infer.diagnostics.chains import ebfmi as ebfmi
from infer.diagnostics.chains import ess_bulk as ess_bulk
from infer.diagnostics.chains import ess_mean as ess_mean
from infer.diagnostics.chains import ess_tail as ess_tail
from infer.diagnostics.chains import nested_rhat as nested_rhat
from infer.diagnostics.chains import nested_rhat_limit as nested_rhat_limit
from infer.diagnostics.chains import rhat as rhat
from infer.diagnostics.classifier import linear_accuracy as linear_accuracy
from infer.diagnostics.classifier import neighbor_accuracy as neighbor_accuracy
from infer.diagnostics.distances import sliced_wasserstein as sliced_wasserstein
from infer.diagnostics.distances import sliced_wasserstein_floor as sliced_wasserstein_floor
from infer.diagnostics.distances import sliced_wasserstein_squared as sliced_wasserstein_squared
from infer.diagnostics.energy import energy_distance as energy_distance
from infer.diagnostics.energy import energy_distance_floor as energy_distance_floor
from infer.diagnostics.equipartition import Equipartition as Equipartition
from infer.diagnostics.equipartition import equipartition as equipartition
from infer.diagnostics.evidence_bounds import ImportanceEvidence as ImportanceEvidence
from infer.diagnostics.evidence_bounds import importance_evidence as importance_evidence
from infer.diagnostics.frechet import frechet_distance as frechet_distance
from infer.diagnostics.groups import widest_gap as widest_gap
from infer.diagnostics.ksd import ksd as ksd
from infer.diagnostics.ksd import ksd_floor as ksd_floor
from infer.diagnostics.ksd import ksd_squared as ksd_squared
from infer.diagnostics.latents import Latents as Latents
from infer.diagnostics.latents import predicted_active as predicted_active
from infer.diagnostics.mmd import mmd as mmd
from infer.diagnostics.mmd import mmd_floor as mmd_floor
from infer.diagnostics.mmd import mmd_squared as mmd_squared
from infer.diagnostics.mmd_test import median_distance as median_distance
from infer.diagnostics.mmd_test import mmd_test as mmd_test
from infer.diagnostics.neighbors import NeighborScores as NeighborScores
from infer.diagnostics.neighbors import nearest_distance as nearest_distance
from infer.diagnostics.neighbors import neighbor_scores as neighbor_scores
from infer.diagnostics.pareto import kl_gap as kl_gap
from infer.diagnostics.pareto import pareto_k as pareto_k
from infer.diagnostics.pareto import pareto_khat as pareto_khat
from infer.diagnostics.rows import Shared as Shared
from infer.diagnostics.score import ScoreRegression as ScoreRegression
from infer.diagnostics.score import score_regression as score_regression
from infer.diagnostics.variance import VarianceRatio as VarianceRatio
from infer.diagnostics.variance import variance_ratio as variance_ratio
from infer.diagnostics.variance import variance_ratio_floor as variance_ratio_floor
