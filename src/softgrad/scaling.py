"""A scale in the three numbers that the kernels take for it."""

from __future__ import annotations

import functools
import math

import numpy as np


@functools.lru_cache(maxsize=256)
def in_parts(scale: float, double: bool) -> tuple[float, float, float]:
    """(factor, low part, power of two): their product is the scale.

    Factor and low part are numbers of the type that the kernels compute in, float64 if `double`, or else
    float32; from 1 to 2 in sum, so that the low part is no subnormal number.
    """
    fraction, exponent = math.frexp(scale)
    fraction, power = 2 * fraction, 2.0 ** (exponent - 1)
    if double or scale == 0:
        return fraction, 0.0, power
    factor = float(np.float32(fraction))
    if power < 2.0**-149:  # beyond the smallest float32; the differences are below 2¹²⁸
        return factor, fraction - factor, 2.0**-149
    return factor, float(np.float32(fraction - factor)), power
