"""What the plots have in common: logarithmic axes with units, and names at the ends of lines."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..commands.words import Units, in_words

Style = Mapping[str, Any]

# A font that is there with matplotlib, and the same names in each SVG of the same figure
FIXED: Any = {"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "softgrad"}


def spread_apart(heights: list[float], least: float) -> list[float]:
    """Heights, in order from low to high, moved up where they are closer than `least`; then down together
    if the highest is above 1."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + least) if placed else height)
    for i in range(len(placed) - 1, -1, -1):
        most = 1 - (len(placed) - 1 - i) * least
        placed[i] = min(placed[i], most)
    return placed


def label(
    axes: Any,
    ends: Mapping[str, tuple[float, float]],
    texts: Mapping[str, str],
    styles: Mapping[str, Style],
    bold: str,
    least: float = 0.085,
) -> None:
    """Name each line at its right end, two names never on top of each other."""
    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = [math.log10(ends[name][1] / low) / decades for name in names]
    for name, height in zip(names, spread_apart(heights, least), strict=True):
        axes.annotate(
            texts[name],
            xy=ends[name],
            xytext=(ends[name][0] * 1.18, height),
            textcoords=("data", "axes fraction"),
            color=styles[name]["color"],
            fontsize=10,
            fontweight="bold" if name == bold else "normal",
            va="center",
            linespacing=0.95,
            annotation_clip=False,
        )


def logarithmic(axes: Any, lengths: Sequence[int], title: str, units: Units) -> None:
    """n against something in units, both axes logarithmic."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title, loc="left", fontsize=11.5, pad=8)
    axes.set_xlabel("n, the length of a row")
    shortest, longest = min(lengths), max(lengths)
    step = 2 if longest < 10000 else 3
    ticks = [2**k for k in range(0, 40) if shortest <= 2**k <= longest and (k - 3) % step == 0]
    axes.xaxis.set_major_locator(FixedLocator(ticks or [shortest]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_words(value, units)))
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def saved(figure: Any, form: str, **options: Any) -> bytes:
    """The bytes of a PNG or SVG file, the same for the same figure."""
    with matplotlib.rc_context(FIXED):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None, **options)
    return buffer.getvalue()
