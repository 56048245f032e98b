"""Figures of several results. matplotlib is imported when it is needed."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00")
_STYLES = {"ok": "-", "suspect": "-.", "failed": "--"}
_MARKERS = ("", "o", "^", "s", "x")  # one per round of colors: no two of 35 lines are alike
_COLUMNS = 4
_BINS = 512


def require_pyplot(what: str) -> Any:
    """The module of matplotlib, or an error that says how to get it."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(f"{what} needs matplotlib: pip install 'infer-jax[plot]'.") from error
    return pyplot


def marginals(
    samples: Mapping[str, Mapping[str, np.ndarray]], verdicts: Mapping[str, str], most: int
) -> "Figure":
    """Density outlines of every scalar, a panel each, one line per result.

    The axes fit the results with the best verdict; others widen them threefold at most, and are
    cut where they reach beyond.
    """
    pyplot = require_pyplot("plot_comparison")
    scalars = list(next(iter(samples.values())))
    shown = scalars[:most]
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = pyplot.subplots(
        rows,
        columns,
        squeeze=False,
        layout="constrained",
        figsize=(max(3.0 * columns, 4.5), 2.2 * rows + 0.6),
    )
    handles = {}
    for ax, scalar in zip(axes.flat, shown, strict=False):
        values = {name: _finite(s[scalar]) for name, s in samples.items()}
        low, high = _limits(values, verdicts)
        peaks = []
        for i, (name, x) in enumerate(values.items()):
            grid, density = _density(x, low, high)
            style = {"color": _COLORS[i % len(_COLORS)], "linestyle": _STYLES[verdicts[name]]}
            marker = _MARKERS[i // len(_COLORS) % len(_MARKERS)]
            (line,) = ax.plot(
                grid, density, linewidth=1.6, marker=marker, markersize=4, markevery=24, **style
            )
            handles.setdefault(f"{name} ({verdicts[name]})", line)
            if len(x) and (verdicts[name] != "failed" or set(verdicts.values()) == {"failed"}):
                peaks.append(float(density.max()))
        top = max(peaks, default=0.0)
        ax.set_ylim(0, 1.15 * top if top > 0 else 1.0)
        ax.set_xlim(low, high)
        ax.set_title(scalar, fontsize=10)
        ax.set_yticks([])
        ax.locator_params(axis="x", nbins=4)
        ax.tick_params(labelsize=8)
        ax.spines[["left", "top", "right"]].set_visible(False)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    title = (
        f"the first {len(shown)} of {len(scalars)} scalars" if len(shown) < len(scalars) else None
    )
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(len(handles), columns + 1),
        frameon=False,
        title=title,
    )
    return figure


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]], title: str, x_label: str, y_label: str
) -> "Figure":
    """Points (x, y) of several series joined by lines, both axes logarithmic."""
    pyplot = require_pyplot("plot")
    figure, ax = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    places = sorted({x for points in series.values() for x, _ in points})
    for i, (name, points) in enumerate(series.items()):
        x, y = zip(*points, strict=True)
        ax.plot(x, y, "o-", color=_COLORS[i % len(_COLORS)], linewidth=1.6, label=name)
    ax.set(xscale="log", yscale="log", title=title, xlabel=x_label, ylabel=y_label)
    ax.set_xticks(places, [f"{x:g}" for x in places])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def rank_differences(
    at: np.ndarray, lower: np.ndarray, upper: np.ndarray, below: Mapping[str, np.ndarray]
) -> "Figure":
    """Fractions of ranks below `at`, minus `at`, a panel per scalar, each over a gray band."""
    pyplot = require_pyplot("plot")
    columns = min(_COLUMNS, len(below))
    rows = math.ceil(len(below) / columns)
    size = (max(2.6 * columns, 3.5), 2.0 * rows + 0.4)
    figure, axes = pyplot.subplots(
        rows, columns, squeeze=False, sharex=True, layout="constrained", figsize=size
    )
    for ax, (name, fraction) in zip(axes.flat, below.items(), strict=False):
        ax.fill_between(at, lower - at, upper - at, color="0.85", step="mid", linewidth=0)
        ax.plot(at, fraction - at, color=_COLORS[0], linewidth=1.4, drawstyle="steps-mid")
        ax.axhline(0, color="0.5", linewidth=0.8)
        ax.set_title(name, fontsize=10)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(below) :]:
        ax.set_visible(False)
    figure.supxlabel("rank as a fraction", fontsize=9)
    figure.supylabel("ECDF - uniform", fontsize=9)
    return figure


