"""exp, log and powers, to an ulp.  As in cpu/exp.py and cpu/real_power.py.

Before Triton 3.9 tl.fma takes a Python constant for a float32: constants are made in the type by `number`.
"""

import triton
import triton.language as tl

from .elements import number, two_product, two_sum

# A power is kept as exp(t)·ONE, so that none is subnormal before it is divided by their sum.
ONE_32, ONE_64 = tl.constexpr(2.0**64), tl.constexpr(2.0**500)
LOG2E = tl.constexpr(1.4426950408889634)
ROOT_HALF = tl.constexpr(0x3FE6A09E667F3BCD)  # the bits of √½
LN2_HI, LN2_LO = tl.constexpr(0.6931471805592082), tl.constexpr(7.371002565167799e-13)  # HI has 40 bits


@triton.jit
def one(T: tl.constexpr):
    return ONE_64 if T == tl.float64 else ONE_32


@triton.jit
def unit(T: tl.constexpr):
    """1/ONE."""
    return 2.0**-500 if T == tl.float64 else 2.0**-64


@triton.jit
def poly(x, p, constant):
    """p·x + constant."""
    return tl.fma(x, p, number(constant, x.dtype))


@triton.jit
def parts(t, lost):
    """(w, b), (1 + w)·b = exp(t + lost)·ONE, for t ≤ 0 and a `lost` below an ulp of it.

    With k = round(t/ln 2) and r = t + lost − k·ln 2 it is (1 + w)·2^k·ONE, w = r + r²·q(r) = exp(r) − 1.
    k is read off the bits of t/ln 2 + 1.5·2²³ (1.5·2⁵²), whose ulp is 1.  The coefficients are minimax ones
    (`tools/exp_polynomial.py`).
    """
    if t.dtype == tl.float64:
        shifted = poly(t, number(LOG2E, t.dtype), 6755399441055744.0 + (1023 + 500))
        k = shifted - (6755399441055744.0 + (1023 + 500))
        r = tl.fma(k, number(-0.6931471805599453, t.dtype), t)
        r = tl.fma(k, number(-2.3190468138462996e-17, t.dtype), r) + lost
        q = poly(r, number(2.099978970341247e-09, t.dtype), 2.511444937035761e-08)
        q = poly(r, q, 2.755702847788653e-07)
        q = poly(r, q, 2.7557227863035842e-06)
        q = poly(r, q, 2.4801587574256738e-05)
        q = poly(r, q, 0.00019841269903483414)
        q = poly(r, q, 0.0013888888888778609)
        q = poly(r, q, 0.008333333333314041)
        q = poly(r, q, 0.041666666666666824)
        q = poly(r, q, 0.16666666666666688)
        q = poly(r, q, 0.5)
        b = (shifted.to(tl.int64, bitcast=True) << 52).to(tl.float64, bitcast=True)
    else:
        shifted = poly(t, number(LOG2E, t.dtype), 12582912.0 + (127 + 64))
        k = shifted - (12582912.0 + (127 + 64))
        r = tl.fma(k, number(-0.6931471824645996, t.dtype), t)
        r = tl.fma(k, number(1.9046542121259336e-09, t.dtype), r) + lost
        q = poly(r, number(0.0013857714366167784, t.dtype), 0.008369199000298977)
        q = poly(r, q, 0.04166810214519501)
        q = poly(r, q, 0.16666516661643982)
        q = poly(r, q, 0.4999999403953552)
        b = (shifted.to(tl.int32, bitcast=True) << 23).to(tl.float32, bitcast=True)
    return tl.fma(r * r, q, r), b


@triton.jit
def is_faint(t):
    """Whether no type holds exp(t)."""
    return t < (-746.0 if t.dtype == tl.float64 else -104.0)


@triton.jit
def power(t, lost):
    """exp(t + lost)·ONE, to 0.75 ulp; 0 where no type holds exp(t).  power(0, 0) is ONE."""
    w, b = parts(t, lost)
    return tl.where(is_faint(t), 0.0, (w + 1.0) * b)


@triton.jit
def rough_power(t):
    """exp(t)·ONE for 16-bit results, by the hardware's exp2: as a square, since that gives no subnormal."""
    half = tl.exp2(t * (0.5 * LOG2E))
    return (half * ONE_32) * half


