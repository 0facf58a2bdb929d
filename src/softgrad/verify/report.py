"""The report of `softgrad verify`: for people on a terminal and as a page, for programs as JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from rich.console import ConsoleRenderable
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from ..commands import report
from ..specs import MAPS
from ..testing import Finding
from ..testing.operations import OPERATIONS
from . import peers
from .run import Verdict

TITLE: Any = {"title_style": "bold", "title_justify": "left"}
LIBRARIES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


# --- in words -----------------------------------------------------------------------------------------


def title(verdict: Verdict) -> str:
    settings = verdict.settings
    return f"{settings.what} of {settings.map}: {verdict.target}"


def first_line(verdict: Verdict) -> Text:
    """How the target was called."""
    return Text.assemble(
        "Called as ", (verdict.called, "bold"), ".", f"  Note: {verdict.note}." * bool(verdict.note)
    )


def circumstances(verdict: Verdict) -> str:
    settings = verdict.settings
    parts = [
        f"{LIBRARIES[verdict.arrays]} arrays",
        f"on {settings.device}" if settings.device not in (None, "cpu") else "",
        f"level {settings.level}",
        f"seed {settings.seed}",
        f"rows up to {settings.max_n}" if settings.max_n is not None else "",
    ]
    return ", ".join(filter(None, parts))


def outcome(verdict: Verdict) -> str:
    settings, count, failing = verdict.settings, len(verdict.findings), len(verdict.failures)
    limited = f"; {verdict.limited}" if verdict.limited else ""
    subject = f"{settings.what} of {settings.map}"
    if failing:
        return f"It is not {settings.level} ({subject}): {failing} of {count} checks failed{limited}."
    dtypes = ", ".join(settings.dtypes)
    return f"It is {settings.level} ({subject}; {dtypes}): all {count} checks passed{limited}."


def number(value: float) -> str:
    """An error in a few characters."""
    if not math.isfinite(value):
        return "" if math.isnan(value) else "∞"
    if value < 99.5:
        return f"{value:.2g}"
    return f"{value:.0f}" if value < 9999.5 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")


def explained(verdict: Verdict) -> list[Finding]:
    """One failure of each check, the first, and one of each exception."""
    seen: dict[tuple[str, str], Finding] = {}
    for finding in verdict.failures:
        crashed = "Traceback (most recent call last)" in finding.case
        seen.setdefault(("", finding.case.splitlines()[-1]) if crashed else (finding.check, ""), finding)
    return list(seen.values())


# --- built once ---------------------------------------------------------------------------------------


def parts(verdict: Verdict, whole: bool) -> list[ConsoleRenderable]:
    """The report: the conclusion, the probable mistake, the smallest failing input, all checks.

    `whole` has every failing check, why each matters, and the machine.
    """
    row = OPERATIONS[verdict.settings.map, verdict.settings.what]
    unit = row.unit(verdict.settings.level)
    lines: list[ConsoleRenderable] = [first_line(verdict)] if whole else []
    lines.append(Text(outcome(verdict), "bold red" if verdict.failures else "bold green"))
    hints = dict.fromkeys(finding.hint for finding in verdict.failures if finding.hint)
    lines += [Text(f"Probably: {hint}", "bold") for hint in list(hints)[: None if whole else 1]]
    failures = explained(verdict)
    for finding in failures if whole else failures[:1]:
        dtype = f", {finding.dtype}" if finding.dtype else ""
        lines.append(Text(f"\n✗ {finding.check}{dtype}: {finding.why}", "bold red"))
        lines.append(Text(finding.case))
        if finding.reproduce:
            code = "\n".join(f"    {line}" for line in finding.reproduce.splitlines())
            lines.append(Text(f"To reproduce it:\n{code}", no_wrap=True))
    if not whole and len(failures) > 1:
        lines.append(Text("--html FILE and --json FILE have the other failing checks.", "dim"))
    if verdict.printed and not any(verdict.printed in finding.case for finding in verdict.failures):
        end = "\n".join(verdict.printed.splitlines()[-10:])
        lines.append(Text.assemble("\nIt printed (the end of it):\n", (end, "dim")))
    lines.append(Text(""))
    lines.append(table(verdict, whole))
    lines.append(Text(f"Errors are the worst, in {unit}; {circumstances(verdict)}.", "dim"))
    if whole:
        machine = ", ".join(f"{name} {value}" for name, value in verdict.environment.items())
        lines.append(Text(f"\n{machine}", "dim"))
    return lines


def table(verdict: Verdict, whole: bool) -> Table:
    dtypes = verdict.settings.dtypes
    columns = [Column(dtype, justify="right", no_wrap=True) for dtype in dtypes]
    if whole:
        columns.append(Column("why it matters", style="dim"))
    result = Table("check", *columns)
    found = {(finding.check, finding.dtype): finding for finding in verdict.findings}
    for check, why in {finding.check: finding.why for finding in verdict.findings}.items():
        cells = [cell(found.get((check, dtype), found.get((check, "")))) for dtype in dtypes]
        result.add_row(escape(check), *cells, *[escape(why)] * whole)
    return result


def cell(finding: Finding | None) -> str:
    if finding is None or (finding.stopped and not finding.longest):
        return "–"
    sign = "[green]✓[/green]" if finding.passed else "[bold red]✗[/bold red]"
    return f"{number(finding.eps)} {sign}"


def as_html(verdict: Verdict) -> str:
    return report.as_page(title(verdict), parts(verdict, whole=True))


def as_json(verdict: Verdict) -> str:
    return report.as_json({**dataclasses.asdict(verdict), "passed": verdict.passed})


# --- the built-in names -------------------------------------------------------------------------------


def listing() -> Table:
    columns = [Column(name, no_wrap=True) for name in ("name", "version")]
    result = Table(*columns, "functions, by map", title="Built-in names", **TITLE)
    for name, peer in peers.PEERS.items():
        reason = peers.why_not(peer)
        maps = {map: [what for what in peers.WHATS if (map, what) in peer.functions] for map in MAPS}
        functions = "\n".join(f"{map}: {', '.join(whats)}" for map, whats in maps.items() if whats)
        what = f"[red]{escape(reason)}[/red]" if reason else functions or f"[dim]{peer.lacks}[/dim]"
        version = "" if reason else peers.version(peer)
        result.add_row(name, version, f"[dim]{escape(peer.about)}[/dim]\n{what}")
    return result
