"""The report of `softgrad bench`: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
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
    "numpy": "NumPy", "scipy": "SciPy", "numba": "Numba", "torch": "PyTorch", "jax": "JAX",
    "quack": "QuACK", "liger": "Liger", "jacobian": "Jacobian",
}  # fmt: skip
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


def series(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each table, by its title."""
    tables: dict[str, list[Record]] = {}
    for r in records:
        along = "" if r.axis == -1 else f", axis {r.axis}"
        place = f"{r.threads} thread{'s' * (r.threads > 1)}" if r.device == "cpu" else r.device
        tables.setdefault(f"{r.op}, {r.dtype}{along}, {place}", []).append(r)
    return tables


# --- tables ------------------------------------------------------------------------------------------


def mark(doubtful: bool) -> str:
    return "?" if doubtful else ""


def percent(ratio: float) -> str:
    return f"{ratio:.0%}" if ratio >= 0.0995 else f"{ratio:.1%}" if ratio >= 0.00095 else "< 0.1%"


# The cell of a timed record in each column; the error's unit is added to its head
COLUMNS: dict[str, Callable[[Any], str]] = {
    "time": lambda r: with_unit(r.seconds.median, SECONDS) + mark(r.noisy),
    "quartiles": lambda r: quartiles(r.seconds),
    "×\nsoftgrad": lambda r: "" if r.ratio is None else digits(r.ratio.median),
    "of the\nlimit": lambda r: percent(r.limit_ratio.median) + mark(r.limit_ratio.wider_than(NOISY)),
    "memory": lambda r: with_unit(r.peak_bytes, BYTES),
    "error,\n": lambda r: f"{r.error_eps:.2g}" if math.isfinite(r.error_eps) else "∞",
}


def table(title: str, records: Sequence[Record], wide: bool) -> Table:
    """Records of one function, dtype and number of threads; on a wide terminal with quartiles."""
    result = Table(title=escape(title), title_style="bold", title_justify="left", box=SIMPLE_HEAD)
    result.padding, result.pad_edge = (0, 2 if wide else 1, 0, 0), False
    result.add_column("shape", no_wrap=True)
    result.add_column("implementation", min_width=14)
    columns = {head: cell for head, cell in COLUMNS.items() if wide or head != "quartiles"}
    for head in columns:
        unit = unit_of_error(records[0].op) if head.startswith("error") else ""
        result.add_column(head + unit, justify="right", no_wrap=True)
    timed = (record for record in records if record.seconds is not None)
    for shape, those in itertools.groupby(timed, lambda record: record.size):
        for i, record in enumerate(those):
            into = "" if record.into == NEW else f", {INTO[record.into]}"
            result.add_row(
                "" if i else shape,
                escape(library(record.implementation) + into),
                *(cell(record) for cell in columns.values()),
                style="bold" if record.implementation == "softgrad" else "",
            )
        result.add_section()
    return result


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
    timed: list[Any] = [r for r in comparison.records if r.seconds is not None]
    noisy = sum(r.noisy or r.limit_ratio.wider_than(NOISY) for r in timed)
    disturbed = sum(r.others > DISTURBED for r in timed)
    lines = [
        f"The machine was too noisy to tell in {noisy} of {len(timed)} rows, at the marks “?”: there the "
        f"quartiles lie more than {NOISY:.0%} apart. Measure again when it is quiet.",
        f"Other processes were busy while {disturbed} of {len(timed)} rows were measured.",
    ]
    return [line for line, count in zip(lines, (noisy, disturbed), strict=True) if count]


def environment(versions: dict[str, str | int]) -> Text:
    return Text(", ".join(f"{name} {value}" for name, value in versions.items()), style="dim")


# --- the whole ---------------------------------------------------------------------------------------


def parts(comparison: Comparison, wide: bool, figures: Mapping[str, str] | None = None) -> list[Any]:
    """The report; of `figures`, for a page, each comes before the table of its title."""
    tables: list[Any] = []
    for title, records in series(comparison.records).items():
        tables += [figures[title]] if figures and title in figures else []
        tables.append(table(title, records, wide))
    return [
        *tables,
        *map(Text, NOTES),
        *(Text(f"Left out: {line}") for line in left_out(comparison)),
        *(Text(line, style="bold yellow") for line in warnings(comparison)),
        environment(comparison.environment),
    ]


def as_json(comparison: Comparison) -> str:
    return report.as_json(dataclasses.asdict(comparison))
