"""The picture of README.md: PyTorch's time beside softgrad's, for every cell of results/grid.json."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from softgrad.bench.drawing import FIXED, saved

# Colours that people with any colour vision tell apart (after Okabe and Ito), and shapes for print in grey
STYLES = {
    "float16": ("#D55E00", "s"),
    "bfloat16": ("#A87000", "D"),
    "float32": ("#0072B2", "o"),
    "float64": ("#7B3294", "^"),
}
OPS = "softmax", "softmax_vjp"
TICKS = 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32

Json = dict[str, Any]


def cells(grid: Json) -> list[Json]:
    """Into ready outputs, where both were timed."""
    theirs = [r for r in grid["records"] if r["implementation"] == "torch" and r["into"] == "out"]
    return [r for r in theirs if r["ratio"] is not None]


def mark(grid: Json) -> str:
    """What the picture is drawn from, in a few characters; they stand in the picture."""
    drawn = [
        (r["op"], r["shape"], r["axis"], r["dtype"], r["threads"], r["ratio"]["median"]) for r in cells(grid)
    ]
    return hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16]


def name_of(record: Json) -> str:
    return " × ".join(map(str, record["shape"])) + (", axis 0" if record["axis"] == 0 else "")


def draw(axes: Any, records: list[Json], names: list[str], title: str) -> None:
    axes.axvspan(1e-3, 1, color="#f1f1f1", zorder=0)
    axes.axvline(1, color="#333333", linewidth=1, zorder=1)
    for i, (dtype, (color, shape)) in enumerate(STYLES.items()):
        for threads, face in ((1, color), (2, "none")):
            own = [r for r in records if r["dtype"] == dtype and r["threads"] == threads]
            heights = [names.index(name_of(r)) + (i - 1.5) * 0.17 for r in own]
            ratios = [r["ratio"]["median"] for r in own]
            axes.plot(ratios, heights, shape, color=color, markerfacecolor=face, markersize=5, zorder=3)
    axes.set_xscale("log")
    every = [r["ratio"]["median"] for r in records]
    axes.set_xlim(min(0.5, *every) / 1.2, max(2.0, *every) * 1.2)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×" if x >= 1 else f"1/{1 / x:g}"))
    axes.set_ylim(len(names) + 0.15, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11.5, family="DejaVu Sans Mono")
    for x, side, text in ((0.97, "right", "PyTorch faster"), (1.03, "left", "softgrad faster")):
        axes.text(x, len(names) + 0.1, text, ha=side, va="bottom", fontsize=9, color="#444444")


def svg(grid: Json) -> bytes:
    """The picture as the bytes of an SVG file."""
    records = cells(grid)
    names = list(dict.fromkeys(map(name_of, records)))
    with matplotlib.rc_context(FIXED):
        figure = Figure(figsize=(11, 0.42 * len(names) + 1.9))
        FigureCanvasAgg(figure)
        top = 1 - 1.25 / figure.get_figheight()
        panels = figure.subplots(1, len(OPS), sharey=True)
        figure.subplots_adjust(left=0.14, right=0.985, bottom=0.09, top=top, wspace=0.06)
        for axes, op in zip(panels, OPS, strict=True):
            draw(axes, [r for r in records if r["op"] == op], names, op)
        title = "PyTorch's time beside softgrad's, into ready outputs"
        figure.text(0.012, 0.94, title, fontsize=14, fontweight="bold")
        words = [(dtype, color) for dtype, (color, _) in STYLES.items()]
        threads = sorted({r["threads"] for r in records})
        filled = "filled: one thread" + ("; hollow: two" if len(threads) > 1 else "")
        for i, (word, color) in enumerate([*words, (filled, "#333333")]):
            place = 0.02 + 0.1 * i
            if word in STYLES:
                shape = STYLES[word][1]
                figure.add_artist(Line2D([place], [0.893], marker=shape, color=color, markersize=6))
            figure.text(place + 0.012, 0.88, word, color=color, fontsize=10)
    return saved(figure, "svg").replace(b"<svg ", f'<svg data-figures="{mark(grid)}" '.encode(), 1)
