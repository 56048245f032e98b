"""Families of distributions to approximate a posterior with."""

from infer.families.bent import BentGaussian as BentGaussian
from infer.families.gaussian import CholeskyGaussian as CholeskyGaussian
from infer.families.gaussian import DenseGaussian as DenseGaussian
from infer.families.gaussian import DiagonalGaussian as DiagonalGaussian
from infer.families.gaussian import FullRank as FullRank
from infer.families.gaussian import MeanField as MeanField
from infer.families.low_rank import LowRank as LowRank
from infer.families.low_rank import LowRankGaussian as LowRankGaussian
from infer.families.mixture import Mixture as Mixture
from infer.families.mixture import MixtureDistribution as MixtureDistribution
from infer.families.product import Product as Product
from infer.families.product import ProductDistribution as ProductDistribution
from infer.families.rejection import RejectionDistribution as RejectionDistribution
from infer.families.rejection import RejectionSampled as RejectionSampled
from infer.families.student_t import StudentT as StudentT
from infer.families.student_t import StudentTDistribution as StudentTDistribution
