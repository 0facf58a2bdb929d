"""The products of sparsemax and entmax: those of softmax with the weights s = y^(2−α) for y.

The gradient for alpha is made of the product.
"""

import math

import numpy as np
from numba import int64, njit, uint32, uint64

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
FEW = 256  # elements of columns that are computed whole
LISTED = 20480  # elements of the supports of columns that are held at once, or the length of one
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
def smallest(like):
    """The smallest number above 0."""
    return type(like)(5e-324 if is_double(like) else 2.0**-149)


@helper
def collect(y, dx, at_y, at_dx, n, low, places):
    """Put down where a row is not below `low`, and set dx to 0; how many places there are is returned."""
    T = type(low)
    end = uint64(0)
    for k in range(uint64(0), n, uint64(BLOCK)):
        stop, some = min(k + uint64(BLOCK), n), T(0)
        for i in range(k, stop):
            some = plus(some, choose(load(y, at_y + i) < low, T(0), T(1)))
            store(dx, at_dx + i, zero(dx))
        if some != T(0):
            for i in range(k, stop):
                places[end] = i
                end += uint64(not load(y, at_y + i) < low)
    return end


@helper
def of_support(s, d, found, at, used, alpha, spoilt, numbers, room):
    """The product of what was collected of a row, or column; `spoilt` is NaN if a dy elsewhere is not finite.

    Whether the whole of it is NaN is returned.
    """
    T, s, d, found = type(zero(s)), after(s, at), after(d, at), after(found, at)
    weigh(s, uint64(0), uint64(used), s, uint64(0), alpha)
    product(s, d, found, found, used, used, used, used, used, int64(1), numbers, room)
    return spoilt != T(0) or load(found, 0) != load(found, 0)


