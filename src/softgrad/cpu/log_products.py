"""The products with the Jacobian of log_softmax, p = exp(y): the vjp dx = dy − p·Σdy; the jvp dy = dx − m,
m = ⟨p,dx⟩/⟨p,1⟩; and the derivative of the vjp by x, −Σdy·p∘(v − m) for the cotangent v of its result.

Where y is −inf there is nothing: the result is 0, and a number in dy is not added to the sum, but NaN is.  A
row that is −inf throughout gives 0 whatever dy holds.
"""

import numpy as np
from numba import njit, uint64

from .exp import is_double, one_of, parts, power
from .intrinsics import (
    address_of,
    choose,
    fma,
    is_narrow,
    keep,
    kept,
    larger,
    load,
    plus,
    plus_product,
    pointer_to,
    store,
    zero,
)
from .log_softmax import BLOCK
from .softmax import HIGH, LIFT, MORE, REST, SHORT, TOP, TOTAL, WAY, at_once, section
from .vjp import centred, two_sum

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
def is_small(total):
    T = type(total)
    return abs(total) < T(2.0**1021 if is_double(total) else 2.0**125)


@helper
def is_plain(total, lowest):
    """Whether `slope` will do: y has powers, total/ONE is a normal number, nothing overflows."""
    T = type(total)
    normal = total == 0 or abs(total) >= T(2.0**-500 if is_double(total) else 2.0**-60)
    return lowest <= T(1050 if is_double(total) else 130) and normal and is_small(total)


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
def sum_of(y, dy, at_y, at_dy, n, h):
    """Σ h·dy of a row; of what counts, if there is a y."""
    total = lost_total = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = zero(dy)
        for i in range(k, min(k + uint64(BLOCK), n)):
            if y is None:
                part = plus(part, load(dy, at_dy + i))
            else:
                part = plus(part, counted(load(y, at_y + i), load(dy, at_dy + i)) * h)
        total, lost = two_sum(total, np.float64(part))
        lost_total += lost
    return total + lost_total


@helper
def careful_sum(y, dy, at_y, at_dy, n):
    """(Σ h·dy, h) of a row; h is a power of two, below 1 where the sum is large.  An inf makes it NaN."""
    T = type(zero(y))
    total, h = T(sum_of(y, dy, at_y, at_dy, n, T(1))), T(1)
    if not is_small(total):
        h = T(2.0**-64)
        total = T(sum_of(y, dy, at_y, at_dy, n, h))
        total += total - total
    return total, h


@helper
def lowest_of(y, at_y, n):
    """The largest −y; NaN if one is not finite."""
    lowest, spoilt = zero(y), zero(y)
    for i in range(n):
        w = load(y, at_y + i)
        lowest = larger(lowest, -w)
        spoilt = plus_product(spoilt, w, type(w)(0))
    return lowest + spoilt


@helper
def is_empty(y, at_y, step, n):
    """Whether a row, or column, is −inf throughout."""
    top, nan = load(y, at_y), zero(y)
    for i in range(n):
        w = load(y, at_y + i * step)
        top, nan = larger(top, w), plus(nan, choose(w == w, type(w)(0), type(w)(1)))
    return (top == type(top)(-np.inf)) & (nan == 0)


def rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows of n elements, a step apart in each array; short ones are done as if they were one."""
    n, count = uint64(n), uint64(count)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    unit = scale == 1
    unit_power = T(1.0 / one_of(scale))
    flat = n <= uint64(SHORT) and y_step == n and dy_step == n and dx_step == n
    many = at_once(n)
    totals, g_of = section(room, TOTAL, zero(y)), section(room, WAY, zero(y))
    for first in range(uint64(0), count, many):
        some, lowest, spoilt = min(many, count - first), zero(y), zero(y)
        for j in range(some):
            totals[j] = T(sum_of(None, dy, uint64(0), (first + j) * dy_step, n, T(1)))
        if flat:
            at = first * n
            for j in range(some):
                for i in range(n):
                    g_of[j * n + i] = totals[j] * unit_power
            for i in range(some * n):
                w = load(y, at + i)
                lowest, spoilt = larger(lowest, -w), plus_product(spoilt, w, T(0))
                v = slope(w, load(dy, at + i), load(g_of, i))
                store(dx, at + i, v if unit else v * scale)
        else:
            for j in range(some):
                at_y, at_dy, at_dx = (first + j) * y_step, (first + j) * dy_step, (first + j) * dx_step
                g = totals[j] * unit_power
                for i in range(n):
                    w = load(y, at_y + i)
                    lowest, spoilt = larger(lowest, -w), plus_product(spoilt, w, T(0))
                    v = slope(w, load(dy, at_dy + i), g)
                    store(dx, at_dx + i, v if unit else v * scale)
        plain = True
        for j in range(some):
            plain &= is_plain(totals[j], lowest + spoilt)
        if plain:
            continue
        for j in range(some):
            at_y, at_dy, at_dx = (first + j) * y_step, (first + j) * dy_step, (first + j) * dx_step
            if not is_plain(totals[j], lowest_of(y, at_y, n)):
                total, h = careful_sum(y, dy, at_y, at_dy, n)
                empty = is_empty(y, at_y, uint64(1), n)
                for i in range(n):
                    v = careful_slope(load(y, at_y + i), load(dy, at_dy + i) * h, total)
                    store(dx, at_dx + i, choose(empty, T(0), v * scale * (T(1) / h)))


def columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """The same for up to `vjp.TILE` columns side by side, of n elements each a step below the last.

    Where one of them is not plain, the others get the bits that they would have alone.
    """
    n, width = uint64(n), uint64(width)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    T = type(zero(y))
    scale = T(numbers[0])
    unit_power = T(1.0 / one_of(scale))
    total, g = section(room, HIGH, zero(y)), section(room, MORE, zero(y))
    lowest, h = section(room, TOP, zero(y)), section(room, LIFT, zero(y))
    column_sums(y, dy, y_step, dy_step, n, width, None, lowest, total, room)
    plain = True
    for c in range(width):
        lowest[c] = T(1) if is_plain(total[c], lowest[c]) else T(0)
        plain &= lowest[c] == 1
        g[c], h[c] = total[c] * unit_power, T(1)
    if plain:
        for i in range(n):
            for c in range(width):
                v = slope(load(y, i * y_step + c), load(dy, i * dy_step + c), g[c])
                store(dx, i * dx_step + c, v * scale)
        return
    for _ in range(2):
        column_sums(y, dy, y_step, dy_step, n, width, h, None, total, room)
        for c in range(width):
            h[c] = h[c] if is_small(total[c]) else T(2.0**-64)
    empty = section(room, WAY, zero(y))
    for c in range(width):
        total[c] += total[c] - total[c]  # an inf makes it NaN
        empty[c] = T(0)
        if lowest[c] != 1 and is_empty(y, c, y_step, n):
            empty[c] = T(1)
    for i in range(n):
        for c in range(width):
            w, d = load(y, i * y_step + c), load(dy, i * dy_step + c)
            v = careful_slope(w, d * h[c], total[c]) * scale * (T(1) / h[c])
            v = choose(empty[c] == 1, T(0), v)
            store(dx, i * dx_step + c, choose(lowest[c] == 1, slope(w, d, g[c]) * scale, v))


@helper
def column_sums(y, dy, y_step, dy_step, n, width, h, lowest, found, room):
    """Σ dy of columns, and the largest −y, or Σ h·dy of what counts."""
    T = type(zero(y))
    total, lost_total = section(room, TOTAL, 0.0), section(room, REST, 0.0)
    part = section(room, WAY, zero(y))
    for c in range(width):
        total[c] = lost_total[c] = 0.0
        if lowest is not None:
            lowest[c] = T(0)
    for k in range(uint64(0), n, uint64(64)):
        for c in range(width):
            part[c] = T(0)
        stop = min(k + uint64(64), n)
        for i in range(k, stop - (stop - k) % uint64(4), uint64(4)):
            at_y, at_dy = i * y_step, i * dy_step
            at_y1, at_dy1 = at_y + y_step, at_dy + dy_step
            at_y2, at_dy2 = at_y1 + y_step, at_dy1 + dy_step
            at_y3, at_dy3 = at_y2 + y_step, at_dy2 + dy_step
            for c in range(width):
                w0, w1, w2, w3 = load(y, at_y + c), load(y, at_y1 + c), load(y, at_y2 + c), load(y, at_y3 + c)
                d0, d1, d2, d3 = (
                    load(dy, at_dy + c),
                    load(dy, at_dy1 + c),
                    load(dy, at_dy2 + c),
                    load(dy, at_dy3 + c),
                )
                if lowest is not None:
                    keep(lowest, c, larger(larger(kept(lowest, c), larger(-w0, -w1)), larger(-w2, -w3)))
                if h is not None:
                    f = load(h, c)
                    d0, d1, d2, d3 = (
                        counted(w0, d0) * f,
                        counted(w1, d1) * f,
                        counted(w2, d2) * f,
                        counted(w3, d3) * f,
                    )
                keep(part, c, kept(part, c) + ((d0 + d1) + (d2 + d3)))
        for i in range(stop - (stop - k) % uint64(4), stop):
            for c in range(width):
                w, d = load(y, i * y_step + c), load(dy, i * dy_step + c)
                if lowest is not None:
                    keep(lowest, c, larger(kept(lowest, c), -w))
                if h is not None:
                    d = counted(w, d) * load(h, c)
                keep(part, c, kept(part, c) + d)
        for c in range(width):
            total[c], lost = two_sum(total[c], np.float64(part[c]))
            lost_total[c] += lost
    for c in range(width):
        found[c] = T(total[c] + lost_total[c])


@inlined
def weights(y, p, at_y, at_p, n):
    """p = exp(y), and Σp.  It is kept by other means than `store`, since what is kept is loaded again."""
    T = type(zero(y))
    one = T(one_of(zero(y)))
    total = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part, stop = zero(y), min(k + uint64(BLOCK), n)
        for i in range(k, stop):
            p[at_p + i] = power(load(y, at_y + i), T(0)) * (T(1) / one)
        # not in that loop, whose lanes depend on how far y and p are apart: the bits do not
        for i in range(k, stop):
            part = plus(part, load(p, at_p + i))
        total += part
    return total


@helper
def products(y, dy, v, found, y_step, dy_step, v_step, step, n, count, numbers, room):
    """v − ⟨p,v⟩/⟨p,1⟩ of rows; if there is a dy, −p·Σdy times that.

    The powers of a row are kept where the result goes, if that is of their type.
    """
    n, y_step, dy_step = uint64(n), uint64(y_step), uint64(dy_step)
    v_step, step = uint64(v_step), uint64(step)
    T = type(zero(y))
    scale, narrow = T(numbers[0]), is_narrow(y)
    p = pointer_to(room if narrow else address_of(found), zero(y))
    for row in range(uint64(count)):
        at_y, at_v, at = row * y_step, row * v_step, row * step
        at_p = uint64(0) if narrow else at
        b = weights(y, p, at_y, at_p, n)
        h, ref, q, r = centred(p, v, at_p, at_v, uint64(1), uint64(1), n, b)
        if dy is None:
            nothing = r * T(0)  # NaN in a row with NaN
            for i in range(n):
                u = (((load(v, at_v + i) * h - ref) - q) - r) * (T(1) / h) * scale
                store(found, at + i, choose(load(y, at_y + i) == T(-np.inf), nothing, u))
        else:
            total, f = careful_sum(y, dy, at_y, row * dy_step, n)
            for i in range(n):
                u = ((load(v, at_v + i) * h - ref) - q) - r
                w, c = times_power(load(y, at_y + i), total)
                u = fma(-c, w, -c) * u * (T(1) / h) * scale * scale * (T(1) / f)
                store(found, at + i, u)
        if b == 0:
            for i in range(n):
                store(found, at + i, T(0))


def jvp_rows(y, dx, dy, _, y_step, dx_step, dy_step, __, n, count, numbers, room):
    products(y, None, dx, dy, y_step, 0, dx_step, dy_step, n, count, numbers, room)


def double_backward_rows(y, dy, v, grad_x, y_step, dy_step, v_step, x_step, n, count, numbers, room):
    products(y, dy, v, grad_x, y_step, dy_step, v_step, x_step, n, count, numbers, room)


def weights_room(n: int, narrow: bool) -> int:
    return 4 * n if narrow else 0
