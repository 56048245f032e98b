"""A local-level model of the Nile: latent path by NUTS, checked against the exact Kalman answer.

    python examples/time_series.py --out docs/images

    level_t = level_{t-1} + sd_level * noise,     flow_t = level_t + sd_flow * noise

The model is linear and Gaussian: given both standard deviations the Kalman filter and smoother are
exact, and a grid integrates over the two. NUTS knows nothing of this and would do the same with
heavy tails or counts, where no filter is exact. The last ten of 100 years are held out.
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
YEARS, AHEAD = np.arange(1871, 1971), 10
# Annual flow at Aswan, 10^8 m^3 (Durbin, Koopman: Time Series Analysis by State Space Methods).
FLOW = np.array(
    [
        1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020,
        960, 1180, 799, 958, 1140, 1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840,
        874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969, 831, 726, 456, 824, 702,
        1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759,
        781, 865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801,
        1040, 860, 874, 848, 890, 744, 749, 838, 1050, 918, 986, 797, 923, 975, 815,
        1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740,
    ],
    float,
)  # fmt: skip
START = (1000.0, 300.0)  # prior mean and sd of the first level
SCALES = {"sd_level": 100.0, "sd_flow": 200.0}  # of half-normal priors


def model(years: int, flow: Any = None) -> None:
    sd_level = numpyro.sample("sd_level", dist.HalfNormal(SCALES["sd_level"]))
    sd_flow = numpyro.sample("sd_flow", dist.HalfNormal(SCALES["sd_flow"]))
    start = numpyro.sample("start", dist.Normal(*START))
    with numpyro.plate("change", years - 1):
        unit = numpyro.sample("unit", dist.Normal(0, 1))
    steps = jnp.concatenate([jnp.zeros(1), jnp.cumsum(unit)])
    level = numpyro.deterministic("level", start + sd_level * steps)
    numpyro.sample("flow", dist.Normal(level, sd_flow), obs=flow)


def kalman(sd_level: np.ndarray, sd_flow: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """x"""
    mean, variance = np.full_like(sd_level, START[0]), np.full_like(sd_level, START[1] ** 2)
    log_p, means, variances = np.zeros_like(sd_level), [], []
    for t in range(len(y) + AHEAD):
        if t:
            variance = variance + sd_level**2
        if t < len(y):
            total = variance + sd_flow**2
            log_p -= 0.5 * ((y[t] - mean) ** 2 / total + np.log(2 * np.pi * total))
            gain = variance / total
            mean, variance = mean + gain * (y[t] - mean), variance * (1 - gain)
        means.append(mean)
        variances.append(variance)
    for t in reversed(range(len(y) - 1)):  # what later years say of earlier ones
        back = variances[t] / (variances[t] + sd_level**2)
        ahead = variances[t] + sd_level**2
        means[t] = means[t] + back * (means[t + 1] - means[t])
        variances[t] = variances[t] + back**2 * (variances[t + 1] - ahead)
    return log_p, np.stack(means, -1), np.stack(variances, -1)


def exact(y: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Posterior means and standard deviations by quadrature over the two parameters."""
    a, b = np.meshgrid(np.linspace(0.5, 160, 160), np.linspace(70, 190, 121), indexing="ij")
    a, b = a.ravel(), b.ravel()
    log_p, means, variances = kalman(a, b, y)
    log_p -= 0.5 * ((a / SCALES["sd_level"]) ** 2 + (b / SCALES["sd_flow"]) ** 2)
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    second = {"sd_level": (a, 0 * a), "sd_flow": (b, 0 * b), "level": (means, variances)}
    answer = {}
    for name, (m, v) in second.items():
        mean = w @ m
        answer[name] = mean, np.sqrt(w @ (v + (m - mean) ** 2))
    mean, sd = answer["level"]
    answer["flow"] = mean[len(y) :], np.sqrt(sd[len(y) :] ** 2 + w @ b**2)
    return answer


def forecast(result: infer.Result) -> tuple[np.ndarray, np.ndarray]:
    """Levels and flows of the years to come, (draw, year)."""
    rng = np.random.default_rng(1)
    sd_level, sd_flow = result["sd_level"].reshape(-1, 1), result["sd_flow"].reshape(-1, 1)
    shape = (len(sd_level), AHEAD)
    last = result["level"].reshape(len(sd_level), -1)[:, -1:]
    level = last + np.cumsum(sd_level * rng.standard_normal(shape), axis=1)
    return level, level + sd_flow * rng.standard_normal(shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    y = FLOW[:-AHEAD]
    target = infer.from_numpyro(model, len(y), flow=y)
    result = infer.fit(target, infer.NUTS(acceptance=0.98), key=0, progress=False)
    print(result.verdict)
    right, (ahead, flow) = exact(y), forecast(result)
    level = np.concatenate([result["level"].reshape(len(ahead), -1), ahead], axis=1)
    for name in SCALES:
        x, (mean, sd) = result[name], right[name]
        print(f"{name}: {x.mean():.1f} +/- {x.std():.1f}, exact {mean:.1f} +/- {sd:.1f}")
    mean, sd = right["level"]
    off = np.abs(level.mean(axis=0) - mean) / sd
    ratio = level.std(axis=0) / sd
    print(
        f"level: means off by at most {off.max():.2f} sd, "
        f"sds {ratio.min():.2f} to {ratio.max():.2f} of the exact ones"
    )
    low, high = np.quantile(flow, [0.05, 0.95], axis=0)
    inside = ((low < FLOW[-AHEAD:]) & (FLOW[-AHEAD:] < high)).sum()
    print(f"{inside} of {AHEAD} held-out years inside the 90 % forecast band")

    figure, ax = plt.subplots(figsize=(10, 4.2))
    bottom, top = np.quantile(level, [0.05, 0.95], axis=0)
    ax.fill_between(YEARS, bottom, top, color=BLUE, alpha=0.3, label="level, 90 % (NUTS)")
    ax.fill_between(
        YEARS[-AHEAD:],
        low,
        high,
        color=ORANGE,
        alpha=0.2,
        hatch="//",
        linewidth=0,
        label="forecast of the flow, 90 % (NUTS)",
    )
    ax.plot(YEARS, mean, "k--", linewidth=1.3, label="exact, Kalman and quadrature: mean and 90 %")
    for side in (-1.645, 1.645):
        ax.plot(YEARS, mean + side * sd, "k--", linewidth=0.7)
        ax.plot(YEARS[-AHEAD:], right["flow"][0] + side * right["flow"][1], "k--", linewidth=0.7)
    ax.plot(YEARS[:-AHEAD], y, ".", color="#444444", label="flow")
    ax.plot(YEARS[-AHEAD:], FLOW[-AHEAD:], "D", color=ORANGE, markersize=4, label="flow, held out")
    ax.set(xlabel="year", ylabel="annual flow of the Nile, 10$^8$ m$^3$", xlim=(1870, 1971))
    ax.set_title(f"verdict of NUTS: {result.verdict.status}", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "time_series.png", dpi=110)
    plt.close(figure)
    print("saved", out / "time_series.png")


if __name__ == "__main__":
    main()
