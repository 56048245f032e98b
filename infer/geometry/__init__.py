"""Scales of a posterior and how warm-up learns them."""

from infer.geometry.scale import Dense as Dense
from infer.geometry.scale import Diagonal as Diagonal
from infer.geometry.scale import Fixed as Fixed
from infer.geometry.scale import Scale as Scale
from infer.geometry.warmup import Tuning as Tuning
from infer.geometry.warmup import calmness as calmness
from infer.geometry.warmup import settled as settled
from infer.geometry.warmup import tune as tune
from infer.geometry.warmup import untuned as untuned
