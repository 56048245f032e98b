"""Langevin samplers."""

from infer.langevin.mala import MALA as MALA
from infer.langevin.psgld import PSGLD as PSGLD
from infer.langevin.sghmc import SGHMC as SGHMC
from infer.langevin.sgld import SGLD as SGLD
from infer.langevin.sgnht import SGNHT as SGNHT
from infer.langevin.ula import ULA as ULA
