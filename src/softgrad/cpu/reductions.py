"""logsumexp and the entropy of softmax, one number for each row, and their gradients.

With t = scale·x − max, S = Σ exp(t) and A = Σ t·exp(t),

    logsumexp = max + log S            its gradient  p,            p = exp(t)/S
    entropy   = log S − A/S            its gradient  −p ∘ (t − A/S)

No logarithm of a p is taken, so a p that is 0 is no NaN.  Both terms of the entropy are positive; where one
p is nearly 1 they are as small as what the others come to, and as exact.
"""

import numpy as np
from numba import int64, njit, uint64

from .exp import one_of, power, upper_half
from .intrinsics import (
    address_of,
    choose,
    fma,
    is_narrow,
    load,
    plus,
    plus_product,
    pointer_to,
    store,
    zero,
)
from .log_softmax import BLOCK, largest, log_sum, short_powers, sums
from .softmax import CHUNK, SHORT, argument
from .vjp import two_sum

helper = njit(nogil=True, error_model="numpy")


@helper
def one_over(like):
    """1/ONE (see `exp.one_of`)."""
    return 1.0 / one_of(like)


def logsumexp_rows(x, found, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """The logsumexp of `count` rows of n elements into `found`."""
    n, x_step, count = uint64(n), uint64(x_step), uint64(count)
    T = type(zero(x))
    scale, low, factor = T(numbers[0]), T(numbers[1]), numbers[0] + numbers[1]
    found = pointer_to(address_of(found), 0.0)
    many = max(uint64(1), uint64(CHUNK) // n)
    section = int64(8 * many)
    total, rest = pointer_to(room, 0.0), pointer_to(room + section, 0.0)
    tops, results = pointer_to(room + 2 * section, zero(x)), pointer_to(room + 3 * section, 0.0)
    for first in range(uint64(0), count, many):
        last = min(first + many, count)
        sums(x, x_step, n, first, last, scale, low, is_narrow(x), total, rest, tops, room + 5 * section)
        for j in range(last - first):
            log = log_sum(load(total, j), load(rest, j), load(tops, j))
            result = fma(np.float64(load(tops, j)), factor, log)
            store(results, j, choose(load(total, j) == 0.0, -np.inf, result))
        for r in range(first, last):
            result = results[r - first]
            if not result < np.inf and only_inf(x, r * x_step, n):
                result = np.inf
            found[r * uint64(step)] = result


@helper
def only_inf(x, at_x, n):
    """Whether there is +inf in a row, and no NaN."""
    T = type(zero(x))
    spoilt = zero(x)
    for i in range(n):
        v = load(x, at_x + i)
        spoilt = plus(spoilt, choose(abs(v) == T(np.inf), T(0), v) * T(0))
    return spoilt == T(0)


@helper
def moments(x, e, at_x, at_e, n, top, scale, low, keep):
    """(S·ONE in two parts, A·ONE) of a row; its powers go to e if they are to be kept."""
    whole = others = lost_others = moment = lost_moment = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        upper, lower, part = zero(x), zero(x), zero(x)
        for i in range(k, min(k + uint64(BLOCK), n)):
            t, lost = argument(load(x, at_x + i), top, scale, low, is_narrow(x))
            p = power(t, lost)
            if keep:
                store(e, at_e + i, p)
            half = upper_half(p)
            upper = plus(upper, half)
            lower = plus(lower, p - half)
            part = plus_product(part, p, choose(p == type(p)(0), type(p)(0), t))
        whole += upper
        others, lost = two_sum(others, np.float64(lower))
        lost_others += lost
        moment, lost = two_sum(moment, np.float64(part))
        lost_moment += lost
    return whole, others + lost_others, moment + lost_moment


def entropy_rows(x, found, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """The entropy of `count` rows of n elements into `found`."""
    n, x_step = uint64(n), uint64(x_step)
    T = type(zero(x))
    scale, low = T(numbers[0]), T(numbers[1])
    found = pointer_to(address_of(found), 0.0)
    e = pointer_to(room, zero(x))
    for r in range(uint64(count)):
        top = largest(x, r * x_step, n)
        whole, rest, moment = moments(x, e, r * x_step, uint64(0), n, top, scale, low, False)
        result = log_sum(whole, rest, top) - moment / (whole + rest)
        found[r * uint64(step)] = 0.0 if whole == 0 else result


def logsumexp_vjp_rows(dy, x, dx, _, dy_step, x_step, dx_step, __, n, count, numbers, room):
    """dy·p of `count` rows; dy is one number a row."""
    n, x_step, dx_step = uint64(n), uint64(x_step), uint64(dx_step)
    T = type(zero(x))
    scale, low = T(numbers[0]), T(numbers[1])
    narrow = is_narrow(dx)
    dy = pointer_to(address_of(dy), 0.0)
    if n <= uint64(SHORT):
        short_vjp(dy, x, dx, dy_step, x_step, dx_step, n, uint64(count), scale, low, narrow, room)
        return
    e = pointer_to(room if narrow else address_of(dx), zero(x))
    for r in range(uint64(count)):
        at_x, at_dx = r * x_step, r * dx_step
        at_e = uint64(0) if narrow else at_dx
        top = largest(x, at_x, n)
        total, lost_total, k = 0.0, 0.0, uint64(0)
        while k < n:
            stop = min(k + uint64(BLOCK), n)
            part = zero(x)
            for i in range(k, stop):
                t, lost = argument(load(x, at_x + i), top, scale, low, narrow)
                p = power(t, lost)
                store(e, at_e + i, p)
                part = plus(part, p)
            total, lost = two_sum(total, np.float64(part))
            lost_total += lost
            k = stop
        factor, lift = factors(dy[r * uint64(dy_step)], total + lost_total, top)
        for i in range(n):
            store(dx, at_dx + i, (e[at_e + i] * lift) * factor)


@helper
def short_vjp(dy, x, dx, dy_step, x_step, dx_step, n, count, scale, low, narrow, room):
    """The same for short rows, many at once."""
    e, tops = pointer_to(room, zero(x)), pointer_to(room + 16 * CHUNK, zero(x))
    many = uint64(CHUNK) // n
    for first in range(uint64(0), count, many):
        last = min(first + many, count)
        short_powers(x, x_step, n, first, last, scale, low, narrow, tops, room)
        for r in range(first, last):
            at_e, at_dx, total = (r - first) * n, r * dx_step, zero(x)
            for i in range(n):
                total = plus(total, e[at_e + i])
            factor, lift = factors(dy[r * uint64(dy_step)], np.float64(total), total)
            for i in range(n):
                store(dx, at_dx + i, (e[at_e + i] * lift) * factor)


@helper
def factors(dy, total, like):
    """(f, lift), such that (e·lift)·f is dy·e/total: 0 of an empty row, and normal numbers where dy·p is."""
    T = type(like)
    large, empty = abs(dy) > 1.0, total == 0.0
    lift = choose(large, 1.0, one_over(like))
    return T(choose(empty, 0.0, dy) / choose(empty, 1.0, total * lift)), T(lift)


def entropy_vjp_rows(dy, x, dx, _, dy_step, x_step, dx_step, __, n, count, numbers, room):
    """dy·p∘(A/S − t) of `count` rows; dy is one number a row.  The mean A/S is found twice, as in `vjp`."""
    n, x_step, dx_step = uint64(n), uint64(x_step), uint64(dx_step)
    T = type(zero(x))
    scale, low = T(numbers[0]), T(numbers[1])
    narrow = is_narrow(dx)
    dy = pointer_to(address_of(dy), 0.0)
    e = pointer_to(room if narrow else address_of(dx), zero(x))
    for r in range(uint64(count)):
        at_x, at_dx = r * x_step, r * dx_step
        at_e = uint64(0) if narrow else at_dx
        top = largest(x, at_x, n)
        whole, rest, moment = moments(x, e, at_x, at_e, n, top, scale, low, True)
        total = whole + rest if whole != 0 else 1.0  # of an empty row all sums are 0
        mean, left = T(moment / total), 0.0
        for k in range(uint64(0), n, uint64(BLOCK)):
            part = zero(x)
            for i in range(k, min(k + uint64(BLOCK), n)):
                d = distance(load(x, at_x + i), e[at_e + i], top, scale, low, mean)
                part = plus_product(part, e[at_e + i], d)
            left += part
        more = T(left / total)
        factor, lift = factors(-dy[r * uint64(dy_step)], whole + rest, top)
        for i in range(n):
            d = distance(load(x, at_x + i), e[at_e + i], top, scale, low, mean) - more
            store(dx, at_dx + i, (e[at_e + i] * d) * lift * factor + T(0))  # no −0


@helper
def distance(x, e, top, scale, low, mean):
    """t − mean; 0 where exp(t) is."""
    t, lost = argument(x, top, scale, low, False)
    return choose(e == type(e)(0), type(e)(0), (t - mean) + lost)


def rows_room(n: int, narrow: bool) -> int:
    return 40 * max(1, CHUNK // n) + (16 * CHUNK if n <= SHORT else 0)


def powers_room(n: int, narrow: bool) -> int:
    return 24 * CHUNK if n <= SHORT else 4 * n if narrow else 0


def entropy_room(n: int, narrow: bool) -> int:
    return 8


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 0
