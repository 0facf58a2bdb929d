"""The formulas of `rows.py` on lines that are too long to be held, or too few to fill the chip.

A program goes over its part of its lines a block at a time, twice or more.  With one part a line all STAGEs are
one launch ("all"), and the second sweep reads from the cache what it holds.  With more, each stage is a launch,
and the numbers that a part leaves in `room`, of shape (numbers, lines, parts), are combined by each program of
the next stage alike: in the same order in any run.
"""

import triton
import triton.language as tl

from .elements import row_max, row_sum, row_sum_in_two, store, tile_of, two_product, two_sum
from .exp import argument, is_faint, parts, unit
from .rows import (
    INF,
    centred,
    curvature,
    gradients_of,
    log_operands,
    log_product_of,
    log_sums,
    logits,
    mean,
    operand,
    powers,
    product_of,
    shrunk,
    softmax_of,
    softmax_sums,
    weights,
)


@triton.jit
def part_of(shape, count, FORM):
    """Where this program's part of its lines starts and ends."""
    size = tl.cdiv(tl.cdiv(tl.cast(shape.n, tl.int64), FORM.BLOCK), count) * FORM.BLOCK
    start = tl.program_id(1) * size
    return start, tl.minimum(start + size, shape.n)


@triton.jit
def place(k: tl.constexpr, tile, shape, count):
    """Of number k of each line's first part."""
    return (tl.cast(k, tl.int64) * shape.outer * shape.inner + tile[0] * shape.inner + tile[1]) * count


@triton.jit
def keep(room, k: tl.constexpr, tile, shape, count, value):
    tl.store(room + place(k, tile, shape, count) + tl.program_id(1), value, mask=tile[4])


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
        keep(room, 0, first, shape, count, top)
        keep(room, 1, first, shape, count, whole)
        keep(room, 2, first, shape, count, rest)
    else:
        top = tl.where(top == -INF, 0.0, top)
        for at in range(start, end, FORM.BLOCK):
            tile = tile_of(at, end, shape, FORM)
            v, here = logits(x, where, tile, sign, FORM)
            e = powers(v, top, scale, NARROW)
            w = softmax_of(v, e, here, top, whole, rest, fill, scale, LOG)
            store(y, tile, w, FORM)


# --- the product with the Jacobian -----------------------------------------------------------------------


@triton.jit
def merged_mean(high, low, total, more_high, more_low, more):
    """The mean of two sets: that of the heavier, and a distance from it."""
    swap = more > total
    heavy_high, heavy_low = tl.where(swap, more_high, high), tl.where(swap, more_low, low)
    light_high, light_low = tl.where(swap, high, more_high), tl.where(swap, low, more_low)
    whole = total + more
    share = tl.minimum(total, more) / tl.where(whole == 0.0, 1.0, whole)
    high, rest = two_sum(heavy_high, ((light_high - heavy_high) + (light_low - heavy_low)) * share)
    return high, heavy_low + rest, whole


@triton.jit
def mean_of_part(
    y, dy, where, start, end, shape, alpha, MAP: tl.constexpr, FORM,
):  # fmt: skip
    """`mean`, block by block."""
    high = tl.full([FORM.LINES, 1], 0.0, FORM.T)
    low, total = high, high
    for at in range(start, end, FORM.BLOCK):
        tile = tile_of(at, end, shape, FORM)
        _, s, here = weights(y, where, tile, alpha, MAP, FORM)
        more = mean(s, operand(dy, tile, here, FORM))
        high, low, total = merged_mean(high, low, total, more[0], more[1], more[2])
    return high, low, total


@triton.jit
def mean_of_parts(room, k: tl.constexpr, total: tl.constexpr, tile, shape, count, PARTS: tl.constexpr):
    """`mean` of a line, given those of its parts, numbers k and k + 1, whose weights are number `total`."""
    highs = kept(room, k, tile, shape, count, 0.0, PARTS)
    lows = kept(room, k + 1, tile, shape, count, 0.0, PARTS)
    totals = kept(room, total, tile, shape, count, 0.0, PARTS)
    high, low, whole = mean(totals, highs * 2.0)
    return high, low + row_sum(totals * lows) / tl.where(whole == 0.0, 1.0, whole), whole


@triton.jit(do_not_specialize=["shape", "count"])
def product(
    y, dy, dx, where, shape, room, count,
    alpha: tl.float64, a: tl.float64, b: tl.float64, MAP: tl.constexpr, FORM,
    PARTS: tl.constexpr, STAGE: tl.constexpr,
):  # fmt: skip
    start, end = part_of(shape, count, FORM)
    first = tile_of(start, end, shape, FORM)
    if STAGE == "write":
        high, low, total = mean_of_parts(room, 0, 2, first, shape, count, PARTS)
    else:
        high, low, total = mean_of_part(
            y, dy, where, start, end, shape, alpha, MAP,
             FORM,
        )  # fmt: skip
    if STAGE == "sums":
        keep(room, 0, first, shape, count, high)
        keep(room, 1, first, shape, count, low)
        keep(room, 2, first, shape, count, total)
    else:
        for at in range(start, end, FORM.BLOCK):
            tile = tile_of(at, end, shape, FORM)
            v, s, here = weights(y, where, tile, alpha, MAP, FORM)
            d = operand(dy, tile, here, FORM)
            store(dx, tile, product_of(v, s, d, here, high, low, total, a, b, MAP), FORM)


# --- the vjp of log_softmax -----------------------------------------------------------------------------


