"""Softmax in segments of the first axis, segment s being offsets[s] … offsets[s + 1] − 1, and its gradient.

Every function takes the namespace `xp` of its arrays (``numpy``, ``array_api_strict``, ``torch``, …).
"""

from itertools import pairwise
from typing import Any


def segment_softmax(x: Any, offsets: Any, xp: Any) -> Any:
    """In each segment y_i = exp(x_i) / Σ_k exp(x_k), k running over the same segment."""
    y = xp.zeros_like(x)
    for start, stop in pairwise(map(int, offsets)):
        if start < stop:
            e = xp.exp(x[start:stop, ...] - xp.max(x[start:stop, ...], axis=0, keepdims=True))
            y[start:stop, ...] = e / xp.sum(e, axis=0, keepdims=True)
    return y


def segment_vjp(y: Any, dy: Any, offsets: Any, xp: Any) -> Any:
    """In each segment dx_j = y_j (dy_j − Σ_i dy_i y_i): no two segments have to do with each other."""
    dx = xp.zeros_like(y)
    for start, stop in pairwise(map(int, offsets)):
        if start < stop:
            part, up = y[start:stop, ...], dy[start:stop, ...]
            dx[start:stop, ...] = part * (up - xp.sum(up * part, axis=0, keepdims=True))
    return dx
