"""Checks and timings on a GPU, from a plain checkout: `make gpu`.

Needs only jax, equinox, optax, numpyro and rich. Where there is no GPU it says so and ends well.
"""

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import infer
from infer.kernels.pairwise import stein_force

D = 10


def gaussian(params: jax.Array, data: tuple[jax.Array, jax.Array]) -> jax.Array:
    mean, precision = data
    centered = params - mean
    return -0.5 * centered @ precision @ centered


def truth(d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    factor = np.eye(d) + 0.3 * rng.standard_normal((d, d))
    return rng.standard_normal(d), factor @ factor.T


def recovers(algorithm: Any, **options: Any) -> tuple[bool, str]:
    """Does a fit on this device find a known Gaussian, and say so?"""
    mean, covariance = truth(D)
    data = (jnp.asarray(mean), jnp.asarray(np.linalg.inv(covariance)))
    target = infer.from_log_density(gaussian, jnp.zeros(D), data=data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so small a model is slow on a GPU
        result = infer.fit(target, algorithm, key=0, progress=False, **options)
    z = result.z.reshape(-1, D)
    sd = np.sqrt(np.diag(covariance))
    shift = np.max(np.abs(z.mean(axis=0) - mean) / sd)
    ratio = np.max(np.abs(np.log(z.std(axis=0) / sd)))
    ok = bool(shift < 0.3 and ratio < np.log(1.3) and result.verdict.status != "failed")
    text = f"shift {shift:.3f} sd, log sd ratio {ratio:.3f}, {result.verdict.status}"
    return ok, f"{text}, {result.timings.run:.2f} s"


def force_is_precise() -> tuple[bool, str]:
    """The Stein force of far off-centre float32 particles, against float64 on the host."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, 20)) + 1000).astype(np.float32)
    score = rng.standard_normal((300, 20)).astype(np.float32)
    found = np.asarray(stein_force(jnp.asarray(x), jnp.asarray(score), infer.RBF(bandwidth=20.0)))
    wide = x.astype(np.float64)
    squares = ((wide[:, None] - wide[None]) ** 2).sum(-1)
    k = np.exp(-squares / 20.0)
    exact = (k @ score + 2 / 20.0 * (k.sum(1)[:, None] * wide - k @ wide)) / len(x)
    error = float(np.max(np.abs(found - exact)) / np.max(np.abs(exact)))
    return error < 1e-4, f"largest error {error:.1e} of the largest force (offset 1000, float32)"


def checks() -> dict[str, Callable[[], tuple[bool, str]]]:
    """What to check, by name."""
    dense = infer.Dense()
    return {
        "VI": lambda: recovers(infer.VI()),
        "SVGD": lambda: recovers(infer.SVGD(n_particles=1000)),
        "MALA": lambda: recovers(infer.MALA(preconditioner=dense)),
        "ULA": lambda: recovers(infer.ULA(preconditioner=dense)),
        "Stein force": force_is_precise,
    }


def time_steps(n: int, d: int, steps: int = 50) -> float:
    """Milliseconds per SVGD step."""
    target = infer.from_log_density(gaussian, jnp.zeros(d), data=(jnp.zeros(d), jnp.eye(d)))
    algorithm = infer.SVGD(n_particles=n)
    key = jax.random.key(0)
    step = jax.jit(lambda key, state: algorithm.step(key, target, state)[0])
    state = jax.block_until_ready(step(key, algorithm.init(key, target.at(jnp.zeros(d)))))
    clock = time.perf_counter()
    for _ in range(steps):
        state = step(key, state)
    jax.block_until_ready(state)
    return (time.perf_counter() - clock) / steps * 1e3


def main() -> int:
    device = jax.devices()[0]
    print(f"jax {jax.__version__} on {device.platform}: {device.device_kind}")
    if device.platform != "gpu":
        print(
            "no GPU here: nothing to check (install jax[cuda12] or jax[cuda13] where there is one)"
        )
        return 0
    failed = 0
    for name, check in checks().items():
        ok, text = check()
        failed += not ok
        print(f"{'ok    ' if ok else 'FAILED'} {name}: {text}")
    for n, d in ((1000, 100), (4000, 50), (20_000, 50), (50_000, 20)):
        print(f"SVGD step n={n} d={d}: {time_steps(n, d):.3f} ms")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
