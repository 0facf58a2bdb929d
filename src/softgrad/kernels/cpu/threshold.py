"""The threshold of sparsemax and entmax, and what they make of a logit once it is known.

y = [(α−1)·scale·(x − max) + c]₊^(1/(α−1)), with c such that Σy = 1.

c, at most 1, is how far the largest logit lies above the threshold.  Only logits less than 1 below the
largest, in these units, can be in the support.  They are collected first, and c is then found by Newton's
method on them alone; nothing is sorted.  It is in float64, and kept in two parts, since what is left of many
small differences has to add up to 1.
"""

import numpy as np
from numba.core import types

from .compiling import inline, per_type
from .exp import power
from .memory import load, store, zeros
from .packing import squeeze
from .places import row_first, row_max, row_sum
from .real_power import UNIT, log, raised
from .softmax import logits
from .sums import two_difference, two_product, two_sum
from .vec import (
    ALL_LANES,
    LANES,
    any_of,
    as_type_of,
    double,
    fma,
    lanes_where,
    larger,
    root,
    select,
    splat,
)

CUT = 1.5 * 2.0**26  # adding this rounds to whole multiples of 2⁻²⁶, whose sum is exact
FAINTEST = 2.0**-1000
SMALLEST = 5e-324


# --- one vector ------------------------------------------------------------------------------------------


def difference(v, reference, alpha, scale):
    """(α−1)·scale·(v − reference) in float64, and what is lost of it, if that counts."""
    raise NotImplementedError("compiled only")


@per_type(difference)
def compile_difference(v, reference, alpha, scale):
    def of_doubles(v, reference, alpha, scale):
        factor, _, power_of_two = scale
        if factor == 0.0:
            return select(v == -np.inf, v, v * 0.0), double()
        gain, gain_lost = two_product(alpha - 1.0, factor)
        # half of both have a difference for certain
        d, lost = two_difference(v * 0.5, reference * 0.5)
        d, lost = d * power_of_two, lost * power_of_two
        t, rest = two_product(d, gain)
        return t * 2.0, (rest + fma(lost, gain, d * gain_lost)) * 2.0

    def of_singles(v, reference, alpha, scale):
        factor, low_part, power_of_two = scale
        wide = as_type_of(v, double())
        if factor == 0.0:
            return select(wide == -np.inf, wide, wide * 0.0), double()
        d = wide - as_type_of(reference, double())
        return d * ((factor + low_part) * power_of_two) * (alpha - 1.0), double()

    return of_doubles if v.dtype == types.float64 else of_singles


@inline
def precise_height(v, reference, c, c_lost, alpha, scale):
    """How far v is above the threshold, which is c + c_lost below the reference; in two parts.

    Far below it is −1.
    """
    t, rest = difference(v, reference, alpha, scale)
    w, lost = two_sum(t, c)
    rest = rest + lost + c_lost
    whole = w + rest
    far = t < -1.0
    return select(far, -1.0, whole), select(far, 0.0, (w - whole) + rest)


def height(v, reference, c, c_lost, alpha, scale):
    """The same for α = 1.5 and 2, the second part None where v is less than float64: it does not count."""
    raise NotImplementedError("compiled only")


@per_type(height)
def compile_height(v, reference, c, c_lost, alpha, scale):
    def of_doubles(v, reference, c, c_lost, alpha, scale):
        return precise_height(v, reference, c, c_lost, alpha, scale)

    def of_singles(v, reference, c, c_lost, alpha, scale):
        return difference(v, reference, alpha, scale)[0] + c, None

    return of_doubles if v.dtype == types.float64 else of_singles


def squared(w, rest):
    """(w + rest)²."""
    raise NotImplementedError("compiled only")


@per_type(squared)
def compile_squared(w, rest):
    if isinstance(rest, types.NoneType):
        return lambda w, rest: w * w
    return lambda w, rest: fma(w, w, w * rest * 2.0)


def result(v, state, alpha, scale):
    """y = w₊^(1/(α−1)) for the logits v, w being their heights, and y^(2−α), which is dy/dw times α − 1.

    The `state` of a row is (reference, c, its second part, least).  Up to α = 2 the reference is the largest
    logit.  Beyond, y is so steep at the threshold that no c could tell it: the reference is the smallest
    logit of the support, and `least` is its y, c^(1/(α−1)).
    """
    raise NotImplementedError("compiled only")


