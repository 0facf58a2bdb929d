"""The derivative of the vjp by x, for the cotangent v of its result.

With m = ⟨y,dy⟩/⟨y,1⟩ and w = ⟨y,v⟩/⟨y,1⟩ the means it is J p, p = (v − w)∘(dy − m), that is
grad_x = y ∘ (p − ⟨y,p⟩/⟨y,1⟩).  The derivative by dy is J v, which is a vjp.

And the diagonal of the Hessian of a loss of y.
"""

from numba import int64, njit, uint64

from . import vjp
from .intrinsics import after, fma, load, plus, plus_product, pointer_to, store, zero
from .softmax import CHUNK, at_once
from .vjp import BLOCK, centred

helper = njit(nogil=True, error_model="numpy")
product = helper(vjp.rows)


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


@helper
def diagonal(y, dy, h, out, y_step, dy_step, h_step, out_step, n, count, numbers, room):
    """The diagonal of the Hessian of L(softmax(scale·x)), dy = ∂L/∂y and h the diagonal of ∂²L/∂y²:

    scale·(1 − 2y)∘dx + scale²·y²∘(h∘(1 − 2y) + Σ h·y²), where dx is the vjp of dy.
    """
    n, y_step, dy_step = uint64(n), uint64(y_step), uint64(dy_step)
    h_step, out_step, count = uint64(h_step), uint64(out_step), uint64(count)
    T, many = type(zero(y)), at_once(n)
    scale = numbers[0] + numbers[1]
    dx, own = pointer_to(room, zero(y)), room + 8 * int64(many * n)
    for first in range(uint64(0), count, many):
        some = min(many, count - first)
        at_y, at_dy = after(y, first * y_step), after(dy, first * dy_step)
        product(at_y, at_dy, dx, dx, y_step, dy_step, n, n, n, some, numbers, own)
        for j in range(some):
            of_y, of_dx, at_out, factor = j * y_step, j * n, (first + j) * out_step, T(scale)
            if h is None:
                for i in range(n):
                    w = load(at_y, of_y + i)
                    store(out, at_out + i, dx[of_dx + i] * (T(1) - (w + w)) * factor)
            else:
                at_h, total = (first + j) * h_step, 0.0
                for k in range(uint64(0), n, uint64(BLOCK)):
                    part = zero(y)
                    for i in range(k, min(k + uint64(BLOCK), n)):
                        w = load(at_y, of_y + i)
                        part = plus_product(part, load(h, at_h + i) * w, w)
                    total += part
                whole = T(total)
                for i in range(n):
                    w = load(at_y, of_y + i)
                    turned = T(1) - (w + w)
                    bent = (w * factor) * (w * (fma(load(h, at_h + i), turned, whole) * factor))
                    store(out, at_out + i, fma(dx[of_dx + i] * turned, factor, bent))


def diagonal_rows(y, dy, out, _, y_step, dy_step, out_step, __, n, count, numbers, room):
    """Of a loss that is linear in y."""
    diagonal(y, dy, None, out, y_step, dy_step, 0, out_step, n, count, numbers, room)


def diagonal_of_rows(y, dy, h, out, y_step, dy_step, h_step, out_step, n, count, numbers, room):
    """Of one that has second derivatives by y."""
    diagonal(y, dy, h, out, y_step, dy_step, h_step, out_step, n, count, numbers, room)


def diagonal_room(n: int, narrow: bool) -> int:
    return 8 * max(CHUNK, n) + vjp.rows_room(n, narrow)
