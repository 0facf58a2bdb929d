"""softmax and log_softmax of rows of which a part, a shard, is here: what it tells, and how it is finished.

Between the two stands an exchange (softgrad/distributed.py).  What is told of a row, and of all its shards
together, are float64s in a table that no driver moves:

    forward    top = max scale·x and others = Σ exp(scale·x − top) − 1, which has the digits of a sure row
    softmax    ref, mean, Σy: ref + mean is the mean of dy by the weights y, in two numbers
    log        Σdy, and whether there is a y > −inf

ref starts as the dy of the shard's largest y.  The sums of products are taken in float64, whatever the type:
for the other types that leaves next to no error, and for float64 the mean is found twice, as in `vjp`.
"""

import numpy as np
from numba import njit, uint64

from .exp import is_double, log1p, one_of, parts
from .intrinsics import (
    address_of,
    after,
    choose,
    fma,
    is_narrow,
    larger,
    load,
    plus,
    plus_product,
    pointer_to,
    store,
    zero,
)
from .log_products import careful_slope, is_empty, sum_of
from .log_softmax import less
from .real_power import UNIT
from .reductions import moment, only_inf
from .sinks import exponential, quotient
from .softmax import BLOCK, LONG, POWERS, at_once, found_of, largest, power_of, section, sums
from .vjp import two_sum

TOP, OTHERS, MOMENT = range(3)
LOST, TIMES, LESS = range(2, 5)  # of a whole row: what others lost; y is times·softmax − less
REF, MEAN, WEIGHT = range(3)

helper = njit(nogil=True, error_model="numpy")


@helper
def reach(factor, top):
    """factor·top, and what rounding took from it, unless that is so much that no other logit is near."""
    whole = factor * top
    lost = fma(factor, top, -whole)
    return whole, choose(abs(lost) < 100.0, lost, 0.0)


