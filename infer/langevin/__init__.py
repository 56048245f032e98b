"""Langevin samplers."""

from infer.langevin.bregman import BregmanProximalLangevin as BregmanProximalLangevin
from infer.langevin.mala import MALA as MALA
from infer.langevin.mirror import MirrorLangevin as MirrorLangevin
from infer.langevin.mirror_mala import MirrorMALA as MirrorMALA
from infer.langevin.mymala import MYMALA as MYMALA
from infer.langevin.myula import MYULA as MYULA
from infer.langevin.pgla import PGLA as PGLA
from infer.langevin.presets import MirroredLangevin as MirroredLangevin
from infer.langevin.presets import MultiplicativeLangevin as MultiplicativeLangevin
from infer.langevin.ula import ULA as ULA