def rows(y, dy, dx, _, y_step, dy_step, dx_step, __, n, count, numbers, room):
    """`count` rows of n elements, a step apart in each array.

    Of a long row only the support is computed, and then put where it belongs; of short ones all, with the
    weights of some of them in scratch memory.
    """
    T, alpha = type(zero(y)), numbers[ALPHA]
    if n * (8 if is_double(zero(y)) else 4) <= SHORT:
        many = max(int64(1), int64(WEIGHED) // n)
        s = pointer_to(room, zero(y))
        room += 8 * max(int64(WEIGHED), n)
        for first in range(int64(0), count, many):
            some = min(many, count - first)
            for r in range(some):
                weigh(y, uint64((first + r) * y_step), uint64(n), s, uint64(r * n), alpha)
            dy_there, dx_there = after(dy, first * dy_step), after(dx, first * dx_step)
            product(s, dy_there, dx_there, dx, n, dy_step, dx_step, n, n, some, numbers, room)
        return
    size = 8 * n
    s, d, found = pointer_to(room, zero(y)), pointer_to(room + size, dy), pointer_to(room + 2 * size, dx)
    places = pointer_to(room + 3 * size, uint32(0))
    n = uint64(n)
    for r in range(uint64(count)):
        at_y, at_dy, at_dx = r * uint64(y_step), r * uint64(dy_step), r * uint64(dx_step)
        used, spoilt = collect(y, dx, at_y, at_dx, n, smallest(zero(y)), places), zero(y)
        for i in range(n):
            spoilt = plus_product(spoilt, load(dy, at_dy + i), T(0))
        if used == 0:
            continue
        for j in range(used):
            s[j], d[j] = load(y, at_y + uint64(places[j])), dy[at_dy + uint64(places[j])]
        if of_support(s, d, found, uint64(0), int64(used), alpha, spoilt, numbers, room + 4 * size):
            for i in range(n):
                store(dx, at_dx + i, T(np.nan))
        else:
            for j in range(used):
                dx[at_dx + uint64(places[j])] = found[j]


@helper
def listed(y, dy, dx, y_step, dy_step, dx_step, n, width, most, begin, spoilt, places, column, row, kept, given):
    """List the supports of columns on one way through memory, and set dx to 0.

    How many elements they have is returned, or a number beyond `most`; of each column in `begin`.
    """
    T, end = type(zero(y)), uint64(0)
    for c in range(width):
        begin[c], spoilt[c] = 0, T(0)
    for i in range(n):
        used = collect(y, dx, i * y_step, i * dx_step, width, smallest(zero(y)), places)
        if end + used > most:
            return end + used
        for c in range(width):
            store(spoilt, c, fma(load(dy, i * dy_step + c), T(0), spoilt[c]))
        for j in range(used):
            c = uint64(places[j])
            begin[c] += 1
            column[end], row[end] = c, i
            kept[end], given[end] = load(y, i * y_step + c), dy[i * dy_step + c]
            end += uint64(1)
    return end


def columns(y, dy, dx, _, y_step, dy_step, dx_step, __, n, width, numbers, room):
    """The same for up to `TILE` columns side by side.

    The supports of long ones are listed as they lie in memory, as many as fit, and put in order.
    """
    T, alpha = type(zero(y)), numbers[ALPHA]
    if n <= FEW:
        s = pointer_to(room + 7 * vjp.SECTION, zero(y))
        for i in range(n):
            weigh(y, uint64(i * y_step), uint64(width), s, uint64(i * width), alpha)
        product_of_columns(s, dy, dx, dx, width, dy_step, dx_step, width, n, width, numbers, room)
        return
    most = max(n, int64(LISTED))
    begin, spoilt = pointer_to(room, int64(0)), pointer_to(room + vjp.SECTION, zero(y))
    places, room = pointer_to(room + 2 * vjp.SECTION, uint32(0)), room + 3 * vjp.SECTION
    column, row, room = pointer_to(room, uint32(0)), pointer_to(room + 4 * most, uint32(0)), room + 8 * most
    size = most * (8 if is_double(zero(y)) else 4)
    s, d, given = pointer_to(room, zero(y)), pointer_to(room + size, dy), pointer_to(room + 2 * size, dy)
    kept, found = pointer_to(room + 3 * size, zero(y)), pointer_to(room + 3 * size, dx)  # one after the other
    room += 4 * size
    n, y_step, dy_step, dx_step = uint64(n), uint64(y_step), uint64(dy_step), uint64(dx_step)
    first, some = uint64(0), uint64(width)
    while first < uint64(width):
        some = min(some, uint64(width) - first)
        end = listed(
            *(after(y, first), after(dy, first), after(dx, first), y_step, dy_step, dx_step),
            *(n, some, uint64(most), begin, spoilt, places, column, row, kept, given),
        )
        if end > uint64(most):
            some //= uint64(2)
            continue
        start = int64(0)
        for c in range(some):
            start, begin[c] = start + begin[c], start
        for k in range(end):
            at = uint64(begin[column[k]])
            begin[column[k]] += 1
            s[at], d[at] = kept[k], given[k]
        start = int64(0)
        for c in range(some):
            used = begin[c] - start
            if used != 0 and of_support(s, d, found, uint64(start), used, alpha, spoilt[c], numbers, room):
                spoilt[c] = T(np.nan)
            elif used != 0:
                spoilt[c] = T(0)
            start, begin[c] = begin[c], start
        for k in range(end):
            at = uint64(begin[column[k]])
            begin[column[k]] += 1
            dx[uint64(row[k]) * dx_step + first + uint64(column[k])] = found[at]
        start = int64(0)
        for c in range(some):
            if begin[c] != start and spoilt[c] != T(0):
                for i in range(n):
                    store(dx, i * dx_step + first + c, T(np.nan))
            start = begin[c]
        first += some


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


@helper
def keep(y, dy, at_y, at_dy, start, stop, kept, d, places, end):
    """Copy those y that are not 0, their dy, and where they are; the new end of the copies is returned."""
    for i in range(start, stop):
        w = load(y, at_y + i)
        kept[end], d[end], places[end] = w, dy[at_dy + i], i
        end += uint64(w != 0)
    return end


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
    return max(8 * WEIGHED, 32 * n) + vjp.rows_room(n, narrow)


def columns_room(n: int, width: int, narrow: bool) -> int:
    if n <= FEW:
        return vjp.columns_room(n, width, narrow) + (4 if narrow else 8) * n * width
    return 3 * vjp.SECTION + (24 if narrow else 40) * max(n, LISTED) + vjp.rows_room(n, narrow)
