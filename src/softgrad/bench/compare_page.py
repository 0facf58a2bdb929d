"""What `softgrad bench` measured, as a page of HTML that needs nothing beside itself."""

from __future__ import annotations

import itertools
import re
from html import escape

from ..commands.html import document
from .compare import Comparison, Record
from .compare_plot import drawings
from .compare_report import HEADS, NOTES, cells, left_out, name_of, series, shape_of, unit_of_error, warnings

STYLE = """
body { max-width: 80rem }
h2 { margin-top: 3rem }
figure { margin: 1rem 0 }
svg { width: 100%; height: auto; min-width: 56rem }
@media (prefers-color-scheme: dark) { svg { filter: invert(1) hue-rotate(180deg) } }
table { font-variant-numeric: tabular-nums; font-size: .92rem }
td, th { padding: .2rem .8rem; border-bottom: 0 }
.number { text-align: right; white-space: nowrap }
th.number { white-space: normal; vertical-align: bottom }
.first td, .first th { border-top: 1px solid var(--line) }
.ours { font-weight: 600 }
.bar { display: inline-block; height: .6em; margin-left: .5em; background: var(--good) }
.room { display: inline-block; width: 6rem; text-align: left }
"""


def as_html(found: Comparison) -> str:
    e = escape
    plots = drawings(found)
    body = [f"<p>{e(line)}</p>" for line in NOTES]
    body += [f"<p class='bad'>{e(line)}</p>" for line in warnings(found)]
    for title, records in series(found.records):
        body.append(f"<h2>{e(title)}</h2>")
        if title in plots:
            label = f"Speed, memory and error of {title} against n; the figures are in the table"
            body.append(f"<figure class='wide'>{inline(plots[title], label)}</figure>")
        body.append(table(records))
    if lines := left_out(found):
        items = "".join(f"<li>{e(line)}</li>" for line in lines)
        body.append(f"<h2>Left out</h2><ul>{items}</ul>")
    told = ", ".join(f"{e(name)} {e(str(value))}" for name, value in found.environment.items())
    body.append(f"<p class='dim'>{told}{', --quick' if found.quick else ''}</p>")
    return document("softgrad bench", "\n".join(body), STYLE)


def inline(svg: str, label: str) -> str:
    """The element alone, with words for who cannot see it."""
    element = svg[svg.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def table(records: list[Record]) -> str:
    unit = unit_of_error(records[0].op)
    heads = "".join(
        f"<th{' class=number' if i > 1 else ''}>{escape(head.format(unit=unit))}</th>"
        for i, head in enumerate(HEADS)
    )
    rows = []
    for shape, those in itertools.groupby(records, shape_of):
        for i, record in enumerate(r for r in those if r.seconds is not None):
            kinds = ["first"] * (i == 0) + ["ours"] * (record.implementation == "softgrad")
            numbers = cells(record)
            numbers[3] += bar(record)
            aside = f"<td>{escape(shape) if i == 0 else ''}</td><td>{escape(name_of(record))}</td>"
            right = "".join(f"<td class=number>{number}</td>" for number in numbers)
            rows.append(f"<tr class='{' '.join(kinds)}'>{aside}{right}</tr>")
    return f"<div class='wide'><table><tr>{heads}</tr>\n{chr(10).join(rows)}\n</table></div>"


def bar(record: Record) -> str:
    """The share of the limit as a bar; that of all of it is 5 rem long."""
    share = min(1.0, record.limit_ratio.median) if record.limit_ratio else 0
    return f"<span class=room><span class=bar style='width:{5 * share:.2f}rem'></span></span>"
