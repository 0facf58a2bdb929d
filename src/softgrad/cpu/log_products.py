"""The products with the Jacobian of log_softmax, p = exp(y): the vjp dx = dy − p·Σdy; the jvp dy = dx − m,
m = ⟨p,dx⟩/⟨p,1⟩; and the derivative of the vjp by x, −Σdy·p∘(v − m) for the cotangent v of its result.

Where y is −inf there is nothing: the result is 0, and a number in dy is not added to the sum.
"""

import numpy as np
from numba import int64, njit, uint64

from .exp import is_double, one_of, parts, power
from .intrinsics import (
    address_of,
    choose,
    fma,
    is_narrow,
    larger,
    load,
    plus,
    pointer_to,
    store,
    zero,
)
from .softmax import CHUNK, SECTION, SHORT
from .vjp import centred, two_sum

BLOCK = 256  # elements of a row that are added up in the working precision; sums of blocks are in float64
DOWN = 16  # the same of a column

helper = njit(nogil=True, error_model="numpy")
inlined = njit(nogil=True, error_model="numpy", inline="always")


@helper
def counted(y, dy):
    """dy; 0 where y is −inf, but for a NaN or inf."""
    return choose(y == type(y)(-np.inf), dy * type(y)(0), dy)


@helper
def slope(y, dy, g):
    """dy − exp(y)·total = (dy − c) − c·w for g = total/ONE, with exp(y)·ONE = (1 + w)·b and c = b·g.

    Where y > −0.34, c is the total: dy − total, and w = exp(y) − 1, have the digits that a sure row needs.
    """
    w, b = parts(y, type(y)(0))
    c = b * g
    return fma(-c, w, dy - c)


@helper
def is_plain(total, lowest):
    """Whether `slope` will do: y has powers, total/ONE is a normal number, nothing overflows."""
    T = type(total)
    least, most = (T(2.0**-500), T(2.0**1021)) if is_double(total) else (T(2.0**-60), T(2.0**125))
    size = abs(total)
    return lowest <= T(1050 if is_double(total) else 130) and (size == 0 or (size >= least and size < most))


@helper
def careful(y, dy, dx, at_y, at_dy, at_dx, n, scale):
    """A row in which y may be −inf, and dy of any size."""
    T = type(zero(y))
    h = T(1)
    total = T(counted_sum(y, dy, at_y, at_dy, n, h))
    if not abs(total) < T(2.0**1021 if is_double(total) else 2.0**125):
        h = T(2.0**-64)
        total = T(counted_sum(y, dy, at_y, at_dy, n, h))
        total += total - total  # an inf makes the row NaN
    for i in range(n):
        v = careful_slope(load(y, at_y + i), load(dy, at_dy + i) * h, total)
        store(dx, at_dx + i, v * scale * (T(1) / h))


@helper
def times_power(y, total):
    """(w, c), such that (1 + w)·c is exp(y)·total for any y.

    That may be a normal number where exp(y), or total/ONE, is none.
    """
    T = type(y)
    one = T(one_of(y))
    none, large = y < T(-1050 if is_double(y) else -130), abs(total) > T(1)
    w, b = parts(choose(none, T(0), y), T(0))
    b = choose(none, T(0), b)
    return w, (b * choose(large, T(1), T(1) / one)) * choose(large, total * (T(1) / one), total)


@helper
def careful_slope(y, dy, total):
    """`slope` for any y."""
    w, c = times_power(y, total)
    return fma(-c, w, counted(y, dy) - c)


@inlined
def counted_sum(y, dy, at_y, at_dy, n, h):
    """Σ h·dy of a row."""
    total = lost_total = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(BLOCK), n)
        part = zero(y)
        for i in range(k, stop):
            part = plus(part, counted(load(y, at_y + i), load(dy, at_dy + i)) * h)
        total, lost = two_sum(total, np.float64(part))
        lost_total += lost
        k = stop
    return total + lost_total


def rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows of n elements, a step apart in each array; short ones are done as if they were one."""
    n, count = uint64(n), uint64(count)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    unit = scale == 1
    unit_power = T(1.0 / one_of(scale))
    flat = n <= uint64(SHORT) and y_step == n and dy_step == n and dx_step == n
    many = max(uint64(1), uint64(CHUNK) // n)
    totals, g_of = pointer_to(room, zero(y)), pointer_to(room + int64(8 * many), zero(y))
    for first in range(uint64(0), count, many):
        last = min(first + many, count)
        lowest = zero(y)
        pieces = uint64(1) if y_step == n else last - first
        for r in range(first, first + pieces):
            at_y = r * y_step
            for i in range((last - first) // pieces * n):
                lowest = larger(lowest, -load(y, at_y + i))
        plain = True
        for r in range(first, last):
            at_dy, total, lost_total = r * dy_step, 0.0, 0.0
            for k in range(uint64(0), n, uint64(BLOCK)):
                part = zero(y)
                for i in range(k, min(k + uint64(BLOCK), n)):
                    part = plus(part, load(dy, at_dy + i))
                total, lost = two_sum(total, np.float64(part))
                lost_total += lost
            totals[r - first] = T(total + lost_total)
            plain &= is_plain(totals[r - first], lowest)
        if plain and flat:
            for r in range(first, last):
                for i in range(n):
                    g_of[(r - first) * n + i] = totals[r - first] * unit_power
            at = first * n
            for i in range((last - first) * n):
                v = slope(load(y, at + i), load(dy, at + i), load(g_of, i))
                store(dx, at + i, v if unit else v * scale)
            continue
        for r in range(first, last):  # each by itself, so that its bits do not depend on the others
            at_y, at_dy, at_dx, g = r * y_step, r * dy_step, r * dx_step, totals[r - first] * unit_power
            if not plain:
                lowest = zero(y)
                for i in range(n):
                    lowest = larger(lowest, -load(y, at_y + i))
                if not is_plain(totals[r - first], lowest):
                    careful(y, dy, dx, at_y, at_dy, at_dx, n, scale)
                    continue
            for i in range(n):
                v = slope(load(y, at_y + i), load(dy, at_dy + i), g)
                store(dx, at_dx + i, v if unit else v * scale)


def columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, of n elements each a step below the last."""
    n, width, four = uint64(n), uint64(width), uint64(4)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    unit_power = T(1.0 / one_of(scale))
    total, lost_total = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    part = pointer_to(room + 2 * SECTION, zero(y))
    lowest = zero(y)
    for c in range(width):
        total[c] = lost_total[c] = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(DOWN), n)
        for c in range(width):
            part[c] = T(0)
        for i in range(k, stop - (stop - k) % four, four):
            y0, dy0 = i * y_step, i * dy_step
            y1, dy1 = y0 + y_step, dy0 + dy_step
            y2, dy2 = y1 + y_step, dy1 + dy_step
            y3, dy3 = y2 + y_step, dy2 + dy_step
            for c in range(width):
                d01 = load(dy, dy0 + c) + load(dy, dy1 + c)
                d23 = load(dy, dy2 + c) + load(dy, dy3 + c)
                store(part, c, part[c] + (d01 + d23))
                y01 = larger(-load(y, y0 + c), -load(y, y1 + c))
                y23 = larger(-load(y, y2 + c), -load(y, y3 + c))
                lowest = larger(lowest, larger(y01, y23))
        for i in range(stop - (stop - k) % four, stop):
            for c in range(width):
                store(part, c, part[c] + load(dy, i * dy_step + c))
                lowest = larger(lowest, -load(y, i * y_step + c))
        for c in range(width):
            total[c], lost = two_sum(total[c], np.float64(part[c]))
            lost_total[c] += lost
        k = stop
    plain = True
    for c in range(width):
        part[c] = T(total[c] + lost_total[c])
        plain &= is_plain(part[c], lowest)
    if plain:
        for c in range(width):
            part[c] *= unit_power
        for i in range(n):
            for c in range(width):
                v = slope(load(y, i * y_step + c), load(dy, i * dy_step + c), part[c])
                store(dx, i * dx_step + c, v * scale)
    else:
        careful_columns(y, dy, dx, y_step, dy_step, dx_step, n, width, scale, room)


