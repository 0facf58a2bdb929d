"""The plots of `softgrad bench` and `softgrad reproduce`: lines against n, both axes logarithmic."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ..commands import report as reports
from ..commands.units import BYTES, SECONDS, Units, digits, with_unit
from .compare import Comparison, Record
from .implementations import LARGEST_JACOBIAN, NEW, OUT
from .report import library, series, unit_of_error
from .reproduce import PLOTTED, WAYS, Report

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
GREY = "#6b6b6b"
SPEED: Units = tuple((f"{name}/s", size) for name, size in BYTES)
FAINT = 0.01  # errors below it, 0 among them, are drawn there

# A font that comes with matplotlib, and the same names in each SVG of the same figure
FIXED: Any = {"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "softgrad", "figure.dpi": 150}

Line = list[tuple[int, float]]


def panel(axes: Any, lines: Mapping[str, Line], title: str, units: Units) -> None:
    """Lines by implementation, named beside the axes in the order of their ends."""
    handles = []
    for name, points in sorted(lines.items(), key=lambda line: -line[1][-1][1]):
        style = {"markersize": 5, "linewidth": 1.6, "zorder": 3, **STYLES[name]}
        handles += axes.plot(*zip(*points, strict=True), label=library(name), **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(title, loc="left", fontsize=11.5, pad=8)
    axes.set_xlabel("n, the length of a row")
    axes.minorticks_off()
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: with_unit(value, units))
    axes.xaxis.set_major_formatter(lambda n, _: f"{n:g}")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, labelcolor="linecolor"
    )


def save(figure: Any, form: str, **options: Any) -> bytes:
    """The bytes of a PNG or SVG file (`form` is its suffix), the same for the same figure."""
    form = form.lower().lstrip(".")
    with matplotlib.rc_context(FIXED):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None, **options)
    return buffer.getvalue()


# --- softgrad bench: speed under its limit, memory and error ----------------------------------------------


def size_without_n(record: Record) -> str:
    lengths: list[Any] = list(record.shape)
    lengths[record.axis] = "n"
    return " × ".join(map(str, lengths))


def joined(comparison: Comparison) -> dict[str, list[Record]]:
    """By the title of a series its records of one shape, n aside, that with the most lengths."""
    result = {}
    for title, records in series(comparison.records).items():
        by_size: dict[str, list[Record]] = {}
        for r in sorted((r for r in records if r.seconds is not None), key=lambda r: r.n):
            by_size.setdefault(size_without_n(r), []).append(r)
        if by_size:
            result[title] = max(by_size.values(), key=lambda those: len({r.n for r in those}))
    return result


def lines(records: Sequence[Record], into: str, value: Callable[[Any], float]) -> dict[str, Line]:
    """By implementation, the values of its records into `into`, or else into a new array."""
    result: dict[str, Line] = {}
    for name in dict.fromkeys(r.implementation for r in records):
        own = [r for r in records if r.implementation == name]
        own = [r for r in own if r.into == into] or [r for r in own if r.into == NEW]
        if own:
            result[name] = [(r.n, value(r)) for r in own]
    return result


def draw(series: Mapping[str, Sequence[Record]], form: str, **options: Any) -> bytes:
    """A row of three panels for each title and its records, as the bytes of a PNG or SVG file."""
    if not series:
        raise ValueError("nothing was timed, so there is nothing to draw")
    with matplotlib.rc_context(FIXED):
        figure = Figure((15, 4.6 * len(series)), layout="constrained")
        rows = figure.subfigures(len(series), 1, squeeze=False)[:, 0]
        for (title, records), row in zip(series.items(), rows, strict=True):
            row.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
            left, middle, right = row.subplots(1, 3)
            speed = lines(records, OUT, lambda r: r.bytes / r.seconds.median)
            limit, *_ = lines(records, OUT, lambda r: r.bytes / r.limit_seconds.median).values()
            title = f"Speed, under the limit of memory; {size_without_n(records[0])}"
            panel(left, speed | {"limit": limit}, title, SPEED)
            memory = lines(records, NEW, lambda r: max(r.peak_bytes, 1))
            panel(middle, memory, "Memory at its peak, into a new array", BYTES)
            error = lines(records, NEW, lambda r: max(r.error_eps, FAINT))
            panel(right, error, "Error of the worst row", ((unit_of_error(records[0].op), 1.0),))
    return save(figure, form, **options)


def picture(comparison: Comparison, form: str) -> bytes:
    return draw(joined(comparison), form)


def figures(comparison: Comparison) -> dict[str, str]:
    """By the title of a series, its plots for a page, on no ground of their own."""
    return {
        title: reports.figure(
            draw({title: records}, "svg", transparent=True).decode(),
            f"Speed, memory and error of {title} against n; the figures are in the table",
        )
        for title, records in joined(comparison).items()
    }


# --- softgrad reproduce: n² is a line twice as steep as n -------------------------------------------------


def experiment(report: Report, form: str) -> bytes:
    """Time and memory of the article's ways, as the bytes of a PNG or SVG file."""
    settings, machine = report.settings, report.environment
    title = (
        "The gradient through a softmax layer costs n² by its Jacobian, and n without\n"
        f"{settings.batch} rows of {settings.dtype}, one thread, medians, quartiles shaded; "
        f"the Jacobian is built up to {with_unit(LARGEST_JACOBIAN, BYTES)}\n"
        f"{machine['cpu']}, NumPy {machine['numpy']}, softgrad {machine['softgrad']}"
    )
    with matplotlib.rc_context(FIXED):
        figure = Figure((12, 5), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        left, right = figure.subplots(1, 2)
        for way in PLOTTED:
            points = [p for p in report.points if p.way == way]
            low, high = [p.seconds.q1 for p in points], [p.seconds.q3 for p in points]
            color = STYLES[WAYS[way][0]]["color"]
            left.fill_between([p.n for p in points], low, high, color=color, alpha=0.2, linewidth=0)
        costs(left, report, lambda point: point.seconds.median, "Time of a call", SECONDS)
        costs(right, report, lambda point: point.peak_bytes, "Memory at its peak, beyond the inputs", BYTES)
    return save(figure, form)


def costs(axes: Any, report: Report, value: Callable[[Any], float], title: str, units: Units) -> None:
    """One panel, with guides that grow as n² and n, and how far the Jacobian is above softgrad."""
    points = {WAYS[way][0]: [(p.n, value(p)) for p in report.points if p.way == way] for way in PLOTTED}
    lines = {name: line for name, line in points.items() if line}
    for name, power, factor in (("jacobian", 2, 3.0), ("softgrad", 1, 1 / 3)):
        if name in lines:
            n, cost = lines[name][-1]
            guide(axes, n, cost * factor, power)
    above, below = (dict(lines.get(name, [])) for name in ("jacobian", "softgrad"))
    if (n := report.settings.features) in above:
        axes.plot([n, n], [below[n], above[n]], color=GREY, linewidth=1)
        times = f"{digits(float(f'{above[n] / below[n]:.2g}'))} × "
        axes.text(n, math.sqrt(above[n] * below[n]), times, ha="right", va="center")
    panel(axes, lines, title, units)


def guide(axes: Any, n: int, cost: float, power: int) -> None:
    """A line that grows as n^power up to this cost, and its name."""
    axes.plot([n / 8, n], [cost / 8**power, cost], color=GREY, linewidth=1.2, linestyle=":", zorder=1)
    side, foot = ("right", "bottom") if power == 2 else ("left", "top")
    text = f" grows as n{'²' if power == 2 else ''} "
    axes.text(n / 3, cost / 3**power, text, color=GREY, ha=side, va=foot)
