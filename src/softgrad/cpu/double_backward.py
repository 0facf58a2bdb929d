"""The derivative of the vjp by x, for the cotangent v of its result.

With m = ⟨y,dy⟩/⟨y,1⟩ and w = ⟨y,v⟩/⟨y,1⟩ the means it is J p, p = (v − w)∘(dy − m), that is
grad_x = y ∘ (p − ⟨y,p⟩/⟨y,1⟩).  The derivative by dy is J v, which is a vjp.
"""

from numba import njit, uint64

from .intrinsics import load, plus, plus_product, store, zero
from .vjp import BLOCK, centred

helper = njit(nogil=True, error_model="numpy")


@helper
def weight_of(s, at_s, n):
    """⟨s,1⟩ of a row."""
    total = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = zero(s)
        for i in range(k, min(k + uint64(BLOCK), n)):
            part = plus(part, load(s, at_s + i))
        total += part
    return total


@helper
def curved(s, dy, v, grad_x, at_s, at_dy, at_v, at_x, n, slope, scale):
    """grad_x of a row with the weights s; their slope multiplies p, if it is not 1 throughout (None)."""
    T, one = type(zero(s)), uint64(1)
    b = weight_of(s, at_s, n)
    if b == 0:
        for i in range(n):
            store(grad_x, at_x + i, T(0))
        return
    h, ref, q, r = centred(s, dy, at_s, at_dy, one, one, n, b)
    h_v, ref_v, q_v, r_v = centred(s, v, at_s, at_v, one, one, n, b)
    total = 0.0
    for k in range(uint64(0), n, uint64(BLOCK)):
        part = zero(s)
        for i in range(k, min(k + uint64(BLOCK), n)):
            d = ((load(dy, at_dy + i) * h - ref) - q) - r
            u = ((load(v, at_v + i) * h_v - ref_v) - q_v) - r_v
            if slope is not None:
                u *= load(slope, i)
            part = plus_product(part, load(s, at_s + i), d * u)
        total += part
    mean = T(total / b)
    for i in range(n):
        d = ((load(dy, at_dy + i) * h - ref) - q) - r
        u = ((load(v, at_v + i) * h_v - ref_v) - q_v) - r_v
        if slope is not None:
            u *= load(slope, i)
        found = (d * u - mean) * load(s, at_s + i)
        store(grad_x, at_x + i, found * (T(1) / h) * (T(1) / h_v) * scale * scale)


def rows(y, dy, v, grad_x, y_step, dy_step, v_step, x_step, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    n, y_step, dy_step = uint64(n), uint64(y_step), uint64(dy_step)
    v_step, x_step = uint64(v_step), uint64(x_step)
    T = type(zero(y))
    scale = T(numbers[0])
    for row in range(uint64(count)):
        at_y, at_dy, at_v, at_x = row * y_step, row * dy_step, row * v_step, row * x_step
        curved(y, dy, v, grad_x, at_y, at_dy, at_v, at_x, n, None, scale)