@per_type(result)
def compile_result(v, state, alpha, scale):
    def of_two(v, state, alpha, scale):
        reference, c, c_lost, _ = state
        w, _ = height(v, reference, c, c_lost, alpha, scale)
        return select(w < 0.0, 0.0, w), select(w > 0.0, 1.0, double())

    def of_any(v, state, alpha, scale):
        reference, c, c_lost, least = state
        if alpha == 1.5:
            w, rest = height(v, reference, c, c_lost, alpha, scale)
            return select(w < 0.0, 0.0, squared(w, rest)), select(w < 0.0, 0.0, w)
        w, rest = precise_height(v, reference, c, c_lost, alpha, scale)
        exponent = 1.0 / (alpha - 1.0)
        y = raised(w, rest, exponent, fma(exponent, 1.0 - alpha, 1.0) * exponent)
        outside = w < SMALLEST
        y, s = select(outside, 0.0, y), select(outside, 0.0, y / w)
        if alpha > 2.0:
            below, there = v < reference, v == reference
            y = select(below, 0.0, select(there, least, y))
            s = select(below, 0.0, select(there, least / c, s))
        return y, s

    return of_two if isinstance(alpha, types.Integer) else of_any


def add(upper, lower, y, v):
    """upper + lower += y ≤ 1 for the logits v; in float64 without rounding (as `sums.add_power`)."""
    raise NotImplementedError("compiled only")


@per_type(add)
def compile_add(upper, lower, y, v):
    if v.dtype != types.float64:
        return lambda upper, lower, y, v: (upper + y, lower)

    def of_doubles(upper, lower, y, v):
        rounded = (y + CUT) - CUT
        return upper + rounded, lower + (y - rounded)

    return of_doubles


# --- a row -------------------------------------------------------------------------------------------------


@inline
def border(top, c, alpha, scale):
    """A logit that is not above those which are c below `top`; NaN if that is infinite."""
    factor, low_part, power_of_two = scale
    reach = c / (alpha - 1.0) / ((factor + low_part) * power_of_two)
    low = as_type_of(top, double()) - reach * (1.0 + 2.0**-20)
    return as_type_of(low - larger(low, low * -1.0) * 2.0**-20, top)


