"""What softgrad must return, found in another way than softgrad finds it.

The derivatives are rational functions of y and dy, so they are computed in whole numbers, exactly, and
rounded once, to `numpy.longdouble`: its relative error is at most 2⁻⁶² (where it has 64 bits).  Plain
arithmetic in longdouble would not do: where one y is nearly 1, what is left after the cancellation may
lie hundreds of bits below the terms.
"""

import ml_dtypes
import numpy as np

WIDE = np.longdouble
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

bit_length = np.frompyfunc(int.bit_length, 1, 1)


def info(dtype):
    """`numpy.finfo` for any of the four dtypes."""
    return ml_dtypes.finfo(dtype) if dtype == BFLOAT16 else np.finfo(dtype)


def eps(dtype):
    return float(info(dtype).eps)


# --- floats as whole numbers -------------------------------------------------------------------------


def whole(values):
    """Finite floats as whole numbers (objects) and the exponent of their common unit."""
    mantissas, exponents = np.frexp(np.asarray(values).astype(np.float64))
    there = mantissas != 0
    unit = int(exponents[there].min()) - 53 if there.any() else 0
    shifts = np.where(there, exponents - 53 - unit, 0)
    return np.ldexp(mantissas, 53).astype(np.int64).astype(object) << shifts.astype(object), unit


def rounded(numbers, exponent):
    """numbers·2^exponent for whole numbers: (m, e) with m·2^e, m in longdouble, |m| in [1/2, 1) or 0.

    The 96 leading bits are taken in two halves, each of which a longdouble holds.
    """
    shifts = bit_length(numbers).astype(np.int64) - 96
    leading = (numbers << np.maximum(-shifts, 0).astype(object)) >> np.maximum(shifts, 0).astype(object)
    upper = (leading >> 48).astype(np.int64).astype(WIDE)
    lower = (leading & ((1 << 48) - 1)).astype(np.int64).astype(WIDE)
    mantissas, more = np.frexp(upper * 2.0**48 + lower)
    return mantissas, more + shifts + exponent


def quotient(numbers, exponent, divisor):
    """numbers·2^exponent / divisor, of whole numbers, in longdouble."""
    mantissas, exponents = rounded(numbers, exponent)
    below, below_exponent = rounded(np.array([divisor], object), 0)
    return np.ldexp(mantissas / below, (exponents - below_exponent).astype(np.int32))


# --- row by row --------------------------------------------------------------------------------------


def along_rows(function, *arrays, axis, results=1):
    """Apply `function` of 1-d arrays to each row along an axis, a tuple of axes, or all (None)."""
    arrays = [np.asarray(a) for a in arrays]
    ndim = arrays[0].ndim
    axes = range(ndim) if axis is None else np.atleast_1d(axis)
    axes = [int(a) % ndim for a in axes]
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


def vjp(y, dy, axis=-1, scale=1.0, where=None):
    """scale · y∘(dy − ⟨y,dy⟩/⟨y,1⟩) for y and dy as given, exact until it is rounded to longdouble.

    What is masked takes no part, and is 0.
    """
    if where is not None:
        y, dy = (np.where(where, a, np.zeros((), a.dtype)) for a in map(np.asarray, (y, dy)))
    return along_rows(vjp_of_row, y, dy, axis=axis) * WIDE(scale)


def vjp_of_row(y, dy):
    s, s_unit = whole(y)
    d, d_unit = whole(dy)
    total = s.sum()
    if total == 0:
        return np.zeros(len(s), WIDE)
    return quotient(s * (d * total - (s * d).sum()), s_unit + d_unit, total)


def double_backward(y, dy, v, axis=-1, scale=1.0):
    """(grad_x, grad_dy) of ⟨v, vjp(y, dy)⟩; Σy counts as a constant, which it is up to its rounding.

    With p = (v − ⟨y,v⟩/⟨y,1⟩)∘(dy − ⟨y,dy⟩/⟨y,1⟩): grad_x = y∘(p − ⟨y,p⟩/⟨y,1⟩), exactly.
    """
    grad_x, grad_dy = along_rows(double_backward_of_row, y, dy, v, axis=axis, results=2)
    return grad_x * WIDE(scale) * WIDE(scale), grad_dy * WIDE(scale)


