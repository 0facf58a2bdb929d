"""What the plots have in common: logarithmic axes with units, and names at the ends of lines."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ..commands.words import Units, in_words

Style = Mapping[str, Any]

# A font that is there with matplotlib, and the same names in each SVG of the same figure
FIXED: Any = {"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "softgrad"}


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
    placed: dict[str, float] = {}
    for n in {end[0] for end in ends.values()}:  # those that end elsewhere are in nobody's way
        names = sorted((name for name in ends if ends[name][0] == n), key=lambda name: ends[name][1])
        heights = [math.log10(ends[name][1] / low) / decades for name in names]
        placed |= zip(names, spread_apart(heights, least), strict=True)
    for name, height in placed.items():
        axes.annotate(
            texts[name],
            xy=(ends[name][0], height),
            xycoords=("data", "axes fraction"),
            xytext=(7, 0),
            textcoords="offset points",
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
    powers = [k for k in range(40) if shortest <= 2**k <= longest]
    ticks = [2**k for k in next(powers[::step] for step in (1, 2, 3, 5, 9) if len(powers) <= 5 * step)]
    axes.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) > 1 else [shortest, longest]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 2.0, 5.0)))
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
