"""softmax: y = exp(scale·x − max) / Σ exp(scale·x − max); and the first sweeps of all functions of logits.

x − max is rounded, and so is its product with the scale: what they lose is carried into the exponential, but
not for 16-bit types, whose results it does not change.  The powers of a row are kept until their sum is
known: in y, or in scratch memory where y is of a 16-bit type.  Those of long 16-bit columns are computed
again, since a tile of them would not fit.
"""

import numpy as np
from numba import int64, njit, types, uint64
from numba.extending import overload

from .exp import power, upper_half
from .intrinsics import address_of, after, choose, fma, is_narrow, larger, load, plus, pointer_to, store, zero
from .vjp import SECTION, two_sum

BLOCK = 1024  # powers of a row that are added up in the working precision
DOWN = 16  # the same of a column, which is not cut into lanes
# Equal powers are all rounded the same way, which counts where thousands of small ones have most of the
# weight: rows of more elements than this have a fourth of a block, columns half of one.
LONG = 4096
SHORT = 48  # of rows up to this long the exponential is taken as if they were one
RAGGED = 320  # and of rows up to this long that are no whole vectors
KEPT = 1024  # 16-bit columns of up to so many elements keep their powers
CHUNK = 2048  # elements of rows that are done at once
# What stands where in scratch memory, in sections: of each row, or column, the sum of its powers in two
# parts, the largest x, and three other numbers; two sections for what is used on the way; powers.
TOTAL, REST, TOP, HIGH, MORE, LIFT, WAY, _, POWERS = range(9)

inlined = njit(nogil=True, error_model="numpy", inline="always")
helper = njit(nogil=True, error_model="numpy")


@helper
def section(room, number, like):
    """A section of the scratch memory."""
    return pointer_to(room + int64(SECTION) * number, like)


@helper
def found_of(room, like):
    """Where `sums` puts what it finds: the sum of the powers in two parts, the largest x."""
    return section(room, TOTAL, 0.0), section(room, REST, 0.0), section(room, TOP, like)


