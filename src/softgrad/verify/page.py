"""What was found, as a page of HTML that needs nothing beside itself."""

from __future__ import annotations

from html import escape

from ..commands.html import document
from ..testing import Finding
from .report import by_check, circumstances, explained, hints, number, outcome, title, unit
from .run import Verdict


def as_html(verdict: Verdict) -> str:
    e = escape
    dtypes = verdict.settings.dtypes
    rows = []
    for check, found in by_check(verdict).items():
        cells = [found.get(dtype, found.get("")) for dtype in dtypes]
        why = next(iter(found.values())).why
        rows.append(f"<tr><td>{e(check)}</td>{''.join(map(cell, cells))}<td class='dim'>{e(why)}</td></tr>")
    details = []
    for finding in explained(verdict):
        code = f"<p>To reproduce it:</p><pre>{e(finding.reproduce)}</pre>" if finding.reproduce else ""
        details.append(
            f"<h2 class='bad'>✗ {e(finding.check)} {e(finding.dtype)}</h2><p>{e(finding.why)}</p>"
            f"<pre>{e(finding.case)}</pre>{code}"
        )
    heads = "".join(f"<th class='error'>{e(dtype)}</th>" for dtype in dtypes)
    probably = "".join(f"<p><strong>Probably: {e(hint)}</strong></p>" for hint in hints(verdict))
    machine = ", ".join(f"{e(name)} {e(str(value))}" for name, value in verdict.environment.items())
    body = f"""<p class="{"bad" if verdict.failures else "good"}">{e(outcome(verdict))}</p>
{probably}
<div class="wide"><table>
<tr><th>check</th>{heads}<th>why it matters</th></tr>
{chr(10).join(rows)}
</table></div>
<p class="dim">Errors are the worst, in {e(unit(verdict))}; {e(circumstances(verdict))}.</p>
{chr(10).join(details)}
<p class="dim">{machine}</p>"""
    return document(title(verdict), body)


def cell(finding: Finding | None) -> str:
    if finding is None:
        return "<td class='error'>–</td>"
    kind, sign = ("good", "✓") if finding.passed else ("bad", "✗")
    return f"<td class='error {kind}'>{number(finding.eps)} {sign}</td>"
