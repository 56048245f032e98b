"""A table with holes: 13 measurements of 178 wines, 30 % of the entries removed at random.

An importance weighted autoencoder is fitted to what was observed alone, and fills in the rest: by
decoding one point of every row, or by the mean over its posterior, with importance weights for what
the encoder gets wrong. The means of columns are what to beat.

    python examples/vae_missing.py --out docs/images
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine

import infer
from infer.likelihoods import Gaussian


def draw(
    result: infer.AmortizedResult,
    row: infer.Result,
    place: int,
    truth: np.ndarray,
    seen: np.ndarray,
    filled: dict[str, np.ndarray],
    wine: Any,
    path: Path,
) -> None:
    """What was filled in against what was removed; the codes, and the posterior of one wine."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    left.plot(truth[~seen], filled["importance weights"][~seen], ".", color="#0072B2", markersize=4)
    ends = np.array([-2.5, 4.5])
    left.plot(ends, ends, color="#999999", linewidth=1)
    left.set(xlabel="removed entry, standard deviations", ylabel="filled in, standard deviations")
    left.set(title="30 % of the table", xlim=ends, ylim=ends)

    codes = np.asarray(result.encode())
    z = row["z"].reshape(-1, 2)
    right.scatter(*z.T, s=3, color="#999999", linewidths=0, label=f"posterior of wine {place}")
    for i, color in enumerate(("#0072B2", "#D55E00", "#009E73")):
        mine = codes[wine.target == i]
        right.scatter(*mine.T, s=14, color=color, linewidths=0, label=f"cultivar {i + 1}")
    right.set(title="posterior means of the wines", xlabel="z[0]", ylabel="z[1]")
    right.legend(frameon=False, markerscale=1.5, loc="upper left", bbox_to_anchor=(1, 1))
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    wine = load_wine()
    truth = (wine.data - wine.data.mean(axis=0)) / wine.data.std(axis=0)
    seen = np.random.default_rng(0).random(truth.shape) > 0.3
    data = infer.Data(np.where(seen, truth, np.nan), mask=seen, batch_size=64)
    method = infer.VAE(
        Gaussian(),
        latent=2,
        posterior=infer.FullRank(1.0),
        encoder=infer.MLP((32,)),
        decoder=infer.MLP((32,)),
        objective=infer.IWAE(),
        n_samples=20,
    )
    result = infer.fit(data, method, key=0, steps=3000)
    print(result.summary())

    filled = {
        "column means": np.nanmean(np.where(seen, truth, np.nan), axis=0) + 0 * truth,
        "reconstruct()": np.asarray(result.reconstruct()),
        "importance weights": np.asarray(result.impute(data.rows.x, seen, key=1)),
    }
    for name, values in filled.items():
        error = np.sqrt(np.mean((values - truth)[~seen] ** 2))
        print(f"{name:19} RMSE of what was removed: {error:.3f} standard deviations")

    emptiest = int(np.argmin(seen.sum(axis=1)))
    row = result.given(data.rows.x[emptiest], mask=seen[emptiest], key=2)
    print(f"the wine with {seen[emptiest].sum()} of 13 entries: {row.verdict.status}")
    draw(result, row, emptiest, truth, seen, filled, wine, out / "vae_missing.png")
    print("saved", out / "vae_missing.png")


if __name__ == "__main__":
    main()
