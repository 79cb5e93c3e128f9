"""Draw how a day's cost grows; needs matplotlib, so the environment of the peers draws it.

    .venv-peers/bin/python benchmarks/draw_growth.py FIGURES.json PICTURE.svg

The same figures give the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

#: Told apart by those who see few colours as well; on a ground of its own, so that it reads on a dark page too.
_COLOURS = {"write": "#b35806", "consolidate": "#2166ac", "resample": "#1b7837"}
_GROUND, _INK, _FAINT = "#ffffff", "#24292f", "#d0d7de"
_ROWS = (("seconds", "seconds"), ("requests", "requests"), ("megabytes", "MB read and written"))
#: Between two labels, and below the lowest, of the height of a plot.
_LEAST_GAP, _FOOT = 0.09, 0.05


def main() -> None:
    """Draw what the arguments say."""
    figures = json.loads(Path(sys.argv[1]).read_text())
    mpl.rcParams.update(
        {
            "svg.hashsalt": "growth",
            "font.size": 9,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "axes.edgecolor": _FAINT,
        }
    )
    fixed = figures["fixed"]
    columns = (
        ("years", f"years of history, {fixed['years']:,} symbols"),
        ("symbols", f"symbols, {fixed['symbols']} years of history"),
    )
    figure, plots = plt.subplots(len(_ROWS), len(columns), figsize=(8.4, 7.2), sharey="row", sharex="col")
    for row, (key, title) in enumerate(_ROWS):
        most = max(point[key] for parts in figures["series"].values() for points in parts.values() for point in points)
        for column, (axis, label) in enumerate(columns):
            _plot(plots[row][column], figures["series"][axis], key, most * 1.06)
            if row == len(_ROWS) - 1:
                plots[row][column].set_xlabel(label)
        plots[row][0].set_title(title, loc="left", fontweight="bold", fontsize=9)
    figure.tight_layout(h_pad=1.6, w_pad=1.0)
    figure.savefig(sys.argv[2], format="svg", facecolor=_GROUND, metadata={"Date": None})


def _plot(axes: Axes, series: dict[str, list[dict[str, Any]]], key: str, top: float) -> None:
    """Draw one line a part, each with its name and last value at its end."""
    ends = {}
    for part, points in series.items():
        places, values = [point["at"] for point in points], [point[key] for point in points]
        axes.plot(places, values, color=_COLOURS[part], linewidth=1.8, marker="o", markersize=4, clip_on=False)
        ends[part] = values[-1]
    last = max(point["at"] for points in series.values() for point in points)
    axes.set_xlim(0, last * 1.5)
    axes.set_xticks([point["at"] for point in next(iter(series.values()))])
    axes.set_ylim(0, top)
    axes.set_facecolor(_GROUND)
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.tick_params(length=0, labelbottom=True)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    _label(axes, ends, last, top)


def _label(axes: Axes, ends: dict[str, float], last: float, top: float) -> None:
    """Write names and values beside the ends of their lines, no two of them over each other."""
    at = _FOOT - _LEAST_GAP
    for part, value in sorted(ends.items(), key=lambda item: item[1]):
        at = max(value / top, at + _LEAST_GAP)
        text = f"{part} {value:,.0f}" if value >= 100 else f"{part} {value:.2g}"
        axes.text(last * 1.04, at * top, text, color=_COLOURS[part], va="center", fontsize=8)


if __name__ == "__main__":
    main()
