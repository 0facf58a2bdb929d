"""sparsemax and entmax: y = [(α−1)·scale·(x − max) + c]₊^(1/(α−1)), with c such that Σy = 1.

c, at most 1, is how far the largest logit lies above the threshold.  It is found by Newton's method, on the
row in registers, or, if it is too long for them, on what is read of it again; nothing is sorted.  The first
steps are in float32, where that is the type; the last in float64, with c in two parts, since what is left of
many small differences has to add up to 1.

MAP is "sparsemax", "entmax15" for α = 1.5, "steep" for α > 2, or "entmax".
"""

import triton
import triton.language as tl

from .elements import number, row_max, row_sum, row_sum_in_two, store, tile_of, two_product, two_sum
from .exp import log, power, raised, unit
from .rows import INF, logits

FAINTEST = tl.constexpr(2.0**-1000)
SMALLEST = tl.constexpr(5e-324)


def weight_of(way: str, double: bool) -> float:
    """What a program holds beside that of a product: numbers in float64 all of them."""
    return (2 if double else 4) * (1 if way in ("sparsemax", "entmax15") else 2)


# --- one element -----------------------------------------------------------------------------------------


@triton.jit
def height(v, reference, c, c_lost, alpha, scale):
    """How far v is above the threshold, (α−1)·scale·(v − reference) + c + c_lost, in two parts; −1 far
    below."""
    factor, low, power_of_two = scale
    less_one = number(alpha, tl.float64) - 1.0
    if v.dtype == tl.float64:
        gain, gain_lost = two_product(less_one, factor)
        # half of both have a difference for certain
        d, lost = two_sum(v * 0.5, reference * -0.5)
        d, lost = d * power_of_two, lost * power_of_two
        t, rest = two_product(d, gain)
        t, rest = t * 2.0, (rest + tl.fma(lost, gain, d * gain_lost)) * 2.0
    else:
        d = v.to(tl.float64) - reference.to(tl.float64)
        t = d * ((factor + low) * power_of_two) * less_one
        rest = t * 0.0
    wide, zero = v.to(tl.float64), factor == 0.0
    t = tl.where(zero, tl.where(wide == -INF, wide, wide * 0.0), t)
    rest = tl.where(zero | (t == -INF), 0.0, rest)
    w, lost = two_sum(t, c)
    rest = rest + lost + c_lost
    whole = w + rest
    far = t < -1.0
    return tl.where(far, -1.0, whole), tl.where(far, 0.0, (w - whole) + rest)


@triton.jit
def result(v, reference, c, c_lost, least, alpha, scale, MAP: tl.constexpr):
    """y = w₊^(1/(α−1)) for the logits v, w being their heights, and y^(2−α), which is dy/dw times α − 1.

    Up to α = 2 the reference is the largest logit.  Beyond, y is so steep at the threshold that no c could
    tell it: the reference is the smallest logit of the support, and `least` is its y, c^(1/(α−1)).
    """
    w, rest = height(v, reference, c, c_lost, alpha, scale)
    if MAP == "sparsemax":
        return tl.where(w < 0.0, 0.0, w), tl.where(w > 0.0, 1.0, 0.0).to(tl.float64)
    elif MAP == "entmax15":
        return tl.where(w < 0.0, 0.0, tl.fma(w, w, w * rest * 2.0)), tl.where(w < 0.0, 0.0, w)
    else:
        wide = number(alpha, tl.float64)
        exponent = 1.0 / (wide - 1.0)
        outside = w < SMALLEST
        base = tl.where(outside, 1.0, w)
        y = raised(base, tl.where(outside, 0.0, rest), exponent, tl.fma(exponent, 1.0 - wide, 1.0) * exponent)
        y, s = tl.where(outside, 0.0, y), tl.where(outside, 0.0, y / base)
        if MAP == "steep":
            below, there = v < reference, v == reference
            y = tl.where(below, 0.0, tl.where(there, least, y))
            s = tl.where(below, 0.0, tl.where(there, least / c, s))
        return y, s


@triton.jit
def rough_result(v, reference, c, alpha, scale, MAP: tl.constexpr):
    """The same in float32, of "sparsemax" and "entmax15"."""
    factor, _, power_of_two = scale
    gain = ((factor * power_of_two) * (number(alpha, tl.float64) - 1.0)).to(tl.float32)
    t = (v - reference) * gain
    w = tl.where(t > -1.0, t, -1.0) + c
    w = tl.where(w < 0.0, 0.0, w)
    if MAP == "sparsemax":
        return w, tl.where(w > 0.0, 1.0, 0.0)
    else:
        return w * w, w


# --- a row -----------------------------------------------------------------------------------------------