def image_rows(rows: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> "Figure":
    """Rows of small images, each with its name on the left; gray from 0 to the largest value."""
    pyplot = require_pyplot("plot")
    columns = max(len(images) for images in rows.values())
    figure, axes = pyplot.subplots(
        len(rows),
        columns,
        squeeze=False,
        layout="constrained",
        figsize=(0.75 * columns + 1.2, 0.8 * len(rows)),
    )
    top = max(float(np.max(images)) for images in rows.values())
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.axis("off")
        for ax, image in zip(line, images, strict=False):
            ax.imshow(np.reshape(image, shape), cmap="gray_r", vmin=0, vmax=top)
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
    return figure


def scatter(z: np.ndarray, labels: np.ndarray | None, names: tuple[str, str]) -> "Figure":
    """Points in a plane; where there are labels, these in the place of dots."""
    pyplot = require_pyplot("plot")
    figure, ax = pyplot.subplots(figsize=(5, 4.6), layout="constrained")
    if labels is None:
        ax.plot(*z.T, ".", color=_COLORS[0], markersize=3)
    else:
        kinds = np.unique(labels)
        for i, kind in enumerate(kinds):
            mine, color = z[labels == kind], _COLORS[i % len(_COLORS)]
            for x, y in mine:
                ax.text(x, y, str(kind), color=color, fontsize=7, ha="center", va="center")
        pad = 0.05 * np.ptp(z, axis=0)
        ax.set_xlim(z[:, 0].min() - pad[0], z[:, 0].max() + pad[0])
        ax.set_ylim(z[:, 1].min() - pad[1], z[:, 1].max() + pad[1])
    ax.set(xlabel=names[0], ylabel=names[1])
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def _finite(x: np.ndarray) -> np.ndarray:
    flat = np.asarray(x, np.float64).ravel()
    return flat[np.isfinite(flat)]


def _limits(values: Mapping[str, np.ndarray], verdicts: Mapping[str, str]) -> tuple[float, float]:
    """The interval to draw."""

    def span(names: list[str], tail: float) -> tuple[float, float]:
        ends = [np.quantile(values[n], (tail, 1 - tail)) for n in names if len(values[n])]
        if not ends:
            return math.nan, math.nan
        return min(float(e[0]) for e in ends), max(float(e[1]) for e in ends)

    best = next(status for status in _STYLES if status in verdicts.values())
    sound = [name for name in values if verdicts[name] == best]
    low, high = span(sound, 0.002)
    far_low, far_high = span([name for name in values if name not in sound], 0.02)
    if not math.isfinite(low):
        low, high = far_low, far_high
    if not math.isfinite(low):
        return 0.0, 1.0
    width = high - low
    if math.isfinite(far_low):
        low, high = max(min(low, far_low), low - width), min(max(high, far_high), high + width)
    pad = 0.08 * (high - low) or 0.5 * max(1.0, abs(low))
    return low - pad, high + pad


def _density(x: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian kernel estimate with Silverman's bandwidth, from a fine histogram."""
    grid = np.linspace(low, high, _BINS)
    if not len(x):
        return grid, np.full(_BINS, np.nan)
    step = grid[1] - grid[0]
    spread = min(x.std(), np.subtract(*np.quantile(x, (0.75, 0.25))) / 1.34) or x.std()
    bandwidth = max(0.9 * spread * len(x) ** -0.2, step)
    reach = int(min(4 * bandwidth / step, 2 * _BINS)) + 1
    # Draws beyond the axes still lend the tails of their kernels to what is inside.
    edges = low - (reach + 0.5) * step + step * np.arange(_BINS + 2 * reach + 1)
    counts, _ = np.histogram(x, edges)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / bandwidth) ** 2)
    return grid, np.convolve(counts / (len(x) * step), kernel / kernel.sum(), mode="valid")
