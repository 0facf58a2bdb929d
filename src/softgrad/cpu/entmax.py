"""entmax; with α = 2 it is sparsemax: y = [(α−1)·scale·(x − max) + c]₊^(1/(α−1)), with c such that Σy = 1.

c, at most 1, is how far the largest logit lies above the threshold.  Only logits less than 1 below the
largest, in these units, can be in the support: these *candidates* are collected, and Newton's method
finds c from them; nothing is sorted.  c is in float64, and in two parts, since what is left of many small
differences has to add up to 1.
"""

import math

import numpy as np
from numba import int64, njit, uint32, uint64

from .drive import ALPHA
from .exp import is_double
from .intrinsics import after, choose, fma, larger, load, plus, pointer_to, store, zero
from .real_power import raised
from .vjp import SECTION, two_sum

CUT = 1.5 * 2.0**26  # adding this rounds to whole multiples of 2⁻²⁶, whose sum is exact
FAINTEST = 2.0**-1000
LARGEST, LARGEST_DOUBLE = (2.0 - 2.0**-23) * 2.0**127, (2.0 - 2.0**-52) * 2.0**1023
SMALLEST = 5e-324
LISTED = 20480  # elements of columns that are held at once, or the length of one
BLOCK = 16  # logits that are looked at together: is one a candidate?

helper = njit(nogil=True, error_model="numpy")
inlined = njit(nogil=True, error_model="numpy", inline="always")


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
def of_two(v, state, alpha, scale):
    w, _ = height(v, state, 1.0, scale)
    return choose(w < 0.0, 0.0, w), choose(w > 0.0, 1.0, 0.0)


@helper
def of_three_halves(v, state, alpha, scale):
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


# --- a row: its candidates are e[0] … e[used − 1]; `of` is one of the three ------------------------------


@helper
def add(upper, lower, y):
    """upper + lower += y ≤ 1 without rounding."""
    rounded = (y + CUT) - CUT
    return plus(upper, rounded), plus(lower, y - rounded)


@inlined
def sums(of, e, used, state, alpha, scale):
    """Σy − 1 and Σy^(2−α)."""
    upper, lower, slope = 0.0, 0.0, 0.0
    for i in range(used):
        y, s = of(e[i], state, alpha, scale)
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


@inlined
def descend(of, e, used, top, alpha, scale):
    """The state of a row for α ≤ 2, and the last Σy − 1."""
    c, c_lost, excess = 1.0, 0.0, 0.0
    for _ in range(100):
        excess, slope = sums(of, e, used, (top, c, c_lost, 0.0), alpha, scale)
        if slope > 0.0:
            c, c_lost = two_sum(c, c_lost - step(excess, slope, alpha))
        if is_solved(excess, slope, e[0]):
            break
    return (top, c, c_lost, 0.0), excess


@helper
def next_above(e, used, low, bottom):
    """The smallest logit above `low`; inf if there is none."""
    found = bottom
    for i in range(used):
        v = -np.float64(e[i])
        found = larger(found, choose(v < -low, v, bottom))
    return -found


@helper
def sums_of_any(e, used, state, alpha, scale):
    return sums(of_any, e, used, state, alpha, scale)  # once in the machine code, for both loops of `anchor`


