"""log_softmax: y = scale·x − max − log Σ exp(scale·x − max).  The kernels are those of `softmax`."""

import triton
import triton.language as tl

from .exp import argument
from .sums import two_difference, two_sum


@triton.jit
def log_of_sum(whole, rest):
    """log(whole + rest) as the sum of two numbers, float64.

    log(s + r) = log s + r/s for an r below an ulp; where one power is all but the whole sum, s = 1, this is
    what the others come to, to the last bit.
    """
    s, r = two_sum(whole, rest)
    return two_sum(tl.log(s), r / s)


@triton.jit
def less(v, top, scale, hi, lo, WIDE: tl.constexpr):
    """scale·(v − top) − (hi + lo), rounded once, or in something wider and then to x's type."""
    if v.dtype == tl.float64:
        t, lost = argument(v, top, scale)
        y, more = two_difference(t, hi)
        return tl.where(y == -float("inf"), y, y + (more + (lost - lo)))  # there is no `more` of −inf
    else:
        if scale is None:
            return ((v.to(WIDE) - top.to(WIDE)) - hi).to(v.dtype)
        else:
            t, lost = argument(v, top, scale)
            lost = tl.where(t == -float("inf"), 0.0, lost)
            return ((t.to(WIDE) + lost.to(WIDE)) - hi).to(v.dtype)
