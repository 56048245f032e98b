"""Langevin samplers."""

from infer.langevin.mala import MALA as MALA
from infer.langevin.mirror import MirrorLangevin as MirrorLangevin
from infer.langevin.mirror_mala import MirrorMALA as MirrorMALA
from infer.langevin.presets import MirroredLangevin as MirroredLangevin
from infer.langevin.presets import MultiplicativeLangevin as MultiplicativeLangevin
from infer.langevin.ula import ULA as ULA
