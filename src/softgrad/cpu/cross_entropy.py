"""Cross-entropy of a row: L = Σ t'·(log Σexp(x) − x) and ∂L/∂x = Σt'·p − t', p = softmax(x).

With `top` the largest logit, and R what the powers exp(x − top) of all other elements add up to, the sum of
the powers is S = 1 + R and

    L = Σ t'_k·(top − x_k) + Σt'·log(1 + R)

in which no term is negative where no weight is: a loss of 1e-9 has all its digits.  Likewise 1 − p is R/S for
the top, which `p − 1` would lose.  So R is kept apart, and what a row tells (top, R and the sums with the
weights) goes into a table, `found`; the rest of the loss is arithmetic on one number a row.

The weights are t' = share·t + even, (1 − ε)·t + ε/n of label smoothing with ε = `smoothing`.  Where targets
are classes the kernel knows the even part alone; who calls it adds what the class itself has.
"""

import numpy as np
from numba import njit, uint64

from .drive import MORE
from .exp import power, upper_half
from .intrinsics import address_of, choose, fma, is_narrow, larger, load, plus, pointer_to, store, zero
from .log_softmax import BLOCK
from .reductions import factors, one_over
from .softmax import argument
from .vjp import two_sum

TOP, OTHERS, DISTANCE, TOTAL = range(4)  # the columns of `found`: top, R, Σ t'·(top − x), Σt
SHARE, EVEN, SMOOTHING, ROWS = range(MORE, MORE + 4)  # numbers of a call

helper = njit(nogil=True, error_model="numpy")


@helper
def highest(x, at_x, n):
    top = load(x, at_x)
    for i in range(n):
        top = larger(top, load(x, at_x + i))
    return top


@helper
def others_of(x, e, at_x, at_e, n, top, even, keep):
    """(R, Σ even·(top − x)) of a row; its powers go to e if they are to be kept."""
    T = type(top)
    half = T(0.5)  # a difference may overflow
    ones = others = lost_others = distance = lost_distance = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(BLOCK), n)
        upper, lower, far = zero(x), zero(x), zero(x)
        for i in range(k, stop):
            v = load(x, at_x + i)
            t, lost = argument(v, top, T(1), T(0), is_narrow(x))
            p = power(t, lost)
            if keep:
                store(e, at_e + i, p)
            whole = upper_half(p)
            upper = plus(upper, whole)
            lower = plus(lower, p - whole)
            if even != 0:
                far = plus(far, (top * half - v * half) * even)
        ones += upper
        others, lost = two_sum(others, np.float64(lower))
        lost_others += lost
        distance, lost = two_sum(distance, np.float64(far))
        lost_distance += 0.0 if distance == np.inf else lost
        k = stop
    unit = one_over(top)
    return (ones * unit - 1.0) + (others + lost_others) * unit, 2.0 * (distance + lost_distance)


@helper
def weighted_of(x, w, at_x, at_w, n, top, share, even):
    """(Σ t'·(top − x), Σt at the top, Σt elsewhere)."""
    T = type(top)
    half = T(0.5)
    distance = lost_distance = of_top = of_others = lost_others = 0.0
    k = uint64(0)
    while k < n:
        stop = min(k + uint64(BLOCK), n)
        far, here, there = zero(x), zero(x), zero(x)
        for i in range(k, stop):
            v, given = load(x, at_x + i), load(w, at_w + i)
            weight = fma(given, share, even)
            # 0·inf is 0: a class without a weight may be impossible
            far = plus(far, choose(weight == T(0), T(0), (top * half - v * half) * weight))
            here = plus(here, choose(v == top, given, T(0)))
            there = plus(there, choose(v == top, T(0), given))
        distance, lost = two_sum(distance, np.float64(far))
        lost_distance += 0.0 if abs(distance) == np.inf else lost
        of_top += here
        of_others, lost = two_sum(of_others, np.float64(there))
        lost_others += lost
        k = stop
    return 2.0 * (distance + lost_distance), of_top, of_others + lost_others