@helper
def anchor(e, used, top, alpha, scale):
    """The state of a row for α > 2, and the last Σy − 1.

    The smallest logit of the support is found by bisection: with the threshold at a logit in the support,
    what is above it sums to less than 1.  The unknown is then its y, q.  The others are
    (q^(α−1) + gap)^(1/(α−1)), norms of two numbers of which one is fixed: convex in q, with slopes from 0
    to 1, so from q = 1 Newton's steps go down to the solution.
    """
    bottom = top * 0.0 - np.inf  # no constant: see `vjp.centre`
    low, high = -np.inf, top
    least = next_above(e, used, low, bottom)
    while least < high:
        middle = max(low * 0.5 + high * 0.5, least)
        middle = middle if middle < high else least
        excess, _ = sums_of_any(e, used, (middle, 0.0, 0.0, 0.0), alpha, scale)
        if excess < 0.0:
            high = middle
        else:
            low = middle
        least = next_above(e, used, low, bottom)
    q, c, excess = 1.0, 1.0, 0.0
    for _ in range(100):
        excess, slope = sums_of_any(e, used, (least, c, 0.0, q), alpha, scale)
        if slope > 0.0:
            q = max(FAINTEST, q - excess / (slope * (c / q)))
            c = max(FAINTEST, raised(q, 0.0, alpha - 1.0, 0.0))
        if is_solved(excess, slope, e[0]):
            break
    return (least, c, 0.0, q), excess


@inlined
def finish(of, e, used, state, excess, alpha, scale):
    """Put y in the place of the candidates, if they have no NaN; whether they have none."""
    if excess == excess:
        for i in range(used):
            e[i] = type(e[i])(of(e[i], state, alpha, scale)[0])
    return excess == excess


@helper
def solve(e, used, top, alpha, scale):
    """Put y in the place of the candidates; False if there is a NaN, or +inf."""
    if not abs(top) < np.inf:
        return False
    if alpha == 2.0:
        state, excess = descend(of_two, e, used, top, alpha, scale)
        return finish(of_two, e, used, state, excess, alpha, scale)
    if alpha == 1.5:
        state, excess = descend(of_three_halves, e, used, top, alpha, scale)
        return finish(of_three_halves, e, used, state, excess, alpha, scale)
    if alpha > 2.0:
        state, excess = anchor(e, used, top, alpha, scale)
    else:
        state, excess = descend(of_any, e, used, top, alpha, scale)
    return finish(of_any, e, used, state, excess, alpha, scale)


# --- what of an array counts: candidates, and for `sparse.py` the supports ------------------------------


@helper
def collect(x, y, at_x, at_y, n, low, lows, places):
    """Put down which elements are not below `low`, or the `lows` of each, and set y to 0, if there is one.

    How many there are is returned.
    """
    T, end = type(zero(x)), uint64(0)
    for k in range(uint64(0), n, uint64(BLOCK)):
        stop, some = min(k + uint64(BLOCK), n), T(0)
        for i in range(k, stop):
            bar = low if lows is None else lows[i]
            some = plus(some, choose(load(x, at_x + i) < bar, T(0), T(1)))
        if y is not None:
            for i in range(k, stop):
                store(y, at_y + i, zero(y))
        if some != T(0):
            for i in range(k, stop):
                bar = low if lows is None else lows[i]
                places[end] = i
                end += uint64(not load(x, at_x + i) < bar)
    return end


@helper
def put_in_order(begin, width, column, place, end):
    """Give each listed element a place beside the others of its column.

    The places of column c end at `begin[c]`.
    """
    start = int64(0)
    for c in range(width):
        start, begin[c] = start + begin[c], start
    for k in range(end):
        c = column[k]
        place[k] = begin[c]
        begin[c] += 1


@helper
def listed(x, y, x_step, y_step, n, width, most, low, lows, begin, column, row, place, kept, places):
    """List what `collect` finds in `width` columns, or in half as many until it fits, as it lies in memory.

    How many columns and elements there are is returned; the elements are `put_in_order`.
    """
    end, fits = uint64(0), False
    while not fits:
        end, fits = uint64(0), True
        for c in range(width):
            begin[c] = 0
        for i in range(n):
            used = collect(x, y, i * x_step, i * y_step, width, low, lows, places)
            if end + used > most:
                width, fits = width // uint64(2), False
                break
            for j in range(used):
                c = uint64(places[j])
                begin[c] += 1
                column[end], row[end], kept[end] = c, i, load(x, i * x_step + c)
                end += uint64(1)
    put_in_order(begin, width, column, place, end)
    return width, end


