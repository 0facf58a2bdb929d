"""log and real powers in float64, of numbers in two parts.  As in cpu/real_power.py."""

import triton
import triton.language as tl

from .exp import inverse_one, power
from .sums import number, product_plus, two_product, two_sum

ROOT_HALF = tl.constexpr(0x3FE6A09E667F3BCD)  # the bits of √½
LN2_HI, LN2_LO = tl.constexpr(0.6931471805592082), tl.constexpr(7.371002565167799e-13)  # HI has 40 bits
SUBNORMAL, LIFT = tl.constexpr(2.0**-1000), tl.constexpr(100)


@triton.jit
def log(w, rest):
    """log(w + rest) as a sum of two numbers; `rest` is below an ulp of w > 0.  NaN for NaN.

    With w = 2^k·m, √½ ≤ m < √2, and f = m − 1, s = f/(2 + f) it is k·ln 2 + f − f²/2 + s·(f²/2 + p), where
    p = Σ 2s^(2i)/(2i + 1) = (2·atanh(s) − 2s)/s.  All terms before the last are in two parts, and that is
    less than a tenth of the whole: the error is about 2⁻⁵⁶ of it.
    """
    tiny = w < SUBNORMAL
    bits = tl.where(tiny, w * 2.0**LIFT, w).to(tl.int64, bitcast=True)
    k = (bits - ROOT_HALF) >> 52
    m = (bits - (k << 52)).to(tl.float64, bitcast=True)
    e = tl.where(tiny, 0.0, rest * ((1023 - k) << 52).to(tl.float64, bitcast=True)) / m
    exponent = k.to(tl.float64) - tl.where(tiny, LIFT * 1.0, w * 0.0)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    p = product_plus(z, number(2 / 21, z.dtype), 2 / 19)
    p = product_plus(z, p, 2 / 17)
    p = product_plus(z, p, 2 / 15)
    p = product_plus(z, p, 2 / 13)
    p = product_plus(z, p, 2 / 11)
    p = product_plus(z, p, 2 / 9)
    p = product_plus(z, p, 2 / 7)
    p = product_plus(z, p, 2 / 5)
    p = product_plus(z, p, 2 / 3)
    half, half_lost = two_product(f, f * 0.5)
    lead, lost = two_sum(exponent * LN2_HI, f)
    lead, more = two_sum(lead, -half)
    last = tl.fma(s, tl.fma(z, p, half), tl.fma(exponent, number(LN2_LO, exponent.dtype), e - half_lost))
    return two_sum(lead, last + (lost + more))


@triton.jit
def raised(w, rest, hi, lo):
    """(w + rest)^(hi + lo) for w > 0, if that is not far above 1; NaN for NaN.

    The error is below 1 ulp where the result is above 2⁻³⁰, and grows to 2 ulp towards the smallest.
    """
    lead, more = log(w, rest)
    t, t_lost = two_product(lead, hi)
    return power(t, t_lost + tl.fma(more, hi, lead * lo)) * inverse_one(tl.float64)
