"""Families of distributions to approximate a posterior with."""

from infer.families.bent import BentGaussian as BentGaussian
from infer.families.gaussian import CholeskyGaussian as CholeskyGaussian
from infer.families.gaussian import DenseGaussian as DenseGaussian
from infer.families.gaussian import DiagonalGaussian as DiagonalGaussian
from infer.families.gaussian import FullRank as FullRank
from infer.families.gaussian import MeanField as MeanField
from infer.families.low_rank import LowRank as LowRank
from infer.families.low_rank import LowRankGaussian as LowRankGaussian
