"""Langevin samplers."""

from infer.langevin.baoab import BAOAB as BAOAB
from infer.langevin.barker import Barker as Barker
from infer.langevin.bregman import BregmanProximalLangevin as BregmanProximalLangevin
from infer.langevin.bregman_pgla import BregmanPGLA as BregmanPGLA
from infer.langevin.klmc import KLMC as KLMC
from infer.langevin.mala import MALA as MALA
from infer.langevin.malt import MALT as MALT
from infer.langevin.mirror import MirrorLangevin as MirrorLangevin
from infer.langevin.mirror_mala import MirrorMALA as MirrorMALA
from infer.langevin.mymala import MYMALA as MYMALA
from infer.langevin.myula import MYULA as MYULA
from infer.langevin.obabo import OBABO as OBABO
from infer.langevin.pgla import PGLA as PGLA
from infer.langevin.presets import MirroredLangevin as MirroredLangevin
from infer.langevin.presets import MultiplicativeLangevin as MultiplicativeLangevin
from infer.langevin.psgld import PSGLD as PSGLD
from infer.langevin.sghmc import SGHMC as SGHMC
from infer.langevin.sgld import SGLD as SGLD
from infer.langevin.sgnht import SGNHT as SGNHT
from infer.langevin.skrock import SKROCK as SKROCK
from infer.langevin.structured import StructuredSGMCMC as StructuredSGMCMC
from infer.langevin.tamed_ula import TamedULA as TamedULA
from infer.langevin.ula import ULA as ULA
