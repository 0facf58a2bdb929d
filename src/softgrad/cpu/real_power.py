"""log and real powers in float64, of numbers in two parts and with more digits than one part holds."""

from numba import njit

from .exp import power
from .intrinsics import bits, choose, fma
from .vjp import two_sum

ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of √½
MAGIC = 0x4338000000000000  # those of 1.5·2⁵²: a whole number added to them is added to it
LN2_HI, LN2_LO = 0.6931471805592082, 7.371002565167799e-13  # LN2_HI has 40 bits: its multiples are exact
UNIT = 2.0**-500  # 1/ONE of `power`

helper = njit(nogil=True, error_model="numpy", forceinline=True)  # else no loop is cut into lanes


@helper
def log(w, rest):
    """log(w + rest) as a sum of two numbers; `rest` is below an ulp of w > 0.  NaN for NaN.

    With w = 2^k·m, √½ ≤ m < √2, and f = m − 1, s = f/(2 + f) it is k·ln 2 + f − f²/2 + s·(f²/2 + p), where
    p = Σ 2s^(2i)/(2i + 1) = (2·atanh(s) − 2s)/s.  All terms before the last are in two parts, and that is
    less than a tenth of the whole: the error is about 2⁻⁵⁶ of it.
    """
    tiny = w < 2.0**-1000
    b = bits(choose(tiny, w * 2.0**100, w))
    k = (b - ROOT_HALF) >> 52
    m = bits(b - (k << 52))
    e = choose(tiny, 0.0, rest * bits((1023 - k) << 52)) / m
    exponent = (bits(k + MAGIC) - 6755399441055744.0) - choose(tiny, 100.0, w * 0.0)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    p = fma(z, 2 / 21, 2 / 19)
    p = fma(z, p, 2 / 17)
    p = fma(z, p, 2 / 15)
    p = fma(z, p, 2 / 13)
    p = fma(z, p, 2 / 11)
    p = fma(z, p, 2 / 9)
    p = fma(z, p, 2 / 7)
    p = fma(z, p, 2 / 5)
    p = fma(z, p, 2 / 3)
    half = f * (f * 0.5)
    half_lost = fma(f, f * 0.5, -half)
    lead, lost = two_sum(exponent * LN2_HI, f)
    lead, more = two_sum(lead, -half)
    last = fma(s, fma(z, p, half), fma(exponent, LN2_LO, e - half_lost))
    return two_sum(lead, last + (lost + more))


@helper
def raised(w, rest, hi, lo):
    """(w + rest)^(hi + lo) for w > 0, if that is not far above 1; NaN for NaN.

    The error is below 1 ulp where the result is above 2⁻³⁰, and grows to 2 ulp towards the smallest.
    """
    lead, more = log(w, rest)
    t = lead * hi
    lost = fma(lead, hi, -t)
    return power(t, lost + fma(more, hi, lead * lo)) * UNIT
