"""How far off a result is: in units of the dtype's rounding and beside the exact value, never absolute."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ..checks import BFLOAT16, Array, Axis
from .oracle import WIDE, axes_of

DType = np.dtype[Any]


def info(dtype: DType) -> Any:
    """`numpy.finfo` for any of the four dtypes."""
    return ml_dtypes.finfo(dtype) if dtype == BFLOAT16 else np.finfo(dtype)  # type: ignore[no-untyped-call]


def eps(dtype: DType) -> float:
    return float(info(dtype).eps)


def smallest(dtype: DType) -> Any:
    """The smallest subnormal number, as a longdouble."""
    return WIDE(float(info(dtype).smallest_subnormal))


def kernel_dtype(dtype: DType) -> DType:
    """The dtype of the computation: float32 for the 16-bit types."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


# --- the constants of softgrad's contract ------------------------------------------------------------


def product_bound(dtype: DType) -> int:
    """C of a vjp or jvp of softmax, sparsemax and entmax, in eps·(|dx*| + y·D) of each element."""
    return 16 if dtype == np.float64 else 8


def forward_bound(dtype: DType) -> float:
    """The error of a forward, in ulp."""
    return 0.51 if dtype.itemsize == 2 else 2


def bound(dtype: DType) -> int:
    """The error of losses, segments and GPU kernels, in eps of the row's norm."""
    return 4 if dtype == np.float64 else 2


# --- rows --------------------------------------------------------------------------------------------


def inner(a: Array, b: Array) -> Array:
    """⟨a, b⟩ of each row."""
    return np.asarray((a.astype(WIDE) * b.astype(WIDE)).sum(axis=-1))


def norm(a: Array) -> Array:
    """‖a‖₂ of each row; no square over- or underflows in longdouble's range."""
    return np.asarray(np.sqrt(inner(a, a)))


def quotient(a: Array, b: Array) -> Array:
    """a/b, and 0 where b is 0."""
    return np.asarray(np.where(b == 0, 0, a / np.where(b == 0, 1, b)))


def worst_ratio(error: Array, beside: Array, axis: Axis) -> Array:
    """The largest error/beside of each row; 0/0 is 0, and NaN inf."""
    ratio = np.where(error == 0, 0, error / np.where(beside == 0, np.finfo(WIDE).tiny, beside))
    return np.asarray(np.where(np.isnan(ratio), np.inf, ratio).max(axes_of(error, axis), initial=0))


def row_error(dx: Array, exact: Array, axis: Axis = -1) -> Array:
    """‖dx − exact‖₂ / (eps·‖exact‖₂) along an axis, half the smallest subnormal per element allowed.

    As in `norm`, no square is lost or too large in longdouble.
    """
    axis = axes_of(exact, axis)
    error = np.maximum(np.abs(dx.astype(WIDE) - exact) - smallest(dx.dtype) / 2, 0)
    above, below = (np.sqrt((a * a).sum(axis)) for a in (error, exact))
    ratio = np.where(below == 0, np.where(above == 0, 0, np.inf), quotient(above, below) / eps(dx.dtype))
    return np.where(np.isnan(ratio), np.inf, ratio)


def mean_gain(dx: Array, exact: Array) -> float:
    """By how much dx is too large on average over the rows, in eps: what rounding does not explain.

    Rows of subnormal numbers do not count.
    """
    rows = np.abs(exact).max(axis=-1) > 16 * float(info(dx.dtype).smallest_normal)
    if not rows.any():
        return 0.0
    gains = inner(dx[rows], exact[rows]) / inner(exact[rows], exact[rows]) - 1
    return float(gains.mean()) / eps(dx.dtype)


# --- a forward, in ulp -------------------------------------------------------------------------------


def spacing(exact: Array, dtype: DType) -> Array:
    """One ulp of a dtype at these numbers."""
    return np.asarray(np.ldexp(WIDE(eps(dtype)), np.frexp(exact)[1] - 1))


def ulps(y: Array, exact: Array) -> Array:
    """|y − exact| in ulp of y's dtype at `exact`; where that is below the smallest normal number, 0 if y is
    not above it, else inf."""
    tiny = WIDE(float(info(y.dtype).smallest_normal))
    wide = y.astype(WIDE)
    normal = np.abs(wide - exact) / np.where(exact >= tiny, spacing(exact, y.dtype), 1)
    subnormal = np.where((wide >= 0) & (wide <= tiny), 0, np.inf)
    return np.where(np.isfinite(wide), np.where(exact >= tiny, normal, subnormal), np.inf)