@helper
def at_once(n):
    """How many rows."""
    return max(uint64(1), uint64(CHUNK) // max(n, uint64(2)))


@helper
def argument(x, top, scale, low, narrow):
    """t = (scale + low)·(x − top), and what rounding took from it."""
    d = x - top
    if narrow:
        return d * scale, type(x)(0)
    z = d - x
    lost = (x - (d - z)) - (top + z)
    if scale == 1 and low == 0:
        return d, lost
    t = d * scale
    return t, fma(d, scale, -t) + fma(d, low, lost * scale)


@helper
def power_of(x, top, scale, low, narrow):
    """exp((scale + low)·(x − top))·ONE."""
    t, lost = argument(x, top, scale, low, narrow)
    return power(t, lost)


@helper
def largest(x, at_x, n):
    """The largest x of a row; 0 of an empty one."""
    top = load(x, at_x)
    for i in range(n):
        top = larger(top, load(x, at_x + i))
    return type(top)(0) if top == type(top)(-np.inf) else top


def own(number, j):
    """Number j, where each row has its own, or that of all rows."""
    raise NotImplementedError("compiled only")


@overload(own, jit_options={"error_model": "numpy"})
def _own(number, j):
    if isinstance(number, types.CPointer):
        return lambda number, j: number[j]
    return lambda number, j: number


@helper
def are_flat(n):
    """Whether the exponential of rows of n elements is taken as if they were one."""
    return n <= uint64(SHORT) or (n <= uint64(RAGGED) and n % uint64(16) != uint64(0))


@inlined
def powers(x, e, at_x, at_e, start, stop, top, scale, low, narrow):
    """The sums of the halves of a block's powers, which go to e if there is one."""
    upper, lower = zero(x), zero(x)
    for i in range(start, stop):
        p = power_of(load(x, at_x + i), top, scale, low, narrow)
        if e is not None:
            store(e, at_e + i, p)
        half = upper_half(p)
        upper = plus(upper, half)  # without an error
        lower = plus(lower, p - half)
    return upper, lower


@helper
def sums(x, e, x_step, e_step, n, some, block, scale, low, narrow, room):
    """Of some rows the largest x, and Σ exp(t)·ONE in two parts; the powers go to e, unless that is None.

    All rows are at the same stage, so that none waits for its own maximum.  Of short rows the exponential is
    taken as if they were one.  Where they do not share a scale, `scale` and `low` are pointers to one of each
    row, or of each element of flat rows.
    """
    (total, rest, top), top_of = found_of(room, zero(x)), section(room, WAY, zero(x))
    for j in range(some):
        top[j] = largest(x, j * x_step, n)
    if are_flat(n):
        if e is None:
            p, p_step = section(room, POWERS, zero(x)), n
        else:
            p, p_step = e, e_step
        for j in range(some):
            for i in range(n):
                top_of[j * n + i] = top[j]
        pieces = uint64(1) if x_step == n and p_step == n else some  # one, where they lie so
        for j in range(pieces):
            at_x, at_p = j * x_step, j * p_step
            for i in range(some // pieces * n):
                at = j * n + i
                t = power_of(load(x, at_x + i), top_of[at], own(scale, at), own(low, at), narrow)
                store(p, at_p + i, t)
        for j in range(some):
            upper, lower = zero(x), zero(x)
            for i in range(j * p_step, j * p_step + n):
                half = upper_half(p[i])
                upper = plus(upper, half)
                lower = plus(lower, p[i] - half)
            total[j], rest[j] = upper, lower
        return
    for j in range(some):
        at_x, at_e, s, s_low = j * x_step, j * e_step, own(scale, j), own(low, j)
        if n <= block:
            total[j], rest[j] = powers(x, e, at_x, at_e, uint64(0), n, top[j], s, s_low, narrow)
        else:
            whole = others = lost_others = 0.0
            for k in range(uint64(0), n, block):
                stop = min(k + block, n)
                upper, lower = powers(x, e, at_x, at_e, k, stop, top[j], s, s_low, narrow)
                whole += upper
                others, lost = two_sum(others, np.float64(lower))
                lost_others += lost
            total[j], rest[j] = whole, others + lost_others


@inlined
def column_sums(x, e, x_step, e_step, n, width, scale, low, narrow, room):
    """`sums` for columns side by side, of n elements each a step below the last."""
    T = type(zero(x))
    (total, rest, top), lost_rest = found_of(room, zero(x)), section(room, WAY, 0.0)
    upper, lower = section(room, HIGH, zero(x)), section(room, MORE, zero(x))
    for c in range(width):
        top[c] = T(-np.inf)
        total[c] = rest[c] = lost_rest[c] = 0.0
    for i in range(n):
        for c in range(width):
            store(top, c, larger(top[c], load(x, i * x_step + c)))
    for c in range(width):
        if top[c] == T(-np.inf):
            top[c] = T(0)
    down = uint64(DOWN if n <= uint64(LONG) else DOWN // 2)
    for k in range(uint64(0), n, down):
        for c in range(width):
            upper[c] = lower[c] = T(0)
        for i in range(k, min(k + down, n)):
            for c in range(width):
                p = power_of(load(x, i * x_step + c), top[c], scale, low, narrow)
                if e is not None:
                    store(e, i * e_step + c, p)
                half = upper_half(p)
                store(upper, c, upper[c] + half)
                store(lower, c, lower[c] + (p - half))
        for c in range(width):
            total[c] += upper[c]
            rest[c], lost = two_sum(rest[c], np.float64(lower[c]))
            lost_rest[c] += lost
    for c in range(width):
        rest[c] += lost_rest[c]


@helper
def inverse(total, rest, like):
    """1/(total + rest) as the sum of two numbers of the type of `like`."""
    T = type(like)
    whole = total + rest
    high = T(1.0 / whole)
    lost = (total - whole) + rest
    return high, T((fma(np.float64(-high), whole, 1.0) - high * lost) / whole)


@helper
def inverses(room, some, nothing):
    """1/Σ of some rows, or columns, in two parts; what is to be put out for an empty one."""
    total, rest, _ = found_of(room, nothing)
    high, more = section(room, HIGH, nothing), section(room, MORE, nothing)
    for j in range(some):
        h, m = inverse(total[j], rest[j], nothing)
        high[j] = choose(total[j] == 0, nothing, h)
        more[j] = choose(total[j] == 0, type(nothing)(0), m)


@inlined
def divide(e, y, at_e, at_y, e_step, y_step, n, some, high, more):
    """The powers of some rows times 1/Σ, into y."""
    for j in range(some):
        of_e, of_y, h, m = at_e + j * e_step, at_y + j * y_step, high[j], more[j]
        for i in range(n):
            p = e[of_e + i]
            store(y, of_y + i, fma(p, h, p * m))


def rows(x, y, _, __, x_step, y_step, ___, ____, n, count, numbers, room):
    """`count` rows of n elements, which start a step apart in each array."""
    n, x_step, y_step, count = uint64(n), uint64(x_step), uint64(y_step), uint64(count)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])  # nothing is 0 or NaN
    narrow = is_narrow(y)
    high, more = section(room, HIGH, nothing), section(room, MORE, nothing)
    e = section(room, POWERS, nothing) if narrow else pointer_to(address_of(y), nothing)
    e_step = n if narrow else y_step
    many, block = at_once(n), uint64(BLOCK if n <= uint64(LONG) else BLOCK // 4)
    for first in range(uint64(0), count, many):
        some, at_x = min(many, count - first), after(x, first * x_step)
        at_y, of_these = first * y_step, uint64(0) if narrow else first * y_step
        sums(at_x, after(e, of_these), x_step, e_step, n, some, block, scale, low, narrow, room)
        inverses(room, some, nothing)
        divide(e, y, of_these, at_y, e_step, y_step, n, some, high, more)


def columns(x, y, _, __, x_step, y_step, ___, ____, n, width, numbers, room):
    """The same for up to `vjp.TILE` columns side by side, of n elements each a step below the last."""
    n, x_step, y_step, width = uint64(n), uint64(x_step), uint64(y_step), uint64(width)
    T = type(zero(x))
    scale, low, nothing = T(numbers[0]), T(numbers[1]), T(numbers[2])
    narrow = is_narrow(y)
    high, more = section(room, HIGH, nothing), section(room, MORE, nothing)
    narrow, top = is_narrow(y), section(room, TOP, nothing)
    e = section(room, POWERS, nothing) if narrow else pointer_to(address_of(y), nothing)
    e_step = width if narrow else y_step
    if narrow and n > uint64(KEPT):
        column_sums(x, None, x_step, x_step, n, width, scale, low, narrow, room)
        inverses(room, width, nothing)
        for i in range(n):
            for c in range(width):
                p = power_of(load(x, i * x_step + c), top[c], scale, low, narrow)
                store(y, i * y_step + c, fma(p, high[c], p * more[c]))
        return
    column_sums(x, e, x_step, e_step, n, width, scale, low, narrow, room)
    inverses(room, width, nothing)
    for i in range(n):
        for c in range(width):
            p = e[i * e_step + c]
            store(y, i * y_step + c, fma(p, high[c], p * more[c]))


def rows_room(n: int, narrow: bool) -> int:
    return (POWERS + 2) * SECTION + (4 * n if narrow else 0)


def columns_room(n: int, width: int, narrow: bool) -> int:
    return POWERS * SECTION + (4 * n * width if narrow and n <= KEPT else 0)
