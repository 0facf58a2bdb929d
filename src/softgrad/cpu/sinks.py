"""softmax and its product with numbers of each row beside the arrays: a sink, a scale, a mean.

A *sink* is one more logit of a row, s, which the scale does not multiply and which is not put out:

    y = exp(t)/Z,  y_sink = exp(s − top)/Z,  Z = Σ exp(t) + exp(s − top),  t = scale·x − top
    m = (⟨y,dy⟩ + y_sink·dy_sink)/(⟨y,1⟩ + y_sink),  dx = scale·y∘(dy − m),  dsink = y_sink·(dy_sink − m)

so the product is that of a row which has one more element.  A row without a sink has s = −inf, y_sink = 0.
"""

import numpy as np
from numba import int64, njit, uint64

from . import softmax, vjp
from .double_backward import weight_of
from .exp import one_of, parts
from .intrinsics import (
    address_of,
    after,
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
from .real_power import UNIT
from .softmax import (
    BLOCK,
    CHUNK,
    HIGH,
    LIFT,
    LONG,
    MORE,
    POWERS,
    are_flat,
    at_once,
    divide,
    found_of,
    inverses,
    section,
    sums,
)
from .vjp import SECTION, centred, two_sum

SINK, SCALE, Y_SINK = range(3)  # what a row has in the table of softmax; vjp.py has that of the product

helper = njit(nogil=True, error_model="numpy")
forced = njit(nogil=True, error_model="numpy", forceinline=True)  # else no loop is cut into lanes
product = helper(vjp.rows)


@forced
def exponential(t, lost):
    """exp(t + lost) as the sum of two float64s, for t ≤ 0."""
    near = t > -1000.0  # what underflows is slow, even where it is not chosen
    w, b = parts(choose(near, t, 0.0), choose(near, lost, 0.0))
    b = choose(t < -746.0, 0.0, b * UNIT)
    return b, b * w


@forced
def quotient(a, a_lost, b, b_lost):
    """(a + a_lost)/(b + b_lost) in two parts, of which the second may be large."""
    q = a / b
    return q, ((fma(-q, b, a) + a_lost) - q * b_lost) / b


@forced
def shares(total, rest, top, sink, scale, nothing):
    """(1/Z in two parts, y_sink) of a row whose powers, exp(scale·(x − top)), sum to total + rest."""
    reach = scale * top
    t, lost = two_sum(sink, -reach)
    lost = choose(abs(t) < np.inf, lost - fma(scale, top, -reach), 0.0)
    t, lost = two_sum(t, lost)  # where logits are large, what scale·top lost is no small part of t
    empty, above = total == 0.0, t > 0.0
    lost = choose(abs(t) < np.inf, choose(above, -lost, lost), 0.0)
    g, g_lost = exponential(choose(empty, -np.inf, -abs(t)), lost)  # of the lesser beside the larger
    e, e_lost = choose(above, g, 1.0), choose(above, g_lost, 0.0)
    s, s_lost = choose(above, 1.0, g), choose(above, 0.0, g_lost)
    z, z_lost = two_sum(total * e, s)
    z_lost += fma(total, e, -(total * e)) + (total * e_lost + rest * (e + e_lost)) + s_lost
    z, z_lost = two_sum(z, z_lost)
    high, more = quotient(e, e_lost, z, z_lost)
    share, less = quotient(s, s_lost, z, z_lost)
    absent = sink == -np.inf
    spoilt = choose(absent, 0.0, sink * 0.0 + 0.0)  # NaN if the sink is +inf or NaN
    nothing = choose(absent, nothing, 0.0)
    return (
        choose(empty, nothing, high) + spoilt,
        choose(empty, 0.0, more),
        choose(empty, choose(absent, nothing, 1.0), share + less) + spoilt,
    )


@helper
def expand(whole, scale, low, n, some):
    """The scales of some rows as `sums` takes them."""
    T, times = type(zero(scale)), n if are_flat(n) else uint64(1)
    for j in range(some):
        s = T(whole[j])
        for i in range(j * times, (j + uint64(1)) * times):
            scale[i], low[i] = s, T(whole[j] - np.float64(s))


def scaled_rows(scales, x, y, _, step, x_step, y_step, __, n, count, numbers, room):
    """softmax of `count` rows of n elements, each with its scale."""
    n, step, x_step, y_step = uint64(n), uint64(step), uint64(x_step), uint64(y_step)
    scales, nothing, narrow = pointer_to(address_of(scales), 0.0), type(zero(x))(numbers[2]), is_narrow(y)
    scale, low = section(room, 0, nothing), section(room, 2, nothing)
    room += int64(4 * SECTION)
    high, more, whole = section(room, HIGH, nothing), section(room, MORE, nothing), section(room, LIFT, 0.0)
    e = section(room, POWERS, nothing) if narrow else pointer_to(address_of(y), nothing)
    e_step = n if narrow else y_step
    many, block = at_once(n), uint64(BLOCK if n <= uint64(LONG) else BLOCK // 4)
    for first in range(uint64(0), uint64(count), many):
        some, of_these = min(many, uint64(count) - first), uint64(0) if narrow else first * y_step
        for j in range(some):
            whole[j] = scales[(first + j) * step]
        expand(whole, scale, low, n, some)
        at_x, at_e = after(x, first * x_step), after(e, of_these)
        sums(at_x, at_e, x_step, e_step, n, some, block, scale, low, narrow, room)
        inverses(room, some, nothing)
        divide(e, y, of_these, first * y_step, e_step, y_step, n, some, high, more)


def softmax_rows(table, x, y, _, step, x_step, y_step, __, n, count, numbers, room):
    """`count` rows of n elements; `table` has the sink and the scale of each, and gets y_sink."""
    n, step, x_step, y_step = uint64(n), uint64(step), uint64(x_step), uint64(y_step)
    T, table = type(zero(x)), pointer_to(address_of(table), 0.0)
    nothing, narrow, unit = numbers[2], is_narrow(y), T(1.0 / one_of(zero(x)))
    scale, low = section(room, 0, zero(x)), section(room, 2, zero(x))
    room += int64(4 * SECTION)
    (total, rest, top), more = found_of(room, zero(x)), section(room, MORE, zero(x))
    high = section(room, HIGH, zero(x))
    e = section(room, POWERS, zero(x)) if narrow else pointer_to(address_of(y), zero(x))
    e_step = n if narrow else y_step
    whole = section(room, LIFT, 0.0)
    many, block = at_once(n), uint64(BLOCK if n <= uint64(LONG) else BLOCK // 4)
    for first in range(uint64(0), uint64(count), many):
        some, of_these = min(many, uint64(count) - first), uint64(0) if narrow else first * y_step
        for j in range(some):
            whole[j] = table[(first + j) * step + SCALE]
        expand(whole, scale, low, n, some)
        at_x, at_e = after(x, first * x_step), after(e, of_these)
        sums(at_x, at_e, x_step, e_step, n, some, block, scale, low, narrow, room)
        for j in range(some):
            at, most = (first + j) * step, np.float64(load(top, j))
            t, lost, sink = load(total, j) * unit, load(rest, j) * unit, load(table, at + SINK)
            share, share_lost, of_sink = shares(t, lost, most, sink, load(whole, j), nothing)
            store(table, at + Y_SINK, of_sink)
            h = T(share)
            store(high, j, h)
            store(more, j, T((share - np.float64(h)) + share_lost))
        for j in range(some):
            at_e, to, h, m = of_these + j * e_step, (first + j) * y_step, high[j], more[j]
            if total[j] == 0:
                for i in range(n):
                    store(y, to + i, h)
            else:
                for i in range(n):
                    p = e[at_e + i] * unit
                    store(y, to + i, fma(p, h, p * m))


def softmax_room(n: int, narrow: bool) -> int:
    return 4 * SECTION + softmax.rows_room(n, narrow)


def vjp_rows(table, y, dy, dx, step, y_step, dy_step, dx_step, n, count, numbers, room):
    """`count` rows of n elements; `table` has dy_sink, the scale and y_sink of each, and gets dsink."""
    table = pointer_to(address_of(table), 0.0)
    vjp.write_rows(table, y, dy, dx, step, y_step, dy_step, dx_step, n, count, numbers, room)


def vjp_room(n: int, narrow: bool) -> int:
    return 32 * vjp.MANY + 24 * (n + 1) + vjp.rows_room(n, narrow)


def mean_rows(y, dy, mean, _, y_step, dy_step, step, __, n, count, numbers, room):
    """The mean ⟨y,dy⟩/⟨y,1⟩ of `count` rows of n elements; 0 of an empty row."""
    mean, n, one = pointer_to(address_of(mean), 0.0), uint64(n), uint64(1)
    for r in range(uint64(count)):
        at_y, at_dy = r * uint64(y_step), r * uint64(dy_step)
        b = weight_of(y, at_y, n)
        if b == 0:
            mean[r * uint64(step)] = 0.0
        else:
            h, ref, q, rest = centred(y, dy, at_y, at_dy, one, one, n, b)
            mean[r * uint64(step)] = (np.float64(ref) + (np.float64(q) + np.float64(rest))) / np.float64(h)


def vjp_of_mean_rows(mean, y, dy, dx, step, y_step, dy_step, dx_step, n, count, numbers, room):
    """dx = scale·y∘(dy − mean) of `count` rows of n elements."""
    T, mean = type(zero(y)), pointer_to(address_of(mean), 0.0)
    scale = T(numbers[0])
    for r in range(uint64(count)):
        at_y, at_dy, at_dx = r * uint64(y_step), r * uint64(dy_step), r * uint64(dx_step)
        whole = mean[r * uint64(step)]
        m = T(whole)
        rest = T(whole - np.float64(m))
        for i in range(uint64(n)):
            d, w = (load(dy, at_dy + i) - m) - rest, load(y, at_y + i)
            half = (load(dy, at_dy + i) * T(0.5) - m * T(0.5)) - rest * T(0.5)  # where d overflows
            v = choose(abs(d) < T(np.inf), d * w * scale, half * scale * w * T(2))
            v = choose(abs(d * scale) < T(np.inf), d * scale * w, v)
            store(dx, at_dx + i, choose(w == T(0), T(0), v))


def scale_vjp_rows(x, y, dy, found, x_step, y_step, dy_step, step, n, count, numbers, room):
    """Σ (x − top)·dx of `count` rows, the gradient of their scale, into `found`; dx is that of scale 1.

    J 1 = 0, so the largest x with a weight may be taken off first.
    """
    found, n, count, many = pointer_to(address_of(found), 0.0), uint64(n), uint64(count), at_once(n)
    T = type(zero(y))
    dx, own = pointer_to(room, zero(y)), room + 8 * int64(many * n)
    lowest = pointer_to(own, zero(y))  # no constant: see `vjp.centre`
    lowest[0] = T(-np.inf)
    for first in range(uint64(0), count, many):
        some = min(many, count - first)
        at_y, at_dy = after(y, first * uint64(y_step)), after(dy, first * uint64(dy_step))
        product(at_y, at_dy, dx, dx, y_step, dy_step, n, n, n, some, numbers, own + 64)
        for j in range(some):
            of_x, of_y, of_dx = (first + j) * uint64(x_step), j * uint64(y_step), j * n
            top, none, total = lowest[0], lowest[0], 0.0
            for i in range(n):
                top = larger(top, choose(load(at_y, of_y + i) > T(0), load(x, of_x + i), none))
            for k in range(uint64(0), n, uint64(BLOCK)):
                part = zero(y)
                for i in range(k, min(k + uint64(BLOCK), n)):
                    v, w = dx[of_dx + i], load(at_y, of_y + i)
                    part = plus(part, choose(w == T(0), v, (load(x, of_x + i) - top) * v))
                total += part
            found[(first + j) * uint64(step)] = total


def scale_vjp_room(n: int, narrow: bool) -> int:
    return 8 * max(CHUNK, n) + 64 + vjp.rows_room(n, narrow)
