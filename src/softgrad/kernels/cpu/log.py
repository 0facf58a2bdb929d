"""log for sums of powers: of float64 from 1 up."""

import math

from numba.core import types

from .compiling import inline, per_type
from .exp import ONE
from .memory import zeros
from .sums import two_sum, wide_zero
from .vec import Vec, as_type_of, bits, fma, select


def log(x):
    """The natural logarithm of x ≥ 1, a number or a Vec of float64; to an ulp, also where it is nearly 0."""
    raise NotImplementedError("compiled only")


@per_type(log)
def compile_log(x):
    return log_of_vec if isinstance(x, Vec) else lambda x: math.log(x)


def log_of_vec(x):
    # x = m·2^k, m from √½ to √2: k is put into the low bits of 2⁵², to be read as a number
    k = bits((bits(x) >> 52) | 0x4330000000000000) - (2.0**52 + 1023)
    m = bits((bits(x) & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)
    large = m > 1.4142135623730951
    k, m = select(large, k + 1.0, k), select(large, m * 0.5, m)
    # log m = 2·artanh s, s = (m − 1)/(m + 1): s·(2 + r), r = 2/3·s² + 2/5·s⁴ + …; and 2·s is f − s·f.  So
    # the largest term, f, is exact
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    r = fma(z, 2 / 23, 2 / 21)
    r = fma(z, r, 2 / 19)
    r = fma(z, r, 2 / 17)
    r = fma(z, r, 2 / 15)
    r = fma(z, r, 2 / 13)
    r = fma(z, r, 2 / 11)
    r = fma(z, r, 2 / 9)
    r = fma(z, r, 2 / 7)
    r = fma(z, r, 2 / 5)
    r = fma(z, r, 2 / 3) * z
    half = f * f * 0.5
    near = half - fma(s, half + r, k * 1.9082149292705877e-10)
    result = fma(k, 0.6931471803691238, f - near)
    return select(x != x, x, result)


ONE_32, ONE_64 = ONE[types.float32], ONE[types.float64]
CUT = 1.5 * 2.0 ** (500 + 26)


def add_apart(ones, others, e):
    """ones + others += e, for e in [0, `exp.ONE`] from `exp.power`, so that small ones count beside ONE.

    The powers that are ONE are added up apart from the others.  float64 is cut, as by `sums.add_power`, to
    the same effect.
    """
    raise NotImplementedError("compiled only")


@per_type(add_apart)
def compile_add_apart(ones, others, e):
    if e.dtype == types.float64:

        def cut(ones, others, e):
            upper = (e + CUT) - CUT
            return ones + upper, others + (e - upper)

        return cut

    def add(ones, others, e):
        is_one = e == ONE_32
        return select(is_one, ones + ONE_32, ones), others + as_type_of(select(is_one, 0.0, e), others)

    return add


def block_of(array):
    """After how many vectors `ones` and `others` join the sums in float64.

    Ones are whole numbers, which float32 holds up to 2²⁴; of the 16-bit types the others are float32 too.
    """
    raise NotImplementedError("compiled only")


@per_type(block_of)
def compile_block_of(array):
    size = {types.float32: 2**20, types.float64: 2**62}.get(array.dtype, 16)
    return lambda array: size


def one(v):
    """`exp.ONE` for the type of v."""
    raise NotImplementedError("compiled only")


@per_type(one)
def compile_one(v):
    number = ONE_32 if getattr(v, "dtype", v) == types.float32 else ONE_64
    return lambda v: number


@inline
def log_of_sum(x, whole, rest):
    """log((whole + rest)/ONE) as the sum of two numbers of `wide_zero(x)`'s type, for sums of powers of x.

    log(s + r) = log s + r/s for an r below an ulp; where one power is all but the whole sum, s = 1, this is
    what the others come to, to the last bit.
    """
    s, r = two_sum(whole * (1.0 / one(zeros(x))), rest * (1.0 / one(zeros(x))))
    hi, lo = two_sum(log(s), r / s)
    return as_type_of(hi, wide_zero(x)), as_type_of(lo, wide_zero(x))
