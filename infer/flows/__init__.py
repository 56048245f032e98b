"""Normalizing flows: layers that carry log determinant and score, and families of them."""

from infer.flows.autoregressive import Autoregressive as Autoregressive
from infer.flows.autoregressive import autoregressive as autoregressive
from infer.flows.autoregressive_flow import AutoregressiveFlow as AutoregressiveFlow
from infer.flows.coupling import Coupling as Coupling
from infer.flows.coupling import SoftAffine as SoftAffine
from infer.flows.flow import Flow as Flow
from infer.flows.householder import Householder as Householder
from infer.flows.householder import householder as householder
from infer.flows.inverse import Inverse as Inverse
from infer.flows.inverse import push_by_inverse as push_by_inverse
from infer.flows.layer import AbstractLayer as AbstractLayer
from infer.flows.layer import Chain as Chain
from infer.flows.layer import Stack as Stack
from infer.flows.linear import Elementwise as Elementwise
from infer.flows.linear import Reverse as Reverse
from infer.flows.linear import Triangular as Triangular
from infer.flows.made import MaskedPerceptron as MaskedPerceptron
from infer.flows.planar import Planar as Planar
from infer.flows.planar import planar as planar
from infer.flows.radial import Radial as Radial
from infer.flows.radial import radial as radial
from infer.flows.real_nvp import RealNVP as RealNVP
from infer.flows.spline import RationalQuadratic as RationalQuadratic
from infer.flows.spline_flow import SplineFlow as SplineFlow
from infer.flows.stacked_flow import StackedFlow as StackedFlow
from infer.flows.standardize import standardized as standardized
