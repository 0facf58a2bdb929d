"""sparsemax and entmax: y = [(α−1)·scale·(x − max) + c]₊^(1/(α−1)), with c such that Σy = 1.

c, at most 1, is how far the largest logit lies above the threshold.  It is found by Newton's method, on the
row in registers, or, if it is too long for them, on what is read of it again; nothing is sorted.  It is in
float64, and kept in two parts, since what is left of many small differences has to add up to 1.

MAP is "sparsemax", "entmax15" for α = 1.5, "steep" for α > 2, or "entmax".
"""

import triton
import triton.language as tl

from .exp import inverse_one, power
from .places import store, tile_of
from .real_power import log, raised
from .softmax import logits
from .sums import number, row_max, row_sum, two_difference, two_product, two_sum

CUT = tl.constexpr(1.5 * 2.0**26)  # adding this rounds to whole multiples of 2⁻²⁶, whose sum is exact
FAINTEST = tl.constexpr(2.0**-1000)
SMALLEST = tl.constexpr(5e-324)


# --- one element -----------------------------------------------------------------------------------------


@triton.jit
def difference(v, reference, alpha, scale):
    """(α−1)·scale·(v − reference) in float64, and what is lost of it, if that counts."""
    factor, low_part = number(scale[0], tl.float64), number(scale[1], tl.float64)
    power_of_two, less_one = number(scale[2], tl.float64), number(alpha, tl.float64) - 1.0
    if v.dtype == tl.float64:
        gain, gain_lost = two_product(less_one, factor)
        # half of both have a difference for certain
        d, lost = two_difference(v * 0.5, reference * 0.5)
        d, lost = d * power_of_two, lost * power_of_two
        t, rest = two_product(d, gain)
        t, rest = t * 2.0, (rest + tl.fma(lost, gain, d * gain_lost)) * 2.0
    else:
        d = v.to(tl.float64) - reference.to(tl.float64)
        t = d * ((factor + low_part) * power_of_two) * less_one
        rest = t * 0.0
    none = factor == 0.0
    wide = v.to(tl.float64)
    t = tl.where(none, tl.where(wide == -float("inf"), wide, wide * 0.0), t)
    return t, tl.where(none | (t == -float("inf")), 0.0, rest)


@triton.jit
def height(v, reference, c, c_lost, alpha, scale):
    """How far v is above the threshold, which is c + c_lost below the reference; in two parts.

    Far below it is −1.
    """
    t, rest = difference(v, reference, alpha, scale)
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


# --- a row -----------------------------------------------------------------------------------------------


