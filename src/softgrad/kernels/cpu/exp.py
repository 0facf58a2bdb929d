"""exp for the softmax: of differences that are at most 0, given in two parts."""

from numba.core import types

from .compiling import per_type
from .vec import bits, fma, select

# A power is kept as exp(t)·ONE, so that none is subnormal before it is divided by their sum.
ONE = {types.float32: 2.0**64, types.float64: 2.0**500}

LOG2E = 1.4426950408889634


def power(t, rest):
    """exp(t + rest)·ONE for t ≤ 0 and a `rest` below an ulp of it; 0 where no type holds the result.

    With k = round(t/ln 2) and r = t + rest − k·ln 2 it is 2^k·exp(r), |r| ≤ ln 2 / 2, and exp(r) =
    1 + (r + r²·q(r)).  The coefficients are minimax ones (`tools/exp_polynomial.py`); the error is
    below 0.75 ulp, and power(0, 0) is ONE exactly.  k is read off the bits of t/ln 2 + MAGIC, whose
    ulp is 1: its low bits are k + (what makes them the exponent of 2^k·ONE).
    """
    raise NotImplementedError("compiled only")


@per_type(power)
def compile_power(t, rest):
    return power32 if t.dtype == types.float32 else power64


def power32(t, rest):
    shifted = fma(t, 1.4426950408889634, 12582912.0 + (127 + 64))
    k = shifted - (12582912.0 + (127 + 64))
    r = fma(k, -0.6931471824645996, t)
    r = fma(k, 1.9046542121259336e-09, r) + rest
    q = fma(r, 0.0013857714366167784, 0.008369199000298977)
    q = fma(r, q, 0.04166810214519501)
    q = fma(r, q, 0.16666516661643982)
    q = fma(r, q, 0.4999999403953552)
    e = fma(r * r, q, r) + 1.0
    e = e * bits(bits(shifted) << 23)
    return select(t < -104.0, 0.0, e)


def power64(t, rest):
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
    e = fma(r * r, q, r) + 1.0
    e = e * bits(bits(shifted) << 52)
    return select(t < -746.0, 0.0, e)
