"""Where the elements of a tile lie in memory.

An array is seen as (outer, inner) *lines* of n elements, each with a step of its own: `steps` are those from
one outer index, one inner index and one element of a line to the next.  A tile is some LINES × BLOCK of it:
along the rows, or, where neighbours in memory lie on neighbouring lines, ACROSS them, BLOCK × LINES.

Offsets are int64.  VEC elements at a time lie side by side, aligned and all there or none: the compiler is
told, and moves up to 16 bytes with one instruction.
"""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def hinted(value, VEC: tl.constexpr):
    """value, of which the compiler sees that VEC divides it."""
    return value if VEC == 1 else (value // VEC) * VEC


@triton.jit
def tile_of(
    block, start, outer, inner, n,
    VEC: tl.constexpr, LINES: tl.constexpr, BLOCK: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """(outer index, inner index, place on the line, whether it is there, whether the line is) of block number
    `block` of lines, and of the BLOCK elements from `start` on."""
    place = tl.arange(0, BLOCK)
    left = hinted(tl.minimum(tl.cast(n - start, tl.int64), BLOCK).to(tl.int32), 1 if ACROSS else VEC)
    block = tl.cast(block, tl.int64)
    if ACROSS:
        blocks = tl.cdiv(inner, LINES)
        o = block // blocks
        i = (block % blocks) * LINES + tl.arange(0, LINES)[None, :]
        place = place[:, None]
        line_there = i < hinted(inner, VEC)
    else:
        line = block * LINES + tl.arange(0, LINES)[:, None]
        o, i = line // inner, line % inner
        place = place[None, :]
        line_there = o < outer
    return o, i, place.to(tl.int64) + start, line_there & (place < left), line_there


@triton.jit
def offsets(tile, steps, VEC: tl.constexpr, ACROSS: tl.constexpr):
    o, i, place, _, _ = tile
    if ACROSS:
        return o * hinted(steps[0], VEC) + place * hinted(steps[2], VEC) + i * steps[1]
    else:
        return o * hinted(steps[0], VEC) + i * hinted(steps[1], VEC) + place * steps[2]


@triton.jit
def load(x, steps, tile, other, TYPE: tl.constexpr, VEC: tl.constexpr, ACROSS: tl.constexpr):
    """In the TYPE of the lanes, in which the kernels compute; `other` behind the end."""
    return tl.load(x + offsets(tile, steps, VEC, ACROSS), mask=tile[3], other=other).to(TYPE)


@triton.jit
def rounded(value, TYPE: tl.constexpr):
    """To the nearest number of TYPE, as the hardware does it; Triton's interpreter cuts bits off for
    bfloat16."""
    if INTERPRETED and TYPE == tl.bfloat16:
        bits = value.to(tl.int32, bitcast=True)
        near = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        value = tl.where(value == value, near.to(tl.float32, bitcast=True), float("nan"))
    return value.to(TYPE)


@triton.jit
def store(x, steps, tile, value, VEC: tl.constexpr, ACROSS: tl.constexpr):
    tl.store(x + offsets(tile, steps, VEC, ACROSS), rounded(value, x.dtype.element_ty), mask=tile[3])


@triton.jit
def present(where, steps, tile, VEC: tl.constexpr, ACROSS: tl.constexpr):
    """Which elements are there, and not masked."""
    if where is None:
        return tile[3]
    else:
        return tl.load(where + offsets(tile, steps, VEC, ACROSS), mask=tile[3], other=0) != 0
