"""A result in ArviZ: summary, leave-one-out cross-validation, model comparison, plots.

Two models of the same counts are fitted and compared by their expected log predictive density.
Needs the extra `arviz`.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import arviz_plots
import arviz_stats
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import infer


def poisson(x: Any, y: Any = None) -> None:
    a = numpyro.sample("a", dist.Normal(0, 2))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.Poisson(_rate(a, b, x)), obs=y)


def overdispersed(x: Any, y: Any = None) -> None:
    a = numpyro.sample("a", dist.Normal(0, 2))
    b = numpyro.sample("b", dist.Normal(0, 1))
    k = numpyro.sample("k", dist.Gamma(2, 0.2))
    with numpyro.plate("row", x.shape[0]):
        numpyro.sample("y", dist.NegativeBinomial2(_rate(a, b, x), k), obs=y)


def _rate(a: Any, b: Any, x: Any) -> Any:
    return np.e ** (a + b * x)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, 80)
    rate = np.exp(1.5 + 0.8 * x) * rng.gamma(2.0, 0.5, 80)
    return x, rng.poisson(rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    x, y = data()
    trees = {}
    for i, model in enumerate((poisson, overdispersed)):
        result = infer.fit(infer.from_numpyro(model, x, y=y), infer.MALA(), key=i, draws=2000)
        tree = result.to_arviz(log_likelihood=True, predictive=True)
        print(f"\n{model.__name__}: groups", list(tree.children))
        print("verdict, kept in the tree:", tree["fit"].attrs["verdict"])
        print(arviz_stats.summary(tree, var_names=["a", "b"]))
        print(arviz_stats.loo(tree))
        trees[model.__name__] = tree

    print("\nAn ok says that the posterior is right, not that the model is. The models compared:")
    print(arviz_stats.compare(trees))

    plain = {"point_estimate": False, "point_estimate_text": False}
    plots = arviz_plots.plot_dist(trees, var_names=["a", "b"], visuals=plain, backend="matplotlib")
    plots.add_legend("model")
    plt.savefig(out / "arviz_tour.png", dpi=110, bbox_inches="tight")
    print("saved", out / "arviz_tour.png")


if __name__ == "__main__":
    main()
