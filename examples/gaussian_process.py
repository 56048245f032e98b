"""Gaussian process regression: three hyper-parameters, checked against exact quadrature.

    python examples/gaussian_process.py --out docs/images

Given amplitude, length scale and noise, process and data are jointly Gaussian, and the density of
the data has a closed form. So inference is about three numbers: few enough to integrate over a grid
and to see whether a fit is right. A point estimate would ignore how little 25 points say of them.
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
from jax.scipy import stats

import infer

BLUE, ORANGE = "#0072B2", "#D55E00"
NAMES = {"amplitude": "deg C", "length": "days", "noise": "deg C"}
ROUGH = 1e-4  # variance added to the diagonal, so that rounding cannot make K singular


def wave(x: np.ndarray) -> np.ndarray:
    """The true curve: a slow wave and a bump."""
    return 1.5 * np.sin(x / 2.2) + 1.2 * np.exp(-0.5 * ((x - 8) / 1.2) ** 2)


def simulate() -> tuple[np.ndarray, np.ndarray]:
    """Days, and temperature anomalies in degrees, with a gap of five days."""
    rng = np.random.default_rng(2)
    x = np.sort(np.concatenate([rng.uniform(0, 11, 17), rng.uniform(16, 20, 8)]))
    return x, wave(x) + 0.4 * rng.standard_normal(len(x))


def log_density(params: Any, data: Any) -> jax.Array:
    """Log priors, and log N(y; 0, K + noise^2 I) as a product of one-dimensional conditionals."""
    x, y = data["x"], data["y"]
    amplitude, length, noise = (params[name] for name in NAMES)
    prior = stats.norm.logpdf(amplitude, 0, 2) + stats.norm.logpdf(noise, 0, 1)
    prior += stats.norm.logpdf(jnp.log(length), jnp.log(2.0), 0.7) - jnp.log(length)
    K = amplitude**2 * jnp.exp(-0.5 * (x[:, None] - x) ** 2 / length**2)
    K += (noise**2 + ROUGH) * jnp.eye(len(x))

    def condition(carry: tuple, i: jax.Array) -> tuple:
        """Log density of observation i given those before; all others are conditioned on it."""
        K, rest = carry
        gain = K[:, i] / K[i, i]
        term = stats.norm.logpdf(rest[i], 0, jnp.sqrt(K[i, i]))
        return (K - jnp.outer(gain, K[i]), rest - gain * rest[i]), term

    return prior + jnp.sum(jax.lax.scan(condition, (K, y), jnp.arange(len(x)))[1])


def gram(a: np.ndarray, b: np.ndarray, amplitude: np.ndarray, length: np.ndarray) -> np.ndarray:
    squared = (a[:, None] - b) ** 2 / length[:, None, None] ** 2
    return amplitude[:, None, None] ** 2 * np.exp(-0.5 * squared)


def quadrature(x: np.ndarray, y: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A grid even in the logs of the hyper-parameters, and the posterior weight of each point."""
    edges = ((0.3, 12.0), (0.3, 9.0), (0.15, 1.3))
    axes = [np.geomspace(low, high, 36) for low, high in edges]
    amplitude, length, noise = (g.ravel() for g in np.meshgrid(*axes))
    log_w = -0.5 * ((amplitude / 2) ** 2 + noise**2 + (np.log(length / 2) / 0.7) ** 2)
    log_w += np.log(amplitude * noise)  # of d log(theta); the lognormal has had its own
    for part in np.array_split(np.arange(len(noise)), 16):
        K = gram(x, x, amplitude[part], length[part])
        K += (noise[part, None, None] ** 2 + ROUGH) * np.eye(len(x))
        log_w[part] -= 0.5 * (np.linalg.slogdet(K)[1] + np.linalg.solve(K, y[:, None])[..., 0] @ y)
    weights = np.exp(log_w - log_w.max())
    keep = weights > 1e-5
    grid = dict(zip(NAMES, (amplitude[keep], length[keep], noise[keep]), strict=True))
    return grid, weights[keep] / weights[keep].sum()


