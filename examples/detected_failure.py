"""A failure that is silent elsewhere: the loss has settled, and the fit is badly wrong.

A regression line whose covariate is far from zero has a slope and an intercept that are almost
perfectly anticorrelated. Mean-field variational inference ignores correlation, converges without
complaint, and claims to know both several times better than the data allow. The verdict says so.
The picture in the README is this script's: `python examples/detected_failure.py --out docs/images`.
"""

import argparse
import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import infer


def line(x: Any, y: Any = None) -> None:
    intercept = numpyro.sample("intercept", dist.Normal(0, 10))
    slope = numpyro.sample("slope", dist.Normal(0, 10))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + slope * x, 1.0), obs=y)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.uniform(3, 7, 60)
    return x, 1 + 0.5 * x + rng.standard_normal(60)


def draw(wrong: infer.Result, right: infer.Result, path: Path) -> None:
    figure, (left, middle, last) = plt.subplots(
        1, 3, figsize=(11.5, 4.3), width_ratios=(1, 1.15, 1.15)
    )
    loss = wrong.history["loss"][0]
    left.plot(np.arange(1, len(loss) + 1), loss, color="#999999", linewidth=0.5)
    smooth = loss[: len(loss) // 50 * 50].reshape(-1, 50).mean(1)
    left.plot(50 * np.arange(1, len(smooth) + 1) - 25, smooth, color="#D55E00", linewidth=2)
    left.set_ylim(smooth[-1] - 8, smooth[-1] + 35)
    left.set(title="what one usually looks at:\nthe loss, and it has settled", xlabel="step")
    left.set_ylabel("minus evidence bound, nats")

    for result, color, size, label in (
        (right, "#0072B2", 4, f"NUTS: {right.verdict.status}"),
        (wrong, "#D55E00", 4, f"mean-field VI: {wrong.verdict.status}"),
    ):
        a, b = result["intercept"].ravel()[:1000], result["slope"].ravel()[:1000]
        middle.scatter(a, b, s=size, color=color, alpha=0.5, linewidths=0, label=label)
    middle.set(title="the fit and the posterior", xlabel="intercept", ylabel="slope")
    middle.legend(frameon=False, markerscale=4, loc="upper right")

    grid = np.linspace(right["slope"].min(), right["slope"].max(), 300)
    for result, color in ((right, "#0072B2"), (wrong, "#D55E00")):
        b = result["slope"].ravel()
        h = 1.06 * b.std() * len(b) ** -0.2
        density = np.exp(-0.5 * ((grid[:, None] - b[:2000]) / h) ** 2).mean(1)
        density /= h * np.sqrt(2 * np.pi)
        last.plot(grid, density, color=color, linewidth=2)
        last.fill_between(grid, density, color=color, alpha=0.15)
    ratio = right["slope"].std() / wrong["slope"].std()
    last.set(title=f"the slope: its sd is {ratio:.0f} times\nwhat the fit claims", xlabel="slope")
    last.set_yticks([])
    for ax in (left, middle, last):
        ax.spines[["top", "right"]].set_visible(False)

    reason = wrong.verdict.reasons[0]
    text = textwrap.fill(f"verdict: {wrong.verdict.status}. {reason.meaning}", 125)
    figure.text(0.5, 0.02, text, ha="center", va="bottom", family="monospace", fontsize=9)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out

    x, y = data()
    target = infer.from_numpyro(line, x, y=y)
    wrong = infer.fit(target, infer.VI(family=infer.MeanField()), key=0)
    right = infer.fit(target, infer.NUTS(preconditioner=infer.Dense()), key=1)
    print(infer.compare({"mean-field VI": wrong, "NUTS": right}))
    print(wrong.verdict["loss settled"].meaning)
    print(wrong.verdict)

    better = infer.fit(target, infer.VI(family=infer.FullRank()), key=2)
    print("with the family that the verdict proposes:", better.verdict.status)
    draw(wrong, right, out / "detected_failure.png")
    print("saved", out / "detected_failure.png")


if __name__ == "__main__":
    main()
