"""Normalizing flows: layers that carry log determinant and score, and families of them."""

from infer.flows.coupling import Coupling as Coupling
from infer.flows.coupling import SoftAffine as SoftAffine
from infer.flows.flow import Flow as Flow
from infer.flows.layer import AbstractLayer as AbstractLayer
from infer.flows.layer import Chain as Chain
from infer.flows.layer import Stack as Stack
from infer.flows.linear import Elementwise as Elementwise
from infer.flows.linear import Reverse as Reverse
from infer.flows.linear import Triangular as Triangular
from infer.flows.logistic_mixture import LogisticMixture as LogisticMixture
from infer.flows.logistic_mixture_flow import LogisticMixtureFlow as LogisticMixtureFlow
from infer.flows.real_nvp import RealNVP as RealNVP
from infer.flows.spline import RationalQuadratic as RationalQuadratic
from infer.flows.spline_flow import SplineFlow as SplineFlow
