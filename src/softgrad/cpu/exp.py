"""The exponential and the logarithm, as scalar code that LLVM vectorises where a loop calls it."""

from numba import njit, types
from numba.extending import overload

from .intrinsics import bits, choose, fma, power_of_two

LOG2E = 1.4426950408889634


@njit(nogil=True, error_model="numpy")
def is_double(like):
    """Whether it is a float64; a constant."""
    T = type(like)
    return T(1) + T(2.0**-52) > T(1)


@njit(nogil=True, error_model="numpy")
def one_of(like):
    """ONE, by which the powers of numbers of this type are multiplied (see `parts`)."""
    return 2.0**500 if is_double(like) else 2.0**64


def parts(t, lost):
    """(w, b), such that (1 + w)·b = exp(t + lost)·ONE for LEAST ≤ t ≤ 0 and a `lost` below an ulp of it.

    With k = round(t/ln 2) and r = t + lost − k·ln 2 it is (1 + w)·2^k·ONE, w = r + r²·q(r) = exp(r) − 1.  k
    is read off the bits of t/ln 2 + MAGIC, whose ulp is 1.  ONE, 2⁶⁴ or 2⁵⁰⁰, keeps the results
    normal numbers until they are divided by their sum.  The coefficients are minimax ones
    (`tools/exp_polynomial.py`).
    """
    raise NotImplementedError("compiled only")


def power(t, lost):
    """exp(t + lost)·ONE, to 0.9 ulp; 0 where no type holds exp(t)."""
    raise NotImplementedError("compiled only")


def parts32(t, lost):
    T = types.float32
    shifted = fma(t, T(LOG2E), T(12582912.0 + 127 + 64))
    k = shifted - T(12582912.0 + 127 + 64)
    r = fma(k, T(-0.6931471824645996), t) + fma(k, T(1.9046542121259336e-09), lost)
    q = fma(r, T(0.0013857714366167784), T(0.008369199000298977))
    q = fma(r, q, T(0.04166810214519501))
    q = fma(r, q, T(0.16666516661643982))
    q = fma(r, q, T(0.4999999403953552))
    return fma(r * r, q, r), power_of_two(shifted, 23)


def power32(t, lost):
    w, b = parts(t, lost)
    return types.float32(0) if t < types.float32(-104) else (w + types.float32(1)) * b


def parts64(t, lost):
    shifted = fma(t, LOG2E, 6755399441055744.0 + (1023 + 500))
    k = shifted - (6755399441055744.0 + (1023 + 500))
    r = fma(k, -0.6931471805599453, t) + fma(k, -2.3190468138462996e-17, lost)
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
    return fma(r * r, q, r), power_of_two(shifted, 52)


def power64(t, lost):
    w, b = parts(t, lost)
    return 0.0 if t < -746.0 else (w + 1.0) * b


def upper_half(p):
    """A power as a multiple of 2⁻¹⁴·ONE, or 2⁻²⁷·ONE: 1,024 of them have a sum without rounding errors."""
    raise NotImplementedError("compiled only")


def upper_half32(p):
    return (p + types.float32(1.5 * 2.0**73)) - types.float32(1.5 * 2.0**73)


def upper_half64(p):
    return (p + 1.5 * 2.0**525) - 1.5 * 2.0**525


@overload(parts, jit_options={"error_model": "numpy"})
def _parts(t, lost):
    return parts32 if t == types.float32 else parts64


@overload(power, jit_options={"error_model": "numpy"})
def _power(t, lost):
    return power32 if t == types.float32 else power64


@overload(upper_half, jit_options={"error_model": "numpy"})
def _upper_half(p):
    return upper_half32 if p == types.float32 else upper_half64


@njit(nogil=True, error_model="numpy")
def log1p(z):
    """log(1 + z) of a float64 z ≥ 0, to 1.1 ulp."""
    whole = 1.0 + z
    return logarithm(whole, z - (whole - 1.0))


@njit(nogil=True, error_model="numpy", forceinline=True)  # else no loop is cut into lanes
def logarithm(whole, lost):
    """log(whole + lost) of a float64 that is a normal number above 0, and what rounding took from it.

    It is m·2^k, m from √½ to √2; k is put into the low bits of 2⁵², to be read as a number.  With
    f = m − 1 and s = f/(f + 2), log m = 2·artanh s = f − s·f + s·(2/3·s² + 2/5·s⁴ + …), whose largest
    term is exact.
    """
    k = bits((bits(whole) >> 52) | 0x4330000000000000) - (2.0**52 + 1023)
    m = bits((bits(whole) & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)
    large = m > 1.4142135623730951
    k, f = choose(large, k + 1.0, k), choose(large, m * 0.5, m) - 1.0
    s = f / (f + 2.0)
    square, half = s * s, f * f * 0.5
    r = fma(square, 2 / 23, 2 / 21)
    r = fma(square, r, 2 / 19)
    r = fma(square, r, 2 / 17)
    r = fma(square, r, 2 / 15)
    r = fma(square, r, 2 / 13)
    r = fma(square, r, 2 / 11)
    r = fma(square, r, 2 / 9)
    r = fma(square, r, 2 / 7)
    r = fma(square, r, 2 / 5)
    r = fma(square, r, 2 / 3) * square
    near = half - fma(s, half + r, k * 1.9082149292705877e-10)
    return fma(k, 0.6931471803691238, f - near) + lost / whole
