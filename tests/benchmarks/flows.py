"""What the path gradient of a flow costs: d = 64, 12 layers, width 256, 1024 draws.

Time, memory and operations of one gradient of the evidence lower bound in the parameters, by
`Reparam`, by `Path` with the score carried along, and by `Path` with the score from `log_prob`,
which inverts the flow. Run it on its own: `python tests/benchmarks/flows.py`.
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
from infer.flows import LogisticMixture
from infer.flows.coupling import AbstractTransform
from infer.flows.flow import coupling_flow, placed
from infer.objectives import estimate

D, LAYERS, WIDTH, BATCH, REPEATS = 64, 12, 256, 1024, 5
NOTE = f"""One gradient of the evidence lower bound, d = {D}, {LAYERS} layers, width {WIDTH},
{BATCH} draws, float32; {REPEATS} interleaved repeats. "Published": forward, inverse and forward
again, the algorithm that the path gradient came with. Ratios are to `Reparam`; MB is what the
compiled program asks for besides its arguments; operations are the compiler's count, loops counted
once, so that one trip alone of a search for an inverse is in it."""


class ByInversion(AbstractDistribution):
    """A flow whose scores come from its log density: another pass, through every inverse."""

    flow: Any
    again: bool = eqx.field(static=True, default=False)

    def sample_score(self, key: Any, n: int) -> Draws:
        draws = self.flow.sample_score(key, n)  # its own score is unused, hence not computed
        fixed = jax.lax.stop_gradient(self.flow)
        x = jax.lax.stop_gradient(draws.x)
        if self.again:  # behind a barrier, or the compiler would merge both passes forward
            x = jax.lax.optimization_barrier(fixed).sample(key, n)
        return Draws(draws.x, draws.log_q, jax.vmap(jax.grad(fixed.log_prob))(x), independent=True)

    def sample(self, key: Any, n: int) -> Any:
        return self.flow.sample(key, n)

    def log_prob(self, x: Any) -> Any:
        return self.flow.log_prob(x)

    def moments(self) -> None:
        return None


class Bisected(AbstractTransform):
    """Inverted by bisection of (-100, 100) to 1e-5, differentiated by one step of Newton's."""

    mixture: LogisticMixture

    @property
    def settings(self) -> int:
        return self.mixture.settings

    def forward(self, t: Any, h: Any) -> Any:
        return self.mixture.forward(t, h)

    def inverse(self, y: Any, h: Any) -> Any:
        far = jnp.full_like(y, 100.0)

        def halve(ends: Any) -> Any:
            t = (ends[0] + ends[1]) / 2
            low = self.forward(t, jax.lax.stop_gradient(h))[0] < y
            return jnp.where(low, t, ends[0]), jnp.where(low, ends[1], t)

        def wide(ends: Any) -> Any:
            return jnp.any(ends[1] - ends[0] > 1e-5 * jnp.maximum(1, jnp.abs(ends[0])))

        ends = jax.lax.while_loop(wide, halve, (-far, far))
        t = (ends[0] + ends[1]) / 2
        value, log_slope = self.forward(t, h)
        t = t - (value - y) * jnp.exp(-jax.lax.stop_gradient(log_slope))
        return t, -self.forward(t, h)[1]


def perturbed(flow: Any) -> Any:
    leaves, structure = jax.tree.flatten(flow)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [0.02 * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, [v + e for v, e in zip(leaves, noise, strict=True)])


def flows() -> dict[str, dict[str, Any]]:
    """Per family the ways to a gradient: a distribution and an estimator."""
    key, start = jax.random.key(0), jnp.zeros(D)
    sizes = {"n_layers": LAYERS, "width": WIDTH}
    found: dict[str, dict[str, Any]] = {}
    for family in (infer.RealNVP, infer.SplineFlow, infer.LogisticMixtureFlow):
        flow = perturbed(family(**sizes).init(key, start))
        found[family.__name__] = {
            "Reparam": (flow, infer.Reparam()),
            "Path, score carried along": (flow, infer.Path()),
            "Path, by inversion": (ByInversion(flow), infer.Path()),
            "Path, published": (ByInversion(flow, again=True), infer.Path()),
        }
    transform, place = Bisected(LogisticMixture()), placed(start, jnp.asarray(0.1), None)
    flow = perturbed(coupling_flow(key, place, transform, LAYERS, WIDTH, 2, False))
    mixture = found["LogisticMixtureFlow"]
    mixture["Path, by bisection"] = (ByInversion(flow), infer.Path())
    mixture["Path, published, by bisection"] = (ByInversion(flow, again=True), infer.Path())
    return found


def rows_of(name: str, ways: dict[str, Any]) -> list[dict[str, Any]]:
    target = infer.from_log_density(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(D))
    compiled, gradients, seconds = {}, {}, {way: [] for way in ways}
    for way, (q, estimator) in ways.items():
        parameters, rest = eqx.partition(q, eqx.is_inexact_array)

        def gradient(key: Any, parameters: Any, rest: Any = rest, estimator: Any = estimator):
            q = eqx.combine(parameters, rest)
            return estimate(key, target, q, infer.ReverseKL(), estimator, BATCH)

        compiled[way] = jax.jit(gradient).lower(jax.random.key(0), parameters).compile()
        gradients[way] = jax.block_until_ready(compiled[way](jax.random.key(2), parameters))[1]
    for i in range(REPEATS):  # in turn, so that a busy machine is busy for all
        for way, (q, _) in ways.items():
            parameters = eqx.filter(q, eqx.is_inexact_array)
            clock = time.perf_counter()
            jax.block_until_ready(compiled[way](jax.random.key(i), parameters))
            seconds[way].append(time.perf_counter() - clock)
    rows: list[dict[str, Any]] = []
    for way in ways:
        counted = compiled[way].cost_analysis()
        rows.append(
            {
                "table": name,
                "estimator": way,
                "median ms": 1e3 * statistics.median(seconds[way]),
                "fastest ms": 1e3 * min(seconds[way]),
                "MB": compiled[way].memory_analysis().temp_size_in_bytes / 1e6,
                "operations, 1e9": counted["flops"] / 1e9,
                "traffic, GB": counted["bytes accessed"] / 1e9,
            }
        )
    for row in rows:
        for column in ("median ms", "fastest ms", "MB", "operations, 1e9"):
            row[f"ratio, {column.split(',')[0]}"] = row[column] / rows[0][column]
    expected = jax.tree.leaves(gradients["Path, score carried along"])
    for way in ways:
        if way.startswith("Path, "):
            pairs = zip(jax.tree.leaves(gradients[way]), expected, strict=True)
            gap = max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in pairs if y.any())
            print(f"{name}, {way}: off by at most {gap:.1e} of the largest entry of a leaf")
    return rows


def run() -> list[dict[str, Any]]:
    return [row for name, ways in flows().items() for row in rows_of(name, ways)]


if __name__ == "__main__":
    for name, ways in flows().items():
        for row in rows_of(name, ways):
            print({k: v if isinstance(v, str) else round(v, 2) for k, v in row.items()}, flush=True)
