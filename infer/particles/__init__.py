"""Particle methods: a set of points that moves as a whole."""

from infer.particles.annealed import AnnealedSVGD as AnnealedSVGD
from infer.particles.annealed import cyclic_annealing as cyclic_annealing
from infer.particles.annealed import tanh_annealing as tanh_annealing
from infer.particles.blob import Blob as Blob
from infer.particles.gfsd import GFSD as GFSD
from infer.particles.gfsf import GFSF as GFSF
from infer.particles.graphical import GraphicalSVGD as GraphicalSVGD
from infer.particles.grassmann import GrassmannSVGD as GrassmannSVGD
from infer.particles.ksdd import KSDD as KSDD
from infer.particles.lawgd import LAWGD as LAWGD
from infer.particles.matrix import MatrixSVGD as MatrixSVGD
from infer.particles.mied import MIED as MIED
from infer.particles.mixture import MixtureSVGD as MixtureSVGD
from infer.particles.msvgd import MSVGD as MSVGD
from infer.particles.noisy import NoisySVGD as NoisySVGD
from infer.particles.random_batch import RandomBatchSVGD as RandomBatchSVGD
from infer.particles.sliced import SlicedSVGD as SlicedSVGD
from infer.particles.svgd import SVGD as SVGD
from infer.particles.svmd import SVMD as SVMD
from infer.particles.svn import SVN as SVN
from infer.particles.svng import SVNG as SVNG
