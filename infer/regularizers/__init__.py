"""Penalties on the latent draws of an amortized fit, to be added to its loss."""

from infer.regularizers.aggregate import AggregateGaussianKL as AggregateGaussianKL
from infer.regularizers.kl import KL as KL
from infer.regularizers.mmd import MMD as MMD
from infer.regularizers.mmd import AbstractMixtureKernel as AbstractMixtureKernel
from infer.regularizers.mmd import IMQMixture as IMQMixture
from infer.regularizers.mmd import RBFMixture as RBFMixture
from infer.regularizers.regularizer import AbstractRegularizer as AbstractRegularizer
from infer.regularizers.regularizer import Batch as Batch
from infer.regularizers.sleep import Sleep as Sleep
from infer.regularizers.sliced import SlicedWasserstein as SlicedWasserstein
from infer.regularizers.total_correlation import TotalCorrelation as TotalCorrelation
from infer.regularizers.wasserstein import W2ToPrior as W2ToPrior
