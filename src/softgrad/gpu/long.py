"""The formulas of `rows.py` on lines that are too long to be held, or too few to fill the chip.

A program goes over its part of its lines twice, a block at a time: for their sums, and to write.  With one
part a line that is one launch, STAGE "all", and the second sweep reads from the cache what it holds.  With
more, each is a launch.  The sums of each part are left in `room`, of shape (numbers, lines, parts), and
combined by each program that writes, in the same order in any run.
"""

import triton
import triton.language as tl

from .elements import row_max, row_sum, row_sum_in_two, store, tile_of, two_product, two_sum
from .exp import argument, is_faint, parts, unit
from .rows import INF, logits, mean, operands, powers, product_of, reduced, softmax_of, softmax_sums


@triton.jit
def part_of(shape, count, FORM):
    """Where this program's part of its lines starts and ends."""
    size = tl.cdiv(tl.cdiv(tl.cast(shape.n, tl.int64), FORM.BLOCK), count) * FORM.BLOCK
    start = tl.program_id(1) * size
    return start, tl.minimum(start + size, shape.n)


@triton.jit
def place(k: tl.constexpr, tile, shape, count):
    """Of number k of each line's first part."""
    return ((tl.cast(k, tl.int64) * shape.outer + tile[0]) * shape.inner + tile[1]) * count


@triton.jit
def keep(room, tile, shape, count, numbers):
    """These numbers of this program's part of its lines."""
    for k in tl.static_range(len(numbers)):
        tl.store(room + place(k, tile, shape, count) + tl.program_id(1), numbers[k], mask=tile[4])


@triton.jit
def kept(room, k: tl.constexpr, tile, shape, count, other, PARTS: tl.constexpr):
    """Number k of each part, as a row; `other` behind the last."""
    part = tl.arange(0, PARTS)[None, :]
    at = room + place(k, tile, shape, count) + part
    return tl.load(at, mask=tile[4] & (part < count), other=other)


# --- softmax and log_softmax ------------------------------------------------------------------------------


@triton.jit
def lowered(whole, rest, top, highest, scale):
    """(whole + rest)·exp(scale·(top − highest)) in two parts."""
    t, lost = argument(top, highest, scale)
    w, b = parts(t, lost)
    faint = is_faint(t)
    w, b = tl.where(faint, 0.0, w), tl.where(faint, 0.0, b * unit(whole.dtype))
    p, p_lost = two_product(whole, w)
    s, s_lost = two_sum(whole, p)
    return s * b, (s_lost + p_lost + tl.fma(rest, w, rest)) * b


@triton.jit
def merged_sums(top, whole, rest, more_top, more_whole, more_rest, scale):
    """The maximum, and the sum in two parts, of two sets of powers."""
    highest = tl.maximum(top, more_top)
    to = tl.where(highest == -INF, 0.0, highest)
    whole, rest = lowered(whole, rest, top, to, scale)
    more_whole, more_rest = lowered(more_whole, more_rest, more_top, to, scale)
    whole, lost = two_sum(whole, more_whole)
    return highest, whole, rest + more_rest + lost