@helper
def tell(x, table, x_step, step, n, count, numbers, room, for_entropy):
    """(top, others) of `count` rows of n elements; with `for_entropy` Σ t·exp(t), t = scale·x − top, too."""
    n, x_step, step, count = uint64(n), uint64(x_step), uint64(step), uint64(count)
    T, table = type(zero(x)), pointer_to(address_of(table), 0.0)
    scale, low, factor = T(numbers[0]), T(numbers[1]), numbers[0] + numbers[1]
    (total, rest, top), one = found_of(room, zero(x)), one_of(zero(x))
    e = None if for_entropy is None else section(room, POWERS, zero(x))
    many, block, narrow = at_once(n), uint64(BLOCK if n <= uint64(LONG) else BLOCK // 4), is_narrow(x)
    for first in range(uint64(0), count, many):
        some, at_x = min(many, count - first), after(x, first * x_step)
        sums(at_x, e, x_step, n, n, some, block, scale, low, narrow, room)
        for j in range(some):
            at, empty = (first + j) * step, load(total, j) == 0.0
            others = ((load(total, j) - one) + load(rest, j)) * (1.0 / one)
            moved = 0.0
            if for_entropy is not None:
                moved = moment(at_x, e, j * x_step, j * n, n, top[j], scale, low, T(0)) * (1.0 / one)
            whole, lost = reach(factor, np.float64(load(top, j)))
            if lost != 0:  # the powers were taken of scale·x less the exact product
                w, b = parts(lost, 0.0)
                b *= UNIT
                moved = (moved + lost * (1.0 + others)) * (b + b * w)
                others = others * (b + b * w) + ((b - 1.0) + b * w)
            if others != others:  # +inf tells apart a row that has it, and no NaN
                whole = np.inf if only_inf(at_x, j * x_step, uint64(1), n) else np.nan
            table[at + TOP], table[at + OTHERS] = choose(empty, -np.inf, whole), choose(empty, -1.0, others)
            if for_entropy is not None:
                table[at + MOMENT] = choose(empty, 0.0, moved)


def stats_rows(x, table, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """(top, others) of `count` rows of n elements; (−inf, −1) of an empty one."""
    tell(x, table, x_step, step, n, count, numbers, room, None)


def entropy_rows(x, table, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """(top, others, Σ t·exp(t)) of `count` rows of n elements, with t = scale·x − top."""
    tell(x, table, x_step, step, n, count, numbers, room, True)


@helper
def distance(own, factor, top):
    """factor·own − top ≤ 0, the largest logit here less the largest of the row, in two parts."""
    whole, lost = reach(factor, own)
    t, more = two_sum(whole, -top)
    finite = abs(t) < np.inf
    return two_sum(choose(finite, t, -np.inf), choose(finite, more + lost, 0.0))


def softmax_rows(table, x, y, _, step, x_step, y_step, __, n, count, numbers, room):
    """times·exp(scale·x − top)/(1 + others) − less of `count` rows of n elements."""
    n, step, x_step, y_step = uint64(n), uint64(step), uint64(x_step), uint64(y_step)
    T, table, narrow = type(zero(x)), pointer_to(address_of(table), 0.0), is_narrow(y)
    scale, low, nothing, factor = T(numbers[0]), T(numbers[1]), T(numbers[2]), numbers[0] + numbers[1]
    one = one_of(zero(x))
    for r in range(uint64(count)):
        told, at_x, at_y = after(table, r * step), r * x_step, r * y_step
        top, less = largest(x, at_x, n), T(told[LESS])
        t, lost = distance(np.float64(top), factor, told[TOP])
        e, e_lost = exponential(t, lost)
        total, total_lost = two_sum(1.0, told[OTHERS])
        share, more = quotient(e, e_lost, total, total_lost + told[LOST])
        share, more = (
            share * told[TIMES],
            fma(share, told[TIMES], -(share * told[TIMES])) + more * told[TIMES],
        )
        large = abs(share) > 1.0
        lift = T(choose(large, 1.0, 1.0 / one))
        share, more = choose(large, share / one, share), choose(large, more / one, more)
        h = T(share)
        m = T((share - np.float64(h)) + more)
        if told[OTHERS] == -1.0:
            for i in range(n):
                store(y, at_y + i, nothing)
        else:
            for i in range(n):
                p = power_of(load(x, at_x + i), top, scale, low, narrow) * lift
                store(y, at_y + i, fma(p, h, p * m) - less)


def log_softmax_rows(table, x, y, _, step, x_step, y_step, __, n, count, numbers, room):
    """scale·x − top − log(1 + others) of `count` rows of n elements."""
    n, step, x_step, y_step = uint64(n), uint64(step), uint64(x_step), uint64(y_step)
    T, table, narrow = type(zero(x)), pointer_to(address_of(table), 0.0), is_narrow(y)
    scale, low, nothing, factor = T(numbers[0]), T(numbers[1]), T(numbers[2]), numbers[0] + numbers[1]
    for r in range(uint64(count)):
        told, at_x, at_y = after(table, r * step), r * x_step, r * y_step
        top = largest(x, at_x, n)
        t, lost = distance(np.float64(top), factor, told[TOP])
        log = T((log1p(told[OTHERS]) - lost) - t)
        if told[OTHERS] == -1.0:
            for i in range(n):
                store(y, at_y + i, nothing)
        else:
            for i in range(n):
                store(y, at_y + i, less(load(x, at_x + i), top, scale, low, narrow, log))


@helper
def weighted(y, dy, at_y, at_dy, n, h, ref, mean):
    """Σ y·((h·dy − ref) − mean) and Σ y of a row."""
    total = lost_total = weight = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = of_y = 0.0
        for i in range(k, min(k + uint64(BLOCK), n)):
            w = np.float64(load(y, at_y + i))
            part = plus_product(part, w, (np.float64(load(dy, at_dy + i)) * h - ref) - mean)
            of_y = plus(of_y, w)
        total, lost = two_sum(total, part)
        lost_total += lost
        weight += of_y
    return total + lost_total, weight


@helper
def mean_of(y, dy, at_y, at_dy, n, h, ref):
    """(ref, mean, Σy) of a row: ref + mean is the mean of h·dy, from a first ref."""
    total, weight = weighted(y, dy, at_y, at_dy, n, h, ref * h, 0.0)
    some = choose(weight == 0, 1.0, weight)
    ref, mean = two_sum(choose(weight == 0, 0.0, ref * h), total / some)
    if is_double(zero(y)):
        rest, _ = weighted(y, dy, at_y, at_dy, n, h, ref, mean)
        ref, mean = two_sum(ref, mean + rest / some)
    return ref, mean, weight


def moments_rows(y, dy, table, _, y_step, dy_step, step, __, n, count, numbers, room):
    """(ref, mean, Σy) of `count` rows of n elements; a dy that is not finite makes the mean NaN."""
    table, n = pointer_to(address_of(table), 0.0), uint64(n)
    for r in range(uint64(count)):
        at_y, at_dy = r * uint64(y_step), r * uint64(dy_step)
        top = load(y, at_y)
        lowest = top * type(top)(0) - type(top)(np.inf)  # no constant: see `vjp.centre`
        ref = lowest
        for i in range(n):
            top = larger(top, load(y, at_y + i))
        for i in range(n):
            ref = larger(ref, choose(load(y, at_y + i) == top, load(dy, at_dy + i), lowest))
        h = 1.0
        first, mean, weight = mean_of(y, dy, at_y, at_dy, n, h, np.float64(ref))
        if not abs(mean) < np.inf:  # a difference overflowed, it may be
            h = 0.25
            first, mean, weight = mean_of(y, dy, at_y, at_dy, n, h, np.float64(ref))
        told = after(table, r * uint64(step))
        told[REF], told[MEAN], told[WEIGHT] = first / h, mean / h, weight


def vjp_rows(table, y, dy, dx, step, y_step, dy_step, dx_step, n, count, numbers, room):
    """scale·y∘((dy − ref) − mean) of `count` rows of n elements; 0 of an empty row."""
    T, table, scale = type(zero(y)), pointer_to(address_of(table), 0.0), numbers[0] + numbers[1]
    for r in range(uint64(count)):
        at_y, at_dy, at_dx = r * uint64(y_step), r * uint64(dy_step), r * uint64(dx_step)
        told = after(table, r * uint64(step))
        ref, mean = told[REF], told[MEAN]
        if told[WEIGHT] == 0:
            for i in range(uint64(n)):
                store(dx, at_dx + i, T(0))
        else:
            for i in range(uint64(n)):
                w, g = np.float64(load(y, at_y + i)), np.float64(load(dy, at_dy + i))
                d = (g - ref) - mean
                if is_double(zero(y)):
                    half = (g * 0.5 - ref * 0.5) - mean * 0.5  # where d overflows
                    v = choose(abs(d) < np.inf, d * w * scale, half * scale * w * 2.0)
                    store(dx, at_dx + i, T(choose(abs(d * scale) < np.inf, d * scale * w, v)))
                else:
                    store(dx, at_dx + i, T(d * scale * w))


def log_sum_rows(y, dy, table, _, y_step, dy_step, step, __, n, count, numbers, room):
    """(Σdy, 1 if there is a y > −inf and else 0) of `count` rows of n elements."""
    table, n = pointer_to(address_of(table), 0.0), uint64(n)
    for r in range(uint64(count)):
        at_y, at_dy = r * uint64(y_step), r * uint64(dy_step)
        told = after(table, r * uint64(step))
        told[0] = sum_of(y, dy, at_y, at_dy, n, type(zero(y))(1))
        told[1] = 0.0 if is_empty(y, at_y, uint64(1), n) else 1.0


def log_vjp_rows(table, y, dy, dx, step, y_step, dy_step, dx_step, n, count, numbers, room):
    """scale·(dy − exp(y)·Σdy) of `count` rows of n elements; 0 of an empty row."""
    T, table = type(zero(y)), pointer_to(address_of(table), 0.0)
    scale = T(numbers[0])
    for r in range(uint64(count)):
        at_y, at_dy, at_dx = r * uint64(y_step), r * uint64(dy_step), r * uint64(dx_step)
        told = after(table, r * uint64(step))
        total = T(told[0])
        if told[1] == 0:
            for i in range(uint64(n)):
                store(dx, at_dx + i, T(0))
        else:
            for i in range(uint64(n)):
                w = load(y, at_y + i)
                v = careful_slope(w, load(dy, at_dy + i), total) * scale
                store(dx, at_dx + i, choose(w == T(-np.inf), v * T(0), v))
