"""softmax and its vjp where rows are cut into parts: the few numbers of each row that the parts exchange.

A part is the piece of an array that one process, device or chunk holds.  Forward it gives `stats`, two
numbers of each row, and `finish` makes its y of those of the whole row:

    top, total = functools.reduce(combine, [stats(x) of each part])

The backward takes the vjp of a row in docs/decisions.md: a reference, which is the dy of the largest y, then
the mean of the distances from it, then what that mean is off by:

    ref = functools.reduce(combine_reference, [reference(y, dy) of each part])[1]
    a, b = sum of pair(y, dy, ref) of each part
    mean = a/b                                     (0 where b is 0; and if |mean| > |ref + mean|/4,
                                                    ref + mean is the reference, and the mean 0)
    mean = mean + sum of rest(y, dy, ref, mean)/b
    dx = finish_vjp(y, dy, ref, mean) of each part

All numbers are float64, with the axes of a row at length 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks
from .checks import Array

Pair = tuple[Array, Array]
Axes = int | tuple[int, ...]

# --- forward --------------------------------------------------------------------------------------------


def stats(x: Array, *, axis: Axes, where: Array | None = None, scale: float = 1.0) -> Pair:
    """The largest scale·x of each row, and Σ exp(scale·x − that); (−inf, 0) of a row with nothing in it."""
    with np.errstate(all="ignore"):
        logits, lost = scaled(x, where, scale)
        top = np.max(logits, axis=axis, keepdims=True, initial=-np.inf)
        total = powers(logits, lost, top, x.dtype).sum(axis=axis, keepdims=True)
        return top, total.astype(np.float64)


def combine(a: Pair, b: Pair) -> Pair:
    """The `stats` of two parts as those of both, in the type of the totals, which may be longdouble."""
    with np.errstate(all="ignore"):
        top = np.maximum(a[0], b[0])
        away = [np.where(t == -np.inf, -np.inf, t - top).astype(np.longdouble) for t, _ in (a, b)]
        total = np.exp(away[0]) * a[1] + np.exp(away[1]) * b[1]
        return top, total.astype(a[1].dtype)


def finish(
    x: Array,
    top: Array,
    total: Array,
    *,
    axis: Axes,
    where: Array | None = None,
    scale: float = 1.0,
    empty: str = "zero",
) -> Array:
    """y of a part, from the `stats` of its whole rows: float64 for integers, else of the dtype of x."""
    fill = checks.choice(empty)
    nothing = total == 0
    if empty == "raise" and nothing.any():
        raise ValueError(checks.EMPTY_ROW)
    with np.errstate(all="ignore"):
        logits, lost = scaled(x, where, scale)
        y = powers(logits, lost, top, x.dtype) / total
        if where is not None:
            y = np.where(where, y, 0.0)
        y = np.where(nothing, fill, y)
        return np.asarray(y.astype(x.dtype if x.dtype in checks.FLOATS else np.float64))


def scaled(x: Array, where: Array | None, scale: float) -> Pair:
    """scale·x in float64, −inf where it is masked, and what the rounding of the product lost."""
    wide = x.astype(np.float64)
    lost: Array = np.zeros(())
    if scale == 1:
        logits = wide
    else:
        logits = np.where(wide == -np.inf, wide, wide * scale) if scale == 0 else wide * scale
        (a1, a2), (b1, b2) = halves(wide), halves(np.float64(scale))
        lost = a2 * b2 - (((logits - a1 * b1) - a2 * b1) - a1 * b2)
    return logits if where is None else np.where(where, logits, -np.inf), lost


def halves(a: Any) -> tuple[Any, Any]:
    """a as a sum of two numbers of 26 digits, by Veltkamp: their products with others such are exact."""
    c = a * (2.0**27 + 1)
    upper = c - (c - a)
    return upper, a - upper


def powers(logits: Array, lost: Array, top: Array, dtype: np.dtype[Any]) -> Array:
    """exp(logits + lost − top); 0 where a logit is −inf.

    Of float64 what the difference loses is carried, and the powers are longdouble: nothing but their sum and
    y is rounded to 64 bits.
    """
    t = logits - np.where(top == -np.inf, 0.0, top)
    narrow = dtype in checks.FLOATS and dtype.itemsize < 8
    if narrow and lost.ndim == 0:
        return np.asarray(np.exp(t))
    back = t - logits
    lost = lost + ((logits - (t - back)) + (-top - back))
    lost = np.where(np.isfinite(lost), lost, 0.0)  # where t is inf, or a product overflows
    distance = t + lost
    lost = np.where(np.isfinite(t), (t - distance) + lost, 0.0)
    e = np.exp(distance if narrow else distance.astype(np.longdouble))
    return np.asarray(e + e * lost)


# --- backward -------------------------------------------------------------------------------------------


def reference(y: Array, dy: Array, *, axis: Axes, where: Array | None = None) -> Pair:
    """The largest y of each row and its dy (of ties the largest); (−1, 0) of a row with nothing in it."""
    weights = y.astype(np.float64) if where is None else np.where(where, y, np.float64(-1))
    largest = np.max(weights, axis=axis, keepdims=True, initial=-1.0)
    with np.errstate(all="ignore"):
        ref = np.max(
            np.where(weights == largest, dy.astype(np.float64), -np.inf),
            axis=axis,
            keepdims=True,
            initial=-np.inf,
        )
    return largest, np.where(largest >= 0, ref, 0.0)


def combine_reference(a: Pair, b: Pair) -> Pair:
    """The `reference` of two parts as that of both: the larger y wins, and ties go to the first."""
    second = (b[0] > a[0]) | np.isnan(b[0])
    return np.where(second, b[0], a[0]), np.where(second, b[1], a[1])


def pair(y: Array, dy: Array, ref: Array, *, axis: Axes, where: Array | None = None) -> Pair:
    """Σ y·(dy − ref), NaN if dy is not finite, and Σ y."""
    with np.errstate(all="ignore"):
        w, d = centred(y, dy, ref, where)
        total = (w * d).sum(axis=axis, keepdims=True)
        return np.where(np.isfinite(total), total, np.nan), w.sum(axis=axis, keepdims=True)


def rest(y: Array, dy: Array, ref: Array, mean: Array, *, axis: Axes, where: Array | None = None) -> Array:
    """Σ y·((dy − ref) − mean): what is left of the mean, times Σ y."""
    with np.errstate(all="ignore"):
        w, d = centred(y, dy, ref, where)
        return np.asarray((w * (d - mean)).sum(axis=axis, keepdims=True))


def finish_vjp(
    y: Array,
    dy: Array,
    ref: Array,
    mean: Array,
    *,
    axis: Axes,
    where: Array | None = None,
    scale: float = 1.0,
) -> Array:
    """scale·y∘((dy − ref) − mean) in the dtype of y.

    The mean of a row with NaN or inf in dy is NaN, that of an empty row 0.  So where y is 0, dx is 0·mean,
    whatever dy is.
    """
    with np.errstate(all="ignore"):
        w, d = centred(y, dy, ref, where)
        dx = np.where(w == 0, 0.0 * mean, w * (d - mean) * scale)
        return np.asarray((dx if where is None else np.where(where, dx, 0.0)).astype(y.dtype))


def centred(y: Array, dy: Array, ref: Array, where: Array | None) -> Pair:
    """y and dy − ref in float64, both 0 where they are masked."""
    w, d = y.astype(np.float64), dy.astype(np.float64) - ref
    return (w, d) if where is None else (np.where(where, w, 0.0), np.where(where, d, 0.0))