@helper
def careful_columns(y, dy, dx, y_step, dy_step, dx_step, n, width, scale, room):
    """`careful` for the columns of a tile; plain ones get the bits that they would have alone."""
    T = type(zero(y))
    g, lowest = pointer_to(room + 4 * SECTION, zero(y)), pointer_to(room + 5 * SECTION, zero(y))
    unit_power = T(1.0 / one_of(scale))
    total, lost_total = pointer_to(room, 0.0), pointer_to(room + SECTION, 0.0)
    part, h = pointer_to(room + 2 * SECTION, zero(y)), pointer_to(room + 3 * SECTION, zero(y))
    for c in range(width):
        h[c], g[c], lowest[c] = T(1), part[c], T(0)
    for i in range(n):
        for c in range(width):
            store(lowest, c, larger(lowest[c], -load(y, i * y_step + c)))
    for c in range(width):
        lowest[c] = T(1) if is_plain(g[c], lowest[c]) else T(0)
        g[c] *= unit_power
    again = True
    while again:
        for c in range(width):
            total[c] = lost_total[c] = 0.0
        k = uint64(0)
        while k < n:
            stop = min(k + uint64(DOWN), n)
            for c in range(width):
                part[c] = T(0)
            for i in range(k, stop):
                for c in range(width):
                    d = counted(load(y, i * y_step + c), load(dy, i * dy_step + c))
                    store(part, c, part[c] + d * h[c])
            for c in range(width):
                total[c], lost = two_sum(total[c], np.float64(part[c]))
                lost_total[c] += lost
            k = stop
        again = False
        for c in range(width):
            part[c] = T(total[c] + lost_total[c])
            part[c] += part[c] - part[c]
            large = not abs(part[c]) < T(2.0**1021 if is_double(part[c]) else 2.0**125)
            again |= large and h[c] == T(1)
            h[c] = T(2.0**-64) if large else h[c]
    for i in range(n):
        for c in range(width):
            w, d = load(y, i * y_step + c), load(dy, i * dy_step + c)
            v = careful_slope(w, d * h[c], part[c]) * scale * (T(1) / h[c])
            store(dx, i * dx_step + c, choose(lowest[c] == T(1), slope(w, d, g[c]) * scale, v))


@inlined
def weights(y, p, at_y, at_p, n):
    """p = exp(y), and Σp.  It is kept by other means than `store`, since what is kept is loaded again."""
    T = type(zero(y))
    one = T(one_of(zero(y)))
    total = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(BLOCK), n)
        part = zero(y)
        for i in range(k, stop):
            w = power(load(y, at_y + i), T(0)) * (T(1) / one)
            p[at_p + i] = w
            part = plus(part, w)
        total += part
        k = stop
    return total


def jvp_rows(y, dx, dy, _, y_step, dx_step, dy_step, __, n, count, numbers, room):
    """`count` rows; the powers of a row are kept where the result goes, if that is of their type."""
    n, y_step, dx_step, dy_step = uint64(n), uint64(y_step), uint64(dx_step), uint64(dy_step)
    T = type(zero(y))
    scale = T(numbers[0])
    narrow = is_narrow(y)
    p = pointer_to(room if narrow else address_of(dy), zero(y))
    for row in range(uint64(count)):
        at_y, at_dx, at_dy = row * y_step, row * dx_step, row * dy_step
        at_p = uint64(0) if narrow else at_dy
        b = weights(y, p, at_y, at_p, n)
        h, ref, q, r = centred(p, dx, at_p, at_dx, uint64(1), uint64(1), n, b)
        nothing = r * T(0)  # NaN in a row with NaN
        for i in range(n):
            v = (((load(dx, at_dx + i) * h - ref) - q) - r) * (T(1) / h) * scale
            store(dy, at_dy + i, choose(load(y, at_y + i) == T(-np.inf), nothing, v))
        if b == 0:
            for i in range(n):
                store(dy, at_dy + i, T(0))


def double_backward_rows(y, dy, v, grad_x, y_step, dy_step, v_step, x_step, n, count, numbers, room):
    """`count` rows; the powers of a row are kept as by `jvp_rows`."""
    n, y_step, dy_step = uint64(n), uint64(y_step), uint64(dy_step)
    v_step, x_step = uint64(v_step), uint64(x_step)
    T = type(zero(y))
    scale = T(numbers[0])
    narrow = is_narrow(y)
    p = pointer_to(room if narrow else address_of(grad_x), zero(y))
    for row in range(uint64(count)):
        at_y, at_dy, at_v, at_x = row * y_step, row * dy_step, row * v_step, row * x_step
        at_p = uint64(0) if narrow else at_x
        b = weights(y, p, at_y, at_p, n)
        h, ref, q, r = centred(p, v, at_p, at_v, uint64(1), uint64(1), n, b)
        total, f = T(counted_sum(y, dy, at_y, at_dy, n, T(1))), T(1)
        if not abs(total) < T(np.inf):
            f = T(2.0**-64)
            total = T(counted_sum(y, dy, at_y, at_dy, n, f))
            total += total - total
        for i in range(n):
            u = ((load(v, at_v + i) * h - ref) - q) - r
            w, c = times_power(load(y, at_y + i), total)
            store(grad_x, at_x + i, fma(-c, w, -c) * u * (T(1) / h) * scale * scale * (T(1) / f))
        if b == 0:
            for i in range(n):
                store(grad_x, at_x + i, T(0))


def rows_room(n: int, narrow: bool) -> int:
    return 8 * max(1, CHUNK // n) + (8 * CHUNK if n <= SHORT else 0)


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 6 * SECTION


def weights_room(n: int, narrow: bool) -> int:
    return 4 * n if narrow else 0
