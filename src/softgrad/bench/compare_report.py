"""What `softgrad bench` says: tables for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..commands.words import BYTES, SECONDS, digits, in_words, unit_of
from ..testing.maps import operation
from .cases import OPS
from .compare import DISTURBED, NOISY, Comparison, Record, too_wide
from .implementations import INTO, NEW

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
HEADS = (
    "shape",
    "implementation",
    "time",
    "quartiles",
    "× softgrad",
    "of the limit",
    "memory",
    "error, {unit}",
)


# --- in words ----------------------------------------------------------------------------------------


def name_of(record: Record) -> str:
    """Which implementation, and where it writes to if not to a new array."""
    name = LIBRARIES.get(record.implementation, record.implementation)
    return name if record.into == NEW else f"{name}, {INTO[record.into]}"


def shape_of(record: Record) -> str:
    return " × ".join(map(str, record.shape))


def unit_of_error(op: str) -> str:
    return "eps" if operation(*OPS[op]).ulps is None else "ulp"


def series(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """The records that belong into one table, and its title."""

    def key(r: Record) -> tuple[Any, ...]:
        return r.op, r.axis, r.dtype, r.threads, r.device

    for one in dict.fromkeys(map(key, records)):
        op, axis, dtype, threads, device = one
        along = "" if axis == -1 else f", axis {axis}"
        place = f", {threads} thread{'s' * (threads > 1)}" if device == "cpu" else f", {device}"
        yield f"{op}, {dtype}{along}{place}", [r for r in records if key(r) == one]


def cells(record: Record) -> list[str]:
    """Time, quartiles, ratio, share of the limit, memory and error; "" is what was not measured."""
    if record.seconds is None or record.limit_ratio is None:
        return [""] * 6
    _, size = unit_of(record.seconds.median, SECONDS)
    return [
        in_words(record.seconds.median, SECONDS) + ("?" if record.noisy else ""),
        f"{digits(record.seconds.q1 / size)} – {digits(record.seconds.q3 / size)}",
        "" if record.ratio is None else digits(record.ratio.median),
        share(record.limit_ratio.median) + ("?" if too_wide(record.limit_ratio) else ""),
        "" if record.peak_bytes is None else in_words(record.peak_bytes, BYTES),
        error(record),
    ]


def share(ratio: float) -> str:
    return f"{ratio:.0%}" if ratio >= 0.0995 else f"{ratio:.1%}" if ratio >= 0.00095 else "< 0.1%"


def error(record: Record) -> str:
    if record.error_eps is None:
        return ""
    return f"{record.error_eps:.2g}" if math.isfinite(record.error_eps) else "∞"


def left_out(found: Comparison) -> list[str]:
    """Why something has no time, each reason once."""
    reasons: dict[tuple[str, str], dict[str, list[str]]] = {}
    for r in found.records:
        if r.left_out:
            key = LIBRARIES.get(r.implementation, r.implementation), r.left_out
            reasons.setdefault(key, {}).setdefault(f"{r.op} {r.dtype}", []).append(shape_of(r))
    every = {f"{r.op} {r.dtype}": {shape_of(r) for r in found.records} for r in found.records}
    lines = []
    for (name, why), shapes in reasons.items():
        places = [
            place if set(those) == every[place] else f"{place} {', '.join(dict.fromkeys(those))}"
            for place, those in shapes.items()
        ]
        lines.append(f"{name} ({'; '.join(places)}): {why}")
    return lines + [f"{LIBRARIES.get(name, name)}: {why}" for name, why in found.absent.items()]


def warnings(found: Comparison) -> list[str]:
    """Where the machine was too noisy to tell."""
    timed = [r for r in found.records if r.seconds is not None]
    noisy = sum(r.noisy or too_wide(r.limit_ratio) for r in timed)
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


NOTES = [
    "Times are medians of samples taken in turns. × softgrad is the time beside softgrad's into the like: "
    "new array beside new array, out= beside out=.",
    "Of the limit: what moving the bytes once takes the machine (a copy for a forward, a triad for a "
    "product, of the same size and with the same threads), beside the time.",
    "Memory is the most in use at once beyond the inputs. The error is the worst of a row, on the arrays "
    "that are timed; what is timed was found sound first, by the checks of softgrad verify.",
]


# --- on the terminal ---------------------------------------------------------------------------------


def table(title: str, records: list[Record], width: int) -> Table:
    """Of the quartiles only a wide terminal is told."""
    result = Table(title=escape(title), title_style="bold", title_justify="left", box=SIMPLE_HEAD)
    result.padding, result.pad_edge = (0, 2 if width >= WIDE else 1, 0, 0), False
    told = [i for i, head in enumerate(HEADS) if head != "quartiles" or width >= WIDE]
    for i in told:
        head = HEADS[i].format(unit=unit_of_error(records[0].op))
        head = head.replace("× ", "×\n").replace("the ", "the\n").replace(", ", ",\n")
        if HEADS[i] == "implementation":
            result.add_column(head, min_width=14)
        else:
            result.add_column(head, justify="left" if i == 0 else "right", no_wrap=True)
    for shape, those in itertools.groupby(records, shape_of):
        for i, record in enumerate(r for r in those if r.seconds is not None):
            row = [shape if i == 0 else "", escape(name_of(record)), *cells(record)]
            style = "bold" if record.implementation == "softgrad" else ""
            result.add_row(*(row[j] for j in told), style=style)
        result.add_section()
    return result


def show(found: Comparison, console: Console) -> None:
    for title, records in series(found.records):
        console.print(table(title, records, console.width))
    for line in NOTES:
        console.print(line, highlight=False)
    for line in left_out(found):
        console.print(f"Left out: {line}", markup=False, highlight=False)
    for line in warnings(found):
        console.print(line, style="bold yellow", highlight=False)
    told = ", ".join(f"{name} {value}" for name, value in found.environment.items())
    console.print(told, style="dim", highlight=False)


# --- in a file ---------------------------------------------------------------------------------------


def as_json(found: Comparison) -> str:
    """An error that is not finite is null: JSON has no other number for it."""
    content = dataclasses.asdict(found)
    for record in content["records"]:
        if record["error_eps"] is not None and not math.isfinite(record["error_eps"]):
            record["error_eps"] = None
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
