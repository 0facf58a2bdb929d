"""The gradient of a softmax layer in whole numbers: exact, and slow.

A float is a whole number over a power of two, and ∂L/∂x a rational function of y and ∂L/∂y; so nothing
is rounded before the end.
"""

from __future__ import annotations

import numpy as np

from ..checks import Array


def whole(row: Array) -> tuple[list[int], int]:
    """The numbers of a row as multiples of 1/unit, and that unit."""
    ratios = [value.as_integer_ratio() for value in row.astype(np.float64).tolist()]
    unit = max(below for _, below in ratios)
    return [above * (unit // below) for above, below in ratios], unit


def vjp(y: Array, dy: Array) -> tuple[Array, Array]:
    """y∘(dy − ⟨y,dy⟩/⟨y,1⟩) along the last axis of 2-d arrays.

    Returns
    -------
    high, low : numpy.ndarray
        In float64: the exact value, rounded, and what the rounding took, rounded.
    """
    high, low = np.empty(y.shape), np.empty(y.shape)
    for i in range(len(y)):
        (s, s_unit), (d, d_unit) = whole(y[i]), whole(dy[i])
        total = sum(s)
        product = sum(a * b for a, b in zip(s, d, strict=True))
        below = total * s_unit * d_unit
        for j, (a, b) in enumerate(zip(s, d, strict=True)):
            above = a * (b * total - product)
            nearest = above / below  # Python rounds a quotient of whole numbers correctly
            p, q = nearest.as_integer_ratio()
            high[i, j], low[i, j] = nearest, (above * q - p * below) / (below * q)
    return high, low


def row_error(dx: Array, exact: tuple[Array, Array], eps: float, beside: Array | None = None) -> float:
    """The largest ‖dx − exact‖₂ / ‖exact‖₂ of a row, in units of eps; or beside another norm than that."""
    high, low = exact
    wrong = (dx.astype(np.float64) - high) - low
    below = np.linalg.norm((high if beside is None else beside).astype(np.float64), axis=-1)
    above = np.linalg.norm(wrong, axis=-1)
    return float((above / np.where(below == 0, 1, below)).max() / eps)
