"""log_softmax: y = t − log Σ exp(t), t = scale·x − max.

Σ exp(t) is 1 + z, and z is what is added up: of the largest element y is −log(1 + z), which is as exact as z
where that is small.  y is found from x again once the sum is known, so that no power is kept.
"""

import numpy as np
from numba import njit, uint64

from .exp import log1p, one_of
from .intrinsics import after, choose, fma, is_narrow, load, store, zero
from .softmax import HIGH, LIFT, argument, at_once, column_sums, found_of, section, sums

BLOCK = 256  # powers that are added up in the working precision

helper = njit(nogil=True, error_model="numpy")


@helper
def logs(room, some, factor, nothing, like):
    """factor·max + log Σ of some rows, or columns, into `HIGH`; what is to be found of an empty one."""
    total, rest, top = found_of(room, like)
    log, one = section(room, HIGH, 0.0), one_of(like)
    for j in range(some):
        number = log1p(((load(total, j) - one) + load(rest, j)) * (1.0 / one))
        number = fma(np.float64(load(top, j)), factor, number)
        store(log, j, choose(load(total, j) == 0.0, nothing, number))


@helper
def less(x, top, scale, low, narrow, log):
    """t − log.  What x − top lost is at most half an ulp of it."""
    T = type(x)
    if scale == 1 and low == 0:
        return (x - top) - log
    t, lost = argument(x, top, scale, low, narrow)
    far = t == T(-np.inf)  # x − top may have overflowed
    return (choose(far, x * scale - top * scale, t) - log) + choose(far, T(0), lost)


def rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    n, x_step, y_step, count = uint64(n), uint64(x_step), uint64(y_step), uint64(count)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), numbers[2]  # nothing is 0 or NaN
    narrow = is_narrow(y)
    (_, _, top), log = found_of(room, zero(x)), section(room, HIGH, 0.0)
    many = at_once(n)
    for first in range(uint64(0), count, many):
        some, at_x = min(many, count - first), after(x, first * x_step)
        sums(at_x, None, x_step, x_step, n, some, uint64(BLOCK), scale, low, narrow, room)
        logs(room, some, 0.0, nothing, zero(x))
        for j in range(some):
            of_x, of_y, most, of_row = j * x_step, (first + j) * y_step, top[j], T(log[j])
            for i in range(n):
                store(y, of_y + i, less(load(at_x, of_x + i), most, scale, low, narrow, of_row))


def columns(x, y, _, __, x_step, y_step, ___, ____, n, width, numbers, room):
    """The same for up to `vjp.TILE` columns side by side, of n elements each a step below the last."""
    n, x_step, y_step, width = uint64(n), uint64(x_step), uint64(y_step), uint64(width)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), numbers[2]
    narrow = is_narrow(y)
    (_, _, top), found = found_of(room, zero(x)), section(room, HIGH, 0.0)
    log = section(room, LIFT, zero(x))
    column_sums(x, None, x_step, x_step, n, width, scale, low, narrow, room)
    logs(room, width, 0.0, nothing, zero(x))
    for c in range(width):
        log[c] = T(found[c])
    for i in range(n):
        for c in range(width):
            store(y, i * y_step + c, less(load(x, i * x_step + c), top[c], scale, low, narrow, log[c]))
