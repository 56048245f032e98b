"""Other people's samplers, imported only when asked for."""

from infer.external.hmc import HMC as HMC
from infer.external.nuts import NUTS as NUTS