def rows(x, found, dx, _, x_step, step, dx_step, __, n, count, numbers, room):
    """What `count` rows tell, into `found`; the even part of the gradient of the loss, for classes."""
    n, x_step, dx_step = uint64(n), uint64(x_step), uint64(dx_step)
    T = type(zero(x))
    narrow = is_narrow(dx)
    found = pointer_to(address_of(found), 0.0)
    e = pointer_to(room if narrow else address_of(dx), zero(x))
    even = numbers[EVEN] / numbers[ROWS]
    for r in range(uint64(count)):
        at_x, at_dx, at_found = r * x_step, r * dx_step, r * uint64(step)
        at_e = uint64(0) if narrow else at_dx
        top = highest(x, at_x, n)
        others, distance = others_of(x, e, at_x, at_e, n, top, T(numbers[EVEN]), True)
        factor, lift = factors(1.0 / numbers[ROWS], (1.0 + others) / one_over(top), top)
        for i in range(n):
            store(dx, at_dx + i, fma(e[at_e + i] * lift, factor, T(-even)))
        found[at_found + TOP], found[at_found + OTHERS] = np.float64(top), others
        found[at_found + DISTANCE], found[at_found + TOTAL] = distance, 0.0


def loss_rows(x, found, _, __, x_step, step, ___, ____, n, count, numbers, room):
    """The same without the gradient."""
    n, x_step = uint64(n), uint64(x_step)
    T = type(zero(x))
    found = pointer_to(address_of(found), 0.0)
    e = pointer_to(room, zero(x))
    for r in range(uint64(count)):
        at_found = r * uint64(step)
        top = highest(x, r * x_step, n)
        others, distance = others_of(x, e, r * x_step, uint64(0), n, top, T(numbers[EVEN]), False)
        found[at_found + TOP], found[at_found + OTHERS] = np.float64(top), others
        found[at_found + DISTANCE], found[at_found + TOTAL] = distance, 0.0


def weighted_rows(x, w, found, dx, x_step, w_step, step, dx_step, n, count, numbers, room):
    """What `count` rows tell, into `found`, and the gradient of the loss, for weights."""
    n, x_step, w_step, dx_step = uint64(n), uint64(x_step), uint64(w_step), uint64(dx_step)
    T = type(zero(x))
    narrow = is_narrow(dx)
    found = pointer_to(address_of(found), 0.0)
    e = pointer_to(room if narrow else address_of(dx), zero(x))
    share, even = T(numbers[SHARE]), T(numbers[EVEN])
    once_share, once_even = T(numbers[SHARE] / numbers[ROWS]), T(numbers[EVEN] / numbers[ROWS])
    for r in range(uint64(count)):
        at_x, at_w, at_dx, at_found = r * x_step, r * w_step, r * dx_step, r * uint64(step)
        at_e = uint64(0) if narrow else at_dx
        top = highest(x, at_x, n)
        others, _ = others_of(x, e, at_x, at_e, n, top, T(0), True)
        distance, of_top, of_others = weighted_of(x, w, at_x, at_w, n, top, share, even)
        weights = (of_top + of_others) * numbers[SHARE] + numbers[SMOOTHING]
        factor, lift = factors(weights / numbers[ROWS], (1.0 + others) / one_over(top), top)
        # where the top has most of the row, Σt'·p − t' there is what the others have of the weights, less
        # what they have of Σt'·p
        elsewhere = of_others * numbers[SHARE] + (numbers[SMOOTHING] - numbers[EVEN])
        corner = T((elsewhere - weights * (others / (1.0 + others))) / numbers[ROWS])
        mark = T(1.0 / one_over(top)) if others < 0.5 else T(-1)
        for i in range(n):
            v = e[at_e + i]
            weight = fma(load(w, at_w + i), once_share, once_even)
            store(dx, at_dx + i, choose(v == mark, corner, fma(v * lift, factor, -weight)))
        found[at_found + TOP], found[at_found + OTHERS] = np.float64(top), others
        found[at_found + DISTANCE], found[at_found + TOTAL] = distance, of_top + of_others


def weighted_loss_rows(x, w, found, _, x_step, w_step, step, __, n, count, numbers, room):
    """The same without the gradient."""
    n, x_step, w_step = uint64(n), uint64(x_step), uint64(w_step)
    T = type(zero(x))
    found = pointer_to(address_of(found), 0.0)
    e = pointer_to(room, zero(x))
    share, even = T(numbers[SHARE]), T(numbers[EVEN])
    for r in range(uint64(count)):
        at_x, at_found = r * x_step, r * uint64(step)
        top = highest(x, at_x, n)
        others, _ = others_of(x, e, at_x, uint64(0), n, top, T(0), False)
        distance, of_top, of_others = weighted_of(x, w, at_x, r * w_step, n, top, share, even)
        found[at_found + TOP], found[at_found + OTHERS] = np.float64(top), others
        found[at_found + DISTANCE], found[at_found + TOTAL] = distance, of_top + of_others


def rows_room(n: int, narrow: bool) -> int:
    return 4 * n if narrow else 8