@triton.jit
def log_sums_of_part(
    y, dy, where, start, end, shape, FORM,
):  # fmt: skip
    total = tl.full([FORM.LINES, 1], 0.0, FORM.T)
    lost, small = total, total
    for at in range(start, end, FORM.BLOCK):
        tile = tile_of(at, end, shape, FORM)
        _, d, _ = log_operands(y, dy, where, tile, FORM)
        more, smaller = log_sums(d)
        total, rest = two_sum(total, more)
        lost, small = lost + rest, small + smaller
    return total + lost, small


@triton.jit(do_not_specialize=["shape", "count"])
def log_product(
    y, dy, dx, where, shape, room, count,
    a: tl.float64, b: tl.float64, FORM,
    PARTS: tl.constexpr, STAGE: tl.constexpr,
):  # fmt: skip
    start, end = part_of(shape, count, FORM)
    first = tile_of(start, end, shape, FORM)
    if STAGE == "write":
        total = row_sum(kept(room, 0, first, shape, count, 0.0, PARTS))
        small = row_sum(kept(room, 1, first, shape, count, 0.0, PARTS))
    else:
        total, small = log_sums_of_part(
            y, dy, where, start, end, shape,
             FORM,
        )  # fmt: skip
    if STAGE == "sums":
        keep(room, 0, first, shape, count, total)
        keep(room, 1, first, shape, count, small)
    else:
        total, h, back = shrunk(total, small)
        for at in range(start, end, FORM.BLOCK):
            tile = tile_of(at, end, shape, FORM)
            v, d, here = log_operands(y, dy, where, tile, FORM)
            store(dx, tile, log_product_of(v, d, here, total, h, back, a, b), FORM)


# --- the double backward -----------------------------------------------------------------------------------


@triton.jit
def operands(
    y, dy, v, where, tile, d_high, d_low, u_high, u_low, alpha,
    MAP: tl.constexpr, FORM,
):  # fmt: skip
    """y, s(y), p/4, half of v° and what is valid."""
    w, s, here = weights(y, where, tile, alpha, MAP, FORM)
    u = centred(operand(v, tile, here, FORM), u_high, u_low)
    if MAP == "log_softmax":
        return w, s, u, u, here
    else:
        d = centred(operand(dy, tile, here, FORM), d_high, d_low)
        return w, s, curvature(w, s, d, u, alpha, MAP), u, here


@triton.jit(do_not_specialize=["shape", "count"])
def double_backward(
    y, dy, v, grad_x, grad_dy, where,
    shape, room, count, alpha: tl.float64, a: tl.float64, b: tl.float64,
    MAP: tl.constexpr, FORM,
    PARTS: tl.constexpr, STAGE: tl.constexpr,
):  # fmt: skip
    start, end = part_of(shape, count, FORM)
    first = tile_of(start, end, shape, FORM)
    # of log_softmax d_high is Σdy
    if STAGE == "means" or STAGE == "all":
        u_high, u_low, total = mean_of_part(
            y, v, where, start, end, shape, alpha, MAP,
             FORM,
        )  # fmt: skip
        if MAP == "log_softmax":
            d_high, d_low = log_sums_of_part(
                y, dy, where, start, end, shape,
                 FORM,
            )  # fmt: skip
        else:
            d_high, d_low, _ = mean_of_part(
                y, dy, where, start, end, shape, alpha, MAP,
                 FORM,
            )  # fmt: skip
    else:
        u_high, u_low, total = mean_of_parts(room, 0, 2, first, shape, count, PARTS)
        if MAP == "log_softmax":
            d_high, d_low = row_sum(kept(room, 3, first, shape, count, 0.0, PARTS)), u_low
        else:
            d_high, d_low, _ = mean_of_parts(room, 3, 2, first, shape, count, PARTS)
    if STAGE == "means":
        keep(room, 0, first, shape, count, u_high)
        keep(room, 1, first, shape, count, u_low)
        keep(room, 2, first, shape, count, total)
        keep(room, 3, first, shape, count, d_high)
        keep(room, 4, first, shape, count, d_low)
    else:
        p_sum = tl.full([FORM.LINES, 1], 0.0, FORM.T)
        if MAP == "log_softmax":
            p_mean = d_high
        elif STAGE == "write":
            p_sum = row_sum(kept(room, 5, first, shape, count, 0.0, PARTS))
        else:
            lost = p_sum
            for at in range(start, end, FORM.BLOCK):
                tile = tile_of(at, end, shape, FORM)
                block = operands(
                    y, dy, v, where, tile,
                    d_high, d_low, u_high, u_low, alpha, MAP, FORM,
                )  # fmt: skip
                p_sum, rest = two_sum(p_sum, row_sum(block[1] * block[2]))
                lost += rest
            p_sum += lost
        if STAGE == "total":
            keep(room, 5, first, shape, count, p_sum)
        else:
            if MAP != "log_softmax":
                p_mean = p_sum / tl.where(total == 0.0, 1.0, total)
            for at in range(start, end, FORM.BLOCK):
                tile = tile_of(at, end, shape, FORM)
                w, s, p, u, here = operands(
                    y, dy, v, where, tile,
                    d_high, d_low, u_high, u_low, alpha, MAP, FORM,
                )  # fmt: skip
                gx, gdy = gradients_of(w, s, p, u, here, total, p_mean, a, b, MAP)
                store(grad_x, tile, gx, FORM)
                store(grad_dy, tile, gdy, FORM)
