"""Plots against n, both axes logarithmic: those of `softgrad bench`, and what those of others are drawn with.

A line joins shapes that differ in n alone; the others are in the tables.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ..commands import report
from ..commands.units import BYTES, Units, with_unit
from .compare import Comparison, Record
from .implementations import NEW, OUT
from .report import library, series, unit_of_error

# Colours that people with any colour vision tell apart (after Okabe and Ito), and shapes for print in grey
STYLES: dict[str, dict[str, Any]] = {
    "softgrad": {"color": "#00795C", "marker": "^", "linestyle": "-", "linewidth": 2.4, "zorder": 5},
    "numpy": {"color": "#0072B2", "marker": "o", "linestyle": "--"},
    "jacobian": {"color": "#D55E00", "marker": "s", "linestyle": "-"},
    "scipy": {"color": "#6b6b6b", "marker": "D", "linestyle": ":"},
    "torch": {"color": "#B2477F", "marker": "v", "linestyle": "-"},
    "torch.compile": {"color": "#7B3294", "marker": "X", "linestyle": "--"},
    "jax": {"color": "#A87000", "marker": "P", "linestyle": "-."},
    "entmax": {"color": "#0A8CA8", "marker": "d", "linestyle": "-"},
    "liger": {"color": "#5A3A1B", "marker": "<", "linestyle": "-"},
    "quack": {"color": "#3F51B5", "marker": ">", "linestyle": "--"},
    "limit": {"color": "#222222", "linestyle": (0, (4, 2)), "linewidth": 1.4},
}
SPEED: Units = tuple((f"{name}/s", size) for name, size in BYTES)
FAINT = 0.01  # errors below it, 0 among them, are drawn there

# A font that comes with matplotlib, and the same names in each SVG of the same figure
FIXED: Any = {"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "softgrad"}

Line = list[tuple[int, float]]


# --- one panel ---------------------------------------------------------------------------------------


def panel(axes: Any, lines: Mapping[str, Line], texts: Mapping[str, str], title: str, units: Units) -> None:
    """Lines by implementation, each with its text at its right end."""
    for name, points in lines.items():
        n, values = zip(*points, strict=True)
        axes.plot(n, values, **{"markersize": 5, "linewidth": 1.6, "zorder": 3, **STYLES[name]})
    axes.set(xscale="log", yscale="log", xlabel="n, the length of a row")
    axes.set_title(title, loc="left", fontsize=11.5, pad=8)
    lengths = sorted({n for points in lines.values() for n, _ in points})
    powers = [2**k for k in range(40) if lengths[0] <= 2**k <= lengths[-1]]
    ticks = next(powers[::step] for step in (1, 2, 3, 5, 9) if len(powers) <= 5 * step)
    axes.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) > 1 else lengths))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, units)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    label(axes, {name: points[-1] for name, points in lines.items()}, texts)


def label(axes: Any, ends: Mapping[str, tuple[float, float]], texts: Mapping[str, str]) -> None:
    """Name each line at its right end, two names never on top of each other."""
    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    for n in {end[0] for end in ends.values()}:  # those that end elsewhere are in nobody's way
        names = sorted((name for name in ends if ends[name][0] == n), key=lambda name: ends[name][1])
        heights = [math.log10(ends[name][1] / low) / decades for name in names]
        least = 0.08 * max(texts[name].count("\n") + 1 for name in names)
        for name, height in zip(names, spread_apart(heights, least), strict=True):
            axes.annotate(
                texts[name],
                xy=(n, height),
                xycoords=("data", "axes fraction"),
                xytext=(7, 0),
                textcoords="offset points",
                color=STYLES[name]["color"],
                fontweight="bold" if name == "softgrad" else "normal",
                va="center",
                linespacing=0.95,
                annotation_clip=False,
            )


def spread_apart(heights: list[float], least: float) -> list[float]:
    """Heights from 0 to 1, in order from low to high, moved as little as `least` between them takes.

    Less i·least, they only must not fall: where they do, those before and after share their mean.
    """
    groups: list[tuple[float, int]] = []
    for i, height in enumerate(heights):
        groups.append((height - i * least, 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (b, after), (a, before) = groups.pop(), groups.pop()
            groups.append(((a * before + b * after) / (before + after), before + after))
    most = max(0.0, 1 - (len(heights) - 1) * least)
    level = [min(max(mean, 0.0), most) for mean, count in groups for _ in range(count)]
    return [height + i * least for i, height in enumerate(level)]


def figure_of(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, dpi=150)
    FigureCanvasAgg(figure)
    return figure


def saved(figure: Any, form: str, **options: Any) -> bytes:
    """The bytes of a PNG or SVG file, the same for the same figure."""
    with matplotlib.rc_context(FIXED):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None, **options)
    return buffer.getvalue()


# --- softgrad bench: speed under its limit, memory and error ----------------------------------------------


def without_n(record: Record) -> tuple[int | None, ...]:
    """The shape, with None in the place of n."""
    at = record.axis % len(record.shape)
    return tuple(None if i == at else length for i, length in enumerate(record.shape))


def joined(records: Sequence[Record]) -> list[Record]:
    """Those of the shape, n aside, that was measured at most lengths."""
    lengths: dict[tuple[int | None, ...], set[int]] = {}
    for r in records:
        if r.seconds is not None:
            lengths.setdefault(without_n(r), set()).add(r.n)
    most = max(lengths, key=lambda shape: len(lengths[shape]), default=None)
    those = [r for r in records if r.seconds is not None and without_n(r) == most]
    return sorted(those, key=lambda r: r.n)


def lines(records: Sequence[Record], into: str, value: Callable[[Record], float | None]) -> dict[str, Line]:
    """By implementation, the values of its records: of those into `into`, if there are any."""
    found: dict[str, Line] = {}
    for name in dict.fromkeys(r.implementation for r in records):
        own = [r for r in records if r.implementation == name]
        own = [r for r in own if r.into == into] or [r for r in own if r.into == NEW]
        if points := [(r.n, v) for r in own if (v := value(r)) is not None]:
            found[name] = points
    return found


def speed(record: Record) -> float | None:
    return record.bytes / record.seconds.median if record.seconds else None


def roof(record: Record) -> float | None:
    return record.bytes / record.limit_seconds.median if record.limit_seconds else None


def memory(record: Record) -> float | None:
    return max(record.peak_bytes, 1) if record.peak_bytes is not None else None


def error(record: Record) -> float | None:
    return max(record.error_eps, FAINT) if record.error_eps is not None else None


def draw(records: Sequence[Record], left: Any, middle: Any, right: Any) -> None:
    """The three panels of one series."""
    first = [r for r in records if r.implementation == records[0].implementation]
    (limit,) = lines(first, OUT, roof).values()
    shape = " × ".join("n" if length is None else str(length) for length in without_n(records[0]))
    texts = {name: library(name) for name in STYLES}
    speeds = lines(records, OUT, speed) | {"limit": limit}
    panel(left, speeds, texts, f"Speed, under the limit of memory; {shape}", SPEED)
    panel(middle, lines(records, NEW, memory), texts, "Memory at its peak, into a new array", BYTES)
    unit = unit_of_error(records[0].op)
    panel(right, lines(records, NEW, error), texts, "Error of the worst row", ((unit, 1.0),))
    right.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{e:g} {unit}"))


def drawn(parts: Mapping[str, list[Record]]) -> Figure:
    """A row of three panels for each title and its records."""
    if not parts:
        raise ValueError("nothing was timed, so there is nothing to draw")
    height = 4.65 * len(parts)
    with matplotlib.rc_context(FIXED):
        figure = figure_of((14, height))
        rows = figure.subplots(len(parts), 3, squeeze=False)
        figure.subplots_adjust(
            left=0.068, right=0.915, bottom=0.6 / height, top=1 - 0.95 / height, wspace=0.55, hspace=0.55
        )
        for (title, records), panels in zip(parts.items(), rows, strict=True):
            draw(records, *panels)
            place = 0.012, panels[0].get_position().y1 + 0.5 / height
            figure.text(*place, title, fontsize=13, fontweight="bold", va="bottom")
    return figure


def parts(found: Comparison) -> dict[str, list[Record]]:
    """By title, the records of each series that can be joined by lines."""
    joins = {title: joined(records) for title, records in series(found.records)}
    return {title: records for title, records in joins.items() if records}


def picture(found: Comparison, form: str) -> bytes:
    """All of it, as the bytes of a PNG or SVG file."""
    return saved(drawn(parts(found)), form)


def figures(found: Comparison) -> dict[str, report.Figure]:
    """By the title of a series, its plots for a page, on no ground of their own."""
    return {
        title: report.Figure(
            saved(drawn({title: records}), "svg", transparent=True).decode(),
            f"Speed, memory and error of {title} against n; the figures are in the table",
        )
        for title, records in parts(found).items()
    }
