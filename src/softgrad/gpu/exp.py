"""exp for the softmax: of differences that are at most 0, given in two parts.  As in cpu/exp.py."""

import triton
import triton.language as tl

from .sums import number, product_plus, two_difference

# A power is kept as exp(t)·ONE, so that none is subnormal before it is divided by their sum.
ONE_32, ONE_64 = tl.constexpr(2.0**64), tl.constexpr(2.0**500)
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def one(TYPE: tl.constexpr):
    return ONE_64 if TYPE == tl.float64 else ONE_32


@triton.jit
def inverse_one(TYPE: tl.constexpr):
    return 2.0**-500 if TYPE == tl.float64 else 2.0**-64


@triton.jit
def parts(t, rest):
    """w and a power of two, (1 + w)·power = exp(t + rest)·ONE, for t ≤ 0 and a `rest` below an ulp of it.

    With k = round(t/ln 2) and r = t + rest − k·ln 2 the power is 2^k·ONE and w = r + r²·q(r) = exp(r) − 1,
    |r| ≤ ln 2 / 2; near t = 0, where k = 0, it is exp(t) − 1 to an ulp.  The coefficients are minimax ones.
    k is read off the bits of t/ln 2 + MAGIC, whose ulp is 1: its low bits are k + (what makes them the
    exponent of 2^k·ONE).
    """
    if t.dtype == tl.float64:
        return parts64(t, rest)
    else:
        return parts32(t, rest)


@triton.jit
def parts32(t, rest):
    shifted = product_plus(t, number(LOG2E, t.dtype), 12582912.0 + (127 + 64))
    k = shifted - (12582912.0 + (127 + 64))
    r = tl.fma(k, number(-0.6931471824645996, k.dtype), t)
    r = tl.fma(k, number(1.9046542121259336e-09, k.dtype), r) + rest
    q = product_plus(r, number(0.0013857714366167784, r.dtype), 0.008369199000298977)
    q = product_plus(r, q, 0.04166810214519501)
    q = product_plus(r, q, 0.16666516661643982)
    q = product_plus(r, q, 0.4999999403953552)
    return tl.fma(r * r, q, r), (shifted.to(tl.int32, bitcast=True) << 23).to(tl.float32, bitcast=True)


@triton.jit
def parts64(t, rest):
    shifted = product_plus(t, number(LOG2E, t.dtype), 6755399441055744.0 + (1023 + 500))
    k = shifted - (6755399441055744.0 + (1023 + 500))
    r = tl.fma(k, number(-0.6931471805599453, k.dtype), t)
    r = tl.fma(k, number(-2.3190468138462996e-17, k.dtype), r) + rest
    q = product_plus(r, number(2.099978970341247e-09, r.dtype), 2.511444937035761e-08)
    q = product_plus(r, q, 2.755702847788653e-07)
    q = product_plus(r, q, 2.7557227863035842e-06)
    q = product_plus(r, q, 2.4801587574256738e-05)
    q = product_plus(r, q, 0.00019841269903483414)
    q = product_plus(r, q, 0.0013888888888778609)
    q = product_plus(r, q, 0.008333333333314041)
    q = product_plus(r, q, 0.041666666666666824)
    q = product_plus(r, q, 0.16666666666666688)
    q = product_plus(r, q, 0.5)
    return tl.fma(r * r, q, r), (shifted.to(tl.int64, bitcast=True) << 52).to(tl.float64, bitcast=True)


@triton.jit
def power_of(t, w, two_k):
    """(1 + w)·two_k, which are the `parts` of t; 0 where no type holds it."""
    lowest = -746.0 if t.dtype == tl.float64 else -104.0
    return tl.where(t < lowest, 0.0, (w + 1.0) * two_k)


@triton.jit
def power(t, rest):
    """exp(t + rest)·ONE for t ≤ 0 and a `rest` below an ulp of it; 0 where no type holds the result.

    The error is below 0.75 ulp, and power(0, 0) is ONE exactly.
    """
    w, two_k = parts(t, rest)
    return power_of(t, w, two_k)


@triton.jit
def argument(v, top, scale):
    """scale·(v − top), and what rounding took from it.

    The scale is (factor + low_part)·power_of_two; None is 1.  Half of v and of top have a difference for
    certain, which a small scale may make a number that counts.
    """
    if scale is None:
        return two_difference(v, top)
    else:
        factor, low_part = number(scale[0], v.dtype), number(scale[1], v.dtype)
        power_of_two = number(scale[2], v.dtype)
        difference, lost = two_difference(v * 0.5, top * 0.5)
        difference, lost = difference * power_of_two, lost * power_of_two
        t = difference * factor
        rest = tl.fma(difference, factor, -t) + tl.fma(lost, factor, difference * low_part)
        none = factor == 0.0
        t = tl.where(none, tl.where(v == -float("inf"), v, v * 0.0), t * 2.0)
        return t, tl.where(none, v * 0.0, rest * 2.0)
