"""Langevin samplers."""

from infer.langevin.mala import MALA as MALA
from infer.langevin.ula import ULA as ULA
