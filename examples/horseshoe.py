"""Sparse regression under a regularized horseshoe: which of 30 covariates matter?

    python examples/horseshoe.py --out docs/images

Five coefficients of thirty are not zero. The horseshoe shrinks small coefficients to nothing and
leaves large ones alone, at the price of a posterior full of funnels. NUTS copes; the best Gaussian
on the same coordinates does not, and its verdict says so.
"""

import argparse
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import infer

BLUE, ORANGE = "#0072B2", "#D55E00"
N, P = 80, 30
TRUTH = np.zeros(P)
TRUTH[[2, 7, 11, 19, 26]] = [2.0, -1.5, 1.0, -0.7, 0.5]
GUESS = 5  # how many coefficients are expected to matter


def simulate(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Covariates with correlation 0.5 between neighbors, and responses with noise of sd 1."""
    rng = np.random.default_rng(seed)
    corr = 0.5 ** np.abs(np.subtract.outer(np.arange(P), np.arange(P)))
    x = rng.multivariate_normal(np.zeros(P), corr, n)
    return x, x @ TRUTH + rng.standard_normal(n)


def horseshoe(x: Any, y: Any = None) -> None:
    """Piironen and Vehtari, Electronic Journal of Statistics 11, 2017."""
    sigma = numpyro.sample("sigma", dist.HalfNormal(2))
    tau = numpyro.sample("tau", dist.HalfCauchy(GUESS / (P - GUESS) / N**0.5)) * sigma
    slab = numpyro.sample("slab", dist.InverseGamma(2, 8))  # large ones: t(4), scale 2
    with numpyro.plate("covariate", P):
        local = numpyro.sample("local", dist.HalfCauchy(1))
        unit = numpyro.sample("unit", dist.Normal(0, 1))
    width = tau * local * jnp.sqrt(slab / (slab + (tau * local) ** 2))
    beta = numpyro.deterministic("beta", width * unit)
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    x, y = simulate(N, seed=4)
    target = infer.from_numpyro(horseshoe, x, y=y)
    results = {
        "NUTS": infer.fit(target, infer.NUTS(acceptance=0.95), key=0, progress=False),
        "best Gaussian": infer.fit(target, infer.FBGVI(), key=0, progress=False),
    }
    print(infer.compare(results, variables=["sigma", "tau", "slab"]))
    new_x, new_y = simulate(1000, seed=5)
    least = np.linalg.lstsq(x, y, rcond=None)[0]
    error = np.sqrt(np.mean((new_y - new_x @ least) ** 2))
    print(f"least squares: coefficients off by {np.sqrt(np.mean((least - TRUTH) ** 2)):.3f} (rms)")
    print(f"  predicts 1000 new responses to {error:.3f}")

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.2), width_ratios=(2.8, 1))
    left.axhline(0, color="#999999", linewidth=0.7)
    left.plot(least, "^", color="#999999", markersize=4, label="least squares")
    looks = ((-0.2, BLUE, "o", "-"), (0.2, ORANGE, "s", "--"))
    for (name, result), (shift, color, marker, line) in zip(results.items(), looks, strict=True):
        beta = result["beta"].reshape(-1, P)
        low, high = np.quantile(beta, [0.05, 0.95], axis=0)
        mean = beta.mean(axis=0)
        error = np.sqrt(np.mean((new_y - new_x @ mean) ** 2))
        print(f"{name}: {result.verdict}")
        print(f"  coefficients off by {np.sqrt(np.mean((mean - TRUTH) ** 2)):.3f} (rms)")
        print(f"  predicts 1000 new responses to {error:.3f}")
        inside, width = (low <= TRUTH) & (TRUTH <= high), (high - low)[TRUTH == 0].mean()
        print(f"  {inside.sum()} of {P} 90 % intervals hold the truth")
        print(f"  those of zeros are {width:.3f} wide on average")
        label = f"{name}, 90 %: {result.verdict.status}"
        bars, at = [mean - low, high - mean], np.arange(P) + shift
        left.errorbar(at, mean, bars, fmt=marker, color=color, markersize=4, label=label)
        logs = np.log10(result["tau"].ravel())
        right.hist(logs, 40, density=True, histtype="step", color=color, ls=line, label=name)
    left.plot(TRUTH, "k_", markersize=13, label="truth")
    left.set(xlabel="covariate", ylabel="coefficient", ylim=(-2.1, 3.1))
    left.legend(frameon=False, fontsize=9, ncols=2)
    right.set(
        title="what the Gaussian misses", xlabel="log$_{10}$ of the global scale tau", yticks=[]
    )
    right.set_ylim(0, 3.9)
    right.legend(frameon=False, loc="upper left")
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "horseshoe.png", dpi=110)
    plt.close(figure)
    print("saved", out / "horseshoe.png")


if __name__ == "__main__":
    main()
