"""What `softgrad verify` says: tables for people, JSON for programs, and a page to hand on."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..specs import MAPS
from ..testing import Finding
from ..testing.maps import OPERATIONS
from . import peers
from .run import Verdict

SHOWN = 3  # failing checks that are told of on the terminal
LIBRARIES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}


# --- in words -----------------------------------------------------------------------------------------


def title(verdict: Verdict) -> str:
    settings = verdict.settings
    return f"{settings.what} of {settings.map}: {verdict.target}"


def circumstances(verdict: Verdict) -> str:
    settings = verdict.settings
    parts = [f"{LIBRARIES[verdict.arrays]} arrays", f"level {settings.level}", f"seed {settings.seed}"]
    if settings.swapped:
        parts.insert(1, "called with dy, y")
    if settings.device not in (None, "cpu"):
        parts.insert(1, f"on {settings.device}")
    if settings.max_n is not None:
        parts.append(f"rows up to {settings.max_n}")
    return ", ".join(([verdict.about] if verdict.about else []) + parts)


def unit(verdict: Verdict) -> str:
    settings = verdict.settings
    return OPERATIONS[settings.map, settings.what].unit(settings.level)


def outcome(verdict: Verdict) -> str:
    all_of_them, failing = len(verdict.findings), len(verdict.failures)
    if failing:
        return f"{failing} of {all_of_them} checks failed: it is not {verdict.settings.level}."
    dtypes = ", ".join(verdict.settings.dtypes)
    return f"All {all_of_them} checks passed: it is {verdict.settings.level} in {dtypes}."


def number(value: float) -> str:
    """An error in a few characters."""
    if not math.isfinite(value):
        return "" if math.isnan(value) else "∞"
    if value < 99.5:
        return f"{value:.2g}"
    return f"{value:.0f}" if value < 9999.5 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")


def by_check(verdict: Verdict) -> dict[str, dict[str, Finding]]:
    """The findings by check and dtype."""
    found: dict[str, dict[str, Finding]] = {}
    for finding in verdict.findings:
        found.setdefault(finding.check, {})[finding.dtype] = finding
    return found


def explained(verdict: Verdict) -> list[Finding]:
    """One failure of each check, the first, without those that would only say the same again."""
    seen: dict[tuple[str, str], Finding] = {}
    for finding in verdict.failures:
        crashed = "Traceback (most recent call last)" in finding.case
        seen.setdefault(("", finding.case.splitlines()[-1]) if crashed else (finding.check, ""), finding)
    return list(seen.values())


def hints(verdict: Verdict) -> list[str]:
    return list(dict.fromkeys(finding.hint for finding in verdict.failures if finding.hint))


# --- on the terminal ----------------------------------------------------------------------------------


def table(verdict: Verdict) -> Table:
    dtypes = verdict.settings.dtypes
    result = Table(title=escape(title(verdict)), title_style="bold", title_justify="left")
    result.add_column("check")
    for dtype in dtypes:
        result.add_column(dtype, justify="right", no_wrap=True)
    for check, found in by_check(verdict).items():
        cells = [cell(found.get(dtype, found.get(""))) for dtype in dtypes]
        result.add_row(escape(check), *cells)
    return result


def cell(finding: Finding | None) -> str:
    if finding is None:
        return "–"
    error = number(finding.eps)
    return f"{error} [green]✓[/green]" if finding.passed else f"{error} [bold red]✗[/bold red]"


def show(verdict: Verdict, console: Console) -> None:
    def say(text: str, style: str = "") -> None:
        console.print(text, style=style, markup=False, highlight=False)

    console.print(table(verdict))
    say(f"Errors are the worst, in {unit(verdict)}; {circumstances(verdict)}.", "dim")
    failures = explained(verdict)
    for finding in failures[:SHOWN]:
        say(f"\n✗ {finding.check}{f', {finding.dtype}' if finding.dtype else ''}", "bold red")
        say(f"Why it matters: {finding.why}")
        say(finding.case)
        if finding.reproduce:
            say("To reproduce it:")
            say("\n".join(f"    {line}" for line in finding.reproduce.splitlines()))
    if len(failures) > SHOWN:
        say(f"\nand {len(failures) - SHOWN} more checks: --html FILE and --json FILE tell of all", "dim")
    if verdict.printed and not any(verdict.printed in finding.case for finding in verdict.failures):
        say("\nIt printed (the end of it):")
        say("\n".join(verdict.printed.splitlines()[-10:]), "dim")
    for hint in hints(verdict):
        say(f"\nProbably: {hint}", "bold")
    say(f"\n{outcome(verdict)}", "bold red" if verdict.failures else "bold green")


def listing() -> Table:
    """The built-in names."""
    result = Table(title="Built-in names", title_style="bold", title_justify="left")
    result.add_column("name", no_wrap=True)
    result.add_column("version", no_wrap=True)
    result.add_column("what there is, by map")
    for name, peer in peers.PEERS.items():
        reason = peers.why_not(peer)
        maps = {map: [what for what in peers.WHATS if (map, what) in peer.functions] for map in MAPS}
        there = "\n".join(f"{map}: {', '.join(whats)}" for map, whats in maps.items() if whats)
        about = f"[dim]{escape(peer.about)}[/dim]\n"
        result.add_row(
            name,
            "" if reason else peers.version(peer),
            about + (f"[red]{escape(reason)}[/red]" if reason else there or f"[dim]{peer.lacks}[/dim]"),
        )
    return result


# --- in files -----------------------------------------------------------------------------------------


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(verdict: Verdict) -> str:
    content = dataclasses.asdict(verdict)
    content["findings"] = [
        {name: finite(value) for name, value in finding.items()} for finding in content["findings"]
    ]
    return json.dumps({**content, "passed": verdict.passed}, indent=1, allow_nan=False) + "\n"
