"""How far off a result is: in units of the dtype's rounding and beside the exact value, never absolute."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ..checks import BFLOAT16, Array, Axis
from .oracle import WIDE


def info(dtype: np.dtype[Any]) -> Any:
    """`numpy.finfo` for any of the four dtypes."""
    return ml_dtypes.finfo(dtype) if dtype == BFLOAT16 else np.finfo(dtype)  # type: ignore[no-untyped-call]


def eps(dtype: np.dtype[Any]) -> float:
    return float(info(dtype).eps)


def bound(dtype: np.dtype[Any]) -> int:
    """The error of a vjp that softgrad promises, in eps of the row's norm."""
    return 4 if dtype == np.float64 else 2


def forward_bound(dtype: np.dtype[Any]) -> float:
    """The error of a forward that softgrad promises, in ulp."""
    return 0.51 if dtype.itemsize == 2 else 2


def smallest(dtype: np.dtype[Any]) -> Any:
    """The smallest subnormal number, as a longdouble."""
    return WIDE(float(info(dtype).smallest_subnormal))


def inner(a: Array, b: Array) -> Array:
    """⟨a, b⟩ of each row."""
    return np.asarray((a.astype(WIDE) * b.astype(WIDE)).sum(axis=-1))


def norm(a: Array) -> Array:
    """‖a‖₂ of each row; no square over- or underflows in longdouble's range."""
    return np.asarray(np.sqrt(inner(a, a)))


def ulps(y: Array, exact: Array) -> Array:
    """|y − exact| in units of the spacing of y's dtype at `exact`; where that is below the smallest
    normal number nothing more is asked than that y is not above it: 0, or inf."""
    tiny = WIDE(float(info(y.dtype).smallest_normal))
    _, exponents = np.frexp(exact)
    spacing = np.ldexp(WIDE(eps(y.dtype)), exponents - 1)
    wide = y.astype(WIDE)
    normal = np.abs(wide - exact) / np.where(exact >= tiny, spacing, 1)
    faint = np.where((wide >= 0) & (wide <= tiny), 0, np.inf)
    return np.where(np.isfinite(wide), np.where(exact >= tiny, normal, faint), np.inf)


def row_error(dx: Array, exact: Array, axis: Axis = -1) -> Array:
    """‖dx − exact‖₂ / (eps·‖exact‖₂) along an axis, half the smallest subnormal per element allowed.

    Rows are scaled by powers of two, so that no square is lost or too large.
    """
    axis = tuple(range(exact.ndim)) if axis is None else axis
    error = np.maximum(np.abs(dx.astype(WIDE) - exact) - smallest(dx.dtype) / 2, 0)
    norms = []
    for values in (error, exact):
        _, exponents = np.frexp(np.abs(values).max(axis, keepdims=True))
        scaled = np.ldexp(values, -exponents)
        norms.append((np.sqrt((scaled * scaled).sum(axis, keepdims=True)), exponents))
    (above, above_exponents), (below, below_exponents) = norms
    ratio = np.ldexp(above / np.where(below == 0, 1, below), above_exponents - below_exponents)
    ratio = np.where(below == 0, np.where(above == 0, 0, np.inf), ratio / eps(dx.dtype))
    return np.where(np.isnan(ratio), np.inf, ratio).squeeze(axis)


def gain(dx: Array, exact: Array) -> float:
    """By how much dx is too large on the average over the rows, in eps: what rounding does not explain.

    Only rows that are no subnormal numbers are counted.
    """
    rows = np.abs(exact).max(axis=-1) > 16 * float(info(dx.dtype).smallest_normal)
    if not rows.any():
        return 0.0
    _, exponents = np.frexp(np.abs(exact[rows]).max(axis=-1, keepdims=True))
    a, b = (np.ldexp(part[rows].astype(WIDE), -exponents) for part in (dx, exact))
    return float((inner(a, b) / inner(b, b) - 1).mean()) / eps(dx.dtype)