@triton.jit
def argument(v, top, scale):
    """scale·(v − top) and what rounding took from it.  The scale is (factor + low)·power; None is 1."""
    if scale is None:
        return two_sum(v, -top)
    else:
        T = v.dtype
        factor, low, power_of_two = number(scale[0], T), number(scale[1], T), number(scale[2], T)
        # halves have a difference for certain, which a small scale may make a number that counts
        d, lost = two_sum(v * 0.5, top * -0.5)
        d, lost = d * power_of_two, lost * power_of_two
        t, rest = two_product(d, factor)
        rest = rest + tl.fma(lost, factor, d * low)
        zero = factor == 0.0
        t = tl.where(zero, tl.where(v == -float("inf"), v, v * 0.0), t * 2.0)
        return t, tl.where(zero, v * 0.0, rest * 2.0)


@triton.jit
def log(w, rest):
    """log(w + rest) as a sum of two numbers, whose error is about 2⁻⁵⁶ of it; `rest` is below an ulp of
    w > 0.  NaN for NaN.

    With w = 2^k·m, √½ ≤ m < √2, and f = m − 1, s = f/(2 + f) it is k·ln 2 + f − f²/2 + s·(f²/2 + p), where
    p = Σ 2s^(2i)/(2i + 1) = (2·artanh(s) − 2s)/s.  All terms before the last are in two parts.
    """
    tiny = w < 2.0**-1000
    bits = tl.where(tiny, w * 2.0**100, w).to(tl.int64, bitcast=True)
    k = (bits - ROOT_HALF) >> 52
    m = (bits - (k << 52)).to(tl.float64, bitcast=True)
    e = tl.where(tiny, 0.0, rest * ((1023 - k) << 52).to(tl.float64, bitcast=True)) / m
    exponent = k.to(tl.float64) - tl.where(tiny, 100.0, w * 0.0)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    p = poly(z, number(2 / 21, z.dtype), 2 / 19)
    p = poly(z, p, 2 / 17)
    p = poly(z, p, 2 / 15)
    p = poly(z, p, 2 / 13)
    p = poly(z, p, 2 / 11)
    p = poly(z, p, 2 / 9)
    p = poly(z, p, 2 / 7)
    p = poly(z, p, 2 / 5)
    p = poly(z, p, 2 / 3)
    half, half_lost = two_product(f, f * 0.5)
    lead, lost = two_sum(exponent * LN2_HI, f)
    lead, more = two_sum(lead, -half)
    last = tl.fma(s, tl.fma(z, p, half), tl.fma(exponent, number(LN2_LO, z.dtype), e - half_lost))
    return two_sum(lead, last + (lost + more))


@triton.jit
def log1p(z):
    """log(1 + z) for z ≥ 0, to 1.1 ulp.

    As in `log`; of float32 log m = 2·artanh s = f − s·f + s·(2/3·s² + 2/5·s⁴ + …), its largest term exact.
    """
    whole = z + 1.0
    lost = z - (whole - 1.0)
    if z.dtype == tl.float64:
        lead, more = log(whole, lost)
        return lead + more
    else:
        bits = whole.to(tl.int32, bitcast=True)
        k = (bits - 0x3F3504F3) >> 23
        f, k = (bits - (k << 23)).to(tl.float32, bitcast=True) - 1.0, k.to(tl.float32)
        s = f / (f + 2.0)
        square, half = s * s, f * f * 0.5
        r = poly(square, number(2 / 11, tl.float32), 2 / 9)
        r = poly(square, r, 2 / 7)
        r = poly(square, r, 2 / 5)
        r = poly(square, r, 2 / 3) * square
        near = half - tl.fma(s, half + r, k * 1.428606765330187e-06)
        return tl.fma(k, number(0.693145751953125, tl.float32), f - near) + lost / whole


@triton.jit
def raised(w, rest, hi, lo):
    """(w + rest)^(hi + lo) for w > 0, if that is not far above 1; NaN for NaN.

    The error is below 1 ulp where the result is above 2⁻³⁰, and grows to 2 ulp towards the smallest.
    """
    lead, more = log(w, rest)
    t, lost = two_product(lead, hi)
    return power(t, lost + tl.fma(more, hi, lead * lo)) * unit(tl.float64)