@inline
def candidates(tile, used):
    """How many vectors of candidates there are: of `used` numbers in `kept`, a buffer and its size; if −1, of
    the tile."""
    return tile[0] if used < 0 else -(-used // LANES)


@inline
def candidate(x, x_at, where, where_at, tile, sign, kept, used, k):
    """Vector k of them; −inf behind the last."""
    if used < 0:
        return logits(x, x_at, where, where_at, tile, k, sign)
    return load(kept[0], LANES * k, used - LANES * k, -np.inf)


@inline
def collect(x, x_at, where, where_at, tile, sign, kept, used, low):
    """Keep those candidates that are not below `low`: alone along a row, the whole vectors across rows.

    Returns how many numbers `kept` then holds, or −1 if they are more than it has room for.
    """
    end = 0
    for k in range(candidates(tile, used)):
        v = candidate(x, x_at, where, where_at, tile, sign, kept, used, k)
        outside = lanes_where((v < low) | (v == -np.inf))
        if outside != ALL_LANES:
            if end + LANES > kept[1]:
                return -1
            store(kept[0], end, v, LANES)
            end = squeeze(kept[0], end, outside) if tile[2] is None else end + LANES
    return end


@inline
def sums(x, x_at, where, where_at, tile, sign, kept, used, state, alpha, scale):
    """Σy − 1 and Σy^(2−α) of each row."""
    upper, lower, slope = double(), double(), double()
    for k in range(candidates(tile, used)):
        v = candidate(x, x_at, where, where_at, tile, sign, kept, used, k)
        y, s = result(v, state, alpha, scale)
        upper, lower = add(upper, lower, y, v)
        slope = slope + s
    return (row_sum(upper, tile) - 1.0) + row_sum(lower, tile), row_sum(slope, tile)


def tolerance(array):
    """How far from 1 a sum may be before the last step of Newton's method."""
    raise NotImplementedError("compiled only")


@per_type(tolerance)
def compile_tolerance(array):
    answer = 2.0**-51 if array.dtype == types.float64 else 2.0**-40
    return lambda array: answer


def step(alpha, excess, slope, tile):
    """By how much to lower c: Newton's step for (Σy)^(α−1) = 1, which is nearly linear in c.

    For α ≤ 2 that is a norm of numbers that are linear in c or cut off at 0, so it is convex, and from
    c = 1 the steps go down to the solution and never beyond.
    """
    raise NotImplementedError("compiled only")


@per_type(step)
def compile_step(alpha, excess, slope, tile):
    if isinstance(alpha, types.Integer):
        return lambda alpha, excess, slope, tile: excess / slope

    def of_any(alpha, excess, slope, tile):
        if alpha == 1.5:
            norm = root(excess + 1.0)
            return norm * excess / ((norm + 1.0) * slope)
        lead, rest = two_sum(splat(excess, double()), splat(1.0, double()))
        lead, _ = log(lead, rest)
        t = lead * (alpha - 1.0)
        share = select(t < 2.0**-20, t, 1.0 - power(t * -1.0, double()) * UNIT)
        return row_first(share, tile) * (excess + 1.0) / slope

    return of_any


@inline
def unsolved(excess, slope, x):
    """The rows whose sum is not yet 1; not those with NaN or with nothing in them."""
    most = tolerance(x)
    return ((excess > most) | (excess < -most)) & (slope > 0.0)


@inline
def descend(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale):
    """The `state` of the rows for α ≤ 2, and the last Σy − 1."""
    one = row_first(splat(1.0, double()), tile)
    nil = one * 0.0
    c, c_lost, excess = one, nil, nil
    open = one > 0.0
    for _ in range(100):
        state = top, c, c_lost, nil
        excess, slope = sums(x, x_at, where, where_at, tile, sign, kept, used, state, alpha, scale)
        move = step(alpha, excess, slope, tile)
        c, c_lost = two_sum(c, c_lost - select(open & (slope > 0.0), move, nil))
        open = open & unsolved(excess, slope, x)
        if not any_of(open):
            break
        if candidates(tile, used) > 1:  # what is below the threshold remains there
            low = border(top, c, alpha, scale)
            used = collect(x, x_at, where, where_at, tile, sign, kept, used, low)
    return (top, c, c_lost, nil), excess


@inline
def next_above(x, x_at, where, where_at, tile, sign, kept, used, low):
    """The smallest logit above `low`; inf if there is none."""
    found = splat(-np.inf, zeros(x))
    for k in range(candidates(tile, used)):
        v = candidate(x, x_at, where, where_at, tile, sign, kept, used, k)
        found = larger(select(v > low, v * -1.0, -np.inf), found)
    return as_type_of(row_max(found, tile) * -1.0, zeros(x))


@inline
def anchor(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale):
    """The `state` of the rows for α > 2, and the last Σy − 1.

    The smallest logit of the support is found by bisection: with the threshold at a logit in the support,
    what is above it sums to less than 1.  The unknown is then its y, q.  The others are
    (q^(α−1) + gap)^(1/(α−1)), norms of two numbers of which one is fixed: convex in q, with slopes from 0
    to 1, so from q = 1 Newton's steps go down to the solution.
    """
    arrays = x, x_at, where, where_at, tile, sign, kept, used
    one = row_first(splat(1.0, double()), tile)
    nil = one * 0.0

    low, high = row_first(splat(-np.inf, zeros(x)), tile), top
    least = next_above(*arrays, low)
    while any_of(least < high):
        middle = larger(as_type_of(low * 0.5 + high * 0.5, top), least)
        middle = select(middle < high, middle, least)
        excess, _ = sums(*arrays, (middle, nil, nil, nil), alpha, scale)
        between, light = least < high, excess < 0.0
        low, high = select(between, select(light, low, middle), low), select(between & light, middle, high)
        least = next_above(*arrays, low)

    q, c, excess = one, one, nil
    open = one > 0.0
    for _ in range(100):
        excess, slope = sums(*arrays, (least, c, nil, q), alpha, scale)
        q = q - select(open & (slope > 0.0), excess / (slope * (c / q)), nil)
        q = row_first(larger(splat(FAINTEST, double()), splat(q, double())), tile)
        raised_q = raised(splat(q, double()), double(), alpha - 1.0, 0.0)
        c = row_first(larger(splat(FAINTEST, double()), raised_q), tile)
        open = open & unsolved(excess, slope, x)
        if not any_of(open):
            break
    return (least, c, nil, q), excess


def solve(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale):
    """The `state` of the rows, and the last Σy − 1: −1 where a row is empty, NaN where it has NaN."""
    raise NotImplementedError("compiled only")


@per_type(solve)
def compile_solve(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale):
    def of_two(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale):
        return descend(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale)

    def of_any(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale):
        if alpha > 2.0:
            return anchor(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale)
        return descend(x, x_at, where, where_at, tile, sign, kept, used, top, alpha, scale)

    return of_two if isinstance(alpha, types.Integer) else of_any
