"""What latent variables of a model of rows carry."""

import dataclasses
import math

import numpy as np

from infer.references.citation import cites
from infer.references.rows import LUCAS_2019


@dataclasses.dataclass(frozen=True, eq=False)
class Latents:
    """How the latent variables of N rows are used.

    Attributes:
        activity: variance over rows of the posterior mean of each variable, (d,).
        active: how many have an activity above 0.01.
        information: estimate of the mutual information of row and code under q, nats: at most
            log N, which it cannot tell from more.
        marginal_kl: estimate of KL(q(z) || p(z)) of the aggregated posterior, nats: what stands
            between samples of the prior and codes of rows.
        rate: mean KL(q(z | x) || p(z)) = information + marginal_kl, nats.
    """

    activity: np.ndarray
    active: int
    information: float
    marginal_kl: float
    rate: float

    def __str__(self) -> str:
        return (
            f"{self.active} of {len(self.activity)} latent variables active; rate {self.rate:.3g} "
            f"nats = information {self.information:.3g} + KL of the aggregate to the prior "
            f"{self.marginal_kl:.3g}"
        )


THRESHOLD = 0.01


def latent_use(
    means: np.ndarray, log_q: np.ndarray, log_aggregate: np.ndarray, log_prior: np.ndarray
) -> Latents:
    """The use of latent variables from one draw per row.

        information = mean log q(z_i | x_i) - log q(z_i)
        marginal_kl = mean log q(z_i) - log p(z_i)

    with q(z) = (1/N) sum_j q(z | x_j) over the rows themselves.

    Args:
        means: posterior means, (N, d).
        log_q: log q(z_i | x_i) of a draw per row, (N,).
        log_aggregate: log q(z_i), (N,).
        log_prior: log p(z_i), (N,).
    """
    activity = means.var(axis=0)
    information = float(np.mean(log_q - log_aggregate))
    marginal = float(np.mean(log_aggregate - log_prior))
    return Latents(
        activity, int(np.sum(activity > THRESHOLD)), information, marginal, information + marginal
    )


@cites(LUCAS_2019)
def predicted_active(x: np.ndarray, noise: float, latent: int) -> int:
    """How many latent variables a linear model with this noise would use: eigenvalues above it.

    A linear-Gaussian model with variance `noise` of the likelihood (times beta) explains direction
    i of the data by a latent variable if and only if the i-th eigenvalue of their covariance is
    larger. Source: Lucas et al., Don't blame the ELBO!, NeurIPS 2019.

    Args:
        x: rows, (N, D).
        noise: variance of the likelihood per entry, > 0.
        latent: latent variables that there are.
    """
    if not noise > 0 or not math.isfinite(noise):
        raise ValueError(f"noise must be > 0, got {noise}.")
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    values = np.linalg.eigvalsh(np.cov(x, rowvar=False, ddof=0).reshape(x.shape[1], -1))
    return int(min(latent, np.sum(values > noise)))
