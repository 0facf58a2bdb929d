"""The format of results/: JSON with a line for each record, for short diffs."""

from __future__ import annotations

import json
from typing import Any


def as_text(result: dict[str, Any]) -> str:
    """`result` as JSON, each of its lists with an element a line."""
    parts = ",\n".join(f"{json.dumps(name)}: {part(value)}" for name, value in result.items())
    return f"{{\n{parts}\n}}\n"


def part(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f" {json.dumps(one)}" for one in value) + "\n]"
