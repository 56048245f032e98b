"""How good generated rows are, measured beside real rows and beside a bad generator."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from infer.core.keys import as_key
from infer.diagnostics.classifier import linear_accuracy, neighbor_accuracy
from infer.diagnostics.distances import sliced_wasserstein_squared
from infer.diagnostics.energy import energy_distance
from infer.diagnostics.frechet import frechet_distance
from infer.diagnostics.mmd_test import median_distance, mmd_test
from infer.diagnostics.neighbors import nearest_distance, neighbor_scores
from infer.planning import at_least_one
from infer.references.citation import cites
from infer.references.judging import (
    GRETTON_2012,
    HEUSEL_2017,
    LOPEZ_PAZ_2017,
    NAEEM_2020,
    THEIS_2016,
)
from infer.summary import render

if TYPE_CHECKING:
    import pandas

Array = NDArray[np.float64]

NEIGHBORS = 5
PROJECTIONS = 500
MULTIPLES = (0.5, 1.0, 2.0)  # of the median distance: bandwidths of the discrepancy
LEAST_ROWS = 20


def _better(way: str) -> Any:
    return dataclasses.field(metadata={"better": way})


@dataclasses.dataclass(frozen=True)
class SampleScores:
    """What one sample scores against held-out rows.

    Attributes:
        frechet: squared Frechet distance on the principal axes, see `frechet_distance`.
        mmd_squared: unbiased squared maximum mean discrepancy of the rows themselves.
        mmd_p_value: its permutation p-value; small says that the distributions differ.
        sliced_w2: squared sliced 2-Wasserstein distance of the rows themselves.
        energy: energy distance of the rows themselves.
        precision: share of the sample among the held-out rows, on the principal axes.
        recall: share of the held-out rows among the sample.
        density: how densely the sample lies among held-out rows, 1 for real ones on average.
        coverage: share of held-out rows with a row of the sample near them.
        train_distance: mean distance to the nearest training row, over that of the held-out rows;
            1 for new rows of the data's distribution, which the floor is by definition here, 0 for
            copies of training rows.
        linear_accuracy: of a logistic regression that tells the sample from held-out rows.
        neighbor_accuracy: of a vote of five neighbors.
    """

    frechet: float = _better("lower")
    mmd_squared: float = _better("lower")
    mmd_p_value: float = _better("not small")
    sliced_w2: float = _better("lower")
    energy: float = _better("lower")
    precision: float = _better("higher")
    recall: float = _better("higher")
    density: float = _better("near 1")
    coverage: float = _better("higher")
    train_distance: float = _better("near 1")
    linear_accuracy: float = _better("near 0.5")
    neighbor_accuracy: float = _better("near 0.5")


@dataclasses.dataclass(frozen=True)
class SampleQuality:
    """Scores of generated rows with those of real rows and of a bad generator; printing shows all.

    Attributes:
        generated: scores of the generated rows against the held-out ones.
        floor: scores of as many training rows: what a perfect generator would show.
        ceiling: scores of training rows whose columns were shuffled, each on its own: every
            marginal is right and nothing else.
        n: rows in every comparison.
        n_components: principal axes of the training rows.
        notes: what was left out of the comparison.
    """

    generated: SampleScores
    floor: SampleScores
    ceiling: SampleScores
    n: int
    n_components: int
    notes: tuple[str, ...]

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """A row per score: `generated`, `floor`, `ceiling`, and `better`, the way to go."""
        return {
            field.name: {
                "generated": getattr(self.generated, field.name),
                "floor": getattr(self.floor, field.name),
                "ceiling": getattr(self.ceiling, field.name),
                "better": field.metadata["better"],
            }
            for field in dataclasses.fields(SampleScores)
        }

    def to_dataframe(self) -> "pandas.DataFrame":
        """A row per score."""
        from infer.bridges.tables import dataframe

        return dataframe(self.rows)

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows

    def __str__(self) -> str:
        title = f"{self.n} rows against {self.n} held out, {self.n_components} principal axes"
        table = Table(title=title, title_justify="left")
        for column in ("", "generated", "floor", "ceiling", "better"):
            table.add_column(column, justify="left" if column in ("", "better") else "right")
        for name, row in self.rows.items():
            numbers = (f"{row[part]:.3g}" for part in ("generated", "floor", "ceiling"))
            table.add_row(name, *numbers, row["better"])
        return render(table) + "\n".join(self.notes)


@cites(HEUSEL_2017, GRETTON_2012, NAEEM_2020, LOPEZ_PAZ_2017, THEIS_2016)
def sample_quality(
    generated: Any,
    train: Any,
    test: Any,
    *,
    key: Any,
    n_components: int = 16,
    max_rows: int = 1000,
) -> SampleQuality:
    """Compare generated rows with held-out rows, beside a real sample and a bad one.

    Every score is taken of n generated rows, of n training rows (the floor) and of n training rows
    with every column shuffled on its own (the ceiling), each against the same n held-out rows: most
    of these scores are biased by the number of rows, and none has a scale of its own. A
    score says something where floor and ceiling are apart; a good generator is near the floor.

        quality = infer.sample_quality(generated, train, test, key=0)
        print(quality)
        quality.generated.frechet, quality.floor.frechet

    Frechet distance, neighbors, classifiers and distances to training rows are taken on the
    principal axes of the training rows; discrepancy, sliced and energy distance on the rows as they
    are. Coordinates are not scaled: give them in comparable units. Copies of training rows score
    like the floor in all but `train_distance`, which is near 0 for them. Likelihoods of a kernel
    density estimate are left out on purpose: in many dimensions they rank generators wrongly.

    Cost O(n^2 D) for rows of D numbers, 200 permutations of an n x n matrix among it, and
    O(N D min(N, D)) for the axes of N training rows.

    Args:
        generated: rows of the generator, an array with a leading axis, or a pytree of such.
            Generate as data are: draws of the likelihood, not its means.
        train: rows it was fitted to, of the same shape.
        test: rows held out, of the same shape.
        key: a PRNG key or an integer; chooses rows, shuffles, directions and parts.
        n_components: most principal axes, >= 1.
        max_rows: most rows in a comparison, >= 20; the largest of the samples are cut by chance to
            the size of the smallest, or to this.

    Returns:
        A `SampleQuality`, which prints as a table: the generated rows between floor and ceiling.

    Raises:
        ValueError: for fewer than 20 rows, rows of other shapes, or values that are not finite.

    Source: Heusel et al., GANs trained by a two time-scale update rule, NeurIPS 2017; Gretton et
    al., A kernel two-sample test, JMLR 13, 2012; Naeem et al., Reliable fidelity and diversity
    metrics, ICML 2020; Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017;
    Theis et al., A note on the evaluation of generative models, ICLR 2016.
    """
    named = {"generated": generated, "train": train, "test": test}
    samples = {name: _flat(name, rows) for name, rows in named.items()}
    _check(samples, n_components, max_rows)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(as_key(key))))
    n = min(max_rows, *(len(rows) for rows in samples.values()))
    new, real, held = (rows[rng.permutation(len(rows))[:n]] for rows in samples.values())
    shuffled = rng.permuted(real, axis=0)  # every column on its own
    axes = _principal_axes(samples["train"], n_components)
    known, held_flat = samples["train"] @ axes, held @ axes
    usual = nearest_distance(held_flat, known)
    widths, seed = np.array(MULTIPLES) * median_distance(held), int(rng.integers(2**32))

    def scores(rows: Array, to_train: float) -> SampleScores:
        flat = rows @ axes
        statistic, p_value = mmd_test(rows, held, widths, seed=seed)
        near = neighbor_scores(held_flat, flat, NEIGHBORS)
        return SampleScores(
            frechet=frechet_distance(flat, held_flat),
            mmd_squared=statistic,
            mmd_p_value=p_value,
            sliced_w2=sliced_wasserstein_squared(rows, held, PROJECTIONS, seed),
            energy=energy_distance(rows, held),
            precision=near.precision,
            recall=near.recall,
            density=near.density,
            coverage=near.coverage,
            train_distance=to_train / usual if usual > 0 else math.nan,
            linear_accuracy=linear_accuracy(flat, held_flat, seed=seed),
            neighbor_accuracy=neighbor_accuracy(flat, held_flat, NEIGHBORS, seed=seed),
        )

    return SampleQuality(
        generated=scores(new, nearest_distance(new @ axes, known)),
        floor=scores(real, usual),  # training rows would be their own neighbors
        ceiling=scores(shuffled, nearest_distance(shuffled @ axes, known)),
        n=n,
        n_components=axes.shape[1],
        notes=tuple(
            f"{name}: {n} of {len(rows)} rows, chosen by the key."
            for name, rows in samples.items()
            if len(rows) > n
        ),
    )


def _flat(name: str, rows: Any) -> Array:
    """Rows of any shape as vectors, the leaves of a pytree side by side."""
    leaves = [np.asarray(leaf, dtype=np.float64) for leaf in jax.tree.leaves(rows)]
    if not leaves or any(leaf.ndim == 0 or len(leaf) != len(leaves[0]) for leaf in leaves):
        raise ValueError(
            f"sample_quality needs {name} as an array with one row per observation, or a pytree of "
            f"such, got shapes {[leaf.shape for leaf in leaves]}; write jnp.asarray({name})."
        )
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise ValueError(f"sample_quality needs finite rows, got NaN or infinity in {name}.")
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def _check(samples: dict[str, Array], n_components: int, max_rows: int) -> None:
    at_least_one("n_components", n_components)
    shapes = ", ".join(f"{name} {rows.shape}" for name, rows in samples.items())
    if len({rows.shape[1] for rows in samples.values()}) > 1:
        raise ValueError(
            f"sample_quality needs rows of one size, got {shapes} as (rows, numbers per row); "
            "generate rows like those of train and test."
        )
    if min(max_rows, *(len(rows) for rows in samples.values())) < LEAST_ROWS:
        raise ValueError(
            f"sample_quality needs {LEAST_ROWS} rows or more of each and max_rows >= {LEAST_ROWS}, "
            f"got {shapes} and max_rows={max_rows}."
        )


def _principal_axes(x: Array, n_components: int) -> Array:
    """The directions of largest variance in columns, no more than the rank."""
    upper = np.linalg.qr(x - x.mean(axis=0), mode="r")
    _, sizes, axes = np.linalg.svd(upper, full_matrices=False)
    rank = int(np.sum(sizes > 1e-10 * np.max(np.abs(x))))
    if rank == 0:
        raise ValueError("sample_quality needs rows that differ, got equal rows in train.")
    return axes[: min(rank, n_components)].T
