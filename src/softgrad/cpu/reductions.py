"""logsumexp and the entropy of softmax, one number for each row, and their gradients.

With t = scale·x − max, S = Σ exp(t) and A = Σ t·exp(t),

    logsumexp = max + log S            its gradient  p,            p = exp(t)/S
    entropy   = log S − A/S            its gradient  −p ∘ (t − A/S)

No logarithm of a p is taken, so a p that is 0 is no NaN.  Both terms of the entropy are positive; where one
p is nearly 1 they are as small as what the others come to, and as exact.  For the gradient the mean A/S is
found twice, as in `vjp`.

What `for_entropy` chooses is told when a kernel is compiled: None is logsumexp.
"""

import numpy as np
from numba import njit, uint64

from .exp import one_of
from .intrinsics import (
    address_of,
    after,
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
from .log_softmax import BLOCK, logs
from .softmax import (
    DOWN,
    HIGH,
    LIFT,
    MORE,
    POWERS,
    WAY,
    argument,
    at_once,
    column_sums,
    found_of,
    section,
    sums,
)
from .vjp import SECTION, two_sum

helper = njit(nogil=True, error_model="numpy")


@helper
def only_inf(x, at_x, step, n):
    """Whether there is +inf in a row, or column, and no NaN."""
    T = type(zero(x))
    spoilt = zero(x)
    for i in range(n):
        v = load(x, at_x + i * step)
        spoilt = plus(spoilt, choose(abs(v) == T(np.inf), T(0), v) * T(0))
    return spoilt == T(0)


@helper
def distance(x, e, top, scale, low, mean):
    """t − mean; 0 where exp(t) is."""
    t, lost = argument(x, top, scale, low, False)
    return choose(e == type(e)(0), type(e)(0), (t - mean) + lost)


@helper
def moment(x, e, at_x, at_e, n, top, scale, low, mean):
    """Σ exp(t)·(t − mean)·ONE of a row, whose powers are in e."""
    total = lost_total = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = zero(x)
        for i in range(k, min(k + uint64(BLOCK), n)):
            p = e[at_e + i]
            part = plus_product(part, p, distance(load(x, at_x + i), p, top, scale, low, mean))
        total, lost = two_sum(total, np.float64(part))
        lost_total += lost
    return total + lost_total


@helper
def column_moments(x, e, x_step, e_step, n, width, scale, low, mean, room):
    """`moment` of columns, divided by Σ, into `MORE`; `mean` is an array, or None for 0."""
    T = type(zero(x))
    total, rest, top = found_of(room, zero(x))
    found, lost_found = section(room, MORE, 0.0), section(room, LIFT, 0.0)
    part = section(room, WAY, zero(x))
    for c in range(width):
        found[c] = lost_found[c] = 0.0
    for k in range(uint64(0), n, uint64(DOWN)):
        for c in range(width):
            part[c] = T(0)
        for i in range(k, min(k + uint64(DOWN), n)):
            for c in range(width):
                p, m = e[i * e_step + c], T(0) if mean is None else mean[c]
                d = distance(load(x, i * x_step + c), p, top[c], scale, low, m)
                store(part, c, fma(p, d, part[c]))
        for c in range(width):
            found[c], lost = two_sum(found[c], np.float64(part[c]))
            lost_found[c] += lost
    for c in range(width):
        whole = choose(total[c] == 0, 1.0, total[c] + rest[c])  # of an empty one all sums are 0
        found[c] = (found[c] + lost_found[c]) / whole


@helper
def forward_rows(x, found, x_step, step, n, count, numbers, room, for_entropy):
    n, x_step, step, count = uint64(n), uint64(x_step), uint64(step), uint64(count)
    T = type(zero(x))
    scale, low, narrow = T(numbers[0]), T(numbers[1]), is_narrow(x)
    found = pointer_to(address_of(found), 0.0)
    total, rest, top = found_of(room, zero(x))
    result = section(room, HIGH, 0.0)
    if for_entropy is None:
        e, factor, nothing = None, numbers[0] + numbers[1], -np.inf
    else:
        e, factor, nothing = section(room, POWERS, zero(x)), 0.0, 0.0
    many = at_once(n)
    for first in range(uint64(0), count, many):
        some, at_x = min(many, count - first), after(x, first * x_step)
        sums(at_x, e, x_step, n, n, some, uint64(BLOCK), scale, low, narrow, room)
        logs(room, some, factor, nothing, zero(x))
        for j in range(some):
            number = result[j]
            if for_entropy is not None:
                whole = choose(total[j] == 0, 1.0, total[j] + rest[j])  # of an empty row all sums are 0
                number -= moment(at_x, e, j * x_step, j * n, n, top[j], scale, low, T(0)) / whole
            elif not number < np.inf and only_inf(at_x, j * x_step, uint64(1), n):
                number = np.inf
            found[(first + j) * step] = number


@helper
def forward_columns(x, found, x_step, n, width, numbers, room, for_entropy):
    n, x_step, width = uint64(n), uint64(x_step), uint64(width)
    T = type(zero(x))
    scale, low, narrow = T(numbers[0]), T(numbers[1]), is_narrow(x)
    found = pointer_to(address_of(found), 0.0)
    result, mean = section(room, HIGH, 0.0), section(room, MORE, 0.0)
    if for_entropy is None:
        column_sums(x, None, x_step, x_step, n, width, scale, low, narrow, room)
        logs(room, width, numbers[0] + numbers[1], -np.inf, zero(x))
        for c in range(width):
            found[c] = result[c]
        for c in range(width):
            if not result[c] < np.inf and only_inf(x, c, x_step, n):
                found[c] = np.inf
    else:
        e = section(room, POWERS, zero(x))
        column_sums(x, e, x_step, width, n, width, scale, low, narrow, room)
        logs(room, width, 0.0, 0.0, zero(x))
        column_moments(x, e, x_step, width, n, width, scale, low, None, room)
        for c in range(width):
            found[c] = result[c] - mean[c]


@helper
def factors(dy, total, like):
    """(f, lift), such that (e·lift)·f is dy·e/total: 0 of an empty row, and normal numbers where dy·p is."""
    T = type(like)
    large, empty = abs(dy) > 1.0, total == 0.0
    lift = choose(large, 1.0, 1.0 / one_of(like))
    return T(choose(empty, 0.0, dy) / choose(empty, 1.0, total * lift)), T(lift)


@helper
def vjp_rows(dy, x, dx, dy_step, x_step, dx_step, n, count, numbers, room, for_entropy):
    n, count, dy_step = uint64(n), uint64(count), uint64(dy_step)
    x_step, dx_step = uint64(x_step), uint64(dx_step)
    T = type(zero(x))
    scale, low, narrow = T(numbers[0]), T(numbers[1]), is_narrow(dx)
    dy = pointer_to(address_of(dy), 0.0)
    total, rest, top = found_of(room, zero(x))
    e = section(room, POWERS, zero(x)) if narrow else pointer_to(address_of(dx), zero(x))
    e_step = n if narrow else dx_step
    many = at_once(n)
    for first in range(uint64(0), count, many):
        some, at_x = min(many, count - first), after(x, first * x_step)
        of_these = uint64(0) if narrow else first * dx_step
        sums(at_x, after(e, of_these), x_step, e_step, n, some, uint64(BLOCK), scale, low, narrow, room)
        for j in range(some):
            of_x, at_e, at_dx = j * x_step, of_these + j * e_step, (first + j) * dx_step
            whole, given, t = total[j] + rest[j], dy[(first + j) * dy_step], top[j]
            if for_entropy is None:
                factor, lift = factors(given, whole, t)
                for i in range(n):
                    store(dx, at_dx + i, (e[at_e + i] * lift) * factor)
            else:
                factor, lift = factors(-given, whole, t)
                whole = choose(whole == 0, 1.0, whole)  # of an empty row all sums are 0
                mean = T(moment(at_x, e, of_x, at_e, n, t, scale, low, T(0)) / whole)
                more = T(moment(at_x, e, of_x, at_e, n, t, scale, low, mean) / whole)
                for i in range(n):
                    p = e[at_e + i]
                    d = distance(load(at_x, of_x + i), p, t, scale, low, mean) - more
                    store(dx, at_dx + i, (p * d) * lift * factor + T(0))  # no −0


@helper
def vjp_columns(dy, x, dx, x_step, dx_step, n, width, numbers, room, for_entropy):
    n, width, x_step, dx_step = uint64(n), uint64(width), uint64(x_step), uint64(dx_step)
    T = type(zero(x))
    scale, low, narrow = T(numbers[0]), T(numbers[1]), is_narrow(dx)
    dy = pointer_to(address_of(dy), 0.0)
    total, rest, top = found_of(room, zero(x))
    found, mean, more = section(room, MORE, 0.0), section(room, HIGH, zero(x)), section(room, WAY, zero(x))
    factor, lift = section(room, MORE, zero(x)), section(room, LIFT, zero(x))
    e = section(room, POWERS, zero(x)) if narrow else pointer_to(address_of(dx), zero(x))
    e_step = width if narrow else dx_step
    column_sums(x, e, x_step, e_step, n, width, scale, low, narrow, room)
    if for_entropy is not None:
        column_moments(x, e, x_step, e_step, n, width, scale, low, None, room)
        for c in range(width):
            mean[c] = T(found[c])
        column_moments(x, e, x_step, e_step, n, width, scale, low, mean, room)
        for c in range(width):
            more[c] = T(found[c])
    for c in range(width):
        given = dy[c] if for_entropy is None else -dy[c]
        factor[c], lift[c] = factors(given, total[c] + rest[c], top[c])
    for i in range(n):
        for c in range(width):
            p = e[i * e_step + c]
            if for_entropy is None:
                store(dx, i * dx_step + c, (p * lift[c]) * factor[c])
            else:
                d = distance(load(x, i * x_step + c), p, top[c], scale, low, mean[c]) - more[c]
                store(dx, i * dx_step + c, (p * d) * lift[c] * factor[c] + T(0))


def logsumexp_rows(x, found, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """The logsumexp of `count` rows of n elements into `found`."""
    forward_rows(x, found, x_step, step, n, count, numbers, room, None)


def logsumexp_columns(x, found, _, __, x_step, ___, ____, _____, n, width, numbers, room):
    """The same of columns side by side; what is found of them lies side by side, too."""
    forward_columns(x, found, x_step, n, width, numbers, room, None)


def entropy_rows(x, found, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """The entropy of `count` rows of n elements into `found`."""
    forward_rows(x, found, x_step, step, n, count, numbers, room, True)


def entropy_columns(x, found, _, __, x_step, ___, ____, _____, n, width, numbers, room):
    forward_columns(x, found, x_step, n, width, numbers, room, True)


def logsumexp_vjp_rows(dy, x, dx, _, dy_step, x_step, dx_step, __, n, count, numbers, room):
    """dy·p of `count` rows; dy is one number a row."""
    vjp_rows(dy, x, dx, dy_step, x_step, dx_step, n, count, numbers, room, None)


def logsumexp_vjp_columns(dy, x, dx, _, __, x_step, dx_step, ___, n, width, numbers, room):
    vjp_columns(dy, x, dx, x_step, dx_step, n, width, numbers, room, None)


def entropy_vjp_rows(dy, x, dx, _, dy_step, x_step, dx_step, __, n, count, numbers, room):
    """dy·p∘(A/S − t) of `count` rows; dy is one number a row."""
    vjp_rows(dy, x, dx, dy_step, x_step, dx_step, n, count, numbers, room, True)


def entropy_vjp_columns(dy, x, dx, _, __, x_step, dx_step, ___, n, width, numbers, room):
    vjp_columns(dy, x, dx, x_step, dx_step, n, width, numbers, room, True)


def kept_rows_room(n: int, narrow: bool) -> int:
    """With the powers of a row in scratch memory."""
    return (POWERS + 2) * SECTION + 8 * n


def kept_columns_room(n: int, width: int, narrow: bool) -> int:
    return POWERS * SECTION + 8 * n * width


def vjp_columns_room(n: int, width: int, narrow: bool) -> int:
    return POWERS * SECTION + (4 * n * width if narrow else 0)
