"""Optimizers: any of optax with its hyper-parameters as data, and the coin, which needs none."""

from infer.optimizers.coin import coin as coin
from infer.optimizers.optimizer import Optimizer as Optimizer
from infer.optimizers.optimizer import optimizer as optimizer
