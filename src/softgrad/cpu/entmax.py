"""entmax; with α = 2 it is sparsemax: y = [(α−1)·scale·(x − max) + c]₊^(1/(α−1)), with c such that Σy = 1.

c, at most 1, is how far the largest logit lies above the threshold.  Only logits less than 1 below the
largest, in these units, can be in the support: these *candidates* are collected in y, and Newton's method
finds c from them; nothing is sorted.  c is in float64, and in two parts, since what is left of many small
differences has to add up to 1.
"""

import math

import numpy as np
from numba import int64, njit, uint64

from .drive import ALPHA
from .exp import is_double
from .intrinsics import address_of, choose, fma, is_narrow, larger, load, plus, pointer_to, store, zero
from .real_power import raised
from .vjp import two_sum

CUT = 1.5 * 2.0**26  # adding this rounds to whole multiples of 2⁻²⁶, whose sum is exact
FAINTEST = 2.0**-1000
SMALLEST = 5e-324
BLOCK = 16  # logits that are looked at together: is one a candidate?

helper = njit(nogil=True, error_model="numpy")


# --- a logit: (y, y^(2−α)), the latter being dy/dw times α − 1 ------------------------------------------
#
# The state of a row is (reference, c, its second part, least).  Up to α = 2 the reference is the largest
# logit.  Beyond, y is so steep at the threshold that no c could tell it: the reference is the smallest logit
# of the support, and `least` is its y, c^(1/(α−1)).


@helper
def height(v, state, less, scale):
    """less·scale·(v − reference) + c in two parts, for less = α − 1; −1 if far below 0."""
    reference, c, c_lost, _ = state
    d = np.float64(v) - reference
    p = d * scale
    t = p * less
    rest = 0.0
    if is_double(v):
        z = d - v
        lost = (v - (d - z)) - (reference + z)
        rest = fma(p, less, -t) + less * fma(lost, scale, fma(d, scale, -p))
    w, lost = two_sum(t, c)
    rest = rest + lost + c_lost
    whole = w + rest
    far = t < -1.0
    return choose(far, -1.0, whole), choose(far, 0.0, (w - whole) + rest)


@helper
def of_two(v, state, scale):
    w, _ = height(v, state, 1.0, scale)
    return choose(w < 0.0, 0.0, w), choose(w > 0.0, 1.0, 0.0)


@helper
def of_three_halves(v, state, scale):
    w, rest = height(v, state, 0.5, scale)
    w, rest = choose(w < 0.0, 0.0, w), choose(w < 0.0, 0.0, rest)
    return fma(w, w, w * rest * 2.0), w


@njit(nogil=True, error_model="numpy", forceinline=True)
def of_any(v, state, alpha, scale):
    reference, c, _, least = state
    w, rest = height(v, state, alpha - 1.0, scale)
    exponent = 1.0 / (alpha - 1.0)
    y = raised(w, rest, exponent, fma(exponent, 1.0 - alpha, 1.0) * exponent)
    steep = alpha > 2.0
    outside, there = (w < SMALLEST) | (steep & (v < reference)), steep & (v == reference)
    s = choose(there, least / c, y / w)
    return choose(outside, 0.0, choose(there, least, y)), choose(outside, 0.0, s)


# --- a row: its candidates are e[at], e[at + 1], … e[end − 1] -------------------------------------------


@helper
def add(upper, lower, y):
    """upper + lower += y ≤ 1 without rounding."""
    rounded = (y + CUT) - CUT
    return plus(upper, rounded), plus(lower, y - rounded)


@helper
def sums(e, at, end, state, alpha, scale):
    """Σy − 1 and Σy^(2−α)."""
    upper, lower, slope = 0.0, 0.0, 0.0
    if alpha == 2.0:
        for i in range(at, end):
            y, s = of_two(e[i], state, scale)
            upper, lower = add(upper, lower, y)
            slope = plus(slope, s)
    elif alpha == 1.5:
        for i in range(at, end):
            y, s = of_three_halves(e[i], state, scale)
            upper, lower = add(upper, lower, y)
            slope = plus(slope, s)
    else:
        for i in range(at, end):
            y, s = of_any(e[i], state, alpha, scale)
            upper, lower = add(upper, lower, y)
            slope = plus(slope, s)
    return (upper - 1.0) + lower, slope


@helper
def step(excess, slope, alpha):
    """By how much to lower c: Newton's step for (Σy)^(α−1) = 1, which is nearly linear in c.

    For α ≤ 2 that is a norm of numbers that are linear in c or cut off at 0, so it is convex, and from c = 1
    the steps go down to the solution and never beyond.
    """
    if alpha == 2.0:
        return excess / slope
    if alpha == 1.5:
        norm = math.sqrt(excess + 1.0)
        return norm * excess / ((norm + 1.0) * slope)
    return -math.expm1(-(alpha - 1.0) * math.log1p(excess)) * (excess + 1.0) / slope


@helper
def is_solved(excess, slope, v):
    """Whether one more step is enough; or the row has NaN."""
    return not (abs(excess) > (2.0**-51 if is_double(v) else 2.0**-40) and slope > 0.0)


