"""The report of `softgrad bench`: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..commands import report
from ..commands.units import BYTES, SECONDS, digits, unit_of, with_unit
from ..testing.operations import operation
from .cases import OPS
from .compare import DISTURBED, NOISY, Comparison, Record
from .implementations import INTO, NEW
from .timing import Spread

LIBRARIES = {
    "numpy": "NumPy",
    "scipy": "SciPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "quack": "QuACK",
    "liger": "Liger",
    "jacobian": "Jacobian",
}
WIDE = 100  # columns of a terminal

NOTES = [
    "Times are medians of samples taken in turns. × softgrad is the time beside softgrad's into the like: "
    "new array beside new array, out= beside out=.",
    "Of the limit: what moving the bytes once takes the machine (a copy for a forward, a triad for a "
    "product, of the same size and with the same threads), beside the time.",
    "Memory is the most in use at once beyond the inputs. The error is the worst of a row, on the arrays "
    "that are timed; what is timed was found sound first, by the checks of softgrad verify.",
]


def library(name: str) -> str:
    return LIBRARIES.get(name, name)


def unit_of_error(op: str) -> str:
    return "eps" if operation(*OPS[op]).ulps is None else "ulp"


def quartiles(seconds: Spread) -> str:
    """In the unit of the median."""
    _, size = unit_of(seconds.median, SECONDS)
    return f"{digits(seconds.q1 / size)} – {digits(seconds.q3 / size)}"


def series(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """The records of each table, and its title."""

    def key(r: Record) -> tuple[Any, ...]:
        return r.op, r.axis, r.dtype, r.threads, r.device

    for one in dict.fromkeys(map(key, records)):
        op, axis, dtype, threads, device = one
        along = "" if axis == -1 else f", axis {axis}"
        place = f", {threads} thread{'s' * (threads > 1)}" if device == "cpu" else f", {device}"
        yield f"{op}, {dtype}{along}{place}", [r for r in records if key(r) == one]


# --- tables ------------------------------------------------------------------------------------------


@dataclass
class ResultTable:
    """Records of one function, dtype and number of threads; on a wide terminal with quartiles."""

    title: str
    records: list[Record]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE
        result = Table(title=escape(self.title), title_style="bold", title_justify="left", box=SIMPLE_HEAD)
        result.padding, result.pad_edge = (0, 2 if wide else 1, 0, 0), False
        result.add_column("shape", no_wrap=True)
        result.add_column("implementation", min_width=14)
        heads = ["time", "quartiles", "×\nsoftgrad", "of the\nlimit", "memory", "error,\n"]
        heads[-1] += unit_of_error(self.records[0].op)
        for head in heads if wide else heads[:1] + heads[2:]:
            result.add_column(head, justify="right", no_wrap=True)
        for shape, those in itertools.groupby(self.records, lambda r: r.size):
            for i, record in enumerate(r for r in those if r.seconds is not None):
                time, spread, *others = cells(record)
                into = "" if record.into == NEW else f", {INTO[record.into]}"
                result.add_row(
                    "" if i else shape,
                    escape(library(record.implementation) + into),
                    *([time, spread, *others] if wide else [time, *others]),
                    style="bold" if record.implementation == "softgrad" else "",
                )
            result.add_section()
        yield result


def cells(record: Record) -> list[str]:
    """Time, quartiles, ratio, share of the limit, memory and error; "" where not measured."""
    if record.seconds is None or record.limit_ratio is None:
        return [""] * 6
    error = record.error_eps
    return [
        with_unit(record.seconds.median, SECONDS) + ("?" if record.noisy else ""),
        quartiles(record.seconds),
        "" if record.ratio is None else digits(record.ratio.median),
        percent(record.limit_ratio.median) + ("?" if record.limit_ratio.wider_than(NOISY) else ""),
        "" if record.peak_bytes is None else with_unit(record.peak_bytes, BYTES),
        "" if error is None else f"{error:.2g}" if math.isfinite(error) else "∞",
    ]


def percent(ratio: float) -> str:
    return f"{ratio:.0%}" if ratio >= 0.0995 else f"{ratio:.1%}" if ratio >= 0.00095 else "< 0.1%"


# --- sentences ---------------------------------------------------------------------------------------


def left_out(comparison: Comparison) -> list[str]:
    """Why implementations have no time: each reason once, with the first case that it holds for."""
    cases: dict[tuple[str, str], list[str]] = {}
    for r in comparison.records:
        if r.left_out:
            cases.setdefault((library(r.implementation), r.left_out), []).append(r.name)
    lines = [
        f"{name} ({names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}): {why}"
        for (name, why), names in cases.items()
    ]
    return lines + [f"{library(name)}: {why}" for name, why in comparison.absent.items()]


def warnings(comparison: Comparison) -> list[str]:
    """Where the machine was too noisy to tell."""
    timed = [r for r in comparison.records if r.seconds and r.limit_ratio]
    noisy = sum(r.noisy or r.limit_ratio.wider_than(NOISY) for r in timed if r.limit_ratio)
    disturbed = sum(r.others > DISTURBED for r in timed)
    lines = []
    if noisy:
        lines.append(
            f"The machine was too noisy to tell in {noisy} of {len(timed)} rows, at the marks “?”: there the "
            f"quartiles lie more than {NOISY:.0%} apart. Measure again when it is quiet."
        )
    if disturbed:
        lines.append(f"Other processes were busy while {disturbed} of {len(timed)} rows were measured.")
    return lines


def environment(versions: dict[str, str | int]) -> Text:
    return Text(", ".join(f"{name} {value}" for name, value in versions.items()), style="dim")


# --- the whole ---------------------------------------------------------------------------------------


def parts(comparison: Comparison, figures: Mapping[str, Any] = MappingProxyType({})) -> list[Any]:
    """The report; of `figures`, for a page, each comes before the table of its title."""
    tables: list[Any] = []
    for title, records in series(comparison.records):
        tables += [figures[title]] if title in figures else []
        tables.append(ResultTable(title, records))
    return [
        *tables,
        *map(Text, NOTES),
        *(Text(f"Left out: {line}") for line in left_out(comparison)),
        *(Text(line, style="bold yellow") for line in warnings(comparison)),
        environment(comparison.environment),
    ]


def as_json(comparison: Comparison) -> str:
    return report.as_json(dataclasses.asdict(comparison))
