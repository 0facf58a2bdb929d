"""Sums that lose less than the type they are kept in: error-free additions, and what they serve.

Kernels are compiled without contraction (`enable_fp_fusion=False`): a·b + c is a product and a sum unless it
is written as `tl.fma`.
"""

import triton
import triton.language as tl


@triton.jit
def two_sum(a, b):
    """s and e with s + e = a + b exactly, s = fl(a + b).  Knuth, TAOCP 2, 4.2.2, theorem B."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@triton.jit
def two_difference(a, b):
    """s and e with s + e = a - b exactly, s = fl(a - b)."""
    s = a - b
    t = s - a
    return s, (a - (s - t)) - (b + t)


@triton.jit
def two_product(a, b):
    """p and e with p + e = a·b exactly, p = fl(a·b)."""
    p = a * b
    return p, tl.fma(a, b, -p)


@triton.jit
def number(value, TYPE: tl.constexpr):
    """A number that a kernel was given, or a constant, in the type of what it is to be multiplied with."""
    return tl.full([1, 1], value, TYPE)


@triton.jit
def product_plus(a, b, constant):
    """fl(a·b + constant).  By itself tl.fma rounds a constant to float32, before Triton 3.9."""
    return tl.fma(a, b, number(constant, a.dtype))


@triton.jit
def inverse(a):
    """1/a rounded to nearest: Triton's own quotients of float32 are off by up to 2 ulp."""
    if a.dtype == tl.float64:
        return 1.0 / a
    else:
        return tl.div_rn(number(1.0, tl.float32), a)


# --- along the axis of a tile: along each row (1), or across the rows down its columns (0) --------------


@triton.jit
def row_sum(a, ACROSS: tl.constexpr):
    return tl.sum(a, axis=0 if ACROSS else 1, keep_dims=True)


@triton.jit
def row_max(a, ACROSS: tl.constexpr):
    """NaN does not count, unless there is nothing else."""
    return tl.max(a, axis=0 if ACROSS else 1, keep_dims=True)


@triton.jit
def exact_row_sum(a, rest, ACROSS: tl.constexpr):
    """`row_sum` of a + rest in two parts, float64: numbers that cancel must not be rounded before they do.

    They are cut at 2⁻²⁶ of the largest: the upper parts are multiples of one unit, whose sum is exact for
    2²⁶ elements in any order, and what the lower lose is 2⁻⁷⁸.
    """
    cut = row_max(tl.abs(a), ACROSS) * (1.5 * 2.0**26)
    upper = (a + cut) - cut
    return two_sum(row_sum(upper, ACROSS), row_sum((a - upper) + rest, ACROSS))
