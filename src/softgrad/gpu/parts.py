"""Lines in parts: what is too long for the registers of one program, or too few for all of the chip.

Three kernels: one sums each part, one adds up what is found of a line's parts, in their order and in float64,
whatever program was done first; and one writes.  (Of a double backward the last sum needs both means: each is
summed and added up before.)  Each part leaves some numbers in `room`, each line in `lot`: float64 arrays of
shape (numbers, lines, parts) and (numbers, lines).
"""

import triton
import triton.language as tl

from .double_backward import gradients, operands
from .double_backward import total as double_backward_sum
from .exp import argument, inverse_one, one, power
from .log_vjp import pair as log_pair
from .log_vjp import result as log_result
from .log_vjp import sums as log_sums
from .mean import factor_for, in_lanes, part_sums
from .places import store, tile_of
from .softmax import found, logits, powers, result, sums
from .sums import exact_row_sum, row_max, row_sum, two_difference, two_product, two_sum
from .vjp import pair
from .vjp import result as product_result


@triton.jit
def tile_of_part(
    parts, outer, inner, n, VEC: tl.constexpr, LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr
):
    """Which part of its lines is this program's, and the tile of that."""
    part = tl.program_id(0) % parts
    start = part.to(tl.int64) * BLOCK
    return part, tile_of(tl.program_id(0) // parts, start, outer, inner, n, VEC, LINES, BLOCK, ACROSS)


@triton.jit
def keep(room, tile, outer, inner, part, parts, values, ACROSS: tl.constexpr):
    """Put a number for each line of the tile into `room`: a tuple of columns, one after the other."""
    line = tile[0] * inner + tile[1]
    size = tl.cast(outer, tl.int64) * inner * parts
    for k in tl.static_range(len(values)):
        tl.store(room + k * size + line * parts + part, values[k].to(tl.float64), mask=tile[4])


@triton.jit
def kept(lot, tile, outer, inner, k: tl.constexpr):
    """Number k of each line of the tile."""
    at = k * (tl.cast(outer, tl.int64) * inner) + tile[0] * inner + tile[1]
    return tl.load(lot + at, mask=tile[4], other=0.0)


@triton.jit
def column(room, k: tl.constexpr, lines, parts, first, other, CHUNK: tl.constexpr):
    """Number k of the parts from `first` on of this program's line; `other` behind the last."""
    part = first + tl.arange(0, CHUNK)[None, :]
    at = tl.cast(k, tl.int64) * lines * parts + tl.program_id(0).to(tl.int64) * parts + part
    return tl.load(room + at, mask=part < parts, other=other)


@triton.jit
def leave(lot, lines, values):
    """Put the numbers of this program's line, of shape (1, 1), into `lot`."""
    at = lot + tl.program_id(0).to(tl.int64) + tl.full([1, 1], 0, tl.int64)
    for k in tl.static_range(len(values)):
        tl.store(at + tl.cast(k, tl.int64) * lines, values[k].to(tl.float64))


# --- softmax and log_softmax ----------------------------------------------------------------------------


@triton.jit
def softmax_sums(
    x, x_steps, where, where_steps, room, outer, inner, n, parts,
    sign: tl.float64, factor: tl.float64, low_part: tl.float64, power_of_two: tl.float64,
    SCALED: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """max, and both parts of the sum, of each part; −inf where all of it is."""
    scale = (factor, low_part, power_of_two) if SCALED else None
    part, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    v, _ = logits(x, x_steps, where, where_steps, tile, sign, TYPE, VEC, ACROSS)
    top, _, whole, rest = sums(v, scale, WIDE, ACROSS)
    whole, rest = whole.to(tl.float64) * inverse_one(TYPE), rest.to(tl.float64) * inverse_one(TYPE)
    top = tl.where((whole == 0.0) & (rest == 0.0), -float("inf"), top)
    keep(room, tile, outer, inner, part, parts, (top, whole, rest), ACROSS)


@triton.jit
def softmax_total(
    room, lot, lines, parts,
    factor: tl.float64, low_part: tl.float64, power_of_two: tl.float64, SCALED: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """max, and both parts of the sum, of a line: Σ sum·exp(scale·(max of the part − max))."""
    scale = (factor, low_part, power_of_two) if SCALED else None
    highest = tl.full([1, CHUNK], -float("inf"), tl.float64)
    for first in range(0, parts, CHUNK):
        highest = tl.maximum(highest, column(room, 0, lines, parts, first, -float("inf"), CHUNK))
    top = row_max(highest, False)
    top = tl.where(top == -float("inf"), 0.0, top)
    total, lost = tl.full([1, CHUNK], 0.0, tl.float64), tl.full([1, CHUNK], 0.0, tl.float64)
    for first in range(0, parts, CHUNK):
        t, t_lost = argument(column(room, 0, lines, parts, first, -float("inf"), CHUNK), top, scale)
        e = power(t, t_lost) * inverse_one(tl.float64)
        whole = column(room, 1, lines, parts, first, 0.0, CHUNK)
        rest = column(room, 2, lines, parts, first, 0.0, CHUNK)
        p, p_lost = two_product(whole, e)
        total, more = two_sum(total, p)
        lost = lost + (more + tl.fma(rest, e, p_lost))
    whole, rest = exact_row_sum(total, lost, False)
    leave(lot, lines, (top, whole, rest))


@triton.jit
def softmax_write(
    x, x_steps, out, out_steps, where, where_steps, lot, outer, inner, n, parts,
    sign: tl.float64, factor: tl.float64, low_part: tl.float64, power_of_two: tl.float64, nothing: tl.float64,
    SCALED: tl.constexpr,
    TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr, LOG: tl.constexpr,
):  # fmt: skip
    scale = (factor, low_part, power_of_two) if SCALED else None
    _, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    v, here = logits(x, x_steps, where, where_steps, tile, sign, TYPE, VEC, ACROSS)
    top = kept(lot, tile, outer, inner, 0).to(TYPE)
    unit = one(TYPE)
    whole, rest = kept(lot, tile, outer, inner, 1) * unit, kept(lot, tile, outer, inner, 2) * unit
    hi, lo, empty = found(whole, rest, nothing, TYPE, WIDE, LOG)
    y = result(v, powers(v, top, scale, WIDE), top, hi, lo, empty, here, scale, WIDE, LOG)
    store(out, out_steps, tile, y, VEC, ACROSS)


# --- the vjp --------------------------------------------------------------------------------------------


@triton.jit
def vjp_sums(
    y, y_steps, dy, dy_steps, where, where_steps, room, outer, inner, n, parts, alpha: tl.float64,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The largest |dy| of each part, and its `part_sums`, of dy times the factor for it."""
    part, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    w, rest, d, _ = pair(
        y, y_steps, dy, dy_steps, where, where_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS
    )
    far = row_max(tl.abs(d), ACROSS)
    reference, a, a_rest, b, b_rest, top = part_sums(w, rest, d * factor_for(far), WIDE, ACROSS)
    keep(room, tile, outer, inner, part, parts, (far, reference, a, a_rest, b, b_rest, top), ACROSS)


@triton.jit
def reference_of(room, lines, parts, first, factor, TYPE: tl.constexpr, CHUNK: tl.constexpr):
    """The references of the parts from `first` on, and what their sums are to be multiplied by."""
    ratio = factor / factor_for(column(room, 0, lines, parts, first, 1.0, CHUNK).to(TYPE)).to(tl.float64)
    return column(room, 1, lines, parts, first, 0.0, CHUNK) * ratio, ratio


@triton.jit
def sums_about(room, lines, parts, factor, reference, TYPE: tl.constexpr, CHUNK: tl.constexpr):
    """⟨s, dy − reference⟩ and ⟨s,1⟩ of a line, each in two parts: Σ a + b·(the part's reference −
    reference)."""
    zero = tl.full([1, CHUNK], 0.0, tl.float64)
    a, a_rest, b, b_rest = zero, zero, zero, zero
    for first in range(0, parts, CHUNK):
        r, ratio = reference_of(room, lines, parts, first, factor, TYPE, CHUNK)
        a_part = column(room, 2, lines, parts, first, 0.0, CHUNK)
        a_part_rest = column(room, 3, lines, parts, first, 0.0, CHUNK)
        b_part = column(room, 4, lines, parts, first, 0.0, CHUNK)
        b_part_rest = column(room, 5, lines, parts, first, 0.0, CHUNK)
        x, x_lost = two_difference(r, reference)
        p, p_lost = two_product(b_part, x)
        a, lost = two_sum(a, p)
        a_rest += lost + tl.fma(b_part, x_lost, tl.fma(b_part_rest, x, p_lost))
        a, lost = two_sum(a, a_part * ratio)
        a_rest += lost + a_part_rest * ratio
        b, lost = two_sum(b, b_part)
        b_rest += lost + b_part_rest
    a, a_rest = exact_row_sum(a, a_rest, False)
    b, b_rest = exact_row_sum(b, b_rest, False)
    return a + a_rest, b + b_rest


@triton.jit
def vjp_mean(room, lot, lines, parts, TYPE: tl.constexpr, CHUNK: tl.constexpr):
    """The `mean` of a line from its parts, which take the place of elements; ⟨s,1⟩ and the factor.

    TYPE is that of the lanes, which of log_softmax is the wider one.
    """
    far, top = tl.full([1, CHUNK], 0.0, tl.float64), tl.full([1, CHUNK], -float("inf"), tl.float64)
    for first in range(0, parts, CHUNK):
        far = tl.maximum(far, column(room, 0, lines, parts, first, 0.0, CHUNK))
        top = tl.maximum(top, column(room, 6, lines, parts, first, -float("inf"), CHUNK))
    factor = factor_for(row_max(far, False).to(TYPE)).to(tl.float64)
    top = row_max(top, False)
    best = tl.full([1, CHUNK], -float("inf"), tl.float64)
    for first in range(0, parts, CHUNK):
        r, _ = reference_of(room, lines, parts, first, factor, TYPE, CHUNK)
        heavy = column(room, 6, lines, parts, first, -float("inf"), CHUNK) == top
        best = tl.maximum(best, tl.where(heavy, r, -float("inf")))
    reference = row_max(best, False)
    a, b = sums_about(room, lines, parts, factor, reference, TYPE, CHUNK)
    hi, lo = two_sum(reference, a / b)
    if TYPE == tl.float64:
        a, b = sums_about(room, lines, parts, factor, hi, TYPE, CHUNK)
        lo = a / b
    hi, lo = in_lanes(hi, lo, b, TYPE)
    leave(lot, lines, (hi, lo, b, factor))


@triton.jit
def kept_mean(lot, tile, outer, inner, first: tl.constexpr, TYPE: tl.constexpr):
    """What `vjp_mean` left for each line of the tile: hi, lo, ⟨s,1⟩ and the factor."""
    hi, lo = kept(lot, tile, outer, inner, first), kept(lot, tile, outer, inner, first + 1)
    b, factor = kept(lot, tile, outer, inner, first + 2), kept(lot, tile, outer, inner, first + 3)
    return hi.to(TYPE), lo.to(TYPE), b, factor.to(TYPE)


@triton.jit
def vjp_write(
    y, y_steps, dy, dy_steps, out, out_steps, where, where_steps, lot, outer, inner, n, parts,
    alpha: tl.float64, scale: tl.float64, SCALED: tl.constexpr,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    _, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    w, _, d, here = pair(
        y, y_steps, dy, dy_steps, where, where_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS
    )
    hi, lo, b, factor = kept_mean(lot, tile, outer, inner, 0, w.dtype)
    dx = product_result(w, d, hi, lo, b, factor, here, scale if SCALED else None, MAP)
    store(out, out_steps, tile, dx, VEC, ACROSS)


# --- the vjp of log_softmax -----------------------------------------------------------------------------


@triton.jit
def log_vjp_sums(
    y, y_steps, dy, dy_steps, where, where_steps, room, outer, inner, n, parts,
    TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The `log_vjp.sums` of each part."""
    part, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    v, d, _ = log_pair(y, y_steps, dy, dy_steps, where, where_steps, tile, TYPE, VEC, ACROSS)
    factor, near, far, rest = log_sums(v, d, ACROSS)
    keep(room, tile, outer, inner, part, parts, (factor, near, far, rest), ACROSS)


@triton.jit
def log_vjp_total(room, lot, lines, parts, CHUNK: tl.constexpr):
    """Those of a line: the smallest factor, and the sums."""
    factor = tl.full([1, CHUNK], float("inf"), tl.float64)
    for first in range(0, parts, CHUNK):
        factor = tl.minimum(factor, column(room, 0, lines, parts, first, float("inf"), CHUNK))
    factor = -row_max(-factor, False)
    near = tl.full([1, CHUNK], 0.0, tl.float64)
    far, lost = near, near
    for first in range(0, parts, CHUNK):
        ratio = factor / column(room, 0, lines, parts, first, 1.0, CHUNK)
        near += column(room, 1, lines, parts, first, 0.0, CHUNK) * ratio
        far, more = two_sum(far, column(room, 2, lines, parts, first, 0.0, CHUNK) * ratio)
        lost += more + column(room, 3, lines, parts, first, 0.0, CHUNK) * ratio
    far, lost = exact_row_sum(far, lost, False)
    leave(lot, lines, (factor, row_sum(near, False), far + lost))


@triton.jit
def log_vjp_write(
    y, y_steps, dy, dy_steps, out, out_steps, where, where_steps, lot, outer, inner, n, parts,
    scale: tl.float64, SCALED: tl.constexpr,
    TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    _, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    v, d, here = log_pair(y, y_steps, dy, dy_steps, where, where_steps, tile, TYPE, VEC, ACROSS)
    factor, near = kept(lot, tile, outer, inner, 0), kept(lot, tile, outer, inner, 1)
    far = kept(lot, tile, outer, inner, 2)
    dx = log_result(v, d, factor, near, far, here, scale if SCALED else None, WIDE)
    store(out, out_steps, tile, dx, VEC, ACROSS)


# --- the double backward --------------------------------------------------------------------------------

# numbers of a line in `lot`: the mean of dy and that of v, four each, and the total
MEAN, V_MEAN, TOTAL = tl.constexpr(0), tl.constexpr(4), tl.constexpr(8)


@triton.jit
def double_backward_sums(
    y, y_steps, dy, dy_steps, v, v_steps, room, lot, outer, inner, n, parts, alpha: tl.float64,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The `double_backward.total` of each part, given the means of its line."""
    part, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    given = operands(y, y_steps, dy, dy_steps, v, v_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS)
    mean = kept_mean(lot, tile, outer, inner, MEAN, given[1].dtype)
    v_mean = kept_mean(lot, tile, outer, inner, V_MEAN, given[1].dtype)
    total, lost = double_backward_sum(given, mean, v_mean, alpha, MAP, WIDE, ACROSS)
    keep(room, tile, outer, inner, part, parts, (total, lost), ACROSS)


@triton.jit
def double_backward_total(room, lot, lines, parts, CHUNK: tl.constexpr):
    """That of a line."""
    total, lost = tl.full([1, CHUNK], 0.0, tl.float64), tl.full([1, CHUNK], 0.0, tl.float64)
    for first in range(0, parts, CHUNK):
        total, more = two_sum(total, column(room, 0, lines, parts, first, 0.0, CHUNK))
        lost += more + column(room, 1, lines, parts, first, 0.0, CHUNK)
    total, lost = exact_row_sum(total, lost, False)
    leave(lot + TOTAL * tl.cast(lines, tl.int64), lines, (total + lost,))


@triton.jit
def double_backward_write(
    y, y_steps, dy, dy_steps, v, v_steps, grad_x, x_steps, grad_dy, grad_dy_steps, lot,
    outer, inner, n, parts, alpha: tl.float64, scale: tl.float64, SCALED: tl.constexpr,
    MAP: tl.constexpr, TYPE: tl.constexpr, WIDE: tl.constexpr, VEC: tl.constexpr,
    LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    _, tile = tile_of_part(parts, outer, inner, n, VEC, LINES, BLOCK, ACROSS)
    given = operands(y, y_steps, dy, dy_steps, v, v_steps, tile, alpha, MAP, TYPE, WIDE, VEC, ACROSS)
    mean = kept_mean(lot, tile, outer, inner, MEAN, given[1].dtype)
    v_mean = kept_mean(lot, tile, outer, inner, V_MEAN, given[1].dtype)
    total = kept(lot, tile, outer, inner, TOTAL).to(WIDE)
    gx, gdy = gradients(given, mean, v_mean, total, alpha, scale if SCALED else None, MAP, WIDE)
    store(grad_x, x_steps, tile, gx.to(TYPE), VEC, ACROSS)
    store(grad_dy, grad_dy_steps, tile, gdy.to(TYPE), VEC, ACROSS)
