"""The products of sparsemax and entmax: those of softmax with the weights s = y^(2−α) for y.

The gradient for alpha is made of the product.
"""

import math

import numpy as np
from numba import int64, njit, uint64

from . import vjp
from .double_backward import curved
from .drive import ALPHA
from .exp import is_double, power
from .intrinsics import after, choose, fma, load, plus, plus_product, pointer_to, store, zero
from .real_power import UNIT, log, raised

helper = njit(nogil=True, error_model="numpy")
product, product_of_columns = helper(vjp.rows), helper(vjp.columns)

SHORT = 4096  # bytes of rows that are computed whole
WEIGHED = 512  # elements of the short rows that are computed at once
BLOCK = 16  # elements that are looked at together: is one in the support?

# Beyond α = 2 the smallest y weigh most.  Where one weighs this much more than 1 it holds its row's mean in
# place whatever it weighs, and its own derivative is what the others' add up to.
HEAVIEST, HEAVIEST_DOUBLE = 2.0**100, 2.0**500


@helper
def weigh(y, at_y, n, s, at_s, alpha):
    """s = y^(2−α) where y > 0, else 0; NaN stays."""
    T = type(zero(y))
    if alpha == 2.0:
        for i in range(n):
            w = load(y, at_y + i)
            s[at_s + i] = choose(w > T(0), T(1), w * T(0))
    elif alpha == 1.5:
        for i in range(n):
            s[at_s + i] = math.sqrt(load(y, at_y + i))
    else:
        heaviest = HEAVIEST_DOUBLE if is_double(zero(y)) else HEAVIEST
        for i in range(n):
            w = np.float64(load(y, at_y + i))
            p = raised(w, 0.0, abs(2.0 - alpha), 0.0)
            p = choose(alpha > 2.0, 1.0 / p, p)
            s[at_s + i] = T(choose(w > 0.0, choose(p > heaviest, heaviest, p), w * 0.0))


@helper
def keep(y, dy, at_y, at_dy, start, stop, kept, d, places, end):
    """Copy those y that are not 0, their dy, and where they are; the new end of the copies is returned."""
    for i in range(start, stop):
        w = load(y, at_y + i)
        kept[end], d[end], places[end] = w, dy[at_dy + i], i
        end += uint64(w != 0)
    return end


@helper
def support(y, dy, dx, at_y, at_dy, at_dx, n, kept, d, places):
    """Copy the support of a row, and set dx to 0.

    How many elements it has is returned, and what y·0 and dy·0 add up to: NaN if one is not finite.
    """
    T = type(zero(y))
    end, spoilt = uint64(0), zero(y)
    for k in range(uint64(0), n, uint64(BLOCK)):
        stop = min(k + uint64(BLOCK), n)
        some = zero(y)
        for i in range(k, stop):
            some = plus(some, load(y, at_y + i))
            spoilt = plus_product(spoilt, load(dy, at_dy + i), T(0))
            store(dx, at_dx + i, T(0))
        if some != T(0):
            spoilt += some * T(0)
            end = keep(y, dy, at_y, at_dy, k, stop, kept, d, places, end)
    return end, spoilt


def rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows of n elements, a step apart in each array.

    Of a long row only the support is computed, and then put where it belongs; of short ones all, with the
    weights of some of them in scratch memory.
    """
    T = type(zero(y))
    alpha = numbers[ALPHA]
    many = max(int64(1), int64(WEIGHED) // n)
    short = n * (8 if is_double(zero(y)) else 4) <= SHORT
    size = 8 * max(int64(WEIGHED), n)
    s, d, places = pointer_to(room, zero(y)), pointer_to(room + size, dy), pointer_to(room + 2 * size, n)
    room += size if short else 3 * size
    if short:
        for first in range(int64(0), count, many):
            some = min(many, count - first)
            for r in range(some):
                weigh(y, uint64((first + r) * y_step), uint64(n), s, uint64(r * n), alpha)
            dy_there, dx_there = after(dy, first * dy_step), after(dx, first * dx_step)
            product(s, dy_there, dx_there, dx, n, dy_step, dx_step, n, n, some, numbers, room)
        return
    for r in range(uint64(count)):
        at_y, at_dy, at_dx = r * uint64(y_step), r * uint64(dy_step), r * uint64(dx_step)
        end, spoilt = support(y, dy, dx, at_y, at_dy, at_dx, uint64(n), s, d, places)
        if end == 0:
            continue
        if spoilt != T(0):
            for i in range(uint64(n)):
                store(dx, at_dx + i, T(np.nan))
            continue
        weigh(s, uint64(0), end, s, uint64(0), alpha)
        used, there = int64(end), after(dx, at_dx)
        product(s, d, there, dx, used, used, used, used, used, int64(1), numbers, room)
        for j in range(used - 1, -1, -1):
            v = there[j]
            there[j] = type(v)(0)
            there[places[j]] = v


def columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, with all their weights in scratch memory."""
    s = pointer_to(room + 7 * vjp.SECTION, zero(y))
    for i in range(n):
        weigh(y, uint64(i * y_step), uint64(width), s, uint64(i * width), numbers[ALPHA])
    product_of_columns(s, dy, dx, dx, width, dy_step, dx_step, width, n, width, numbers, room)


