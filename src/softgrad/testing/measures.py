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
    """The error that softgrad promises of a vjp of softmax's relatives, in eps of the row's norm."""
    return 4 if dtype == np.float64 else 2


def kernel_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What is computed in: float32 for the 16-bit types."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def product_bound(dtype: np.dtype[Any]) -> int:
    """C, the error that softgrad promises of a vjp and jvp of softmax, sparsemax and entmax, in
    eps·(|dx*| + y·D) of each element."""
    return 16 if dtype == np.float64 else 8


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


# --- softmax's vjp and jvp, element by element -------------------------------------------------------


def product_terms(y: Array, exact: Array, axis: Axis = -1) -> Array:
    """|dx*| + y·D, which the error of each element is measured beside; `y` is 0 where it is masked.

    D = ⟨y,|dy−m*|⟩/⟨y,1⟩, how far dy is from its mean on the average, is Σ|dx*|/Σy.
    """
    axis = tuple(range(exact.ndim)) if axis is None else axis
    w, size = y.astype(WIDE), np.abs(exact)
    total = w.sum(axis, keepdims=True)
    return np.asarray(size + w * (size.sum(axis, keepdims=True) / np.where(total == 0, 1, total)))


def rounded_once(exact: Array, terms: Array, factor: int, dtype: np.dtype[Any]) -> Array:
    """factor·eps·terms; of a 16-bit type that in float32's eps, and 0.51 ulp for the one rounding."""
    allowed = factor * eps(kernel_dtype(dtype)) * terms
    if dtype.itemsize == 2:
        largest = np.abs(exact) + allowed
        _, exponents = np.frexp(largest)
        spacing = np.ldexp(WIDE(eps(dtype)), exponents - 1)
        allowed = allowed + np.where(largest == 0, 0, WIDE(0.51) * spacing)
    return np.asarray(allowed)


def lost(y: Array, axis: Axis = -1, dtype: np.dtype[Any] | None = None) -> Array:
    """What may underflow: half the smallest subnormal in dx itself, and in each of the n products y·dy, by
    which the mean of dy is off."""
    dtype = dtype or y.dtype
    axis = tuple(range(y.ndim)) if axis is None else axis
    w = y.astype(WIDE)
    total = w.sum(axis, keepdims=True)
    n = np.ones(y.shape, WIDE).sum(axis, keepdims=True)
    share = n * w / np.where(total == 0, 1, total)
    return np.asarray((smallest(dtype) + share * smallest(kernel_dtype(dtype))) / 2)


def product_allowed(
    y: Array, exact: Array, axis: Axis = -1, scale: float = 1.0, dtype: np.dtype[Any] | None = None
) -> Array:
    """The error that softgrad promises of each element of a vjp.  `exact` is that of the oracle, with the
    scale in it.  `y` are the weights; of another map than softmax they are no array of the `dtype`."""
    dtype = dtype or y.dtype
    allowed = rounded_once(exact, product_terms(y, exact, axis), product_bound(dtype), dtype)
    return allowed + lost(y, axis, dtype) * max(1.0, abs(scale))


def worst_ratio(error: Array, beside: Array, axis: Axis) -> Array:
    """The largest error/beside of each row; 0/0 is 0, and NaN inf."""
    axis = tuple(range(error.ndim)) if axis is None else axis
    ratio = np.where(error == 0, 0, error / np.where(beside == 0, np.finfo(WIDE).tiny, beside))
    return np.asarray(np.where(np.isnan(ratio), np.inf, ratio).max(axis, initial=0))


def product_miss(
    dx: Array,
    y: Array,
    exact: Array,
    axis: Axis = -1,
    scale: float = 1.0,
    dtype: np.dtype[Any] | None = None,
) -> Array:
    """The worst |dx − dx*| of each row in units of what softgrad promises: at most 1."""
    with np.errstate(all="ignore"):
        allowed = product_allowed(y, exact, axis, scale, dtype)
        return worst_ratio(np.abs(dx.astype(WIDE) - exact), allowed, axis)


def product_error(dx: Array, y: Array, exact: Array, axis: Axis = -1, scale: float = 1.0) -> Array:
    """The worst |dx − dx*| / (eps·(|dx*| + y·D)) of each row, what may underflow taken off: C as it is seen
    (of a 16-bit type nearly all of it is the rounding, 0.5)."""
    with np.errstate(all="ignore"):
        error = np.abs(dx.astype(WIDE) - exact)
        error = np.where(error == 0, 0, np.maximum(error - lost(y, axis, dx.dtype) * max(1.0, abs(scale)), 0))
        return worst_ratio(error, eps(dx.dtype) * product_terms(y, exact, axis), axis)


# --- on the average ----------------------------------------------------------------------------------


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
