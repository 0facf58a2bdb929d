"""The league table: every implementation with a name that is here, at both levels."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..commands import machine
from ..commands.progress import Bar
from . import peers, report
from .run import Settings, Verdict, run


@dataclass(frozen=True)
class Row:
    """One implementation of one function; only what is sound is tried for tight."""

    name: str
    sound: Verdict
    tight: Verdict | None


def play(maps: Sequence[str], whats: Sequence[str], settings: Settings, bar: Bar) -> list[Row]:
    """Verify each of `games`, some at once; `bar` has a phase for each."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        waiting = [
            pool.submit(row, name, dataclasses.replace(settings, map=map, what=what))
            for name, map, what in games(maps, whats)
        ]
        rows = []
        for one in waiting:
            rows.append(one.result())
            bar.phase(rows[-1].name)
    return rows


def row(name: str, settings: Settings) -> Row:
    sound = run(name, settings)
    tight = run(name, dataclasses.replace(settings, level="tight")) if sound.passed else None
    return Row(name, sound, tight)


def games(maps: Sequence[str], whats: Sequence[str]) -> list[tuple[str, str, str]]:
    """The implementations that can run here: name, map and what."""
    here = {name: peer for name, peer in peers.PEERS.items() if not peers.why_not(peer)}
    return [
        (name, map, what)
        for map in maps
        for what in whats
        for name, peer in here.items()
        if (map, what) in peer.functions
    ]


# --- as a page ----------------------------------------------------------------------------------------

INTRODUCTION = """\
# League table

Which implementations of softmax and its family are right, and how exact they are: the checks of
`softgrad.testing`, as `softgrad verify` runs them.

*Sound* is within the error that the plain closed form in the working precision is allowed; *tight* is within
softgrad's own contract, and only what is sound is tried for it. ✗ at a level says that at least one check
failed; the last column has the checks, and the smallest case of the first.

Errors are the worst of a row: for a forward in ulp, else in eps of the norm of the exact result; – where
nothing was measured. They are large even for what is sound where a row's terms cancel: a gradient of 12345
throughout, or one weight that is nearly 1, leaves the closed form no digit of a result next to nothing.
*Tight* judges each element, in the units of `docs/decisions.md`.
"""


def page(rows: Sequence[Row], settings: Settings, command: str) -> str:
    parts = [f"<!-- Written by `{command}`; do not edit. -->\n", INTRODUCTION]
    for map, what in dict.fromkeys((row.sound.settings.map, row.sound.settings.what) for row in rows):
        those = [row for row in rows if (row.sound.settings.map, row.sound.settings.what) == (map, what)]
        parts.append(f"## {map}: {what}\n\n{table(those, settings.dtypes)}")
    parts.append(f"## How each is reached\n\n{about()}")
    environment = machine.environment("numpy", "numba", *{peer.package for peer in peers.PEERS.values()})
    versions = ", ".join(f"{name} {value}" for name, value in environment.items() if name != "date")
    parts.append(f"Measured on {environment['date']}, seed {settings.seed}: {versions}.\n")
    return "\n".join(parts)


def table(rows: Sequence[Row], dtypes: Sequence[str]) -> str:
    unit = "ulp" if rows[0].sound.settings.what == "forward" else "eps"
    heads = ["implementation", "sound", "tight", *(f"{dtype}, {unit}" for dtype in dtypes), "what breaks it"]
    lines = [heads, ["---", ":-:", ":-:", *("---:" for _ in dtypes), "---"]]
    for row in rows:
        marks = ["✓" if v is not None and v.passed else "✗" for v in (row.sound, row.tight)]
        lines.append([row.name, *marks, *(worst(row, dtype) for dtype in dtypes), breaks(row)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def worst(row: Row, dtype: str) -> str:
    """The largest error of all checks at level sound: at tight softmax's has another unit."""
    errors = [f.eps for f in row.sound.findings if f.dtype == dtype and not math.isnan(f.eps)]
    return report.number(max(errors, default=math.nan)) or "–"


def breaks(row: Row) -> str:
    """In one cell: what it is, if that is known, and which checks fail, with the first failing case."""
    failures = row.sound.failures or (row.tight.failures if row.tight is not None else [])
    if not failures:
        return ""
    first = failures[0]
    failing = ", ".join(dict.fromkeys(finding.check.partition(", axis")[0] for finding in failures))
    case = first.hint or first.case.partition("\n")[0]
    case = case if first.dtype in case else f"{first.dtype}: {case}"
    return f"{failing} ({case})".replace("|", "\\|")


def about() -> str:
    lines = []
    for name, peer in peers.PEERS.items():
        reason = peers.why_not(peer)
        here = f"{peer.package} {peers.version(peer)}" if not reason else f"left out: {reason}"
        rows = f"; rows up to {peer.max_n}" if peer.max_n else ""
        lines.append(f"- **{name}** ({here}): {peer.about}{rows}.\n")
    return "".join(lines)
