"""Sparse regression with a prior that has a kink: intervals where the lasso gives a point.

    python examples/sparse_regression.py --out docs/images

Ten measurements of 442 diabetes patients, strongly correlated, and a response simulated from three
of them, so that the truth is known. Under a Laplace prior the lasso estimate is the mode of the
posterior. The kink of the prior is known to the samplers through its proximal map: none of them
follows a gradient across it. One takes Bregman steps without an acceptance test, one is exact.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso

import infer

NAMES = ("age", "sex", "bmi", "pressure", "tc", "ldl", "hdl", "tch", "ltg", "glucose")
TRUTH = np.array([0, 0, 0.5, 0.25, 0, 0, -0.3, 0, 0, 0])
NOISE, RATE = 0.8, 20.0  # standard deviation of the response; rate of the Laplace prior
ENTROPY = infer.HyperbolicEntropy(0.2)  # quadratic below 0.2, x log x above


def data() -> tuple[np.ndarray, np.ndarray]:
    x = load_diabetes(scaled=False).data
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x, x @ TRUTH + NOISE * np.random.default_rng(0).standard_normal(len(x))


def log_likelihood(beta: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
    return -0.5 * jnp.sum(((data["y"] - data["X"] @ beta) / NOISE) ** 2)


def draw(fits: dict[str, infer.Result], lasso: np.ndarray, path: Path) -> None:
    figure, ax = plt.subplots(figsize=(9, 4.2))
    place = np.arange(len(NAMES))
    styles = (("#0072B2", "o", -0.22), ("#D55E00", "s", 0.22))
    for (name, fit), (color, marker, shift) in zip(fits.items(), styles, strict=True):
        beta = fit["x"].reshape(-1, len(NAMES))
        low, left, middle, right, high = np.quantile(beta, [0.025, 0.25, 0.5, 0.75, 0.975], axis=0)
        ax.vlines(place + shift, low, high, color=color, lw=1.2)
        ax.vlines(place + shift, left, right, color=color, lw=4)
        label = f"{name}: {fit.verdict.status}"
        ax.plot(place + shift, middle, marker, color=color, ms=6, mec="white", label=label)
    ax.plot(place, lasso, "D", mfc="none", mec="black", ms=6, label="lasso (scikit-learn)")
    ax.plot(place, TRUTH, "_", color="black", ms=26, mew=1.5, label="truth")
    ax.axhline(0, color="0.7", lw=0.8, zorder=0)
    ax.set_xticks(place, NAMES)
    ax.set_ylabel("coefficient, in standard deviations")
    ax.set_title("Intervals with 50 and 95 % of the posterior", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Sparse regression with a prior with a kink.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    x, y = data()
    smooth = infer.from_log_density(log_likelihood, jnp.zeros(len(NAMES)), data={"X": x, "y": y})
    target = infer.Composite(smooth, infer.L1(RATE))
    bregman = infer.BregmanProximalLangevin(step_size=0.001, smoothing=0.001, smoother=ENTROPY)
    fits = {
        "Bregman steps": infer.fit(infer.mirrored(target, {"x": ENTROPY}), bregman, key=0),
        "MYMALA, exact": infer.fit(target, infer.MYMALA(), key=1),
    }
    lasso = Lasso(alpha=RATE * NOISE**2 / len(y), fit_intercept=False).fit(x, y).coef_
    for name, fit in fits.items():
        beta = fit["x"].reshape(-1, len(NAMES))
        low, high = np.quantile(beta, [0.025, 0.975], axis=0)
        hit = np.sum((low <= TRUTH) & (high >= TRUTH))
        apart = [n for n, a, b in zip(NAMES, low, high, strict=True) if a * b > 0]
        print(f"{name}: {fit.verdict.status}, {hit} of 10 truths inside; zero outside for {apart}")
    a, b = (fit["x"].reshape(-1, len(NAMES)) for fit in fits.values())
    shift = np.abs(a.mean(axis=0) - b.mean(axis=0)) / b.std(axis=0)
    print(f"means of the two differ by at most {shift.max():.2f} sd;", end=" ")
    print("sd over exact", np.round(a.std(axis=0) / b.std(axis=0), 2))
    print("lasso keeps", [n for n, v in zip(NAMES, lasso, strict=True) if v != 0])
    best = fits["MYMALA, exact"].log_prob.max()
    above = target.log_prob(jnp.asarray(lasso, jnp.float32)) - best
    print(f"the lasso estimate is {above:.2f} nats above the best of {len(b)} draws: the mode")
    draw(fits, lasso, out / "sparse_regression.png")
    print("saved", out / "sparse_regression.png")


if __name__ == "__main__":
    main()