@triton.jit
def block_sums(v, reference, c, c_lost, least, alpha, scale, MAP: tl.constexpr):
    """Σy in two parts, of which the first is exact in float64, and Σy^(2−α); in the type of c."""
    if c.dtype == tl.float32:
        y, s = rough_result(v, reference, c, alpha, scale, MAP)
        total = row_sum(y)
        return total, total * 0.0, row_sum(s)
    else:
        y, s = result(v, reference, c, c_lost, least, alpha, scale, MAP)
        upper, lower = row_sum_in_two(y, 1.0)
        return upper, lower, row_sum(s)


@triton.jit
def block_of(rows, start, FORM):
    """The logits from `start` on, what is valid, and their tile."""
    x, where, shape, sign = rows
    tile = tile_of(start, shape.n, shape, FORM)
    v, here = logits(x, where, tile, sign, FORM)
    return v, here, tile


@triton.jit
def sums(v, rows, reference, c, c_lost, least, alpha, scale, MAP: tl.constexpr, HELD: tl.constexpr, FORM):
    """Σy − 1 and Σy^(2−α) of each row; v is all of it if it is HELD."""
    if HELD:
        upper, lower, slope = block_sums(v, reference, c, c_lost, least, alpha, scale, MAP)
    else:
        upper, lower, slope = c * 0.0, c * 0.0, c * 0.0
        for start in range(0, tl.cast(rows[2].n, tl.int64), FORM.BLOCK):
            block, _, _ = block_of(rows, start, FORM)
            more, less, steeper = block_sums(block, reference, c, c_lost, least, alpha, scale, MAP)
            upper, lower, slope = upper + more, lower + less, slope + steeper
    return (upper - 1.0) + lower, slope


@triton.jit
def step(excess, slope, alpha, MAP: tl.constexpr):
    """By how much to lower c: Newton's step for (Σy)^(α−1) = 1, which is nearly linear in c.

    For α ≤ 2 that is a norm of numbers that are linear in c or cut off at 0, so it is convex: the first step
    from below leads to or beyond the solution, and those from above lead down to it.
    """
    if MAP == "sparsemax":
        return excess / slope
    elif MAP == "entmax15":
        norm = tl.sqrt(excess + 1.0)
        return norm * excess / ((norm + 1.0) * slope)
    else:
        lead, rest = two_sum(excess, 1.0)
        lead, _ = log(lead, rest)
        t = lead * (number(alpha, tl.float64) - 1.0)
        share = tl.where(t < 2.0**-20, t, 1.0 - power(-t, t * 0.0) * unit(tl.float64))
        return share * (excess + 1.0) / slope


@triton.jit
def descend(
    v, rows, top, c, tolerance: tl.constexpr, most: tl.constexpr, alpha, scale,
    MAP: tl.constexpr, HELD: tl.constexpr, FORM,
):  # fmt: skip
    """c of the rows for α ≤ 2, from a first one, in two parts, and the last Σy − 1: −1 where a row is empty,
    NaN where it has NaN."""
    c_lost, excess, unsolved = c * 0.0, c, c * 0.0 + 1.0
    steps = 0
    while (tl.max(tl.max(unsolved, axis=1), axis=0) > 0.0) & (steps < most):
        excess, slope = sums(v, rows, top, c, c_lost, c, alpha, scale, MAP, HELD, FORM)
        move = tl.where((unsolved > 0.0) & (slope > 0.0), step(excess, slope, alpha, MAP), 0.0)
        c, c_lost = two_sum(c, c_lost - move)
        off = (excess > tolerance) | (excess < -tolerance)
        unsolved = tl.where(off & (slope > 0.0), unsolved, 0.0)
        steps += 1
    return c, c_lost, excess


@triton.jit
def border(top, alpha, scale):
    """A number that is below all of the support: 1 below `top`, and some; −inf if there is none."""
    gain = (scale[0] + scale[1]) * scale[2]
    low = top.to(tl.float64) - (1.0 + 2.0**-20) / (number(alpha, tl.float64) - 1.0) / gain
    low = (low - tl.abs(low) * 2.0**-20).to(top.dtype)
    return tl.where(low < top, low, -INF)


@triton.jit
def next_above(v, rows, low, HELD: tl.constexpr, FORM):
    """The smallest logit above `low`; inf if there is none."""
    if HELD:
        least = row_max(tl.where(v > low, -v, -INF))
    else:
        least = tl.zeros_like(low) - INF
        for start in range(0, tl.cast(rows[2].n, tl.int64), FORM.BLOCK):
            block, _, _ = block_of(rows, start, FORM)
            least = tl.maximum(least, row_max(tl.where(block > low, -block, -INF)))
    return -least


