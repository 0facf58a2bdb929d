"""The maps that can be tested: a page for each."""

from __future__ import annotations

from . import softmax
from .operations import Operation, What

OPERATIONS: dict[tuple[str, str], Operation] = {
    (row.map, row.what): row for page in [softmax] for row in page.OPERATIONS
}


def operation(map: str, what: What) -> Operation:
    if (map, what) not in OPERATIONS:
        known = ", ".join(f"{w!r} of {m!r}" for m, w in OPERATIONS)
        raise ValueError(f"{what!r} of {map!r} is not tested: give one of {known}")
    return OPERATIONS[map, what]
