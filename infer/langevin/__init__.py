"""Langevin samplers."""

from infer.langevin.baoab import BAOAB as BAOAB
from infer.langevin.barker import Barker as Barker
from infer.langevin.klmc import KLMC as KLMC
from infer.langevin.mala import MALA as MALA
from infer.langevin.malt import MALT as MALT
from infer.langevin.obabo import OBABO as OBABO
from infer.langevin.tamed_ula import TamedULA as TamedULA
from infer.langevin.ula import ULA as ULA