def double_backward_of_row(y, dy, v):
    (s, s_unit), (d, d_unit), (u, u_unit) = whole(y), whole(dy), whole(v)
    total = s.sum()
    if total == 0:
        return np.zeros(len(s), WIDE), np.zeros(len(s), WIDE)
    distance = u * total - (s * u).sum()
    product = distance * (d * total - (s * d).sum())
    grad_x = quotient(s * (product * total - (s * product).sum()), s_unit + d_unit + u_unit, total**3)
    return grad_x, quotient(s * distance, s_unit + u_unit, total)


# --- the forward -------------------------------------------------------------------------------------


def two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a, b):
    """p and e with p + e = a·b exactly, by Veltkamp's splitting of a longdouble."""

    def halves(value):
        c = value * (WIDE(2) ** ((np.finfo(WIDE).nmant + 2) // 2) + 1)
        upper = c - (c - value)
        return upper, value - upper

    p = a * b
    (a1, a2), (b1, b2) = halves(a), halves(b)
    return p, a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


def softmax(x, axis=-1, scale=1.0, where=None):
    """softmax(scale·x) in longdouble, the rounding of scale·(x − max) carried along; an empty row is 0."""
    x = np.asarray(x).astype(WIDE)
    there = np.broadcast_to(True if where is None else where, x.shape)
    axis = tuple(range(x.ndim)) if axis is None else axis
    sign = WIDE(-1 if scale < 0 else 1)
    v = np.where(there, sign * x, -np.inf)
    top = v.max(axis, keepdims=True)
    top = np.where(top == -np.inf, 0, top)
    there = there & (v != -np.inf)
    difference, lost = two_sum(np.where(there, v, top), -top)
    t, rest = two_product(difference, WIDE(abs(scale)))
    powers = np.where(there, np.exp(t) * (1 + (rest + lost * abs(scale))), 0)
    total = powers.sum(axis, keepdims=True)
    return powers / np.where(total == 0, 1, total)


# --- how far off -------------------------------------------------------------------------------------


def ulps(y, exact):
    """|y − exact| in units of the spacing of y's dtype at `exact`; where that is below the smallest
    normal number the contract says nothing more than that y is not above it: 0, or inf."""
    tiny = WIDE(float(info(y.dtype).smallest_normal))
    _, exponents = np.frexp(exact)
    spacing = np.ldexp(WIDE(eps(y.dtype)), exponents - 1)
    wide = y.astype(WIDE)
    normal = np.abs(wide - exact) / np.where(exact >= tiny, spacing, 1)
    faint = np.where((wide >= 0) & (wide <= tiny), 0, np.inf)
    return np.where(np.isfinite(wide), np.where(exact >= tiny, normal, faint), np.inf)


def row_error(dx, exact, axis=-1):
    """‖dx − exact‖₂ / (eps·‖exact‖₂) along an axis, half the smallest subnormal per element allowed.

    Rows are scaled by powers of two, so that no square is lost or too large.
    """
    axis = tuple(range(exact.ndim)) if axis is None else axis
    subnormal = WIDE(float(info(dx.dtype).smallest_subnormal))
    error = np.maximum(np.abs(dx.astype(WIDE) - exact) - subnormal / 2, 0)
    norms = []
    for values in (error, exact):
        _, exponents = np.frexp(np.abs(values).max(axis, keepdims=True))
        scaled = np.ldexp(values, -exponents)
        norms.append((np.sqrt((scaled * scaled).sum(axis, keepdims=True)), exponents))
    (above, above_exponents), (below, below_exponents) = norms
    ratio = np.ldexp(above / np.where(below == 0, 1, below), above_exponents - below_exponents)
    ratio = np.where(below == 0, np.where(above == 0, 0, np.inf), ratio / eps(dx.dtype))
    return np.where(np.isnan(ratio), np.inf, ratio).squeeze(axis)