def normal_ulps(y: Array, exact: Array) -> Array:
    """`ulps` of the normal numbers, and 0 of the others."""
    return np.where(exact >= float(info(y.dtype).smallest_normal), ulps(y, exact), 0)


def spacing_above_1(exact: Array, dtype: DType) -> Array:
    """One ulp of max(|exact|, 1)."""
    return spacing(np.maximum(np.abs(np.where(np.isfinite(exact), exact, 1)), 1), dtype)


def ulps_above_1(y: Array, exact: Array) -> Array:
    """|y − exact| in ulp of max(|exact|, 1); where both are the same infinity, 0."""
    same = y.astype(WIDE) == exact
    error = np.where(same, 0, y.astype(WIDE) - np.where(same, 0, exact)) / spacing_above_1(exact, y.dtype)
    return np.where(np.isnan(error), np.inf, np.abs(error))


# --- a vjp or jvp, element by element ----------------------------------------------------------------


def product_terms(y: Array, exact: Array, axis: Axis = -1) -> Array:
    """|dx*| + y·D, the unit of the error of each element; `y` is 0 where it is masked.

    D = ⟨y,|dy−m*|⟩/⟨y,1⟩, how far dy is from its mean on average, is Σ|dx*|/Σy.
    """
    axis = axes_of(exact, axis)
    w, size = y.astype(WIDE), np.abs(exact)
    return np.asarray(size + w * quotient(size.sum(axis, keepdims=True), w.sum(axis, keepdims=True)))


def rounded_once(exact: Array, terms: Array, factor: int, dtype: DType) -> Array:
    """factor·eps·terms; of a 16-bit type that in float32's eps, and 0.51 ulp for the one rounding."""
    allowed = factor * eps(kernel_dtype(dtype)) * terms
    if dtype.itemsize == 2:
        largest = np.abs(exact) + allowed
        allowed = allowed + np.where(largest == 0, 0, WIDE(0.51) * spacing(largest, dtype))
    return np.asarray(allowed)


def lost(y: Array, axis: Axis = -1, dtype: DType | None = None) -> Array:
    """What may underflow: half the smallest subnormal in dx itself, and in each of the n products y·dy, by
    which the mean of dy is off."""
    dtype, axis = dtype or y.dtype, axes_of(y, axis)
    w = y.astype(WIDE)
    n = np.ones(y.shape, WIDE).sum(axis, keepdims=True)
    share = quotient(n * w, w.sum(axis, keepdims=True))
    return np.asarray((smallest(dtype) + share * smallest(kernel_dtype(dtype))) / 2)


def product_allowed(
    y: Array, exact: Array, axis: Axis = -1, scale: float = 1.0, dtype: DType | None = None
) -> Array:
    """The error that softgrad promises of each element of a vjp.

    `exact` is from the oracle, with the scale in it.  `y` are the weights s, for maps other than softmax not
    of the `dtype` of the arrays.
    """
    dtype = dtype or y.dtype
    allowed = rounded_once(exact, product_terms(y, exact, axis), product_bound(dtype), dtype)
    return allowed + lost(y, axis, dtype) * max(1.0, abs(scale))


def product_miss(
    dx: Array, y: Array, exact: Array, axis: Axis = -1, scale: float = 1.0, dtype: DType | None = None
) -> Array:
    """The worst |dx − dx*| of each row in units of what softgrad promises: at most 1."""
    with np.errstate(all="ignore"):
        allowed = product_allowed(y, exact, axis, scale, dtype)
        return worst_ratio(np.abs(dx.astype(WIDE) - exact), allowed, axis)


def product_error(dx: Array, y: Array, exact: Array, axis: Axis = -1, scale: float = 1.0) -> Array:
    """The worst |dx − dx*| / (eps·(|dx*| + y·D)) of each row less what may underflow: the observed C (of a
    16-bit type nearly all of it is the rounding, 0.5)."""
    with np.errstate(all="ignore"):
        error = np.abs(dx.astype(WIDE) - exact)
        error = np.where(error == 0, 0, np.maximum(error - lost(y, axis, dx.dtype) * max(1.0, abs(scale)), 0))
        return worst_ratio(error, eps(dx.dtype) * product_terms(y, exact, axis), axis)
