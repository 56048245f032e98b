"""A bent posterior: a Gaussian, a flow, and the exact answer by quadrature.

    python examples/flow_vi.py --out docs/images

Biochemical oxygen demand of water, y = demand (1 - exp(-rate day)), in mg / l: six published
measurements (Bates and Watts, 1988), of which the last two are held out. Four days cannot tell a
large demand that is met slowly from a small one that is met at once: the posterior is a banana.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.scipy.stats import norm

import infer

DAY = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
OXYGEN = np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])
STEPS = 4000
SETTINGS = {
    "Gaussian": infer.VI(family=infer.FullRank()),
    "RealNVP": infer.VI(
        family=infer.RealNVP(n_layers=6, width=16, scale=0.3),
        estimator=infer.Path(),
        optimizer=infer.optimizer(
            optax.adam, learning_rate=optax.cosine_decay_schedule(0.01, STEPS)
        ),
        n_samples=64,
        stopping=None,
    ),
}
COLORS = {"Gaussian": ("#D55E00", ":"), "RealNVP": ("#0072B2", "--")}


def log_density(params: dict[str, jax.Array], data: dict[str, jax.Array]) -> jax.Array:
    """Log-normal priors around 20 mg / l and 0.37 per day; the noise has sd 2.5 mg / l."""
    log_demand, log_rate = jnp.log(params["demand"]), jnp.log(params["rate"])
    prior = norm.logpdf(log_demand, 3, 1) - log_demand + norm.logpdf(log_rate, -1, 1.5) - log_rate
    curve = params["demand"] * (1 - jnp.exp(-params["rate"] * data["day"]))
    return prior + norm.logpdf(data["y"], curve, 2.5).sum()


def quadrature(target: infer.Target) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Grids of log demand and log rate, cell probabilities (demand, rate), and the log evidence."""
    a, b = np.linspace(1.5, 7, 600), np.linspace(-7, 4, 800)
    points = jnp.asarray(np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1), jnp.float32)
    log_p = np.asarray(jax.vmap(jax.vmap(target.log_prob))(points), np.float64)
    evidence = np.logaddexp.reduce(log_p, axis=None)
    return a, b, np.exp(log_p - evidence), evidence + np.log((a[1] - a[0]) * (b[1] - b[0]))


def draw_plane(ax: Any, result: infer.Result, name: str, a: Any, b: Any, p: np.ndarray) -> None:
    high = np.sort(p.ravel())[::-1]
    levels = [high[np.searchsorted(np.cumsum(high), mass)] for mass in (0.99, 0.9, 0.5)]
    ax.contour(np.exp(a), np.exp(b), p.T, levels=levels, colors="black", linewidths=0.9)
    x, y = result["demand"].ravel()[:800], result["rate"].ravel()[:800]
    ax.plot(x, y, ".", color=COLORS[name][0], ms=2.5, alpha=0.6)
    ax.set_title(f"{name}: {result.verdict.status}", loc="left", fontsize=11)
    ax.set(xscale="log", yscale="log", xlim=(9, 200), ylim=(0.02, 4), xlabel="demand, mg / l")
    ax.set_xticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
    ax.set_yticks([0.03, 0.1, 0.3, 1, 3], ["0.03", "0.1", "0.3", "1", "3"])
    ax.minorticks_off()


def main() -> None:
    parser = argparse.ArgumentParser(description="A bent posterior, by a Gaussian and a flow.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    target = infer.from_log_density(
        log_density,
        {"demand": 20.0, "rate": 0.4},
        supports={"demand": infer.positive, "rate": infer.positive},
        data={"day": DAY[:4], "y": OXYGEN[:4]},
    )
    a, b, p, evidence = quadrature(target)
    sd = np.sqrt(p.sum(axis=1) @ (a - p.sum(axis=1) @ a) ** 2)
    print(f"log evidence by quadrature {evidence:.3f}")
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), width_ratios=(1, 1, 1.15))
    right, days = axes[2], np.linspace(0, 10, 60)
    rng = np.random.default_rng(0)
    i, j = np.divmod(rng.choice(p.size, 20_000, p=p.ravel()), len(b))
    bands = {"exact": (np.exp(a[i]), np.exp(b[j]), "black", "-")}
    for ax, (name, method) in zip(axes, SETTINGS.items(), strict=False):
        result = infer.fit(target, method, key=0, steps=STEPS, draws=4000, progress=False)
        log_w = result.log_prob - result.log_q
        print(f"{name}: verdict {result.verdict.status}")
        print(f"  bound {log_w.mean():.3f}, by weights {np.log(np.exp(log_w).mean()):.3f}")
        print(f"  sd of log demand over the right one {np.log(result['demand']).std() / sd:.2f}")
        draw_plane(ax, result, name, a, b, p)
        bands[name] = (result["demand"].ravel(), result["rate"].ravel(), *COLORS[name])
    axes[0].set_ylabel("rate, per day")
    for name, (demand, rate, color, line) in bands.items():
        values = demand[:, None] * (1 - np.exp(-rate[:, None] * days))
        low, high = np.quantile(values, [0.05, 0.95], axis=0)
        right.plot(days, np.stack([low, high], 1), color=color, ls=line, label=[name, None])
        print(f"day 10, 90 % of {name}: {low[-1]:.1f} to {high[-1]:.1f} mg / l")
    right.plot(DAY[:4], OXYGEN[:4], "o", color="black", ms=5, label="measured")
    right.plot(DAY[4:], OXYGEN[4:], "o", mfc="white", mec="black", ms=5, label="held out")
    right.set(xlabel="day", ylabel="oxygen demand, mg / l", ylim=(0, None))
    right.set_title("The curve, 90 % intervals", loc="left", fontsize=11)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "flow_vi.png", dpi=100)
    plt.close(figure)
    print("saved", out / "flow_vi.png")


if __name__ == "__main__":
    main()