@triton.jit
def block_of(
    x, x_steps, where, where_steps, start, outer, inner, n, sign,
    TYPE: tl.constexpr, VEC: tl.constexpr, LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The logits from `start` on, what is there, and their tile."""
    tile = tile_of(tl.program_id(0), start, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    v, here = logits(x, x_steps, where, where_steps, tile, sign, TYPE, VEC, ACROSS)
    return v, here, tile


@triton.jit
def block_sums(v, state, alpha, scale, MAP: tl.constexpr, ACROSS: tl.constexpr):
    """Σy in two parts, of which the first is exact, and Σy^(2−α)."""
    y, s = result(v, state[0], state[1], state[2], state[3], alpha, scale, MAP)
    upper = (y + CUT) - CUT
    return row_sum(upper, ACROSS), row_sum(y - upper, ACROSS), row_sum(s, ACROSS)


@triton.jit
def sums(
    v, x, x_steps, where, where_steps, outer, inner, n, sign, state, alpha, scale, MAP: tl.constexpr,
    HELD: tl.constexpr, TYPE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """Σy − 1 and Σy^(2−α) of each row, which is v if it is HELD."""
    if HELD:
        upper, lower, slope = block_sums(v, state, alpha, scale, MAP, ACROSS)
    else:
        upper, lower, slope = state[1] * 0.0, state[1] * 0.0, state[1] * 0.0
        for start in range(0, tl.cast(n, tl.int64), BLOCK):
            v_there, _, _ = block_of(
                x, x_steps, where, where_steps, start, outer, inner, n, sign, TYPE, VEC, LINES, BLOCK, ACROSS
            )
            more, less, steeper = block_sums(v_there, state, alpha, scale, MAP, ACROSS)
            upper, lower, slope = upper + more, lower + less, slope + steeper
    return (upper - 1.0) + lower, slope


@triton.jit
def step(excess, slope, alpha, MAP: tl.constexpr):
    """By how much to lower c: Newton's step for (Σy)^(α−1) = 1, which is nearly linear in c.

    For α ≤ 2 that is a norm of numbers that are linear in c or cut off at 0, so it is convex, and from
    c = 1 the steps go down to the solution and never beyond.
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
        share = tl.where(t < 2.0**-20, t, 1.0 - power(-t, t * 0.0) * inverse_one(tl.float64))
        return share * (excess + 1.0) / slope


@triton.jit
def descend(
    v, x, x_steps, where, where_steps, outer, inner, n, sign, top, alpha, scale, MAP: tl.constexpr,
    HELD: tl.constexpr, TYPE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The state of the rows for α ≤ 2, and the last Σy − 1: −1 where a row is empty, NaN where it has NaN."""
    tolerance = 2.0**-51 if TYPE == tl.float64 else 2.0**-40
    one = tl.where(top == top, 1.0, 1.0).to(tl.float64)
    c, c_lost, excess, unsolved = one, one * 0.0, one, one
    steps = 0
    while (tl.max(tl.max(unsolved, axis=1), axis=0) > 0.0) & (steps < 100):
        state = (top, c, c_lost, c)
        excess, slope = sums(
            v, x, x_steps, where, where_steps, outer, inner, n, sign, state, alpha, scale, MAP,
            HELD, TYPE, VEC, LINES, BLOCK, ACROSS,
        )  # fmt: skip
        move = tl.where((unsolved > 0.0) & (slope > 0.0), step(excess, slope, alpha, MAP), 0.0)
        c, c_lost = two_sum(c, c_lost - move)
        off = (excess > tolerance) | (excess < -tolerance)
        unsolved = tl.where(off & (slope > 0.0), unsolved, 0.0)
        steps += 1
    return (top, c, c_lost, c), excess


@triton.jit
def border(top, alpha, scale):
    """A number that is below all of the support: 1 below `top`, and some; −inf if there is none."""
    gain = (number(scale[0], tl.float64) + number(scale[1], tl.float64)) * number(scale[2], tl.float64)
    low = top.to(tl.float64) - (1.0 + 2.0**-20) / (number(alpha, tl.float64) - 1.0) / gain
    low = (low - tl.abs(low) * 2.0**-20).to(top.dtype)
    return tl.where(low < top, low, -float("inf"))


@triton.jit
def next_above(
    v, x, x_steps, where, where_steps, outer, inner, n, sign, low,
    HELD: tl.constexpr, TYPE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The smallest logit above `low`; inf if there is none."""
    if HELD:
        least = row_max(tl.where(v > low, -v, -float("inf")), ACROSS)
    else:
        least = tl.zeros_like(low) - float("inf")
        for start in range(0, tl.cast(n, tl.int64), BLOCK):
            v_there, _, _ = block_of(
                x, x_steps, where, where_steps, start, outer, inner, n, sign, TYPE, VEC, LINES, BLOCK, ACROSS
            )
            least = tl.maximum(least, row_max(tl.where(v_there > low, -v_there, -float("inf")), ACROSS))
    return -least


@triton.jit
def anchor(
    v, x, x_steps, where, where_steps, outer, inner, n, sign, top, alpha, scale, MAP: tl.constexpr,
    HELD: tl.constexpr, TYPE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The state of the rows for α > 2, and the last Σy − 1.

    The smallest logit of the support is found by bisection: with the threshold at a logit in the support,
    what is above it sums to less than 1.  The unknown is then its y, q.  The others are
    (q^(α−1) + gap)^(1/(α−1)), norms of two numbers of which one is fixed: convex in q, with slopes from 0
    to 1, so from q = 1 Newton's steps go down to the solution.  (Some rows may be there while others still
    search.)
    """
    tolerance = 2.0**-51 if TYPE == tl.float64 else 2.0**-40
    one = tl.where(top == top, 1.0, 1.0).to(tl.float64)
    low, high = border(top, alpha, scale), top
    least = next_above(
        v, x, x_steps, where, where_steps, outer, inner, n, sign, low, HELD, TYPE, VEC, LINES, BLOCK, ACROSS
    )
    q, c, excess, left = one, one, one, one * 100.0  # Newton's steps that are left to a row
    while tl.max(tl.max(left, axis=1), axis=0) > 0.0:
        searching = least < high
        middle = tl.maximum(low * 0.5 + high * 0.5, least)
        middle = tl.where(searching & (middle < high), middle, least)
        at = tl.where(searching, 0.0, one)
        state = (middle, c * at, one * 0.0, q * at)
        excess, slope = sums(
            v, x, x_steps, where, where_steps, outer, inner, n, sign, state, alpha, scale, MAP,
            HELD, TYPE, VEC, LINES, BLOCK, ACROSS,
        )  # fmt: skip

        light = excess < 0.0
        low = tl.where(searching, tl.where(light, low, middle), low)
        high = tl.where(searching & light, middle, high)
        least = next_above(
            v, x, x_steps, where, where_steps, outer, inner, n, sign, low,
            HELD, TYPE, VEC, LINES, BLOCK, ACROSS,
        )  # fmt: skip

        solving = (left > 0.0) & (slope > 0.0) & (at > 0.0)
        q = tl.maximum(q - tl.where(solving, excess / (slope * (c / q)), 0.0), FAINTEST)
        c = tl.maximum(raised(q, q * 0.0, number(alpha, tl.float64) - 1.0, 0.0), FAINTEST)
        unsolved = solving & ((excess > tolerance) | (excess < -tolerance))
        left = tl.where(searching, left, tl.where(unsolved, left - 1.0, 0.0))
    return (least, c, one * 0.0, q), excess


@triton.jit
def write(
    v, here, tile, out, out_steps, state, excess, nothing, alpha, scale,
    MAP: tl.constexpr, TYPE: tl.constexpr, VEC: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    empty = excess == -1.0
    instead = tl.where(empty, number(nothing, TYPE), excess.to(TYPE))
    y, _ = result(v, state[0], state[1], state[2], state[3], alpha, scale, MAP)
    y = tl.where(empty | (excess != excess), instead, y.to(TYPE))
    store(out, out_steps, tile, tl.where(here, y, tl.where(empty, y, 0.0)), VEC, ACROSS)


@triton.jit
def entmax(
    x, x_steps, out, out_steps, where, where_steps, outer, inner, n,
    sign: tl.float64, factor: tl.float64, low_part: tl.float64, power_of_two: tl.float64, nothing: tl.float64,
    alpha: tl.float64, MAP: tl.constexpr, HELD: tl.constexpr,
    TYPE: tl.constexpr, VEC: tl.constexpr, LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    scale = (factor, low_part, power_of_two)
    v, here, tile = block_of(
        x, x_steps, where, where_steps, 0, outer, inner, n, sign, TYPE, VEC, LINES, BLOCK, ACROSS
    )
    top = row_max(v, ACROSS)
    if not HELD:
        for start in range(BLOCK, tl.cast(n, tl.int64), BLOCK):
            more, _, _ = block_of(
                x, x_steps, where, where_steps, start, outer, inner, n, sign, TYPE, VEC, LINES, BLOCK, ACROSS
            )
            top = tl.maximum(top, row_max(more, ACROSS))
    top = tl.where(top == -float("inf"), 0.0, top)  # of an empty row
    if MAP == "steep":
        state, excess = anchor(
            v, x, x_steps, where, where_steps, outer, inner, n, sign, top, alpha, scale, MAP,
            HELD, TYPE, VEC, LINES, BLOCK, ACROSS,
        )  # fmt: skip
    else:
        state, excess = descend(
            v, x, x_steps, where, where_steps, outer, inner, n, sign, top, alpha, scale, MAP,
            HELD, TYPE, VEC, LINES, BLOCK, ACROSS,
        )  # fmt: skip
    if HELD:
        write(v, here, tile, out, out_steps, state, excess, nothing, alpha, scale, MAP, TYPE, VEC, ACROSS)
    else:
        for start in range(0, tl.cast(n, tl.int64), BLOCK):
            v, here, tile = block_of(
                x, x_steps, where, where_steps, start, outer, inner, n, sign, TYPE, VEC, LINES, BLOCK, ACROSS
            )
            write(v, here, tile, out, out_steps, state, excess, nothing, alpha, scale, MAP, TYPE, VEC, ACROSS)
