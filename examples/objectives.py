"""One Gaussian, one posterior, six objectives: what each of them makes of two modes.

python examples/objectives.py [--out FOLDER]
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import infer

CENTERS = np.array([[-1.5, -1.0], [1.8, 1.2]])
WEIGHTS = np.array([0.35, 0.65])


def log_density(z: jax.Array) -> jax.Array:
    """Two normals, the one on the left wider."""
    gaps = z - CENTERS
    scales = np.array([1.0, 0.7])
    square = jnp.sum(gaps**2, axis=1) / scales**2
    return jax.nn.logsumexp(-0.5 * square, b=WEIGHTS / (2 * np.pi * scales**2))


def main() -> None:
    parser = argparse.ArgumentParser(description="What objectives make of two modes.")
    parser.add_argument("--out", default="examples/figures")
    out = Path(parser.parse_args().out)
    target = infer.from_log_density(log_density, jnp.zeros(2))
    objectives = {
        "ReverseKL()": infer.ReverseKL(),
        "Renyi(0.5)": infer.Renyi(0.5),
        "TailAdaptive()": infer.TailAdaptive(),
        "IWAE(), 32 draws": infer.IWAE(),
        "ForwardKL()": infer.ForwardKL(),
        "ChiSquare()": infer.ChiSquare(),
    }
    results = {}
    for name, objective in objectives.items():
        method = infer.VI(
            family=infer.FullRank(scale=1.0),
            objective=objective,
            estimator=infer.Path(),
            n_samples=32,
        )
        results[name] = infer.fit(target, method, key=0, steps=3000, init={"x": np.ones(2)})

    # The verdict sees the draws, and where a fit has none it is blind; this looks for other modes.
    blind = results["ReverseKL()"]
    examined = blind.examine(key=1)

    grid = np.linspace(-5, 5, 200)
    x, y = np.meshgrid(grid, grid)
    density = np.exp(jax.vmap(log_density)(jnp.stack([x.ravel(), y.ravel()], axis=1)))
    angles = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    shared = {"sharex": True, "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), **shared)
    for ax, (name, result) in zip(axes.flat, results.items(), strict=True):
        ax.contourf(x, y, density.reshape(x.shape), levels=8, cmap="Greys", alpha=0.7)
        q = result.posterior
        for radius in (1, 2):
            outline = np.asarray(q.mean)[:, None] + radius * np.asarray(q.factor) @ circle
            ax.plot(*outline, color="#D55E00", linewidth=1.5)
        bound = next(e.value for e in result.verdict.evidence if e.name == "ELBO")
        status = result.verdict.status
        if result is blind:
            status += f", examined: {examined.status}"
        ax.set_title(f"{name}\n{status}, ELBO {bound:.2f}", fontsize=10)
        ax.set_aspect("equal")
        ax.set(xlim=(-5, 5), ylim=(-5, 5), xticks=(-4, 0, 4), yticks=(-4, 0, 4))
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "objectives.png", dpi=110)
    print(f"{'objective':18} {'verdict':8} {'sd of x0':>9} {'sd of x1':>9}")
    print(f"{'posterior':18} {'':8} {1.77:9.2f} {1.33:9.2f}")
    for name, result in results.items():
        sd = np.sqrt(np.diagonal(result.posterior.covariance))
        print(f"{name:18} {result.verdict.status:8} {sd[0]:9.2f} {sd[1]:9.2f}")
    print("\nReverseKL(), examined:")
    print(examined)


if __name__ == "__main__":
    main()