@triton.jit
def anchor(v, rows, top, tolerance: tl.constexpr, alpha, scale, MAP: tl.constexpr, HELD: tl.constexpr, FORM):
    """For α > 2 the smallest logit of the support, its c and y, and the last Σy − 1.

    The logit is found by bisection: with the threshold at a logit in the support, what is above it sums to
    less than 1.  The unknown is then its y, q.  The others are (q^(α−1) + gap)^(1/(α−1)), norms of two
    numbers of which one is fixed: convex in q, with slopes from 0 to 1, so from q = 1 Newton's steps go down
    to the solution.  (Some rows may be there while others still search.)
    """
    one = tl.full([FORM.LINES, 1], 1.0, tl.float64)
    low, high = border(top, alpha, scale), top
    least = next_above(v, rows, low, HELD, FORM)
    q, c, excess, left = one, one, one, one * 100.0  # Newton's steps that are left to a row
    while tl.max(tl.max(left, axis=1), axis=0) > 0.0:
        searching = least < high
        middle = tl.maximum(low * 0.5 + high * 0.5, least)
        middle = tl.where(searching & (middle < high), middle, least)
        at = tl.where(searching, 0.0, one)
        excess, slope = sums(v, rows, middle, c * at, one * 0.0, q * at, alpha, scale, MAP, HELD, FORM)

        light = excess < 0.0
        low = tl.where(searching, tl.where(light, low, middle), low)
        high = tl.where(searching & light, middle, high)
        least = next_above(v, rows, low, HELD, FORM)

        solving = (left > 0.0) & (slope > 0.0) & (at > 0.0)
        q = tl.maximum(q - tl.where(solving, excess / (slope * (c / q)), 0.0), FAINTEST)
        c = tl.maximum(raised(q, q * 0.0, number(alpha, tl.float64) - 1.0, 0.0), FAINTEST)
        unsolved = solving & ((excess > tolerance) | (excess < -tolerance))
        left = tl.where(searching, left, tl.where(unsolved, left - 1.0, 0.0))
    return least, c, q, excess


@triton.jit
def write(y, v, here, tile, reference, c, c_lost, least, excess, fill, alpha, scale, MAP: tl.constexpr, FORM):
    empty = excess == -1.0
    instead = tl.where(empty, number(fill, FORM.T), excess.to(FORM.T))
    w, _ = result(v, reference, c, c_lost, least, alpha, scale, MAP)
    w = tl.where(empty | (excess != excess), instead, w.to(FORM.T))
    store(y, tile, tl.where(here | empty, w, 0.0), FORM)


@triton.jit(do_not_specialize=["shape"])
def entmax(
    x, y, where, shape,
    sign: tl.float64, factor: tl.float64, low: tl.float64, power_of_two: tl.float64, fill: tl.float64,
    alpha: tl.float64, MAP: tl.constexpr, HELD: tl.constexpr, FORM,
):  # fmt: skip
    scale = (number(factor, tl.float64), number(low, tl.float64), number(power_of_two, tl.float64))
    tolerance = 2.0**-51 if FORM.T == tl.float64 else 2.0**-40
    rows = (x, where, shape, sign)
    v, here, tile = block_of(rows, 0, FORM)
    top = row_max(v)
    if not HELD:
        for start in range(FORM.BLOCK, tl.cast(shape.n, tl.int64), FORM.BLOCK):
            block, _, _ = block_of(rows, start, FORM)
            top = tl.maximum(top, row_max(block))
    top = tl.where(top == -INF, 0.0, top)  # of an empty row
    if MAP == "steep":
        reference, c, least, excess = anchor(v, rows, top, tolerance, alpha, scale, MAP, HELD, FORM)
        c_lost = c * 0.0
    else:
        c = tl.full([FORM.LINES, 1], 1.0, tl.float64)
        if MAP != "entmax" and FORM.T == tl.float32:
            c32, _, _ = descend(v, rows, top, c.to(tl.float32), 2.0**-16, 20, alpha, scale, MAP, HELD, FORM)
            c = tl.where(c32 > 0.0, c32.to(tl.float64), c)
        c, c_lost, excess = descend(v, rows, top, c, tolerance, 100, alpha, scale, MAP, HELD, FORM)
        reference, least = top, c
    if HELD:
        write(y, v, here, tile, reference, c, c_lost, least, excess, fill, alpha, scale, MAP, FORM)
    else:
        for start in range(0, tl.cast(shape.n, tl.int64), FORM.BLOCK):
            v, here, tile = block_of(rows, start, FORM)
            write(y, v, here, tile, reference, c, c_lost, least, excess, fill, alpha, scale, MAP, FORM)
