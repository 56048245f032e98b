"""Figures of a fitted model of rows."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from infer.planning import at_least_one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from infer.amortized_result import AmortizedResult
    from infer.core.data import Rows


def rows_figure(
    result: "AmortizedResult", rows: "Rows", key: Any, shape: tuple[int, ...] | None, columns: int
) -> "Figure":
    """Rows, their reconstructions, new rows, and a walk between two codes, as small images."""
    from infer.bridges.figures import image_rows

    data = result.data
    if data is not None and data.layout is not None:
        raise ValueError(
            f"plot shows rows of one array, and these have parts {', '.join(data.layout.names)}; "
            f"draw a part of result.generate(10, key=0)."
        )
    if rows.condition is not None or rows.mask is not None:
        raise ValueError(
            "plot shows rows without masks and conditions; see reconstruct and generate."
        )
    shape = rows.x.shape[1:] if shape is None else shape
    if len(shape) not in (2, 3) or math.prod(shape) != math.prod(rows.x.shape[1:]):
        raise ValueError(
            f"plot needs the shape of an image for rows of {rows.x.shape[1:]}, got {shape}; "
            "write shape=(8, 8)."
        )
    x = rows.x[: at_least_one("columns", columns)]
    lines = {
        "rows" if data is None or data.held_out is None else "held out": x,
        "reconstructed": result.reconstruct(x),
        "generated": result.generate(columns, key=key),
        "between two": result.interpolate(x[0], x[-1], columns),
    }
    return image_rows({name: np.asarray(line) for name, line in lines.items()}, shape)


def latents_figure(z: np.ndarray, labels: Any) -> "Figure":
    """Posterior means in the plane of the two most active latent variables."""
    from infer.bridges.figures import scatter

    if z.shape[1] < 2:
        raise ValueError("plot_latents needs two latent variables, and this model has one.")
    most = np.sort(np.argsort(-z.var(axis=0))[:2])
    names = f"z[{most[0]}]", f"z[{most[1]}]"
    return scatter(z[:, most], None if labels is None else np.asarray(labels), names)
