"""log_softmax: y = t − log Σ exp(t), t = scale·x − max.

Σ exp(t) is 1 + z, and z is what is added up: of the largest element y is −log(1 + z), which is as exact as z
where that is small.  y is found from x again once the sum is known, so that no power is kept.
"""

import numpy as np
from numba import int64, njit, uint64

from .exp import log1p, one_of, upper_half
from .intrinsics import choose, is_narrow, larger, load, plus, pointer_to, store, zero
from .softmax import CHUNK, SECTION, SHORT, argument, power_of
from .vjp import two_sum

BLOCK = 256  # powers that are added up in the working precision
DOWN = 16  # the same of a column

helper = njit(nogil=True, error_model="numpy")


@helper
def log_sum(total, rest, like):
    """log((total + rest)/ONE)."""
    one = one_of(like)
    return log1p(((total - one) + rest) * (1.0 / one))


@helper
def log_of(total, rest, nothing):
    """`log_sum` in two parts of the type of `nothing`, which is what an empty row gives."""
    T = type(nothing)
    log = log_sum(total, rest, nothing)
    high = T(log)
    return choose(total == 0.0, nothing, high), choose(total == 0.0, nothing, T(log - high))


@helper
def less(x, top, scale, low, narrow, high, rest):
    """t − (high + rest).  What x − top lost is at most half an ulp of it."""
    T = type(x)
    if scale == 1 and low == 0:
        return ((x - top) - high) - rest
    t, lost = argument(x, top, scale, low, narrow)
    return (t - high) + (choose(t == T(-np.inf), T(0), lost) - rest)


def rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    n, x_step, y_step, count = uint64(n), uint64(x_step), uint64(y_step), uint64(count)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])
    narrow = is_narrow(y)
    many = max(uint64(1), uint64(CHUNK) // n)
    section = int64(8 * many)
    total, rest = pointer_to(room, 0.0), pointer_to(room + section, 0.0)
    tops, highs = pointer_to(room + 2 * section, zero(x)), pointer_to(room + 3 * section, zero(x))
    rests = pointer_to(room + 4 * section, zero(x))
    for first in range(uint64(0), count, many):
        last = min(first + many, count)
        sums(x, x_step, n, first, last, scale, low, narrow, total, rest, tops, room + 5 * section)
        for j in range(last - first):
            high, more = log_of(load(total, j), load(rest, j), nothing)
            store(highs, j, high)
            store(rests, j, more)
        for r in range(first, last):
            at_x, at_y = r * x_step, r * y_step
            top, high, more = tops[r - first], highs[r - first], rests[r - first]
            for i in range(n):
                store(y, at_y + i, less(load(x, at_x + i), top, scale, low, narrow, high, more))


@helper
def sums(x, x_step, n, first, last, scale, low, narrow, total, rest, tops, room):
    """Σ exp(t)·ONE of some rows in two parts, and the largest x of each; 0 of an empty row."""
    if n <= uint64(SHORT):
        short_sums(x, x_step, n, first, last, scale, low, narrow, total, rest, tops, room)
        return
    for r in range(first, last):
        tops[r - first] = largest(x, r * x_step, n)
    for r in range(first, last):
        at_x, top = r * x_step, tops[r - first]
        whole = others = lost_others = 0.0
        for k in range(uint64(0), n, uint64(BLOCK)):
            upper, lower = zero(x), zero(x)
            for i in range(k, min(k + uint64(BLOCK), n)):
                p = power_of(load(x, at_x + i), top, scale, low, narrow)
                half = upper_half(p)
                upper = plus(upper, half)
                lower = plus(lower, p - half)
            whole += upper
            others, lost = two_sum(others, np.float64(lower))
            lost_others += lost
        total[r - first], rest[r - first] = whole, others + lost_others


@helper
def largest(x, at_x, n):
    """The largest x of a row; 0 of an empty one."""
    top = load(x, at_x)
    for i in range(n):
        top = larger(top, load(x, at_x + i))
    return type(top)(0) if top == type(top)(-np.inf) else top


@njit(nogil=True, error_model="numpy", inline="always")
def short_powers(x, x_step, n, first, last, scale, low, narrow, tops, room):
    """exp(t)·ONE of short rows, to `room`: the exponential is taken of all of them as if they were one."""
    e, top_of = pointer_to(room, zero(x)), pointer_to(room + 8 * CHUNK, zero(x))
    for r in range(first, last):
        at_x, at_e = r * x_step, (r - first) * n
        top = largest(x, at_x, n)
        for i in range(n):
            e[at_e + i] = load(x, at_x + i)
            top_of[at_e + i] = top
        tops[r - first] = top
    for i in range((last - first) * n):
        store(e, i, power_of(e[i], top_of[i], scale, low, narrow))


@helper
def short_sums(x, x_step, n, first, last, scale, low, narrow, total, rest, tops, room):
    short_powers(x, x_step, n, first, last, scale, low, narrow, tops, room)
    e = pointer_to(room, zero(x))
    for j in range(last - first):
        upper, lower = zero(x), zero(x)
        for i in range(j * n, j * n + n):
            half = upper_half(e[i])
            upper = plus(upper, half)
            lower = plus(lower, e[i] - half)
        total[j], rest[j] = upper, lower


def columns(x, y, _, __, x_step, y_step, ___, ____, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, of n elements each a step below the last."""
    n, x_step, y_step, width = uint64(n), uint64(x_step), uint64(y_step), uint64(width)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])
    narrow = is_narrow(y)
    total, rest = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    top = pointer_to(room + 2 * SECTION, zero(x))
    upper, lower = pointer_to(room + 3 * SECTION, zero(x)), pointer_to(room + 4 * SECTION, zero(x))
    lost_rest = pointer_to(room + 5 * SECTION, 0.0)
    for c in range(width):
        top[c] = T(-np.inf)
        total[c] = rest[c] = lost_rest[c] = 0.0
    for i in range(n):
        for c in range(width):
            store(top, c, larger(top[c], load(x, i * x_step + c)))
    for c in range(width):
        if top[c] == T(-np.inf):
            top[c] = T(0)
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(DOWN), n)
        for c in range(width):
            upper[c] = lower[c] = T(0)
        for i in range(k, stop):
            for c in range(width):
                p = power_of(load(x, i * x_step + c), top[c], scale, low, narrow)
                half = upper_half(p)
                store(upper, c, upper[c] + half)
                store(lower, c, lower[c] + (p - half))
        for c in range(width):
            total[c] += upper[c]
            rest[c], lost = two_sum(rest[c], np.float64(lower[c]))
            lost_rest[c] += lost
        k = stop
    for c in range(width):
        upper[c], lower[c] = log_of(total[c], rest[c] + lost_rest[c], nothing)
    for i in range(n):
        for c in range(width):
            v = less(load(x, i * x_step + c), top[c], scale, low, narrow, upper[c], lower[c])
            store(y, i * y_step + c, v)


def rows_room(n: int, narrow: bool) -> int:
    return 40 * max(1, CHUNK // n) + (16 * CHUNK if n <= SHORT else 0)


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 6 * SECTION
