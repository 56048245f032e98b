"""Kernels between particles and the sums over all pairs of them."""

from infer.kernels.pairwise import stein_force as stein_force
from infer.kernels.radial import IMQ as IMQ
from infer.kernels.radial import RBF as RBF
from infer.kernels.radial import AbstractRadialKernel as AbstractRadialKernel
from infer.kernels.radial import Median as Median
from infer.kernels.radial import median_bandwidth as median_bandwidth
from infer.kernels.riesz import Riesz as Riesz
