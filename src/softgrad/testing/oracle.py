"""What the functions must return, found in another way than they find it.

The derivatives of softmax are rational functions of y and dy, so they are computed in whole numbers, exactly,
and rounded once, to `numpy.longdouble`: its relative error is at most 2⁻⁶² (where it has 64 bits).  Plain
arithmetic in longdouble would not do: where one y is nearly 1, what is left after the cancellation may
lie hundreds of bits below the terms.

Whole numbers are slow.  Rows of more than `LONG` are computed in pairs of longdoubles, the gradient as a
distance from the one at the largest y, which has at least 1/n of the weight: with it no sum cancels
to less than 1/n² of its terms, and the row's error is below n²·2⁻¹²⁰ of its norm, before the last rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import Array, Axis

WIDE = np.longdouble
LONG = 5000

bit_length: Any = np.frompyfunc(int.bit_length, 1, 1)


# --- floats as whole numbers -------------------------------------------------------------------------


def whole(values: npt.ArrayLike) -> tuple[Array, int]:
    """Finite floats as whole numbers (objects) and the exponent of their common unit."""
    mantissas, exponents = np.frexp(np.asarray(values).astype(np.float64))
    there = mantissas != 0
    unit = int(exponents[there].min()) - 53 if there.any() else 0
    shifts = np.where(there, exponents - 53 - unit, 0)
    return np.ldexp(mantissas, 53).astype(np.int64).astype(object) << shifts.astype(object), unit


def rounded(numbers: Array, exponent: int) -> tuple[Array, Array]:
    """numbers·2^exponent for whole numbers: (m, e) with m·2^e, m in longdouble, |m| in [1/2, 1) or 0.

    The 96 leading bits are taken in two halves, each of which a longdouble holds.
    """
    shifts = bit_length(numbers).astype(np.int64) - 96
    leading = (numbers << np.maximum(-shifts, 0).astype(object)) >> np.maximum(shifts, 0).astype(object)
    upper = (leading >> 48).astype(np.int64).astype(WIDE)
    lower = (leading & ((1 << 48) - 1)).astype(np.int64).astype(WIDE)
    mantissas, more = np.frexp(upper * 2.0**48 + lower)
    return mantissas, more + shifts + exponent


def quotient(numbers: Array, exponent: int, divisor: int) -> Array:
    """numbers·2^exponent / divisor, of whole numbers, in longdouble."""
    mantissas, exponents = rounded(numbers, exponent)
    below, below_exponent = rounded(np.array([divisor], object), 0)
    return np.ldexp(mantissas / below, (exponents - below_exponent).astype(np.int32))


# --- row by row --------------------------------------------------------------------------------------


def along_rows(function: Callable[..., Any], *given: npt.ArrayLike, axis: Axis, results: int = 1) -> Any:
    """Apply `function` of 1-d arrays to each row along an axis, a tuple of axes, or all (None)."""
    arrays = [np.asarray(a) for a in given]
    ndim = arrays[0].ndim
    axes = list(range(ndim)) if axis is None else [int(a) % ndim for a in np.atleast_1d(axis)]
    kept = [a for a in range(ndim) if a not in axes]
    order = kept + axes
    shape = tuple(arrays[0].shape[a] for a in order)
    flat = [a.transpose(order).reshape(-1, int(np.prod(shape[len(kept) :]))) for a in arrays]
    out = [np.zeros(flat[0].shape, WIDE) for _ in range(results)]
    for rows in zip(*flat, *out, strict=True):
        found = function(*rows[: len(arrays)])
        for place, value in zip(rows[len(arrays) :], [found] if results == 1 else found, strict=True):
            place[...] = value
    back = [a.reshape(shape).transpose(np.argsort(order)) for a in out]
    return back[0] if results == 1 else back


def vjp(
    y: npt.ArrayLike,
    dy: npt.ArrayLike,
    axis: Axis = -1,
    scale: float = 1.0,
    where: npt.ArrayLike | None = None,
) -> Array:
    """scale · y∘(dy − ⟨y,dy⟩/⟨y,1⟩) for y and dy as given, exact until it is rounded to longdouble.

    What is masked takes no part, and is 0.
    """
    if where is not None:
        y, dy = (np.where(where, a, np.zeros((), a.dtype)) for a in map(np.asarray, (y, dy)))
    found: Array = along_rows(vjp_of_row, y, dy, axis=axis)
    return found * WIDE(scale)


def vjp_of_row(y: Array, dy: Array) -> Array:
    return vjp_in_pairs(y, dy) if len(y) > LONG else vjp_in_whole_numbers(y, dy)


def vjp_in_whole_numbers(y: Array, dy: Array) -> Array:
    s, s_unit = whole(y)
    d, d_unit = whole(dy)
    total = s.sum()
    if total == 0:
        return np.zeros(len(s), WIDE)
    return quotient(s * (d * total - (s * d).sum()), s_unit + d_unit, total)


def double_backward(
    y: npt.ArrayLike, dy: npt.ArrayLike, v: npt.ArrayLike, axis: Axis = -1, scale: float = 1.0
) -> tuple[Array, Array]:
    """(grad_x, grad_dy) of ⟨v, vjp(y, dy)⟩; Σy counts as a constant, which it is up to its rounding.

    With p = (v − ⟨y,v⟩/⟨y,1⟩)∘(dy − ⟨y,dy⟩/⟨y,1⟩): grad_x = y∘(p − ⟨y,p⟩/⟨y,1⟩), exactly.
    """
    grad_x, grad_dy = along_rows(double_backward_of_row, y, dy, v, axis=axis, results=2)
    return grad_x * WIDE(scale) * WIDE(scale), grad_dy * WIDE(scale)


def double_backward_of_row(y: Array, dy: Array, v: Array) -> tuple[Array, Array]:
    return (double_backward_in_pairs if len(y) > LONG else double_backward_in_whole_numbers)(y, dy, v)


def double_backward_in_whole_numbers(y: Array, dy: Array, v: Array) -> tuple[Array, Array]:
    (s, s_unit), (d, d_unit), (u, u_unit) = whole(y), whole(dy), whole(v)
    total = s.sum()
    if total == 0:
        return np.zeros(len(s), WIDE), np.zeros(len(s), WIDE)
    distance = u * total - (s * u).sum()
    product = distance * (d * total - (s * d).sum())
    grad_x = quotient(s * (product * total - (s * product).sum()), s_unit + d_unit + u_unit, total**3)
    return grad_x, quotient(s * distance, s_unit + u_unit, total)


# --- in pairs of longdoubles: a number and what its rounding took ---------------------------------------

Pair = tuple[Array, Array]


def two_sum(a: Any, b: Any) -> Pair:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Any, b: Any) -> Pair:
    """p and e with p + e = a·b exactly, by Veltkamp's splitting of a longdouble."""

    def halves(value: Any) -> Pair:
        c = value * (WIDE(2) ** ((np.finfo(WIDE).nmant + 2) // 2) + 1)
        upper = c - (c - value)
        return upper, value - upper

    p = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return p, a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


def added(a: Pair, b: Pair) -> Pair:
    high, low = two_sum(a[0], b[0])
    return high, low + (a[1] + b[1])


def multiplied(a: Pair, b: Pair) -> Pair:
    high, low = two_product(a[0], b[0])
    return high, low + (a[0] * b[1] + a[1] * b[0])


def sum_of(pair: Pair) -> Pair:
    """The sum of a row, by halves."""
    high, low = pair
    while len(high) > 1:
        if len(high) % 2:
            high, low = np.append(high, WIDE(0)), np.append(low, WIDE(0))
        half = len(high) // 2
        high, low = added((high[:half], low[:half]), (high[half:], low[half:]))
    return high[0], low[0]


def from_mean(y: Array, d: Pair) -> Pair:
    """d − ⟨y,d⟩/⟨y,1⟩ of a row with Σy > 0."""
    heaviest = int(np.argmax(y))
    far = added(d, (-d[0][heaviest], -d[1][heaviest]))
    weights = y, np.zeros_like(y)
    (total, lost), (product, more) = sum_of(weights), sum_of(multiplied(weights, far))
    mean = product / total
    high, low = two_product(mean, total)
    rest = (((product - high) - low) + (more - mean * lost)) / total
    return added(far, (-mean, -rest))


def as_pair(values: Array) -> Pair:
    wide = values.astype(WIDE)
    return wide, np.zeros_like(wide)


def vjp_in_pairs(y: Array, dy: Array) -> Array:
    w = y.astype(WIDE)
    if not w.any():
        return w
    high, low = from_mean(w, as_pair(dy))
    return np.asarray(w * (high + low))


def double_backward_in_pairs(y: Array, dy: Array, v: Array) -> tuple[Array, Array]:
    w = y.astype(WIDE)
    if not w.any():
        return w, w
    distance = from_mean(w, as_pair(v))
    high, low = from_mean(w, multiplied(distance, from_mean(w, as_pair(dy))))
    return w * (high + low), w * (distance[0] + distance[1])


# --- the forward -------------------------------------------------------------------------------------


def softmax(
    x: npt.ArrayLike, axis: Axis = -1, scale: float = 1.0, where: npt.ArrayLike | None = None
) -> Array:
    """softmax(scale·x) in longdouble, the rounding of scale·(x − max) carried along; an empty row is 0."""
    wide = np.asarray(x).astype(WIDE)
    there = np.broadcast_to(True if where is None else where, wide.shape)
    axis = tuple(range(wide.ndim)) if axis is None else axis
    sign = WIDE(-1 if scale < 0 else 1)
    v = np.where(there, sign * wide, -np.inf)
    top = v.max(axis, keepdims=True)
    top = np.where(top == -np.inf, 0, top)
    there = there & (v != -np.inf)
    difference, lost = two_sum(np.where(there, v, top), -top)
    t, rest = two_product(difference, WIDE(abs(scale)))
    powers = np.where(there, np.exp(t) * (1 + (rest + lost * abs(scale))), 0)
    total = powers.sum(axis, keepdims=True)
    return np.asarray(powers / np.where(total == 0, 1, total))
