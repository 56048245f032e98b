"""What the path gradient of a flow costs: d = 64; RealNVP, and autoregressive flows.

Time and memory of one gradient of the evidence lower bound in the parameters, by `Reparam`, by
`Path` with the score carried along, and by `Path` with the score from `log_prob`, which inverts
the flow. Run it on its own: `python tests/benchmarks/flows.py`. `run()` is RealNVP, 12 layers, 1024
draws.
"""

import statistics
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import infer
from infer.core.posterior import AbstractDistribution, Draws
from infer.objectives import estimate

D, LAYERS, WIDTH, BATCH, REPEATS = 64, 12, 256, 1024, 9


class ByInversion(AbstractDistribution):
    """A flow whose scores come from its log density: another pass, through every inverse."""

    flow: Any

    def sample_score(self, key: Any, n: int) -> Draws:
        draws = self.flow.sample_score(key, n)  # its own score is unused, hence not computed
        fixed, x = jax.lax.stop_gradient((self.flow, draws.x))
        return Draws(draws.x, draws.log_q, jax.vmap(jax.grad(fixed.log_prob))(x), independent=True)

    def sample(self, key: Any, n: int) -> Any:
        return self.flow.sample(key, n)

    def log_prob(self, x: Any) -> Any:
        return self.flow.log_prob(x)

    def moments(self) -> None:
        return None


def run(family: Any = None, batch: int = BATCH) -> list[dict[str, Any]]:
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(D))
    family = family or infer.RealNVP(n_layers=LAYERS, width=WIDTH)
    first = family.init(jax.random.key(0), jnp.zeros(D))
    leaves, structure = jax.tree.flatten(first)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [0.02 * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)]
    flow = jax.tree.unflatten(structure, [v + e for v, e in zip(leaves, noise, strict=True)])
    ways = {
        "Reparam": (flow, infer.Reparam()),
        "Path": (flow, infer.Path()),
        "Path by inversion": (ByInversion(flow), infer.Path()),
    }
    compiled, gradients, seconds = {}, {}, {name: [] for name in ways}
    for name, (q, estimator) in ways.items():
        parameters, rest = eqx.partition(q, eqx.is_inexact_array)

        def gradient(key: Any, parameters: Any, rest: Any = rest, estimator: Any = estimator):
            q = eqx.combine(parameters, rest)
            return estimate(key, target, q, infer.ReverseKL(), estimator, batch)

        compiled[name] = jax.jit(gradient).lower(jax.random.key(0), parameters).compile()
        gradients[name] = jax.block_until_ready(compiled[name](jax.random.key(2), parameters))[1]
    for i in range(REPEATS):  # in turn, so that a busy machine is busy for all
        for name, (q, _) in ways.items():
            parameters = eqx.filter(q, eqx.is_inexact_array)
            clock = time.perf_counter()
            jax.block_until_ready(compiled[name](jax.random.key(i), parameters))
            seconds[name].append(time.perf_counter() - clock)
    a, b = (jax.tree.leaves(gradients[name]) for name in ("Path", "Path by inversion"))
    gap = max(
        float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(a, b, strict=True) if y.any()
    )
    print(f"the two path gradients differ by at most {gap:.1e} of the largest entry of a leaf")
    rows = []
    for name in ways:
        memory = compiled[name].memory_analysis().temp_size_in_bytes
        rows.append(
            {
                "estimator": name,
                "ms": 1e3 * statistics.median(seconds[name]),
                "fastest, ms": 1e3 * min(seconds[name]),
                "MB": memory / 1e6,
            }
        )
    for row in rows:
        row["time ratio"] = row["ms"] / rows[0]["ms"]
        row["fastest ratio"] = row["fastest, ms"] / rows[0]["fastest, ms"]
        row["memory ratio"] = row["MB"] / rows[0]["MB"]
    return rows


if __name__ == "__main__":
    inverse = infer.AutoregressiveFlow(n_layers=6, width=128)
    masked = infer.AutoregressiveFlow(n_layers=6, width=128, parallel_density=True)
    for settings in ({}, {"family": inverse, "batch": 256}, {"family": masked, "batch": 256}):
        print(settings)
        for row in run(**settings):
            print({k: v if isinstance(v, str) else round(v, 2) for k, v in row.items()})