def curve(params: Any, weights: Any, x: Any, y: Any, new: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of the process at new days, averaged over weighted hyper-parameters."""
    first, second = np.zeros(len(new)), np.zeros(len(new))
    for part in np.array_split(np.arange(len(weights)), 16):
        amplitude, length, noise = (params[name][part] for name in NAMES)
        K = gram(x, x, amplitude, length) + (noise[:, None, None] ** 2 + ROUGH) * np.eye(len(x))
        cross = gram(x, new, amplitude, length)
        gain = np.linalg.solve(K, cross)
        mean = np.einsum("gxn,x->gn", gain, y)
        variance = amplitude[:, None] ** 2 - np.sum(gain * cross, axis=1)
        first += weights[part] @ mean
        second += weights[part] @ (variance + mean**2)
    return first, np.sqrt(second - first**2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    x, y = simulate()
    target = infer.from_log_density(
        log_density,
        dict.fromkeys(NAMES, 1.0),
        supports=dict.fromkeys(NAMES, infer.positive),
        data={"x": jnp.asarray(x), "y": jnp.asarray(y)},
    )
    results = {
        "NUTS": infer.fit(target, infer.NUTS(), key=0, progress=False),
        "FBGVI": infer.fit(target, infer.FBGVI(), key=0, draws=4000, progress=False),
    }
    print(infer.compare(results))
    grid, weights = quadrature(x, y)
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.8), width_ratios=(2.4, 1, 1, 1))
    for (name, unit), ax in zip(NAMES.items(), axes[1:], strict=True):
        mean = weights @ grid[name]
        sd = np.sqrt(weights @ (grid[name] - mean) ** 2)
        told = [f"{k} {r[name].mean():.3f} +/- {r[name].std():.3f}" for k, r in results.items()]
        print(f"{name}: exact {mean:.3f} +/- {sd:.3f},", ", ".join(told))
        values, at = np.unique(grid[name], return_inverse=True)
        density = np.bincount(at, weights) / np.gradient(values)
        top = np.quantile(results["NUTS"][name], 0.995)
        style = {"range": (0, top), "density": True, "histtype": "step", "bins": 30}
        for label, color, line in (("NUTS", BLUE, "-"), ("FBGVI", ORANGE, "--")):
            ax.hist(results[label][name].ravel(), color=color, ls=line, label=label, **style)
        ax.plot(values, density, "k:", linewidth=2, label="exact")
        ax.set(xlabel=f"{name}, {unit}", xlim=(0, top), yticks=[])
    axes[1].legend(frameon=False, fontsize=8)

    new = np.linspace(0, 22, 111)
    draws = {name: results["NUTS"][name].ravel()[::4] for name in NAMES}
    even = np.full(len(draws["noise"]), 1 / len(draws["noise"]))
    mean, sd = curve(draws, even, x, y, new)
    right, right_sd = curve(grid, weights, x, y, new)
    off, ratio = np.abs(mean - right) / right_sd, sd / right_sd
    print(f"curve: mean off by at most {off.max():.3f} sd,", end=" ")
    print(f"sd {ratio.min():.2f} to {ratio.max():.2f} of the exact one")
    low, high, said = mean - 1.96 * sd, mean + 1.96 * sd, "95 % band, NUTS"
    axes[0].fill_between(new, low, high, color=BLUE, alpha=0.25, label=said)
    axes[0].plot(new, mean, color=BLUE, label="mean, NUTS")
    for side in (-1.96, 1.96):
        label = "95 % band, exact" if side > 0 else None
        axes[0].plot(new, right + side * right_sd, "k:", linewidth=1.2, label=label)
    axes[0].plot(new, wave(new), color=ORANGE, linestyle="--", label="truth")
    axes[0].plot(x, y, "k.", label="data")
    axes[0].set(xlabel="day", ylabel="anomaly, deg C", ylim=(-4.5, 5.5))
    axes[0].legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    said = ", ".join(f"{name} {result.verdict.status}" for name, result in results.items())
    axes[0].set_title(f"verdicts: {said}", loc="left", fontsize=11)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "gaussian_process.png", dpi=110)
    plt.close(figure)
    print("saved", out / "gaussian_process.png")


if __name__ == "__main__":
    main()
