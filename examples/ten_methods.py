"""Ten methods on one posterior, with what each cost, what its verdict says, and the exact answer.

    python examples/ten_methods.py --out docs/images

Sixty biopsies, of which 19 were cancer: logistic regression on radius and area of the nuclei. The
two say nearly the same, so their coefficients are strongly correlated. Three of the ten are used
wrongly on purpose: a family without correlation, a step that is too large, a run that is too short.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import infer

MALA, ULA = infer.MALA(), infer.ULA()
METHODS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    "NUTS": (infer.NUTS(), {}),
    "MALA": (MALA, {}),
    "MALA, 25 draws": (MALA, {"warmup": 0, "steps": 25}),
    "ULA": (ULA, {}),
    "ULA, large step": (infer.ULA(step_size=0.8), {}),
    "SVGD": (infer.SVGD(n_particles=100), {}),
    "Laplace": (infer.Laplace(), {"draws": 4000}),
    "VI, full rank": (infer.VI(family=infer.FullRank()), {"draws": 4000}),
    "VI, mean field": (infer.VI(family=infer.MeanField()), {"draws": 4000}),
}


def data() -> dict[str, np.ndarray]:
    """An intercept, radius and area in standard units; 1 is cancer."""
    patients = load_breast_cancer()
    columns = [list(patients.feature_names).index(name) for name in ("mean radius", "mean area")]
    x = patients.data[:, columns]
    rows = np.random.default_rng(4).choice(len(x), 60, replace=False)
    x = ((x - x.mean(axis=0)) / x.std(axis=0))[rows]
    return {"X": np.column_stack([np.ones(60), x]), "y": 1.0 - patients.target[rows]}


def log_density(params: dict[str, jax.Array], data: dict[str, jax.Array]) -> jax.Array:
    beta = jnp.stack([params["intercept"], params["radius"], params["area"]])
    logit = data["X"] @ beta
    return jnp.sum(data["y"] * logit - jnp.logaddexp(0, logit)) - 0.5 * jnp.sum((beta / 5) ** 2)


def quadrature(target: infer.Target, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations, on a grid along the principal axes of some draws."""
    u = np.linspace(-7, 7, 71)
    grid = np.stack(np.meshgrid(u, u, u, indexing="ij"), axis=-1).reshape(-1, 3)
    z = near.mean(axis=0) + grid @ np.linalg.cholesky(np.cov(near.T)).T
    log_p = np.asarray(jax.jit(jax.vmap(target.log_prob))(jnp.asarray(z, jnp.float32)), float)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    mean = p @ z
    return mean, np.sqrt(p @ (z - mean) ** 2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ten methods on one posterior.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    example = {"intercept": 0.0, "radius": 0.0, "area": 0.0}
    target = infer.from_log_density(log_density, example, data=data())
    results = {
        name: infer.fit(target, method, key=0, progress=False, **options)
        for name, (method, options) in METHODS.items()
    }
    results["full rank, improved"] = infer.improve(results["VI, full rank"], key=1)
    print(infer.compare(results))
    mean, sd = quadrature(target, results["NUTS"].z.reshape(-1, 3))
    print(f"\n{'':20} {'verdict':8} {'largest error of a mean, in sd':>32} {'sd / right':>22}")
    for name, result in results.items():
        z = result.z.reshape(-1, 3)
        error = np.abs((z.mean(axis=0) - mean) / sd).max()
        ratio = "  ".join(f"{r:.2f}" for r in z.std(axis=0) / sd)
        print(f"{name:20} {result.verdict.status:8} {error:32.2f} {ratio:>22}")
    figure = infer.plot_comparison(results)
    figure.set_size_inches(10, 4.5)
    figure.savefig(out / "ten_methods.png", dpi=90)
    plt.close(figure)
    print("saved", out / "ten_methods.png")


if __name__ == "__main__":
    main()
