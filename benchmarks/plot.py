"""
Draw what a call costs over the size of its batch, from the figures of ``server.py --json``.

One picture for light pages and one for dark ones, for ``docs/explanation/performance.md``. Run it
with ``make page``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "docs" / "explanation"
DRIVERS = {"SQLite": "sqlite3", "PostgreSQL": "psycopg"}
LABEL_GAP = 0.085
"""Between two labels, in powers of ten."""


class Look(NamedTuple):
    """Colours of a page."""

    ink: str
    grid: str
    colors: dict[str, str]


# Okabe and Ito's colours, which people see apart who do not see red or green apart; those for dark
# pages are the lighter ones. Lines differ by their markers as well.
LOOKS = {
    "light": Look(
        "#24292f",
        "#d0d7de",
        {
            "batch": "#0072b2",
            "separate": "#a8467f",
            "raw": "#57606a",
            "raw pipeline": "#8a6d00",
            "PocketBase": "#c04f00",
        },
    ),
    "dark": Look(
        "#d6dde4",
        "#3d444d",
        {
            "batch": "#56b4e9",
            "separate": "#e39bc4",
            "raw": "#aab4be",
            "raw pipeline": "#f0e442",
            "PocketBase": "#f08a4b",
        },
    ),
}
LABELS = {
    "batch": "atomicbatch, one batch",
    "separate": "atomicbatch, separate requests",
    "raw": "raw {driver}",
    "raw pipeline": "raw {driver}, pipeline",
    "PocketBase": "PocketBase, one batch",
}
MARKERS = {"batch": "o", "separate": "s", "raw": "D", "raw pipeline": "^", "PocketBase": "v"}
Lines = dict[str, list[tuple[int, float]]]


def lines_of(figures: list[dict[str, Any]], database: str) -> Lines:
    """Medians of creates: who -> (calls, microseconds)."""
    found: Lines = {}
    for one in figures:
        if one["database"] == database and one["kind"] == "create":
            median = statistics.median(one["microseconds"])
            found.setdefault(one["who"], []).append((one["calls"], median))
    return {who: sorted(points) for who, points in found.items()}


def label_heights(lines: Lines) -> dict[str, float]:
    """Where each label stands: at the end of its line, unless another one is there."""
    ends = sorted((math.log10(points[-1][1]), who) for who, points in lines.items())
    heights: dict[str, float] = {}
    lowest = -math.inf
    for end, who in ends:
        lowest = max(end, lowest + LABEL_GAP)
        heights[who] = 10**lowest
    return heights


def draw_panel(axes: Any, database: str, lines: Lines, look: Look) -> None:
    """One database."""
    for who, points in lines.items():
        color, width = look.colors[who], 2.6 if who == "batch" else 1.6
        axes.plot(*zip(*points, strict=True), color=color, lw=width, marker=MARKERS[who], ms=5)
    for who, height in label_heights(lines).items():
        calls, microseconds = lines[who][-1]
        figure = f"{microseconds:,.{0 if microseconds >= 10 else 1}f}"
        axes.annotate(
            f"{LABELS[who].format(driver=DRIVERS[database])}  {figure}",
            (calls, height),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=look.colors[who],
            fontsize=9.5,
            weight="bold" if who == "batch" else "normal",
        )
    axes.set_title(database, color=look.ink, fontsize=12, loc="left", weight="bold")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("calls in a batch", color=look.ink)
    axes.set_xticks([1, 10, 100, 1000, 10_000], ["1", "10", "100", "1,000", "10,000"])
    axes.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    axes.set_ylim(2, 3000)
    axes.minorticks_off()
    axes.grid(color=look.grid, lw=0.7)
    axes.tick_params(colors=look.ink, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(look.grid)


def draw(figures: list[dict[str, Any]], look: Look, file: Path) -> None:
    """Both databases side by side."""
    # The same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "atomicbatch", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(11.5, 4.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, database in zip(panels, DRIVERS, strict=True):
            draw_panel(axes, database, lines_of(figures, database), look)
        panels[0].set_ylabel("microseconds a create", color=look.ink)
        figure.savefig(file, transparent=True, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("measured", type=Path, help="what server.py --json has written")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--format", default="svg", choices=("svg", "png"))
    arguments = parser.parse_args()
    figures = json.loads(arguments.measured.read_text())["figures"]
    for name, look in LOOKS.items():
        file = arguments.folder / f"cost-per-call-{name}.{arguments.format}"
        draw(figures, look, file)
        print(file)


if __name__ == "__main__":
    main()
