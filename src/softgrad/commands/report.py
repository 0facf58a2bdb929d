"""A report: built once of Rich's renderables, printed on a terminal and written as a page of HTML."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleRenderable
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WIDTH = 110  # of a page, in characters

# Colours to be read on a light and on a dark ground: black, red, green, yellow, blue, magenta, cyan, white
COLOURS = [
    (128, 128, 128), (214, 69, 65), (30, 150, 96), (184, 134, 11),
    (66, 133, 200), (170, 90, 170), (20, 140, 150), (128, 128, 128),
]  # fmt: skip
THEME = TerminalTheme((255, 255, 255), (16, 16, 16), COLOURS)

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 ui-monospace, monospace; max-width: 80rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere }}
p {{ white-space: pre-wrap }}
pre {{ font: inherit; line-height: 1.25; overflow-x: auto }}
figure {{ margin: 1rem 0; overflow-x: auto }}
svg {{ width: 100%; height: auto; min-width: 56rem }}
@media (prefers-color-scheme: dark) {{ svg {{ filter: invert(1) hue-rotate(180deg) }} }}
</style></head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def figure(svg: str, label: str) -> str:
    """The HTML of an SVG file, and `label` for who cannot see it."""
    element = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :].strip(), flags=re.DOTALL)
    element = element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    return f"<figure>{element}</figure>"


def as_page(title: str, parts: Sequence[ConsoleRenderable | str]) -> str:
    """One file of HTML, of text, tables and figures: no script, no font, no other file, in light and dark."""
    body = "\n".join(part if isinstance(part, str) else html_of(part) for part in parts)
    return PAGE.format(title=escape(title), body=body)


def html_of(part: ConsoleRenderable) -> str:
    """Text is a paragraph; all else is laid out in characters of one width."""
    is_text = isinstance(part, Text)
    console = Console(record=True, file=io.StringIO(), width=WIDTH)
    console.print(part, soft_wrap=is_text)
    frame = "<p>{code}</p>" if is_text else "<pre>{code}</pre>"
    return console.export_html(theme=THEME, code_format=frame, inline_styles=True)


def as_json(content: Mapping[str, Any]) -> str:
    """JSON has no NaN and no infinity: they are null."""
    finite = json.loads(json.dumps(content), parse_constant=lambda name: None)
    return json.dumps(finite, indent=1) + "\n"


def deliver(parts: Sequence[ConsoleRenderable], content: str, json: Path | None) -> None:
    """Print the report, and write `content` to the file; to standard output it goes alone."""
    if str(json) == "-":
        sys.stdout.write(content)
        return
    console = Console()
    for part in parts:  # text that is not to be wrapped, as code, stays in its lines
        console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
    if json is not None:
        write_whole(json, content.encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that at no time half of it is there, or to a device; a link is followed."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = Path(os.path.realpath(path))
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
