"""log_softmax: y = t − log Σ exp(t), t = scale·x − max.

Σ exp(t) is 1 + z, and z is what is added up: of the largest element y is −log(1 + z), which is as exact as z
where that is small.  y is found from x again once the sum is known, so that no power is kept.
"""

import numpy as np
from numba import njit, uint64

from .exp import log1p, one_of
from .intrinsics import after, choose, is_narrow, load, store, zero
from .softmax import HIGH, MORE, REST, TOP, TOTAL, argument, at_once, column_sums, section, sums

BLOCK = 256  # powers that are added up in the working precision
DOWN = 16  # the same of a column

helper = njit(nogil=True, error_model="numpy")


@helper
def log_sum(total, rest, like):
    """log((total + rest)/ONE)."""
    one = one_of(like)
    return log1p(((total - one) + rest) * (1.0 / one))


@helper
def logs(room, some, nothing):
    """log Σ of some rows, or columns, in two parts; what is to be put out for an empty one."""
    T = type(nothing)
    total, rest = section(room, TOTAL, 0.0), section(room, REST, 0.0)
    high, more = section(room, HIGH, nothing), section(room, MORE, nothing)
    for j in range(some):
        log = log_sum(load(total, j), load(rest, j), nothing)
        rounded = T(log)
        store(high, j, choose(load(total, j) == 0.0, nothing, rounded))
        store(more, j, choose(load(total, j) == 0.0, nothing, T(log - rounded)))


@helper
def less(x, top, scale, low, narrow, high, more):
    """t − (high + more).  What x − top lost is at most half an ulp of it."""
    T = type(x)
    if scale == 1 and low == 0:
        return ((x - top) - high) - more
    t, lost = argument(x, top, scale, low, narrow)
    return (t - high) + (choose(t == T(-np.inf), T(0), lost) - more)


def rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    n, x_step, y_step, count = uint64(n), uint64(x_step), uint64(y_step), uint64(count)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])
    narrow = is_narrow(y)
    top = section(room, TOP, nothing)
    high, more = section(room, HIGH, nothing), section(room, MORE, nothing)
    many = at_once(n)
    for first in range(uint64(0), count, many):
        some, at_x = min(many, count - first), after(x, first * x_step)
        sums(at_x, None, x_step, x_step, n, some, uint64(BLOCK), scale, low, narrow, room)
        logs(room, some, nothing)
        for j in range(some):
            at_x, at_y = (first + j) * x_step, (first + j) * y_step
            for i in range(n):
                v = less(load(x, at_x + i), top[j], scale, low, narrow, high[j], more[j])
                store(y, at_y + i, v)


def columns(x, y, _, __, x_step, y_step, ___, ____, n, width, numbers, room):
    """The same for up to `vjp.TILE` columns side by side, of n elements each a step below the last."""
    n, x_step, y_step, width = uint64(n), uint64(x_step), uint64(y_step), uint64(width)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])
    narrow = is_narrow(y)
    top = section(room, TOP, nothing)
    high, more = section(room, HIGH, nothing), section(room, MORE, nothing)
    column_sums(x, None, x_step, x_step, n, width, uint64(DOWN), scale, low, narrow, room)
    logs(room, width, nothing)
    for i in range(n):
        for c in range(width):
            v = less(load(x, i * x_step + c), top[c], scale, low, narrow, high[c], more[c])
            store(y, i * y_step + c, v)
