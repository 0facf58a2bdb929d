"""The products of sparsemax and entmax: those of softmax with the weights s = y^(2−α) for y.

The gradient for alpha is made of the product.
"""

import math

import numpy as np
from numba import int64, njit, uint32, uint64

from . import vjp
from .double_backward import curved
from .drive import ALPHA
from .entmax import BLOCK, LISTED, collect, listed
from .exp import is_double, power
from .intrinsics import address_of, after, choose, fma, load, plus_product, pointer_to, store, zero
from .real_power import UNIT, log, raised

helper = njit(nogil=True, error_model="numpy")
product, product_of_columns = helper(vjp.rows), helper(vjp.columns)

SHORT = 4096  # bytes of rows that are computed whole
WEIGHED = 512  # elements of the short rows that are computed at once
FEW = 256  # elements of columns that are computed whole
HELD = 512  # elements of supports of which ψ is computed at once

SERIES = tuple((k + 1) / math.factorial(k + 2) for k in range(18))  # of g (see `psi`)

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
        used, spoilt = collect(y, dx, at_y, at_dx, n, smallest(zero(y)), None, places), zero(y)
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
    most = max(n + n % 2, int64(LISTED))  # what follows may be float64s
    begin, places = pointer_to(room, int64(0)), pointer_to(room + vjp.SECTION, uint32(0))
    spoilt, room = pointer_to(room + 2 * vjp.SECTION, zero(y)), room + 3 * vjp.SECTION
    column, row = pointer_to(room, uint32(0)), pointer_to(room + 4 * most, uint32(0))
    place, room = pointer_to(room + 8 * most, uint32(0)), room + 12 * most
    size = most * (8 if is_double(zero(y)) else 4)
    s, d = pointer_to(room, zero(y)), pointer_to(room + size, dy)
    kept, found = pointer_to(room + 2 * size, zero(y)), pointer_to(room + 2 * size, dx)  # one after the other
    room += 3 * size
    n, most = uint64(n), uint64(most)
    y_step, dy_step, dx_step = uint64(y_step), uint64(dy_step), uint64(dx_step)
    for c in range(uint64(width)):
        spoilt[c] = T(0)
    for i in range(n):
        for c in range(uint64(width)):
            store(spoilt, c, fma(load(dy, i * dy_step + c), T(0), spoilt[c]))
    first, some = uint64(0), uint64(width)
    while first < uint64(width):
        there, some = after(dx, first), min(some, uint64(width) - first)
        some, end = listed(
            *(after(y, first), there, y_step, dx_step, n, some, most, smallest(zero(y)), None),
            *(begin, column, row, place, kept, places),
        )
        for k in range(end):
            s[place[k]], d[place[k]] = kept[k], dy[row[k] * dy_step + first + column[k]]
        start = int64(0)
        for c in range(some):
            used, bad = begin[c] - start, False
            if used != 0:
                bad = of_support(s, d, found, uint64(start), used, alpha, spoilt[first + c], numbers, room)
            spoilt[first + c] = T(np.nan) if bad else T(0)
            start = begin[c]
        for k in range(end):
            there[row[k] * dx_step + column[k]] = found[place[k]]
        for c in range(some):
            if spoilt[first + c] != T(0):
                for i in range(n):
                    store(there, i * dx_step + c, T(np.nan))
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


@njit(nogil=True, error_model="numpy", forceinline=True)
def psi(y, alpha):
    """−(log y)²·g(t), t = (α−1)·log y, g(t) = (1 − eᵗ(1 − t))/t² = Σ (k+1)/(k+2)!·tᵏ: ∂y/∂α = J ψ."""
    lead, _ = log(y, 0.0)
    t = (alpha - 1.0) * lead
    g = 0.0
    for k in range(17, -1, -1):
        g = fma(g, t, SERIES[k])
    far = (1.0 - power(t, 0.0) * UNIT * (1.0 - t)) / (t * t)
    return lead * lead * -choose(abs(t) < 1.0, g, far)


@helper
def tally(y, dx, y_step, dx_step, lines, n, across, alpha, total, room):
    """⟨dx, ψ(y)⟩ over the supports of `lines` rows, or if they lie across of n columns, as float64s."""
    size = 8 * (int64(n) + HELD + BLOCK)
    lost, room = pointer_to(room, 0.0), room + vjp.SECTION
    kept, d = pointer_to(room, 0.0), pointer_to(room + size, 0.0)
    owner, places = pointer_to(room + 2 * size, uint32(0)), pointer_to(room + 2 * size + size // 2, uint32(0))
    end = uint64(0)
    owners = n if across else lines
    for c in range(owners):
        total[c] = lost[c] = 0.0
    for i in range(lines):
        used = collect(y, None, i * y_step, uint64(0), n, smallest(zero(y)), None, places)
        for j in range(used):
            at = uint64(places[j])
            kept[end], d[end] = load(y, i * y_step + at), load(dx, i * dx_step + at)
            owner[end] = at if across else i
            end += uint64(1)
        if end < uint64(HELD) and i + uint64(1) < lines:
            continue
        for k in range(end, end + uint64(BLOCK)):  # no remainder that is no vector: ψ(1) = 0
            kept[k], d[k] = 1.0, 0.0
        for k in range((end + uint64(BLOCK - 1)) // uint64(BLOCK) * uint64(BLOCK)):
            d[k] *= psi(kept[k], alpha)
        for k in range(end):
            total[owner[k]], rest = vjp.two_sum(total[owner[k]], d[k])
            lost[owner[k]] += rest
        end = uint64(0)
    for c in range(owners):
        total[c] += lost[c]


def alpha_vjp(y, dx, total, _, y_step, dx_step, step, __, n, count, numbers, room):
    """⟨dx, ψ(y)⟩ over the support, one number a row, into `total`."""
    total, found = pointer_to(address_of(total), 0.0), pointer_to(room, 0.0)
    for first in range(int64(0), count, int64(vjp.TILE)):
        some = min(int64(vjp.TILE), count - first)
        tally(
            *(after(y, first * y_step), after(dx, first * dx_step), uint64(y_step), uint64(dx_step)),
            *(uint64(some), uint64(n), False, numbers[ALPHA], found, room + vjp.SECTION),
        )
        for r in range(some):
            total[(first + r) * step] = found[r]


def alpha_vjp_columns(y, dx, total, _, y_step, dx_step, __, ___, n, width, numbers, room):
    """The same for up to `TILE` columns side by side, as are their numbers."""
    total, n, width = pointer_to(address_of(total), 0.0), uint64(n), uint64(width)
    tally(y, dx, uint64(y_step), uint64(dx_step), n, width, True, numbers[ALPHA], total, room)


def alpha_vjp_room(n: int, narrow: bool) -> int:
    return 2 * vjp.SECTION + 24 * (n + HELD + BLOCK)


def alpha_vjp_columns_room(n: int, width: int, narrow: bool) -> int:
    return alpha_vjp_room(vjp.TILE, narrow)


def rows_room(n: int, narrow: bool) -> int:
    return max(8 * WEIGHED, 32 * n) + vjp.rows_room(n, narrow)


def columns_room(n: int, width: int, narrow: bool) -> int:
    if n <= FEW:
        return vjp.columns_room(n, width, narrow) + (4 if narrow else 8) * n * width
    return 3 * vjp.SECTION + (24 if narrow else 36) * max(n + 1, LISTED) + vjp.rows_room(n, narrow)
