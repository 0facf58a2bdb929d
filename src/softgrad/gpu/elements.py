"""Tiles of LINES × BLOCK elements in registers: where they lie in memory, and their sums along each line.

An array is seen as (outer, inner) lines of n elements, with a step of its own for each of the three.  Rows
and columns are walked by the same kernels: the compiler lays a tile out along the step that is 1.

It is told that ALONG elements of a line, or ACROSS neighbouring lines, lie side by side, aligned, all inside
or all outside: so up to 16 bytes are moved by one instruction.  Offsets are int64.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Array(NamedTuple):
    """A tensor, or None, and its step from one outer index, inner index and element to the next."""

    at: Any
    steps: Any


class Shape(NamedTuple):
    outer: Any
    inner: Any
    n: Any


class Form(NamedTuple):
    """What kernels are compiled for: the type that is computed in, and the sizes above."""

    T: Any
    ALONG: Any
    ACROSS: Any
    LINES: Any
    BLOCK: Any


@triton.jit
def multiple(value, V: tl.constexpr):
    """value, as a multiple of V, which it is."""
    return value if V == 1 else (value // V) * V


@triton.jit
def tile_of(start, end, shape, FORM):
    """Outer index, inner index, and place on the line, of this program's lines from `start` on; which lie
    before `end`; and which of its lines there are."""
    blocks = tl.cdiv(shape.inner, FORM.LINES)
    program = tl.program_id(0).to(tl.int64)
    inner = (program % blocks) * FORM.LINES + tl.arange(0, FORM.LINES)[:, None]
    place = tl.arange(0, FORM.BLOCK)[None, :]
    left = multiple(tl.minimum(tl.cast(end, tl.int64) - start, FORM.BLOCK).to(tl.int32), FORM.ALONG)
    line = inner < multiple(shape.inner, FORM.ACROSS)
    return program // blocks, inner, place.to(tl.int64) + start, line & (place < left), line


@triton.jit
def pointers(array, tile, FORM):
    outer, inner, place, _, _ = tile
    outer_step, inner_step, step = array.steps
    at = array.at + outer * multiple(outer_step, FORM.ALONG * FORM.ACROSS)
    return at + inner * multiple(inner_step, FORM.ALONG) + place * multiple(step, FORM.ACROSS)


@triton.jit
def load(array, tile, FORM):
    """In the type that is computed in; 0 outside."""
    return tl.load(pointers(array, tile, FORM), mask=tile[3], other=0.0).to(FORM.T)


@triton.jit
def valid(where, tile, FORM):
    """Which elements are inside and not masked."""
    if where.at is None:
        return tile[3]
    else:
        return tl.load(pointers(where, tile, FORM), mask=tile[3], other=0) != 0


@triton.jit
def store(array, tile, value, FORM):
    tl.store(pointers(array, tile, FORM), value.to(array.at.dtype.element_ty), mask=tile[3])


@triton.jit
def number(value, T: tl.constexpr):
    """An argument, or a constant, in type T."""
    return tl.full([1, 1], value, T)


@triton.jit
def row_sum(a):
    return tl.sum(a, axis=1, keep_dims=True)


@triton.jit
def row_max(a):
    """NaN does not count, unless there is nothing else."""
    return tl.max(a, axis=1, keep_dims=True)


@triton.jit
def inverse_power(a):
    """The power of two that brings a > 0 to between 1 and 2."""
    if a.dtype == tl.float64:
        exponent = a.to(tl.int64, bitcast=True) & (0x7FF << 52)
        return ((2046 << 52) - exponent).to(tl.float64, bitcast=True)
    else:
        exponent = a.to(tl.int32, bitcast=True) & (0xFF << 23)
        return ((254 << 23) - exponent).to(tl.float32, bitcast=True)


# --- sums that lose less than their type; kernels are compiled without contraction ----------------------


@triton.jit
def two_sum(a, b):
    """s + e = a + b exactly, s = fl(a + b).  Knuth, TAOCP 2, 4.2.2, theorem B."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@triton.jit
def two_product(a, b):
    """p + e = a·b exactly, p = fl(a·b)."""
    p = a * b
    return p, tl.fma(a, b, -p)


@triton.jit
def row_sum_in_two(a, most):
    """The sum of a ≤ `most` as upper + lower.  a is cut at 2⁻¹⁴ of `most` (2⁻²⁶ in float64): the sum of the
    upper parts has no rounding errors while it is below 2¹⁰ (2²⁶), and those of the lower ones are small."""
    cut = most * (1.5 * 2.0**26 if a.dtype == tl.float64 else 1.5 * 2.0**9)
    upper = (a + cut) - cut
    return row_sum(upper), row_sum(a - upper)
