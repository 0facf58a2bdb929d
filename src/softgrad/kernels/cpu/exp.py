"""exp for the softmax: of differences that are at most 0, given in two parts."""

from numba.core import types

from .compiling import inline, per_type
from .vec import bits, fma, select

# A power is kept as exp(t)·ONE, so that none is subnormal before it is divided by their sum.
ONE = {types.float32: 2.0**64, types.float64: 2.0**500}

LOG2E = 1.4426950408889634


def parts(t, rest):
    """w and a power of two, (1 + w)·power = exp(t + rest)·ONE, for t ≤ 0 and a `rest` below an ulp of it.

    With k = round(t/ln 2) and r = t + rest − k·ln 2 the power is 2^k·ONE and w = r + r²·q(r) = exp(r) − 1,
    |r| ≤ ln 2 / 2; near t = 0, where k = 0, it is exp(t) − 1 to an ulp.  The coefficients are minimax ones
    (`tools/exp_polynomial.py`).  k is read off the bits of t/ln 2 + MAGIC, whose ulp is 1: its low bits are
    k + (what makes them the exponent of 2^k·ONE).
    """
    raise NotImplementedError("compiled only")


@per_type(parts)
def compile_parts(t, rest):
    return parts32 if t.dtype == types.float32 else parts64


def parts32(t, rest):
    shifted = fma(t, 1.4426950408889634, 12582912.0 + (127 + 64))
    k = shifted - (12582912.0 + (127 + 64))
    r = fma(k, -0.6931471824645996, t)
    r = fma(k, 1.9046542121259336e-09, r) + rest
    q = fma(r, 0.0013857714366167784, 0.008369199000298977)
    q = fma(r, q, 0.04166810214519501)
    q = fma(r, q, 0.16666516661643982)
    q = fma(r, q, 0.4999999403953552)
    return fma(r * r, q, r), bits(bits(shifted) << 23)


def parts64(t, rest):
    shifted = fma(t, 1.4426950408889634, 6755399441055744.0 + (1023 + 500))
    k = shifted - (6755399441055744.0 + (1023 + 500))
    r = fma(k, -0.6931471805599453, t)
    r = fma(k, -2.3190468138462996e-17, r) + rest
    q = fma(r, 2.099978970341247e-09, 2.511444937035761e-08)
    q = fma(r, q, 2.755702847788653e-07)
    q = fma(r, q, 2.7557227863035842e-06)
    q = fma(r, q, 2.4801587574256738e-05)
    q = fma(r, q, 0.00019841269903483414)
    q = fma(r, q, 0.0013888888888778609)
    q = fma(r, q, 0.008333333333314041)
    q = fma(r, q, 0.041666666666666824)
    q = fma(r, q, 0.16666666666666688)
    q = fma(r, q, 0.5)
    return fma(r * r, q, r), bits(bits(shifted) << 52)


def power_of(t, w, two_k):
    """(1 + w)·two_k, which are the `parts` of t; 0 where no type holds it."""
    raise NotImplementedError("compiled only")


@per_type(power_of)
def compile_power_of(t, w, two_k):
    lowest = -104.0 if t.dtype == types.float32 else -746.0
    return lambda t, w, two_k: select(t < lowest, 0.0, (w + 1.0) * two_k)


@inline
def power(t, rest):
    """exp(t + rest)·ONE for t ≤ 0 and a `rest` below an ulp of it; 0 where no type holds the result.

    The error is below 0.75 ulp, and power(0, 0) is ONE exactly.
    """
    w, two_k = parts(t, rest)
    return power_of(t, w, two_k)
