"""The picture of `softgrad reproduce --plot`: time and memory against n, both axes logarithmic.

There a cost that grows as n² is a line twice as steep as one that grows as n, which two guides show.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..commands.words import BYTES, SECONDS, Units, digits, in_words
from .drawing import FIXED, label, logarithmic, saved
from .reproduce import CLOSED_FORM, JACOBIAN, LARGEST_JACOBIAN, SOFTGRAD, Point, Report

# Colours that people with any colour vision tell apart (Okabe and Ito), and shapes for print in grey.
STYLES: dict[str, dict[str, Any]] = {
    JACOBIAN: {"color": "#D55E00", "marker": "s", "linestyle": "-"},
    CLOSED_FORM: {"color": "#0072B2", "marker": "o", "linestyle": "--"},
    SOFTGRAD: {"color": "#00795C", "marker": "^", "linestyle": "-"},
}
LABELS = {JACOBIAN: "Jacobian\nand product", CLOSED_FORM: "closed form\nin NumPy", SOFTGRAD: "softgrad"}
GUIDE = "#8a8a8a"


def guide(axes: Any, end: tuple[float, float], power: int, text: str) -> None:
    """A grey line that grows as n^power up to `end`, and its name."""
    n, value = end
    stretch = 8
    axes.plot(
        [n / stretch, n], [value / stretch**power, value],
        color=GUIDE, linewidth=1.2, linestyle=(0, (1, 1.5)), zorder=1,
    )  # fmt: skip
    back = stretch**0.6
    middle = n / back, value / back**power
    offset, side = ((-4, 3), "right") if power == 2 else ((4, -3), "left")
    axes.annotate(
        text, middle, xytext=offset, textcoords="offset points", color="#5f5f5f", fontsize=11,
        ha=side, va="bottom" if power == 2 else "top",
    )  # fmt: skip


def panel(axes: Any, points: list[Point], value: Any, low_high: Any, title: str, units: Units) -> None:
    ends: dict[str, tuple[float, float]] = {}
    for name, style in STYLES.items():
        of_way = [p for p in points if p.way == name]
        if not of_way:
            continue
        n, values = [p.n for p in of_way], [value(p) for p in of_way]
        axes.plot(n, values, markersize=4.5, linewidth=1.8, zorder=3, **style)
        if low_high is not None:
            low, high = zip(*(low_high(p) for p in of_way), strict=True)
            axes.fill_between(n, low, high, color=style["color"], alpha=0.2, linewidth=0, zorder=2)
        ends[name] = n[-1], values[-1]
    logarithmic(axes, [p.n for p in points], title, units)
    if JACOBIAN in ends:
        last, highest = ends[JACOBIAN]
        guide(axes, (last, highest * 3), 2, "grows as n²")
    last, lowest = ends[SOFTGRAD]
    guide(axes, (last, lowest / 3), 1, "grows as n")
    label(axes, ends, LABELS, STYLES, bold=SOFTGRAD)


def gap(axes: Any, points: list[Point], value: Any, n: int) -> None:
    """A line from softgrad up to the Jacobian at one n, and how many times it spans."""
    ends = {p.way: value(p) for p in points if p.n == n}
    if JACOBIAN not in ends:
        return
    above, below = ends[JACOBIAN], ends[SOFTGRAD]
    axes.plot([n, n], [below, above], color="#333333", linewidth=1, zorder=2)
    axes.annotate(
        f"{digits(float(f'{above / below:.2g}'))} ×",
        (n, math.sqrt(above * below)),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=10,
        color="#333333",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        zorder=4,
    )


def picture(report: Report, form: str) -> bytes:
    """The picture as the bytes of a PNG or SVG file."""
    settings, points = report.settings, report.points
    with matplotlib.rc_context(FIXED):
        figure = Figure(figsize=(11, 5), dpi=200)
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.068, right=0.905, bottom=0.16, top=0.79, wspace=0.5)
        figure.suptitle(
            "The gradient through a softmax layer costs n² by its Jacobian, and n without",
            x=0.015, y=0.965, ha="left", fontsize=14.5, fontweight="bold",
        )  # fmt: skip
        panel(
            left, points, lambda p: p.seconds.median, lambda p: (p.seconds.q1, p.seconds.q3),
            "Time of a call", SECONDS,
        )  # fmt: skip
        panel(
            right, points, lambda p: p.peak_bytes, None,
            "Memory at its peak, beyond the inputs", BYTES,
        )  # fmt: skip
        machine = report.environment
        figure.text(
            0.015, 0.895,
            f"{settings.batch} rows of {settings.dtype}; one thread; medians, quartiles shaded",
            ha="left", fontsize=10.5, color="#444444",
        )  # fmt: skip
        figure.text(
            0.015, 0.025,
            f"{machine['cpu']}, NumPy {machine['numpy']}, softgrad {machine['softgrad']}.  "
            f"The Jacobian is built up to {in_words(LARGEST_JACOBIAN, BYTES)}.",
            ha="left", fontsize=8.5, color="#666666",
        )  # fmt: skip
        for axes, value in ((left, lambda p: p.seconds.median), (right, lambda p: p.peak_bytes)):
            gap(axes, points, value, settings.features)
    return saved(figure, form)
