"""Other people's samplers, imported only when asked for."""

from infer.external.adjusted_mclmc import AdjustedMCLMC as AdjustedMCLMC
from infer.external.elliptical_slice import EllipticalSlice as EllipticalSlice
from infer.external.ghmc import GHMC as GHMC
from infer.external.hmc import HMC as HMC
from infer.external.mclmc import MCLMC as MCLMC
from infer.external.nuts import NUTS as NUTS
from infer.external.slice_sampling import SliceSampling as SliceSampling
from infer.external.tempered_smc import TemperedSMC as TemperedSMC
