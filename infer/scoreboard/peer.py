"""NumPyro's own NUTS on the same posteriors, for a comparison of seconds in the same run."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro.infer import MCMC
from numpyro.infer import NUTS as PeerNUTS

from infer.core.keys import as_key
from infer.core.target import Target
from infer.run.checkpoint import origin
from infer.scoreboard.record import Settings

NAME = "NumPyro NUTS"
CHAINS, WARMUP, DRAWS = 4, 1000, 1000
RUNS = 3  # of which the median is the time
BUDGETS = 3  # no further run begins after so many budgets


@dataclasses.dataclass(frozen=True)
class PeerRun:
    """What a run of another library gave.

    Attributes:
        z: draws (chains, draws, d) on the unconstrained scale of the target.
        gradients: of the recorded steps; those of the warm-up are not told.
        compile_seconds: of tracing and compiling.
        seconds: median of the runs, warm-up included.
        made: date, versions and platform.
    """

    z: np.ndarray
    gradients: int
    compile_seconds: float
    seconds: float
    made: dict[str, str]


def run(model: Callable[..., Any], arguments: tuple, target: Target, settings: Settings) -> PeerRun:
    """NumPyro's NUTS under its default settings, 4 chains of 1000 + 1000 steps, vectorized.

    The whole run is one compiled function, since `MCMC.run` called again compiles again; it is
    then run three times with three keys, or fewer where these would take longer than three budgets.

    Args:
        model: a NumPyro model.
        arguments: its arguments.
        target: the same posterior, for its coordinates.
        settings: the key and the budget.
    """

    def whole(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        mcmc = MCMC(
            PeerNUTS(model),
            num_warmup=WARMUP,
            num_samples=DRAWS,
            num_chains=CHAINS,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.run(key, *arguments, extra_fields=("num_steps",))
        return mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields()["num_steps"]

    arguments = jax.tree.map(jnp.asarray, arguments)  # as `infer.from_numpyro` does
    clock = time.perf_counter()
    compiled = jax.jit(whole).lower(as_key(settings.key)).compile()
    compile_seconds = time.perf_counter() - clock

    def timed(number: int) -> tuple[float, Any]:
        clock = time.perf_counter()
        found = jax.block_until_ready(compiled(as_key(settings.key + number)))
        return time.perf_counter() - clock, found

    first, (samples, leaps) = timed(0)
    seconds = [first]
    while len(seconds) < RUNS and sum(seconds) < BUDGETS * settings.budget:
        seconds.append(timed(len(seconds))[0])
    latent = {site.name: samples[site.name] for site in target.sites}
    z = jax.jit(jax.vmap(jax.vmap(target.unconstrain)))(latent)
    return PeerRun(
        np.asarray(z),
        int(np.sum(leaps)),
        compile_seconds,
        statistics.median(seconds),
        origin() | {"numpyro": numpyro.__version__},
    )
