"""Coin betting: an optimizer without a learning rate."""

import optax
import optax.contrib

from infer.optimizers.optimizer import Optimizer, optimizer
from infer.references.citation import cites
from infer.references.variational import ORABONA_2017, SHARROCK_2023

cites(SHARROCK_2023, ORABONA_2017)(optax.contrib.cocob)  # what `coin` makes holds the factory


@cites(SHARROCK_2023, ORABONA_2017)
def coin(alpha: float = 0.0) -> Optimizer:
    """Coin betting (COCOB): steps of the right size with no learning rate to choose.

    Per coordinate, with c_t the negative gradient of what is minimized and L_0 = 1e-10:

        L_t = max(L_{t-1}, |c_t|)                          largest outcome seen
        G_t = G_{t-1} + |c_t|,   C_t = C_{t-1} + c_t       sum of sizes, sum of outcomes
        R_t = max(R_{t-1} + c_t (x_{t-1} - x_0), 0)        what betting has won
        x_t = x_0 + C_t (L_t + R_t) / (L_t max(G_t + L_t, alpha L_t))

    Rescaling a coordinate's gradient changes nothing. The first step is half a unit whatever the
    gradient and whatever the scale of the coordinate (alpha = 0; 1 / alpha units for alpha > 2):
    where the posterior is much narrower than that, use it on a standardized scale or set alpha.
    Costs five arrays of the size of the parameters. L_t never falls, so gradient noise early on
    slows the rest of the run; alpha matters for rough targets such as neural networks, for which
    the authors take alpha = 100.

    Args:
        alpha: damping of the first steps, >= 0, in units of the largest gradient.

    Returns:
        An `Optimizer`; it stands wherever an optax transformation does.

    Source: Sharrock and Nemeth, Coin sampling: gradient-based Bayesian inference without learning
    rates, ICML 2023; the recursion is Orabona and Tommasi, NeurIPS 2017.
    """
    return optimizer(optax.contrib.cocob, learning_rate=1.0, alpha=alpha, eps=1e-10)
