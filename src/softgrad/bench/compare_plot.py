"""The plots of `softgrad bench`: speed under its roof, memory and error, each against n.

A line joins shapes that differ in n alone; of others the tables tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ..commands.words import BYTES, Units
from .compare import Comparison, Record
from .compare_report import LIBRARIES, series, unit_of_error
from .drawing import FIXED, Style, label, logarithmic, saved
from .implementations import NEW, OUT

# Colours that people with any colour vision tell apart (after Okabe and Ito), and shapes for print in grey
STYLES: dict[str, Style] = {
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

Line = list[tuple[int, float]]


def beside_n(record: Record) -> tuple[int | None, ...]:
    """The shape without n."""
    at = record.axis % len(record.shape)
    return tuple(None if i == at else length for i, length in enumerate(record.shape))


def joined(records: Sequence[Record]) -> list[Record]:
    """Those of one shape but for n, of which there are most."""
    timed = [r for r in records if r.seconds is not None]
    shapes = [beside_n(r) for r in timed]
    lengths = {shape: len({r.shape for r in timed if beside_n(r) == shape}) for shape in shapes}
    most = max(lengths, key=lambda shape: lengths[shape], default=None)
    return sorted((r for r in timed if beside_n(r) == most), key=n_of)


def n_of(record: Record) -> int:
    return record.shape[record.axis]


def lines(records: Sequence[Record], into: str, value: Any) -> dict[str, Line]:
    """By implementation, what `value` tells of its records: of those into `into`, if there are any."""
    found: dict[str, Line] = {}
    for name in dict.fromkeys(r.implementation for r in records):
        own = [r for r in records if r.implementation == name]
        own = [r for r in own if r.into == into] or [r for r in own if r.into == NEW]
        if points := [(n_of(r), number) for r in own if (number := value(r)) is not None]:
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


def panel(axes: Any, found: dict[str, Line], title: str, units: Units) -> None:
    for name, points in found.items():
        n, values = zip(*points, strict=True)
        axes.plot(n, values, **{"markersize": 5, "linewidth": 1.6, "zorder": 3, **STYLES[name]})
    logarithmic(axes, [n for points in found.values() for n, _ in points], title, units)
    texts = {name: LIBRARIES.get(name, name) for name in found}
    label(axes, {name: points[-1] for name, points in found.items()}, texts, STYLES, "softgrad", 0.075)


def figure(parts: Sequence[tuple[str, list[Record]]]) -> Figure:
    """A row of three panels for each title and its records."""
    with matplotlib.rc_context(FIXED):
        if not parts:
            raise ValueError("nothing was timed, so there is nothing to draw")
        above = 0.95 if any(title for title, _ in parts) else 0.4  # inches
        height = (3.7 + above) * len(parts)
        drawn = Figure(figsize=(14, height), dpi=120)
        FigureCanvasAgg(drawn)
        rows = drawn.subplots(len(parts), 3, squeeze=False)
        drawn.subplots_adjust(
            left=0.068, right=0.915, bottom=0.6 / height, top=1 - above / height, wspace=0.55, hspace=0.55
        )
        for (title, records), (left, middle, right) in zip(parts, rows, strict=True):
            draw(records, left, middle, right)
            place = 0.012, left.get_position().y1 + 0.5 / height
            drawn.text(*place, title, fontsize=13, fontweight="bold", va="bottom")
        return drawn


def draw(records: Sequence[Record], left: Any, middle: Any, right: Any) -> None:
    """The three panels of one series."""
    first = [r for r in records if r.implementation == records[0].implementation]
    (points,) = lines(first, OUT, roof).values()
    panel(
        left,
        lines(records, OUT, speed) | {"limit": points},
        f"Speed, under the limit of memory; {shape_of(records)}",
        SPEED,
    )
    panel(middle, lines(records, NEW, memory), "Memory at its peak, into a new array", BYTES)
    unit = unit_of_error(records[0].op)
    panel(right, lines(records, NEW, error), "Error of the worst row", ((unit, 1.0),))
    right.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{e:g} {unit}"))


def shape_of(records: Sequence[Record]) -> str:
    return " × ".join("n" if length is None else str(length) for length in beside_n(records[0]))


def parts(found: Comparison) -> list[tuple[str, list[Record]]]:
    """What there is to draw: titles and records."""
    joins = [(title, joined(records)) for title, records in series(found.records)]
    return [(title, records) for title, records in joins if records]


def picture(found: Comparison, form: str) -> bytes:
    """All of it, as the bytes of a PNG or SVG file."""
    return saved(figure(parts(found)), form)


def drawings(found: Comparison) -> dict[str, str]:
    """By the title of a series, its plots as SVG for a page, on no ground of their own."""
    return {
        title: saved(figure([("", records)]), "svg", transparent=True).decode()
        for title, records in parts(found)
    }
