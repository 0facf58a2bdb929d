"""softmax and log_softmax: y = exp(scale·x − max) / Σ exp(scale·x − max), and its logarithm.

A row that fits is held in registers: `softmax` reads it once.  A longer one, or one of few, is cut into
parts: `softmax_sums` sums each, `softmax_total` adds these up in their order, `softmax_write` writes each
part.
"""

import triton
import triton.language as tl

from .exp import LOG2E, argument, inverse_one, one, power
from .log_softmax import less, log_of_sum
from .places import load, present, store, tile_of
from .sums import number, row_max, row_sum, two_sum


@triton.jit
def logits(
    x, x_steps, where, where_steps, tile, sign,
    TYPE: tl.constexpr, VEC: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """sign·x, −inf for what is masked and behind the end; and what is there."""
    here = present(where, where_steps, tile, VEC, ACROSS)
    v = load(x, x_steps, tile, 0.0, TYPE, VEC, ACROSS) * number(sign, TYPE)
    return tl.where(here, v, -float("inf")), here


@triton.jit
def powers(v, top, scale, WIDE: tl.constexpr):
    """exp(scale·(v − top))·ONE.  What v − top and its product with the scale lose goes along.

    For 16-bit types float32 has bits to spare: the hardware's exp2 will do.  It gives 0 for what is
    subnormal, so the power is the square of that of one half.
    """
    if WIDE == tl.float32:
        t = v - top if scale is None else argument(v, top, scale)[0]
        half = tl.exp2(t * (0.5 * LOG2E))
        return (half * one(tl.float32)) * half
    else:
        t, rest = argument(v, top, scale)
        return power(t, rest)


@triton.jit
def sums(v, scale, WIDE: tl.constexpr, ACROSS: tl.constexpr):
    """max v, the powers, and their sum, of each row.

    The sum is in two parts: the powers that are ONE, and the others, which count beside ONE in a logarithm.
    float64 is cut at 2⁻²⁶ of ONE to the same effect: the upper parts are whole numbers of one unit, whose sum
    is exact for 2²⁶ elements, and what is rounded of the lower ones is 2⁻⁷⁸ of the whole.
    """
    top = row_max(v, ACROSS)
    top = tl.where(top == -float("inf"), 0.0, top)  # an empty row; −inf − −inf would make it NaN
    e = powers(v, top, scale, WIDE)
    unit = one(v.dtype)
    if v.dtype == tl.float64:
        cut = unit * (1.5 * 2.0**26)
        upper = (e + cut) - cut
        return top, e, row_sum(upper, ACROSS), row_sum(e - upper, ACROSS)
    else:
        upper = tl.where(e == unit, e, 0.0)
        return top, e, row_sum(upper.to(WIDE), ACROSS), row_sum((e - upper).to(WIDE), ACROSS)


@triton.jit
def inverse_of(total, rest, TYPE: tl.constexpr):
    """1/(total + rest) as the sum of two numbers of TYPE; `rest` is below an ulp."""
    inverse = 1.0 / total
    error = -(tl.fma(total, inverse, -1.0) + rest * inverse) * inverse
    hi = inverse.to(TYPE)
    return hi, ((inverse - hi.to(total.dtype)) + error).to(TYPE)


@triton.jit
def found(whole, rest, nothing, TYPE: tl.constexpr, WIDE: tl.constexpr, LOG: tl.constexpr):
    """What a row's sum makes of its powers, as hi + lo: 1/sum, or log sum; and whether it is empty."""
    empty = (whole == 0.0) & (rest == 0.0)
    if LOG:  # −inf less `nothing` is its logarithm: −inf for 0, NaN for NaN
        hi, lo = log_of_sum(whole.to(tl.float64) * inverse_one(TYPE), rest.to(tl.float64) * inverse_one(TYPE))
        return tl.where(empty, number(nothing, WIDE), hi.to(WIDE)), lo.to(WIDE), empty
    else:
        total, rest = two_sum(whole, rest)
        hi, lo = inverse_of(total, rest, TYPE)
        return tl.where(empty, number(nothing, TYPE), hi), tl.where(empty, 0.0, lo), empty


@triton.jit
def result(v, e, top, hi, lo, empty, here, scale, WIDE: tl.constexpr, LOG: tl.constexpr):
    if LOG:
        y = less(v, top, scale, hi, lo, WIDE)
        return tl.where(here, y, tl.where(empty, y, -float("inf")))
    else:
        # of an empty row e is 0, and hi what it gives
        y = tl.where(empty, hi, tl.fma(e, hi, e * lo))
        return tl.where(here, y, tl.where(empty, y, 0.0))


@triton.jit
def softmax(
    x, x_steps, out, out_steps, where, where_steps, outer, inner, n,
    sign: tl.float64, factor: tl.float64, low_part: tl.float64, power_of_two: tl.float64, nothing: tl.float64,
    SCALED: tl.constexpr,
    TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr, LOG: tl.constexpr,
):  # fmt: skip
    tile = tile_of(tl.program_id(0), 0, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    scale = (factor, low_part, power_of_two) if SCALED else None
    v, here = logits(x, x_steps, where, where_steps, tile, sign, TYPE, VEC, ACROSS)
    top, e, whole, rest = sums(v, scale, WIDE, ACROSS)
    hi, lo, empty = found(whole, rest, nothing, TYPE, WIDE, LOG)
    store(out, out_steps, tile, result(v, e, top, hi, lo, empty, here, scale, WIDE, LOG), VEC, ACROSS)
