"""Figures of a scoreboard: who was right about what, and how far the scores can be believed."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from infer.bridges.figures import require_pyplot
from infer.scoreboard.errors import LETTERS, Label
from infer.scoreboard.record import ERROR, PEER, VERDICTS, Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# From light to dark with the severity, so that the colors are in order without color, too.
_COLORS = {"ok": "#CFE8F5", "suspect": "#E3A23B", "failed": "#7A2318", ERROR: "#FFFFFF"}
_INK = {"ok": "black", "suspect": "black", "failed": "white", ERROR: "black"}
_SHAPES = {"ok": "o", "suspect": "s", "failed": "x"}
_LEAST, _MOST = 1e-2, 1e2  # label units; what lies beyond is drawn at the edge


def heat_map(records: Sequence[Record]) -> "Figure":
    """Posteriors by methods, colored by verdict, with the truth as a letter; misses are framed."""
    pyplot = require_pyplot("The scoreboard")
    shown = [r for r in records if r.kind != PEER and (r.judged or r.verdict == ERROR)]
    cases = list(dict.fromkeys(r.case for r in shown))
    methods = list(dict.fromkeys(r.method for r in shown))
    size = (0.27 * len(methods) + 4.2, 0.25 * len(cases) + 2.6)
    figure, ax = pyplot.subplots(figsize=size, layout="constrained")
    for r in shown:
        x, y = methods.index(r.method), cases.index(r.case)
        miss = r.label == Label.WRONG and r.verdict == "ok"
        edge = {"edgecolor": "black", "linewidth": 2.2, "zorder": 3} if miss else {}
        frame = {"edgecolor": "#999999", "linewidth": 0.5} | edge
        corner, color = (x - 0.46, y - 0.46), _COLORS[r.verdict]
        ax.add_patch(pyplot.Rectangle(corner, 0.92, 0.92, facecolor=color, **frame))
        letter = LETTERS.get(r.label, "!")
        ax.text(x, y, letter, ha="center", va="center", fontsize=8, color=_INK[r.verdict], zorder=4)
    ax.set(xlim=(-0.6, len(methods) - 0.4), ylim=(len(cases) - 0.4, -0.6), aspect="equal")
    ax.set_xticks(range(len(methods)), methods, rotation=90, fontsize=8)
    ax.set_yticks(range(len(cases)), cases, fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    handles = [
        pyplot.Rectangle((0, 0), 1, 1, facecolor=color, edgecolor="#999999", label=verdict)
        for verdict, color in _COLORS.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        title="R right, g gray, W wrong, ! error; framed: wrong and called ok",
    )
    return figure


def calibration(records: Sequence[Record]) -> "Figure":
    """The true worst error against the bound that the scores put on it, a panel per verdict.

    Both in label units. Beneath the diagonal the bound held; the lines are the limit of "ok" for
    the bound and that of "wrong" for the error.
    """
    pyplot = require_pyplot("The scoreboard")
    figure, axes = pyplot.subplots(
        1, 3, figsize=(10.5, 3.9), sharex=True, sharey=True, layout="constrained"
    )
    for ax, verdict in zip(axes, VERDICTS, strict=True):
        few = [r for r in records if r.verdict == verdict and "hi" in r.scores]
        places = [(_inside(r.scores["hi"]), _inside(r.units)) for r in few]
        x, y = zip(*places, strict=True) if places else ((), ())
        ax.plot([_LEAST, _MOST], [_LEAST, _MOST], color="#777777", linewidth=0.8)
        ax.axvline(0.5, color="#777777", linewidth=0.8, linestyle=":")
        ax.axhline(1.0, color="#777777", linewidth=0.8, linestyle="--")
        ax.scatter(x, y, s=16, marker=_SHAPES[verdict], color="black", alpha=0.6, clip_on=False)
        ax.set(xscale="log", yscale="log", xlim=(_LEAST, _MOST), ylim=(_LEAST, _MOST))
        ax.set(title=f"{verdict}: {len(few)} fits", xlabel="bound by the scores (hi)")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("true worst error (label units)")
    return figure


def _inside(value: float) -> float:
    return _MOST if math.isnan(value) else min(max(value, _LEAST), _MOST)
