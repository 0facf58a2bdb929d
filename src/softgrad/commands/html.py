"""A page of HTML that needs nothing beside itself: no script, no font and no file, in light and in dark."""

from __future__ import annotations

from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #18794e; --bad: #c62a2f }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff6369 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid var(--line) }
.error { text-align: right; white-space: nowrap }
.good { color: var(--good) }
.bad { color: var(--bad); font-weight: 600 }
.dim { opacity: .7 }
.wide { overflow-x: auto }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); font-size: .85rem }
"""


def document(title: str, body: str, style: str = "") -> str:
    """The whole page; `title` is text, `body` and `style` are HTML and CSS."""
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{style}</style></head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""
