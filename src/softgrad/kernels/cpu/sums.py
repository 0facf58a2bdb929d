"""Sums that lose less than the type they are kept in: error-free additions, and what they serve."""

from numba.core import types

from .buffer import BFLOAT16, FLOAT16
from .compiling import inline, per_type
from .memory import zeros
from .vec import as_type_of, double, fma


@inline
def two_sum(a, b):
    """s and e with s + e = a + b exactly, s = fl(a + b).  Knuth, TAOCP 2, 4.2.2, theorem B."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@inline
def two_difference(a, b):
    """s and e with s + e = a - b exactly, s = fl(a - b)."""
    s = a - b
    t = s - a
    return s, (a - (s - t)) - (b + t)


@inline
def two_product(a, b):
    """p and e with p + e = a·b exactly, p = fl(a·b)."""
    p = a * b
    return p, fma(a, b, p * -1.0)


def wide_zero(array):
    """Zeros of the type in which sums over `array` are kept.

    It holds a product of two elements without an error: float64 for float32, float32 for the 16-bit
    types.  float64 has nothing wider.
    """
    raise NotImplementedError("compiled only")


@per_type(wide_zero)
def compile_wide_zero(array):
    if array.dtype in (FLOAT16, BFLOAT16):
        return lambda array: zeros(array)
    return lambda array: double()


def add_power(total, rest, e):
    """total + rest += e, for e in [0, `exp.ONE`] from `exp.power`: without an error that matters.

    float32 is added up in float64.  float64 is cut at 2⁻²⁶ of `exp.ONE`: the upper parts are whole
    numbers of one unit, whose sum is exact for 2²⁶ elements a lane; the lower ones add to `rest`, and
    what is rounded there is 2⁻⁷⁸ of the whole.
    """
    raise NotImplementedError("compiled only")


CUT = 1.5 * 2.0 ** (500 + 26)  # adding this rounds to whole multiples of 2^(500+26-52)


@per_type(add_power)
def compile_add_power(total, rest, e):
    if e.dtype == types.float32:
        return lambda total, rest, e: (total + as_type_of(e, total), rest)

    def add(total, rest, e):
        upper = (e + CUT) - CUT
        return total + upper, rest + (e - upper)

    return add
