"""softmax: y = exp(scale·x − max) / Σ exp(scale·x − max).

x − max is rounded, and so is its product with the scale: what they lose is carried into the exponential, but
not for 16-bit types, whose results it does not change.  The powers of a row are kept until their sum is
known: in y, or in scratch memory where y is of a 16-bit type.
"""

import numpy as np
from numba import njit, uint64

from .exp import power, upper_half
from .intrinsics import address_of, fma, is_narrow, larger, load, plus, pointer_to, store, zero

BLOCK = 1024  # powers whose upper halves are added up in the working precision, without an error
SHORT = 48  # of rows up to this long, as many as make a CHUNK are done at once
CHUNK = 2048
MANY = 32  # longer rows, at most, that are done at once
GROUP = 2048
TILE = 1024  # columns side by side
SECTION = 8 * TILE  # bytes of a number for each of them

inlined = njit(nogil=True, error_model="numpy", inline="always")
helper = njit(nogil=True, error_model="numpy")


@helper
def argument(x, top, scale, low, narrow):
    """(scale + low)·(x − top), and what rounding took from it."""
    d = x - top
    if narrow:
        return d * scale, type(x)(0)
    z = d - x
    lost = (x - (d - z)) - (top + z)
    if scale == 1 and low == 0:
        return d, lost
    t = d * scale
    return t, fma(d, scale, -t) + fma(d, low, lost * scale)


@helper
def power_of(x, top, scale, low, narrow):
    """exp((scale + low)·(x − top))·ONE."""
    t, lost = argument(x, top, scale, low, narrow)
    return power(t, lost)


@helper
def inverse(total, rest, like):
    """1/(total + rest) as the sum of two numbers of the type of `like`."""
    T = type(like)
    whole = total + rest
    high = T(1.0 / whole)
    lost = (total - whole) + rest
    return high, T((fma(np.float64(-high), whole, 1.0) - high * lost) / whole)


@inlined
def powers(x, e, at_x, at_e, start, stop, top, scale, low, narrow):
    """Those of a block of a row into e; the sums of their halves."""
    upper, lower = zero(x), zero(x)
    for i in range(start, stop):
        p = power_of(load(x, at_x + i), top, scale, low, narrow)
        store(e, at_e + i, p)
        half = upper_half(p)
        upper = plus(upper, half)
        lower = plus(lower, p - half)
    return upper, lower


def rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array.

    Some rows are at the same stage, so that none waits for its own maximum, or sum.
    """
    n, x_step, y_step = uint64(n), uint64(x_step), uint64(y_step)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])
    if n <= uint64(SHORT):
        short_rows(x, y, x_step, y_step, n, uint64(count), scale, low, nothing, room)
        return
    narrow = is_narrow(y)
    total, rest = pointer_to(room, 0.0), pointer_to(room + 8 * MANY, 0.0)
    top, high = pointer_to(room + 16 * MANY, zero(x)), pointer_to(room + 24 * MANY, zero(x))
    e = pointer_to(room + 32 * MANY if narrow else address_of(y), zero(x))
    many = max(uint64(1), min(uint64(MANY), uint64(GROUP) // n))
    for first in range(uint64(0), uint64(count), many):
        some = min(many, uint64(count) - first)
        for j in range(some):
            at_x = (first + j) * x_step
            most = load(x, at_x)
            for i in range(n):
                most = larger(most, load(x, at_x + i))
            top[j] = T(0) if most == T(-np.inf) else most
        for j in range(some):
            at_x, at_e = (first + j) * x_step, j * n if narrow else (first + j) * y_step
            if n <= uint64(BLOCK):
                total[j], rest[j] = powers(x, e, at_x, at_e, uint64(0), n, top[j], scale, low, narrow)
            else:
                total[j] = rest[j] = 0.0
                for k in range(uint64(0), n, uint64(BLOCK)):
                    stop = min(k + uint64(BLOCK), n)
                    upper, lower = powers(x, e, at_x, at_e, k, stop, top[j], scale, low, narrow)
                    total[j] += upper
                    rest[j] += lower
        for j in range(some):
            high[j], top[j] = inverse(total[j], rest[j], zero(x))
        for j in range(some):
            at_y, at_e = (first + j) * y_step, j * n if narrow else (first + j) * y_step
            if total[j] == 0:  # an empty row
                for i in range(n):
                    store(y, at_y + i, nothing)
            else:
                for i in range(n):
                    p = e[at_e + i]
                    store(y, at_y + i, fma(p, high[j], p * top[j]))


@helper
def short_rows(x, y, x_step, y_step, n, count, scale, low, nothing, room):
    """The same for short rows: the exponential is taken of the rows of a chunk as if they were one."""
    T = type(zero(x))
    narrow = is_narrow(y)
    e, tops = pointer_to(room, zero(x)), pointer_to(room + 8 * CHUNK, zero(x))
    many = uint64(CHUNK) // n
    for first in range(uint64(0), count, many):
        last = min(first + many, count)
        for r in range(first, last):
            at_x, at_e = r * x_step, (r - first) * n
            top = load(x, at_x)
            for i in range(n):
                top = larger(top, load(x, at_x + i))
            if top == T(-np.inf):
                top = T(0)
            for i in range(n):
                e[at_e + i] = load(x, at_x + i)
                tops[at_e + i] = top
        for i in range((last - first) * n):
            store(e, i, power_of(e[i], tops[i], scale, low, narrow))
        for r in range(first, last):
            at_y, at_e = r * y_step, (r - first) * n
            upper, lower = zero(x), zero(x)
            for i in range(n):
                half = upper_half(e[at_e + i])
                upper = plus(upper, half)
                lower = plus(lower, e[at_e + i] - half)
            high, rest = inverse(np.float64(upper), np.float64(lower), upper)
            if upper == 0:
                high, rest = nothing, T(0)
                for i in range(n):
                    e[at_e + i] = T(1)
            for i in range(n):
                store(y, at_y + i, fma(e[at_e + i], high, e[at_e + i] * rest))


def columns(x, y, _, __, x_step, y_step, ___, ____, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, of n elements each a step below the last."""
    n, x_step, y_step, width = uint64(n), uint64(x_step), uint64(y_step), uint64(width)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])
    narrow = is_narrow(y)
    total, rest = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    top = pointer_to(room + 2 * SECTION, zero(x))
    upper, lower = pointer_to(room + 3 * SECTION, zero(x)), pointer_to(room + 4 * SECTION, zero(x))
    e = pointer_to(room + 5 * SECTION if narrow else address_of(y), zero(x))
    e_step = width if narrow else y_step
    for c in range(width):
        top[c] = T(-np.inf)
        total[c] = rest[c] = 0.0
    for i in range(n):
        for c in range(width):
            store(top, c, larger(top[c], load(x, i * x_step + c)))
    for c in range(width):
        if top[c] == T(-np.inf):
            top[c] = T(0)
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(BLOCK), n)
        for c in range(width):
            upper[c] = lower[c] = T(0)
        for i in range(k, stop):
            for c in range(width):
                p = power_of(load(x, i * x_step + c), top[c], scale, low, narrow)
                store(e, i * e_step + c, p)
                half = upper_half(p)
                store(upper, c, upper[c] + half)
                store(lower, c, lower[c] + (p - half))
        for c in range(width):
            total[c] += upper[c]
            rest[c] += lower[c]
        k = stop
    empty = False
    for c in range(width):
        empty |= total[c] == 0
        upper[c], lower[c] = inverse(total[c], rest[c], zero(x))
    for i in range(n):
        for c in range(width):
            p = e[i * e_step + c]
            store(y, i * y_step + c, fma(p, upper[c], p * lower[c]))
    if empty:
        for i in range(n):
            for c in range(width):
                if total[c] == 0:
                    store(y, i * y_step + c, nothing)


def rows_room(n: int, narrow: bool) -> int:
    return 16 * CHUNK if n <= SHORT else 32 * MANY + (4 * max(n, GROUP) if narrow else 0)


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 5 * SECTION + (4 * n * width if narrow else 0)
