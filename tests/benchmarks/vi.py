"""The second fit of a session: full-rank VI beside NumPyro's SVI, logistic regression."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal

import infer

D, N, STEPS, REPEATS = 50, 500, 2000, 5


def model(X: Any, y: Any = None) -> None:
    beta = numpyro.sample("beta", dist.Normal(jnp.zeros(X.shape[1]), 1.0).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def data(seed: int) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D)) / np.sqrt(D)
    y = rng.uniform(size=N) < 1 / (1 + np.exp(-X @ rng.standard_normal(D) * 3))
    return jnp.asarray(X, jnp.float32), jnp.asarray(y, jnp.int32)


def ours(seed: int) -> tuple[float, float]:
    """Seconds of the loop, and of the whole fit with target and verdict."""
    X, y = data(seed)
    clock = time.perf_counter()
    target = infer.from_numpyro(model, X, y=y)
    algorithm = infer.VI(
        family=infer.FullRank(),
        optimizer=infer.optimizer(optax.adam, learning_rate=1e-2),
        n_samples=1,
        stopping=None,
    )
    result = infer.fit(target, algorithm, key=seed, steps=STEPS, progress=False)
    whole = time.perf_counter() - clock
    return result.timings.run + result.timings.compile, whole


def numpyros(seed: int) -> float:
    """Seconds of `SVI.run`, which compiles anew at every call."""
    X, y = data(seed)
    svi = SVI(model, AutoMultivariateNormal(model), numpyro.optim.Adam(1e-2), Trace_ELBO())
    clock = time.perf_counter()
    found = svi.run(jax.random.key(seed), STEPS, X, y, progress_bar=False)
    jax.block_until_ready(found.losses)
    return time.perf_counter() - clock


def run() -> list[dict[str, Any]]:
    """Medians of interleaved repeats, the first of each left out."""
    ours(0), numpyros(0)
    pairs = [(ours(s), numpyros(s)) for s in range(1, REPEATS + 1)]
    loop = statistics.median(a[0] for a, _ in pairs)
    whole = statistics.median(a[1] for a, _ in pairs)
    peer = statistics.median(b for _, b in pairs)
    case = f"logistic d={D} N={N}, {STEPS} full-rank steps, second call"
    return [
        {"case": case, "what": "infer, loop", "seconds": loop, "ratio": peer / loop},
        {
            "case": case,
            "what": "infer, whole fit with verdict",
            "seconds": whole,
            "ratio": peer / whole,
        },
        {"case": case, "what": "numpyro SVI.run", "seconds": peer, "ratio": 1.0},
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