@triton.jit(do_not_specialize=["shape", "count"])
def softmax(
    x, y, where, shape, room, count,
    sign: tl.float64, factor: tl.float64, low: tl.float64, power_of_two: tl.float64, fill: tl.float64,
    LOG: tl.constexpr, SCALED: tl.constexpr, NARROW: tl.constexpr, FORM,
    PARTS: tl.constexpr, STAGE: tl.constexpr,
):  # fmt: skip
    scale = (factor, low, power_of_two) if SCALED else None
    start, end = part_of(shape, count, FORM)
    first = tile_of(start, end, shape, FORM)
    if STAGE == "write":
        tops = kept(room, 0, first, shape, count, -INF, PARTS)
        top = row_max(tops)
        to = tl.where(top == -INF, 0.0, top)
        wholes = kept(room, 1, first, shape, count, 0.0, PARTS)
        rests = kept(room, 2, first, shape, count, 0.0, PARTS)
        wholes, rests = lowered(wholes, rests, tops, to, scale)
        whole, rest = row_sum_in_two(wholes, row_max(wholes))
        rest += row_sum(rests)
    else:
        whole = tl.full([FORM.LINES, 1], 0.0, FORM.T)
        rest, top = whole, whole - INF
        for at in range(start, end, FORM.BLOCK):
            tile = tile_of(at, end, shape, FORM)
            v, _ = logits(x, where, tile, sign, FORM)
            more_top, _, upper, lower = softmax_sums(v, scale, NARROW)
            more_top = tl.where(upper + lower == 0.0, -INF, more_top)
            top, whole, rest = merged_sums(top, whole, rest, more_top, upper, lower, scale)
    if STAGE == "sums":
        keep(room, first, shape, count, (top, whole, rest))
    else:
        top = tl.where(top == -INF, 0.0, top)
        for at in range(start, end, FORM.BLOCK):
            tile = tile_of(at, end, shape, FORM)
            v, here = logits(x, where, tile, sign, FORM)
            e = powers(v, top, scale, NARROW)
            w = softmax_of(v, e, here, top, whole, rest, fill, scale, LOG)
            store(y, tile, w, FORM)


# --- the product with the Jacobian ------------------------------------------------------------------------


@triton.jit
def merged(sums, more, MAP: tl.constexpr):
    """`reduced` of two sets.  The mean is that of the heavier, and a distance from it."""
    if MAP == "log_vjp":
        total, lost = two_sum(sums[0], more[0])
        return total, sums[1] + more[1] + lost, sums[2] + more[2]
    else:
        swap = more[2] > sums[2]
        high, low = tl.where(swap, more[0], sums[0]), tl.where(swap, more[1], sums[1])
        light_high, light_low = tl.where(swap, sums[0], more[0]), tl.where(swap, sums[1], more[1])
        total = sums[2] + more[2]
        share = tl.minimum(sums[2], more[2]) / tl.where(total == 0.0, 1.0, total)
        high, rest = two_sum(high, ((light_high - high) + (light_low - low)) * share)
        return high, low + rest, total


@triton.jit
def of_parts(firsts, seconds, thirds, MAP: tl.constexpr):
    """`reduced` of a line, given those of its parts."""
    if MAP == "log_vjp":
        return row_sum(firsts), row_sum(seconds), row_sum(thirds)
    else:
        high, low, total = mean(thirds, firsts * 2.0)
        return high, low + row_sum(thirds * seconds) / tl.where(total == 0.0, 1.0, total), total


@triton.jit(do_not_specialize=["shape", "count"])
def product(
    y, dy, dx, where, shape, room, count, alpha: tl.float64, a: tl.float64, b: tl.float64,
    MAP: tl.constexpr, WEIGHTED: tl.constexpr, FORM, PARTS: tl.constexpr, STAGE: tl.constexpr,
):  # fmt: skip
    start, end = part_of(shape, count, FORM)
    first = tile_of(start, end, shape, FORM)
    if STAGE == "write":
        firsts = kept(room, 0, first, shape, count, 0.0, PARTS)
        seconds = kept(room, 1, first, shape, count, 0.0, PARTS)
        sums = of_parts(firsts, seconds, kept(room, 2, first, shape, count, 0.0, PARTS), MAP)
    else:
        zero = tl.full([FORM.LINES, 1], 0.0, FORM.T)
        sums = (zero, zero, zero)
        for at in range(start, end, FORM.BLOCK):
            _, s, d, _ = operands(y, dy, where, tile_of(at, end, shape, FORM), alpha, MAP, FORM)
            sums = merged(sums, reduced(s, d, MAP), MAP)
    if STAGE == "sums":
        keep(room, first, shape, count, sums)
    else:
        for at in range(start, end, FORM.BLOCK):
            tile = tile_of(at, end, shape, FORM)
            w, s, d, here = operands(y, dy, where, tile, alpha, MAP, FORM)
            store(dx, tile, product_of(w, s, d, here, sums, a, b, MAP, WEIGHTED), FORM)