@helper
def lowest(top, reach):
    """What a candidate is not below, of the same type as the largest logit: never −inf."""
    T, low = type(top), np.float64(top) - reach
    low = T(low - abs(low) * (2.0**-52 if is_double(top) else 2.0**-23))
    least = T(-LARGEST_DOUBLE if is_double(top) else -LARGEST)
    return choose(low < least, least, low)


def rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    e, places = pointer_to(room, zero(x)), pointer_to(room + 8 * n, uint32(0))
    n, x_step, y_step = uint64(n), uint64(x_step), uint64(y_step)
    T = type(zero(x))
    scale, nothing, alpha = numbers[0] + numbers[1], T(numbers[2]), numbers[ALPHA]
    reach = 1.0 / (alpha - 1.0) / scale * (1.0 + 2.0**-20)
    for r in range(uint64(count)):
        at_x, at_y = r * x_step, r * y_step
        top = load(x, at_x)
        for i in range(n):
            top = larger(top, load(x, at_x + i))
        top = T(0) if top == T(-np.inf) else top
        used = collect(x, y, at_x, at_y, n, lowest(top, reach), None, places)
        for j in range(used):
            e[j] = load(x, at_x + uint64(places[j]))
        if used != 0 and solve(e, used, np.float64(top), alpha, scale):
            for j in range(used):
                store(y, at_y + uint64(places[j]), e[j])
        else:
            for i in range(n):
                store(y, at_y + i, nothing if used == 0 else T(np.nan))


def columns(x, y, _, __, x_step, y_step, ___, ____, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, as many at once as have room for their candidates."""
    most = max(n, int64(LISTED))
    begin, places = pointer_to(room, int64(0)), pointer_to(room + SECTION, uint32(0))
    tops, lows = pointer_to(room + 2 * SECTION, zero(x)), pointer_to(room + 3 * SECTION, zero(x))
    room += 4 * SECTION
    column, row = pointer_to(room, uint32(0)), pointer_to(room + 4 * most, uint32(0))
    place, room = pointer_to(room + 8 * most, uint32(0)), room + 12 * most
    e, kept = pointer_to(room, zero(x)), pointer_to(room + 8 * most, zero(x))
    n, most, x_step, y_step = uint64(n), uint64(most), uint64(x_step), uint64(y_step)
    T = type(zero(x))
    scale, nothing, alpha = numbers[0] + numbers[1], T(numbers[2]), numbers[ALPHA]
    reach = 1.0 / (alpha - 1.0) / scale * (1.0 + 2.0**-20)
    for c in range(uint64(width)):
        tops[c] = load(x, c)
    for i in range(n):
        for c in range(uint64(width)):
            store(tops, c, larger(tops[c], load(x, i * x_step + c)))
    for c in range(uint64(width)):
        tops[c] = choose(tops[c] == T(-np.inf), T(0), tops[c])
        lows[c] = lowest(tops[c], reach)
    first, some = uint64(0), uint64(width)
    while first < uint64(width):
        there, some = after(y, first), min(some, uint64(width) - first)
        some, end = listed(
            *(after(x, first), there, x_step, y_step, n, some, most, T(0), after(lows, first)),
            *(begin, column, row, place, kept, places),
        )
        for k in range(end):
            e[place[k]] = kept[k]
        start = int64(0)
        for c in range(some):
            used, top = uint64(begin[c] - start), np.float64(tops[first + c])
            solved = used != 0 and solve(after(e, start), used, top, alpha, scale)
            if not solved:
                for i in range(n):
                    store(there, i * y_step + c, nothing if used == 0 else T(np.nan))
                for j in range(start, begin[c]):
                    e[j] = T(np.nan)
            start = begin[c]
        for k in range(end):
            store(there, row[k] * y_step + column[k], e[place[k]])
        first += some


def rows_room(n: int, narrow: bool) -> int:
    return 12 * n + 8


def columns_room(n: int, width: int, narrow: bool) -> int:
    return 4 * SECTION + 28 * max(n, LISTED)
