"""The picture of `softgrad reproduce --plot`: time and memory against n, both axes logarithmic.

There a cost that grows as n² is a line twice as steep as one that grows as n, which two guides show.
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib

from ..commands.units import BYTES, SECONDS, Units, digits, with_unit
from .implementations import LARGEST_JACOBIAN
from .plot import FIXED, STYLES, figure_of, panel, saved
from .reproduce import PLOTTED, WAYS, Report

TEXTS = {"jacobian": "Jacobian\nand product", "numpy": "closed form\nin NumPy", "softgrad": "softgrad"}
GREY = "#6b6b6b"


def picture(report: Report, form: str) -> bytes:
    """The picture as the bytes of a PNG or SVG file."""
    settings, machine = report.settings, report.environment
    with matplotlib.rc_context(FIXED):
        figure = figure_of((11, 5))
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(left=0.068, right=0.905, bottom=0.16, top=0.79, wspace=0.5)
        title = "The gradient through a softmax layer costs n² by its Jacobian, and n without"
        figure.text(0.015, 0.94, title, fontsize=14.5, fontweight="bold")
        about = f"{settings.batch} rows of {settings.dtype}; one thread; medians, quartiles shaded"
        figure.text(0.015, 0.89, about, fontsize=10.5, color=GREY)
        below = (
            f"{machine['cpu']}, NumPy {machine['numpy']}, softgrad {machine['softgrad']}.  "
            f"The Jacobian is built up to {with_unit(LARGEST_JACOBIAN, BYTES)}."
        )
        figure.text(0.015, 0.025, below, fontsize=8.5, color=GREY)
        costs(left, report, "seconds", "Time of a call", SECONDS)
        costs(right, report, "peak_bytes", "Memory at its peak, beyond the inputs", BYTES)
    return saved(figure, form)


def costs(axes: Any, report: Report, what: str, title: str, units: Units) -> None:
    """One panel: the lines, quartiles shaded, guides that grow as n² and n, and the gap at the report's n."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for way in PLOTTED:
        name = WAYS[way][0]
        points = [(p.n, getattr(p, what)) for p in report.points if p.way == way]
        if points and what == "seconds":
            lengths, times = zip(*points, strict=True)
            low, high = [t.q1 for t in times], [t.q3 for t in times]
            axes.fill_between(lengths, low, high, color=STYLES[name]["color"], alpha=0.2, linewidth=0)
            points = [(n, time.median) for n, time in points]
        if points:
            lines[name] = points
    if "jacobian" in lines:
        n, cost = lines["jacobian"][-1]
        guide(axes, n, cost * 3, 2)
        gap(axes, report.settings.features, dict(lines["jacobian"]), dict(lines["softgrad"]))
    n, cost = lines["softgrad"][-1]
    guide(axes, n, cost / 3, 1)
    panel(axes, lines, TEXTS, title, units)


def guide(axes: Any, n: int, cost: float, power: int) -> None:
    """A grey line that grows as n^power up to this cost, and its name."""
    axes.plot([n / 8, n], [cost / 8**power, cost], color=GREY, linewidth=1.2, linestyle=":", zorder=1)
    back = 8**0.6
    offset, side, foot = ((-4, 3), "right", "bottom") if power == 2 else ((4, -3), "left", "top")
    axes.annotate(
        f"grows as n{'²' if power == 2 else ''}", (n / back, cost / back**power),
        xytext=offset, textcoords="offset points", color=GREY, fontsize=11, ha=side, va=foot,
    )  # fmt: skip


def gap(axes: Any, n: int, above: dict[int, float], below: dict[int, float]) -> None:
    """A line from softgrad up to the Jacobian at one n, and how many times it spans."""
    if n not in above:
        return
    axes.plot([n, n], [below[n], above[n]], color="#333333", linewidth=1, zorder=2)
    axes.annotate(
        f"{digits(float(f'{above[n] / below[n]:.2g}'))} ×", (n, math.sqrt(above[n] * below[n])),
        xytext=(-5, 0), textcoords="offset points", color="#333333", ha="right", va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5}, zorder=4,
    )  # fmt: skip
