"""The weights s(y) of the simplex maps: all that their derivatives differ in.

Each has the Jacobian J = diag(s) − s sᵀ/⟨s,1⟩ with s = y^(2−α) where y > 0.  MAP says which: softmax, for
which s = y; sparsemax, for which s is 1; "entmax15", α = 1.5; or entmax of any other α.  In the jvp of
log_softmax exp(y) takes the place of s, in the wider type.
"""

import triton
import triton.language as tl

from .exp import inverse_one, power
from .real_power import raised
from .sums import number

# Beyond α = 2 the smallest y weigh most.  Where one weighs this much more than 1 it holds its row's mean
# in place whatever it weighs, and its own derivative is what the others' add up to.
HEAVIEST_32, HEAVIEST_64 = tl.constexpr(2.0**100), tl.constexpr(2.0**500)


@triton.jit
def faintest(TYPE: tl.constexpr):
    """The smallest number above 0."""
    return 2.0**-1074 if TYPE == tl.float64 else 2.0**-149


@triton.jit
def weight(y, alpha, MAP: tl.constexpr):
    """s(y), in its type."""
    if MAP == "softmax":
        return y
    elif MAP == "log_softmax":
        # what is there weighs something, if next to nothing: 0 says that it is not
        p = power(y, 0.0) * inverse_one(y.dtype)
        return tl.where(y == -float("inf"), 0.0, tl.where(p == 0.0, faintest(y.dtype), p))
    elif MAP == "sparsemax":
        return tl.where(y > 0.0, 1.0, y * 0.0)
    else:
        s = root(y) if MAP == "entmax15" else general(alpha, y).to(y.dtype)
        heaviest = HEAVIEST_64 if y.dtype == tl.float64 else HEAVIEST_32
        return tl.where(y > 0.0, tl.where(s > heaviest, heaviest, s), y * 0.0)


@triton.jit
def root(y):
    return tl.sqrt(y) if y.dtype == tl.float64 else tl.sqrt_rn(y)


@triton.jit
def general(alpha, y):
    """y^(2−α) for y > 0, in float64."""
    exponent = 2.0 - number(alpha, tl.float64)
    y = y.to(tl.float64)
    y = tl.where(y > 0.0, y, 1.0)
    s = raised(y, y * 0.0, tl.abs(exponent), 0.0)
    return tl.where(exponent < 0.0, 1.0 / s, s)


@triton.jit
def lost(y, w, alpha, MAP: tl.constexpr):
    """s(y) − w for the weights w = s(y) as they were rounded; 0 where w is 0, and where none is rounded."""
    if MAP == "softmax" or MAP == "sparsemax" or MAP == "log_softmax":
        return w * 0.0  # Triton 3.6 compiles no None in a tuple that is returned
    else:
        if MAP == "entmax15":  # y = (w + rest)² ≈ w² + 2w·rest
            rest = tl.fma(-w, w, y) * 0.5 / w
        else:  # in float64 there is nothing better, and this is 0
            rest = (general(alpha, y) - w.to(tl.float64)).to(y.dtype)
        heaviest = HEAVIEST_64 if y.dtype == tl.float64 else HEAVIEST_32
        return tl.where((w == 0.0) | (w == heaviest), 0.0, rest)


@triton.jit
def slope(y, s, alpha, MAP: tl.constexpr):
    """ds/dy = (2−α)·y^(1−α), given the weights s."""
    if MAP == "softmax":
        return s * 0.0 + 1.0
    elif MAP == "sparsemax":
        return s * 0.0
    else:
        return tl.where(s == 0.0, 0.0, (2.0 - number(alpha, s.dtype)) * s / y)
