"""An epidemic from its first weeks: the parameters of a differential equation, and a forecast.

    python examples/ode.py --out docs/images

    dS/dt = -b S I / N,    dI/dt = b S I / N - g I        (SIR)

Daily case counts, negative binomial around the new infections that are reported. Fitted to 25 days,
before the peak; the 45 days to come are forecast and compared with what happened. The data are
simulated, so the true parameters are known.
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
import numpyro
import numpyro.distributions as dist

import infer

BLUE, ORANGE = "#0072B2", "#D55E00"
PEOPLE, DAYS, SEEN = 20_000, 70, 25
PER_DAY = 2  # Runge-Kutta steps
TRUTH = {"r0": 2.2, "days_ill": 6.0, "first": 12.0, "reported": 0.4, "spread": 20.0}


def cases(r0: Any, days_ill: Any, first: Any, days: int) -> jax.Array:
    """New infections of each day, by the fourth-order Runge-Kutta method."""

    def slope(state: jax.Array) -> jax.Array:
        s, i = state
        infected = r0 / days_ill * s * i / PEOPLE
        return jnp.stack([-infected, infected - i / days_ill])

    def step(state: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        h = 1 / PER_DAY
        a = slope(state)
        b = slope(state + h / 2 * a)
        c = slope(state + h / 2 * b)
        d = slope(state + h * c)
        new = state + h / 6 * (a + 2 * b + 2 * c + d)
        return new, state[0] - new[0]

    start = jnp.stack([PEOPLE - first, first])
    infected = jax.lax.scan(step, start, None, length=days * PER_DAY)[1]
    return infected.reshape(days, PER_DAY).sum(axis=1)


def model(days: int, seen: Any = None) -> None:
    r0 = numpyro.sample("r0", dist.LogNormal(jnp.log(2.0), 0.5))
    days_ill = numpyro.sample("days_ill", dist.LogNormal(jnp.log(6.0), 0.2))
    first = numpyro.sample("first", dist.LogNormal(jnp.log(10.0), 1.0))
    reported = numpyro.sample("reported", dist.Beta(4, 4))
    spread = numpyro.sample("spread", dist.LogNormal(jnp.log(20.0), 1.0))
    mean = numpyro.deterministic("mean", reported * cases(r0, days_ill, first, days))
    with numpyro.plate("day", days):
        numpyro.sample("seen", dist.NegativeBinomial2(mean, spread), obs=seen)


def simulate() -> tuple[np.ndarray, np.ndarray]:
    """Expected and counted cases of each day."""
    rng = np.random.default_rng(1)
    new = cases(TRUTH["r0"], TRUTH["days_ill"], TRUTH["first"], DAYS)
    mean = TRUTH["reported"] * np.asarray(new, float)
    return mean, rng.poisson(mean * rng.gamma(TRUTH["spread"], 1 / TRUTH["spread"], DAYS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    expected, counts = simulate()
    target = infer.from_numpyro(model, SEEN, seen=counts[:SEEN])
    method = infer.NUTS(preconditioner=infer.Dense())
    result = infer.fit(target, method, key=0, progress=False)
    print(result.verdict)
    future = result.predict(DAYS, key=1)
    band = future["seen"].reshape(-1, DAYS)
    solve = jax.jit(
        jax.vmap(lambda r0, ill, first, reported: reported * cases(r0, ill, first, DAYS))
    )
    shape = ("r0", "days_ill", "first", "reported")
    mean = np.asarray(solve(*(result[name].ravel() for name in shape)))

    labels = {"r0": "R0", "days_ill": "days ill", "reported": "share reported"}
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.8), width_ratios=(2.4, 1, 1, 1))
    for name, true in TRUTH.items():
        x = result[name].ravel()
        rank = (x < true).mean()
        print(f"{name}: {x.mean():.3g} +/- {x.std():.2g}, truth {true:g} at quantile {rank:.2f}")
    for (name, label), ax in zip(labels.items(), axes[1:], strict=True):
        ax.hist(result[name].ravel(), 40, color=BLUE, alpha=0.5, density=True)
        ax.axvline(TRUTH[name], color="black", linestyle=":", linewidth=2, label="truth")
        ax.set(xlabel=label, yticks=[])
    axes[1].legend(frameon=False)
    low, high = np.quantile(band[:, SEEN:], [0.05, 0.95], axis=0)
    inside = ((low <= counts[SEEN:]) & (counts[SEEN:] <= high)).sum()
    print(f"{inside} of {DAYS - SEEN} days to come inside the 90 % band")

    day, ax = np.arange(1, DAYS + 1), axes[0]
    low, high = np.quantile(band, [0.05, 0.95], axis=0)
    ax.fill_between(day, low, high, color=BLUE, alpha=0.25, label="counts, 90 %")
    ax.plot(day, np.median(mean, axis=0), color=BLUE, label="expected, median")
    ax.plot(day, expected, "k:", linewidth=2, label="expected, truth")
    ax.plot(day[:SEEN], counts[:SEEN], "k.", label="counted")
    ax.plot(day[SEEN:], counts[SEEN:], "D", color=ORANGE, markersize=4, label="counted later")
    ax.axvline(SEEN + 0.5, color="#777777", linewidth=0.8)
    ax.set(xlabel="day", ylabel="reported cases a day")
    ax.set_title(f"verdict: {result.verdict.status}", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=8)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "ode.png", dpi=110)
    plt.close(figure)
    print("saved", out / "ode.png")


if __name__ == "__main__":
    main()