@helper
def descend(e, at, end, top, alpha, scale):
    """The state of a row for α ≤ 2, and the last Σy − 1."""
    c, c_lost, excess = 1.0, 0.0, 0.0
    for _ in range(100):
        excess, slope = sums(e, at, end, (top, c, c_lost, 0.0), alpha, scale)
        if slope > 0.0:
            c, c_lost = two_sum(c, c_lost - step(excess, slope, alpha))
        if is_solved(excess, slope, e[at]):
            break
    return (top, c, c_lost, 0.0), excess


@helper
def next_above(e, at, end, low, lowest):
    """The smallest logit above `low`; inf if there is none."""
    found = lowest
    for i in range(at, end):
        v = -np.float64(e[i])
        found = larger(found, choose(v < -low, v, lowest))
    return -found


@helper
def anchor(e, at, end, top, alpha, scale):
    """The state of a row for α > 2, and the last Σy − 1.

    The smallest logit of the support is found by bisection: with the threshold at a logit in the support,
    what is above it sums to less than 1.  The unknown is then its y, q.  The others are
    (q^(α−1) + gap)^(1/(α−1)), norms of two numbers of which one is fixed: convex in q, with slopes from 0
    to 1, so from q = 1 Newton's steps go down to the solution.
    """
    lowest = top * 0.0 - np.inf  # no constant: see `vjp.centre`
    low, high = -np.inf, top
    least = next_above(e, at, end, low, lowest)
    while least < high:
        middle = max(low * 0.5 + high * 0.5, least)
        middle = middle if middle < high else least
        excess, _ = sums(e, at, end, (middle, 0.0, 0.0, 0.0), alpha, scale)
        if excess < 0.0:
            high = middle
        else:
            low = middle
        least = next_above(e, at, end, low, lowest)
    q, c, excess = 1.0, 1.0, 0.0
    for _ in range(100):
        excess, slope = sums(e, at, end, (least, c, 0.0, q), alpha, scale)
        if slope > 0.0:
            q = max(FAINTEST, q - excess / (slope * (c / q)))
            c = max(FAINTEST, raised(q, 0.0, alpha - 1.0, 0.0))
        if is_solved(excess, slope, e[at]):
            break
    return (least, c, 0.0, q), excess


@helper
def finish(e, at, end, state, alpha, scale):
    """Put y in the place of the candidates."""
    T = type(e[at])
    if alpha == 2.0:
        for i in range(at, end):
            e[i] = T(of_two(e[i], state, scale)[0])
    elif alpha == 1.5:
        for i in range(at, end):
            e[i] = T(of_three_halves(e[i], state, scale)[0])
    else:
        for i in range(at, end):
            e[i] = T(of_any(e[i], state, alpha, scale)[0])


@helper
def collect(x, y, at_x, at_y, n, e, at, places, low):
    """Copy what is not below `low`, nor −inf, and where it is, and set y to 0; the end of the copies."""
    T = type(zero(x))
    end = at
    for k in range(uint64(0), n, uint64(BLOCK)):
        stop = min(k + uint64(BLOCK), n)
        some = zero(x)
        for i in range(k, stop):
            some = plus(some, choose(load(x, at_x + i) < low, T(0), T(1)))
            store(y, at_y + i, T(0))
        if some != T(0):
            for i in range(k, stop):
                v = load(x, at_x + i)
                e[end], places[end - at] = v, i
                end += uint64(not v < low and v != T(-np.inf))
    if end - at < n:
        e[end] = T(0)
    return end


def rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    n, x_step, y_step = uint64(n), uint64(x_step), uint64(y_step)
    T = type(zero(x))
    scale, nothing, alpha = numbers[0] + numbers[1], T(numbers[2]), numbers[ALPHA]
    narrow = is_narrow(y)
    places = pointer_to(room, n)
    e = pointer_to(room + 8 * int64(n) if narrow else address_of(y), zero(x))
    reach = 1.0 / (alpha - 1.0) / scale * (1.0 + 2.0**-20)
    eps = 2.0**-52 if is_double(zero(x)) else 2.0**-23
    for r in range(uint64(count)):
        at_x, at_y = r * x_step, r * y_step
        at = uint64(0) if narrow else at_y
        top = load(x, at_x)
        for i in range(n):
            top = larger(top, load(x, at_x + i))
        if top == T(-np.inf):
            top = T(0)
        low = np.float64(top) - reach
        end = collect(x, y, at_x, at_y, n, e, at, places, T(low - abs(low) * eps))
        if end == at:
            for i in range(n):
                store(y, at_y + i, nothing)
            continue
        if alpha > 2.0:
            state, excess = anchor(e, at, end, np.float64(top), alpha, scale)
        else:
            state, excess = descend(e, at, end, np.float64(top), alpha, scale)
        if excess != excess:
            for i in range(n):
                store(y, at_y + i, T(np.nan))
            continue
        finish(e, at, end, state, alpha, scale)
        for i in range(int64(end - at) - 1, -1, -1):
            v = e[at + uint64(i)]
            e[at + uint64(i)] = T(0)
            store(y, at_y + uint64(places[i]), v)


def rows_room(n: int, narrow: bool) -> int:
    return 8 * n + (4 * n if narrow else 0)