def double_backward(y, dy, v, grad_x, y_step, dy_step, v_step, x_step, n, count, numbers, room):
    """The derivative of the vjp by x: J p, p = s′∘(v − w)∘(dy − m), w and m the means, and s′ = ds/dy."""
    n, y_step, dy_step = uint64(n), uint64(y_step), uint64(dy_step)
    v_step, x_step = uint64(v_step), uint64(x_step)
    T = type(zero(y))
    scale, alpha = T(numbers[0]), numbers[ALPHA]
    s, slope = pointer_to(room, zero(y)), pointer_to(room + 8 * int64(n), zero(y))
    for r in range(uint64(count)):
        at_y, at_dy, at_v, at_x = r * y_step, r * dy_step, r * v_step, r * x_step
        weigh(y, at_y, n, s, uint64(0), alpha)
        for i in range(n):
            w = load(y, at_y + i)
            slope[i] = choose(w == T(0), T(0), T(2.0 - alpha) * s[i] / w)
        curved(s, dy, v, grad_x, uint64(0), at_dy, at_v, at_x, n, slope, scale)


def double_backward_room(n: int, narrow: bool) -> int:
    return 16 * n


@njit(nogil=True, error_model="numpy", forceinline=True)
def psi(y, alpha):
    """−(log y)²·g(t), t = (α−1)·log y, g(t) = (1 − eᵗ(1 − t))/t² = Σ (k+1)/(k+2)!·tᵏ: ∂y/∂α = J ψ."""
    lead, _ = log(y, 0.0)
    t = (alpha - 1.0) * lead
    g = 1.0
    for k in range(17, 0, -1):
        g = fma(g * t, (k + 1) / (k * (k + 2)), 1.0)
    far = (1.0 - power(t, 0.0) * UNIT * (1.0 - t)) / (t * t)
    return lead * lead * -choose(abs(t) < 1.0, g * 0.5, far)


def alpha_vjp(y, dx, total, _, y_step, dx_step, total_step, __, n, count, numbers, room):
    """⟨dx, ψ(y)⟩ over the support, in each element of a row of `total`."""
    T = type(zero(y))
    size = 8 * (int64(n) + BLOCK)
    kept, d, places = pointer_to(room, zero(y)), pointer_to(room + size, dx), pointer_to(room + 2 * size, n)
    n, y_step, dx_step, total_step = uint64(n), uint64(y_step), uint64(dx_step), uint64(total_step)
    for r in range(uint64(count)):
        end = uint64(0)
        for k in range(uint64(0), n, uint64(BLOCK)):
            stop = min(k + uint64(BLOCK), n)
            some = zero(y)
            for i in range(k, stop):
                some = plus(some, load(y, r * y_step + i))
            if some != T(0):
                end = keep(y, dx, r * y_step, r * dx_step, k, stop, kept, d, places, end)
        found = 0.0
        for i in range(end, end + uint64(BLOCK)):  # no remainder that is no vector: ψ(1) = 0
            kept[i], d[i] = T(1), dx[r * dx_step]
        for i in range((end + uint64(BLOCK - 1)) // uint64(BLOCK) * uint64(BLOCK)):
            found = plus(found, np.float64(load(d, i)) * psi(np.float64(kept[i]), numbers[ALPHA]))
        for i in range(n):
            store(total, r * total_step + i, T(found))


def alpha_vjp_room(n: int, narrow: bool) -> int:
    return 24 * (n + BLOCK)


def rows_room(n: int, narrow: bool) -> int:
    return (24 if 8 * n > SHORT else 8) * max(WEIGHED, n) + vjp.rows_room(n, narrow)


def columns_room(n: int, width: int, narrow: bool) -> int:
    return vjp.columns_room(n, width, narrow) + (4 if narrow else 8) * n * width
